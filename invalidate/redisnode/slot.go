package redisnode

import (
	"strconv"
	"strings"
	"sync"

	"pgevict/rules"
)

// Slots is how many hash slots a Redis Cluster has.
const Slots = 16384

// SlotSet is a set of hash slots. It is comparable.
type SlotSet [Slots / 64]uint64

// Add adds a slot.
func (s *SlotSet) Add(slot int) { s[slot/64] |= 1 << (slot % 64) }

// Has reports whether a slot is in the set.
func (s *SlotSet) Has(slot int) bool { return s[slot/64]&(1<<(slot%64)) != 0 }

// First returns the lowest slot in the set; -1: there is none.
func (s *SlotSet) First() int {
	for slot := range Slots {
		if s.Has(slot) {
			return slot
		}
	}
	return -1
}

// SlotOf returns the hash slot of a key: CRC16 (XMODEM) of the key or, if there is one that is not empty, of the text between its
// first { and the next }. See https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/.
func SlotOf(key string) int {
	if tag, ok := hashTag(key); ok {
		key = tag
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc % Slots)
}

func hashTag(key string) (tag string, ok bool) {
	_, rest, ok := strings.Cut(key, "{")
	if !ok {
		return "", false
	}
	tag, _, ok = strings.Cut(rest, "}")
	return tag, ok && tag != ""
}

// crcTable is CRC16's, for its polynomial 0x1021. It never changes.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// PinnedSlot returns the slot of all keys that a pattern matches, if its hash tag stands before its first wildcard.
func PinnedSlot(pattern string) (slot int, ok bool) {
	begin := rules.ParseGlob(pattern).Beginning()
	if _, ok := hashTag(begin); !ok {
		return 0, false
	}
	return SlotOf(begin), true
}

// SlotTag returns a hash tag for a slot: the least number that is in it.
func SlotTag(slot int) string { return slotTags()[slot] }

var slotTags = sync.OnceValue(func() *[Slots]string {
	var tags [Slots]string
	for n, missing := 0, Slots; missing > 0; n++ {
		tag := strconv.Itoa(n)
		if slot := SlotOf(tag); tags[slot] == "" {
			tags[slot] = tag
			missing--
		}
	}
	return &tags
})
