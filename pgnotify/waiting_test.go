package pgnotify

import (
	"fmt"
	"strings"
	"testing"
)

func TestWaitingIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 7900)
	var w waiting
	for table := range waitingTables {
		for i := range 5 {
			w.add(message{Events, fmt.Sprintf(`{"table":"t%d","data":{"x":"%s%d"}}`, table, long, i)})
			if w.bytes > waitingBytes+waitingTables*100 {
				t.Fatalf("%d bytes wait", w.bytes)
			}
		}
	}
	messages, lost := w.take()
	bytes := 0
	for _, m := range messages {
		bytes += len(m.payload)
	}
	if lost || bytes > waitingBytes+waitingTables*100 || len(messages) < waitingTables {
		t.Errorf("%d messages, %d bytes, lost: %v", len(messages), bytes, lost)
	}
	if messages, lost := w.take(); len(messages) > 0 || lost || w.any() {
		t.Error("not empty")
	}
}

func TestWaitingKeepsFewRowsAsTheyAre(t *testing.T) {
	t.Parallel()
	var w waiting
	for i := range waitingRows {
		w.add(message{TCN, fmt.Sprintf(`"t",I,"id"='%d'`, i)})
	}
	if messages, lost := w.take(); len(messages) != waitingRows || lost || messages[7].payload != `"t",I,"id"='7'` {
		t.Errorf("%v, %v", messages, lost)
	}
	for i := range waitingRows + 1 {
		w.add(message{TCN, fmt.Sprintf(`"ta""<b>le",I,"id"='%d'`, i)})
	}
	messages, lost := w.take()
	if len(messages) != 1 || lost {
		t.Fatalf("%v, %v", messages, lost)
	}
	all := Decoder{Columns: func(string, string) ([]string, bool) { return []string{"id"}, true }}
	changes, _, err := all.Decode(messages[0].source, messages[0].payload)
	if err != nil || len(changes) != 1 || changes[0].Table != `ta"<b>le` || changes[0].Op != Unknown || len(changes[0].Rows) > 0 {
		t.Errorf("%v, %v", changes, err)
	}
}

func TestWaitingForTooManyTables(t *testing.T) {
	t.Parallel()
	var w waiting
	for table := range waitingTables + 1 {
		w.add(message{TCN, fmt.Sprintf(`"t%d",I,"id"='1'`, table)})
	}
	w.add(message{TCN, `"t",I,"id"='1'`})
	if !w.any() || w.tables != nil {
		t.Error("what is lost anyway is kept")
	}
	if messages, lost := w.take(); len(messages) > 0 || !lost {
		t.Errorf("%d messages, lost: %v", len(messages), lost)
	}
	if w.any() {
		t.Error("not empty")
	}
}
