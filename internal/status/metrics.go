package status

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"pgevict/invalidate"
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
	"pgevict/rules"
)

// Metrics holds the metrics of the contract. It observes the listener itself, and by [Metrics.Queue] the queue.
type Metrics struct {
	registry *prometheus.Registry

	changes, found, evicted, refreshed, unread, widened, gaps, deferred, unreadable, redisErrors *prometheus.CounterVec

	sweeps, sweptKeys           prometheus.Counter
	apply, roundTrip, sweepTime prometheus.Histogram
	connected                   *prometheus.GaugeVec
	queueUsage                  prometheus.Gauge
	postgres, redis             *peer // for the probes
	sweep                       sweep

	// Looking a counter up by its labels costs more than matching a change, so the listener's goroutine remembers them.
	changeCounters counters[changeLabels]
	targetCounters counters[targetLabels]
}

// counters remembers counters by their labels, and the last of them in a place of its own.
type counters[L comparable] struct {
	all    map[L]prometheus.Counter
	labels L
	last   prometheus.Counter
}

func (c *counters[L]) get(labels L, find func() prometheus.Counter) prometheus.Counter {
	if c.last != nil && c.labels == labels {
		return c.last
	}
	counter := c.all[labels]
	if counter == nil {
		counter = find()
		if c.all == nil {
			c.all = map[L]prometheus.Counter{}
		}
		c.all[labels] = counter
	}
	c.labels, c.last = labels, counter
	return counter
}

type changeLabels struct{ table, op, source string }

type targetLabels struct {
	rule string
	kind rules.Kind
}

// NewMetrics makes the metrics of a program of that version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), postgres: newPeer("postgres"), redis: newPeer("redis")}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	m.changes = counter("pgevict_changes_total", "Changes of tables in the rules that Postgres told of.", "table", "op", "source")
	m.found = counter("pgevict_targets_total", "Targets that the rules gave for changes.", "rule", "kind")
	m.evicted = counter("pgevict_evicted_total", "Keys, and fields of hashes, that were in Redis and are gone.", "rule")
	m.refreshed = counter("pgevict_refreshed_total", "Keys that were read anew from Postgres and set.", "rule")
	m.unread = counter("pgevict_refresh_errors_total", "Keys that were deleted because their refresh could not read Postgres.", "rule")
	m.widened = counter("pgevict_widened_total",
		"Targets wider than their template: column (missing or uncertain), old (values before an update unknown), rows (which rows unknown), truncate, pending (too many waited).",
		"rule", "reason")
	m.gaps = counter("pgevict_gaps_total", "Times that changes or deletes may have been lost.", "reason")
	m.deferred = counter("pgevict_sweeps_deferred_total",
		"Gaps whose sweep comes later, since others of the same reason came right before.", "reason")
	m.unreadable = counter("pgevict_unreadable_total", "Notifications that could not be read.", "source", "reason")
	m.redisErrors = counter("pgevict_redis_errors_total", "Errors of Redis, and failures to reach it.", "kind")

	m.sweeps = prometheus.NewCounter(prometheus.CounterOpts{Name: "pgevict_sweeps_total", Help: "Sweeps done after gaps."})
	m.sweptKeys = prometheus.NewCounter(prometheus.CounterOpts{Name: "pgevict_swept_keys_total",
		Help: "Keys, and fields of hashes, that are gone since a sweep began and before it ended, those that changes deleted meanwhile among them."})
	m.sweepTime = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pgevict_sweep_seconds",
		Help: "How long a sweep took, without second deletes.", Buckets: prometheus.ExponentialBuckets(0.01, 3, 13)}) // to about an hour and a half
	buckets := prometheus.ExponentialBuckets(0.00025, 2, 20) // to about two minutes
	m.apply = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pgevict_apply_seconds",
		Help: "From a change read from Postgres to its target acknowledged by Redis.", Buckets: buckets})
	m.roundTrip = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pgevict_canary_seconds",
		Help: "The way of a canary through Postgres and Redis.", Buckets: buckets})
	m.connected = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pgevict_connected",
		Help: "1 while the peer, postgres or redis, is connected and answers."}, []string{"peer"})
	m.queueUsage = prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgevict_postgres_queue_usage",
		Help: "How full the server's notification queue is, from 0 to 1. At 1 the application's commits fail."})
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgevict_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.sweeps, m.sweptKeys, m.sweepTime, m.apply, m.roundTrip, m.connected, m.queueUsage, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.setConnected(m.postgres, false)
	m.setConnected(m.redis, false)
	return m
}

// Watch adds the metrics that are read off a queue when they are asked for.
func (m *Metrics) Watch(stats func() invalidate.Stats, started time.Time) {
	gauge := func(name, help string, value func(invalidate.Stats) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return value(stats()) }))
	}
	gauge("pgevict_pending", "Targets that wait for Redis; those that wait for their second delete are not among them.",
		func(s invalidate.Stats) float64 { return float64(s.Pending) })
	gauge("pgevict_position_age_seconds", "How long ago the position was taken below which every change has been applied.",
		func(s invalidate.Stats) float64 {
			if s.AppliedThrough.IsZero() {
				return time.Since(started).Seconds()
			}
			return time.Since(s.AppliedThrough).Seconds()
		})
}

// Gap counts a gap.
func (m *Metrics) Gap(why string) { m.gaps.WithLabelValues(why).Inc() }

// Listening tells that Postgres is heard, or why it is not.
func (m *Metrics) Listening(err error) {
	if err != nil {
		m.postgres.fail(postgres.ErrorKind(err))
	}
	m.setConnected(m.postgres, err == nil)
}

func (m *Metrics) setConnected(p *peer, connected bool) {
	p.set(connected)
	value := 0.0
	if connected {
		value = 1
	}
	m.connected.WithLabelValues(p.name).Set(value)
}

// Unreadable counts a payload that could not be read.
func (m *Metrics) Unreadable(source pgnotify.Source, reason string) {
	m.unreadable.WithLabelValues(string(source), reason).Inc()
}

// QueueUsage tells how full the notification queue is.
func (m *Metrics) QueueUsage(usage float64) { m.queueUsage.Set(usage) }

// Change counts a change of a table in the rules.
func (m *Metrics) Change(c pgnotify.Change) {
	labels := changeLabels{c.Table, c.Op, string(c.Source)}
	m.changeCounters.get(labels, func() prometheus.Counter {
		return m.changes.WithLabelValues(labels.table, labels.op, labels.source)
	}).Inc()
}

// Target counts a target that the rules made of a change.
func (m *Metrics) Target(t rules.Target, widened rules.Reason) {
	labels := targetLabels{t.Rule(), t.Kind}
	m.targetCounters.get(labels, func() prometheus.Counter {
		return m.found.WithLabelValues(labels.rule, labels.kind.String())
	}).Inc()
	if widened != rules.Exact {
		m.widened.WithLabelValues(t.Rule(), string(widened)).Inc()
	}
}

// Observe has a queue tell the metrics.
func (m *Metrics) Observe(o *invalidate.Options) {
	q := queueObserver{m}
	o.Observer, o.RefreshObserver, o.RedisObserver = q, q, q
}

// queueObserver is apart from the listener's observer since both tell who is connected.
type queueObserver struct{ *Metrics }

func (o queueObserver) Applied(_ rules.Target, waited time.Duration) {
	o.apply.Observe(waited.Seconds())
}
func (o queueObserver) Canary(took time.Duration) { o.roundTrip.Observe(took.Seconds()) }
func (o queueObserver) Failed(kind string) {
	o.redisErrors.WithLabelValues(kind).Inc()
	o.redis.fail(kind)
}
func (o queueObserver) Connected(up bool) { o.setConnected(o.redis, up) }
func (o queueObserver) Evicted(t rules.Target, keys int64) {
	o.evicted.WithLabelValues(t.Rule()).Add(float64(keys))
	o.sweep.gone(keys)
}
func (o queueObserver) Widened(into rules.Target, targets int) {
	o.widened.WithLabelValues(into.Rule(), "pending").Add(float64(targets))
}
func (o queueObserver) Refreshed(t rules.Target, err error) {
	if err != nil {
		o.unread.WithLabelValues(t.Rule()).Inc()
	} else {
		o.refreshed.WithLabelValues(t.Rule()).Inc()
	}
}
