package e2e_test

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// TestDoctorFindsTraps is of set-ups that look right, or wrong, at a first glance, and are not.
func TestDoctorFindsTraps(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	const (
		plain  = `CREATE TABLE t (id int PRIMARY KEY, a int, b int);`
		parted = `CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
			CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF parted FOR VALUES FROM (10) TO (20);`
		ofPlain, ofParted = `rules: [{table: t, keys: ['a:{id}']}]`, `rules: [{table: parted, keys: ['a:{id}']}]`
	)
	row := func(function string) string {
		return `CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION ` + function + `;`
	}
	body := func(source string) string {
		return `CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN ` + source + ` RETURN NULL; END$$;`
	}
	for name, c := range map[string]struct {
		sql, rules     string
		environ        []string
		install, after string // rules of which the triggers are installed, and what happens then
		status         int
		want           [][]string
		not            []string // checks that find neither warn nor fail
	}{
		"triggers on each partition": {sql: notifyEvent + parted + eventTrigger("p1") + eventTrigger("p2") + tcnTrigger("p1") + tcnTrigger("p2"), rules: ofParted,
			want: [][]string{{"warn", "triggers", "public.p1, public.p2: insert, update, delete by notify_event on events", "nothing tells of truncate"}}, not: []string{"updates"}},
		"triggers on one partition of two": {sql: notifyEvent + parted + eventTrigger("p1"), rules: ofParted, status: 1,
			want: [][]string{{"fail", "triggers", "public.p2: no trigger tells"}, {"warn", "triggers", "public.p1: insert"}}},
		"our triggers, of a partition too": {sql: parted, install: `rules: [{table: parted, keys: ['a:{id}']}, {table: p1, keys: ['b:{id}']}]`, not: []string{"triggers", "updates"},
			want: [][]string{{"ok", "triggers", "pgevict's own are what the rules ask for"}}},
		"our triggers, then other rules": {sql: plain, install: `rules: [{table: t, keys: ['a:{a}'], changed: [a]}]`, rules: `rules: [{table: t, keys: ['a:{a}', 'b:{b}']}]`, status: 1,
			want: [][]string{{"fail", "triggers", "public.t: pgevict's own are outdated", "pgevict triggers install"}}},
		"our triggers, disabled": {sql: plain, install: ofPlain, after: `ALTER TABLE t DISABLE TRIGGER pgevict_update`, status: 1,
			want: [][]string{{"fail", "triggers", "public.t: pgevict's own are disabled: trigger pgevict_update"}, {"fail", "triggers", "nothing tells of update"}}},
		"our triggers, and a child that came later": {sql: plain, install: ofPlain, after: `CREATE TABLE child () INHERITS (t)`, status: 1,
			want: [][]string{{"fail", "triggers", "public.child: pgevict's own are missing"}, {"warn", "triggers", "its part public.child"}}},
		"our triggers, and little temporary space": {sql: plain + `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET temp_file_limit = ''10MB''', current_database()); END $$`, install: ofPlain,
			want: [][]string{{"warn", "writes", "temp_file_limit is 10MB", "load large amounts without the triggers"}}, not: []string{"triggers"}},
		"our triggers, and a role that may not notify": {sql: plain, install: ofPlain, status: 1,
			after: `REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC; DO $$ BEGIN EXECUTE format('CREATE ROLE %I; GRANT UPDATE (a) ON t TO %1$I', 'mute of ' || current_database()); END $$`,
			want:  [][]string{{"fail", "writes", "may write to public.t, but not call pg_notify", `GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO "mute of `}}},
		"our triggers, and too many columns": {sql: `DO $$ BEGIN EXECUTE (SELECT format('CREATE TABLE wide (%s)', string_agg(format('a_column_with_a_long_name_%s int', i), ', ')) FROM generate_series(1, 150) i); END $$`,
			install: `rules: [{table: wide, keys: ['a` + strings.Join(numbered(":{a_column_with_a_long_name_%d}", 150), "") + `']}]`,
			want:    [][]string{{"warn", "updates", "so many columns that an update of one row does not fit into a message"}}},
		"a function that only speaks of it": {sql: plain + body(`-- PERFORM pg_notify('events', '');`+"\n"+`/* NOTIFY events; */`) + row("own()"), rules: ofPlain, status: 1,
			want: [][]string{{"fail", "triggers", "no trigger tells of its changes"}}},
		"a channel that is computed": {sql: plain + body(`PERFORM pg_notify('ev' || 'ents', '');`) + row("own()"), rules: ofPlain,
			want: [][]string{{"warn", "triggers", "by own on a channel that its source does not tell", "make sure that own sends to pgevict"}}},
		"a channel that is an argument": {sql: plain + body(`PERFORM pg_notify(TG_ARGV[1], '');`) + row("own('x', 'events')"), rules: ofPlain,
			want: [][]string{{"warn", "triggers", "by own on events"}}},
		"another channel by NOTIFY": {sql: plain + body(`NOTIFY Changes, 'x';`) + row("own()"), rules: ofPlain, status: 1,
			want: [][]string{{"fail", "triggers", "sends on changes, and nobody listens", "PGEVICT_EVENTS_CHANNELS (now events)"}}},
		"tcn on the channel for JSON": {sql: notifyEvent + plain + row("triggered_change_notification('events')"), rules: ofPlain, status: 1,
			want: [][]string{{"fail", "triggers", "sends on events, which is in PGEVICT_EVENTS_CHANNELS", "move it to PGEVICT_TCN_CHANNELS"}}},
		"tcn without a key, and unheard": {sql: notifyEvent + `CREATE TABLE t (id int);` + row("triggered_change_notification('elsewhere')"), rules: ofPlain, status: 1,
			want: [][]string{{"fail", "writes", "no primary key"}, {"fail", "triggers", "nobody listens"}, {"ok", "postgres tcn", "is installed, 1.0"}}},
		"an update of the key, with one kind": {sql: notifyEvent + plain + eventTrigger("t"), rules: ofPlain,
			want: [][]string{{"warn", "updates", "public.t: an update of the primary key itself is told of by half"}}},
		"an update of the key, with both": {sql: notifyEvent + plain + eventTrigger("t") + tcnTrigger("t"), rules: ofPlain, not: []string{"updates"}},
		"a text that is the session's": {sql: notifyEvent + `CREATE TABLE t (id int PRIMARY KEY, at timestamptz);` + tcnTrigger("t") + eventTrigger("t"), rules: `rules: [{table: t, keys: ['a:{at}']}]`,
			want: [][]string{{"warn", "updates", "notify_event tells of widens to a:*", "the text of at depends on the session"}}},
		"names in need of quotes": {sql: notifyEvent + `CREATE TABLE "Order Items" (id int PRIMARY KEY); CREATE TRIGGER "My T" AFTER UPDATE ON "Order Items" FOR EACH ROW EXECUTE FUNCTION notify_event();
			ALTER TABLE "Order Items" DISABLE TRIGGER "My T"`, rules: `rules: [{table: '"Order Items"', keys: ['a:{id}']}]`, status: 1,
			want: [][]string{{"fail", "triggers", `ALTER TABLE public."Order Items" ENABLE TRIGGER "My T"`}}},
		"a table in two schemas": {sql: notifyEvent + plain + `CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY);` + eventTrigger("t"), rules: `rules: [{table: t, keys: ['a:{id}']}, {table: public.t, keys: ['b:{id}']}]`, status: 1,
			want: [][]string{{"ok", "table", "every schema", "public.t, s.t"}, {"fail", "triggers", "s.t: no trigger"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := livetest.Database(t)
			w := &world{TB: t, dsn: database}
			w.exec(c.sql)
			environ := []string{"DATABASE_URL=" + database, "REDIS_URL=" + r.URL()}
			if c.install != "" {
				if stdout, stderr, status := command(t, append(environ, rulesFile(t, c.install)), "", "triggers", "install"); status != 0 {
					t.Fatal(stdout, stderr)
				}
				w.exec(c.after)
			}
			if c.rules == "" {
				c.rules = c.install
			}
			findings, text, status := diagnose(t, append(append(environ, rulesFile(t, c.rules)), c.environ...))
			if status != c.status {
				t.Errorf("status %d, want %d:\n%s", status, c.status, text)
			}
			for _, want := range c.want {
				found(t, findings, text, want[0], want[1], want[2:]...)
			}
			seen := map[finding]bool{}
			for _, f := range findings {
				if seen[f] || f.Status != "ok" && slices.Contains(c.not, f.Check) {
					t.Errorf("found, or found twice: %+v", f)
				}
				seen[f] = true
			}
		})
	}
}

// TestDoctorHasTheLeastRights runs as a role that may only connect, while another's session holds up the queue.
func TestDoctorHasTheLeastRights(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	w := &world{TB: t, pg: pg, dsn: pg.URL("postgres")}
	w.exec(notifyEvent + `CREATE TABLE actions (id bigint PRIMARY KEY, owner int);` + eventTrigger("actions") + `CREATE ROLE least LOGIN`)
	holder := w.connect()
	for _, sql := range []string{"SET application_name = 'sleepy'", "LISTEN any_channel", "BEGIN", "SELECT 1"} {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.exec(`SELECT count(pg_notify('any_channel', repeat('x', 7900) || i)) FROM generate_series(1, 13000) i`)
	u, err := url.Parse(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("least")
	environ := []string{"DATABASE_URL=" + u.String(), "REDIS_URL=" + livetest.NewRedis(t).URL(), rulesFile(t, doctorRules)}
	findings, text, status := diagnose(t, environ)
	if status != 0 {
		t.Errorf("status %d:\n%s", status, text)
	}
	found(t, findings, text, "ok", "postgres role", `"least"`)
	found(t, findings, text, "warn", "postgres queue", "find the listener", "GRANT pg_read_all_stats")
	found(t, findings, text, "warn", "writes", "permission denied", "grant SELECT")

	w.exec(`GRANT pg_read_all_stats TO least; GRANT SELECT ON actions TO least`)
	findings, text, _ = diagnose(t, environ)
	found(t, findings, text, "warn", "postgres queue", "sleepy, idle in transaction", "pg_terminate_backend")
	found(t, findings, text, "ok", "writes", "of 8000")
}

func TestDoctorOfARedisThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	database := livetest.Database(t)
	w := &world{TB: t, dsn: database}
	w.exec(notifyEvent + `CREATE TABLE t (id int PRIMARY KEY);` + eventTrigger("t"))
	rules := rulesFile(t, `rules: [{table: t, keys: ['a:{id}', 'all:t']}]`)
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		r := livetest.NewRedis(t, "--maxmemory", "100kb")
		findings, text, status := diagnose(t, []string{"DATABASE_URL=" + database, "REDIS_URL=" + r.URL(), rules})
		if status != 0 {
			t.Errorf("status %d:\n%s", status, text)
		}
		found(t, findings, text, "warn", "redis writes", "OOM", "make room")
	})
	t.Run("cannot save", func(t *testing.T) {
		t.Parallel()
		r := livetest.NewRedis(t, "--save", "3600 1", "--dbfilename", "taken")
		client := newCache(t, r)
		if err := client.Do(t.Context(), "SET", "somebody:else", "1").Err(); err != nil {
			t.Fatal(err)
		}
		occupy(t, r.Dir+"/taken")
		_ = client.Do(t.Context(), "BGSAVE").Err() // it fails in the background
		eventually(t, "the save has failed", func() bool {
			return redis.HasErrorPrefix(client.Set(t.Context(), "somebody:else", "2", 0).Err(), "MISCONF")
		})
		findings, text, status := diagnose(t, []string{"DATABASE_URL=" + database, "REDIS_URL=" + r.URL(), rules})
		if status != 1 {
			t.Errorf("status %d:\n%s", status, text)
		}
		found(t, findings, text, "warn", "redis persistence", "last write to disk failed")
		found(t, findings, text, "fail", "redis writes", "MISCONF", "log")
	})
}

// occupy makes a directory where a file should be.
func occupy(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// numbered returns n texts, each with its number.
func numbered(format string, n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf(format, i+1))
	}
	return texts
}
