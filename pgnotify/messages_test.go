package pgnotify

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// gaps is a handler that remembers gaps.
type gaps []string

func (g *gaps) Change(Change) {}
func (g *gaps) Mark(Mark)     {}
func (g *gaps) Gap(_ string, tables ...Table) {
	*g = append(*g, fmt.Sprint(tables))
}

// Who alters tables again and again makes some sweeps one after the other, and then one a minute, and no doubt is dropped.
func TestGapsOfTheCatalogAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gaps
		ms := newMessages(&Listener{Log: zap.NewNop()}, &g)
		reading := func(table string, n int) *Catalog {
			of := Table{"public", table}
			info := &tableInfo{tables: []Table{of}, key: []string{fmt.Sprint(n)}}
			return &Catalog{tables: map[Table]*tableInfo{of: info}, relations: map[string]relation{"1": {of, info, ""}}}
		}
		same := reading("t", 0)
		for i := range 100 {
			ms.compare(reading("t", i), reading("t", i+1), false)
			time.Sleep(catalogInterval)
		}
		if n := len(g); n < doubtsAtOnce || n > 3*doubtsAtOnce {
			t.Errorf("%d gaps", n)
		}
		g = nil
		ms.compare(reading("u", 0), reading("u", 1), false)
		for range 15 {
			ms.compare(same, same, false)
			time.Sleep(catalogInterval)
		}
		if !slices.ContainsFunc(g, func(gap string) bool { return gap == "[public.u]" || gap == "[public.t public.u]" }) {
			t.Errorf("gaps %q", g)
		}
	})
}
