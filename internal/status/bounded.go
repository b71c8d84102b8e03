package status

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// boundedListener has so many connections open at most. For a new one it closes one that is between two requests, or else
// the oldest, once that had its time: whoever opens many and keeps them keeps nobody else from an answer for long, so no
// probe fails, and nobody restarts the sidecar for that.
type boundedListener struct {
	net.Listener
	changed chan struct{} // holds one if a connection was closed, or has become idle

	mu   sync.Mutex
	open []*boundedConn // the oldest first
}

// boundedConn is one of its connections.
type boundedConn struct {
	net.Conn
	listener *boundedListener
	since    time.Time
	idle     bool // between two requests
}

// Accept waits for a connection, and then until there may be one.
func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &boundedConn{Conn: conn, listener: l}
	for {
		wait := l.admit(c)
		if wait <= 0 {
			return c, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.changed:
			timer.Stop()
		}
	}
}

// admit adds a connection to those that are open, or returns how long to wait before it is tried again.
func (l *boundedListener) admit(c *boundedConn) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= maxConns {
		last := slices.IndexFunc(l.open, func(c *boundedConn) bool { return c.idle })
		if last < 0 {
			last = 0
			if wait = ownTime - time.Since(l.open[0].since); wait > 0 {
				return wait
			}
		}
		_ = l.open[last].Conn.Close() // who serves it finds that out
		l.open = slices.Delete(l.open, last, last+1)
	}
	c.since = time.Now()
	l.open = append(l.open, c)
	return 0
}

// state is told by the server what a connection does.
func (l *boundedListener) state(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*boundedConn); ok {
		l.mu.Lock()
		c.idle = state == http.StateIdle
		l.mu.Unlock()
		l.wake()
	}
}

func (l *boundedListener) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Close closes the connection, and makes room.
func (c *boundedConn) Close() error {
	l := c.listener
	l.mu.Lock()
	l.open = slices.DeleteFunc(l.open, func(open *boundedConn) bool { return open == c })
	l.mu.Unlock()
	l.wake()
	return c.Conn.Close()
}
