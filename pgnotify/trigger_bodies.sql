-- The bodies of the trigger functions, for format():
--   1 the table, for a comment   2 the message that says "any row"   3 the channel
--   4 whether rows that stay as they were need not be sent   5, 6 the values of the row that is called r, o
--   7, 8 the JSON of the row that is called NEW, OLD   9 the beginning of a message with rows
--   10, 11 the query for many rows: the fast one, and the one for all that it cannot do
--   12, 13 the message with one row, for format(): of a row, of a new and an old one
-- In "rows" and "update", %bulk% stands for the text of that name, with which they end.
--
-- All keep to this: whatever goes wrong, the write does not fail, and the message is one that says less.
--
-- Most statements write one row, so what is done for one is as little as can be: one query, of few functions, since to set up
-- each costs more than to call it; names with their schema rather than a search_path; and no snapshot for each query (the
-- functions are STABLE), which the transition tables do not need.
VALUES
('rows', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  done pg_catalog.bool;
BEGIN
  SELECT pg_catalog.pg_notify(%3$s, pg_catalog.format(%12$L, pg_catalog.row_to_json(r.*))) IS NOT NULL INTO STRICT done
  FROM (SELECT %5$s FROM pgevict_rows r) r;
  RETURN NULL;
EXCEPTION
WHEN no_data_found THEN
  RETURN NULL;
WHEN too_many_rows OR invalid_parameter_value THEN
%bulk%$body$),
('update', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  done pg_catalog.bool;
BEGIN
  SELECT CASE WHEN NOT %4$s OR (pg_catalog.row_to_json(r.*)::pg_catalog.text OPERATOR(pg_catalog.<>)
      (SELECT pg_catalog.row_to_json(o.*)::pg_catalog.text FROM (SELECT %6$s FROM pgevict_old o) o)) IS NOT FALSE THEN
    pg_catalog.pg_notify(%3$s, pg_catalog.format(%13$L, pg_catalog.row_to_json(r.*), (SELECT pg_catalog.row_to_json(o.*) FROM (SELECT %6$s FROM pgevict_old o) o)))
    IS NOT NULL END INTO STRICT done
  FROM (SELECT %5$s FROM pgevict_rows r) r;
  RETURN NULL;
EXCEPTION
WHEN no_data_found THEN
  IF EXISTS (SELECT FROM pgevict_old) THEN
    PERFORM pg_catalog.pg_notify(%3$s, %2$L);
  END IF;
  RETURN NULL;
WHEN too_many_rows OR cardinality_violation OR invalid_parameter_value THEN
%bulk%$body$),
-- Many rows, or one that is too long for pg_notify, which the error said.
('bulk', $body$
  DECLARE
    path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
    jit CONSTANT pg_catalog.text := pg_catalog.current_setting('jit');
    plans CONSTANT pg_catalog.text := pg_catalog.current_setting('plan_cache_mode');
    head CONSTANT pg_catalog.text := %9$L;
    shrink pg_catalog.int4 := 1;
  BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
    LOOP
      BEGIN
        %10$s
        IF done IS NULL THEN
          %11$s
        END IF;
        -- Rows are paired by their position: both tables get a row at the same time. Only one that moves to a partition where
        -- another trigger suppresses it comes to be in one of them alone.
        IF done IS NOT TRUE THEN
          RAISE 'too many rows, or one too long, or some without a pair';
        END IF;
        EXIT;
      EXCEPTION WHEN invalid_parameter_value THEN -- a message is too long
        shrink := shrink * 4;
      END;
    END LOOP;
    PERFORM set_config('search_path', path, true), set_config('jit', jit, true), set_config('plan_cache_mode', plans, true);
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_catalog.pg_notify(%3$s, %2$L);
  END;
  RETURN NULL;
WHEN OTHERS THEN
  PERFORM pg_catalog.pg_notify(%3$s, %2$L);
  RETURN NULL;
END
$body$),
-- The queries for many rows, for format():
--   1, 2 the columns of the new rows, of the old ones, as arrays   3, 4 whether all values are in the arrays: of the new rows, of both
--   5 whether each column changed in any row   6 the names of those that did   7, 8, 9 parts of the arrays: for a sample, for ten
--   messages, for one   10, 11 lists of what is in them   12 whether a message is to be sent   13, 14 what is in them, as rows
--   15 the channel   16 whether each column has one value in all new rows   17 the columns of r   18 the most rows that are sent
-- They say false of too many rows, and after a message with one row was too long; and null if not all values are in the arrays.
--
-- A message about more than a thousand rows has each column as a list: names are not repeated, and Postgres makes text of an
-- array faster than of a row. What did not change in any of the rows is sent once there, and one value that all rows have is a
-- list of one. An array is cut in two steps, since to find where a part begins takes longer the farther it is. How many rows a
-- message has room for is told by 50 of them at the beginning, in the middle and at the end. Arrays are compared as bytes (*=).
('many rows', $body$
        SELECT CASE WHEN r.n > %18$s OR shrink > 1 AND e.room * 2 < shrink THEN false WHEN d.whole THEN (
          SELECT count(pg_notify(%15$s, CASE WHEN r.n > 1000 THEN concat(head, '"columns":{'%10$s, '}}') ELSE concat(head, '"data":', %13$s, '}') END))
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL%8$s OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL%9$s OFFSET 0) s
        ) IS NOT NULL END INTO done
        FROM (SELECT count(*)::int AS n%1$s FROM (SELECT %17$s FROM pgevict_rows r LIMIT %18$s::int8 + 1) r) r, LATERAL (SELECT true%3$s AS whole%16$s OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7900 - octet_length(head)) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat(''%10$s) ELSE %13$s END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL%7$s OFFSET 0) s) i
        ) e;
$body$),
('many update', $body$
        SELECT CASE WHEN r.n > %18$s OR shrink > 1 AND e.room * 2 < shrink THEN false WHEN d.whole THEN (
          SELECT count(pg_notify(%15$s, CASE WHEN r.n > 1000 THEN
            concat(head, '"changed":[', ltrim(concat(''%6$s), ','), '],"columns":{'%10$s, '},"old_columns":{', ltrim(concat(''%11$s), ','), '}}')
            ELSE concat(head, '"data":', %13$s, ',"old":', %14$s, '}') END))
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL%8$s OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL%9$s OFFSET 0) s
          WHERE %12$s
        ) IS NOT NULL END INTO done
        FROM (SELECT count(*)::int AS n%1$s FROM (SELECT %17$s FROM pgevict_rows r LIMIT %18$s::int8 + 1) r) r,
          (SELECT count(*)::int AS n%2$s FROM (SELECT %17$s FROM pgevict_old r LIMIT %18$s::int8 + 1) o) o,
          LATERAL (SELECT r.n = o.n%4$s AS whole%5$s%16$s OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7850 - octet_length(head) - octet_length(concat(''%6$s))) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat(''%10$s%11$s) ELSE concat(%13$s, %14$s) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL%7$s OFFSET 0) s) i
        ) e;
$body$),
('row', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
DECLARE
  about CONSTANT text := %2$L || TG_OP || '"';
  head CONSTANT text := about || ',"pinned":true,"data":[';
  row_now text;
  row_was text;
BEGIN
  BEGIN
    IF TG_OP <> 'DELETE' THEN
      row_now := %7$s;
    END IF;
    IF TG_OP <> 'INSERT' THEN
      row_was := %8$s;
    END IF;
    IF TG_OP <> 'UPDATE' THEN
      PERFORM pg_notify(%3$s, head || coalesce(row_now, row_was) || ']}');
    ELSIF NOT %4$s OR row_now <> row_was THEN
      PERFORM pg_notify(%3$s, head || row_now || '],"old":[' || row_was || ']}');
    END IF;
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_notify(%3$s, about || '}');
  END;
  RETURN NULL;
END
$body$),
('truncate', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
BEGIN
  PERFORM pg_notify(%3$s, %2$L);
  RETURN NULL;
END
$body$)
