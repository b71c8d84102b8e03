package sidecar

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/invalidate"
	"pgevict/pgnotify"
)

var (
	errSilent  = errors.New("the server does not answer: the link is dead, or the server hangs")
	errStandby = errors.New("the server is in recovery, and may be behind: connect to the primary")
)

// Postgres' codes of what took too long.
const queryCanceled, lockNotAvailable = "57014", "55P03"

// readSlack is how much longer than a query may take its answer is waited for.
const readSlack = time.Second

// readConn is a connection on which values are read.
type readConn struct {
	*pgconn.PgConn
	statements map[string]*pgconn.StatementDescription // by the query
	timeout    time.Duration
	era        int
}

// connectToRead opens a connection on which nothing can be written, and nothing takes longer than the timeout.
func connectToRead(ctx context.Context, configure func() (*pgconn.Config, error), timeout time.Duration) (*readConn, error) {
	config, err := configure()
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["application_name"] == "pgevict" { // unless it was given
		config.RuntimeParams["application_name"] = "pgevict refresh"
	}
	conn, err := pgnotify.Connect(ctx, config, max(timeout, 2*time.Second))
	if err != nil {
		return nil, err
	}
	c := &readConn{PgConn: conn, statements: map[string]*pgconn.StatementDescription{}, timeout: timeout}
	if err := c.setUp(ctx); err != nil {
		c.leave()
		return nil, err
	}
	return c, nil
}

// setUp comes after the driver has looked whether the server takes writes. READ COMMITTED takes a query's snapshot when the
// query has its locks: one that is older would see a table empty that ALTER TABLE has just rewritten.
func (c *readConn) setUp(ctx context.Context) error {
	ctx, _, done := c.patiently(ctx)
	defer done()
	const sql = `
		SELECT pg_is_in_recovery(), set_config('statement_timeout', $1, false), set_config('default_transaction_read_only', 'on', false),
		       set_config('default_transaction_isolation', 'read committed', false),
		       (SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name = 'idle_session_timeout')`
	ms := strconv.FormatInt(c.timeout.Milliseconds(), 10)
	result := c.ExecParams(ctx, sql, [][]byte{[]byte(ms)}, nil, nil, nil).Read()
	switch {
	case result.Err != nil:
		return fmt.Errorf("set up a connection to read on: %w", because(ctx, result.Err))
	case string(result.Rows[0][0]) == "t":
		return errStandby
	}
	return nil
}

// leave closes the connection, which is idle.
func (c *readConn) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx) // it is not needed any more
}

// abort closes the connection in the middle of what was sent. The server would go on with all of that: it ends when its
// next answer is refused, and it is told to come to that at once.
func (c *readConn) abort() {
	conn := c.Conn()
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else the server's answers are taken, and thrown away
	}
	c.leave()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.CancelRequest(ctx) // it would end a little later
}

// patiently gives a context that ends when nothing has come for too long; came says that something did.
func (c *readConn) patiently(ctx context.Context) (patient context.Context, came, done func()) {
	patient, cancel := context.WithCancelCause(ctx)
	alarm := time.AfterFunc(c.timeout+readSlack, func() { cancel(errSilent) })
	return patient, func() { alarm.Reset(c.timeout + readSlack) }, func() {
		alarm.Stop()
		cancel(nil)
	}
}

// because tells an error that is the end of the patience from others.
func because(patient context.Context, err error) error {
	if errors.Is(context.Cause(patient), errSilent) {
		return fmt.Errorf("%w (%w)", errSilent, err)
	}
	return err
}

// readStatement makes a query a statement of which the one row is the value and the version. Both are of one snapshot, and
// the version counts the transactions that were over when it was taken: who sees more has counted more. A scalar subselect
// takes one column and at most one row, and gives NULL if there is none.
func readStatement(query string) string {
	return "SELECT (\n" + query + `
		)::text, (SELECT pg_snapshot_xmax(s)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s)) FROM pg_current_snapshot() AS s)::text`
}

// ask reads values in one round trip, and one more for each query that is new here, which it adds to prepared. It gives
// what has neither a value nor an error, because of the error, or since it is to be asked again.
func (c *readConn) ask(ctx context.Context, readings []reading, prepared map[string]bool) (left []reading, err error) {
	ctx, came, done := c.patiently(ctx)
	defer done()
	if readings, err = c.prepare(ctx, came, readings, prepared); err != nil {
		return readings, err
	}
	p := c.StartPipeline(ctx)
	for _, q := range readings {
		p.SendQueryStatement(c.statements[q.query], q.args, nil, nil)
		p.SendPipelineSync() // so that each fails alone, and holds its locks no longer than it takes
	}
	if err := p.Flush(); err != nil {
		return readings, fmt.Errorf("send queries: %w", because(ctx, err))
	}
	outdated := map[string]bool{} // statements, perhaps
	for i, q := range readings {
		err := c.answer(p, q.value)
		came()
		switch {
		case err == nil:
		case c.IsClosed():
			return append(left, readings[i:]...), fmt.Errorf("read answers: %w", because(ctx, err))
		case !tookLong(err) && !prepared[q.query]:
			outdated[q.query] = true
			left = append(left, q)
		case !tookLong(err) || i == len(readings)-1:
			q.value.Err = err
		default:
			c.abort()
			for _, other := range readings[i:] {
				if other.query == q.query {
					other.value.Err = err
				} else {
					left = append(left, other)
				}
			}
			return left, nil
		}
	}
	if err := p.Close(); err != nil && c.IsClosed() {
		return left, fmt.Errorf("read answers: %w", because(ctx, err))
	}
	return left, c.forget(ctx, outdated)
}

// prepare prepares the queries that are new here, and gives the readings of which the query is good. With an error none is.
func (c *readConn) prepare(ctx context.Context, came func(), readings []reading, prepared map[string]bool) ([]reading, error) {
	refused := map[string]error{}
	for _, q := range readings {
		if c.statements[q.query] != nil || refused[q.query] != nil {
			continue
		}
		statement, err := c.Prepare(ctx, statementName(q.query), readStatement(q.query), nil)
		came()
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
			c.statements[q.query] = statement
		case !errors.As(err, &pgErr) || c.IsClosed():
			return readings, fmt.Errorf("prepare a query: %w", because(ctx, err))
		default:
			refused[q.query] = err
		}
		prepared[q.query] = true
	}
	var good []reading
	for _, q := range readings {
		if err := refused[q.query]; err != nil {
			q.value.Err = err
		} else {
			good = append(good, q)
		}
	}
	return good, nil
}

// forget drops statements, to have them prepared anew.
func (c *readConn) forget(ctx context.Context, queries map[string]bool) error {
	for query := range queries {
		delete(c.statements, query)
		if err := c.Deallocate(ctx, statementName(query)); err != nil {
			return fmt.Errorf("forget a query: %w", because(ctx, err))
		}
	}
	return nil
}

// statementName is the same for a query on every connection.
func statementName(query string) string {
	sum := sha256.Sum256([]byte(query))
	return "pgevict_" + hex.EncodeToString(sum[:8])
}

// answer reads the answer to one query.
func (c *readConn) answer(p *pgconn.Pipeline, value *invalidate.Value) error {
	results, err := p.GetResults()
	if rows, ok := results.(*pgconn.ResultReader); ok {
		for rows.NextRow() { // there is one
			text, version := rows.Values()[0], rows.Values()[1]
			value.Text, value.Found = string(text), text != nil
			value.Version, err = strconv.ParseUint(string(version), 10, 64)
		}
		if _, closeErr := rows.Close(); closeErr != nil {
			err = closeErr
		}
	}
	if c.IsClosed() {
		return err
	}
	if _, syncErr := p.GetResults(); syncErr != nil { // the end of its transaction
		return syncErr
	}
	return err
}

// tookLong reports whether a query was given up, by the server or by somebody there. The next would wait as long.
func tookLong(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == queryCanceled || pgErr.Code == lockNotAvailable)
}
