package pgnotify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

func TestRelations(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE EXTENSION tcn;`+livetest.NotifyEvent+`
		CREATE TABLE t (id int PRIMARY KEY, at timestamptz, doc jsonb, day date);
		CREATE FUNCTION literal() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			PERFORM pg_notify('one', json_build_object('old', to_json(OLD))::text); PERFORM pg_catalog.PG_NOTIFY( E'two'::text , ''); NOTIFY Three; NOTIFY "Fo ur", 'x'; RETURN NULL; END$$;
		CREATE FUNCTION argument() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify(TG_ARGV[ 1 ], ''); RETURN NULL; END$$;
		CREATE FUNCTION computed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('ev' || TG_ARGV[0], ''); RETURN NULL; END$$;
		CREATE FUNCTION silent() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN -- PERFORM pg_notify('events', '')
			/* NOTIFY events; **/ RETURN my_notify(NEW); END$$;
		CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION triggered_change_notification();
		CREATE TRIGGER b AFTER UPDATE OF at ON t FOR EACH ROW EXECUTE FUNCTION triggered_change_notification('my own');
		CREATE TRIGGER c AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION notify_event();
		CREATE TRIGGER d AFTER TRUNCATE ON t EXECUTE FUNCTION literal();
		CREATE TRIGGER e AFTER DELETE ON t FOR EACH ROW WHEN (OLD.id > 1) EXECUTE FUNCTION argument('x', 'y');
		CREATE TRIGGER f AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION computed('ents');
		CREATE TRIGGER g AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION silent();
		CREATE TABLE referring (id int REFERENCES t);
		ALTER TABLE t DISABLE TRIGGER f; ALTER TABLE t ENABLE REPLICA TRIGGER c; ALTER TABLE t ENABLE ALWAYS TRIGGER a;
		CREATE TABLE child () INHERITS (t);
		CREATE TABLE parted (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF parted FOR VALUES IN (1);
		CREATE TRIGGER a AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION notify_event();
		CREATE VIEW v AS SELECT 1 AS id`)
	relations, err := pgnotify.Relations(t.Context(), conn.PgConn(), []string{"t", "parted", "v", "gone"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range relations {
		got = append(got, fmt.Sprintf("%s.%s: %s part=%v of %v key=%v", r.Schema, r.Name, r.Kind, r.Part(), r.Whole(), r.Key))
		for _, f := range r.Triggers {
			got = append(got, fmt.Sprintf("  %s %s %s %q %v enabled=%v partial=%v whole=%v old=%v", f.Name, f.Function, f.Kind, f.Channels, f.Ops, f.Enabled, f.Partial, f.Whole, f.Old))
		}
	}
	want := `public.t: table part=false of [public.t] key=[id]
  a triggered_change_notification tcn ["tcn"] [delete insert update] enabled=true partial=false whole=false old=false
  b triggered_change_notification tcn ["my own"] [update] enabled=true partial=true whole=false old=false
  c notify_event other ["events"] [insert] enabled=false partial=false whole=true old=false
  d literal other ["Fo ur" "one" "three" "two"] [truncate] enabled=true partial=false whole=true old=true
  e argument other ["y"] [delete] enabled=true partial=true whole=false old=false
  f computed other [] [delete] enabled=false partial=false whole=false old=false
public.child: table part=true of [public.t] key=[]
public.parted: partitioned table part=false of [public.parted] key=[]
  a notify_event other ["events"] [insert] enabled=true partial=false whole=true old=false
public.p1: table part=true of [public.parted] key=[]
  a notify_event other ["events"] [insert] enabled=true partial=false whole=true old=false
public.v: view part=false of [public.v] key=[]`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	var exact []string
	for _, c := range relations[slices.IndexFunc(relations, func(r pgnotify.Relation) bool { return r.Name == "t" })].Columns {
		exact = append(exact, fmt.Sprintf("%s %v %v", c.Name, c.Exact(pgnotify.TCN), c.Exact(pgnotify.Events)))
	}
	if got, want := fmt.Sprint(exact), "[at false false day false true doc false false id true true]"; got != want {
		t.Errorf("texts %s, want %s", got, want)
	}
}
