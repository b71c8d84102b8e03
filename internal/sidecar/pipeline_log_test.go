package sidecar

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"pgevict/internal/config"
	"pgevict/internal/status"
	"pgevict/invalidate"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// TestDebugLogsEachChange wants at the level debug, and at no other, a line for each change that names what it made stale.
func TestDebugLogsEachChange(t *testing.T) {
	t.Parallel()
	set, err := rules.Parse("rules", []byte(`rules: [{name: r, table: t, keys: ["t:{id}", "list:*"]}]`))
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []zapcore.Level{zap.InfoLevel, zap.DebugLevel} {
		core, logs := observer.New(level)
		m := status.NewMetrics("test")
		options := invalidate.Options{MaxPending: 1000, Sweeping: func() {}, Swept: func() {}, Log: zap.NewNop()}
		m.Observe(&options)
		p := &pipeline{
			rules: set, gap: config.GapSweep, metrics: m, log: zap.New(core),
			queue: invalidate.New(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}}, options), // which is not run
		}
		d := pgnotify.Decoder{Columns: set.Columns}
		ids := "1"
		for i := 2; i <= 30; i++ {
			ids += fmt.Sprintf(",%d", i)
		}
		for _, payload := range []string{`{"table":"t","action":"UPDATE","data":{"id":1},"old":{"id":1}}`, `{"table":"t","action":"INSERT","columns":{"id":[` + ids + `]}}`} {
			changes, _, err := d.Decode(pgnotify.Events, payload)
			if len(changes) != 1 {
				t.Fatal(payload, err)
			}
			p.Change(changes[0])
		}
		if level == zap.InfoLevel {
			if n := logs.Len(); n != 0 {
				t.Errorf("%d lines at the level info", n)
			}
			continue
		}
		lines := logs.All()
		if len(lines) != 2 {
			t.Fatalf("%d lines of 2", len(lines))
		}
		first, _ := json.Marshal(lines[0].ContextMap())
		for _, part := range []string{`"table":"t"`, `"op":"update"`, `"source":"events"`, `"key":"t:1"`, `"key":"list:*"`, `"rule":"r"`} {
			if !strings.Contains(string(first), part) {
				t.Errorf("no %s in %s", part, first)
			}
		}
		second, _ := json.Marshal(lines[1].ContextMap())
		if !strings.Contains(string(second), `"count":31`) || strings.Count(string(second), `"key":`) != loggedTargets {
			t.Errorf("of many targets: %s", second)
		}
	}
}
