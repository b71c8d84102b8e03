package invalidate

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// claim is a member that was taken out of a set: an entry of the set beside. It lasts in Redis until it is released, so the
// member need not be remembered here: it can always be found again by reading the tag.
type claim struct{ beside, entry string }

// claimed is a claim of which the member waits to be deleted.
type claimed struct {
	claim
	tag *rules.Target // the set that named it
}

// member is the key to be deleted.
func (c claimed) member() rules.Target { return c.tag.AsKey(memberOf(c.entry)) }

const (
	// leastRoom is how many members may wait for a server however few targets may wait in all.
	leastRoom = 16 * membersPerStep
	// membersPerBatch is how many are deleted before the claims on them are released.
	membersPerBatch = 16 * membersPerStep
	// stuckAfter is how long a server may take for one batch until nobody waits for it to have room.
	stuckAfter = 250 * time.Millisecond
)

// errUnread says that a member is a set that has not been read to its end.
var errUnread = errors.New("it is a set of which not all has been read")

// deleteMembers deletes members that were taken out of sets. They are targets of the server that has them, so that one that
// hangs holds up its own and not the sets that name them. A member that is a tag's set itself is read as that.
func (s *shard) deleteMembers(ctx context.Context) error {
	b := s.q.pending.take(s.lane, members)
	keys := map[rules.Target]time.Duration{}
	var sets []*tagReading
	for _, c := range b.claims {
		t := c.member()
		switch {
		case strings.HasPrefix(t.Key, rules.Own): // an application has no business with those
		case s.q.tags.matches(t.Key):
			sets = append(sets, s.newReading(t, t.AsTag(t.Key)))
		default:
			keys[t] = 0
		}
	}
	refused := map[rules.Target]error{}
	err := s.readTags(ctx, b, sets)
	if err == nil {
		for _, r := range sets {
			switch {
			case r.err != nil:
				refused[r.target] = r.err
			case r.full || !r.read():
				refused[r.target] = errUnread
			case r.noSet:
				keys[r.target] = 0
			}
		}
		var denied map[rules.Target]error
		denied, err = s.deleteTargets(ctx, keys, func(redis.Pipeliner, bool) {})
		maps.Copy(refused, s.deleteEach(ctx, denied))
	}
	if err != nil {
		s.q.pending.putBack(b)
		return err
	}
	for _, err := range refused {
		if !errors.Is(err, errUnread) {
			s.failed(err)
			break
		}
	}
	s.q.pending.doneMembers(b, refused)
	return nil
}

// deleteEach deletes each of the members apart that Redis refused together: unlike the keys of a template one may be allowed,
// and another not.
func (s *shard) deleteEach(ctx context.Context, denied map[rules.Target]error) map[rules.Target]error {
	var ops []op
	for t, err := range denied {
		if redisnode.IsDenied(err) {
			ops = append(ops, s.cluster.deletionOf(ctx, t.Key, t)...)
			delete(denied, t)
		}
	}
	maps.Copy(denied, s.cluster.deleteAll(ctx, ops))
	return denied
}

// releaseClaims releases claims on members that are gone.
func (s *shard) releaseClaims(ctx context.Context) error {
	if !s.q.pending.anyReleases(s.lane) {
		return nil
	}
	// A server that has gone back in time may have the members again, and is known to have by a new connection: so there is one
	// before it is asked which are to be released, and no other after that.
	conn := s.rdb.Conn()
	defer func() { _ = conn.Close() }() // it goes back to the others
	if err := conn.Ping(ctx).Err(); err != nil && !redisnode.IsReply(err) {
		return err
	}
	gone, doubts := s.q.pending.takeReleases(s.lane)
	entries := map[string][]any{}
	for _, c := range gone {
		entries[c.beside] = append(entries[c.beside], c.entry)
	}
	var ops []op
	for beside, all := range entries {
		for len(all) > 0 {
			n := min(len(all), membersPerStep)
			ops = append(ops, op{key: beside, cmd: redis.NewIntCmd(ctx, append([]any{"srem", beside}, all[:n]...)...)})
			all = all[n:]
		}
	}
	pipe(ctx, conn, ops, false)
	var moved []op
	for _, o := range ops {
		switch err := o.cmd.Err(); {
		case err == nil:
		case redisnode.Redirected(err):
			moved = append(moved, o)
		case !redisnode.IsReply(err):
			s.q.pending.endReleases(s.lane, nil, gone, doubts)
			return err
		default: // whoever reads the tag next deletes the member once more
			s.failed(err)
		}
	}
	s.cluster.do(ctx, moved) // a claim that is not released now costs one more delete, and nothing else
	s.q.pending.endReleases(s.lane, gone, nil, doubts)
	return nil
}

// claim has members wait to be deleted that were taken out of a set for a batch. It reports whether all fit: of those that
// do not, the claims are in Redis, and the tag is to be read again.
func (p *pending) claim(b batch, set rules.Target, claims []claim) (fits bool) {
	if len(claims) == 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		return false
	}
	from, room, fits := b.waiting(), p.roomLocked(), true
	for _, c := range claims {
		if at, known := p.claims[c]; known {
			at.holdMembers(&from.flying.mark)
			continue
		}
		l := p.routes.lanes[0]
		if p.routes.owners != nil {
			l = p.routes.laneOf(redisnode.SlotOf(memberOf(c.entry)))
		}
		if l.claiming >= room {
			fits = false
			continue
		}
		if l.claiming == 0 {
			l.landed = time.Now()
		}
		l.claiming++
		p.claims[c] = l
		l.claims = append(l.claims, claimed{c, &set})
		w := &l.groups[members]
		w.oldest.lower(&from.flying.mark)
		w.sweep = w.sweep || from.sweeping
		w.signal()
	}
	return fits
}

// holdMembers holds back a mark until the members are gone that wait or are in flight, one of which is due before it.
func (l *lane) holdMembers(m *Mark) {
	if l == nil {
		return // it is gone, and its claim about to be released
	}
	w := &l.groups[members]
	if len(l.claims) > 0 {
		w.oldest.lower(m)
	}
	if w.inFlight > 0 {
		w.flying.lower(m)
	}
}

// roomLocked is how many members may wait for each server.
func (p *pending) roomLocked() int { return max(p.limit/len(p.routes.lanes), leastRoom) }

// awaitRoom waits while a server that takes members has as many of them as may wait. One that takes none holds nobody up.
func (p *pending) awaitRoom(ctx context.Context) {
	full := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, l := range p.routes.lanes {
			if l.claiming >= p.roomLocked() && time.Since(l.landed) < stuckAfter {
				return true
			}
		}
		return false
	}
	for full() {
		if rest(ctx, stuckAfter/50) != nil {
			return
		}
	}
}

// doneMembers takes note that the members of a batch are gone, but for those that were refused, and all if a server may have
// gone back in time meanwhile: their tags are read again after a while, and then wherever the members are.
func (p *pending) doneMembers(b batch, refused map[rules.Target]error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	again := map[rules.Target]time.Duration{}
	for _, c := range b.claims {
		if b.doubts != p.doubts || len(refused) > 0 && refused[c.member()] != nil {
			again[*c.tag] = max(time.Since(p.started), 1) // since when it has waited before is not known any more
			delete(p.claims, c.claim)
			continue
		}
		p.releaseLocked(c.claim)
		p.applied++
	}
	b.lane.claiming -= len(b.claims)
	b.lane.landed = time.Now()
	p.delayLocked(nil, tags, again, retryAfter, b.waiting().flying)
	p.landLocked(b)
}

// releaseLocked has a claim released by the server that has it.
func (p *pending) releaseLocked(c claim) {
	l := p.routes.lanes[0]
	if p.routes.owners != nil {
		l = p.routes.laneOf(redisnode.SlotOf(c.beside))
	}
	p.claims[c] = nil
	l.releases = append(l.releases, c)
	l.groups[tags].signal()
}

// giveUpClaimsLocked has the tags of members read again instead of the members remembered.
func (p *pending) giveUpClaimsLocked(l *lane, claims []claimed, m Mark) {
	again, now := map[rules.Target]bool{}, max(time.Since(p.started), 1)
	for _, c := range claims {
		again[*c.tag] = true
		delete(p.claims, c.claim)
	}
	l.claiming -= len(claims)
	for t := range again {
		p.routeLocked(t, now, &m)
	}
}

// anyReleases reports whether claims are to be released by the server of a lane.
func (p *pending) anyReleases(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(l.releases) > 0
}

// takeReleases takes the claims that are to be released by the server of a lane, and returns how often a server may have gone
// back in time before.
func (p *pending) takeReleases(l *lane) (all []claim, doubts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all = l.releases
	l.releases, l.releasing = nil, len(all)
	return all, p.doubts
}

// endReleases takes note of what became of them.
func (p *pending) endReleases(l *lane, released, back []claim, doubts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.releasing = 0
	if doubts != p.doubts { // they have been forgotten
		return
	}
	for _, c := range released {
		delete(p.claims, c)
	}
	for _, c := range back {
		p.releaseLocked(c)
	}
}

// doubt says that a server may have gone back in time, to when members that are gone were there: the claims on those are not
// released, so that they are found by whoever reads the tags.
func (p *pending) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubts++
	for _, l := range p.routes.lanes {
		l.releases = nil
	}
	maps.DeleteFunc(p.claims, func(_ claim, at *lane) bool { return at == nil })
}

// setAside has a set be read again, at once or after a while, for a batch of which that is then no part any more.
func (p *pending) setAside(b batch, of, set rules.Target, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, added := b.waiting(), b.targets[of]
	if of == set {
		delete(b.targets, of)
	}
	if after > 0 {
		p.delayLocked(nil, p.groupOf(set), map[rules.Target]time.Duration{set: added}, after, w.flying)
		return
	}
	p.routeLocked(set, added, &w.flying.mark)
	if w.sweeping && p.held == nil {
		for _, l := range p.routes.lanesFor(set) {
			l.groups[tags].sweep = true
		}
	}
}
