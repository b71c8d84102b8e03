-- What is worth knowing of the tables of the rules and of their partitions and children beside our own
-- triggers: schema, table, the state that it means, and the words for it. "wide" says that all is as it should be, and that
-- keys become patterns all the same.
WITH RECURSIVE wish AS (
	SELECT w ->> 'schema' AS nspname, w ->> 'table' AS relname, w -> 'columns' AS columns FROM json_array_elements($1::json) w
),
named AS (
	SELECT c.oid, c.relkind, w.columns, w.nspname AS wanted, w.relname
	FROM wish w LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgevict'))
	  ON c.relname = w.relname AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND w.nspname IN ('', n.nspname)
),
family AS (
	SELECT oid FROM named WHERE relkind IN ('r', 'p')
	UNION
	SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid
),
relation AS (
	SELECT c.oid, c.relkind, n.nspname, c.relname FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT wanted, relname, 'no table', 'there is no such table' FROM named WHERE oid IS NULL
UNION ALL
SELECT n.nspname, c.relname, CASE WHEN EXISTS (SELECT FROM named x WHERE x.relname = d.relname AND x.wanted = d.wanted AND x.relkind IN ('r', 'p')) THEN 'ok' ELSE 'no table' END,
       'it is ' || CASE d.relkind WHEN 'f' THEN 'a foreign table: its changes happen elsewhere' ELSE 'a view: name the tables that it reads' END
FROM named d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE d.relkind NOT IN ('r', 'p')
UNION ALL
SELECT nspname, relname, 'ok', 'foreign table: its changes happen elsewhere, and are not heard of' FROM relation WHERE relkind = 'f'
UNION ALL
SELECT n.nspname, c.relname, 'ok', format('no column %I: what the rules make of it is always a pattern', l.name)
FROM named d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace, json_array_elements_text(d.columns) AS l (name)
WHERE d.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.oid AND a.attname = l.name AND a.attnum > 0 AND NOT a.attisdropped)
UNION ALL
SELECT n.nspname, c.relname, 'wide', format('column %I is virtual, which triggers cannot see: what the rules make of it is always a pattern', a.attname)
FROM named d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace, json_array_elements_text(d.columns) AS l (name), pg_attribute a
WHERE d.relkind IN ('r', 'p') AND a.attrelid = d.oid AND a.attname = l.name AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = 'v'
UNION ALL
SELECT n.nspname, c.relname, 'wide', 'the rules need so many columns that an update of one row does not fit into a message: it counts as any row'
FROM named d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace, json_array_elements_text(d.columns) AS l (name)
WHERE d.relkind IN ('r', 'p') GROUP BY d.oid, n.nspname, c.relname HAVING sum(octet_length(to_json(l.name)::text) + 2) > 3800
UNION ALL
SELECT nspname, relname, 'ok', 'no primary key' FROM relation r
WHERE relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.oid AND i.indisprimary)
UNION ALL
SELECT r.nspname, r.relname, 'ok', format('also sends by trigger %I (%s)%s', t.tgname, p.proname, CASE WHEN t.tgenabled IN ('D', 'R') THEN ', which is disabled' ELSE '' END)
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pgevict' AND (p.prosrc ~* '[[:<:]](pg_notify|notify)[[:>:]]' OR p.prosrc = 'triggered_change_notification')
ORDER BY 1, 2, 4
