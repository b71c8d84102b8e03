package pgnotify

import "encoding/json"

// message is a notification that has not been decoded.
type message struct {
	source  Source
	payload string
}

// waiting keeps messages of tables that the catalog does not have, until it has been read again. It stays small: many
// messages of one table become one that means any row of it, as do those of a table whose message makes all of them too
// long together, and if there are too many tables all becomes a gap.
type waiting struct {
	tables map[ref][]message
	bytes  int  // of all payloads
	lost   bool // there were too many tables
}

const (
	waitingRows   = 100
	waitingBytes  = 1 << 20
	waitingTables = 1000
)

func (w *waiting) any() bool { return w.lost || len(w.tables) > 0 }

func (w *waiting) add(m message) {
	if w.lost {
		return
	}
	if w.tables == nil {
		w.tables = map[ref][]message{}
	}
	r := m.table()
	w.tables[r] = append(w.tables[r], m)
	w.bytes += len(m.payload)
	if len(w.tables[r]) > waitingRows || w.bytes > waitingBytes {
		for _, m := range w.tables[r] {
			w.bytes -= len(m.payload)
		}
		m := anyRow(r)
		w.tables[r] = []message{m}
		w.bytes += len(m.payload)
	}
	if len(w.tables) > waitingTables {
		*w = waiting{lost: true}
	}
}

// take empties it, and reports whether messages were lost.
func (w *waiting) take() (messages []message, lost bool) {
	for _, of := range w.tables {
		messages = append(messages, of...)
	}
	lost = w.lost
	*w = waiting{}
	return messages, lost
}

// table is the table that the message is about, as far as that can be read.
func (m message) table() (r ref) {
	d := Decoder{Columns: func(schema, table string) ([]string, bool) {
		r = ref{schema, table}
		return nil, false
	}}
	_, _, _ = d.Decode(m.source, m.payload) // an error counts when the message is taken
	return r
}

// anyRow is a message that says only that some rows of a table have changed.
func anyRow(r ref) message {
	payload, _ := json.Marshal(map[string]string{"schema": r.schema, "table": r.name}) // strings always marshal
	return message{Events, string(payload)}
}
