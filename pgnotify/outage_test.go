package pgnotify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

// TestAnOutageIsLoggedOnceAMinute wants each line to say how long it has lasted.
func TestAnOutageIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		l := newListener(t, "", nil)
		l.Config = func() (*pgconn.Config, error) { return nil, errors.New("no such host") }
		l.Observer, l.Log = &ears{t: t}, zap.New(core)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
		defer cancel()
		l.Run(ctx, &ears{t: t})
		lines := logs.FilterMessageSnippet("not listening to Postgres").All()
		if len(lines) < 11 || len(lines) > 13 {
			t.Fatalf("%d lines in 12 minutes", len(lines))
		}
		for i, line := range lines[1:] {
			lasted, ok := line.ContextMap()["for"].(time.Duration)
			if since := line.Time.Sub(lines[0].Time); !ok || lasted < since-time.Second || lasted > since+time.Second {
				t.Errorf("line %d, %v after the first, says %v", i+1, since, line.ContextMap()["for"])
			}
		}
	})
}

// TestTheEndOfAnOutageSaysHowLongItWas cuts the link, and heals it.
func TestTheEndOfAnOutageSaysHowLongItWas(t *testing.T) {
	t.Parallel()
	url, pg := livetest.Database(t), livetest.SharedPostgres(t)
	link := livetest.NewProxy(t, pg.Addr)
	l := listen(t, newListener(t, strings.Replace(url, pg.Addr, link.Addr, 1), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	began := time.Now()
	link.Cut()
	l.wait(10*time.Second, "it is noticed", func() bool {
		return slices.ContainsFunc(l.listening, func(err error) bool { return err != nil })
	})
	noticed := time.Now()
	livetest.Eventually(t, 10*time.Second, "a second is over", func() bool { return time.Since(noticed) > time.Second })
	healed := time.Now()
	link.Heal()
	l.gap(2, pgnotify.GapConnection)
	ends := l.logs.FilterMessage("listening to Postgres").All()
	last := ends[len(ends)-1].ContextMap()
	after, ok := last["after"].(time.Duration)
	const rounded = 10 * time.Millisecond
	if most := time.Since(began) + rounded; !ok || after < healed.Sub(noticed)-rounded || after > most {
		t.Errorf("an outage of %v to %v: %s", healed.Sub(noticed), most, fmt.Sprint(last))
	}
}
