package invalidate

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// Say takes a finding: whether it is "ok", "warn" or "fail", what was looked at, what was found, and what to do.
type Say func(status, check, found, do string)

// Diagnose looks whether the Redis at o is one in which all that the rules may ask for can be done, with the rights that
// its user has. It deletes and changes no key of an application, and writes one of its own for a moment to each server
// that takes writes.
func Diagnose(ctx context.Context, o *redis.UniversalOptions, timeout time.Duration, set *rules.Set, say Say) {
	d := newDiagnosis(ctx, o, timeout, set, say)
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
	d.each("masters", masters, func(s *server, say Say) { s.look(d.cluster, say) })
	needs := Rights(set, d.cluster, d.probe)
	d.each("masters", masters, func(s *server, say Say) { d.permissions(ctx, s, needs, say) })
	d.roundTrips(ctx, masters)
	d.walk(ctx, masters)
	d.members(ctx, masters)
	d.successors(ctx, replicas, needs)
}

// diagnosis is what a look at Redis knows.
type diagnosis struct {
	options  *redis.UniversalOptions
	user     string
	cluster  bool
	subjects []subject
	probe    string // a text that is in nobody's key
	walkFor  time.Duration
	say      Say

	mu   sync.Mutex
	open []*redis.Client
}

// subject is a template of the rules.
type subject struct {
	wide   rules.Target // what a sweep makes of it
	sample rules.Target // what a row makes of it, of which each column is the probe
}

func newDiagnosis(ctx context.Context, o *redis.UniversalOptions, timeout time.Duration, set *rules.Set, say Say) *diagnosis {
	d := &diagnosis{options: redisnode.FailFast(o, "", timeout), user: o.Username, probe: rand.Text(), walkFor: walkAtMost, say: say}
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

func (d *diagnosis) close() {
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

// connect opens a connection to a server, and reads its INFO. The error says that nothing can be said about it.
func (d *diagnosis) connect(ctx context.Context, o *redis.Options) (*server, error) {
	s := &server{addr: o.Addr, rdb: redis.NewClient(o)}
	d.mu.Lock()
	d.open = append(d.open, s.rdb)
	d.mu.Unlock()
	err := s.rdb.Ping(ctx).Err()
	if err != nil && !redis.HasErrorPrefix(err, "MISCONF") && (!redis.IsPermissionError(err) || strings.Contains(err.Error(), "'select'")) {
		return nil, err
	}
	s.info, s.infoErr = s.rdb.Info(ctx).Result()
	return s, nil
}

// at gives options for the server at an address.
func (d *diagnosis) at(addr string) *redis.Options {
	o := d.options.Simple()
	o.Addr = addr
	return o
}

// advice is what to do about a server that cannot be talked to.
func (d *diagnosis) advice(err error) string {
	if strings.Contains(err.Error(), "cluster mode") {
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

type finding struct{ status, check, found, do string }

// each looks at servers, all at once, and says what was found. What is the same for all of them is said once; what is not
// is said with who it is of.
func (d *diagnosis) each(what string, servers []*server, look func(*server, Say)) {
	found := make([][]finding, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() {
			look(s, func(status, check, text, do string) {
				found[i] = append(found[i], finding{status, check, text, do})
			})
		})
	}
	all.Wait()
	of := map[finding][]string{}
	var order []finding
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
		rank[f.check] = i
	}
	slices.SortStableFunc(order, func(a, b finding) int { return rank[a.check] - rank[b.check] }) // what is of one check stays together
	for _, f := range order {
		switch addrs := of[f]; {
		case len(servers) == 1 && what == "masters" && !d.cluster: // whose it is goes without saying
		case len(addrs) == len(servers) && len(addrs) > 1:
			f.found = fmt.Sprintf("all %d %s: %s", len(servers), what, f.found)
		default:
			f.found = strings.Join(addrs, ", ") + ": " + f.found
		}
		d.say(f.status, f.check, f.found, f.do)
	}
}
