-- What the triggers of the rules should be, what is there, and the statement that makes the one the other: a row for each
-- function and trigger, in the order in which the statements must run. Nothing here changes anything.
WITH RECURSIVE
wish AS (
  SELECT w ->> 'schema' AS nspname, w ->> 'table' AS relname, (w ->> 'quiet')::boolean AS quiet,
         ARRAY(SELECT json_array_elements_text(w -> 'columns')) AS columns
  FROM json_array_elements({wishes}::json) w
),
-- The tables that the rules name, each once.
watched AS (
  SELECT c.oid, n.nspname::text, c.relname::text, c.relkind,
         -- A column that is not sent (columns.sql) may change unseen.
         bool_and(w.quiet AND NOT EXISTS (SELECT FROM unnest(w.columns) AS l (name) WHERE NOT EXISTS (
           SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = l.name AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'))) AS quiet,
         EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AS child,
         format('%I.%I', n.nspname, c.relname) AS label,
         array_agg(w.columns::text) AS lists
  FROM wish w JOIN pg_class c ON c.relname = w.relname JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND w.nspname IN ('', n.nspname)
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgevict')
  GROUP BY c.oid, n.nspname, c.relname, c.relkind -- catalogs have declared keys since Postgres 14
),
-- Each with all of its partitions and children.
family AS (
  SELECT oid AS watch, oid AS rel FROM watched
  UNION
  SELECT f.watch, i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.rel
),
-- Rows of foreign tables cannot be kept for triggers of statements: Postgres fails each statement that comes to one of them.
local AS (
  SELECT f.watch, bool_and(c.relkind <> 'f') AS local FROM family f JOIN pg_class c ON c.oid = f.rel GROUP BY f.watch
),
member AS (
  SELECT f.watch, f.rel, n.nspname::text, c.relname::text, c.relkind, c.relispartition, w.child, w.relkind = 'p' AS partitioned,
         -- A table of several families gets the triggers of each.
         row_number() OVER (PARTITION BY f.rel ORDER BY f.watch <> f.rel, f.watch) AS nth
  FROM family f JOIN watched w ON w.oid = f.watch JOIN pg_class c ON c.oid = f.rel JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p')
),
