package e2e_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// finding is a line of doctor -json.
type finding struct{ Status, Check, Found, Do string }

// diagnose runs the doctor, and gives what it found and its exit status.
func diagnose(t *testing.T, environ []string) (findings []finding, text string, status int) {
	t.Helper()
	stdout, stderr, status := command(t, environ, "", "doctor", "-json")
	for line := range strings.Lines(stdout) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if f.Status != "ok" && f.Do == "" {
			t.Errorf("it does not say what to do: %s", line)
		}
		findings = append(findings, f)
	}
	if strings.Contains(stdout+stderr, "hunter2") {
		t.Errorf("the password is shown: %s%s", stdout, stderr)
	}
	return findings, stdout + stderr, status
}

// found checks that the doctor found something: a status, a check, and parts of what it says.
func found(t *testing.T, findings []finding, text, status, check string, parts ...string) {
	t.Helper()
	if !slices.ContainsFunc(findings, func(f finding) bool {
		return f.Status == status && f.Check == check && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(f.Found+" "+f.Do, part) })
	}) {
		t.Errorf("it did not find %s %s %q:\n%s", status, check, parts, text)
	}
}

const doctorRules = `rules:
  - {table: actions, keys: ["action:{id}", "owner:{owner}"]}
`

// TestDoctorFindsWhatIsWrongWithTables breaks one thing after the other.
func TestDoctorFindsWhatIsWrongWithTables(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	const both = notifyEvent
	for name, c := range map[string]struct {
		sql, rules string
		environ    []string
		status     int
		want       [][]string
	}{
		"nothing, with the note's triggers": {sql: both + tcnTrigger("actions") + eventTrigger("actions"), want: [][]string{
			{"warn", "triggers", "insert, update, delete by notify_event on events; insert, update, delete by tcn on tcn", "nothing tells of truncate", "pgevict triggers install"},
			{"warn", "updates", "notify_event", "owner:* (rule actions)"}, {"warn", "updates", "triggered_change_notification", "owner:* (rule actions)"},
			{"ok", "writes", "of 8000"}, {"ok", "postgres round trip", "ms"}, {"ok", "redis round trip", "ms"}, {"ok", "redis walk", "keys takes"}}},
		"a table that is not there":  {rules: "rules: [{table: acttions, keys: ['a:{id}']}]", status: 1, want: [][]string{{"fail", "table", "acttions", "did you mean actions?"}}},
		"a schema that is not there": {rules: "rules: [{table: publik.actions, keys: ['a:{id}']}]", status: 1, want: [][]string{{"fail", "table", "publik.actions", "did you mean public.actions?"}}},
		"a column that is not there": {sql: both + eventTrigger("actions"), rules: "rules: [{table: actions, keys: ['a:{ownr}']}]", status: 1,
			want: [][]string{{"fail", "table", "ownr", "did you mean owner?"}}},
		"a view":     {sql: "CREATE VIEW v AS SELECT 1 AS id", rules: "rules: [{table: v, keys: ['a:{id}']}]", status: 1, want: [][]string{{"fail", "table", "view", "tables that it reads"}}},
		"no trigger": {status: 1, want: [][]string{{"fail", "triggers", "no trigger tells of its changes", "pgevict triggers install"}}},
		"a trigger of half": {sql: both + `CREATE TRIGGER t AFTER INSERT ON actions FOR EACH ROW EXECUTE FUNCTION notify_event()`, status: 1,
			want: [][]string{{"fail", "triggers", "nothing tells of update, delete, truncate"}}},
		"another channel": {sql: both + `CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW EXECUTE FUNCTION triggered_change_notification('changes')`, status: 1,
			want: [][]string{{"fail", "triggers", "sends on changes", "PGEVICT_TCN_CHANNELS"}, {"fail", "triggers", "no trigger tells"}}},
		"a channel that is named": {sql: both + `CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW EXECUTE FUNCTION triggered_change_notification('changes')`,
			environ: []string{"PGEVICT_TCN_CHANNELS=tcn,changes"}, want: [][]string{{"warn", "triggers", "by tcn on changes"}}},
		"a disabled trigger": {sql: both + eventTrigger("actions") + "ALTER TABLE actions DISABLE TRIGGER event_trigger", status: 1,
			want: [][]string{{"fail", "triggers", "event_trigger is disabled", "ENABLE TRIGGER"}}},
		"a trigger with a condition": {sql: both + "CREATE TRIGGER t AFTER INSERT OR UPDATE OF owner OR DELETE ON actions FOR EACH ROW EXECUTE FUNCTION notify_event()",
			want: [][]string{{"warn", "triggers", "UPDATE OF"}}},
		"tcn without a primary key": {sql: both + "CREATE TABLE bare (id int);" + tcnTrigger("bare"), rules: "rules: [{table: bare, keys: ['a:{id}']}]", status: 1,
			want: [][]string{{"fail", "writes", "no primary key", "fails every write"}}},
		"rows near 8000 bytes": {sql: both + "INSERT INTO actions VALUES (1, 1, repeat('x', 6000));" + eventTrigger("actions"), want: [][]string{{"warn", "writes", "there is one of 60"}}},
		"a key of a session's type": {sql: both + "CREATE TABLE moments (at timestamptz PRIMARY KEY);" + eventTrigger("moments"), rules: "rules: [{table: moments, keys: ['a:{at}']}]",
			want: [][]string{{"warn", "updates", "a:* (rule moments)"}}},
		"a partition apart": {sql: both + `CREATE TABLE parted (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parted);` + eventTrigger("parted"), rules: "rules: [{table: parted, keys: ['a:{id}']}]",
			want: [][]string{{"warn", "triggers", "public.child"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := livetest.Database(t)
			w := &world{TB: t, dsn: url}
			w.exec(`CREATE TABLE actions (id bigint PRIMARY KEY, owner int, kind text);` + c.sql)
			if c.rules == "" {
				c.rules = doctorRules
			}
			findings, text, status := diagnose(t, append([]string{"DATABASE_URL=" + url, "REDIS_URL=" + r.URL(), rulesFile(t, c.rules)}, c.environ...))
			if status != c.status {
				t.Errorf("status %d, want %d:\n%s", status, c.status, text)
			}
			for _, want := range c.want {
				found(t, findings, text, want[0], want[1], want[2:]...)
			}
		})
	}
}

func TestDoctorFindsNothingWrongWithOurTriggers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, triggersTables, triggersRules)
	if stdout, stderr, status := command(t, w.environ, "", "triggers", "install"); status != 0 {
		t.Fatal(stdout, stderr)
	}
	w.set("action:1", "action:2", "owner:7", "somebody:else")
	findings, text, status := diagnose(t, w.environ)
	if status != 0 {
		t.Errorf("status %d:\n%s", status, text)
	}
	for _, f := range findings {
		if f.Status != "ok" && f.Check != "postgres role" { // a superuser's
			t.Errorf("%+v", f)
		}
	}
	found(t, findings, text, "ok", "triggers", "insert, update, delete, truncate by pgevict on events")
	found(t, findings, text, "ok", "redis keys", "rule actions: a sweep of action:* would delete 2 keys")
	found(t, findings, text, "ok", "redis keys", "rule actions: a sweep of owner:* would delete 1 keys")
	found(t, findings, text, "ok", "redis walk", "4 keys")
	if left := w.cache.DBSize(t.Context()).Val(); left != 4 {
		t.Errorf("the doctor left %d keys of 4", left)
	}
	stdout, _, _ := command(t, w.environ, "", "doctor")
	if !strings.Contains(stdout, "ok    redis role ") || !strings.Contains(stdout, "→ use a role") || !strings.Contains(stdout, "\n0 fail, 1 warn, ") {
		t.Errorf("as text:\n%s", stdout)
	}
}

func TestDoctorFindsWhatIsWrongWithPostgres(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	run := func(t *testing.T, database string) ([]finding, string) {
		t.Helper()
		findings, text, status := diagnose(t, []string{"DATABASE_URL=" + database, "REDIS_URL=" + r.URL(), rulesFile(t, doctorRules)})
		if status != 1 {
			t.Errorf("status %d:\n%s", status, text)
		}
		found(t, findings, text, "ok", "redis role", "master") // what else there is to say is said
		return findings, text
	}
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		findings, text := run(t, "postgres://u:hunter2@127.0.0.1:1/d")
		found(t, findings, text, "fail", "postgres reachable", "connect to Postgres", "DATABASE_URL")
	})
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		pg := livetest.NewPostgres(t)
		w := &world{TB: t, pg: pg, dsn: pg.URL("postgres")}
		w.exec(`CREATE ROLE somebody LOGIN PASSWORD 'other'; COPY (SELECT 'host all somebody all scram-sha-256' UNION ALL SELECT 'host all all all trust') TO '` + pg.Dir + `/pg_hba.conf'; SELECT pg_reload_conf()`)
		findings, text := run(t, "postgres://somebody:hunter2@"+pg.Addr+"/postgres")
		found(t, findings, text, "fail", "postgres reachable", "password authentication failed")
	})
	t.Run("pooler", func(t *testing.T) {
		t.Parallel()
		u, err := url.Parse(livetest.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		pooler := livetest.NewPgBouncer(t, livetest.SharedPostgres(t), "transaction")
		findings, text := run(t, pooler.URL(u.Path[1:]))
		found(t, findings, text, "fail", "postgres round trip", "pooler", "PgBouncer")
	})
	t.Run("read-only", func(t *testing.T) {
		t.Parallel()
		database := livetest.Database(t)
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{TB: t, dsn: database}
		w.exec(`ALTER DATABASE ` + u.Path[1:] + ` SET default_transaction_read_only = on`)
		findings, text := run(t, database)
		found(t, findings, text, "fail", "postgres reachable", "primary")
	})
	t.Run("queue", func(t *testing.T) {
		t.Parallel()
		pg := livetest.NewPostgres(t)
		w := &world{TB: t, pg: pg, dsn: pg.URL("postgres")}
		holder := w.connect()
		for _, sql := range []string{"SET application_name = 'sleepy'", "LISTEN any_channel", "BEGIN", "SELECT 1"} {
			if _, err := holder.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		w.exec(`SELECT count(pg_notify('any_channel', repeat('x', 7900) || i)) FROM generate_series(1, 13000) i`)
		findings, text := run(t, pg.URL("postgres"))
		found(t, findings, text, "warn", "postgres queue", "% of the notification queue", "sleepy", "pg_terminate_backend")
	})
}

func TestDoctorFindsWhatIsWrongWithRedis(t *testing.T) {
	t.Parallel()
	database := livetest.Database(t)
	w := &world{TB: t, dsn: database}
	w.exec(`CREATE TABLE actions (id bigint PRIMARY KEY, owner int);` + notifyEvent + eventTrigger("actions"))
	run := func(t *testing.T, redis string, want int, rules string) ([]finding, string) {
		t.Helper()
		findings, text, status := diagnose(t, []string{"DATABASE_URL=" + database, "REDIS_URL=" + redis, rulesFile(t, rules)})
		if status != want {
			t.Errorf("status %d, want %d:\n%s", status, want, text)
		}
		found(t, findings, text, "ok", "postgres round trip", "ms")
		return findings, text
	}
	admin := func(t *testing.T, r *livetest.Redis, args ...any) {
		t.Helper()
		client := redis.NewClient(&redis.Options{Addr: r.Addr})
		defer func() { _ = client.Close() }()
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("down", func(t *testing.T) {
		t.Parallel()
		findings, text := run(t, "redis://:hunter2@127.0.0.1:1", 1, doctorRules)
		found(t, findings, text, "fail", "redis reachable", "REDIS_URL")
	})
	for name, c := range map[string]struct{ acl, rules, says string }{
		"no SCAN":          {"~* +@all -scan", doctorRules, "+scan: NOPERM"},
		"no UNLINK":        {"~action:* ~pgevict:* +@all", doctorRules, "+unlink ~owner:* (rule actions): NOPERM"},
		"no SET":           {"~* +@all -set", doctorRules, "+set ~pgevict:position:*: NOPERM"},
		"no UNLINK of one": {"~action:* ~pgevict:* +@all", "rules: [{table: actions, keys: ['action:{id}', 'all:actions']}]", "+unlink ~all:actions (rule actions): NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := livetest.NewRedis(t)
			admin(t, r, "SET", "all:actions", "it must stay")
			args := []any{"ACL", "SETUSER", "limited", "on", ">hunter2"}
			for part := range strings.FieldsSeq(c.acl) {
				args = append(args, part)
			}
			admin(t, r, args...)
			findings, text := run(t, "redis://limited:hunter2@"+r.Addr, 1, c.rules)
			found(t, findings, text, "fail", "redis permissions", c.says, "ACL SETUSER")
		})
	}
	t.Run("no INFO", func(t *testing.T) {
		t.Parallel()
		r := livetest.NewRedis(t)
		admin(t, r, "SET", "all:actions", "it must stay")
		admin(t, r, "ACL", "SETUSER", "limited", "on", ">hunter2", "~*", "+@all", "-info")
		findings, text := run(t, "redis://limited:hunter2@"+r.Addr, 0, "rules: [{table: actions, keys: ['all:actions']}]")
		found(t, findings, text, "warn", "redis server", "+info")
		found(t, findings, text, "ok", "redis keys", "all:actions would delete 1 keys")
	})
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		r := livetest.NewRedis(t, "--requirepass", "other")
		findings, text := run(t, "redis://:hunter2@"+r.Addr, 1, doctorRules)
		found(t, findings, text, "fail", "redis reachable", "WRONGPASS", "password")
	})
	t.Run("replica, full, evicting", func(t *testing.T) {
		t.Parallel()
		r := livetest.NewRedis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
		admin(t, r, "SET", "somebody:else", "1")
		findings, text := run(t, r.URL(), 0, doctorRules)
		found(t, findings, text, "warn", "redis eviction", "allkeys-lru", "position")
		found(t, findings, text, "warn", "redis keys", "no key of the 1")
		admin(t, r, "REPLICAOF", "127.0.0.1", "1")
		findings, text = run(t, r.URL(), 1, doctorRules)
		found(t, findings, text, "fail", "redis role", "slave of 127.0.0.1:1", "master")
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		r := livetest.NewRedis(t, "--cluster-enabled", "yes")
		findings, text := run(t, r.URL(), 1, doctorRules)
		found(t, findings, text, "fail", "redis cluster", "no server serves any slot")
	})
}
