package status

import (
	"pgevict/invalidate"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// Begin has every series that the rules make possible stand at 0. One that appeared with its first event would have the value
// 1 from its beginning, and no increase that an alert could see.
func (m *Metrics) Begin(set *rules.Set) {
	for _, why := range gapReasons() {
		m.gaps.WithLabelValues(why)
	}
	for _, reason := range deferredReasons() {
		m.deferred.WithLabelValues(reason)
	}
	for _, kind := range errorKinds() {
		m.redisErrors.WithLabelValues(kind)
	}
	for _, source := range []pgnotify.Source{pgnotify.TCN, pgnotify.Events} {
		for _, reason := range unreadableReasons() {
			m.unreadable.WithLabelValues(string(source), reason)
		}
		for _, table := range set.TableNames() {
			for _, op := range operations() {
				m.changes.WithLabelValues(table, op, string(source))
			}
		}
	}
	for _, sample := range set.Samples("x") {
		rule, wide := sample.Rule(), sample.Widen()
		m.evicted.WithLabelValues(rule)
		m.found.WithLabelValues(rule, sample.Kind.String())
		m.found.WithLabelValues(rule, wide.Kind.String())
		for _, reason := range widenedReasons() {
			m.widened.WithLabelValues(rule, reason)
		}
		if sample.Refreshed() {
			m.refreshed.WithLabelValues(rule)
			m.unread.WithLabelValues(rule)
		}
	}
}

// A test holds these lists against the packages that the words come from.

// deferredReasons are those of gaps that somebody may raise again and again.
func deferredReasons() []string { return []string{invalidate.GapUnknown, invalidate.GapRollback} }

func gapReasons() []string {
	return []string{pgnotify.GapStart, pgnotify.GapConnection, pgnotify.GapCatalog, invalidate.GapRestart, invalidate.GapUnknown, invalidate.GapRollback}
}

func errorKinds() []string {
	return []string{"loading", "readonly", "oom", "noauth", "noperm", "clusterdown", "moved", "wrongtype", "other", "timeout", "connection"}
}

func unreadableReasons() []string { return []string{"syntax", "rows", "foreign", "table"} }

func operations() []string {
	return []string{pgnotify.Insert, pgnotify.Update, pgnotify.Delete, pgnotify.Truncate, pgnotify.Unknown}
}

func widenedReasons() []string {
	return []string{
		string(rules.UnknownColumn), string(rules.UnknownOld), string(rules.UnknownRows), string(rules.Truncated), "pending",
	}
}
