package triggers_test

import (
	"slices"
	"strings"
	"testing"

	"pgevict/pgnotify/triggers"
)

const parted = `
	CREATE TABLE t (id int, region text, a text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
	CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('de', 'fr', 'be') PARTITION BY LIST (region);
	CREATE TABLE t_de PARTITION OF t_eu FOR VALUES IN ('de');
	CREATE TABLE t_fr PARTITION OF t_eu FOR VALUES IN ('fr');
	CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us');`

func TestOfPartitions(t *testing.T) {
	t.Parallel()
	w := wire(t, parted, triggers.Table{Name: "t", Columns: []string{"region"}})
	w.sends(`INSERT INTO t VALUES (1, 'de'), (2, 'fr'), (3, 'us')`,
		"insert public.t nil→{id=1 region=de}", "insert public.t nil→{id=2 region=fr}", "insert public.t nil→{id=3 region=us}")
	if got := len(w.payloads(`UPDATE t SET a = 'a'`)); got != 1 {
		t.Errorf("a statement on the partitioned table took %d messages", got)
	}
	w.sends(`INSERT INTO t_de VALUES (4, 'de'), (5, 'de')`, "insert public.t nil→{id=4 region=de}", "insert public.t nil→{id=5 region=de}")
	w.sends(`UPDATE t_eu SET a = 'b' WHERE id = 4`, "update public.t {id=4 region=de}→{id=4 region=de}")
	w.sends(`UPDATE t SET region = 'us' WHERE id = 4`, "update public.t {id=4 region=de}→nil", "update public.t nil→{id=4 region=us}")
	w.sends(`UPDATE t SET region = CASE region WHEN 'de' THEN 'fr' ELSE 'de' END WHERE region <> 'us'`,
		"update public.t {id=1 region=de}→nil", "update public.t nil→{id=1 region=fr}", "update public.t {id=2 region=fr}→nil", "update public.t nil→{id=2 region=de}",
		"update public.t {id=5 region=de}→nil", "update public.t nil→{id=5 region=fr}")
	w.sends(`DELETE FROM t_us WHERE id = 4`, "delete public.t {id=4 region=us}→nil")
	if _, err := w.writer.PgConn().CopyFrom(t.Context(), strings.NewReader("6\tde\n7\tus\n"), `COPY t (id, region) FROM STDIN`); err != nil {
		t.Fatal(err)
	}
	w.sends(`SELECT 1`, "insert public.t nil→{id=6 region=de}", "insert public.t nil→{id=7 region=us}")
	w.sends(`TRUNCATE t_us`, "truncate public.t any row")
	w.sends(`TRUNCATE t`, "truncate public.t any row")

	// A row that another trigger keeps from arriving: what is left cannot be paired.
	exec(t, w.writer, `INSERT INTO t VALUES (1, 'de', 'a'), (2, 'de', 'b'), (3, 'de', 'c');
		CREATE FUNCTION nobody() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END';
		CREATE TRIGGER nobody BEFORE INSERT ON t_us FOR EACH ROW EXECUTE FUNCTION nobody()`)
	_ = w.payloads(`SELECT 1`)
	w.sends(`UPDATE t SET region = 'us' WHERE id = 2`, "update public.t any row")
	exec(t, w.writer, `INSERT INTO t VALUES (2, 'de', 'b')`)
	_ = w.payloads(`SELECT 1`)
	w.sends(`UPDATE t SET region = 'us'`, "update public.t any row")
}

func TestOfPartitionsThatCameLater(t *testing.T) {
	t.Parallel()
	w := wire(t, parted, triggers.Table{Name: "t", Columns: []string{"a"}})
	exec(t, w.writer, `CREATE TABLE t_jp PARTITION OF t FOR VALUES IN ('jp'); CREATE TABLE t_es (id int NOT NULL, region text NOT NULL, a text);
		INSERT INTO t_es VALUES (9, 'es', 'here before'); ALTER TABLE t_eu DETACH PARTITION t_fr; CREATE TABLE t_be PARTITION OF t_eu FOR VALUES IN ('be')`)
	exec(t, w.writer, `ALTER TABLE t ATTACH PARTITION t_es FOR VALUES IN ('es')`)
	check := func(when string) {
		t.Helper()
		w.sends(`INSERT INTO t VALUES (1, 'jp', 'a'), (2, 'es', 'a'), (3, 'be', 'a'), (4, 'de', 'a')`,
			"insert public.t nil→{a=a id=1}", "insert public.t nil→{a=a id=2}", "insert public.t nil→{a=a id=3}", "insert public.t nil→{a=a id=4}")
		for _, part := range []string{"t_jp", "t_es", "t_be"} {
			got := w.rows(`UPDATE ` + part + ` SET a = 'b' WHERE id < 9`)
			if len(got) != 1 || !strings.HasPrefix(got[0], "update public.t {a=a id=") {
				t.Errorf("%s: an update of %s sent %q", when, part, got)
			}
		}
		w.sends(`DELETE FROM t WHERE id < 9`, "delete public.t {a=b id=1}→nil", "delete public.t {a=b id=2}→nil", "delete public.t {a=b id=3}→nil", "delete public.t {a=a id=4}→nil")
	}
	check("before install")
	states := w.states()
	for _, part := range []string{"t_jp", "t_es", "t_be"} {
		if s := states["public."+part]; s.State != triggers.Missing || !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "each row") }) {
			t.Errorf("before install, %s is %+v", part, s)
		}
	}
	if s := states["public.t_fr"]; s.State != triggers.LeftOver {
		t.Errorf("the partition that was detached is %+v", s)
	}
	w.install()
	check("after install")
	if got := w.payloads(`INSERT INTO t VALUES (1, 'jp'), (2, 'es'), (3, 'be')`); len(got) != 1 {
		t.Errorf("after install the rows of new partitions take %d messages: %q", len(got), got)
	}
	w.inOrder()
	w.sends(`TRUNCATE t_jp`, "truncate public.t any row")
	exec(t, w.writer, `ALTER TABLE t DETACH PARTITION t_jp`)
	w.install()
	exec(t, w.writer, `ALTER TABLE t ATTACH PARTITION t_jp FOR VALUES IN ('jp')`)
	w.install()
	w.inOrder()
}

func TestOfAPartitionThatARuleNames(t *testing.T) {
	t.Parallel()
	w := wire(t, parted, triggers.Table{Name: "t_eu", Columns: []string{"a"}})
	w.sends(`INSERT INTO t VALUES (1, 'de', 'a'), (2, 'us', 'a'), (3, 'fr', 'a')`, "insert public.t_eu nil→{a=a id=1}", "insert public.t_eu nil→{a=a id=3}")
	w.sends(`UPDATE t_de SET a = 'b'`, "update public.t_eu {a=a id=1}→{a=b id=1}")
	w.sends(`UPDATE t SET region = 'us' WHERE id = 1`, "delete public.t_eu {a=b id=1}→nil")
	w.sends(`DELETE FROM t`, "delete public.t_eu {a=a id=3}→nil")
	w.sends(`TRUNCATE t`, "truncate public.t_eu any row")
	exec(t, w.writer, `CREATE TABLE t_be PARTITION OF t_eu FOR VALUES IN ('be')`)
	w.sends(`INSERT INTO t VALUES (4, 'be', 'a')`, "insert public.t_eu nil→{a=a id=4}")
	w.install()
	w.inOrder()
	w.sends(`TRUNCATE t_be`, "truncate public.t_eu any row")

	// Both the whole and a part.
	w.wanted.Tables = append(w.wanted.Tables, triggers.Table{Name: "t", Columns: []string{"region"}})
	w.columns["t"] = []string{"id", "region"}
	w.install()
	w.inOrder()
	w.sends(`INSERT INTO t VALUES (1, 'de', 'a')`, "insert public.t nil→{id=1 region=de}", "insert public.t_eu nil→{a=a id=1}")
	w.sends(`UPDATE t_de SET a = 'b'`, "update public.t {id=1 region=de}→{id=1 region=de}", "update public.t_eu {a=a id=1}→{a=b id=1}")
	w.sends(`TRUNCATE t_de`, "truncate public.t any row", "truncate public.t_eu any row")
}

func TestOfChildren(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE p (id int PRIMARY KEY, a text); CREATE TABLE c (b text) INHERITS (p); CREATE TABLE q (z int); CREATE TABLE g () INHERITS (c, q);`,
		triggers.Table{Name: "p", Columns: []string{"a"}}, triggers.Table{Name: "q", Columns: []string{"z"}})
	w.sends(`INSERT INTO p VALUES (1, 'p')`, "insert public.p nil→{a=p id=1}")
	w.sends(`INSERT INTO c VALUES (2, 'c', 'b'), (3, 'c', 'b')`, "insert public.p nil→{a=c id=2}", "insert public.p nil→{a=c id=3}")
	w.sends(`INSERT INTO g VALUES (4, 'g', 'b', 5)`, "insert public.p nil→{a=g id=4}", "insert public.q nil→{z=5}")
	w.sends(`UPDATE p SET a = 'x' WHERE id > 2`, "update public.p {a=c id=3}→{a=x id=3}", "update public.p {a=g id=4}→{a=x id=4}")
	w.sends(`DELETE FROM c WHERE id > 2`, "delete public.p {a=x id=3}→nil", "delete public.p {a=x id=4}→nil")
	w.sends(`TRUNCATE ONLY p`, "truncate public.p any row")
	w.sends(`TRUNCATE c`, "truncate public.p any row", "truncate public.q any row")
	w.inOrder()

	// A rule for the child alone hears of statements on the parent too.
	w.wanted.Tables, w.columns = []triggers.Table{{Name: "c", Columns: []string{"id", "b"}}}, columns{"c": {"id", "b"}}
	w.install()
	w.inOrder()
	w.sends(`INSERT INTO c VALUES (2, 'c', 'b')`, "insert public.c nil→{b=b id=2}")
	w.sends(`UPDATE p SET a = 'x'`, "update public.c {b=b id=2}→{b=b id=2}")
	w.sends(`INSERT INTO g VALUES (4, 'g', 'b', 5)`, "insert public.c nil→{b=b id=4}")
	w.sends(`DELETE FROM p`, "delete public.c {b=b id=2}→nil", "delete public.c {b=b id=4}→nil")
}

// A watched partitioned table may become a partition of another: an ALTER TABLE of the application's does not fail. After
// the next install a statement on any of them tells of the keys of all.
func TestAttachOneWatchedTableToAnother(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);
		CREATE TABLE q (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE q_8 PARTITION OF q FOR VALUES IN (8);
		CREATE TABLE r (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE r_9 PARTITION OF r FOR VALUES IN (9)`,
		triggers.Table{Name: "p"}, triggers.Table{Name: "q"}, triggers.Table{Name: "r"})
	for _, name := range []string{"p", "q", "r"} {
		w.columns[name] = []string{"id", "k"}
	}
	insert := func(table string) string { return "insert public." + table + " nil→{id=1 k=9}" }
	remove := func(table string) string { return "delete public." + table + " {id=1 k=9}→nil" }
	for range 2 {
		exec(t, w.writer, `ALTER TABLE q ATTACH PARTITION r FOR VALUES IN (9)`)
		exec(t, w.writer, `ALTER TABLE p ATTACH PARTITION q FOR VALUES IN (8, 9)`)
		if sent := w.rows(`INSERT INTO p VALUES (1, 9)`); !slices.Contains(sent, insert("p")) {
			t.Errorf("before the next install, an insert through p sent %q", sent)
		}
		if sent := w.rows(`DELETE FROM r`); !slices.Contains(sent, remove("p")) || !slices.Contains(sent, remove("q")) || !slices.Contains(sent, remove("r")) {
			t.Errorf("before the next install, a delete from r sent %q", sent)
		}
		w.install()
		w.inOrder()
		for _, into := range []string{"p", "q", "r", "r_9"} {
			w.sends(`INSERT INTO `+into+` VALUES (1, 9)`, insert("p"), insert("q"), insert("r"))
			w.sends(`DELETE FROM `+into+` WHERE k = 9`, remove("p"), remove("q"), remove("r"))
		}
		exec(t, w.writer, `ALTER TABLE p DETACH PARTITION q; ALTER TABLE q DETACH PARTITION r`)
		if sent := w.rows(`INSERT INTO r VALUES (1, 9)`); !slices.Contains(sent, insert("r")) {
			t.Errorf("after r was detached an insert sent %q", sent)
		}
		w.install()
		w.inOrder()
		w.sends(`DELETE FROM r`, remove("r"))
	}
}
