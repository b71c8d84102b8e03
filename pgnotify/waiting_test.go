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
	for name := range waitingNames {
		for i := range 5 {
			w.add(Table{Name: fmt.Sprint("t", name)}, message{Events, fmt.Sprintf(`{"table":"t%d","data":{"x":"%s%d"}}`, name, long, i)})
			if w.bytes > waitingBytes+waitingNames*100 {
				t.Fatalf("%d bytes wait", w.bytes)
			}
		}
	}
	taken := w.take()
	bytes, messages := 0, 0
	for _, of := range taken.names {
		for _, m := range of {
			bytes += len(m.payload)
			messages++
		}
	}
	if taken.more || bytes != taken.bytes || bytes > waitingBytes+waitingNames*100 || messages < waitingNames {
		t.Errorf("%d messages, %d bytes, more: %v", messages, bytes, taken.more)
	}
	if w.any() || w.bytes != 0 {
		t.Error("not empty")
	}
	w.putBack(taken)
	if len(w.names) != waitingNames || w.bytes > waitingBytes+waitingNames*100 {
		t.Errorf("put back are %d names, %d bytes", len(w.names), w.bytes)
	}
}

func TestWaitingKeepsFewRowsAsTheyAre(t *testing.T) {
	t.Parallel()
	var w waiting
	for i := range waitingRows {
		w.add(Table{Name: "t"}, message{TCN, fmt.Sprintf(`"t",I,"id"='%d'`, i)})
	}
	if kept := w.take().names[Table{Name: "t"}]; len(kept) != waitingRows || kept[7].payload != `"t",I,"id"='7'` {
		t.Errorf("%v", kept)
	}
	odd := Table{"sche\"ma", `ta"<b>le`}
	for i := range waitingRows + 1 {
		w.add(odd, message{TCN, fmt.Sprintf(`"ta""<b>le",I,"id"='%d'`, i)})
	}
	kept := w.take().names[odd]
	if len(kept) != 1 {
		t.Fatalf("%v", kept)
	}
	all := Decoder{Columns: func(string, string) ([]string, bool) { return []string{"id"}, true }}
	changes, _, err := all.Decode(kept[0].source, kept[0].payload)
	if err != nil || len(changes) != 1 || (Table{changes[0].Schema, changes[0].Table}) != odd || changes[0].Op != Unknown || len(changes[0].Rows) > 0 {
		t.Errorf("%v, %v", changes, err)
	}
}

func TestWaitingForTooManyNames(t *testing.T) {
	t.Parallel()
	var w waiting
	for name := range waitingNames + 1 {
		w.add(Table{Name: fmt.Sprint("t", name)}, message{TCN, `"x",I,"id"='1'`})
	}
	w.add(Table{Name: strings.Repeat("x", longestName+1)}, message{TCN, `"x",I,"id"='1'`})
	if taken := w.take(); !taken.more || len(taken.names) != waitingNames {
		t.Errorf("%d names, more: %v", len(taken.names), taken.more)
	}
}

func TestStrangersAreBounded(t *testing.T) {
	t.Parallel()
	s := strangers{}
	for i := range 3 * strangersMost {
		s.add(Table{Name: fmt.Sprint(i)}, i%2 == 0)
		s[Table{Name: fmt.Sprint(i)}].heard = i == 7
	}
	if len(s) > strangersMost || s[Table{Name: "7"}] == nil || s[Table{Name: "9"}] != nil {
		t.Errorf("%d names", len(s))
	}
}
