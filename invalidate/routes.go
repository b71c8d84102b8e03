package invalidate

import (
	"maps"
	"slices"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// routes are the lanes of the servers that take writes, at least one, and who of them has which slot.
type routes struct {
	lanes  []*lane
	owners *[redisnode.Slots]*lane // in a Cluster, once it is known
}

// laneOf returns the lane of the server of a slot; of one that nobody serves, any, which will say so.
func (r *routes) laneOf(slot int) *lane {
	if r.owners != nil && r.owners[slot] != nil {
		return r.owners[slot]
	}
	return r.lanes[0]
}

// lanesFor returns the lanes where a target is to be applied.
func (r *routes) lanesFor(t rules.Target) []*lane {
	if t.Kind != rules.Pattern && t.Kind != rules.TagPattern {
		return []*lane{r.laneOf(redisnode.SlotOf(t.Key))}
	}
	if slot, ok := redisnode.PinnedSlot(t.Key); ok {
		return []*lane{r.laneOf(slot)}
	}
	return r.lanes
}

// reroute makes a lane for each new master, and has those of servers that are masters no more give what waits there to the
// others. It returns the lanes that came, and those that went.
func (p *pending) reroute(masters map[string]*redisnode.Master) (came, went []*lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := map[string]*lane{}
	for _, l := range p.routes.lanes {
		before[l.addr] = l
	}
	p.routes.owners = new([redisnode.Slots]*lane)
	p.routes.lanes = nil
	moved := false
	for _, addr := range slices.Sorted(maps.Keys(masters)) {
		l := before[addr]
		if l == nil {
			l = newLane(addr)
			if !p.mark.Sent.IsZero() {
				l.markDue = true
			}
			came = append(came, l)
		}
		delete(before, addr)
		if l.slots != masters[addr].Slots {
			moved = true
			l.slots = masters[addr].Slots
			l.changes++
		}
		for slot := range redisnode.Slots {
			if l.slots.Has(slot) {
				p.routes.owners[slot] = l
			}
		}
		p.routes.lanes = append(p.routes.lanes, l)
	}
	for _, l := range before {
		went = append(went, l)
		p.retireLocked(l)
	}
	for _, d := range p.delayed {
		if moved && d.group == patterns { // of which keys may be elsewhere now
			d.lane = nil
		}
	}
	for _, l := range came {
		l.groups[exact].signal()
	}
	return came, went
}

// retireLocked has a lane give what waits there to the others. What is in flight from it goes to them when it is put back.
func (p *pending) retireLocked(l *lane) {
	l.retired = true
	p.retiring = append(p.retiring, l)
	claims, releases, held := l.claims, l.releases, l.groups[members].oldest.mark
	l.claims, l.releases = nil, nil
	for g := range l.groups {
		w := &l.groups[g]
		if w.sweep {
			for _, other := range p.routes.lanes {
				other.groups[g].sweep = true
				other.groups[g].signal()
			}
		}
		targets, held := w.targets, w.oldest.mark
		w.targets, w.oldest, w.sweep = nil, watermark{}, false
		for t, added := range targets {
			p.routeLocked(t, added, &held)
		}
	}
	p.giveUpClaimsLocked(l, claims, held)
	for _, c := range releases {
		p.releaseLocked(c)
	}
	p.forgetRetiredLocked()
}

// forgetRetiredLocked forgets the retiring lanes from which nothing is in flight any more.
func (p *pending) forgetRetiredLocked() {
	if len(p.retiring) == 0 {
		return
	}
	p.retiring = slices.DeleteFunc(p.retiring, func(l *lane) bool {
		return !slices.ContainsFunc(l.groups[:], func(w waiting) bool { return w.inFlight > 0 })
	})
}

// laneOf returns the lane of the server of a slot.
func (p *pending) laneOf(slot int) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.routes.laneOf(slot)
}

// setOwner takes note of the server to which a slot was said to belong.
func (p *pending) setOwner(slot int, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes.owners == nil {
		return
	}
	for _, l := range p.routes.lanes {
		if l.addr == addr {
			p.routes.owners[slot] = l
		}
	}
}

// ownedBy reports whether a slot is of a lane's server, as all are where there is no Cluster.
func (p *pending) ownedBy(l *lane, slot int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.routes.owners == nil || p.routes.owners[slot] == l
}

// aSlotOf returns a slot of a lane's server. It is not ok if there is none, or no Cluster.
func (p *pending) aSlotOf(l *lane) (slot int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes.owners == nil {
		return 0, false
	}
	for slot, owner := range p.routes.owners {
		if owner == l {
			return slot, true
		}
	}
	return 0, false
}
