package rules

import "strconv"

// Own begins the keys that are pgevict's own. No rule deletes them, whatever its templates match.
const Own = "pgevict:"

// Kind says how a target names what Redis must forget.
type Kind uint8

// The kinds of target.
const (
	Key        Kind = iota // one key, byte for byte
	Pattern                // every key that a glob matches, in which only * and \ are special
	Tag                    // one set, of which the members are keys: they go, and so does the set
	TagPattern             // every such set of which the name matches a glob
	Field                  // one field of a hash
)

// String returns the kind as the commands and metrics write it.
func (k Kind) String() string {
	switch k {
	case Key:
		return "key"
	case Pattern, TagPattern:
		return "pattern"
	case Tag:
		return "tag"
	case Field:
		return "field"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Target is what Redis must forget, or read anew. It is comparable, so a set of them is a map.
type Target struct {
	Key  string // the bytes of the key, of the tag, of the hash; or the pattern in Redis' glob syntax
	more string // of a field its name; of a key that is refreshed the query's parameters, encoded
	from *template
	Kind Kind
}

// Rule is the name of the rule that made the target.
func (t Target) Rule() string { return t.from.rule }

// Like reports whether another target is of the same template.
func (t Target) Like(other Target) bool { return t.from == other.from }

// Field is the name of the field; it is empty unless the target is one.
func (t Target) Field() string {
	if t.Kind != Field {
		return ""
	}
	return t.more
}

// Refresh says how to read the key anew, with the texts of the query's parameters in their order. It is nil where the
// target is to be deleted.
func (t Target) Refresh() (r *Refresh, args []string) {
	if !t.Refreshed() {
		return nil, nil
	}
	return t.from.refresh, decode(t.more)
}

// Refreshed reports whether the target is a key to be read anew rather than deleted.
func (t Target) Refreshed() bool { return t.Kind == Key && t.more != "" }

// Widen returns the target of the same template of which nothing is known: it covers t. Widening that again returns itself.
func (t Target) Widen() Target { return t.from.wide }

// IsTag reports whether the target is a set of which the members go too, or a pattern of such sets.
func (t Target) IsTag() bool { return t.Kind == Tag || t.Kind == TagPattern }

// Covers reports whether the target is that key, that tag or a field of that hash, or a pattern that matches its name.
func (t Target) Covers(key string) bool { return t.Glob().Match(key) }

// Glob returns what matches the names that the target covers.
func (t Target) Glob() Glob {
	switch t.Kind {
	case Pattern, TagPattern:
		return ParseGlob(t.Key)
	case Key, Tag, Field:
	}
	return Glob{[]string{t.Key}}
}

// AsTag returns the target of the same template that is the set of a name.
func (t Target) AsTag(name string) Target { return Target{Kind: Tag, Key: name, from: t.from} }

// AsKey returns the target of the same template that is the key of a name: one that a pattern matches, or a member of a tag.
func (t Target) AsKey(name string) Target { return Target{Kind: Key, Key: name, from: t.from} }

// MayBeTag reports whether the target is a key of whose template the rules have a tag that may be of the same name. It is
// false for the tags themselves.
func (t Target) MayBeTag() bool { return t.Kind == Key && t.from.mayBeTag }
