package sidecar

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// stuck is a writer that nobody reads from.
type stuck struct{ until chan struct{} }

func (s stuck) Write(line []byte) (int, error) {
	<-s.until
	return len(line), nil
}

func TestALogThatNobodyReadsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{make(chan struct{})}
		out, flush := nonBlockingWriter(s)
		began := time.Now()
		for range 5000 {
			if n, err := out.Write([]byte("a line\n")); n != 7 || err != nil {
				t.Fatal(n, err)
			}
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("the lines took %v", d)
		}
		flush()
		if d := time.Since(began); d != flushTime {
			t.Errorf("the end took %v", d)
		}
		close(s.until)
		out.(lineWriter) <- nil // ends the goroutine, once it has written the rest
	})
}

func TestTheLogIsWhole(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	out, flush := nonBlockingWriter(&got)
	line := []byte("one\n")
	for _, text := range []string{"one\n", "two\n"} {
		copy(line, text) // a writer may not keep what it is given
		_, _ = out.Write(line)
	}
	flush()
	_, _ = out.Write([]byte("after the end\n"))
	if got.String() != "one\ntwo\n" {
		t.Errorf("%q", got.String())
	}
}
