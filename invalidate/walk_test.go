package invalidate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

// walking tells whether a walk is on its way.
func (k *kit) walking() bool {
	k.pending.mu.Lock()
	defer k.pending.mu.Unlock()
	return k.only.lane.groups[patterns].inFlight > 0
}

func TestOneWalkServesAllPatterns(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL())
	set := templates(t, "p", "p:{id}:*")
	const keys = 30_000
	many := make([]string, 0, keys)
	for i := range keys {
		many = append(many, fmt.Sprintf("p:%d:x", i))
	}
	k.set(many...)
	k.Add(of(set, "p", image{"id": "0"})...)
	k.run().idle()
	one := k.calls("scan")
	if one < keys/scanCount {
		t.Errorf("%d SCANs for %d keys", one, keys)
	}
	k.stop()
	k.Add(ids(set, "p", 1, 100)...)
	k.run().idle()
	if hundred := k.calls("scan") - one; hundred > one+one/4 {
		t.Errorf("%d SCANs for one pattern, %d for a hundred", one, hundred)
	}
	if got := len(k.keys()); got != keys-101 {
		t.Errorf("%d keys left, want %d", got, keys-101)
	}
	if got := k.seen.evictedOf("p"); got != 101 {
		t.Errorf("%d evicted", got)
	}
}

// Redis is told what all patterns begin with, and that must hold for any text.
func TestServerSidePrefix(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL()).run()
	for _, begin := range []string{`a\*b`, "a?b", "a[b]c", "a]b", "a^b", "[^a]", `a\b`, "a-b", "é中"} {
		plain := strings.ReplaceAll(begin, `\*`, "*")
		k.set(plain+":1:x", plain+":2:x", "axb:1:x", "a:1:x")
		k.Add(of(templates(t, "p", begin+":{id}:*"), "p", image{"id": "1"})...)
		k.idle()
		if k.exists(plain+":1:x") || !k.exists(plain+":2:x") {
			t.Errorf("%q: wrong keys are gone", begin)
		}
		for _, key := range []string{"a:1:x", "axb:1:x"} {
			if !k.exists(key) {
				t.Errorf("%q took %q", begin, key)
			}
		}
	}
}

func TestPatternDuringAWalkGetsItsOwn(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL()).run()
	set := templates(t, "p", "p:{id}:*")
	k.set("p:1:x", "p:2:x")
	k.canary(1)
	r.Pause()
	k.Add(of(set, "p", image{"id": "1"})...)
	livetest.Eventually(t, soon, "a walk is on its way", k.walking)
	k.Add(of(set, "p", image{"id": "1"})...) // its keys may be filled behind the walk
	k.Add(of(set, "p", image{"id": "2"})...)
	if got := k.Stats().Pending; got != 3 {
		t.Errorf("%d wait", got)
	}
	r.Resume()
	k.idle()
	if got := k.calls("scan"); got != 2 {
		t.Errorf("%d SCANs, so not two walks", got)
	}
	if got := k.keys(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestPositionsSurvivePatterns(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL()).run()
	k.canary(1)
	k.set("p1", "pgevict:other", PositionPrefix+"somebody")
	k.Add(templates(t, "p", "p*").Sweep()...)
	k.idle()
	if k.exists("p1") || !k.exists("pgevict:other") {
		t.Error("the pattern did nothing, or deleted what is pgevict's own")
	}
	k.canary(2)
	if number, _ := k.position(); number != 2 || !k.exists(PositionPrefix+"somebody") {
		t.Error("a position is gone")
	}
	if len(k.seen.gaps) != 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
}

func TestWalkCanBeStopped(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), func(o *Options) { o.Timeout = 500 * time.Millisecond }).run()
	k.canary(1)
	r.Pause()
	k.Add(templates(t, "p", "p:*").Sweep()...)
	livetest.Eventually(t, soon, "a walk is on its way", k.walking)
	stopped := time.Now()
	k.stop()
	if d := time.Since(stopped); d > 3*time.Second {
		t.Errorf("stopping in a walk took %v", d)
	}
	if got := k.Stats().Pending; got != 1 {
		t.Errorf("%d wait, want the pattern", got)
	}
	r.Resume()
}

// The matcher and Redis' own KEYS say the same, for random patterns and keys of few letters, so that they often match.
func TestMatcherAgreesWithRedis(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL())
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(most int) string {
		var b strings.Builder
		for range rng.IntN(most + 1) {
			b.WriteByte(`aab*?[]^\-`[rng.IntN(10)])
		}
		return b.String()
	}
	for range 2000 {
		k.rdb.Set(t.Context(), "k"+text(7), 1, 0)
	}
	all := k.keys()
	set := templates(t, "p", "k{x}{u}{y}", "p-2", "k{u}{x}*{y}*{u}{z}", "p-3", "k{x}{u}")
	matches := 0
	for range 300 {
		for _, target := range of(set, "p", image{"x": text(2), "y": text(2), "z": text(1)}) {
			want := map[string]bool{}
			for _, key := range k.rdb.Keys(t.Context(), target.Key).Val() {
				want[key] = true
			}
			matches += len(want)
			m := newMatcher(map[rules.Target]time.Duration{target: 1})
			for key := range all {
				if _, got := m.match(key); got != want[key] {
					t.Errorf("pattern %q, key %q: %v, Redis says %v", target.Key, key, got, want[key])
				}
			}
		}
	}
	if matches < 1000 {
		t.Errorf("only %d matches: the test shows little", matches)
	}
}

// matches is the definition, slow and plain.
func matches(pattern, key string) bool {
	switch {
	case pattern == "":
		return key == ""
	case pattern[0] == '*':
		return matches(pattern[1:], key) || key != "" && matches(pattern, key[1:])
	case pattern[0] == '\\' && len(pattern) > 1:
		pattern = pattern[1:]
	}
	return key != "" && key[0] == pattern[0] && matches(pattern[1:], key[1:])
}

func FuzzMatcher(f *testing.F) {
	f.Add("", "", "", "k")
	f.Add("a", "b", "*", "kaxxby")
	f.Add("a", "a", "a", "kaaa")
	f.Add(`\`, "[", "?", `k\[?`)
	f.Add("\xff", "\x00", "\n", "k\xff\x00\n")
	set := templates(f, "p", "k{x}{u}{y}", "p-2", "k{u}{x}*{y}", "p-3", "k{x}*", "p-4", "k{z}{u}{z}{u}{z}", "p-5", "other{u}")
	f.Fuzz(func(t *testing.T, x, y, z, key string) {
		if len(x)+len(y)+len(z) > 30 || len(key) > 60 {
			t.Skip("the definition is slow")
		}
		targets := map[rules.Target]time.Duration{}
		for _, target := range of(set, "p", image{"x": x, "y": y, "z": z}) {
			targets[target] = 1
		}
		want := false
		for target := range targets {
			want = want || matches(target.Key, key)
		}
		m := newMatcher(targets)
		target, got := m.match(key)
		if got != want || got && !matches(target.Key, key) {
			t.Errorf("%q: %v (%q), want %v", key, got, target.Key, want)
		}
		if got && !matches(rules.EscapeGlob(m.common)+"*", key) {
			t.Errorf("%q matches, but does not begin with %q", key, m.common)
		}
	})
}
