package status

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// seriesPause is how long no error may come for the next to be one of the same series.
const seriesPause = 10 * time.Second

// peer is what is known of Postgres or of Redis.
type peer struct {
	name string

	mu        sync.Mutex
	connected bool
	since     time.Time // when that began
	kind      string    // of the last error; empty: there was none
	failed    time.Time // when it came
	failing   time.Time // when the first of its series came
}

func newPeer(name string) *peer { return &peer{name: name, since: time.Now()} }

// set takes note of whether the peer is connected.
func (p *peer) set(connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if connected != p.connected {
		p.connected, p.since = connected, time.Now()
		if connected {
			p.kind = "" // of what is over
		}
	}
}

// fail takes note of an error, of which the kind holds no secret.
func (p *peer) fail(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.kind == "" || now.Sub(p.failed) > seriesPause {
		p.failing = now
	}
	p.kind, p.failed = kind, now
}

// wrong says what is wrong with the peer, and since when; empty: nothing is known to be.
func (p *peer) wrong() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.connected && p.kind == "":
		return fmt.Sprintf("%s: not connected %s", p.name, lasting(p.since))
	case !p.connected:
		return fmt.Sprintf("%s: not connected %s: %s", p.name, lasting(p.since), p.kind)
	case p.kind != "" && time.Since(p.failed) <= seriesPause:
		return fmt.Sprintf("%s: connected, but with errors %s: %s", p.name, lasting(p.failing), p.kind)
	}
	return ""
}

// lasting says how long something has lasted, and since when.
func lasting(since time.Time) string {
	return fmt.Sprintf("for %s, since %s", time.Since(since).Round(100*time.Millisecond), since.UTC().Format(time.RFC3339))
}

// whatIsWrong is that of all peers, behind what it leads to.
func whatIsWrong(consequence string, peers ...*peer) string {
	var wrong []string
	for _, p := range peers {
		if w := p.wrong(); w != "" {
			wrong = append(wrong, w)
		}
	}
	if len(wrong) == 0 {
		return consequence + ", though both are connected"
	}
	return strings.Join(append(wrong, consequence), "; ")
}
