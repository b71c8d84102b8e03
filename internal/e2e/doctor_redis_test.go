package e2e_test

import (
	"strings"
	"testing"

	"pgevict/internal/livetest"
)

const doctorReaches = `rules:
  - {name: action, table: actions, keys: ['action:{id}', 'actions:list:*']}
  - {name: of, table: actions, tags: ['actions:of:{owner}']}
  - {name: owner, table: actions, fields: [{key: 'owner:{owner}', field: '{id}'}]}
  - {name: kind, table: actions, keys: ['kind:{id}'], refresh: {query: 'SELECT kind FROM actions WHERE id = {id}::bigint'}}
`

// TestDoctorOfManyServers goes by REDIS_URL alone.
func TestDoctorOfManyServers(t *testing.T) {
	t.Parallel()
	database := livetest.Database(t)
	w := &world{TB: t, dsn: database}
	w.exec(`CREATE TABLE actions (id bigint PRIMARY KEY, owner int, kind text);` + notifyEvent + eventTrigger("actions"))
	look := func(t *testing.T, url string, want int) ([]finding, string) {
		t.Helper()
		findings, text, status := diagnose(t, []string{"DATABASE_URL=" + database, "REDIS_URL=" + url, rulesFile(t, doctorReaches)})
		if status != want {
			t.Errorf("status %d, want %d:\n%s", status, want, text)
		}
		return findings, text
	}
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := livetest.NewRedisCluster(t, 3, 1)
		if err := c.Patient(); err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{c.URL(), c.URL() + "?addr=" + strings.Join(c.Addrs()[1:], "&addr=")} {
			findings, text := look(t, url, 0)
			found(t, findings, text, "ok", "redis cluster", "3 masters", "3 replicas")
			found(t, findings, text, "ok", "redis permissions", "all 3 masters: ")
			found(t, findings, text, "ok", "redis keys", "rule of: a sweep of actions:of:* would delete 0 sets and their members")
			found(t, findings, text, "ok", "redis replicas", "all 3 replicas")
		}
		findings, text := look(t, c.URL()+"/3", 1)
		found(t, findings, text, "fail", "redis reachable", "cluster mode", "leave the database out")
		if err := c.Nodes[4].Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes[1].Kill(); err != nil {
			t.Fatal(err)
		}
		findings, text = look(t, c.URL(), 1)
		found(t, findings, text, "fail", "redis reachable", "the master "+c.Nodes[1].Addr, "start it")
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		s := livetest.NewSentinelSet(t, 1, 1)
		findings, text := look(t, s.URL(), 0)
		found(t, findings, text, "ok", "redis sentinel", "the master mymaster is "+s.Redis[0].Addr)
		found(t, findings, text, "ok", "redis role", "master")
		findings, text = look(t, strings.Replace(s.URL(), s.Name, "theirs", 1), 1)
		found(t, findings, text, "fail", "redis sentinel", "no master called theirs, but mymaster", "master_name=")
		if err := s.Sentinels[0].Kill(); err != nil {
			t.Fatal(err)
		}
		findings, text = look(t, s.URL(), 1)
		found(t, findings, text, "fail", "redis sentinel", s.Sentinels[0].Addr, "refused", "check REDIS_URL")
	})
}
