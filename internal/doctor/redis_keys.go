package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

const (
	walkAtMost = 10 * time.Second // how long a look at Redis walks over the keyspace
	scanCount  = 1000             // how many keys one SCAN looks at, as in a sweep
	someSets   = 10               // how many tags of a server are kept to look at their members
)

// survey is what a walk over some keys found.
type survey struct {
	seen   int
	took   time.Duration
	whole  bool    // they are all there are
	share  float64 // of all, as far as it is known
	counts []int   // of each subject
	odd    []int   // those of a type that the subject is not made for
	oddKey []string
	err    error
}

// walk counts what a sweep would delete, at the pace of a sweep.
func (d *redisCheck) walk(ctx context.Context, masters []*server) {
	surveys := make([]survey, len(masters))
	var all sync.WaitGroup
	for i, s := range masters {
		all.Go(func() { surveys[i] = d.survey(ctx, s) })
	}
	all.Wait()
	total := survey{counts: make([]int, len(d.subjects)), odd: make([]int, len(d.subjects)), oddKey: make([]string, len(d.subjects))}
	about, seen := "", 0
	for _, s := range surveys {
		if s.err != nil {
			if !redis.IsPermissionError(s.err) { // which was said
				d.report.Fail("redis keys", s.err.Error(), "see Redis' log")
			}
			return
		}
		switch {
		case s.whole:
		case s.share > 0:
			about = "about "
		case about == "":
			about = "more than "
		}
		if s.share == 0 {
			s.share = 1
		}
		seen += s.seen
		total.seen += int(float64(s.seen) / s.share)
		total.took = max(total.took, time.Duration(float64(s.took)/s.share))
		for j := range d.subjects {
			total.counts[j] += int(float64(s.counts[j]) / s.share)
			total.odd[j] += int(float64(s.odd[j]) / s.share)
			if s.oddKey[j] != "" {
				total.oddKey[j] = s.oddKey[j]
			}
		}
	}
	matched := 0
	for i, s := range d.subjects {
		matched += total.counts[i]
		d.told(s, total.counts[i], total.odd[i], total.oddKey[i], about)
	}
	if matched == 0 && seen > 0 {
		d.report.Warn("redis keys", fmt.Sprintf("no key of the %d in this database is one of the rules", seen), "if the cache is not empty, check the templates in the rules, and the number of the database in REDIS_URL")
	}
	each := ""
	if len(masters) > 1 {
		each = fmt.Sprintf(" of %d masters at once", len(masters))
	}
	d.report.OK("redis walk", fmt.Sprintf("a pass over the %s%d keys%s takes %s%s", about, total.seen, each, about, total.took.Round(time.Millisecond)))
}

// told says how many keys are a subject's.
func (d *redisCheck) told(s subject, count, odd int, oddKey, about string) {
	found := fmt.Sprintf("rule %s: a sweep of %s would delete ", s.wide.Rule(), s.wide.Key)
	switch {
	case s.wide.IsTag():
		found += fmt.Sprintf("%s%d sets and their members", about, count-odd)
	case s.sample.Kind == rules.Field:
		found += fmt.Sprintf("%s%d hashes", about, count-odd)
	default:
		found += fmt.Sprintf("%s%d keys", about, count)
	}
	d.report.OK("redis keys", found)
	if odd == 0 {
		return
	}
	found = fmt.Sprintf("rule %s: %s%d keys like %q", s.wide.Rule(), about, odd, oddKey)
	if s.wide.IsTag() {
		d.report.Warn("redis keys", found+" are no sets, so there are no members to delete", "check the template: tags are sets whose members are keys; what is a key itself goes under keys")
	} else {
		d.report.Warn("redis keys", found+" are no hashes, so they have no fields to delete, but a sweep deletes them", "check the template: fields are those of hashes; what is a key itself goes under keys")
	}
}

// survey walks over the keys of one server.
func (d *redisCheck) survey(ctx context.Context, s *server) survey {
	f := survey{counts: make([]int, len(d.subjects)), odd: make([]int, len(d.subjects)), oddKey: make([]string, len(d.subjects))}
	began := time.Now()
	cursor := uint64(0)
	for {
		step := time.Now()
		keys, next, err := s.rdb.Scan(ctx, cursor, "", scanCount).Result()
		if err != nil {
			f.err = fmt.Errorf("%s: SCAN: %w", s.addr, err)
			return f
		}
		f.seen += len(keys)
		ofType := map[string]map[string]bool{}
		for _, key := range keys {
			for i, subject := range d.subjects {
				if !subject.wide.Covers(key) {
					continue
				}
				f.counts[i]++
				want := subject.wants()
				if want == "" {
					continue
				}
				// The same step once more, of one type, since TYPE would be one more command to allow.
				if ofType[want] == nil {
					some, _, err := s.rdb.ScanType(ctx, cursor, "", scanCount, want).Result()
					if err != nil {
						f.err = fmt.Errorf("%s: SCAN TYPE %s: %w", s.addr, want, err)
						return f
					}
					ofType[want] = map[string]bool{}
					for _, k := range some {
						ofType[want][k] = true
					}
				}
				if !ofType[want][key] {
					f.odd[i]++
					f.oddKey[i] = key
				} else if subject.wide.IsTag() && len(s.sets) < someSets {
					s.sets = append(s.sets, key)
				}
			}
		}
		if cursor = next; cursor == 0 || time.Since(began) > d.walkFor || pause(ctx, time.Since(step)) != nil {
			break
		}
	}
	f.took, f.whole = time.Since(began), cursor == 0
	if size := s.size(d.options.DB); f.whole {
		f.share = 1
	} else if size > 0 {
		f.share = min(1, max(float64(f.seen), 1)/float64(size))
	}
	return f
}

// wants is the type that a subject's keys have in Redis; empty: any.
func (s subject) wants() string {
	switch {
	case s.wide.IsTag():
		return "set"
	case s.sample.Kind == rules.Field:
		return "hash"
	}
	return ""
}

// pause waits, as a sweep does after each step of its walk.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// lifetimes looks whether Redis may drop the sets that are tags before the members that they name, which then no change and
// no sweep finds.
func (d *redisCheck) lifetimes(ctx context.Context, masters []*server) {
	if !slices.ContainsFunc(d.subjects, func(s subject) bool { return s.wide.IsTag() }) {
		return
	}
	d.each("masters", masters, func(s *server, report Report) {
		policy, limit := redisnode.InfoField(s.info, "maxmemory_policy"), redisnode.InfoField(s.info, "maxmemory")
		if strings.HasPrefix(policy, "allkeys") && limit != "0" {
			report.Warn("redis tags", policy+" may evict a tag's set before its members, which then stay stale",
				"give the members a TTL, which bounds that; or use a volatile-* policy and sets without a TTL")
		}
		for _, set := range s.sets {
			if left, err := s.rdb.PTTL(ctx, set).Result(); err == nil && left > 0 { // where it is not allowed it cannot be told
				report.Warn("redis tags", fmt.Sprintf("the set %.100q expires, and members that live longer then stay stale", set),
					"let no set expire before its members: PERSIST, or EXPIRE … GT whenever a member is added")
				return
			}
		}
	})
}
