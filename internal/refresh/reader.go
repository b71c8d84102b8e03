// Package refresh reads from Postgres what the values of refreshed keys are now, each with the version of what was seen.
package refresh

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/invalidate"
	"pgevict/pgnotify/postgres"
	"pgevict/rules"
)

// Reader reads from Postgres what refreshed keys are to be, on a few connections that it opens when it needs them.
type Reader struct {
	config  func() (*pgconn.Config, error)
	timeout time.Duration
	conns   chan *readConn // one for each that there may be; nil: it is not open

	mu         sync.Mutex
	generation int       // connections of an earlier one are not read on any more
	failed     error     // why the last attempt to connect failed
	next       time.Time // when there may be another
	sizes      sizes
}

// The least that is worth a connection more, and how long one that could not be opened is not tried again.
const (
	readsPerConn = 32
	connectPause = 500 * time.Millisecond
)

// New makes a reader of so many connections at most, on which a query may take until the timeout. It connects when it
// reads; config is asked for each attempt.
func New(config func() (*pgconn.Config, error), conns int, timeout time.Duration) *Reader {
	r := &Reader{config: config, timeout: timeout, conns: make(chan *readConn, conns), sizes: sizes{}}
	for range conns {
		r.conns <- nil
	}
	return r
}

// Renew has what follows read on new connections: those that there are may be to a server that is the primary no more.
func (r *Reader) Renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation++
}

// Close closes all connections, once nobody reads any more.
func (r *Reader) Close() {
	for range cap(r.conns) {
		if c := <-r.conns; c != nil {
			c.leave()
		}
	}
}

// request is a target on its way to its value.
type request struct {
	query string
	args  [][]byte
	value *invalidate.Value
	last  bool // of its transaction
}

// Read reads the values of targets. It never takes long: whatever Postgres does, each has its value or its error, or is
// unread since the others take as much memory as they may. At least one has been read then.
func (r *Reader) Read(ctx context.Context, targets []rules.Target) []invalidate.Value {
	// Many that each take a little less than they may would take minutes.
	ctx, cancel := context.WithTimeout(ctx, 10*r.timeout+10*time.Second)
	defer cancel()
	values := make([]invalidate.Value, len(targets))
	all := make([]request, len(targets))
	for i, t := range targets {
		refresh, args := t.Refresh()
		all[i] = request{query: refresh.Query, value: &values[i]}
		for _, arg := range args {
			all[i].args = append(all[i].args, []byte(arg))
		}
	}
	slices.SortStableFunc(all, func(a, b request) int { return strings.Compare(a.query, b.query) }) // see ask
	conns, err := r.take(ctx, len(all))
	if err != nil {
		fail(all, err)
		return values
	}
	var parts sync.WaitGroup
	for i, c := range conns {
		part := all[i*len(all)/len(conns) : (i+1)*len(all)/len(conns)]
		parts.Go(func() { r.conns <- r.readOn(ctx, c, part, newRoom(len(conns))) })
	}
	parts.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes.learn(all)
	return values
}

// take waits for one connection, and takes others that are free if there is enough to read.
func (r *Reader) take(ctx context.Context, targets int) ([]*readConn, error) {
	var conns []*readConn
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case c := <-r.conns:
		conns = append(conns, c)
	}
	for len(conns)*readsPerConn < targets {
		select {
		case c := <-r.conns:
			conns = append(conns, c)
		default:
			return conns, nil
		}
	}
	return conns, nil
}

func fail(requests []request, err error) {
	for _, q := range requests {
		q.value.Err = err
	}
}

// readOn reads on one connection, and returns it, or another in its place; nil if none is open. What it asks again, it
// asks once:
//   - a connection that was kept may have died meanwhile, so a new one is tried;
//   - a statement that was kept has the parameters' types of when it was prepared, so it is prepared anew;
//   - behind a query that took too long nothing is waited for, so the others go on a new connection.
func (r *Reader) readOn(ctx context.Context, c *readConn, left []request, room *room) *readConn {
	if c != nil && c.generation != r.now() {
		c.leave()
		c = nil
	}
	kept := c != nil
	prepared := map[string]bool{} // in this call
	first := true
	for len(left) > 0 {
		if left = r.fit(left, room, first); len(left) == 0 {
			break
		}
		first = false
		var err error
		if c == nil {
			if c, err = r.open(ctx); err != nil {
				fail(left, err)
				return nil
			}
		}
		left, err = c.ask(ctx, left, prepared, room)
		if err != nil && (!kept || ctx.Err() != nil || errors.Is(err, postgres.ErrSilent)) {
			fail(left, err)
			left = nil
		}
		if err != nil {
			c.drop()
		}
		if c.IsClosed() {
			c, kept = nil, false
		}
	}
	return c
}

func (r *Reader) fit(requests []request, room *room, one bool) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sizes.fit(requests, room, one)
}

func (r *Reader) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.generation
}

// open opens a connection, unless one could not be opened a moment ago: what waits is not to wait for each attempt.
func (r *Reader) open(ctx context.Context) (*readConn, error) {
	r.mu.Lock()
	generation, failed, wait := r.generation, r.failed, time.Now().Before(r.next)
	r.mu.Unlock()
	if failed != nil && wait {
		return nil, failed
	}
	c, err := connect(ctx, r.config, r.timeout)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil { // else it says nothing of the server
		r.failed, r.next = err, time.Now().Add(connectPause)
	}
	if err != nil {
		return nil, err
	}
	c.generation = generation
	return c, nil
}
