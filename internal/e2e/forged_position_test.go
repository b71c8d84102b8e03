package e2e_test

import (
	"testing"
)

// TestForgedPositionsCostFewSweeps has somebody overwrite the positions in Redis, so that it looks rolled back at each heartbeat. That
// costs few sweeps; and the one that is put off is done at the latest when the sidecar stops.
func TestForgedPositionsCostFewSweeps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := w.serve("PGEVICT_HEARTBEAT=100ms", "PGEVICT_AGAIN_AFTER=0")
	p.waitReady()
	for range 6 {
		gaps := p.gaps("redis_rollback")
		eventually(t, "a forged position is found", func() bool {
			keys, err := w.cache.Keys(t.Context(), "pgevict:position:*").Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				if err := w.cache.Set(t.Context(), key, "forged 1 1", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			return p.gaps("redis_rollback") > gaps
		})
	}
	eventually(t, "the first two are swept", func() bool { return p.metric("pgevict_sweeps_total") == 3 })
	if deferred := p.metric(`pgevict_sweeps_deferred_total{reason="redis_rollback"}`); deferred < 4 {
		t.Errorf("%v of %v doubts were put off", deferred, p.gaps("redis_rollback"))
	}
	const key = "action:7"
	if err := w.cache.Set(t.Context(), key, "stale", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if status := p.stop(); status != 0 {
		t.Errorf("status %d", status)
	}
	if n := w.cache.Exists(t.Context(), key).Val(); n != 0 {
		t.Error("the sweep that was put off has not been done")
	}
}
