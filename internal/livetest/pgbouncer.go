package livetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// PgBouncer is a pooler in front of all databases of one Postgres.
type PgBouncer struct {
	Addr string // host and port

	server
}

// StartPgBouncer starts a pooler for pg. The pool mode is "session", "transaction" or "statement".
func StartPgBouncer(pg *Postgres, poolMode string) (*PgBouncer, error) {
	path, err := find("pgbouncer", "pgbouncer")
	if err != nil {
		return nil, fmt.Errorf("start pgbouncer: %w", err)
	}
	user, err := unprivileged()
	if err != nil {
		return nil, fmt.Errorf("start pgbouncer: %w", err)
	}
	h, err := newHost("pgbouncer", user)
	if err != nil {
		return nil, fmt.Errorf("start pgbouncer: %w", err)
	}
	b := &PgBouncer{server: server{name: "pgbouncer", host: h, death: syscall.SIGKILL}}
	err = onFreePort(func(port int) error {
		b.Addr = loopback(port)
		config := filepath.Join(h.dir, "pgbouncer.ini")
		if err := os.WriteFile(config, []byte(pgBouncerConfig(pg.Port, port, poolMode)), 0o644); err != nil {
			return fmt.Errorf("write its configuration: %w", err)
		}
		return b.start(func(int) error { return b.ready(pg.Port) }, path, config)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start pgbouncer: %w", err), b.Close())
	}
	return b, nil
}

// pgBouncerConfig differs from the defaults in one point: after a failed login it asks the server again at once, where
// a test that restarts the server would wait 15 seconds.
func pgBouncerConfig(server, port int, poolMode string) string {
	return fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
server_login_retry = 0.1
`, server, port, poolMode)
}

// ready wants an answer of the right Postgres: a stranger on this port would not lead there.
func (b *PgBouncer) ready(server int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, b.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, "SHOW port").ReadAll()
	if err != nil {
		return err
	}
	if port := string(results[0].Rows[0][0]); port != strconv.Itoa(server) {
		return fmt.Errorf("it leads to port %s", port)
	}
	return nil
}

// URL returns the connection URL of a database through the pooler.
func (b *PgBouncer) URL(database string) string { return postgresURL(b.Addr, database) }

// Close kills the pooler.
func (b *PgBouncer) Close() error {
	if err := b.close(syscall.SIGKILL); err != nil {
		return fmt.Errorf("close pgbouncer: %w", err)
	}
	return nil
}
