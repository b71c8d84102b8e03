package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate"
	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// redis checks Redis.
func (d *Doctor) redis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 6*answerTimeout)
	defer cancel()
	options, err := d.Redis()
	if err != nil {
		d.Report.Fail("redis reachable", err.Error(), "check REDIS_URL")
		return
	}
	checkRedis(ctx, options, answerTimeout/2, d.Rules, d.Report)
}

// checkRedis looks whether the Redis at o is one in which all that the rules may ask for can be done, with the rights that
// its user has. It deletes and changes no key of an application, and writes one of its own for a moment to each server
// that takes writes.
func checkRedis(ctx context.Context, o *redis.UniversalOptions, timeout time.Duration, set *rules.Set, report Report) {
	d := newRedisCheck(ctx, o, timeout, set, report)
	defer d.close()
	var masters, replicas []*server
	if o.MasterName != "" {
		masters, replicas = d.bySentinels(ctx)
	} else {
		masters, replicas = d.byAddresses(ctx)
	}
	if len(masters) == 0 {
		return // why was said
	}
	d.each("masters", masters, func(s *server, report Report) { s.look(d.cluster, report) })
	needs := invalidate.Rights(set, d.cluster, d.probe)
	d.each("masters", masters, func(s *server, report Report) { d.permissions(ctx, s, needs, report) })
	d.roundTrips(ctx, masters)
	d.walk(ctx, masters)
	d.members(ctx, masters)
	d.lifetimes(ctx, masters)
	d.successors(ctx, replicas, needs)
}

// redisCheck is what a look at Redis knows.
type redisCheck struct {
	options  *redis.UniversalOptions
	user     string
	cluster  bool
	subjects []subject
	probe    string // a text that is in nobody's key
	walkFor  time.Duration
	report   Report

	mu   sync.Mutex
	open []*redis.Client
}

// subject is a template of the rules.
type subject struct {
	wide   rules.Target // what a sweep makes of it
	sample rules.Target // what a row makes of it, of which each column is the probe
}

func newRedisCheck(ctx context.Context, o *redis.UniversalOptions, timeout time.Duration, set *rules.Set, report Report) *redisCheck {
	d := &redisCheck{options: redisnode.FailFast(o, "", timeout), user: o.Username, probe: rand.Text(), walkFor: walkAtMost, report: report}
	if o.CredentialsProviderContext != nil {
		if user, _, err := o.CredentialsProviderContext(ctx); err == nil { // an error is that of the first connection too
			d.user = user
		}
	}
	if d.user == "" {
		d.user = "default"
	}
	for _, sample := range set.Samples(d.probe) {
		d.subjects = append(d.subjects, subject{sample.Widen(), sample})
	}
	return d
}

func (d *redisCheck) close() {
	for _, rdb := range d.open {
		_ = rdb.Close() // all has been said
	}
}

// server is one that is looked at.
type server struct {
	addr    string
	rdb     *redis.Client
	info    string
	infoErr error
	slot    int      // in a Cluster one that it serves
	sets    []string // some that are tags, as a walk found them
	members bool     // any key may be deleted, so those of any tag
}

// selectError is Redis' refusal of the database that was asked for.
type selectError struct {
	error
	cluster bool // which has none but 0
}

// Unwrap returns what Redis said.
func (e selectError) Unwrap() error { return e.error }

// connect opens a connection to a server, and reads its INFO. The error says that nothing can be said about it.
func (d *redisCheck) connect(ctx context.Context, o *redis.Options) (*server, error) {
	s := &server{addr: o.Addr, rdb: d.client(o)}
	err := s.rdb.Ping(ctx).Err()
	if redisnode.IsReply(err) && o.DB != 0 { // to PING, or to the SELECT before it
		zero := *o
		zero.DB = 0
		rdb := d.client(&zero)
		if answer := rdb.Ping(ctx).Err(); answer == nil {
			return nil, selectError{err, redisnode.IsCluster(rdb.Info(ctx).Val())}
		}
	}
	if err != nil && !redis.HasErrorPrefix(err, "MISCONF") && !redis.IsPermissionError(err) {
		return nil, err
	}
	s.info, s.infoErr = s.rdb.Info(ctx).Result()
	return s, nil
}

// client opens no connection before it is used; close closes it.
func (d *redisCheck) client(o *redis.Options) *redis.Client {
	rdb := redis.NewClient(o)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, rdb)
	return rdb
}

// at returns options for the server at an address.
func (d *redisCheck) at(addr string) *redis.Options {
	o := d.options.Simple()
	o.Addr = addr
	return o
}

// advice is what to do about a server that cannot be talked to.
func (d *redisCheck) advice(err error) string {
	var refused selectError
	if errors.As(err, &refused) && refused.cluster {
		return "leave the database out of REDIS_URL: a Cluster has database 0 alone"
	}
	switch redisnode.ErrorKind(err) {
	case "noauth":
		return "check the user and the password in REDIS_URL"
	case "loading":
		return "wait until Redis has loaded its data"
	case "noperm":
		return "ACL SETUSER " + d.user + " +select"
	}
	return "check REDIS_URL, and that Redis runs and can be reached from here"
}

// each looks at servers, all at once, and says what was found. What is the same for all of them is said once; what is not
// is said with who it is of.
func (d *redisCheck) each(what string, servers []*server, look func(*server, Report)) {
	found := make([][]Finding, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() {
			look(s, func(f Finding) { found[i] = append(found[i], f) })
		})
	}
	all.Wait()
	of := map[Finding][]string{}
	var order []Finding
	for i, s := range servers {
		for _, f := range found[i] {
			if of[f] == nil {
				order = append(order, f)
			}
			of[f] = append(of[f], s.addr)
		}
	}
	rank := map[string]int{}
	for i, f := range slices.Backward(order) {
		rank[f.Check] = i
	}
	slices.SortStableFunc(order, func(a, b Finding) int { return rank[a.Check] - rank[b.Check] }) // what is of one check stays together
	for _, f := range order {
		switch addrs := of[f]; {
		case len(servers) == 1 && what == "masters" && !d.cluster: // whose it is goes without saying
		case len(addrs) == len(servers) && len(addrs) > 1:
			f.Found = fmt.Sprintf("all %d %s: %s", len(servers), what, f.Found)
		default:
			f.Found = strings.Join(addrs, ", ") + ": " + f.Found
		}
		d.report(f)
	}
}
