package invalidate

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// A lease goes before its key, or a refresh could set the key between the two.
func TestLeaseGoesBeforeItsKey(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), reads(newLibrary(1)))
	set := refreshed(t, "")
	k.set("r:1", "r:2")
	lines := monitor(t, r.Addr)
	k.Add(of(set, "d", image{"id": "1"})...)
	k.run().idle()
	k.Sweep(set.Sweep()...)
	k.idle()
	var order []string
	for len(order) < 4 && lines.Scan() {
		for _, key := range []string{"r:1", "r:2"} {
			if line := strings.ToLower(lines.Text()); strings.Contains(line, `"unlink"`) && strings.Contains(line, key+`"`) {
				order = append(order, map[bool]string{true: "lease", false: "key"}[strings.Contains(line, leasePrefix)]+" of "+key)
			}
		}
	}
	if got := fmt.Sprint(order); got != "[lease of r:1 key of r:1 lease of r:2 key of r:2]" {
		t.Error(got)
	}
}

// While a slot is moving, its lease may be on one server and its key on the other.
func TestLeaseInASlotThatMoves(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c, reads(newLibrary(1)))
	k.run()
	k.canary(1)
	set := refreshed(t, "")
	slot := livetest.Slot("r:1")
	from, to := c.Nodes[slot*3/redisnode.Slots], c.Nodes[(slot*3/redisnode.Slots+1)%3]
	lease := k.cluster.companionKey(leasePrefix, "r:1")
	k.fill("r:1", lease)
	if err := c.StartMove(slot, to); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(to.Addr)
	if err := k.onNode(from).Do(t.Context(), "MIGRATE", host, port, lease, 0, 5000).Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(of(set, "d", image{"id": "1"})...)
	k.idle()
	for _, r := range []*livetest.Redis{from, to} {
		if keys := k.onNode(r).Keys(t.Context(), "*r:1").Val(); len(keys) != 0 {
			t.Errorf("left: %v", keys)
		}
	}
}

// What does not fit beside the others is asked for again.
func TestRefreshesOfWhichFewFit(t *testing.T) {
	t.Parallel()
	const fit = 7
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t).URL(), func(o *Options) {
		o.Read = func(ctx context.Context, targets []rules.Target) []Value {
			values := l.read(ctx, targets[:min(fit, len(targets))])
			for range len(targets) - len(values) {
				values = append(values, Value{Unread: true})
			}
			return values
		}
	})
	for i := range 100 {
		l.set(fmt.Sprint(i), fmt.Sprint("new ", i))
	}
	k.set(numbered("r:%d", 100)...)
	k.Add(ids(refreshed(t, ""), "r", 0, 100)...)
	k.run().idle()
	for i := range 100 {
		if got, want := k.value(fmt.Sprintf("r:%d", i)), fmt.Sprint("new ", i); got != want {
			t.Fatalf("r:%d is %q", i, got)
		}
	}
	if n := l.reads.Load(); n != 100 {
		t.Errorf("%d reads", n)
	}
}
