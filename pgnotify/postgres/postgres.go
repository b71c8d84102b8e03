// Package postgres is a connection to Postgres that notices silence: a dead link is found by keepalives, and a query whose
// answer does not come by an idle timeout, however long the answer is once it comes.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The errors for which a connection is of no use though the server may answer.
var (
	ErrPooler  = errors.New("a connection pooler stands before Postgres, and notifications get lost in it: connect to Postgres itself")
	ErrDeaf    = errors.New("a notification that was sent does not come back: the link is dead, or a pooler gives it to another connection")
	ErrStandby = errors.New("the server is in recovery, and a standby cannot LISTEN: connect to the primary")
	ErrSilent  = errors.New("the server does not answer: the link is dead, or the server hangs")
)

// keepAlive finds a dead link within half a minute, also while nothing is asked.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Connect opens a connection that notices a dead link by keepalives; timeout bounds the attempt if the configuration
// does not.
func Connect(ctx context.Context, config *pgconn.Config, timeout time.Duration) (*pgconn.PgConn, error) {
	config = config.Copy() // it may be the same each time
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = timeout
	}
	config.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	// In a database without an encoding values are any bytes, and one that is no UTF-8 would end the session that is to send
	// it. Bytes are all that a key is.
	if conn.ParameterStatus("server_encoding") != noEncoding {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := conn.Exec(ctx, "SET client_encoding = '"+noEncoding+"'").Close(); err != nil {
		_ = conn.Close(ctx) // it is of no use
		return nil, fmt.Errorf("ask Postgres for bytes as they are: %w", err)
	}
	return conn, nil
}

const noEncoding = "SQL_ASCII"

// StayOpen is a column of a SELECT: no setting of the server ends the session for being idle any more. Not every version
// has the setting.
const StayOpen = `(SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name = 'idle_session_timeout')`

// Query runs one statement, and returns its rows as text; a NULL is an empty one. What a pgx.Conn has beyond this, the
// codecs of all types, would be a fifth of the program.
func Query(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
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

// WithIdleTimeout returns a context that ends when nothing has come for that long. received says that something did, and
// stop ends the watch. [Silence] names an error that the end of the context was the cause of.
func WithIdleTimeout(ctx context.Context, timeout time.Duration) (idle context.Context, received, stop func()) {
	idle, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(timeout, func() { cancel(ErrSilent) })
	return idle, func() { timer.Reset(timeout) }, func() {
		timer.Stop()
		cancel(nil)
	}
}

// Silence returns err as an [ErrSilent] if it is due to the idle timeout of the context.
func Silence(idle context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(idle), ErrSilent) {
		return fmt.Errorf("%w (%w)", ErrSilent, err)
	}
	return err
}

// Identifier quotes a name for SQL.
func Identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Literal quotes a text for SQL, whatever standard_conforming_strings is.
func Literal(text string) string {
	text = strings.ReplaceAll(text, `'`, `''`)
	if strings.Contains(text, `\`) {
		return ` E'` + strings.ReplaceAll(text, `\`, `\\`) + `'`
	}
	return `'` + text + `'`
}
