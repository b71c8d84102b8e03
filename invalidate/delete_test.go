package invalidate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgevict/internal/livetest"
)

// awkward is what a value may hold.
var awkward = []string{
	"*", "?", "[a]", "[^a]", "a-z", `\`, `\*`, "\x00", "a\x00b", "\n", "\r\n", " ", "", "\xff\xfe", "{1}", "}", "'\"", "é中",
	"$5\r\nhello\r\n", strings.Repeat("x", 8000),
}

func TestKeysGoByteForByte(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL())
	set := templates(t, "a", "a:{id}", "b", "b:{id}:end")
	for _, text := range awkward {
		k.set("a:"+text, "b:"+text+":end")
		k.set("A:"+text, "a"+text, "xa:"+text, "b:"+text) // not ours
	}
	k.set("a:other", "b:other:end", "a:aa", "a:a", "a:1", `a:\\`)
	want := k.keys()
	k.run()
	for _, text := range awkward {
		k.Add(of(set, "a", image{"id": text})...)
		k.Add(of(set, "b", image{"id": text})...)
		delete(want, "a:"+text)
		delete(want, "b:"+text+":end")
	}
	k.idle()
	got := k.keys()
	for key := range got {
		if !want[key] {
			t.Errorf("%.40q is still there", key)
		}
	}
	for key := range want {
		if !got[key] {
			t.Errorf("%.40q is gone", key)
		}
	}
}

func TestCountsWhatWasThere(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL())
	set := templates(t, "a", "a:{id}", "b", "b:{id}", "c", "c:{id}", "p", "p:*:{id}")
	const n = 3500
	a, b, c := ids(set, "a", 0, n), ids(set, "b", 0, n), ids(set, "c", 0, n)
	k.setTargets(a)
	k.setTargets(b[:n/2])
	k.set("p:x:1", "p:y:1", "p:y:2")
	k.Add(slices.Concat(a, b, c, a, of(set, "p", image{"id": "1"}))...)
	if got := k.Stats().Pending; got != 3*n+1 {
		t.Errorf("%d wait", got)
	}
	k.run().idle()
	for rule, want := range map[string]int64{"a": n, "b": n / 2, "c": 0, "p": 2} {
		if got := k.seen.evictedOf(rule); got != want {
			t.Errorf("%d evicted for the rule %s, want %d", got, rule, want)
		}
	}
	if got := k.keys(); len(got) != 1 || !got["p:y:2"] {
		t.Errorf("left: %v", got)
	}
	// 3500 keys are seven commands of 512 at most, for each of three rules.
	// The pattern's keys may come in two steps.
	if got := k.calls("unlink"); got < 21+1 || got > 21+2 {
		t.Errorf("%d UNLINKs", got)
	}
	if !k.seen.look(func(w *witness) bool { return w.applied == 3*n+1 }) {
		t.Errorf("%d applied", k.seen.applied)
	}
}

func TestNoCommandExceedsItsBound(t *testing.T) {
	t.Parallel()
	set := templates(t, "a", "a:{id}", "b", "b:{id}")
	for _, n := range []int{0, 1, keysPerCommand - 1, keysPerCommand, keysPerCommand + 1, 3 * keysPerCommand} {
		q := makeQueue(t, "redis://127.0.0.1:1")
		q.Add(ids(set, "a", 0, n)...)
		q.Add(ids(set, "b", 0, 1)...)
		seen := map[string]bool{}
		for _, c := range commandsFor(q.only.lane.groups[exact].targets, false) {
			if len(c.keys()) == 0 || len(c.keys()) > keysPerCommand || len(c.keys()) != len(c.targets) {
				t.Errorf("%d keys: a command of %d", n, len(c.keys()))
			}
			for i, key := range c.keys() {
				if seen[key] || c.targets[i].Key != key || c.targets[i].Rule() != c.of.Rule() {
					t.Errorf("%d keys: %s is there twice, or among others", n, key)
				}
				seen[key] = true
			}
		}
		if len(seen) != n+1 {
			t.Errorf("%d of %d keys", len(seen), n+1)
		}
	}
}

// A target alone does not wait for others: one at a time, each gone before the next comes.
func TestLoneTargetLeavesAtOnce(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL()).run()
	set := templates(t, "a", "a:{id}")
	for i := range 50 {
		k.set(fmt.Sprintf("a:%d", i))
		k.Add(ids(set, "a", i, 1)...)
		k.idle()
		if k.exists(fmt.Sprintf("a:%d", i)) {
			t.Fatalf("key %d is there though nothing waits", i)
		}
	}
	if got := k.calls("unlink"); got != 50 {
		t.Errorf("%d UNLINKs", got)
	}
}

// What comes during a flush is the next one, all of it.
func TestWhatComesDuringAFlushIsTheNext(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL()).run()
	set := templates(t, "a", "a:{id}")
	k.canary(1)
	k.set("a:0", "a:1", "a:2", "a:3")
	r.Pause()
	k.Add(ids(set, "a", 0, 1)...)
	livetest.Eventually(t, soon, "the first is on its way", func() bool {
		k.pending.mu.Lock()
		defer k.pending.mu.Unlock()
		return k.only.lane.groups[exact].inFlight == 1
	})
	for i := range 3 {
		k.Add(ids(set, "a", i+1, 1)...)
	}
	if got := k.Stats().Pending; got != 4 {
		t.Errorf("%d wait", got)
	}
	r.Resume()
	k.idle()
	if got := k.calls("unlink"); got != 2 {
		t.Errorf("%d UNLINKs", got)
	}
	if got := k.keys(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// The same key, added again while its delete is on its way, is deleted again: it may have been filled in between.
func TestAddedAgainOnItsWay(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL()).run()
	set := templates(t, "a", "a:{id}")
	k.canary(1)
	r.Pause()
	k.Add(ids(set, "a", 0, 1)...)
	livetest.Eventually(t, soon, "it is on its way", func() bool {
		k.pending.mu.Lock()
		defer k.pending.mu.Unlock()
		return k.only.lane.groups[exact].inFlight == 1
	})
	k.Add(ids(set, "a", 0, 1)...)
	r.Resume()
	k.idle()
	if got := k.calls("unlink"); got != 2 {
		t.Errorf("%d UNLINKs", got)
	}
}

func TestDryRunTouchesNothing(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), func(o *Options) { o.DryRun = true })
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.set("a:1", "p:1:x", "p:2:x")
	before := k.calls("set")
	k.run()
	k.Add(of(set, "a", image{"id": "1"})...)
	k.Add(of(set, "p", image{"id": "1"})...)
	k.idle()
	k.canary(7)
	if got := k.keys(); len(got) != 3 {
		t.Errorf("left: %v", got)
	}
	if number, _ := k.position(); number != 0 || k.calls("unlink") != 0 || k.calls("set") != before {
		t.Error("something was written")
	}
	said := map[string]bool{}
	for _, e := range k.logs.FilterMessage("dry run: would delete").All() {
		for _, key := range e.ContextMap()["keys"].([]any) {
			said[key.(string)] = true
		}
	}
	if len(said) != 2 || !said["a:1"] || !said["p:1:x"] {
		t.Errorf("it says that it would delete %v", said)
	}
	if k.seen.evictedOf("a") != 0 || k.seen.gapsOf(GapRollback) != 0 {
		t.Error("evictions or gaps counted")
	}
	if !k.Stats().AppliedThrough.After(k.pending.started) {
		t.Error("no position: a dry run would look stuck")
	}
}
