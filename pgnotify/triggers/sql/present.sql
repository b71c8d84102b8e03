there AS (
  SELECT t.oid, t.tgrelid, t.tgname, t.tgtype, t.tgenabled, t.tgparentid, t.tgoldtable::text, t.tgnewtable::text, t.tgqual, p.proname::text,
         n.nspname, c.relname, c.relkind
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace AND pn.nspname = 'pgevict'
    AND p.prosrc LIKE '%Made by "pgevict triggers"%' -- or it is somebody else's
  JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT t.tgisinternal OR t.tgparentid <> 0
),
made AS (
  SELECT p.oid, p.proname, p.prosrc, p.proconfig, p.provolatile
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = 'pgevict' AND p.prorettype = 'trigger'::regtype AND p.prosrc LIKE '%Made by "pgevict triggers"%'
),
