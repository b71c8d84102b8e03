package bench_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
)

const actionRules = `rules: [{table: actions, keys: ["action:{id}"]}]`

// firstID begins ids as large as those that applications make.
const firstID = 814150981284533461

func actionKey(i int) string { return fmt.Sprintf("action:%d", firstID+i) }

// The descriptor of a row, which makes most of notify_event's message: of 290 bytes with the short one, and with the
// long one, that of the note that the table comes from, of 660.
const (
	shortRow = `{"text": "ok"}`
	longRow  = `{"text": "已經在專人線上回覆模式囉!欲切換回機器人模式,請點選按鈕。", "buttons":
		[{"id": "qjeOd64yTZ", "type": "postback", "title": "回到機器人模式", "payload": "466303161796137991", "defaultVisible": true,
		"webviewSetting": {"extension": false, "heightRatio": "full"}, "trackingUrlEnabled": false}]}`
)

// benchPostgres starts a server on which nothing runs beside what is measured.
func benchPostgres(b *testing.B) *livetest.Postgres {
	b.Helper()
	return livetest.NewPostgres(b, "autovacuum=off", "max_wal_size=8GB", "shared_buffers=256MB")
}

// benchDatabase makes a database with the table actions, of which a trigger tells a channel: tcn or events. Each that is
// measured has a database of its own, since notifications do not cross databases.
func benchDatabase(b *testing.B, pg *livetest.Postgres, name, channel, descriptor string, rows int) (url string, conn *pgx.Conn) {
	b.Helper()
	benchExec(b, benchConnect(b, pg.URL("postgres")), "CREATE DATABASE "+name)
	conn = benchConnect(b, pg.URL(name))
	trigger := "triggered_change_notification"
	if channel == "events" {
		trigger = "notify_event"
	}
	benchExec(b, conn, `
		CREATE EXTENSION tcn;`+livetest.NotifyEvent+`
		CREATE TABLE actions (
			id bigint PRIMARY KEY, "order" integer NOT NULL, type text NOT NULL, descriptor jsonb NOT NULL,
			actionable_id bigint NOT NULL, actionable_type text NOT NULL, platform text NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz
		) WITH (fillfactor = 50);`)
	benchExec(b, conn, `
		INSERT INTO actions SELECT $1::bigint + i, 1, 'text', $3::jsonb, 466303161695474694 + i / 10, 'composite_actions', 'messenger'
		FROM generate_series(0, $2::int - 1) i`, firstID, rows, descriptor)
	benchExec(b, conn, "CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW EXECUTE FUNCTION "+trigger+"()")
	return pg.URL(name), conn
}

// median gives the middle of some numbers, which it sorts.
func median[T float64 | time.Duration](values []T) T { return quantile(values, 0.5) }

func quantile[T float64 | time.Duration](values []T, q float64) T {
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

// table logs lines of columns that are separated by tabs. Of what a benchmark logs only ten lines are shown.
func table(b *testing.B, lines ...string) {
	b.Helper()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, line := range lines {
		_, _ = fmt.Fprintf(w, "%s\t\n", line)
	}
	_ = w.Flush() // a strings.Builder cannot fail, here and above
	b.Log("\n" + text.String())
	b.ReportMetric(0, "ns/op") // says nothing here
}
