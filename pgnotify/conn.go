package pgnotify

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Connect opens a connection that notices a dead link by keepalive; patience bounds the attempt if the configuration
// does not.
func Connect(ctx context.Context, config *pgconn.Config, patience time.Duration) (*pgconn.PgConn, error) {
	config = config.Copy() // it may be the same each time
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = patience
	}
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// query runs one statement, and gives its rows as text; a NULL is an empty one. What a pgx.Conn has beyond this, the
// codecs of all types, would be a fifth of the program.
func query(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	result := conn.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	rows := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		rows[i] = make([]string, len(row))
		for j, value := range row {
			rows[i][j] = string(value)
		}
	}
	return rows, result.Err
}

// identifier quotes a name for SQL.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
