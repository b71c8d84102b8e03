package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// TestTwoSidecars run on the same Postgres and Redis, beside a plain listener as in the seed note.
func TestTwoSidecars(t *testing.T) {
	t.Parallel()
	const long = "PGEVICT_HEARTBEAT=1s" // a gap that a busy machine makes would not be a false one
	w := newWorld(t, nil, oneTable+tcnTrigger("actions")+eventTrigger("actions"), oneRule)
	plain := w.connect()
	if _, err := plain.Exec(t.Context(), "LISTEN tcn; LISTEN events"); err != nil {
		t.Fatal(err)
	}
	first, second := w.serve(long), w.serve(long)
	first.waitReady()
	second.waitReady()
	w.rest(first)
	w.rest(second)
	const rows = 50
	write := func() {
		t.Helper()
		var keys []string
		for id := range rows {
			keys = append(keys, fmt.Sprintf("action:%d", id))
		}
		w.set(keys...)
		w.exec(fmt.Sprintf(`INSERT INTO actions SELECT generate_series(0, %d) ON CONFLICT (id) DO UPDATE SET note = actions.note || 'x'`, rows-1))
		for _, key := range keys {
			w.waitGone(key)
		}
	}
	write()
	for _, p := range []*program{first, second} {
		p.waitMetrics("some canaries", func(_ time.Time, m livetest.Metrics) bool { return m["pgevict_canary_seconds_count"] >= 4 })
		if p.gaps() != 1 || p.gaps("start") != 1 {
			t.Errorf("gaps: %v, and only the start is one", p.gaps())
		}
		if n := p.metric(`pgevict_changes_total{op="insert",source="tcn",table="actions"}`); n != rows {
			t.Errorf("%v changes", n)
		}
	}
	second.kill()
	write()
	third := w.serve(long)
	third.waitReady()
	write()
	w.rest(first)
	w.rest(third)
	if first.gaps() != 1 || third.gaps() != 1 {
		t.Errorf("gaps: %v and %v, though neither has lost anything", first.gaps(), third.gaps())
	}
	// Redis loses all: both must see it, and neither may hide it from the other.
	if err := w.cache.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*program{first, third} {
		eventually(t, "a gap", func() bool { return p.gaps("redis_rollback") == 1 })
		w.rest(p)
		if status := p.stop(); status != 0 {
			t.Errorf("status %d", status)
		}
	}

	// The plain listener has got everything, and none of what the sidecars say to themselves.
	heard := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 3 * rows * 2 {
		n, err := plain.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", heard, err)
		}
		heard[n.Channel]++
	}
	if heard["tcn"] != 3*rows || heard["events"] != 3*rows {
		t.Errorf("heard %v", heard)
	}
}
