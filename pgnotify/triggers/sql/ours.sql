-- The triggers and functions of ours, with the statement that drops each.
SELECT format('dropped trigger %I on %I.%I', t.tgname, n.nspname, c.relname), format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname), 1
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname = 'pgevict' AND t.tgparentid = 0 AND p.prosrc LIKE '%Made by "pgevict triggers"%'
UNION ALL
SELECT format('dropped function pgevict.%I', p.proname), format('DROP FUNCTION pgevict.%I()', p.proname), 2
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pgevict' AND p.prorettype = 'trigger'::regtype AND p.prosrc LIKE '%Made by "pgevict triggers"%'
UNION ALL
SELECT 'dropped schema pgevict', 'DROP SCHEMA pgevict', 3 WHERE to_regnamespace('pgevict') IS NOT NULL
ORDER BY 3, 1
