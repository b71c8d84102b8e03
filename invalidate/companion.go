package invalidate

import (
	"strings"

	"pgevict/invalidate/redisnode"
)

// The keys that are pgevict's own begin so. What comes behind is the name of an application's key, beside which such a key
// stands: in a Cluster it must be in the same slot.
const (
	leasePrefix = "pgevict:refresh:" // see refresh.go
	movedPrefix = "pgevict:tag:"     // see tags.go
)

// companionKey names a key of pgevict's own in the slot of an application's key.
func (c *cluster) companionKey(prefix, key string) string {
	if !c.is.Load() {
		return prefix + key
	}
	return prefix + "{" + redisnode.SlotTag(redisnode.SlotOf(key)) + "}:" + key
}

// companionOf returns the application's key beside which a key of pgevict's own stands.
func (c *cluster) companionOf(prefix, name string) (key string, ok bool) {
	key, ok = strings.CutPrefix(name, prefix)
	if ok && c.is.Load() {
		_, key, ok = strings.Cut(key, "}:")
	}
	return key, ok
}
