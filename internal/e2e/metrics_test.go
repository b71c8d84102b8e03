package e2e_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgevict/internal/livetest"
)

// TestMetrics wants every name of the contract, and the numbers of a workload that is known.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+`CREATE TABLE others (id bigint PRIMARY KEY);`+tcnTrigger("actions")+tcnTrigger("others"), `
rules:
  - {table: actions, keys: ["action:{id}"]}
  - {name: lists, table: actions, on: [insert], keys: ["actions:list:*"]}
  - {name: notes, table: actions, on: [delete], keys: ["note:{note}"]}`)
	w.set("action:1", "action:9")
	p := w.serveReady()
	w.set("action:1", "action:2", "actions:list:1", "actions:list:2", "actions:list:3", "note:1")
	w.exec(`INSERT INTO actions VALUES (1, 'x'), (2, 'x'), (3, 'x')`)
	w.exec(`INSERT INTO others VALUES (1)`)
	w.rest(p)
	w.exec(`UPDATE actions SET note = 'y' WHERE id = 1`)
	w.exec(`DELETE FROM actions WHERE id = 1`)
	w.exec(`NOTIFY tcn, 'hello'`)
	w.exec(`NOTIFY events, '{"other":1}'`)
	w.exec(`NOTIFY events, '{"table":"actions","action":"TRUNCATE"}'`)
	w.rest(p)
	w.redisLink.Cut()
	w.exec(`INSERT INTO actions VALUES (5)`)
	eventually(t, "Redis is away", func() bool { return p.metric(`pgevict_connected{peer="redis"}`) == 0 })
	if n := p.metric("pgevict_pending"); n != 2 {
		t.Errorf("pgevict_pending is %v while a key and a pattern wait", n)
	}
	w.redisLink.Heal()
	w.rest(p)
	m := p.metrics()
	for series, want := range map[string]float64{
		`pgevict_changes_total{op="insert",source="tcn",table="actions"}`:      4,
		`pgevict_changes_total{op="update",source="tcn",table="actions"}`:      1,
		`pgevict_changes_total{op="delete",source="tcn",table="actions"}`:      1,
		`pgevict_changes_total{op="truncate",source="events",table="actions"}`: 1,
		`pgevict_targets_total{kind="key",rule="actions"}`:                     6,
		`pgevict_targets_total{kind="pattern",rule="actions"}`:                 1,
		`pgevict_targets_total{kind="pattern",rule="lists"}`:                   4,
		`pgevict_targets_total{kind="pattern",rule="notes"}`:                   1,
		`pgevict_evicted_total{rule="actions"}`:                                4,
		`pgevict_evicted_total{rule="lists"}`:                                  3,
		`pgevict_evicted_total{rule="notes"}`:                                  1,
		`pgevict_widened_total{reason="column",rule="notes"}`:                  1,
		`pgevict_widened_total{reason="truncate",rule="actions"}`:              1,
		`pgevict_gaps_total{reason="start"}`:                                   1,
		`pgevict_unreadable_total{reason="syntax",source="tcn"}`:               1,
		`pgevict_unreadable_total{reason="foreign",source="events"}`:           1,
		`pgevict_connected{peer="postgres"}`:                                   1,
		`pgevict_connected{peer="redis"}`:                                      1,
		`pgevict_pending`:                                                      0,
	} {
		if have, ok := m[series]; !ok || have != want {
			t.Errorf("%s: %v (%t), want %v", series, have, ok, want)
		}
	}
	// The queue is the whole server's, which other tests use at the same time: a page or two of it may be in use.
	if usage, ok := m["pgevict_postgres_queue_usage"]; !ok || usage < 0 || usage > 0.001 {
		t.Errorf("pgevict_postgres_queue_usage: %v (%t), want next to nothing", usage, ok)
	}
	for _, series := range []string{
		`pgevict_sweeps_total`, `pgevict_redis_errors_total{kind="connection"}`, `pgevict_apply_seconds_count`, `pgevict_canary_seconds_count`,
		`pgevict_position_age_seconds`, `pgevict_build_info{`,
	} {
		if !slices.ContainsFunc(sortedSeries(m), func(s string) bool { return strings.HasPrefix(s, series) && m[s] > 0 }) {
			t.Errorf("%s is not there, or 0", series)
		}
	}
	if m["pgevict_position_age_seconds"] > 5 || m["pgevict_apply_seconds_sum"] <= 0 || m["pgevict_sweeps_total"] > m[`pgevict_gaps_total{reason="start"}`]+p.gaps() {
		t.Errorf("position age %v, apply seconds %v, sweeps %v", m["pgevict_position_age_seconds"], m["pgevict_apply_seconds_sum"], m["pgevict_sweeps_total"])
	}
	for _, s := range sortedSeries(m) {
		if strings.Contains(s, `"others"`) {
			t.Errorf("a table that is not in the rules: %s", s)
		}
	}
}

func sortedSeries(m livetest.Metrics) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestASweepHasAnEnd wants how many keys a sweep deleted, and how long it took, in the log and in the metrics.
func TestASweepHasAnEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	const keys = 2500
	for i := range keys {
		w.set(fmt.Sprintf("action:%d", i))
	}
	p := w.serveReady()
	end := p.logged("swept")
	if n := end.Field("keys"); n != strconv.Itoa(keys) {
		t.Errorf("swept %q keys of %d: %v", n, keys, end)
	}
	if seconds, err := strconv.ParseFloat(end.Field("seconds"), 64); err != nil || seconds <= 0 || seconds > 30 {
		t.Errorf("it took %q: %v", end.Field("seconds"), err)
	}
	m := p.metrics()
	if m["pgevict_swept_keys_total"] != keys || m["pgevict_sweep_seconds_count"] != m["pgevict_sweeps_total"] || m["pgevict_sweep_seconds_sum"] <= 0 {
		t.Errorf("metrics: %v keys in %v sweeps of %v", m["pgevict_swept_keys_total"], m["pgevict_sweep_seconds_count"], m["pgevict_sweeps_total"])
	}
}
