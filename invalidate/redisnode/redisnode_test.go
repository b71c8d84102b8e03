package redisnode

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "a", "a:{1}:b", "{}a", "a{", "a{b", "{a}{b}", "{{a}}"} {
		if got, want := SlotOf(key), livetest.Slot(key); got != want {
			t.Errorf("%q is in slot %d, not %d", key, got, want)
		}
	}
	for slot := range Slots {
		if got := SlotOf("x{" + SlotTag(slot) + "}y"); got != slot {
			t.Errorf("the tag of slot %d is in slot %d", slot, got)
		}
	}
	for pattern, want := range map[string]string{"{a}:*": "{a}:b", `{a\*}*`: "{a*}", "{a*}": "", "a*{b}": "", "a:*": ""} {
		slot, ok := PinnedSlot(pattern)
		if ok != (want != "") || ok && slot != livetest.Slot(want) {
			t.Errorf("%q is pinned to %d, %v", pattern, slot, ok)
		}
	}
}

func TestReadSlots(t *testing.T) {
	t.Parallel()
	nodes := func(addrs ...string) (all []redis.ClusterNode) {
		for _, addr := range addrs {
			all = append(all, redis.ClusterNode{Addr: addr})
		}
		return all
	}
	got := ReadSlots([]redis.ClusterSlot{
		{Start: 5, End: 9, Nodes: nodes(":1", "r:1")},
		{Start: 20, End: 20, Nodes: nodes("?:1", "r:1")},
		{Start: 0, End: 4, Nodes: nodes("b:1")},
		{Start: 30, End: 40},
	}, "a:7")
	if addrs := slices.Sorted(slices.Values(got.Nodes())); !slices.Equal(addrs, []string{"a:1", "b:1", "r:1"}) {
		t.Fatalf("nodes %v", addrs)
	}
	a, b := got.Masters["a:1"], got.Masters["b:1"]
	if a.Slots.First() != 5 || b.Slots.First() != 0 || !a.Slots.Has(20) || a.Slots.Has(4) || a.Slots.Has(10) || b.Slots.Has(30) {
		t.Error("slots are not whose they were said to be")
	}
}

func TestReadMyself(t *testing.T) {
	t.Parallel()
	const other = "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected\n"
	const me = "e7d1 127.0.0.1:30001@31001 myself,master - 0 0 1 connected"
	for _, test := range []struct {
		nodes  string
		want   []int
		moving []string
		fails  bool
	}{
		{nodes: other + me + " 0-2 7\n", want: []int{0, 1, 2, 7}},
		{nodes: me, want: nil},
		{nodes: me + " 3 [12-<-67ed] [3->-292f]", want: []int{3}, moving: []string{"12", "3"}},
		{nodes: other, fails: true},
		{nodes: me + " 0-16384", fails: true},
		{nodes: me + " x", fails: true},
	} {
		var want SlotSet
		for _, slot := range test.want {
			want.Add(slot)
		}
		got, moving, err := ReadMyself(test.nodes)
		if (err != nil) != test.fails || err == nil && got != want || !slices.Equal(moving, test.moving) {
			t.Error(fmt.Sprintf("%q:", test.nodes), moving, err)
		}
	}
}

// A sentinel of Valkey is one, too: taken for a server, it would be another process on each connection.
func TestMode(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]string{
		"# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\n":                                               "sentinel",
		"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\nserver_mode:sentinel\r\n": "sentinel",
		"# Server\r\nredis_version:7.2.4\r\nserver_mode:standalone\r\n":                                             "standalone",
		"": "",
	} {
		if got := Mode(info); got != want {
			t.Errorf("%q is a %q, not a %q", info, got, want)
		}
	}
}

// reply is an error as a server answers it.
type reply string

func (r reply) Error() string { return string(r) }
func (r reply) RedisError()   {}

// A user who may not do something is told so in other words within a script, by Redis 7.0 behind ERR.
func TestErrorKindOfWhatIsDenied(t *testing.T) {
	t.Parallel()
	for _, text := range []reply{
		"NOPERM this user has no permissions to run the 'srandmember' command",
		"ERR The user executing the script can't run this command or subcommand",
		"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
	} {
		if kind := ErrorKind(text); kind != "noperm" {
			t.Errorf("%s: %s", text, kind)
		}
	}
}
