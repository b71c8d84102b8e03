package invalidate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

// BenchmarkAdd adds targets that are new: "wide" is what it costs once they are too many.
func BenchmarkAdd(b *testing.B) {
	set := templates(b, "a", "owner:{id}:actions")
	targets := ids(set, "a", 0, 200_000)
	for name, limit := range map[string]int{"distinct": 1 << 40, "wide": 1000} {
		b.Run(name, func(b *testing.B) {
			k := makeQueue(b, "redis://127.0.0.1:1", bound(limit))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(targets) == 0 {
					k.pending.mu.Lock()
					k.only.lane.groups[exact].targets = nil
					k.pending.mu.Unlock()
				}
				k.Add(targets[i%len(targets)])
			}
		})
	}
}

// BenchmarkFlush deletes 200,000 keys that are not there.
func BenchmarkFlush(b *testing.B) {
	k := makeQueue(b, livetest.NewRedis(b).URL(), again(time.Hour))
	set := templates(b, "a", "owner:{id}:actions", "b", "action:{id}")
	targets := append(ids(set, "a", 0, 100_000), ids(set, "b", 0, 100_000)...)
	b.ReportAllocs()
	for b.Loop() {
		k.Add(targets...)
		if err := k.only.flush(context.Background()); err != nil {
			b.Fatal(err)
		}
		k.pending.delayed = nil
	}
	b.ReportMetric(float64(b.N*len(targets))/b.Elapsed().Seconds(), "keys/s")
}

// BenchmarkMatcher looks at one key: 100 patterns against one.
func BenchmarkMatcher(b *testing.B) {
	set := templates(b, "p", "owner:{id}:*:list")
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("owner:%d:actions:list", i)
	}
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			targets := map[rules.Target]time.Duration{}
			for _, t := range ids(set, "p", 0, n) {
				targets[t] = 1
			}
			m := newMatcher(targets)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.match(keys[i%len(keys)])
			}
		})
	}
}
