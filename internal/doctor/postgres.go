package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify/postgres"
)

// connect opens a connection to Postgres.
func (d *Doctor) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := d.Postgres()
	if err != nil {
		return nil, err
	}
	return postgres.Connect(ctx, config, answerTimeout)
}

// postgres checks the server, and then what the rules need of it.
func (d *Doctor) postgres(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*answerTimeout)
	defer cancel()
	conn, err := d.connect(ctx)
	if err != nil {
		do := "check DATABASE_URL, and that Postgres runs and can be reached from here"
		if errors.Is(err, pgconn.ErrReadOnlyConnection) {
			do = "name the primary in DATABASE_URL, or all hosts: a standby, or a server that is read-only, cannot be listened to"
		}
		d.Report.Fail("postgres reachable", err.Error(), do)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	took, err := roundTrip(ctx, conn, d.connect)
	if errors.Is(err, postgres.ErrPooler) || errors.Is(err, postgres.ErrDeaf) { // nothing else of it can be trusted either
		d.Report.OK("postgres reachable", "something answers")
		d.Report.Fail("postgres round trip", err.Error(), "set DATABASE_URL to the address of Postgres itself, not of PgBouncer, pgcat, RDS Proxy or the like")
		return
	}
	d.Report.OK("postgres reachable", "it answers, and no pooler stands before it")
	if err := d.server(ctx, conn); err != nil {
		d.Report.Fail("postgres server", err.Error(), "see Postgres' log")
		return
	}
	if errors.Is(err, postgres.ErrStandby) {
		d.Report.Fail("postgres round trip", err.Error(), "name the primary in DATABASE_URL")
	} else if err != nil {
		d.Report.Fail("postgres round trip", err.Error(), "see Postgres' log")
	} else {
		d.Report.OK("postgres round trip", fmt.Sprintf("%.1f ms from NOTIFY on one connection to another", took.Seconds()*1000))
	}
	if err := d.tables(ctx, conn); err != nil {
		d.Report.Fail("tables", err.Error(), "see Postgres' log")
	}
}

// wholeEncodings are those in which each byte is a character, so that all values have a form in UTF-8.
var wholeEncodings = []string{"LATIN1", "LATIN2", "LATIN4", "LATIN5", "LATIN6", "LATIN7", "LATIN8", "LATIN9", "LATIN10", "ISO_8859_5", "KOI8R", "KOI8U", "WIN866", "WIN1256"}

// encoding looks whether values arrive, and in which form.
func (d *Doctor) encoding(name string) {
	switch {
	case name == "UTF8":
		d.Report.OK("postgres encoding", name)
	case name == "SQL_ASCII":
		d.Report.OK("postgres encoding", name+": values reach pgevict as the bytes that they are")
	case slices.Contains(wholeEncodings, name):
		d.Report.Warn("postgres encoding", name+": values reach pgevict as UTF-8", "make sure that the application's keys hold the values in UTF-8, or have ASCII alone in them")
	default:
		d.Report.Fail("postgres encoding", name+": values reach pgevict as UTF-8, and a message with a byte that has no character in "+name+" ends its session, which costs a sweep each time",
			"move to a database in UTF8, or make sure that no such byte comes into a table of the rules (triggers that send only keys in ASCII will do)")
	}
}

// serverSQL returns what a listener asks of a server; the columns are read by their place.
const serverSQL = `
SELECT current_setting('server_version'), current_setting('server_version_num'), pg_is_in_recovery(), current_setting('transaction_read_only'),
       current_setting('server_encoding'), current_user, rolsuper, pg_notification_queue_usage(),
       pg_has_role('pg_read_all_stats', 'USAGE'), (SELECT extversion FROM pg_extension WHERE extname = 'tcn')
FROM pg_roles WHERE rolname = current_user`

// holdersSQL returns the sessions that may keep the notification queue from being emptied: a listener that is in a transaction
// reads nothing, nor does one whose client does not take what it is sent. Who listens cannot be seen.
const holdersSQL = `
SELECT pid, coalesce(nullif(application_name, ''), 'without an application_name'), state || CASE WHEN wait_event = 'ClientWrite' THEN ', its client does not read' ELSE '' END,
       coalesce('its transaction is ' || extract(epoch FROM now() - xact_start)::int || ' s old', 'in no transaction')
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND (xact_start < now() - interval '1 minute' OR state LIKE 'idle in transaction%' OR wait_event = 'ClientWrite')
ORDER BY xact_start NULLS LAST LIMIT 3`

// server looks whether the server is one that can be listened to.
func (d *Doctor) server(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := postgres.Query(ctx, conn, serverSQL)
	if err != nil {
		return fmt.Errorf("look at the server: %w", err)
	}
	r := rows[0]
	number, err := strconv.Atoi(r[1])
	switch {
	case err != nil:
		return fmt.Errorf("look at the server: %w", err)
	case number < 130000:
		d.Report.Fail("postgres version", r[0], "use Postgres 13 or later: pgevict needs pg_current_snapshot()")
	default:
		d.Report.OK("postgres version", r[0])
	}
	switch {
	case r[2] == "t":
		d.Report.Fail("postgres primary", "the server is in recovery, and a standby cannot LISTEN", "name the primary in DATABASE_URL, or all hosts, without target_session_attrs")
	case r[3] == "on":
		d.Report.Warn("postgres primary", "sessions are read-only (default_transaction_read_only)", "make sure that this is the server that takes the writes")
	default:
		d.Report.OK("postgres primary", "it takes writes")
	}
	d.encoding(r[4])
	if r[6] == "t" {
		d.Report.Warn("postgres role", strconv.Quote(r[5])+" is a superuser", "use a role that may do no more than connect: deploy/sql/role.sql")
	} else {
		d.Report.OK("postgres role", strconv.Quote(r[5])+" may LISTEN and NOTIFY, as every role that may connect")
	}
	usage, err := strconv.ParseFloat(r[7], 64)
	if err != nil {
		return fmt.Errorf("look at the notification queue: %w", err)
	}
	holders, err := postgres.Query(ctx, conn, holdersSQL)
	if err != nil {
		return fmt.Errorf("look who holds up the notification queue: %w", err)
	}
	d.Report(judgeQueue(usage, holders, r[8] == "t"))
	if r[9] == "" {
		d.Report.OK("postgres tcn", "the extension is not installed, so no trigger is one of tcn")
	} else {
		d.Report.OK("postgres tcn", "the extension is installed, "+r[9])
	}
	return nil
}

// judgeQueue says what the usage of the notification queue means, and who may hold it up. Others' sessions can be seen only
// by a role with the right to.
func judgeQueue(usage float64, holders [][]string, all bool) Finding {
	f := Finding{Status: OK, Check: "postgres queue", Found: fmt.Sprintf("%.3g %% of the notification queue is in use", usage*100)}
	if usage > 0.5 {
		f.Status, f.Do = Fail, "at 100 % the application's commits fail: "
	} else if usage > 0.01 {
		f.Status, f.Do = Warn, "it is not being emptied: "
	} else {
		return f
	}
	var who []string
	for _, h := range holders {
		who = append(who, fmt.Sprintf("pid %s (%s, %s, %s)", h[0], h[1], h[2], h[3]))
	}
	if len(who) > 0 {
		f.Do += "end the session that holds it up, probably " + strings.Join(who, " or ") + ", with pg_terminate_backend"
	} else {
		f.Do += "find the listener that does not read (pg_stat_activity), and end it"
	}
	if !all {
		f.Do += "; for this to see the sessions of other roles, GRANT pg_read_all_stats to this one"
	}
	return f
}

// roundTrip sends a message from a second connection to the first, as a listener does with its first canary, and returns
// how long that took. No other listener hears it. The error is [postgres.ErrPooler], [postgres.ErrStandby] or
// [postgres.ErrDeaf] where it is one of those.
func roundTrip(ctx context.Context, conn *pgconn.PgConn, connect func(context.Context) (*pgconn.PgConn, error)) (time.Duration, error) {
	rows, err := postgres.Query(ctx, conn, `SELECT pg_backend_pid(), pg_is_in_recovery()`)
	switch {
	case err != nil:
		return 0, err
	case rows[0][0] != strconv.FormatUint(uint64(conn.PID()), 10):
		return 0, postgres.ErrPooler
	case rows[0][1] == "t":
		return 0, postgres.ErrStandby
	}
	channel := "pgevict_doctor_" + strings.ToLower(rand.Text())
	if _, err := postgres.Query(ctx, conn, `LISTEN `+postgres.Identifier(channel)); err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	defer func() { _, _ = postgres.Query(ctx, conn, `UNLISTEN `+postgres.Identifier(channel)) }() // the connection ends soon in any case
	other, err := connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = other.Close(ctx) }()
	sent := time.Now()
	if _, err := postgres.Query(ctx, other, `SELECT pg_notify($1, '')`, channel); err != nil {
		return 0, fmt.Errorf("notify: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := conn.WaitForNotification(waiting); err != nil {
		if errors.Is(waiting.Err(), context.DeadlineExceeded) {
			return 0, postgres.ErrDeaf
		}
		return 0, fmt.Errorf("wait for the notification: %w", err)
	}
	return time.Since(sent), nil
}
