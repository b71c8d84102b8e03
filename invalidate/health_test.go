package invalidate

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// An outage is logged once a minute, with how long it has lasted, and its end says how long it was.
func TestAnOutageSaysHowLongItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		w := &witness{errors: map[string]int{}}
		q := New(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}}, Options{
			MaxPending: 10, Log: zap.New(core), Observer: w, RefreshObserver: w, RedisObserver: w, Gap: w.gap, Sweeping: func() {}, Swept: w.sweptAll,
		})
		s := q.cluster.all()[0]
		defer s.rdb.Close()
		s.answered()
		for range 10 * 60 / 5 {
			s.failed(errors.New("connection refused"))
			time.Sleep(5 * time.Second)
		}
		s.answered()
		var got []string
		for _, e := range logs.All() {
			fields := e.ContextMap()
			got = append(got, fmt.Sprint(e.Message, " ", fields["for"], " ", fields["after"]))
		}
		want := []string{"Redis answers <nil> <nil>", "Redis did not do it, will try again <nil> <nil>"}
		for minute := time.Minute + 5*time.Second; minute < 10*time.Minute; minute += time.Minute + 5*time.Second {
			want = append(want, fmt.Sprintf("Redis did not do it, will try again %v <nil>", minute))
		}
		want = append(want, "Redis answers <nil> 10m0s")
		if !slices.Equal(got, want) {
			t.Errorf("the log is\n%q\nand should be\n%q", got, want)
		}
	})
}
