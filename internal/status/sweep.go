package status

import (
	"sync"
	"time"
)

// sweep is what is known of the one that is under way; several at a time end together.
type sweep struct {
	mu    sync.Mutex
	began time.Time // zero: there is none
	keys  int64     // gone since, be it for the sweep or for a change that came meanwhile
}

// SweepBegins tells that a sweep begins to wait for Redis.
func (m *Metrics) SweepBegins() {
	s := &m.sweep
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		s.began, s.keys = time.Now(), 0
	}
}

// Swept tells that the queue has swept, and returns how long that took, and how many keys are gone since it began.
func (m *Metrics) Swept() (took time.Duration, keys int64) {
	s := &m.sweep
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.began.IsZero() {
		took, keys = time.Since(s.began), s.keys
	}
	s.began = time.Time{}
	m.sweeps.Inc()
	m.sweepTime.Observe(took.Seconds())
	m.sweptKeys.Add(float64(keys))
	return took, keys
}

// SweepDeferred tells of a gap of which the sweep comes later, since others of the same reason came right before it.
func (m *Metrics) SweepDeferred(reason string) { m.deferred.WithLabelValues(reason).Inc() }

// gone counts keys, if there is a sweep.
func (s *sweep) gone(keys int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.began.IsZero() {
		s.keys += keys
	}
}
