-- What the triggers of the rules should be, what is there, and the statement that makes the one the other: a row for each
-- function and trigger, in the order in which the statements must run. Nothing here changes anything.
WITH RECURSIVE
wish AS (
  SELECT w ->> 'schema' AS nspname, w ->> 'table' AS relname, (w ->> 'quiet')::boolean AS quiet,
         ARRAY(SELECT json_array_elements_text(w -> 'columns')) AS columns
  FROM json_array_elements(%wishes%::json) w
),
-- The tables that the rules name, each once.
watched AS (
  SELECT c.oid, n.nspname::text, c.relname::text, c.relkind, bool_and(w.quiet) AS quiet,
         EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AS child,
         format('%I.%I', n.nspname, c.relname) AS label,
         array_agg(w.columns::text) AS lists
  FROM wish w JOIN pg_class c ON c.relname = w.relname JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND w.nspname IN ('', n.nspname)
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgevict')
  GROUP BY c.oid, n.nspname
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
-- The columns that a message must have: those of the rules, and the primary key. A type below domains is its base.
attribute AS (
  SELECT w.oid AS watch, a.attnum, a.attname, a.atttypid AS type, a.atttypmod AS typmod
  FROM watched w JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE EXISTS (SELECT FROM unnest(w.lists) AS l (list) WHERE a.attname = ANY (list::text[]))
     OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = w.oid AND i.indisprimary AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
  UNION ALL
  SELECT a.watch, a.attnum, a.attname, t.typbasetype, t.typtypmod FROM attribute a JOIN pg_type t ON t.oid = a.type AND t.typtype = 'd'
),
typed AS (
  SELECT a.*, CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE '' END AS base,
         t.typlen = -1 AND t.typname <> 'numeric' AND NOT (t.typname IN ('varchar', 'bpchar') AND a.typmod BETWEEN 5 AND 104) AS unbounded
  FROM attribute a JOIN pg_type t ON t.oid = a.type AND t.typtype <> 'd' JOIN pg_namespace n ON n.oid = t.typnamespace
),
-- Each column's text for each name that a row has in the functions: as a value of which JSON has that text, and as JSON
-- itself. An object says that there is no text: for documents, and for what is so long that a row would not fit into a
-- message. Where rows that stay as they were are not sent, it tells such values apart.
-- Names are qualified where one row may need them: to fix search_path costs a tenth of the time that one row takes.
described AS (
  SELECT t.*, a.alias, w.quiet, base IN ('json', 'jsonb') AS document, row_number() OVER (PARTITION BY t.watch, a.alias ORDER BY t.attnum) AS nth,
         greatest(500, 3600 / greatest(1, count(*) FILTER (WHERE unbounded) OVER (PARTITION BY t.watch, a.alias))) AS room,
         -- Where the text does not depend on settings, it is asked for in a way that fails once the column has another type, and
         -- costs nothing: the planner drops what is false, but the types in it must fit.
         format(CASE WHEN base IN ('int2', 'int4', 'int8') THEN '(CASE WHEN false THEN %s.%I OPERATOR(pg_catalog.&) -1 ELSE %1$s.%2$I END)' WHEN base IN ('text', 'varchar', 'bpchar') THEN '(%s.%I COLLATE pg_catalog."C")::pg_catalog.text'
                     WHEN base = 'bool' THEN '(CASE WHEN false THEN NOT %s.%I ELSE %1$s.%2$I END)' WHEN base = 'uuid' THEN '(CASE WHEN false AND pg_catalog.uuid_send(%s.%I) IS NULL THEN NULL ELSE %1$s.%2$I END)' ELSE '%s.%I::pg_catalog.text' END, a.alias, t.attname) AS value
  FROM typed t JOIN watched w ON w.oid = t.watch
  CROSS JOIN (VALUES ('r'), ('o'), ('NEW'), ('OLD')) AS a (alias)
),
pictured AS (
  SELECT d.*, value || '::pg_catalog.text' AS text,
         CASE WHEN quiet THEN format($$pg_catalog.concat('{"sha256":"', pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(%s::pg_catalog.text, 'UTF8')), 'hex'), '"}')$$, value)
              ELSE $$'{}'$$ END AS object
  FROM described d
),
-- What stands for a value where some are documents, or too long.
bounded AS (
  SELECT p.*, CASE WHEN document THEN format('CASE WHEN %s IS NULL THEN ''null'' ELSE %s END', text, object)
                   WHEN unbounded THEN format('CASE WHEN octet_length(%s) > %s THEN %s ELSE coalesce(to_json(%1$s)::text, ''null'') END', text, room, object)
                   ELSE format('coalesce(to_json(%s)::text, ''null'')', text) END AS json
  FROM pictured p
),
image AS (
  SELECT watch, alias,
         -- The row as JSON, whatever it holds; and the values, for row_to_json().
         '(' || string_agg(format('%L || ', CASE WHEN nth = 1 THEN '{' ELSE ',' END || to_json(attname) || ':') || json, ' || ' ORDER BY nth) || $$ || '}')$$ AS row,
         string_agg(format('%s AS %I', CASE WHEN document THEN format('CASE WHEN %s.%I IS NULL THEN NULL ELSE %s::pg_catalog.json END', alias, attname, object) ELSE value END, attname), ', ' ORDER BY nth) AS values
  FROM bounded GROUP BY watch, alias
),
-- Of many rows, each column is an array: c1 and so on, and cut into parts o1 and so on for the old rows. There are two ways to
-- make it: of the values, which is fast but leaves out those that are too long, so that some elements are missing; or of JSON.
way AS (
  SELECT b.*, fast, CASE WHEN fast AND NOT document THEN value ELSE json END AS cell,
         CASE WHEN fast AND unbounded AND NOT document THEN format(' FILTER (WHERE (octet_length(%s) > %s) IS NOT TRUE)', text, room) ELSE '' END AS filter,
         (document OR unbounded AND NOT fast) AND NOT quiet AS hides,
         fast AND NOT document AS fast_and_typed,
         CASE WHEN fast AND base IN ('int2', 'int4', 'int8') THEN $$'[' || array_to_string(%s, ',', 'null') || ']'$$
              WHEN fast AND NOT document THEN 'array_to_json(%s)::text' ELSE $$'[' || array_to_string(%s, ',') || ']'$$ END AS list
  FROM bounded b CROSS JOIN (VALUES (true), (false)) AS f (fast) WHERE alias IN ('r', 'o')
),
piece AS (
  SELECT w.oid AS watch, f.fast,
         string_agg(format(', array_agg(%s)%s AS c%s', cell, filter, nth), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS now_arrays,
         string_agg(format(', array_agg(%s)%s AS c%s', cell, filter, nth), '' ORDER BY nth) FILTER (WHERE alias = 'o') AS old_arrays,
         string_agg(format(' AND cardinality(r.c%s) = r.n', nth), '' ORDER BY nth) FILTER (WHERE filter <> '' AND alias = 'r') AS now_whole,
         string_agg(format(' AND cardinality(o.c%s) = o.n', nth), '' ORDER BY nth) FILTER (WHERE filter <> '' AND alias = 'o') AS old_whole,
         -- An object that says nothing may hide a change.
         string_agg(format(', ROW(r.c%s)::record *<> ROW(o.c%1$s)::record%s AS d%1$s', nth, CASE WHEN hides THEN format($$ OR '{}' = ANY (r.c%s) OR '{}' = ANY (o.c%1$s)$$, nth) ELSE '' END), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS differ,
         string_agg(format(', CASE WHEN d.d%s THEN %L END', nth, ',' || to_json(attname)), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS changed,
         string_agg(format('r.%I', attname), ', ' ORDER BY nth) FILTER (WHERE alias = 'r') AS names,
         string_agg(format(', CASE WHEN r.n > 1000 AND r.c%s[1] IS NOT DISTINCT FROM r.c%1$s[r.n] THEN ROW(r.c%1$s)::record *= ROW(array_fill(r.c%1$s[1], ARRAY[r.n]))::record END AS e%1$s', nth), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS even,
         string_agg(format(', CASE WHEN d.e%s THEN %%1$s.c%1$s[1:1] ELSE %%1$s.c%1$s[%%3$s] END AS c%1$s', nth), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS now_slices,
         string_agg(format(', CASE WHEN d.d%s THEN %%2$s%1$s[%%3$s] END AS o%1$s', nth), '' ORDER BY nth) FILTER (WHERE alias = 'o') AS old_slices,
         string_agg(format(', %L || ' || list, CASE WHEN nth = 1 THEN '' ELSE ',' END || to_json(attname) || ':', 's.c' || nth), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS now_lists,
         string_agg(format(', %L || ' || list, ',' || to_json(attname) || ':', 's.o' || nth), '' ORDER BY nth) FILTER (WHERE alias = 'o') AS old_lists,
         string_agg(format(' OR d.d%s AND ROW(s.c%1$s)::record *<> ROW(s.o%1$s)::record', nth), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS differs,
         -- The same as rows.
         $$(SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest($$ ||
           string_agg(format('s.c%s%s', nth, CASE WHEN fast_and_typed THEN '' ELSE '::json[]' END), ', ' ORDER BY nth) FILTER (WHERE alias = 'r') || ') AS x (' ||
           string_agg(quote_ident(attname), ', ' ORDER BY nth) FILTER (WHERE alias = 'r') || ')) x)' AS now_rows,
         $$(SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest($$ ||
           string_agg(format('coalesce(s.o%s, s.c%1$s)%s', nth, CASE WHEN fast_and_typed THEN '' ELSE '::json[]' END), ', ' ORDER BY nth) FILTER (WHERE alias = 'o') || ') AS x (' ||
           string_agg(quote_ident(attname), ', ' ORDER BY nth) FILTER (WHERE alias = 'o') || ')) x)' AS old_rows
  FROM watched w CROSS JOIN (VALUES (true), (false)) AS f (fast) LEFT JOIN way ON way.watch = w.oid AND way.fast = f.fast GROUP BY w.oid, f.fast
),
-- The triggers, and the functions that they call: one for each table of the rules and each kind. Triggers of a statement
-- fire only for the table that it names, so each partition and child has its own. A table that is itself a part of
-- another hears of statements on that one only row by row, from "each"; so does one with foreign tables among its children.
-- Partitions attached later get a copy of "row"; where there are triggers for statements that copy is disabled.
kind (name, body, action, new_table, old_table, type) AS (
  VALUES ('insert', 'rows', 'INSERT', 'pgevict_rows', NULL, 4), ('update', 'update', 'UPDATE', 'pgevict_rows', 'pgevict_old', 16),
         ('delete', 'rows', 'DELETE', NULL, 'pgevict_rows', 8), ('truncate', 'truncate', 'TRUNCATE', NULL, NULL, 32),
         ('row', 'row', 'INSERT OR UPDATE OR DELETE', NULL, NULL, 29), ('each', 'row', 'INSERT OR UPDATE OR DELETE', NULL, NULL, 29)
),
body (name, source) AS (
%bodies%
),
-- The queries for many rows.
query AS (
  SELECT p.watch, replace(b.name, 'many ', '') AS body, p.fast,
         format(b.source, now_arrays, old_arrays, now_whole, concat(now_whole, old_whole), differ, changed,
           format(slices, 'r', 'o.c', 'p.start : p.start + 49'), format(slices, 'r', 'o.c', 'a.start : a.start + 10 * e.step - 1'),
           format(slices, 't', 't.o', 'b.start : b.start + e.step - 1'), now_lists, old_lists, CASE WHEN w.quiet THEN 'false' || differs ELSE 'true' END,
           coalesce(now_rows, $$'[]'$$), coalesce(old_rows, $$'[]'$$), quote_literal(%channel%), even, coalesce(names, ''), %max_rows%) AS source
  FROM piece p JOIN watched w ON w.oid = p.watch JOIN body b ON b.name LIKE 'many %'
  CROSS JOIN LATERAL (SELECT now_slices || CASE b.name WHEN 'many update' THEN old_slices ELSE '' END AS slices) l
),
function AS (
  SELECT w.oid AS watch, w.nspname, w.relname, k.name AS kind, -- its name fits into 63 bytes, whatever the table's
         CASE WHEN octet_length(w.label) <= 50 THEN w.label ELSE left(w.label, 5) || md5(w.label) END || ' ' || k.name AS name,
         -- Settings are fixed where the text of a value depends on them.
         CASE WHEN EXISTS (SELECT FROM typed t WHERE t.watch = w.oid AND t.base NOT IN ('int2', 'int4', 'int8', 'text', 'varchar', 'bpchar', 'bool', 'uuid', 'json', 'jsonb')) THEN
             ARRAY['search_path=pg_catalog, pg_temp', 'DateStyle=ISO', 'TimeZone=UTC', 'IntervalStyle=postgres', 'bytea_output=hex', 'extra_float_digits=1', 'lc_monetary=C']
           WHEN k.body NOT IN ('rows', 'update') THEN ARRAY['search_path=pg_catalog, pg_temp'] END AS config,
         format(replace(b.source, '%bulk%', (SELECT source FROM body WHERE name = 'bulk')), regexp_replace(w.label, '[[:space:]]', ' ', 'g'),
           '{"schema":' || to_json(w.nspname) || ',"table":' || to_json(w.relname) || ',"action":"' || CASE WHEN k.body = 'row' THEN '' ELSE k.action || '"}' END,
           quote_literal(%channel%), w.quiet::text,
           coalesce(max(i.values) FILTER (WHERE alias = 'r'), ''), coalesce(max(i.values) FILTER (WHERE alias = 'o'), ''),
           coalesce(max(i.row) FILTER (WHERE alias = 'NEW'), '''{}'''), coalesce(max(i.row) FILTER (WHERE alias = 'OLD'), '''{}'''),
           h.head,
           (SELECT q.source FROM query q WHERE q.watch = w.oid AND q.body = b.name AND q.fast), (SELECT q.source FROM query q WHERE q.watch = w.oid AND q.body = b.name AND NOT q.fast),
           replace(h.head, '%', '%%') || '"data":[%s]}', replace(h.head, '%', '%%') || '"data":[%s],"old":[%s]}') AS source
  FROM watched w CROSS JOIN kind k JOIN body b ON b.name = k.body LEFT JOIN image i ON i.watch = w.oid
  CROSS JOIN LATERAL (SELECT '{"schema":' || to_json(w.nspname) || ',"table":' || to_json(w.relname) || ',"action":"' || k.action || '","pinned":true,' AS head) h
  JOIN local l ON l.watch = w.oid
  WHERE CASE k.name WHEN 'truncate' THEN true WHEN 'each' THEN w.child OR NOT l.local AND w.relkind = 'r' WHEN 'row' THEN NOT w.child AND w.relkind = 'p'
        ELSE NOT w.child AND l.local END
  GROUP BY w.oid, w.nspname, w.relname, w.relkind, w.label, w.quiet, w.child, b.name, b.source, k.name, k.body, k.action, h.head
),
trigger AS (
  SELECT m.rel, m.nspname, m.relname, f.name AS function, k.*,
         'pgevict_' || k.name || CASE WHEN m.nth > 1 THEN '_' || m.nth ELSE '' END AS tgname
  FROM member m JOIN function f ON f.watch = m.watch JOIN kind k ON k.name = f.kind
  WHERE k.body <> 'row' OR m.rel = m.watch OR NOT m.partitioned
),
there AS (
  SELECT t.oid, t.tgrelid, t.tgname, t.tgtype, t.tgenabled, t.tgparentid, t.tgoldtable::text, t.tgnewtable::text, t.tgqual, p.proname::text,
         n.nspname, c.relname, c.relkind
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace AND pn.nspname = 'pgevict'
  JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT t.tgisinternal OR t.tgparentid <> 0
),
made AS (
  SELECT p.oid, p.proname, p.prosrc, p.proconfig, p.provolatile
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = 'pgevict' AND p.prorettype = 'trigger'::regtype AND p.prosrc LIKE '%Made by "pgevict triggers"%'
),
compared AS (
  SELECT t.*, h.oid AS present, CASE WHEN h.oid IS NULL THEN 'missing'
           WHEN (h.proname, h.tgtype, h.tgnewtable, h.tgoldtable) IS DISTINCT FROM (t.function, t.type, t.new_table, t.old_table) OR h.tgqual IS NOT NULL THEN 'outdated'
           WHEN h.tgenabled NOT IN ('O', 'A') THEN 'disabled' ELSE 'ok' END AS state
  FROM trigger t LEFT JOIN there h ON h.tgrelid = t.rel AND h.tgname = t.tgname AND h.tgparentid = 0
),
object AS (
  SELECT 1 AS step, 'pgevict' AS nspname, '' AS relname, 'schema pgevict' AS object,
         CASE WHEN to_regnamespace('pgevict') IS NULL THEN 'missing' ELSE 'ok' END AS state, 'CREATE SCHEMA pgevict' AS ddl
  WHERE EXISTS (SELECT FROM watched)
  UNION ALL
  SELECT 2, t.nspname, t.relname, 'trigger ' || quote_ident(t.tgname), 'left over', format('DROP TRIGGER %I ON %I.%I', t.tgname, t.nspname, t.relname)
  FROM there t WHERE t.tgparentid = 0 AND NOT EXISTS (SELECT FROM trigger x WHERE x.rel = t.tgrelid AND x.tgname = t.tgname)
  UNION ALL
  SELECT 3, f.nspname, f.relname, 'function pgevict.' || quote_ident(f.name),
         CASE WHEN m.oid IS NULL THEN 'missing' WHEN m.prosrc <> f.source OR m.provolatile <> 's' OR m.proconfig IS DISTINCT FROM f.config THEN 'outdated' ELSE 'ok' END,
         format('CREATE OR REPLACE FUNCTION pgevict.%I() RETURNS trigger LANGUAGE plpgsql STABLE %s AS %L; REVOKE ALL ON FUNCTION pgevict.%1$I() FROM PUBLIC', f.name,
           (SELECT string_agg(format(CASE WHEN name = 'search_path' THEN 'SET %s TO %s' ELSE 'SET %s TO %L' END, name, value), ' ')
            FROM unnest(f.config) AS c (setting), split_part(setting, '=', 1) AS name, split_part(setting, '=', 2) AS value), f.source)
  FROM function f LEFT JOIN made m ON m.proname = f.name
  UNION ALL
  SELECT 4, t.nspname, t.relname, 'trigger ' || t.tgname, t.state,
         CASE t.state WHEN 'ok' THEN '' WHEN 'disabled' THEN format('ALTER TABLE %I.%I ENABLE TRIGGER %I', t.nspname, t.relname, t.tgname)
           ELSE CASE t.state WHEN 'outdated' THEN format('DROP TRIGGER %I ON %I.%I; ', t.tgname, t.nspname, t.relname) ELSE '' END ||
             format('CREATE TRIGGER %I AFTER %s ON %I.%I %s FOR EACH %s EXECUTE FUNCTION pgevict.%I()', t.tgname, t.action, t.nspname, t.relname,
               CASE WHEN coalesce(t.old_table, t.new_table) IS NULL THEN '' ELSE 'REFERENCING' ||
                 coalesce(' OLD TABLE AS ' || t.old_table, '') || coalesce(' NEW TABLE AS ' || t.new_table, '') END,
               CASE WHEN t.type & 1 = 1 THEN 'ROW' ELSE 'STATEMENT' END, t.function) END
  FROM compared t
  UNION ALL
  -- The copies of pgevict_row, which come, and are enabled, with the one on the partitioned table.
  SELECT 5, m.nspname, m.relname, 'copy of trigger ' || t.tgname,
         CASE WHEN h.oid IS NULL OR t.state <> 'ok' THEN 'missing' WHEN (h.tgenabled = 'D') = l.local THEN 'ok' ELSE 'outdated' END,
         format('ALTER TABLE %I.%I %s TRIGGER %I', m.nspname, m.relname, CASE WHEN l.local THEN 'DISABLE' ELSE 'ENABLE' END, t.tgname)
  FROM member m JOIN local l USING (watch) JOIN compared t ON t.rel = m.watch AND t.name = 'row'
  LEFT JOIN there h ON h.tgrelid = m.rel AND h.tgname = t.tgname AND h.tgparentid <> 0
  WHERE m.partitioned AND NOT m.child AND m.rel <> m.watch AND m.relkind = 'r'
  UNION ALL
  SELECT 6, 'pgevict', '', 'function pgevict.' || quote_ident(m.proname), 'left over', format('DROP FUNCTION pgevict.%I()', m.proname)
  FROM made m WHERE NOT EXISTS (SELECT FROM function f WHERE f.name = m.proname)
)
SELECT step, nspname, relname, object, state, ddl,
       CASE WHEN ddl LIKE 'ALTER TABLE % ENABLE %' THEN 'enabled' WHEN ddl LIKE 'ALTER TABLE %' THEN 'disabled'
            WHEN state = 'missing' THEN 'created' WHEN state = 'left over' THEN 'dropped' ELSE 'replaced' END AS did
FROM object
