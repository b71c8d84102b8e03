package invalidate

import (
	"strconv"
	"strings"
	"sync"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// slotSet is a set of hash slots. It is comparable.
type slotSet [slots / 64]uint64

func (s *slotSet) add(slot int)      { s[slot/64] |= 1 << (slot % 64) }
func (s *slotSet) has(slot int) bool { return s[slot/64]&(1<<(slot%64)) != 0 }

// slotOf is the hash slot of a key: CRC16 (XMODEM) of the key or, if there is one that is not empty, of the text between its
// first { and the next }. See https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/.
func slotOf(key string) int {
	if tag, ok := hashTag(key); ok {
		key = tag
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc % slots)
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

// pinnedSlot is the slot of all keys that a pattern matches, if its hash tag stands before its first wildcard.
func pinnedSlot(pattern string) (slot int, ok bool) {
	begin := split(pattern)[0]
	if _, ok := hashTag(begin); !ok {
		return 0, false
	}
	return slotOf(begin), true
}

// slotTags gives a hash tag for each slot, the least number that is in it.
var slotTags = sync.OnceValue(func() *[slots]string {
	var tags [slots]string
	for n, missing := 0, slots; missing > 0; n++ {
		tag := strconv.Itoa(n)
		if slot := slotOf(tag); tags[slot] == "" {
			tags[slot] = tag
			missing--
		}
	}
	return &tags
})

// The keys that are pgevict's own begin so. What comes behind is the name of an application's key, beside which such a key
// stands: in a Cluster it must be in the same slot.
const (
	leasePrefix = "pgevict:refresh:" // see refresh.go
	movedPrefix = "pgevict:tag:"     // see tags.go
)

// beside names a key of pgevict's own in the slot of an application's key.
func (q *Queue) beside(prefix, key string) string {
	if !q.inCluster.Load() {
		return prefix + key
	}
	return prefix + "{" + slotTags()[slotOf(key)] + "}:" + key
}

// besideWhat gives the application's key beside which a key of pgevict's own stands.
func (q *Queue) besideWhat(prefix, name string) (key string, ok bool) {
	key, ok = strings.CutPrefix(name, prefix)
	if ok && q.inCluster.Load() {
		_, key, ok = strings.Cut(key, "}:")
	}
	return key, ok
}
