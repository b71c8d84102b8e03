package refresh

import (
	"testing"
	"time"

	"pgevict/rules"
)

// TestOneReadHoldsNoMoreThanFits reads what is far too large for one Read: each holds a bounded amount, and all of them
// together everything, each value once.
func TestOneReadHoldsNoMoreThanFits(t *testing.T) {
	t.Parallel()
	const each, rows, conns = 1 << 20, 200, 2
	r := newReads(t, "CREATE TABLE t (id int PRIMARY KEY, n int)", conns, 20*time.Second)
	small := refreshed(t, numbers(0, 256), "SELECT repeat('y', 100) || {id}::int")
	for turn := range 2 { // the second knows how large they are
		left := refreshed(t, numbers(0, rows), "SELECT repeat('x', 1048576 - 10) || lpad({id}, 10, '0')")
		reads, values := 0, 0
		for len(left) > 0 {
			reads++
			var unread []rules.Target
			bytes := 0
			for i, v := range r.Read(t.Context(), left) {
				if v.Unread {
					unread = append(unread, left[i])
					continue
				}
				if v.Err != nil || len(v.Text) != each {
					t.Fatalf("%d bytes, %v", len(v.Text), v.Err)
				}
				bytes += len(v.Text)
				values++
			}
			if bytes > mostPerRead+conns*each || turn > 0 && bytes > roomPerRead+conns*each {
				t.Errorf("turn %d: one Read has %d bytes", turn, bytes)
			}
			if len(unread) == len(left) {
				t.Fatal("a Read has read nothing")
			}
			left = unread
		}
		if values != rows || reads > rows*each/roomPerRead+2 {
			t.Errorf("turn %d: %d values in %d reads", turn, values, reads)
		}
		for i, v := range r.Read(t.Context(), small) {
			if v.Unread || v.Err != nil || len(v.Text) < 100 {
				t.Fatalf("%d is small, and was not read at once: %+v", i, v)
			}
		}
	}
	if n := r.attempts.Load(); n > 2*conns {
		t.Errorf("%d connections, so what was too large was found out again and again", n)
	}
}
