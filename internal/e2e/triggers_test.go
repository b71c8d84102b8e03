package e2e_test

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"pgevict/internal/livetest"
)

const triggersRules = `rules:
  - {table: actions, keys: ["action:{id}", "owner:{owner}"]}
  - {table: actions, changed: [kind], keys: ["kind:{kind}:{id}"]}
  - {table: quiet, changed: [kind], keys: ["quiet:{kind}"]}
`

const triggersTables = `CREATE TABLE actions (id bigint PRIMARY KEY, owner int, kind text); CREATE TABLE quiet (id int PRIMARY KEY, kind text, other int);`

func TestTriggersCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, triggersTables, triggersRules)
	run := func(status int, args ...string) string {
		t.Helper()
		stdout, stderr, got := command(t, w.environ, "", append([]string{"triggers"}, args...)...)
		if got != status {
			t.Errorf("triggers %v: status %d, want %d: %s%s", args, got, status, stdout, stderr)
		}
		return stdout
	}
	says := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("it lacks %q:\n%s", part, text)
			}
		}
	}
	says(run(1, "status", "-json"), `{"schema":"public","table":"actions","state":"missing","notes":[`)
	says(run(0, "uninstall"), "nothing to do")
	says(run(0, "install"), "created trigger pgevict_truncate on public.quiet\n", "ok         public.actions\n")
	says(run(0, "install"), "nothing to do\n")
	says(run(0, "status"), "ok         public.actions\n", "ok         public.quiet\n")
	w.exec(run(0, "print"))
	w.exec(`ALTER TABLE quiet DISABLE TRIGGER pgevict_update`)
	says(run(1, "status"), "disabled   public.quiet\n           - trigger pgevict_update is disabled\n")
	says(run(0, "install"), "enabled trigger pgevict_update on public.quiet\n")

	// With them, what the sidecar deletes is exact.
	p := w.serveReady()
	w.exec(`INSERT INTO actions VALUES (1, 1, 'a'), (2, 2, 'a'); INSERT INTO quiet VALUES (1, 'k', 0), (2, 'l', 0)`)
	w.rest(p)
	w.set("action:1", "action:2", "owner:1", "owner:2", "owner:3", "kind:a:1", "kind:b:1", "quiet:k", "quiet:l")
	w.exec(`UPDATE quiet SET other = 1; UPDATE actions SET owner = 3 WHERE id = 1`)
	for _, key := range []string{"action:1", "owner:1", "owner:3"} {
		w.waitGone(key)
	}
	w.rest(p)
	for _, key := range []string{"action:2", "owner:2", "kind:a:1", "kind:b:1", "quiet:k", "quiet:l"} {
		if !w.has(key) {
			t.Errorf("%s is gone, and not stale", key)
		}
	}
	w.exec(`TRUNCATE actions`)
	for _, key := range []string{"action:2", "owner:2", "kind:a:1"} {
		w.waitGone(key)
	}

	says(run(0, "uninstall", "-json"), `{"did":"dropped schema pgevict"}`)
	says(run(1, "status"), "missing    public.actions\n")
}

// TestLeastRole runs everything but the making of triggers as the role of deploy/sql, in a database that is closed to
// the public, with the triggers of the seed's note and with those of pgevict.
func TestLeastRole(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	role, err := os.ReadFile("../../deploy/sql/role.sql")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, pg, triggersTables+`REVOKE ALL ON DATABASE postgres FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
		REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;`+string(role), triggersRules+
		`  - {name: refreshed, table: actions, keys: ["row:{id}"], refresh: {query: "SELECT kind FROM actions WHERE id = {id}"}}`)
	owner := slices.Clone(w.environ)
	u, err := url.Parse(strings.TrimPrefix(w.environ[0], "DATABASE_URL="))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User("pgevict")
	w.environ[0] = "DATABASE_URL=" + u.String()
	for _, c := range [][]string{{"", "42P01", "GRANT USAGE"}, {`GRANT USAGE ON SCHEMA public TO pgevict`, "42501", "GRANT SELECT"}} {
		w.exec(c[0])
		findings, text, _ := diagnose(t, w.environ)
		found(t, findings, text, "fail", "refresh", append(c[1:], "rule refreshed: ")...)
	}
	w.exec(`GRANT SELECT (id, kind) ON actions TO pgevict`)
	for _, setup := range []struct {
		name string
		make func()
		fits int // the status of triggers status
	}{
		{"the note's triggers", func() {
			w.exec(notifyEvent + tcnTrigger("actions") + eventTrigger("actions") + eventTrigger("quiet"))
		}, 1},
		{"pgevict's triggers", func() {
			w.exec(`DROP TRIGGER tcn_trigger ON actions; DROP TRIGGER event_trigger ON actions; DROP TRIGGER event_trigger ON quiet`)
			if stdout, stderr, status := command(t, owner, "", "triggers", "install"); status != 0 {
				t.Fatalf("install: %s%s", stdout, stderr)
			}
		}, 0},
	} {
		setup.make()
		p := w.serveReady()
		for i := range 3 {
			key := fmt.Sprintf("action:%d", i)
			row := fmt.Sprintf("row:%d", i)
			w.set(key, row)
			w.exec(`INSERT INTO actions VALUES ($1, 1, 'a')`, i)
			w.waitGone(key)
			w.waitValue(row, "a")
		}
		w.exec(`DELETE FROM actions`)
		if errors := p.metric(`pgevict_connected{peer="postgres"}`); errors != 1 {
			t.Errorf("%s: not connected", setup.name)
		}
		if status := p.stop(); status != 0 {
			t.Errorf("%s: serve ended with status %d", setup.name, status)
		}
		if stdout, stderr, status := command(t, w.environ, "", "explain", "-catalog", `{"table":"actions","action":"UPDATE","data":{"id":1,"owner":2}}`); status != 0 {
			t.Errorf("%s: explain: %s%s", setup.name, stdout, stderr)
		}
		if _, text, status := diagnose(t, w.environ); status != 0 || strings.Contains(text, "superuser") {
			t.Errorf("%s: doctor ended with status %d: %s", setup.name, status, text)
		}
		if stdout, stderr, status := command(t, w.environ, "", "triggers", "status"); status != setup.fits {
			t.Errorf("%s: triggers status ended with %d: %s%s", setup.name, status, stdout, stderr)
		}
		if _, stderr, status := command(t, w.environ, "", "triggers", "install"); setup.fits == 1 && (status != 1 || !strings.Contains(stderr, "permission denied")) {
			t.Errorf("%s: install as the least role: status %d, %s", setup.name, status, stderr)
		}
	}
}
