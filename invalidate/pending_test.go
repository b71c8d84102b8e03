package invalidate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// model is what a pending set must come to, kept in the plainest way: every addition that has not been applied.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	set    *rules.Set
	p      *pending
	duties []duty
	next   int // number of the next duty
	flying map[*waiting]flight
	marks  int
	heard  map[string]int // while it is held: of each canary since, the number of the next duty then
	recent []rules.Target
}

// duty is one addition of a target: on the server that has its slot, or one of its slots if it is a pattern.
type duty struct {
	number int
	target rules.Target
	slot   int
	mark   Mark
	claim  claim // of a member that was taken out of the target, which is a tag; else empty
}

// flight is a batch that was taken, and which duties had been added by then.
type flight struct {
	batch
	before int
}

// Whatever happens to targets, in whichever order: each that has not been applied is in a place that covers it and that holds
// back the mark at which it was added; and when all has been applied, nothing waits and nothing is held back.
func TestPendingStates(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				for range 400 {
					m.step()
					m.check()
				}
				m.finishAll()
			})
		})
	}
}

type silent struct{}

func (silent) Applied(rules.Target, time.Duration) {}
func (silent) Evicted(rules.Target, int64)         {}
func (silent) Widened(rules.Target, int)           {}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 7)), flying: map[*waiting]flight{}, heard: map[string]int{}}
	m.set = parseRules(t, `rules:
  - {name: a, table: a, keys: ['a:{id}', 'b:{{{id}}}:x']}
  - {name: p, table: a, keys: ['p:{id}:*', 'q:{{{id}}}:*'], tags: ['tag:{id}']}
  - {name: f, table: a, fields: [{key: 'h:{id}', field: '{name}'}]}
`)
	o := Options{MaxPending: 5 + int(seed%4)*20, Observer: silent{}, Sweeping: func() {}, Swept: func() {}}
	if seed%2 == 0 {
		o.AgainAfter = time.Second
	}
	m.p = newPending(&o)
	m.sendMark()
	return m
}

func (m *model) step() {
	lanes := slices.Collect(m.p.everyLane)
	w := &lanes[m.rng.IntN(len(lanes))].groups[m.rng.IntN(int(groups))]
	switch n := m.rng.IntN(100); {
	case n < 40:
		m.add()
	case n < 50:
		m.sendMark()
	case n < 70:
		m.take(lanes[m.rng.IntN(len(lanes))], group(m.rng.IntN(int(groups))))
	case n < 74:
		m.takeOut()
	case n < 80:
		m.land(w, m.apply)
	case n < 84:
		m.land(w, func(f flight) { m.p.putBack(f.batch) })
	case n < 86:
		m.land(w, func(f flight) {
			if f.group == members {
				m.p.putBack(f.batch)
			} else {
				m.p.postpone(f.batch, time.Second)
			}
		})
	case n < 87:
		m.release(lanes[m.rng.IntN(len(lanes))])
	case n < 92:
		time.Sleep(time.Duration(m.rng.IntN(1500)) * time.Millisecond)
		synctest.Wait()
	case n < 95:
		m.reroute()
	case n < 96:
		m.p.hold()
	case n < 98:
		m.forget()
	case n < 99:
		m.p.release()
		clear(m.heard)
	case n < 100:
		m.p.doubt()
	}
}

func (m *model) sendMark() {
	m.marks++
	mark := Mark{Position: uint64(m.marks), Sent: time.Unix(int64(m.marks), 0), Canary: fmt.Sprint(m.marks)}
	m.p.setMark(mark)
	if m.p.held != nil {
		m.heard[mark.Canary] = m.next
	}
}

func (m *model) add() {
	row := image{"id": fmt.Sprint(m.rng.IntN(30)), "name": fmt.Sprint(m.rng.IntN(3))}
	if m.rng.IntN(5) == 0 {
		delete(row, "id")
	}
	targets := of(m.set, "a", row)
	i := m.rng.IntN(len(targets))
	targets = targets[i : i+1]
	if len(m.recent) > 0 && m.rng.IntN(4) == 0 { // one that may be anywhere by now
		targets = []rules.Target{m.recent[m.rng.IntN(len(m.recent))]}
	}
	if m.rng.IntN(20) == 0 {
		targets = m.set.Sweep()
		m.p.sweep(targets)
	} else {
		m.p.add(targets)
	}
	m.recent = append(m.recent, targets...)
	m.recent = m.recent[max(0, len(m.recent)-20):]
	for _, t := range targets {
		for _, slot := range slotsOf(t) {
			m.duties = append(m.duties, duty{number: m.next, target: t, slot: slot, mark: m.p.mark})
		}
		m.next++
	}
}

// slotsOf returns the slots in which a target is to be applied; for a pattern that may match keys in all, one of each third.
func slotsOf(t rules.Target) []int {
	if !isPattern(t) {
		return []int{redisnode.SlotOf(t.Key)}
	}
	if slot, ok := redisnode.PinnedSlot(t.Key); ok {
		return []int{slot}
	}
	return []int{1, redisnode.Slots / 2, redisnode.Slots - 1}
}

func isPattern(t rules.Target) bool { return t.Kind == rules.Pattern || t.Kind == rules.TagPattern }

func (m *model) take(l *lane, g group) {
	w := &l.groups[g]
	if _, ok := m.flying[w]; !ok { // one at a time
		m.flying[w] = flight{m.p.take(l, g), m.next}
	}
}

func (m *model) land(w *waiting, how func(flight)) {
	if f, ok := m.flying[w]; ok {
		delete(m.flying, w)
		how(f)
	}
}

// takeOut takes a member out of a set that is being read; it may name one of another server, or the same as before.
func (m *model) takeOut() {
	for _, f := range m.flying {
		for t := range f.targets {
			if f.group != tags || t.Kind != rules.Tag {
				break
			}
			c := claim{"pgevict:tag:" + t.Key, fmt.Sprint("m:", m.rng.IntN(20))}
			_, known := m.p.claims[c]
			if m.p.claim(f.batch, t, []claim{c}) && !known {
				m.duties = append(m.duties, duty{m.next, t, redisnode.SlotOf(c.entry), f.waiting().flying.mark, c})
				m.next++
			}
			return
		}
	}
}

// apply has Redis take a batch, or most of it. A walk that finds other slots than before has not been one, and the connections
// of a server that is no master are closed.
func (m *model) apply(f flight) {
	switch {
	case f.lane.retired:
		m.p.putBack(f.batch)
		return
	case f.group == patterns && m.p.moved(f.batch):
		m.p.postpone(f.batch, time.Second)
		return
	}
	refused := map[rules.Target]error{}
	refuse := func(t rules.Target) {
		if m.rng.IntN(4) == 0 {
			refused[t] = errors.New("no")
		}
	}
	if f.group == members {
		gone := map[claim]bool{}
		for _, c := range f.claims {
			refuse(c.member())
			gone[c.claim] = refused[c.member()] == nil
		}
		for _, c := range f.claims { // one that was refused is so for all that named it
			gone[c.claim] = refused[c.member()] == nil && f.doubts == m.p.doubts
		}
		m.duties = slices.DeleteFunc(m.duties, func(d duty) bool { return gone[d.claim] })
		m.p.doneMembers(f.batch, refused)
		return
	}
	for t := range f.targets {
		refuse(t)
	}
	m.readClaims(f, refused)
	m.fulfil(f, refused)
	m.p.done(f.batch, refused, time.Second)
}

// readClaims has those who read a tag find the claims that there are, those as well of which the members wait already.
func (m *model) readClaims(f flight, refused map[rules.Target]error) {
	for _, d := range m.duties {
		if d.claim == (claim{}) {
			continue
		}
		for _, t := range []rules.Target{d.target, d.target.Widen()} {
			_, there := f.targets[t]
			if there && refused[t] == nil && (!isPattern(t) || m.p.routes.owners == nil || f.slots.Has(redisnode.SlotOf(d.target.Key))) &&
				!m.p.claim(f.batch, d.target, []claim{d.claim}) {
				refused[t] = errUnread
			}
		}
	}
}

// release has Redis release the claims on members that are gone, or not answer.
func (m *model) release(l *lane) {
	all, doubts := m.p.takeReleases(l)
	n := m.rng.IntN(len(all) + 1)
	m.p.endReleases(l, all[:n], all[n:], doubts)
}

func (m *model) fulfil(f flight, refused map[rules.Target]error) {
	m.duties = slices.DeleteFunc(m.duties, func(d duty) bool {
		if d.number >= f.before || d.claim != (claim{}) {
			return false
		}
		for _, t := range []rules.Target{d.target, d.target.Widen()} {
			_, there := f.targets[t]
			_, no := refused[t]
			if there && !no && (!isPattern(t) || m.p.routes.owners == nil || f.slots.Has(d.slot)) {
				return true
			}
		}
		return false
	})
}

// reroute gives each third of the slots to one of three servers.
func (m *model) reroute() {
	masters := map[string]*redisnode.Master{}
	for third := range 3 {
		addr := fmt.Sprint("server ", m.rng.IntN(3))
		if masters[addr] == nil {
			masters[addr] = &redisnode.Master{}
		}
		for slot := range redisnode.Slots {
			if slot*3/redisnode.Slots == third {
				masters[addr].Slots.Add(slot)
			}
		}
	}
	m.p.reroute(masters)
}

// forget says that somebody else has applied what came before one of the canaries.
func (m *model) forget() {
	for canary, before := range m.heard {
		m.p.forget(canary)
		m.duties = slices.DeleteFunc(m.duties, func(d duty) bool { return d.number < before })
		return
	}
}

func (m *model) check() {
	m.t.Helper()
	oldest := m.p.mark
	for _, d := range m.duties {
		if !m.covered(d) {
			m.t.Fatalf("%s %s, slot %d, added at mark %d: no place holds it", d.target.Kind, d.target.Key, d.slot, d.mark.Position)
		}
		if d.mark.Sent.Before(oldest.Sent) {
			oldest = d.mark
		}
	}
	for _, l := range m.p.routes.lanes {
		if through, _ := m.p.through(l, true); through.Sent.After(oldest.Sent) {
			m.t.Fatalf("through mark %d, and what came at %d is not applied", through.Position, oldest.Position)
		}
	}
}

// covered reports whether a duty is somewhere, as itself or as a wider target, and holds its mark back there.
func (m *model) covered(d duty) bool {
	in := func(targets map[rules.Target]time.Duration, held watermark, reaches func(rules.Target) bool) bool {
		if !held.ok || held.mark.Sent.After(d.mark.Sent) {
			return false
		}
		for _, t := range []rules.Target{d.target, d.target.Widen()} {
			if added, ok := targets[t]; ok && added != 0 && reaches(t) {
				return true
			}
		}
		return false
	}
	everywhere := func(rules.Target) bool { return true }
	slot := d.slot
	if d.claim != (claim{}) {
		slot = redisnode.SlotOf(d.target.Key) // where the tag is read again
	}
	for l := range m.p.everyLane {
		for g := range l.groups {
			w := &l.groups[g]
			// An exact target is followed to whoever has its slot; so is a pattern once its walk finds other slots.
			waits := func(t rules.Target) bool {
				return !isPattern(t) || m.p.routes.owners == nil || l.slots.Has(slot) || l.patternsAt != l.changes
			}
			flies := func(t rules.Target) bool {
				return !isPattern(t) || m.p.routes.owners == nil || l.slots.Has(slot) || l.retired || m.flying[w].patternsAt != l.changes
			}
			holds := func(claims []claimed, held watermark) bool {
				return held.ok && !held.mark.Sent.After(d.mark.Sent) &&
					slices.ContainsFunc(claims, func(c claimed) bool { return c.claim == d.claim })
			}
			if group(g) == members && (holds(l.claims, w.oldest) || holds(m.flying[w].claims, w.flying)) {
				return true
			}
			if in(w.targets, w.oldest, waits) || in(m.flying[w].targets, w.flying, flies) && d.number < m.flying[w].before {
				return true
			}
		}
	}
	for _, delayed := range m.p.delayed {
		if in(delayed.targets, delayed.held, everywhere) {
			return true
		}
	}
	for _, g := range m.p.held {
		if in(g.targets, g.oldest, everywhere) {
			return true
		}
	}
	return false
}

// finishAll has Redis take all that is left.
func (m *model) finishAll() {
	m.t.Helper()
	m.p.release()
	m.rng = rand.New(yes{})
	for range 20 {
		for _, l := range slices.Collect(m.p.everyLane) {
			for g := range groups {
				m.take(l, g)
				m.land(&l.groups[g], m.apply)
			}
			m.release(l)
		}
		m.check()
		time.Sleep(10 * time.Second)
		synctest.Wait()
	}
	if waiting, second := m.p.count(); waiting+second+len(m.duties) != 0 {
		m.t.Fatalf("%d wait, %d for their second delete, %d were never applied", waiting, second, len(m.duties))
	}
	if through, latest := m.p.through(m.p.routes.lanes[0], true); through != latest {
		m.t.Fatalf("all is applied, and mark %d of %d is held back", through.Position, latest.Position)
	}
}

// yes is a source of numbers that are not 0, so that nothing is refused.
type yes struct{}

func (yes) Uint64() uint64 { return 1<<64 - 1 }
