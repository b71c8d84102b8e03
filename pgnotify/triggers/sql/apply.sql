DO {quote}
#variable_conflict use_column
DECLARE
  settings CONSTANT pg_catalog.text[] := '{search_path,quote_all_identifiers,jit,enable_nestloop,lock_timeout}';
  fixed CONSTANT pg_catalog.text[] := '{"pg_catalog, pg_temp",off,off,off,0}'; -- of new tables the planner knows too little
  were pg_catalog.text[];
  first pg_catalog.text[]; -- what needs no lock on a table
  locked pg_catalog.text[]; -- what does
  last pg_catalog.text[];
  tables pg_catalog.text[]; -- to be locked, in the words of LOCK TABLE
  busy pg_catalog.text[] := '{}'; -- of these, the last few that somebody else held
  did pg_catalog.text[];
  task pg_catalog.text;
  started CONSTANT pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  patience pg_catalog.interval;
  hold pg_catalog.text; -- how long, in milliseconds, to wait for one table while others are held
BEGIN
  PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgevict triggers'));
  FOR i IN 1 .. pg_catalog.array_length(settings, 1) LOOP
    were[i] := pg_catalog.current_setting(settings[i]);
    PERFORM pg_catalog.set_config(settings[i], fixed[i], true);
  END LOOP;
  patience := CASE were[5] WHEN '0' THEN '2 s' ELSE were[5] END;
  -- Far below the time after which somebody would be told that there is a deadlock.
  hold := greatest(1, least(20, extract(epoch FROM current_setting('deadlock_timeout')::interval) * 50))::int;

  WITH task AS MATERIALIZED (
    SELECT row_number() OVER (ORDER BY step, nspname, relname, object) AS nth, step, ddl, lock,
           did || ' ' || object || CASE WHEN relname = '' OR object LIKE 'function %' THEN '' ELSE format(' on %I.%I', nspname, relname) END AS did
    FROM (
{query}
    ) w WHERE state <> 'ok'
  )
  SELECT array_agg(t.did ORDER BY nth), array_agg(ddl ORDER BY nth) FILTER (WHERE step <= 2),
    array_agg(ddl ORDER BY nth) FILTER (WHERE step BETWEEN 3 AND 5), array_agg(ddl ORDER BY nth) FILTER (WHERE step >= 6),
    (SELECT array_agg(words ORDER BY words) FROM (
       SELECT lock || CASE WHEN bool_or(ddl LIKE 'DROP %') THEN ' IN ACCESS EXCLUSIVE MODE' ELSE ' IN SHARE ROW EXCLUSIVE MODE' END AS words
       FROM task WHERE step BETWEEN 3 AND 5 AND lock IS NOT NULL GROUP BY lock) l)
  INTO did, first, locked, last, tables FROM task t;

  FOREACH task IN ARRAY coalesce(first, '{}') LOOP
    EXECUTE task;
  END LOOP;
  -- Before the first change of a table all are locked, as nobody's half of a deadlock: only while none is held is there a
  -- wait for one that is worth the name. Where that does not do, all are let go of, so that the application can write.
  WHILE locked IS NOT NULL LOOP
    BEGIN
      FOR i IN 1 .. cardinality(busy) LOOP
        task := busy[i];
        PERFORM set_config('lock_timeout', CASE i WHEN 1 THEN '100' ELSE hold END, true);
        EXECUTE 'LOCK TABLE ' || task;
      END LOOP;
      FOREACH task IN ARRAY coalesce(tables, '{}') LOOP
        EXECUTE 'LOCK TABLE ' || task || ' NOWAIT';
      END LOOP;
      PERFORM set_config('lock_timeout', hold, true);
      FOREACH task IN ARRAY locked LOOP
        EXECUTE task;
      END LOOP;
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF clock_timestamp() - started > patience THEN
        RAISE lock_not_available USING MESSAGE = 'cannot lock ' || task;
      END IF;
      IF task = ANY (tables) THEN
        busy := (array_prepend(task, array_remove(busy, task)))[1:4];
      END IF;
    END;
    PERFORM pg_sleep(0.02);
  END LOOP;
  FOREACH task IN ARRAY coalesce(last, '{}') LOOP
    EXECUTE task;
  END LOOP;

  IF did IS NOT NULL THEN
    RAISE NOTICE '%', array_to_string(did, chr(10));
  END IF;
  PERFORM set_config('pgevict.did', coalesce(to_json(did), '[]')::text, true);
  FOR i IN REVERSE array_length(settings, 1) .. 1 LOOP -- search_path last
    PERFORM pg_catalog.set_config(settings[i], were[i], true);
  END LOOP;
END
{quote};
