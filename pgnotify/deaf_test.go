package pgnotify_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
)

// deafConn loses the notifications that the server sends once it is deaf, and nothing else, as a pooler may.
type deafConn struct {
	net.Conn
	deaf *atomic.Bool
	in   []byte // read, and not looked at
	out  []byte // to be read
}

func (c *deafConn) Read(p []byte) (int, error) {
	for len(c.out) == 0 {
		n, err := c.Conn.Read(p)
		if err != nil {
			return n, err
		}
		if !c.deaf.Load() {
			return n, nil // it is set while nothing is on its way
		}
		const head = 5
		for c.in = append(c.in, p[:n]...); len(c.in) >= head; {
			length := 1 + int(binary.BigEndian.Uint32(c.in[1:head]))
			if len(c.in) < length {
				break
			}
			if c.in[0] != 'A' {
				c.out = append(c.out, c.in[:length]...)
			}
			c.in = c.in[length:]
		}
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// deafLink relays connections to a server; the first of them loses notifications once it is deaf.
func deafLink(t *testing.T, server string, deaf *atomic.Bool) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relaying sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); relaying.Wait() })
	relaying.Go(func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conn, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			var answers io.Reader = conn
			if n == 0 {
				answers = &deafConn{Conn: conn, deaf: deaf}
			}
			relay := func(to net.Conn, from io.Reader) {
				_, _ = io.Copy(to, from)
				_, _ = client.Close(), conn.Close()
			}
			relaying.Go(func() { relay(conn, client) })
			relaying.Go(func() { relay(client, answers) })
		}
	})
	return l.Addr().String()
}

// A connection that answers queries and hears nothing is told of and given up, also if the catalog is read meanwhile.
func TestDeafConnection(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(livetest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	var deaf atomic.Bool
	u.Host = deafLink(t, u.Host, &deaf)
	listener := newListener(t, u.String(), columns{"t": {"id"}})
	listener.Heartbeat = 6 * time.Second // the catalog is read more often
	l := listen(t, listener)
	l.gap(1, pgnotify.GapStart)
	l.wait(time.Minute, "a mark", func() bool { return len(l.marks) > 0 })
	deaf.Store(true)
	l.wait(time.Minute, "a word of it", func() bool {
		return slices.ContainsFunc(l.listening, func(err error) bool { return errors.Is(err, postgres.ErrDeaf) })
	})
	l.gap(2, pgnotify.GapConnection)
}
