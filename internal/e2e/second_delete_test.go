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
	gaps, keys := 1.0, []string{"action:1", "actions:list:1"} // that of the start
	for what, strike := range map[string]func(){
		"a change": func() { w.exec(`INSERT INTO actions VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'x'`) },
		"a gap": func() {
			gaps++
			w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevict' AND datname = current_database()`)
		},
	} {
		// A machine that is busy may keep this reader from filling in time, as the contract allows; then it tries again.
		var filled bool
		for !filled {
			settle()
			w.set(keys...)
			began := time.Now()
			strike()
			for _, key := range keys {
				w.waitGone(key)
			}
			w.set(keys...)
			if filled = time.Since(began) < after; !filled {
				t.Logf("%s: filled too late, after %v", what, time.Since(began))
			}
		}
		for _, key := range keys {
			w.waitGone(key)
		}
		w.set(keys...)
		p.waitApplied(time.Now().Add(after * 9 / 8))
		for _, key := range keys {
			if !w.has(key) {
				t.Errorf("%s: %s was deleted a third time", what, key)
			}
		}
	}
	if p.gaps() != gaps {
		t.Errorf("%v gaps, not %v", p.gaps(), gaps)
	}
}
