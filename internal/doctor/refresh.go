package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/refresh"
	"pgevict/rules"
)

// refreshes has Postgres look at the queries that refreshed keys are read by, as it does when they are: with the same
// statement, in a transaction that cannot write. The parameters are NULL, so as a rule no row is found.
func (d *Doctor) refreshes(ctx context.Context, conn *pgconn.PgConn) error {
	for _, r := range d.Rules.Refreshes() {
		timeout := d.RefreshTimeout.Milliseconds()
		if err := conn.Exec(ctx, fmt.Sprintf("BEGIN READ ONLY; SET LOCAL statement_timeout = %d", timeout)).Close(); err != nil {
			return fmt.Errorf("try the queries of the refreshes: %w", err)
		}
		err := conn.ExecParams(ctx, refresh.Statement(r.Query), make([][]byte, len(r.Columns)), nil, nil, nil).Read().Err
		if err := errors.Join(conn.Exec(ctx, "ROLLBACK").Close(), ctx.Err()); err != nil {
			return fmt.Errorf("try the queries of the refreshes: %w", err)
		}
		d.refresh(r, err)
	}
	return nil
}

// refresh says what came of a query.
func (d *Doctor) refresh(r *rules.Refresh, err error) {
	if err == nil {
		d.Report.OK("refresh", fmt.Sprintf("rule %s: its query reads one value", r.Rule))
		return
	}
	code, do := "", "correct the query in the rules"
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		code = pgErr.Code
	}
	switch code {
	case "42501": // insufficient_privilege
		do = "GRANT SELECT on it (on a function, EXECUTE) to the role that pgevict connects as"
	case "42P01", "42703", "42883", "3F000": // undefined: table, column, function, schema
		do += ", or name the schema, or GRANT USAGE on it: names are looked for in the search_path of the role that pgevict connects as"
	case "42P18": // indeterminate_datatype
		do += ": give the parameter a type, such as {id}::bigint"
	case "42601", "21000": // syntax_error, cardinality_violation
		do += ": a refresh reads one row of one column, such as SELECT row_to_json(t) FROM t WHERE id = {id}"
	case "25006", "25001": // read_only_sql_transaction, active_sql_transaction
		do += ": a refresh can neither write nor lock rows"
	}
	if refresh.TookLong(err) {
		do = "make the query faster, or raise PGEVICT_REFRESH_TIMEOUT: a key of which the query takes longer is deleted"
	}
	d.Report.Fail("refresh", fmt.Sprintf("rule %s: %v", r.Rule, err), do)
}
