package livetest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// echo starts a server that sends back what it gets, after its own name.
func echo(t *testing.T, name string) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, name)
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func wantSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v, want silence", n, err)
	}
}

func wantClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v, want a closed connection", n, err)
	}
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	conn := dial(t, p.Addr)
	write(t, conn, "hello")
	wantRead(t, conn, "Ahello")
	p.Cut()
	wantClosed(t, conn)
	if refused, err := net.Dial("tcp", p.Addr); err == nil {
		wantClosed(t, refused)
		_ = refused.Close()
	}
	p.Heal()
	wantRead(t, dial(t, p.Addr), "A")
}

func TestProxyStalls(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	old, idle := dial(t, p.Addr), dial(t, p.Addr)
	wantRead(t, old, "A")
	wantRead(t, idle, "A")
	p.Stall()
	write(t, old, "late")
	fresh := dial(t, p.Addr)
	write(t, fresh, "later")
	wantSilence(t, old)
	wantSilence(t, idle)
	wantSilence(t, fresh)
	p.Heal()
	wantRead(t, old, "late")
	wantRead(t, fresh, "Alater")
	write(t, idle, "!")
	wantRead(t, idle, "!")
}

// What a client sent on a connection that it has closed meanwhile arrives all the same, behind what it sent on another.
func TestProxyHolds(t *testing.T) {
	t.Parallel()
	arrived := make(chan string, 2)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, "A")
				text, _ := io.ReadAll(conn)
				arrived <- string(text)
			}()
		}
	}()
	p := NewProxy(t, listener.Addr().String())
	old := dial(t, p.Addr)
	wantRead(t, old, "A")
	p.Hold()
	write(t, old, "early")
	_ = old.Close()
	fresh := dial(t, p.Addr)
	wantRead(t, fresh, "A")
	write(t, fresh, "later")
	_ = fresh.Close()
	if text := <-arrived; text != "later" {
		t.Errorf("%q arrived first", text)
	}
	p.Heal()
	if text := <-arrived; text != "early" {
		t.Errorf("%q arrived after all", text)
	}
}

func TestProxyCutsWhatIsStalled(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	old := dial(t, p.Addr)
	wantRead(t, old, "A")
	p.Stall()
	fresh := dial(t, p.Addr)
	wantSilence(t, fresh)
	p.Cut()
	wantClosed(t, old)
	wantClosed(t, fresh)
}

// A stall keeps the end of a connection back too: the other end of a half-open link does not learn of it.
func TestProxyStallHidesTheEnd(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	conn := dial(t, p.Addr)
	wantRead(t, conn, "A")
	p.Stall()
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantSilence(t, conn)
	p.Heal()
	wantClosed(t, conn)
}

// Nobody reads, so the proxy's own writes block: Stall must not wait for them, and no byte may get lost or doubled.
func TestProxyStallsInTheMiddleOfAWrite(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, ""))
	conn := dial(t, p.Addr)
	sent := make([]byte, 16<<20)
	for i := range sent {
		sent[i] = byte(i % 251)
	}
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
	}()
	for range 20 {
		Eventually(t, 10*time.Second, "a write is under way", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			for l := range p.links {
				return l.steps > 0
			}
			return false
		})
		p.Stall()
		p.Heal()
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, or others: %v", len(got), len(sent), err)
	}
}

func TestProxyForwardsTheEnd(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	conn := dial(t, p.Addr)
	write(t, conn, "all")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(conn); string(got) != "Aall" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestProxyRetargets(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	old := dial(t, p.Addr)
	wantRead(t, old, "A")
	p.Retarget(echo(t, "B"))
	wantRead(t, dial(t, p.Addr), "B")
	write(t, old, "still A")
	wantRead(t, old, "still A")
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	p.Retarget(loopback(port)) // nobody there
	conn, err := net.Dial("tcp", p.Addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return // it was closed before the dial had looked
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantClosed(t, conn)
}

func TestProxyCloses(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t, "A"))
	conn := dial(t, p.Addr)
	wantRead(t, conn, "A")
	p.Stall()
	p.Close()
	wantClosed(t, conn)
	if _, err := net.Dial("tcp", p.Addr); err == nil {
		t.Error("it still listens")
	}
}
