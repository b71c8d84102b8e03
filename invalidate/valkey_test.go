package invalidate

import (
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// Valkey is spoken to as Redis is. One of everything, where it is installed.
func TestValkey(t *testing.T) {
	t.Parallel()
	r := livetest.NewValkey(t)
	l := newLibrary(1)
	k := makeQueue(t, r.URL(), reads(l), again(50*time.Millisecond), timeout(time.Second)).run()
	set := parseRules(t, "rules: [{name: a, table: a, keys: ['a:{id}', 'p:{id}:*'], tags: ['tag:{id}'], fields: [{key: h, field: '{id}'}]}, "+
		"{name: r, table: r, keys: ['r:{id}'], refresh: {query: 'SELECT v FROM r WHERE id = {id}'}}]")
	l.set("1", "new")
	k.canary(1)
	k.set("a:1", "p:1:x", "r:1", "other")
	k.tagged("tag:1", "view:1")
	if err := k.rdb.HSet(t.Context(), "h", "1", "x", "2", "x").Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(of(set, "a", image{"id": "1"})...)
	k.Add(of(set, "r", image{"id": "1"})...)
	k.idle()
	if left := k.applicationKeys(); len(left) != 3 || !left["other"] || k.value("r:1") != "new" || k.rdb.HLen(t.Context(), "h").Val() != 1 {
		t.Errorf("left: %v", left)
	}
	k.canary(2)
	if len(k.seen.gaps) != 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
	k.save()
	k.canary(3)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	k.canary(4)
	if k.seen.gapsOf(GapRestart) != 1 || k.seen.gapsOf(GapRollback) != 1 {
		t.Errorf("after a restart from an old snapshot: gaps %v", k.seen.gaps)
	}
}
