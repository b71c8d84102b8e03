// Package doctor looks at what pgevict is to work with, says what is wrong, and what to do about it. It changes nothing.
package doctor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"pgevict/pgnotify/triggers"
	"pgevict/rules"
)

// Status is how a check came out.
type Status string

// What fails keeps pgevict from working, or a key stale; what is to be warned of may be meant so.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is what came of a check.
type Finding struct {
	Status Status `json:"status"`
	Check  string `json:"check"` // what was looked at
	Found  string `json:"found"`
	Do     string `json:"do,omitempty"` // what to do about it
}

// Report takes findings, one after the other.
type Report func(Finding)

// OK tells of something that is as it should be.
func (r Report) OK(check, found string) { r(Finding{OK, check, found, ""}) }

// Warn tells of something that may be meant so.
func (r Report) Warn(check, found, do string) { r(Finding{Warn, check, found, do}) }

// Fail tells of something that does not work.
func (r Report) Fail(check, found, do string) { r(Finding{Fail, check, found, do}) }

// answerTimeout bounds what is waited for, one by one.
const answerTimeout = 10 * time.Second

// Doctor knows what serve would work with. All of it is required.
type Doctor struct {
	Rules          *rules.Set
	Postgres       func() (*pgconn.Config, error)
	TCNChannels    []string
	EventsChannels []string
	Triggers       triggers.Wanted // that the rules ask for
	RefreshTimeout time.Duration
	Redis          func() (*redis.UniversalOptions, error)
	Report         Report
}

// Examine checks Postgres, the tables and triggers of the rules, and Redis.
func (d *Doctor) Examine(ctx context.Context) {
	d.postgres(ctx)
	d.redis(ctx)
}
