package e2e_test

import (
	"testing"
	"time"
)

// TestALateFillIsDeleted plays a reader that read before the commit and fills after the delete, by less than AGAIN_AFTER:
// of a key, of a pattern and of a sweep.
func TestALateFillIsDeleted(t *testing.T) {
	t.Parallel()
	const after = 2 * time.Second
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), `
rules:
  - {table: actions, keys: ["action:{id}", "actions:list:*"]}`)
	p := w.serve("PGEVICT_AGAIN_AFTER=" + after.String())
	p.waitReady()
	settle := func() {
		p.waitApplied(time.Now())
		p.waitApplied(time.Now().Add(after * 9 / 8))
	}
	for what, strike := range map[string]func(){
		"a change": func() { w.exec(`INSERT INTO actions VALUES (1)`) },
		"a gap": func() {
			w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevict' AND datname = current_database()`)
		},
	} {
		settle()
		keys := []string{"action:1", "actions:list:1"}
		w.set(keys...)
		strike()
		for _, key := range keys {
			w.waitGone(key)
		}
		deleted := time.Now()
		w.set(keys...)
		for _, key := range keys {
			w.waitGone(key)
		}
		if took := time.Since(deleted); took < after/2 || took > after*9/8+slack {
			t.Errorf("%s: deleted once more after %v", what, took)
		}
		w.set(keys...)
		p.waitApplied(time.Now().Add(after * 9 / 8))
		for _, key := range keys {
			if !w.has(key) {
				t.Errorf("%s: %s was deleted a third time", what, key)
			}
		}
	}
	if p.gaps() != 2 {
		t.Errorf("%v gaps", p.gaps())
	}
}
