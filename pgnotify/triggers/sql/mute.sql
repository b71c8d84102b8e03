-- The roles that may write to a table of the rules, or a partition or child of one, and not call pg_notify, with one such
-- table for each: a trigger that sends fails their writes. As a rule everybody may call it, and then nothing is looked at.
WITH RECURSIVE named AS (
	SELECT c.oid FROM json_array_elements($1::json) w JOIN pg_class c ON c.relname = w ->> 'table' JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND w ->> 'schema' IN ('', n.nspname) AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgevict')
	  AND NOT EXISTS (SELECT FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
	                  WHERE p.oid = 'pg_catalog.pg_notify(text, text)'::regprocedure AND a.grantee = 0 AND a.privilege_type = 'EXECUTE')
),
family AS (
	SELECT oid FROM named
	UNION
	SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid
)
SELECT r.rolname, min(f.oid::regclass::text) FROM pg_roles r, family f
WHERE r.rolname !~ '^pg_' AND NOT has_function_privilege(r.oid, 'pg_catalog.pg_notify(text, text)', 'EXECUTE')
  AND (has_table_privilege(r.oid, f.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(r.oid, f.oid, 'INSERT, UPDATE'))
GROUP BY r.rolname ORDER BY 1
