package livetest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Proxy forwards TCP connections to a target until it is told to break them. Its methods may be called at any time.
type Proxy struct {
	Addr string // host and port

	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond // mode, or a link's held, closed or steps
	mode    mode
	target  string
	links   map[*link]struct{}
}

type mode int

const (
	forwarding mode = iota
	stalled
	cut
)

// link is one client's connection and the one to the target.
type link struct {
	client, server *net.TCPConn // server: nil until it is dialled
	held           bool         // it stalls, whatever the mode
	closed         bool
	steps          int // under way
}

var errLinkClosed = errors.New("link closed")

// StartProxy starts a proxy that forwards to target, a host and port.
func StartProxy(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{Addr: listener.Addr().String(), listener: listener, target: target, links: map[*link]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// Cut resets all connections, and each new one, until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = cut
	for l := range p.links {
		p.drop(l)
	}
}

// Stall makes half-open links: until Heal connections stay open, and new ones are accepted, but no byte and no end of a
// connection gets through. Once Stall returns, nothing more arrives. Both ends still have what they send acknowledged
// by the kernel, so their writes succeed while buffers last.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = stalled
	p.settle()
}

// Hold stalls the connections that there are, and forwards those that come. What is sent on the held ones is delivered
// after Heal, even if its sender has given them up by then: as a kernel does whose link was dark for a while.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.held = true
	}
	p.settle()
}

// stalls reports whether nothing gets through a link; p.mu is held.
func (p *Proxy) stalls(l *link) bool { return p.mode == stalled || l.held && p.mode != cut }

// settle waits until nothing is under way on a link that stalls; p.mu is held.
func (p *Proxy) settle() {
	// A write to an end that does not read would last for ever; what it has not written yet is written after Heal.
	p.writeDeadline(time.Now())
	for slices.ContainsFunc(slices.Collect(maps.Keys(p.links)), func(l *link) bool { return p.stalls(l) && l.steps > 0 }) {
		p.changed.Wait()
	}
	p.writeDeadline(time.Time{})
}

// writeDeadline sets the deadline of all connections; p.mu is held.
func (p *Proxy) writeDeadline(t time.Time) {
	for l := range p.links {
		_ = l.client.SetWriteDeadline(t)
		if l.server != nil {
			_ = l.server.SetWriteDeadline(t)
		}
	}
}

// Heal ends a Cut, a Stall or a Hold: new connections are forwarded again, and stalled ones go on where they were.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = forwarding
	for l := range p.links {
		l.held = false
	}
	p.changed.Broadcast()
}

// Retarget sends later connections elsewhere. Those that exist stay as they are.
func (p *Proxy) Retarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Close resets all connections and stops listening.
func (p *Proxy) Close() {
	p.Cut()
	_ = p.listener.Close()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, or a client that is gone already
			time.Sleep(pollInterval)
			continue
		}
		l := &link{client: conn.(*net.TCPConn)}
		p.mu.Lock()
		p.links[l] = struct{}{}
		if p.mode == cut {
			p.drop(l)
		}
		p.mu.Unlock()
		p.running.Go(func() { p.serve(l) })
	}
}

// serve connects a link to the target, and forwards until both directions have ended.
func (p *Proxy) serve(l *link) {
	defer p.finish(l)
	p.mu.Lock()
	open, target := p.pass(l), p.target
	p.mu.Unlock()
	if !open {
		return
	}
	conn, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		p.abort(l)
		return
	}
	p.mu.Lock()
	l.server = conn.(*net.TCPConn)
	if l.closed { // while it was dialled
		reset(l.server)
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.forward(l, l.server, l.client) })
	both.Go(func() { p.forward(l, l.client, l.server) })
	both.Wait()
}

// forward copies what comes from src to dst, and its end as well.
func (p *Proxy) forward(l *link, dst, src *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, readErr := src.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			err := p.step(l, func() error {
				n, err := dst.Write(rest)
				rest = rest[n:]
				return err
			})
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // interrupted by Stall
				p.abort(l)
				return
			}
		}
		if errors.Is(readErr, io.EOF) {
			_ = p.step(l, dst.CloseWrite)
			return
		}
		if readErr != nil {
			_ = p.step(l, func() error { p.abort(l); return nil })
			return
		}
	}
}

// pass waits while the proxy stalls, and reports whether the link is still there; p.mu is held.
func (p *Proxy) pass(l *link) bool {
	for p.stalls(l) && !l.closed {
		p.changed.Wait()
	}
	return !l.closed
}

// step does something that an end of the link can notice. It waits while the proxy stalls, and Stall waits for it.
func (p *Proxy) step(l *link, do func() error) error {
	p.mu.Lock()
	if !p.pass(l) {
		p.mu.Unlock()
		return errLinkClosed
	}
	l.steps++
	p.mu.Unlock()

	err := do()

	p.mu.Lock()
	l.steps--
	p.changed.Broadcast()
	p.mu.Unlock()
	return err
}

// abort resets both ends of a link, as a failure of one of them does.
func (p *Proxy) abort(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(l)
}

// drop resets both ends of a link; p.mu is held.
func (p *Proxy) drop(l *link) {
	l.closed = true
	reset(l.client)
	if l.server != nil {
		reset(l.server)
	}
	p.changed.Broadcast()
}

// finish forgets a link. Closing is polite here: a reset would take back bytes that are still on their way.
func (p *Proxy) finish(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}

// reset closes a connection such that the other end gets RST instead of FIN.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
