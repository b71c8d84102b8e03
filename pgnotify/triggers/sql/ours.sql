-- The triggers and functions of ours, with the statement that drops each, in the columns of diff.sql.
SELECT 3 AS step, n.nspname::text, c.relname::text, 'trigger ' || quote_ident(t.tgname) AS object, 'left over' AS state,
       format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname) AS ddl, 'dropped' AS did,
       CASE WHEN has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')
         THEN CASE WHEN c.relkind = 'p' AND t.tgtype & 1 = 1 THEN '' ELSE 'ONLY ' END || format('%I.%I', n.nspname, c.relname) END AS lock
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname = 'pgevict' AND t.tgparentid = 0 AND p.prosrc LIKE '%Made by "pgevict triggers"%'
UNION ALL
SELECT 6, 'pgevict', '', 'function pgevict.' || quote_ident(p.proname), 'left over', format('DROP FUNCTION pgevict.%I()', p.proname), 'dropped', NULL
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pgevict' AND p.prorettype = 'trigger'::regtype AND p.prosrc LIKE '%Made by "pgevict triggers"%'
UNION ALL
SELECT 7, 'pgevict', '', 'schema pgevict', 'left over', 'DROP SCHEMA pgevict', 'dropped', NULL WHERE to_regnamespace('pgevict') IS NOT NULL
