package livetest

import (
	"errors"
	"fmt"
	"strings"
)

// MoveSlot has another master serve a slot, and takes the slot's keys there first.
func (c *RedisCluster) MoveSlot(slot int, to *Redis) error {
	if err := c.StartMove(slot, to); err != nil {
		return err
	}
	for {
		moved, err := c.MoveKeys(slot, to, 100)
		if err != nil {
			return err
		}
		if moved == 0 {
			return c.FinishMove(slot, to)
		}
	}
}

// StartMove is the begin of MoveSlot: from now on the slot's master answers ASK for keys that it does not have.
func (c *RedisCluster) StartMove(slot int, to *Redis) error {
	source, sourceID, targetID, err := c.ends(slot, to)
	if err != nil {
		return fmt.Errorf("start to move slot %d: %w", slot, err)
	}
	// The target first: it must know by the time that it is asked.
	if err := to.do("CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID).Err(); err != nil {
		return fmt.Errorf("start to move slot %d: %w", slot, err)
	}
	if err := source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", targetID).Err(); err != nil {
		return fmt.Errorf("start to move slot %d: %w", slot, err)
	}
	return nil
}

// MoveKeys is the middle of MoveSlot: it moves at most count keys, and returns how many it found to move.
func (c *RedisCluster) MoveKeys(slot int, to *Redis, count int) (moved int, err error) {
	source := c.Master(slot)
	if source == nil {
		return 0, fmt.Errorf("move keys of slot %d: %w", slot, errNoMaster)
	}
	keys, err := source.do("CLUSTER", "GETKEYSINSLOT", slot, count).StringSlice()
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	command := []any{"MIGRATE", "127.0.0.1", to.port, "", 0, commandTimeout.Milliseconds(), "KEYS"}
	for _, key := range keys {
		command = append(command, key)
	}
	if err := source.do(command...).Err(); err != nil {
		return 0, fmt.Errorf("move keys of slot %d: %w", slot, err)
	}
	return len(keys), nil
}

// FinishMove is the end of MoveSlot: every master is told whose the slot is now.
func (c *RedisCluster) FinishMove(slot int, to *Redis) error {
	source, _, targetID, err := c.ends(slot, to)
	if err != nil {
		return fmt.Errorf("finish to move slot %d: %w", slot, err)
	}
	left, err := source.do("CLUSTER", "COUNTKEYSINSLOT", slot).Int()
	if err != nil {
		return fmt.Errorf("finish to move slot %d: %w", slot, err)
	}
	if left > 0 { // the source would refuse, after the target has taken the slot
		return fmt.Errorf("finish to move slot %d: %d keys are left", slot, left)
	}
	views, err := c.views()
	if err != nil {
		return fmt.Errorf("finish to move slot %d: %w", slot, err)
	}
	// The target first, so that at no time everybody thinks that somebody else has it.
	order := []*Redis{to, source}
	for r, members := range views {
		for _, m := range members {
			if strings.Contains(m.flags, "myself,master") && r != to && r != source {
				order = append(order, r)
			}
		}
	}
	for _, r := range order {
		if err := r.do("CLUSTER", "SETSLOT", slot, "NODE", targetID).Err(); err != nil {
			return fmt.Errorf("finish to move slot %d: %w", slot, err)
		}
	}
	return await(fmt.Sprintf("finish to move slot %d", slot), func() error {
		return c.disagreement(to, slotRange{slot, slot})
	})
}

var errNoMaster = errors.New("nobody knows its master")

// ends returns whose a slot is, and the ids of that node and of the one that it moves to.
func (c *RedisCluster) ends(slot int, to *Redis) (source *Redis, sourceID, targetID string, err error) {
	if source = c.Master(slot); source == nil {
		return nil, "", "", errNoMaster
	}
	if sourceID, err = source.do("CLUSTER", "MYID").Text(); err != nil {
		return nil, "", "", err
	}
	if targetID, err = to.do("CLUSTER", "MYID").Text(); err != nil {
		return nil, "", "", err
	}
	return source, sourceID, targetID, nil
}
