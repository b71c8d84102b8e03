package invalidate

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
)

// health is how a server does.
type health struct {
	mu      sync.Mutex // of all of it; no other is taken with it held
	answers bool       // when it was last spoken to
	since   time.Time  // when that began; zero: it was never spoken to
	canary  time.Time  // when a mark last went through
	run     string     // the id of the server's process; empty: none seen
	logged  logLimiter
}

func (h *health) look() (answers bool, canary time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answers, h.canary
}

func (h *health) canaryWent(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.canary = at
}

// set takes note of whether the server answers, and returns whether it did before, and for how long it did so or not.
func (h *health) set(answers bool) (before bool, lasted time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = h.answers
	if h.since.IsZero() {
		h.since = time.Now()
	}
	lasted = time.Since(h.since)
	if answers != before {
		h.answers, h.since = answers, time.Now()
	}
	if answers && !before {
		h.logged = nil // what comes again is news
	}
	return before, lasted
}

// news reports whether something is worth a line in the log.
func (h *health) news(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.logged.allow(what)
}

// meet takes note of the process that answers, and returns the one before; empty: there was none.
func (h *health) meet(run string) (before string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = h.run
	h.run = run
	if run == "" {
		h.run = "unknown"
	}
	return before
}

// logLimiter has what lasts logged once a minute: when each was logged last.
type logLimiter map[string]time.Time

// allow reports whether it is time to log something.
func (l *logLimiter) allow(what string) bool {
	last, logged := (*l)[what]
	if logged && time.Since(last) <= time.Minute {
		return false
	}
	if *l == nil {
		*l = logLimiter{}
	}
	(*l)[what] = time.Now()
	return true
}

// answered takes note that the server answers.
func (s *shard) answered() {
	before, away := s.health.set(true)
	if before {
		return
	}
	all, _ := s.cluster.health()
	s.q.opts.RedisObserver.Connected(all)
	s.q.opts.Log.Info("Redis answers", s.where(), lasted("after", away))
}

// failed takes note of an error. One that lasts is logged once a minute, not at each attempt.
func (s *shard) failed(err error) {
	kind := redisnode.ErrorKind(err)
	// An error of which the end is worth a word in the log counts as no answer.
	answers := redisnode.IsReply(err) && kind != "loading" && kind != "noauth"
	before, away := s.health.set(answers)
	if answers || before {
		away = 0
	}
	all, _ := s.cluster.health()
	s.q.opts.RedisObserver.Failed(kind)
	s.q.opts.RedisObserver.Connected(all)
	if !s.ended.Load() && s.health.news(kind) { // with no lock held: a log that nobody reads would hold up others
		s.q.opts.Log.Warn("Redis did not do it, will try again", s.where(), zap.String("kind", kind), zap.Error(err), lasted("for", away))
	}
}

// lasted is how long an outage has lasted, for the log; one that has just begun is none.
func lasted(name string, d time.Duration) zap.Field {
	if d < time.Second {
		return zap.Skip()
	}
	return zap.Duration(name, d.Round(time.Second))
}

// where names a master of a Cluster in the log.
func (s *shard) where() zap.Field {
	if s.lane.addr == "" {
		return zap.Skip()
	}
	return zap.String("master", s.lane.addr)
}
