package e2e_test

import (
	"net/http"
	"testing"
	"time"
)

// TestRedisIsFull has a Redis that refuses to write and still deletes: an alert, but neither a gap nor an outage.
func TestRedisIsFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := w.serveReady()
	w.set("action:1", "action:2")
	if err := w.cache.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	const oom = `pgevict_redis_errors_total{kind="oom"}`
	eventually(t, "an alert", func() bool { return p.metric(oom) > 0 })
	w.exec(`INSERT INTO actions VALUES (1)`)
	w.waitGone("action:1")
	before := p.metric(oom)
	eventually(t, "more canaries", func() bool { return p.metric(oom) > before+3 })
	if !p.is("/readyz", http.StatusOK) {
		t.Error("not ready, though each delete is done")
	}
	full := time.Now()
	if err := w.cache.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	p.waitApplied(full)
	if p.gaps() != 1 || !w.has("action:2") {
		t.Errorf("%v gaps, though nothing was lost", p.gaps())
	}
}

// TestRedisIsReadOnly has a Redis that is demoted for a while. What it refused is applied when it is a primary again.
func TestRedisIsReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := w.serveReady()
	w.set("action:1", "another:1")
	if err := w.cache.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	w.exec(`INSERT INTO actions VALUES (1)`)
	eventually(t, "the refusal is counted", func() bool { return p.metric(`pgevict_redis_errors_total{kind="readonly"}`) > 0 })
	if p.metric("pgevict_pending") == 0 {
		t.Error("nothing waits, though Redis has refused it")
	}
	p.waitUnready()
	if err := w.cache.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	w.waitGone("action:1")
	p.waitReady()
	if !w.has("another:1") {
		t.Error("a key outside the rules is gone")
	}
}
