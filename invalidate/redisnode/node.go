// Package redisnode knows what a Redis server says of itself and of its Cluster: its INFO, who serves which slot, and what
// kind of error it answered with. It keeps nothing, and what follows from all that is its callers' business.
package redisnode

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// FailFast returns options for a client that fails fast and does not retry: its callers have all that they need to try
// again, for ever.
func FailFast(o *redis.UniversalOptions, name string, timeout time.Duration) *redis.UniversalOptions {
	c := *o
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout = timeout, timeout, timeout
	c.ContextTimeoutEnabled = true
	c.MaxRetries = -1
	c.DialerRetries = 1
	c.ConnMaxIdleTime = -1
	c.PipelinePoolSize = -1 // one pool, of which every connection is looked at
	c.DisableIdentity = true
	c.ClientName = name
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &c
}

// InfoField returns a field of what INFO or CLUSTER INFO answered; empty: it has none.
func InfoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Mode is what kind of server it is, by its INFO: standalone, cluster or sentinel. Valkey has a name of its own for it.
func Mode(info string) string {
	return cmp.Or(InfoField(info, "redis_mode"), InfoField(info, "server_mode"))
}

// IsCluster reports whether a server is of a Cluster, by its INFO.
func IsCluster(info string) bool { return InfoField(info, "cluster_enabled") == "1" }

// ErrMoved says that the rest of what was read from one server is another's by now. It counts as an answer of Redis.
var ErrMoved = errors.New("another server has the set by now, and it is to be read from its beginning")

// IsReply reports whether an error is what Redis answered, rather than that it did not.
func IsReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) || errors.Is(err, ErrMoved)
}

// IsDenied reports whether an error says that the user may not do what was asked, itself or in a script, of which Redis 7.0
// says so behind ERR; the driver compares what stands behind that.
func IsDenied(err error) bool {
	return redis.IsPermissionError(err) || redis.HasErrorPrefix(err, "The user executing the script can't")
}

// ErrorKind names an error in a word fit for a metric.
func ErrorKind(err error) string {
	var network net.Error
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	switch {
	case redis.IsLoadingError(err):
		return "loading"
	case redis.IsReadOnlyError(err):
		return "readonly"
	case redis.IsOOMError(err):
		return "oom"
	case redis.IsAuthError(err):
		return "noauth"
	case IsDenied(err):
		return "noperm"
	case redis.IsClusterDownError(err), redis.IsMasterDownError(err):
		return "clusterdown"
	case moved, ask, errors.Is(err, ErrMoved), redis.IsTryAgainError(err), redis.HasErrorPrefix(err, "CROSSSLOT"): // the last is said of keys that were not known to be of a Cluster
		return "moved"
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return "wrongtype"
	case IsReply(err):
		return "other"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "connection"
}

// Redirected reports whether an error says that another server has the key, or is about to get it.
func Redirected(err error) bool { return err != nil && ErrorKind(err) == "moved" }
