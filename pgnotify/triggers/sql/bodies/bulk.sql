  DECLARE
    path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
    jit CONSTANT pg_catalog.text := pg_catalog.current_setting('jit');
    plans CONSTANT pg_catalog.text := pg_catalog.current_setting('plan_cache_mode');
    head CONSTANT pg_catalog.text := {head};
    shrink pg_catalog.int4 := 1;
  BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true),
      pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
    LOOP
      BEGIN
        {fast_query}
        IF done IS NULL THEN
          {exact_query}
        END IF;
        -- Rows are paired by their position: both tables get a row at the same time. Only one that moves to a partition where
        -- another trigger suppresses it comes to be in one of them alone.
        IF done IS NOT TRUE THEN
          RAISE 'too many rows, or one too long, or some without a pair';
        END IF;
        EXIT;
      EXCEPTION WHEN invalid_parameter_value THEN -- a message is too long
        shrink := shrink * 4;
      END;
    END LOOP;
    PERFORM set_config('search_path', path, true), set_config('jit', jit, true), set_config('plan_cache_mode', plans, true);
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_catalog.pg_notify({channel}, {any_row});
  END;
  RETURN NULL;
WHEN OTHERS THEN
  PERFORM pg_catalog.pg_notify({channel}, {any_row});
  RETURN NULL;
END
