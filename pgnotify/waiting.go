package pgnotify

import (
	"encoding/json"
	"maps"
	"strings"
)

// message is a notification that has not been decoded.
type message struct {
	source  Source
	payload string
}

// waiting keeps messages of names that the catalog does not have, until it has been read again. It stays small: many
// messages of one name become one that means any row of it, as do those of a name whose message makes all of them too
// long together, and of names beyond a bound it only remembers that there were some.
type waiting struct {
	names map[Table][]message
	bytes int  // of all payloads
	more  bool // there were too many names
}

const (
	waitingRows  = 100
	waitingBytes = 1 << 20
	waitingNames = 1000
	// longestName is longer than any relation's name, so what is longer is none.
	longestName = 255
)

func (w *waiting) any() bool { return w.more || len(w.names) > 0 }

func (w *waiting) add(name Table, m message) {
	if len(name.Schema) > longestName || len(name.Name) > longestName {
		return
	}
	kept, known := w.names[name]
	if !known {
		if len(w.names) >= waitingNames {
			w.more = true
			return
		}
		if w.names == nil {
			w.names = map[Table][]message{}
		}
		name = Table{strings.Clone(name.Schema), strings.Clone(name.Name)} // it is part of a text of many
	}
	m.payload = strings.Clone(m.payload)
	kept = append(kept, m)
	w.bytes += len(m.payload)
	if len(kept) > waitingRows || w.bytes > waitingBytes {
		for _, m := range kept {
			w.bytes -= len(m.payload)
		}
		m := anyRow(name)
		kept = []message{m}
		w.bytes += len(m.payload)
	}
	w.names[name] = kept
}

// take empties it.
func (w *waiting) take() waiting {
	taken := *w
	*w = waiting{}
	return taken
}

// putBack puts back what was taken.
func (w *waiting) putBack(taken waiting) {
	for name, messages := range taken.names {
		for _, m := range messages {
			w.add(name, m)
		}
	}
	w.more = w.more || taken.more
}

// anyRow is a message that says only that some rows of a table have changed.
func anyRow(table Table) message {
	payload, _ := json.Marshal(map[string]string{"schema": table.Schema, "table": table.Name}) // strings always marshal
	return message{Events, string(payload)}
}

// strangers are names that the catalog was read for and did not have: tables of no rule, or no relations at all. What is
// said of them makes nobody read it again, but the next time that it is read they are looked for.
type strangers map[Table]*stranger

type stranger struct {
	exists bool // a relation of that name, of no rule
	heard  bool // of since the catalog was read
}

const strangersMost = 10_000

// add takes in a name. Where there are too many, those go that were not heard of lately.
func (s strangers) add(name Table, exists bool) {
	if len(s) >= strangersMost {
		maps.DeleteFunc(s, func(_ Table, of *stranger) bool { return !of.heard })
	}
	if len(s) < strangersMost {
		s[name] = &stranger{exists: exists}
	}
}
