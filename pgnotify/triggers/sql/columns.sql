-- The columns that a message must have: those of the rules, and the primary key. A type below domains is its base. In
-- triggers a virtual generated column is NULL, whatever its value, so those are left out.
attribute AS (
  SELECT w.oid AS watch, a.attnum, a.attname, a.atttypid AS type, a.atttypmod AS typmod
  FROM watched w JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
  WHERE EXISTS (SELECT FROM unnest(w.lists) AS l (list) WHERE a.attname = ANY (list::text[]))
     OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = w.oid AND i.indisprimary AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
  UNION ALL
  SELECT a.watch, a.attnum, a.attname, t.typbasetype, t.typtypmod FROM attribute a JOIN pg_type t ON t.oid = a.type AND t.typtype = 'd'
),
-- The others of the rules may have changed, for all that is known.
unsent AS (
  SELECT w.oid AS watch, string_agg(DISTINCT format(', %L', ',' || to_json(l.name)), '') AS changed
  FROM watched w, unnest(w.lists) AS all_lists (list), unnest(list::text[]) AS l (name)
  WHERE NOT EXISTS (SELECT FROM attribute a WHERE a.watch = w.oid AND a.attname = l.name) GROUP BY w.oid
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
  SELECT w.oid AS watch, f.fast, max(nth) AS columns,
         string_agg(format(', array_agg(%s)%s AS c%s', cell, filter, nth), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS now_arrays,
         string_agg(format(', array_agg(%s)%s AS c%s', cell, filter, nth), '' ORDER BY nth) FILTER (WHERE alias = 'o') AS old_arrays,
         string_agg(format(' AND cardinality(r.c%s) = r.n', nth), '' ORDER BY nth) FILTER (WHERE filter <> '' AND alias = 'r') AS now_whole,
         string_agg(format(' AND cardinality(o.c%s) = o.n', nth), '' ORDER BY nth) FILTER (WHERE filter <> '' AND alias = 'o') AS old_whole,
         -- An object that says nothing may hide a change.
         string_agg(format(', ROW(r.c%s)::record *<> ROW(o.c%1$s)::record%s AS d%1$s', nth, CASE WHEN hides THEN format($$ OR '{}' = ANY (r.c%s) OR '{}' = ANY (o.c%1$s)$$, nth) ELSE '' END), '' ORDER BY nth) FILTER (WHERE alias = 'r') AS differ,
         concat(string_agg(format(', CASE WHEN d.d%s THEN %L END', nth, ',' || to_json(attname)), '' ORDER BY nth) FILTER (WHERE alias = 'r'),
           (SELECT u.changed FROM unsent u WHERE u.watch = w.oid)) AS changed,
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
