package invalidate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"
)

// client makes a client that fails fast and does not retry: the queue has all that it needs to try again, for ever.
func (q *Queue) client(o *redis.Options) *redis.Client {
	c := *o
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout = q.Timeout, q.Timeout, q.Timeout
	c.ContextTimeoutEnabled = true
	c.MaxRetries = -1
	c.DialerRetries = 1
	// Two are ever in use. But once as many dials as this have failed, the pool dials just once a second, which would
	// make us late when Redis is back.
	c.PoolSize = 1000
	c.ConnMaxIdleTime = -1
	c.DisableIdentity = true
	c.ClientName = "pgevict"
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c.OnConnect = q.onConnect
	return redis.NewClient(&c)
}

// onConnect looks whether it is still the same Redis process that answers. One that has restarted, or another that took
// its place, may lack what the first acknowledged.
func (q *Queue) onConnect(ctx context.Context, conn *redis.Conn) error {
	info, err := conn.Info(ctx, "server").Result()
	if err != nil && !redis.IsPermissionError(err) {
		return fmt.Errorf("INFO: %w", err)
	}
	if mode := infoField(info, "redis_mode"); mode != "" && mode != "standalone" {
		return fmt.Errorf("it is a Redis of the mode %q, and this version of pgevict supports a single server alone", mode)
	}
	run := infoField(info, "run_id")
	q.mu.Lock()
	before := q.run
	q.run = run
	if run == "" {
		q.run = "unknown"
	}
	q.mu.Unlock()
	if before != "" && (run == "" || run != before) {
		q.Log.Warn("another Redis process answers, or one that cannot be told from another, so deletes may be lost",
			zap.Bool("info_allowed", err == nil))
		q.Gap(GapRestart)
	}
	return nil
}

// ping finds out whether Redis answers, before there is anything to tell it.
func (q *Queue) ping(ctx context.Context) error {
	return q.unlink(ctx, nil, func(pipe redis.Pipeliner) { pipe.Ping(ctx) })
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// answered takes note that Redis answers.
func (q *Queue) answered() {
	q.mu.Lock()
	before := q.stats.Connected
	q.stats.Connected = true
	if !before {
		clear(q.said)
	}
	q.mu.Unlock()
	if !before {
		q.Observer.Connected(true)
		q.Log.Info("Redis answers")
	}
}

// failed takes note of an error. One that lasts is logged once a minute, not at each attempt.
func (q *Queue) failed(err error) {
	kind := errorKind(err)
	connected := isReply(err) && kind != "loading" && kind != "noauth" // of which the end is worth a word in the log
	q.mu.Lock()
	q.stats.Connected = connected
	last, said := q.said[kind]
	news := !said || time.Since(last) > time.Minute
	if news {
		q.said[kind] = time.Now()
	}
	q.mu.Unlock()
	q.Observer.Failed(kind)
	q.Observer.Connected(connected)
	if news { // without the lock: a log that nobody reads would hold up Add
		q.Log.Warn("Redis did not do it, will try again", zap.String("kind", kind), zap.Error(err))
	}
}

// isReply reports whether an error is what Redis answered, rather than that it did not.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// errorKind names an error in a word fit for a metric.
func errorKind(err error) string {
	var network net.Error
	switch {
	case redis.IsLoadingError(err):
		return "loading"
	case redis.IsReadOnlyError(err):
		return "readonly"
	case redis.IsOOMError(err):
		return "oom"
	case redis.IsAuthError(err):
		return "noauth"
	case redis.IsPermissionError(err):
		return "noperm"
	case isReply(err):
		return "other"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "connection"
}
