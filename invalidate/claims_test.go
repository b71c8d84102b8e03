package invalidate

import (
	"context"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// A large set is read in many steps, and readers fill its members again meanwhile: what is taken once more is deleted once more.
func TestMemberFilledAgainWhileItsTagIsRead(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k, next := makeQueue(t, r.URL()), makeQueue(t, r.URL())
	tag := of(parseRules(t, tagRules), "t", image{"id": "1"})
	members := numbered("view:%d", membersPerStep*3/2)
	k.tagged("tag:1", members...)
	k.Add(tag...)
	b := k.pending.take(k.only.lane, tags)
	reading := k.only.newReading(tag[0], tag[0])
	for !reading.read() {
		if err := k.only.readStep(t.Context(), []*tagReading{reading}); err != nil {
			t.Fatal(err)
		}
		k.only.handOver(b, reading)
		if err := k.only.deleteMembers(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reading.steps == 1 {
			left := k.keys()
			if len(left) > len(members) {
				t.Fatal("nothing was deleted: this shows nothing")
			}
			for _, m := range members {
				if !left[m] {
					k.tagged("tag:1", m)
				}
			}
		}
	}
	if err := k.only.finish(b, nil, retryAfter); err != nil {
		t.Fatal(err)
	}
	if err := k.only.dropTags(t.Context()); err != nil { // which releases the claims
		t.Fatal(err)
	}
	next.Add(tag...)
	next.run().idle()
	if left := next.keys(); len(left) != 0 {
		t.Errorf("%d left", len(left))
	}
}

// A stop takes as many turns as a large tag needs.
func TestDrainReadsALargeTagToItsEnd(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL())
	k.tagged("tag:1", numbered("view:%d", 5*stepsPerTurn*membersPerStep)...)
	k.Add(of(parseRules(t, tagRules), "t", image{"id": "1"})...)
	if err := k.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if left := k.keys(); len(left) != 0 {
		t.Errorf("%d left", len(left))
	}
}

// A tag that is read again since its members were given up is not said to have waited since the start.
func TestTagThatIsReadAgainSaysHowLongItWaited(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL())
	k.pending.started = time.Now().Add(-time.Hour)
	k.tagged("tag:1", "view:1")
	k.Add(of(parseRules(t, tagRules), "t", image{"id": "1"})...)
	if err := k.only.dropTags(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.Hold()
	k.Release()
	k.run().idle()
	k.seen.with(func() {
		if k.seen.applied != 2 || k.seen.waited > time.Minute {
			t.Errorf("%d applied, one after %v", k.seen.applied, k.seen.waited)
		}
	})
}

// A key that a pattern matches goes, being none of a tag's sets, even if there is no room for claims that a set of its name has
// left behind.
func TestKeyBesideClaimsWithoutRoom(t *testing.T) {
	t.Parallel()
	set := parseRules(t, "rules: [{table: t, keys: ['user:{id}:*']}, {table: other, tags: ['user:{id}:views']}]")
	k := makeQueue(t, livetest.NewRedis(t).URL(), knowing(set))
	k.set("user:1:views")
	k.tagged(k.cluster.companionKey(movedPrefix, "user:1:views"), "view:1")
	k.pending.routes.lanes[0].claiming = 2 * k.pending.limit // of a server that hangs
	k.Add(of(set, "t", image{"id": "1"})...)
	if err := k.only.walkOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.exists("user:1:views") {
		t.Error("it is there")
	}
	if k.Stats().Pending == 0 {
		t.Error("and nobody reads the claims")
	}
}

// Redis goes back to when a member had been taken and was not deleted yet: that it has been since is not known of it any more.
func TestClaimInARedisThatWentBack(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	set := parseRules(t, tagRules)
	k := makeQueue(t, r.URL(), timeout(time.Second))
	k.tagged("tag:1", "view:1")
	k.Add(of(set, "t", image{"id": "1"})...)
	for _, step := range []func() error{
		func() error { return k.only.dropTags(t.Context()) },
		func() error { k.save(); return nil },
		func() error { return k.only.deleteMembers(t.Context()) },
		r.Kill,
		func() error { return r.Start() },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if !k.exists("view:1") {
		t.Fatal("it did not go back")
	}
	k.run()
	livetest.Eventually(t, soon, "a gap", func() bool { return k.seen.gapsOf(GapRestart) > 0 })
	k.Sweep(set.Sweep()...)
	k.idle()
	if left := k.keys(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
