package redisnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Topology is who serves which slots of a Cluster, as one of its servers sees it.
type Topology struct {
	Masters map[string]*Master // by address
	Epoch   uint64             // of the Cluster's configuration; the higher it is, the newer
}

// Master is a server that takes writes.
type Master struct {
	Slots    SlotSet
	Replicas []string // their addresses
}

// Ask asks a server for the topology.
func Ask(ctx context.Context, o *redis.Options) (Topology, error) {
	rdb := redis.NewClient(o)
	defer func() { _ = rdb.Close() }() // what there is to know has been said
	pipe := rdb.Pipeline()
	served, info := pipe.ClusterSlots(ctx), pipe.ClusterInfo(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return Topology{}, err
	}
	t := ReadSlots(served.Val(), o.Addr)
	t.Epoch, _ = strconv.ParseUint(InfoField(info.Val(), "cluster_current_epoch"), 10, 64)
	if len(t.Masters) == 0 {
		return Topology{}, errors.New("no server serves any slot")
	}
	return t, nil
}

// ReadSlots reads what the server at an address answered to CLUSTER SLOTS, which does not tell the epoch.
func ReadSlots(served []redis.ClusterSlot, asked string) Topology {
	t := Topology{Masters: map[string]*Master{}}
	for _, r := range served {
		if len(r.Nodes) == 0 {
			continue
		}
		addr := located(r.Nodes[0].Addr, asked)
		m := t.Masters[addr]
		if m == nil {
			m = &Master{}
			t.Masters[addr] = m
			for _, n := range r.Nodes[1:] { // the same for all of its slots
				m.Replicas = append(m.Replicas, located(n.Addr, asked))
			}
		}
		for slot := r.Start; slot <= r.End && slot < Slots; slot++ {
			m.Slots.Add(slot)
		}
	}
	return t
}

// Nodes returns the addresses of the masters and their replicas.
func (t Topology) Nodes() (addrs []string) {
	for addr, m := range t.Masters {
		addrs = append(append(addrs, addr), m.Replicas...)
	}
	return addrs
}

// located returns an address of which the host may be missing: then it is the one that was asked.
func located(addr, asked string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "" && host != "?" {
		return addr
	}
	host, _, _ = net.SplitHostPort(asked)
	return net.JoinHostPort(host, port)
}

// ReadMyself reads from what a server answered to CLUSTER NODES which slots it serves, and which are being moved to it or
// from it.
func ReadMyself(nodes string) (served SlotSet, moving []string, err error) {
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 8 || !strings.Contains(fields[2], "myself") {
			continue
		}
		for _, text := range fields[8:] {
			if slot, ok := strings.CutPrefix(text, "["); ok {
				slot, _, _ = strings.Cut(slot, "-")
				moving = append(moving, slot)
				continue
			}
			from, to, _ := strings.Cut(text, "-")
			begin, err := strconv.Atoi(from)
			end := begin
			if err == nil && to != "" {
				end, err = strconv.Atoi(to)
			}
			if err != nil || begin < 0 || end >= Slots {
				return served, moving, fmt.Errorf("CLUSTER NODES: unexpected slots %q", text)
			}
			for slot := begin; slot <= end; slot++ {
				served.Add(slot)
			}
		}
		return served, moving, nil
	}
	return served, nil, errors.New("CLUSTER NODES: the server does not name itself")
}
