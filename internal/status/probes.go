// Package status is what a running pgevict tells of itself over HTTP: probes and metrics.
package status

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pgevict/invalidate"
)

// probes answers whether all is well.
type probes struct {
	stats     func() invalidate.Stats
	heartbeat time.Duration
	started   time.Time
	peers     []*peer
}

// Handler serves the probes and the metrics of a queue that gets a canary each heartbeat.
func Handler(stats func() invalidate.Stats, heartbeat time.Duration, m *Metrics) http.Handler {
	s := probes{stats, heartbeat, time.Now(), []*peer{m.postgres, m.redis}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, "") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.unready()) })
	mux.HandleFunc("GET /startupz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.unstarted()) })
	// It is some thousand bytes, and to compress them would take a megabyte for each who asks.
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{DisableCompression: true}))
	return mux
}

// answer says ok, or 503 with what is wrong.
func answer(w http.ResponseWriter, wrong string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if wrong != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		wrong = "ok"
	}
	_, _ = fmt.Fprintln(w, wrong) // the caller is gone if this fails
}

func (s probes) unstarted() string {
	if !s.stats().Canary.IsZero() {
		return ""
	}
	return whatIsWrong("no canary has gone through Postgres and Redis yet, "+lasting(s.started), s.peers...)
}

func (s probes) unready() string {
	if wrong := s.unstarted(); wrong != "" {
		return wrong
	}
	last := s.stats().Canary
	if time.Since(last) < 3*s.heartbeat {
		return ""
	}
	return whatIsWrong("no canary has gone through Postgres and Redis "+lasting(last), s.peers...)
}
