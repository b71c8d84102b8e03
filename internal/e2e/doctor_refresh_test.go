package e2e_test

import (
	"fmt"
	"strconv"
	"testing"

	"pgevict/internal/livetest"
)

// TestDoctorTriesTheQueriesOfRefreshes breaks one thing after the other.
func TestDoctorTriesTheQueriesOfRefreshes(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	url := livetest.Database(t)
	w := &world{TB: t, dsn: url}
	w.exec(notifyEvent + `CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x'), (2, 'y');
		CREATE FUNCTION writes(int) RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING 1';` + tcnTrigger("t"))
	queries := map[string][]string{
		"SELECT row_to_json(t) FROM t WHERE id = {id} -- all of it": {"ok", "rule t: its query reads one value"},
		"SELECT 'constant'":                             {"ok"},
		"SELECT b FROM t WHERE id = {id}":               {"fail", `column "b" does not exist`, "correct the query"},
		"SELECT a FROM tt WHERE id = {id}":              {"fail", `relation "tt" does not exist`, "search_path"},
		"SELECT a FROM elsewhere.t WHERE id = {id}":     {"fail", "does not exist", "correct the query"},
		"SELECT missing({id})":                          {"fail", "does not exist", "correct the query"},
		"SELECT id, a FROM t WHERE id = {id}":           {"fail", "only one column", "one row of one column"},
		"SELECT a FROM t":                               {"fail", "more than one row", "one row of one column"},
		"SELECT a FRM t WHERE id = {id}":                {"fail", "syntax error", "one row of one column"},
		"SELECT a FROM t WHERE id = {id} FOR UPDATE":    {"fail", "read-only", "neither write nor lock"},
		"SELECT writes({id})":                           {"fail", "read-only", "neither write nor lock"},
		"SELECT jsonb_build_object('id', {id})":         {"fail", "could not determine data type", "{id}::bigint"},
		"SELECT a || pg_sleep(10) FROM t WHERE id <> 1": {"fail", "statement timeout", "PGEVICT_REFRESH_TIMEOUT"},
	}
	t.Run("queries", func(t *testing.T) {
		for query, want := range queries {
			t.Run(query, func(t *testing.T) {
				t.Parallel()
				rules := fmt.Sprintf("rules: [{table: t, keys: ['a:{id}'], refresh: {query: %s}}]", strconv.Quote(query))
				findings, text, status := diagnose(t, []string{"DATABASE_URL=" + url, "REDIS_URL=" + r.URL(), rulesFile(t, rules), "PGEVICT_REFRESH_TIMEOUT=300ms"})
				found(t, findings, text, want[0], "refresh", want[1:]...)
				if status == 0 != (want[0] == "ok") {
					t.Errorf("status %d: %s", status, text)
				}
			})
		}
	})
	if n := w.query(`SELECT count(*)::text FROM t`); n != "2" {
		t.Errorf("%s rows are left", n)
	}
}
