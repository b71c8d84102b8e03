package refresh

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
	"pgevict/pgnotify/postgres"
)

var errStandby = errors.New("the server is in recovery, and may be behind: connect to the primary")

// Postgres' codes of what took too long.
const queryCanceled, lockNotAvailable = "57014", "55P03"

// readSlack is how much longer than a query may take its answer is waited for.
const readSlack = time.Second

// readConn is a connection on which values are read.
type readConn struct {
	*pgconn.PgConn
	statements     map[string]*pgconn.StatementDescription // by the query
	timeout        time.Duration
	generation     int
	perTransaction int // how many requests may go in one transaction
}

// connect opens a connection on which nothing can be written, and nothing takes longer than the timeout.
func connect(ctx context.Context, configure func() (*pgconn.Config, error), timeout time.Duration) (*readConn, error) {
	config, err := configure()
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["application_name"] == "pgevict" { // unless it was given
		config.RuntimeParams["application_name"] = "pgevict refresh"
	}
	conn, err := postgres.Connect(ctx, config, max(timeout, 2*time.Second))
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
	ctx, _, stop := postgres.WithIdleTimeout(ctx, c.timeout+readSlack)
	defer stop()
	const sql = `
		SELECT pg_is_in_recovery(), set_config('statement_timeout', $1, false), set_config('default_transaction_read_only', 'on', false),
		       set_config('default_transaction_isolation', 'read committed', false),
		       ` + postgres.StayOpen
	ms := strconv.FormatInt(c.timeout.Milliseconds(), 10)
	result := c.ExecParams(ctx, sql, [][]byte{[]byte(ms)}, nil, nil, nil).Read()
	switch {
	case result.Err != nil:
		return fmt.Errorf("set up a connection to read on: %w", postgres.Silence(ctx, result.Err))
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

// drop closes the connection, also in the middle of what was sent. The server would go on with all of that, and the driver
// would take its answers for a while: it ends when its next answer is refused.
func (c *readConn) drop() {
	conn := c.Conn()
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else it ends later
	}
	c.leave()
	_ = conn.Close() // which leave does not do if the driver has begun to
}

// abort drops the connection, and has the server come to its next answer at once.
func (c *readConn) abort() {
	c.drop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.CancelRequest(ctx) // else it ends later
}

// Statement makes a query a statement of which the one row is the value and the version. Both are of one snapshot, and
// the version counts the transactions that were over when it was taken: who sees more has counted more. A scalar subselect
// takes one column and at most one row, and is NULL if there is none.
func Statement(query string) string {
	return "SELECT (\n" + query + `
		)::text, (SELECT pg_snapshot_xmax(s)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s)) FROM pg_current_snapshot() AS s)::text`
}

// Requests of one query go together in a transaction, up to so many and for about so long: a transaction for each would
// take three times as long, and a long one would keep its locks from who alters a table. One that fails takes those behind
// it along, which are asked again.
const (
	maxPerTransaction = 16
	transactionTime   = 10 * time.Millisecond
)

// ask reads values in one round trip, and one more for each query that is new here, which it adds to prepared. It returns
// what has neither a value nor an error, because of the error, or since it is to be asked again. Requests of one query
// stand together. Those for which the values before them leave no room stay unread.
func (c *readConn) ask(ctx context.Context, requests []request, prepared map[string]bool, room *room) (left []request, err error) {
	ctx, received, stop := postgres.WithIdleTimeout(ctx, c.timeout+readSlack)
	defer stop()
	if requests, err = c.prepare(ctx, received, requests, prepared); err != nil || len(requests) == 0 {
		return requests, err
	}
	began := time.Now()
	p := c.StartPipeline(ctx)
	together := 0
	for i := range requests {
		q := &requests[i]
		p.SendQueryStatement(c.statements[q.query], q.args, nil, nil)
		together++
		if q.last = together >= c.perTransaction || i == len(requests)-1 || q.query != requests[i+1].query; q.last {
			p.SendPipelineSync()
			together = 0
		}
	}
	if err := p.Flush(); err != nil {
		return requests, fmt.Errorf("send queries: %w", postgres.Silence(ctx, err))
	}
	outdated := map[string]bool{} // statements, perhaps
	failed, anyFailed := false, false
	for i, q := range requests {
		if failed {
			left = append(left, q)
		} else if err := readAnswer(p, q.value); err != nil {
			failed, anyFailed = true, true
			switch {
			case c.IsClosed():
				return append(left, requests[i:]...), fmt.Errorf("read answers: %w", postgres.Silence(ctx, err))
			case TookLong(err) && i < len(requests)-1:
				c.abort()
				return append(left, failQuery(requests[i:], q.query, err)...), nil
			case TookLong(err) || prepared[q.query]:
				q.value.Err = err
			default:
				outdated[q.query] = true
				left = append(left, q)
			}
		}
		if q.last {
			failed = false
			if _, err := p.GetResults(); err != nil {
				c.abort()
				return append(left, requests[i+1:]...), fmt.Errorf("end a transaction: %w", postgres.Silence(ctx, err))
			}
		}
		received()
		if !room.take(len(q.value.Text)) && i < len(requests)-1 {
			c.abort() // to read what comes and throw it away would have the server make all of it once more
			leaveUnread(requests[i+1:])
			return left, nil
		}
	}
	if err := p.Close(); err != nil && c.IsClosed() {
		return left, fmt.Errorf("read answers: %w", postgres.Silence(ctx, err))
	}
	c.perTransaction = 1
	if each := time.Since(began) / time.Duration(len(requests)); !anyFailed {
		c.perTransaction = min(int(transactionTime/max(each, 1)), maxPerTransaction)
	}
	return left, c.forget(ctx, outdated)
}

// failQuery gives the requests of one query an error, and returns the others.
func failQuery(requests []request, query string, err error) (others []request) {
	for _, q := range requests {
		if q.query == query {
			q.value.Err = err
		} else {
			others = append(others, q)
		}
	}
	return others
}

// prepare prepares the queries that are new here, and returns the requests of which the query is good. With an error none is.
func (c *readConn) prepare(ctx context.Context, received func(), requests []request, prepared map[string]bool) ([]request, error) {
	refused := map[string]error{}
	for _, q := range requests {
		if c.statements[q.query] != nil || refused[q.query] != nil {
			continue
		}
		statement, err := c.Prepare(ctx, statementName(q.query), Statement(q.query), nil)
		received()
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
			c.statements[q.query] = statement
		case !errors.As(err, &pgErr) || c.IsClosed():
			return requests, fmt.Errorf("prepare a query: %w", postgres.Silence(ctx, err))
		default:
			refused[q.query] = err
		}
		prepared[q.query] = true
	}
	for query, err := range refused {
		requests = failQuery(requests, query, err)
	}
	return requests, nil
}

// forget drops statements, to have them prepared anew.
func (c *readConn) forget(ctx context.Context, queries map[string]bool) error {
	for query := range queries {
		delete(c.statements, query)
		if err := c.Deallocate(ctx, statementName(query)); err != nil {
			return fmt.Errorf("forget a query: %w", postgres.Silence(ctx, err))
		}
	}
	return nil
}

// statementName is the same for a query on every connection.
func statementName(query string) string {
	sum := sha256.Sum256([]byte(query))
	return "pgevict_" + hex.EncodeToString(sum[:8])
}

// readAnswer reads the answer to one query.
func readAnswer(p *pgconn.Pipeline, value *invalidate.Value) error {
	results, err := p.GetResults()
	rows, ok := results.(*pgconn.ResultReader)
	if !ok && err == nil {
		err = fmt.Errorf("an answer of the wrong kind: %T", results)
	}
	if !ok {
		return err
	}
	for rows.NextRow() { // there is one
		text, version := rows.Values()[0], rows.Values()[1]
		value.Text, value.Found = string(text), text != nil
		value.Version, err = strconv.ParseUint(string(version), 10, 64)
	}
	_, closeErr := rows.Close()
	return errors.Join(closeErr, err)
}

// TookLong reports whether a query was given up, by the server or by somebody there. The next would wait as long.
func TookLong(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == queryCanceled || pgErr.Code == lockNotAvailable)
}
