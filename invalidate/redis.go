package invalidate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgevict/invalidate/redisnode"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// options gives those for one server.
func (q *Queue) options(addr string) *redis.Options {
	o := redisnode.FailFast(q.redis, "pgevict", q.Timeout).Simple()
	o.Addr = addr
	return o
}

func (s *shard) client() *redis.Client {
	c := redisnode.FailFast(s.redis, "pgevict", s.Timeout)
	// Few are ever in use. But once as many dials as this have failed, the pool dials just once a second, which would
	// make us late when Redis is back.
	c.PoolSize = 1000
	c.OnConnect = s.onConnect
	if c.MasterName != "" {
		return redis.NewFailoverClient(c.Failover())
	}
	o := c.Simple()
	if s.addr != "" {
		o.Addr = s.addr
	}
	return redis.NewClient(o)
}

// onConnect looks whether it is still the same Redis process that answers. One that has restarted, or another that took
// its place, may lack what the first acknowledged.
func (s *shard) onConnect(ctx context.Context, conn *redis.Conn) error {
	info, err := conn.Info(ctx).Result()
	if err != nil && !redis.IsPermissionError(err) {
		return fmt.Errorf("INFO: %w", err)
	}
	if redisnode.InfoField(info, "redis_mode") == "sentinel" {
		return nil // the client asks them who is the master
	}
	clustered := redisnode.InfoField(info, "cluster_enabled") == "1"
	if s.addr == "" && s.inCluster.Load() && !clustered && info != "" {
		return errors.New("several addr= in REDIS_URL mean a Cluster, and this server is of none")
	}
	if clustered && s.redis.MasterName != "" {
		return errors.New("the master that the sentinels name is of a Cluster: name its servers in REDIS_URL, without master_name=")
	}
	if s.addr == "" && clustered {
		if s.redis.DB != 0 {
			return errors.New("it is a Cluster, which has database 0 alone, and REDIS_URL names another")
		}
		s.inCluster.Store(true)
		s.lookUp()
		return errCluster
	}
	run := redisnode.InfoField(info, "run_id")
	s.mu.Lock()
	before := s.run
	s.run = run
	if run == "" {
		s.run = "unknown"
	}
	s.mu.Unlock()
	if before != "" && (run == "" || run != before) {
		s.Log.Warn("another Redis process answers, or one that cannot be told from another, so deletes may be lost",
			s.where(), zap.Bool("info_allowed", err == nil))
		s.Gap(GapRestart)
	}
	return nil
}

// ping finds out whether Redis answers, before there is anything to tell it.
func (s *shard) ping(ctx context.Context) error {
	return s.send(ctx, nil, func(pipe redis.Pipeliner) { pipe.Ping(ctx) })
}

// answered takes note that the server answers.
func (s *shard) answered() {
	s.mu.Lock()
	before := s.answers
	s.answers = true
	if !before {
		clear(s.said)
	}
	all := s.connected()
	s.mu.Unlock()
	if !before {
		s.Observer.Connected(all)
		s.Log.Info("Redis answers", s.where())
	}
}

// failed takes note of an error. One that lasts is logged once a minute, not at each attempt.
func (s *shard) failed(err error) {
	kind := redisnode.ErrorKind(err)
	answers := redisnode.IsReply(err) && kind != "loading" && kind != "noauth" // of which the end is worth a word in the log
	s.mu.Lock()
	s.answers = answers
	all := s.connected()
	last, said := s.said[kind]
	news := !s.gone && (!said || time.Since(last) > time.Minute)
	if news {
		s.said[kind] = time.Now()
	}
	s.mu.Unlock()
	s.Observer.Failed(kind)
	s.Observer.Connected(all)
	if news { // without the lock: a log that nobody reads would hold up Add
		s.Log.Warn("Redis did not do it, will try again", s.where(), zap.String("kind", kind), zap.Error(err))
	}
}

// where names a master of a Cluster in the log.
func (s *shard) where() zap.Field {
	if s.addr == "" {
		return zap.Skip()
	}
	return zap.String("master", s.addr)
}
