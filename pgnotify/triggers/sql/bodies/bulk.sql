    DECLARE
      path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
      jit CONSTANT pg_catalog.text := pg_catalog.current_setting('jit');
      plans CONSTANT pg_catalog.text := pg_catalog.current_setting('plan_cache_mode');
      head CONSTANT pg_catalog.text := {head};
      any_row CONSTANT pg_catalog.text := {any_row};
      shrink pg_catalog.int4 := 1;
    BEGIN
      PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true),
        pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
      LOOP
        {fast_query}
        IF messages IS NULL THEN
          {exact_query}
        END IF;
        -- Rows are paired by their position: both tables get a row at the same time. Only one that moves to a partition where
        -- another trigger suppresses it comes to be in one of them alone.
        IF messages IS NULL THEN
          RAISE 'some rows are without a pair';
        END IF;
        IF cardinality(messages) = 1 THEN -- as a rule; and no query
          EXIT WHEN octet_length(messages[1]) < 8000;
        ELSE
          EXIT WHEN (SELECT max(octet_length(m)) FROM unnest(messages) m) < 8000 IS NOT FALSE;
        END IF;
        shrink := shrink * 4;
      END LOOP;
      PERFORM set_config('search_path', path, true), set_config('jit', jit, true), set_config('plan_cache_mode', plans, true);
    EXCEPTION WHEN OTHERS THEN
      messages := ARRAY[any_row];
    END;
  WHEN OTHERS THEN
    message := {any_row};
  END;
  -- Out here, since what is sent within a block that catches errors takes 8 kB of memory until the transaction ends.
  IF pg_catalog.cardinality(messages) OPERATOR(pg_catalog.<>) 1 THEN
    PERFORM pg_catalog.pg_notify({channel}, m) FROM pg_catalog.unnest(messages) m;
  ELSE
    done := pg_catalog.pg_notify({channel}, coalesce(messages[1], message)) IS NULL;
  END IF;
  RETURN NULL;
END
