package pgnotify

import (
	"strings"
	"testing"
)

func TestJudgeQueue(t *testing.T) {
	t.Parallel()
	holder := [][]string{{"42", "sleepy", "idle in transaction", "its transaction is 99 s old"}}
	for _, c := range []struct {
		usage   float64
		holders [][]string
		all     bool
		status  string
		do      []string
	}{
		{0, holder, true, "ok", nil},
		{0.01, nil, false, "ok", nil},
		{0.2, holder, true, "warn", []string{"not being emptied", "pid 42 (sleepy, idle in transaction, its transaction is 99 s old), with pg_terminate_backend"}},
		{0.2, nil, false, "warn", []string{"find the listener", "GRANT pg_read_all_stats"}},
		{0.51, nil, true, "fail", []string{"commits fail", "find the listener"}},
	} {
		status, found, do := judgeQueue(c.usage, c.holders, c.all)
		if status != c.status || (do == "") != (c.do == nil) || strings.Contains(do, "GRANT") == c.all && c.do != nil {
			t.Errorf("%v: %s %s → %s", c, status, found, do)
		}
		for _, part := range c.do {
			if !strings.Contains(do, part) {
				t.Errorf("%v: no %q in %s", c, part, do)
			}
		}
	}
}
