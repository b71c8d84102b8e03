-- The triggers, and the functions that they call: one for each table of the rules and each kind. Triggers of a statement
-- fire only for the table that it names, so each partition and child has its own. A table that is itself a part of
-- another hears of statements on that one only row by row, from "each"; so does one with foreign tables among its children.
-- Partitions attached later get a copy of "row"; where there are triggers for statements that copy is disabled.
kind (name, body, action, new_table, old_table, type) AS (
  VALUES ('insert', 'insert_delete', 'INSERT', 'pgevict_rows', NULL, 4), ('update', 'update', 'UPDATE', 'pgevict_rows', 'pgevict_old', 16),
         ('delete', 'insert_delete', 'DELETE', NULL, 'pgevict_rows', 8), ('truncate', 'truncate', 'TRUNCATE', NULL, NULL, 32),
         ('row', 'row', 'INSERT OR UPDATE OR DELETE', NULL, NULL, 29), ('each', 'row', 'INSERT OR UPDATE OR DELETE', NULL, NULL, 29)
),
body (name, source) AS (
{bodies}
),
-- The queries for many rows.
query AS (
  SELECT p.watch, replace(b.name, 'many_', '') AS body, p.fast,
         format(b.source, now_arrays, old_arrays, now_whole, concat(now_whole, old_whole), differ, l.changed,
           format(slices, 'r', 'o.c', 'p.start : p.start + 49'), format(slices, 'r', 'o.c', 'a.start : a.start + 10 * e.step - 1'),
           format(slices, 't', 't.o', 'b.start : b.start + e.step - 1'), l.now_lists, l.old_lists, CASE WHEN w.quiet THEN 'false' || differs ELSE 'true' END,
           coalesce(now_rows, $$'[]'$$), coalesce(old_rows, $$'[]'$$), even, coalesce(names, ''), {max_rows}) AS source
  FROM piece p JOIN watched w ON w.oid = p.watch JOIN body b ON b.name LIKE 'many\_%'
  -- concat() takes a hundred arguments.
  CROSS JOIN LATERAL (SELECT CASE WHEN p.columns > 40 THEN $$, array_to_string(ARRAY[%s], '')$$ END AS many) m
  CROSS JOIN LATERAL (SELECT now_slices || CASE b.name WHEN 'many_update' THEN old_slices ELSE '' END AS slices,
    coalesce(format(m.many, ltrim(p.changed, ', ')), p.changed) AS changed, coalesce(format(m.many, ltrim(p.now_lists, ', ')), p.now_lists) AS now_lists,
    coalesce(format(m.many, ltrim(p.old_lists, ', ')), p.old_lists) AS old_lists) l
),
function AS (
  SELECT w.oid AS watch, w.nspname, w.relname, w.label, k.name AS kind, -- its name fits into 63 bytes, whatever the table's
         CASE WHEN octet_length(w.label) <= 50 THEN w.label ELSE left(w.label, 5) || md5(w.label) END || ' ' || k.name AS name,
         -- Settings are fixed where the text of a value depends on them.
         CASE WHEN EXISTS (SELECT FROM typed t WHERE t.watch = w.oid AND t.base NOT IN ('int2', 'int4', 'int8', 'text', 'varchar', 'bpchar', 'bool', 'uuid', 'json', 'jsonb')) THEN
             ARRAY['search_path=pg_catalog, pg_temp', 'DateStyle=ISO', 'TimeZone=UTC', 'IntervalStyle=postgres', 'bytea_output=hex', 'extra_float_digits=1', 'lc_monetary=C']
           WHEN k.body NOT IN ('insert_delete', 'update') THEN ARRAY['search_path=pg_catalog, pg_temp'] END AS config,
         format(b.source, regexp_replace(w.label, '[[:space:]]', ' ', 'g'),
           '{"schema":' || to_json(w.nspname) || ',"table":' || to_json(w.relname) || ',"action":"' || CASE WHEN k.body = 'row' THEN '' ELSE k.action || '"}' END,
           quote_literal({channel}), w.quiet::text,
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
  SELECT m.rel, m.nspname, m.relname, f.name AS function, k.*, m.relkind = 'p' AND k.body = 'row' AS copied,
         -- Partitions get copies of "row" and "each" under the same name, also those that are watched tables and have their own.
         'pgevict_' || k.name || CASE WHEN k.body = 'row' THEN '_' || left(md5(f.label), 8) WHEN m.nth > 1 THEN '_' || m.nth ELSE '' END AS tgname
  FROM member m JOIN function f ON f.watch = m.watch JOIN kind k ON k.name = f.kind
  WHERE k.body <> 'row' OR m.rel = m.watch OR NOT m.partitioned
),
