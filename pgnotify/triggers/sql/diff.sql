compared AS (
  SELECT t.*, h.oid AS present, CASE WHEN h.oid IS NULL THEN 'missing'
           WHEN (h.proname, h.tgtype, h.tgnewtable, h.tgoldtable) IS DISTINCT FROM (t.function, t.type, t.new_table, t.old_table) OR h.tgqual IS NOT NULL THEN 'outdated'
           WHEN h.tgenabled NOT IN ('O', 'A') THEN 'disabled' ELSE 'ok' END AS state
  FROM trigger t LEFT JOIN there h ON h.tgrelid = t.rel AND h.tgname = t.tgname AND h.tgparentid = 0
),
object AS (
  SELECT 1 AS step, 'pgevict' AS nspname, '' AS relname, 'schema pgevict' AS object,
         CASE WHEN to_regnamespace('pgevict') IS NULL THEN 'missing' ELSE 'ok' END AS state, 'CREATE SCHEMA pgevict' AS ddl, NULL::oid AS rel, false AS copied
  WHERE EXISTS (SELECT FROM watched)
  UNION ALL
  SELECT 2, f.nspname, f.relname, 'function pgevict.' || quote_ident(f.name),
         CASE WHEN m.oid IS NULL THEN 'missing' WHEN m.prosrc <> f.source OR m.provolatile <> 's' OR m.proconfig IS DISTINCT FROM f.config THEN 'outdated' ELSE 'ok' END,
         -- One of that name that was not made here is somebody else's, and not to be replaced.
         format('CREATE %s FUNCTION pgevict.%I() RETURNS trigger LANGUAGE plpgsql STABLE %s AS %L; REVOKE ALL ON FUNCTION pgevict.%2$I() FROM PUBLIC',
           CASE WHEN m.oid IS NULL THEN '' ELSE 'OR REPLACE' END, f.name,
           (SELECT string_agg(format(CASE WHEN name = 'search_path' THEN 'SET %s TO %s' ELSE 'SET %s TO %L' END, name, value), ' ')
            FROM unnest(f.config) AS c (setting), split_part(setting, '=', 1) AS name, split_part(setting, '=', 2) AS value), f.source), NULL, false
  FROM function f LEFT JOIN made m ON m.proname = f.name
  UNION ALL
  SELECT 3, t.nspname, t.relname, 'trigger ' || quote_ident(t.tgname), 'left over', format('DROP TRIGGER %I ON %I.%I', t.tgname, t.nspname, t.relname),
         t.tgrelid, t.relkind = 'p' AND t.tgtype & 1 = 1
  FROM there t WHERE t.tgparentid = 0 AND NOT EXISTS (SELECT FROM trigger x WHERE x.rel = t.tgrelid AND x.tgname = t.tgname)
  UNION ALL
  SELECT 4, t.nspname, t.relname, 'trigger ' || t.tgname, t.state,
         CASE t.state WHEN 'ok' THEN '' WHEN 'disabled' THEN format('ALTER TABLE %I.%I ENABLE TRIGGER %I', t.nspname, t.relname, t.tgname)
           ELSE CASE t.state WHEN 'outdated' THEN format('DROP TRIGGER %I ON %I.%I; ', t.tgname, t.nspname, t.relname) ELSE '' END ||
             format('CREATE TRIGGER %I AFTER %s ON %I.%I %s FOR EACH %s EXECUTE FUNCTION pgevict.%I()', t.tgname, t.action, t.nspname, t.relname,
               CASE WHEN coalesce(t.old_table, t.new_table) IS NULL THEN '' ELSE 'REFERENCING' ||
                 coalesce(' OLD TABLE AS ' || t.old_table, '') || coalesce(' NEW TABLE AS ' || t.new_table, '') END,
               CASE WHEN t.type & 1 = 1 THEN 'ROW' ELSE 'STATEMENT' END, t.function) END, t.rel, t.copied
  FROM compared t
  UNION ALL
  -- The copies of pgevict_row, which come, and are enabled, with the one on the partitioned table.
  SELECT 5, m.nspname, m.relname, 'copy of trigger ' || t.tgname,
         CASE WHEN h.oid IS NULL OR t.state <> 'ok' THEN 'missing' WHEN (h.tgenabled = 'D') = l.local THEN 'ok' ELSE 'outdated' END,
         format('ALTER TABLE %I.%I %s TRIGGER %I', m.nspname, m.relname, CASE WHEN l.local THEN 'DISABLE' ELSE 'ENABLE' END, t.tgname), m.rel, false
  FROM member m JOIN local l USING (watch) JOIN compared t ON t.rel = m.watch AND t.name = 'row'
  LEFT JOIN there h ON h.tgrelid = m.rel AND h.tgname = t.tgname AND h.tgparentid <> 0
  WHERE m.partitioned AND NOT m.child AND m.rel <> m.watch AND m.relkind = 'r'
  UNION ALL
  SELECT 6, 'pgevict', '', 'function pgevict.' || quote_ident(m.proname), 'left over', format('DROP FUNCTION pgevict.%I()', m.proname), NULL, false
  FROM made m WHERE NOT EXISTS (SELECT FROM function f WHERE f.name = m.proname)
)
SELECT step, o.nspname, o.relname, object, state, ddl,
       CASE WHEN ddl LIKE 'ALTER TABLE % ENABLE %' THEN 'enabled' WHEN ddl LIKE 'ALTER TABLE %' THEN 'disabled'
            WHEN state = 'missing' THEN 'created' WHEN state = 'left over' THEN 'dropped' ELSE 'replaced' END AS did,
       -- The table to be locked, in the words of LOCK TABLE. Its owner may have given up the right to that; then the statement
       -- itself does it.
       CASE WHEN has_table_privilege(o.rel, 'UPDATE, DELETE, TRUNCATE') THEN CASE WHEN copied THEN '' ELSE 'ONLY ' END || format('%I.%I', o.nspname, o.relname) END AS lock
FROM object o
