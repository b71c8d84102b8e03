CREATE OR REPLACE FUNCTION pgevict."public.actions delete"()
 RETURNS trigger
 LANGUAGE plpgsql
 STABLE
AS $function$
-- Made by "pgevict triggers" from the rules, for public.actions; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  message pg_catalog.text;
  messages pg_catalog.text[];
  done pg_catalog.bool;
BEGIN
  BEGIN
    SELECT pg_catalog.format('{"schema":"public","table":"actions","action":"DELETE","pinned":true,"data":[%s]}', pg_catalog.row_to_json(r.*)) INTO STRICT message
    FROM (SELECT (CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END) AS id, (CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END) AS actionable_id, (r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text AS actionable_type FROM pgevict_rows r) r;
    IF pg_catalog.octet_length(message) OPERATOR(pg_catalog.>=) 8000 THEN
      RAISE invalid_parameter_value;
    END IF;
  EXCEPTION
  WHEN no_data_found THEN
    RETURN NULL;
  WHEN too_many_rows OR invalid_parameter_value THEN

    DECLARE
      path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
      jit CONSTANT pg_catalog.text := pg_catalog.current_setting('jit');
      plans CONSTANT pg_catalog.text := pg_catalog.current_setting('plan_cache_mode');
      head CONSTANT pg_catalog.text := '{"schema":"public","table":"actions","action":"DELETE","pinned":true,';
      any_row CONSTANT pg_catalog.text := '{"schema":"public","table":"actions","action":"DELETE"}';
      shrink pg_catalog.int4 := 1;
    BEGIN
      PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true),
        pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
      LOOP
        
        SELECT CASE WHEN r.n > 10 OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN concat(head, '"columns":{', '"id":' || '[' || array_to_string(s.c1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.c3)::text, '}}') ELSE concat(head, '"data":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1, s.c2, s.c3) AS x (id, actionable_id, actionable_type)) x), '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[a.start : a.start + 10 * e.step - 1] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[a.start : a.start + 10 * e.step - 1] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[a.start : a.start + 10 * e.step - 1] END AS c3 OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN t.c1[1:1] ELSE t.c1[b.start : b.start + e.step - 1] END AS c1, CASE WHEN d.e2 THEN t.c2[1:1] ELSE t.c2[b.start : b.start + e.step - 1] END AS c2, CASE WHEN d.e3 THEN t.c3[1:1] ELSE t.c3[b.start : b.start + e.step - 1] END AS c3 OFFSET 0) s
        ) END INTO messages
        FROM (SELECT count(*)::int AS n, array_agg((CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END)) AS c1, array_agg((CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END)) AS c2, array_agg((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text) FILTER (WHERE (octet_length((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600) IS NOT TRUE) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_rows r LIMIT 10::int8 + 1) r) r, LATERAL (SELECT true AND cardinality(r.c3) = r.n AS whole, CASE WHEN r.n > 1000 AND r.c1[1] IS NOT DISTINCT FROM r.c1[r.n] THEN ROW(r.c1)::record *= ROW(array_fill(r.c1[1], ARRAY[r.n]))::record END AS e1, CASE WHEN r.n > 1000 AND r.c2[1] IS NOT DISTINCT FROM r.c2[r.n] THEN ROW(r.c2)::record *= ROW(array_fill(r.c2[1], ARRAY[r.n]))::record END AS e2, CASE WHEN r.n > 1000 AND r.c3[1] IS NOT DISTINCT FROM r.c3[r.n] THEN ROW(r.c3)::record *= ROW(array_fill(r.c3[1], ARRAY[r.n]))::record END AS e3 OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7900 - octet_length(head)) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat('', '"id":' || '[' || array_to_string(s.c1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.c3)::text) ELSE (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1, s.c2, s.c3) AS x (id, actionable_id, actionable_type)) x) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[p.start : p.start + 49] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[p.start : p.start + 49] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[p.start : p.start + 49] END AS c3 OFFSET 0) s) i
        ) e;

        IF messages IS NULL THEN
          
        SELECT CASE WHEN r.n > 10 OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN concat(head, '"columns":{', '"id":' || '[' || array_to_string(s.c1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.c3, ',') || ']', '}}') ELSE concat(head, '"data":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1::json[], s.c2::json[], s.c3::json[]) AS x (id, actionable_id, actionable_type)) x), '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[a.start : a.start + 10 * e.step - 1] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[a.start : a.start + 10 * e.step - 1] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[a.start : a.start + 10 * e.step - 1] END AS c3 OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN t.c1[1:1] ELSE t.c1[b.start : b.start + e.step - 1] END AS c1, CASE WHEN d.e2 THEN t.c2[1:1] ELSE t.c2[b.start : b.start + e.step - 1] END AS c2, CASE WHEN d.e3 THEN t.c3[1:1] ELSE t.c3[b.start : b.start + e.step - 1] END AS c3 OFFSET 0) s
        ) END INTO messages
        FROM (SELECT count(*)::int AS n, array_agg(coalesce(to_json((CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END)::pg_catalog.text)::text, 'null')) AS c1, array_agg(coalesce(to_json((CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END)::pg_catalog.text)::text, 'null')) AS c2, array_agg(CASE WHEN octet_length((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600 THEN '{}' ELSE coalesce(to_json((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text)::text, 'null') END) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_rows r LIMIT 10::int8 + 1) r) r, LATERAL (SELECT true AS whole, CASE WHEN r.n > 1000 AND r.c1[1] IS NOT DISTINCT FROM r.c1[r.n] THEN ROW(r.c1)::record *= ROW(array_fill(r.c1[1], ARRAY[r.n]))::record END AS e1, CASE WHEN r.n > 1000 AND r.c2[1] IS NOT DISTINCT FROM r.c2[r.n] THEN ROW(r.c2)::record *= ROW(array_fill(r.c2[1], ARRAY[r.n]))::record END AS e2, CASE WHEN r.n > 1000 AND r.c3[1] IS NOT DISTINCT FROM r.c3[r.n] THEN ROW(r.c3)::record *= ROW(array_fill(r.c3[1], ARRAY[r.n]))::record END AS e3 OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7900 - octet_length(head)) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat('', '"id":' || '[' || array_to_string(s.c1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.c3, ',') || ']') ELSE (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1::json[], s.c2::json[], s.c3::json[]) AS x (id, actionable_id, actionable_type)) x) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[p.start : p.start + 49] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[p.start : p.start + 49] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[p.start : p.start + 49] END AS c3 OFFSET 0) s) i
        ) e;

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
    message := '{"schema":"public","table":"actions","action":"DELETE"}';
  END;
  -- Out here, since what is sent within a block that catches errors takes 8 kB of memory until the transaction ends.
  IF pg_catalog.cardinality(messages) OPERATOR(pg_catalog.<>) 1 THEN
    PERFORM pg_catalog.pg_notify('events', m) FROM pg_catalog.unnest(messages) m;
  ELSE
    done := pg_catalog.pg_notify('events', coalesce(messages[1], message)) IS NULL;
  END IF;
  RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION pgevict."public.actions insert"()
 RETURNS trigger
 LANGUAGE plpgsql
 STABLE
AS $function$
-- Made by "pgevict triggers" from the rules, for public.actions; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  message pg_catalog.text;
  messages pg_catalog.text[];
  done pg_catalog.bool;
BEGIN
  BEGIN
    SELECT pg_catalog.format('{"schema":"public","table":"actions","action":"INSERT","pinned":true,"data":[%s]}', pg_catalog.row_to_json(r.*)) INTO STRICT message
    FROM (SELECT (CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END) AS id, (CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END) AS actionable_id, (r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text AS actionable_type FROM pgevict_rows r) r;
    IF pg_catalog.octet_length(message) OPERATOR(pg_catalog.>=) 8000 THEN
      RAISE invalid_parameter_value;
    END IF;
  EXCEPTION
  WHEN no_data_found THEN
    RETURN NULL;
  WHEN too_many_rows OR invalid_parameter_value THEN

    DECLARE
      path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
      jit CONSTANT pg_catalog.text := pg_catalog.current_setting('jit');
      plans CONSTANT pg_catalog.text := pg_catalog.current_setting('plan_cache_mode');
      head CONSTANT pg_catalog.text := '{"schema":"public","table":"actions","action":"INSERT","pinned":true,';
      any_row CONSTANT pg_catalog.text := '{"schema":"public","table":"actions","action":"INSERT"}';
      shrink pg_catalog.int4 := 1;
    BEGIN
      PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true),
        pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
      LOOP
        
        SELECT CASE WHEN r.n > 10 OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN concat(head, '"columns":{', '"id":' || '[' || array_to_string(s.c1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.c3)::text, '}}') ELSE concat(head, '"data":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1, s.c2, s.c3) AS x (id, actionable_id, actionable_type)) x), '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[a.start : a.start + 10 * e.step - 1] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[a.start : a.start + 10 * e.step - 1] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[a.start : a.start + 10 * e.step - 1] END AS c3 OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN t.c1[1:1] ELSE t.c1[b.start : b.start + e.step - 1] END AS c1, CASE WHEN d.e2 THEN t.c2[1:1] ELSE t.c2[b.start : b.start + e.step - 1] END AS c2, CASE WHEN d.e3 THEN t.c3[1:1] ELSE t.c3[b.start : b.start + e.step - 1] END AS c3 OFFSET 0) s
        ) END INTO messages
        FROM (SELECT count(*)::int AS n, array_agg((CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END)) AS c1, array_agg((CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END)) AS c2, array_agg((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text) FILTER (WHERE (octet_length((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600) IS NOT TRUE) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_rows r LIMIT 10::int8 + 1) r) r, LATERAL (SELECT true AND cardinality(r.c3) = r.n AS whole, CASE WHEN r.n > 1000 AND r.c1[1] IS NOT DISTINCT FROM r.c1[r.n] THEN ROW(r.c1)::record *= ROW(array_fill(r.c1[1], ARRAY[r.n]))::record END AS e1, CASE WHEN r.n > 1000 AND r.c2[1] IS NOT DISTINCT FROM r.c2[r.n] THEN ROW(r.c2)::record *= ROW(array_fill(r.c2[1], ARRAY[r.n]))::record END AS e2, CASE WHEN r.n > 1000 AND r.c3[1] IS NOT DISTINCT FROM r.c3[r.n] THEN ROW(r.c3)::record *= ROW(array_fill(r.c3[1], ARRAY[r.n]))::record END AS e3 OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7900 - octet_length(head)) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat('', '"id":' || '[' || array_to_string(s.c1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.c3)::text) ELSE (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1, s.c2, s.c3) AS x (id, actionable_id, actionable_type)) x) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[p.start : p.start + 49] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[p.start : p.start + 49] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[p.start : p.start + 49] END AS c3 OFFSET 0) s) i
        ) e;

        IF messages IS NULL THEN
          
        SELECT CASE WHEN r.n > 10 OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN concat(head, '"columns":{', '"id":' || '[' || array_to_string(s.c1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.c3, ',') || ']', '}}') ELSE concat(head, '"data":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1::json[], s.c2::json[], s.c3::json[]) AS x (id, actionable_id, actionable_type)) x), '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[a.start : a.start + 10 * e.step - 1] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[a.start : a.start + 10 * e.step - 1] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[a.start : a.start + 10 * e.step - 1] END AS c3 OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN t.c1[1:1] ELSE t.c1[b.start : b.start + e.step - 1] END AS c1, CASE WHEN d.e2 THEN t.c2[1:1] ELSE t.c2[b.start : b.start + e.step - 1] END AS c2, CASE WHEN d.e3 THEN t.c3[1:1] ELSE t.c3[b.start : b.start + e.step - 1] END AS c3 OFFSET 0) s
        ) END INTO messages
        FROM (SELECT count(*)::int AS n, array_agg(coalesce(to_json((CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END)::pg_catalog.text)::text, 'null')) AS c1, array_agg(coalesce(to_json((CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END)::pg_catalog.text)::text, 'null')) AS c2, array_agg(CASE WHEN octet_length((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600 THEN '{}' ELSE coalesce(to_json((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text)::text, 'null') END) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_rows r LIMIT 10::int8 + 1) r) r, LATERAL (SELECT true AS whole, CASE WHEN r.n > 1000 AND r.c1[1] IS NOT DISTINCT FROM r.c1[r.n] THEN ROW(r.c1)::record *= ROW(array_fill(r.c1[1], ARRAY[r.n]))::record END AS e1, CASE WHEN r.n > 1000 AND r.c2[1] IS NOT DISTINCT FROM r.c2[r.n] THEN ROW(r.c2)::record *= ROW(array_fill(r.c2[1], ARRAY[r.n]))::record END AS e2, CASE WHEN r.n > 1000 AND r.c3[1] IS NOT DISTINCT FROM r.c3[r.n] THEN ROW(r.c3)::record *= ROW(array_fill(r.c3[1], ARRAY[r.n]))::record END AS e3 OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7900 - octet_length(head)) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat('', '"id":' || '[' || array_to_string(s.c1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.c3, ',') || ']') ELSE (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1::json[], s.c2::json[], s.c3::json[]) AS x (id, actionable_id, actionable_type)) x) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[p.start : p.start + 49] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[p.start : p.start + 49] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[p.start : p.start + 49] END AS c3 OFFSET 0) s) i
        ) e;

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
    message := '{"schema":"public","table":"actions","action":"INSERT"}';
  END;
  -- Out here, since what is sent within a block that catches errors takes 8 kB of memory until the transaction ends.
  IF pg_catalog.cardinality(messages) OPERATOR(pg_catalog.<>) 1 THEN
    PERFORM pg_catalog.pg_notify('events', m) FROM pg_catalog.unnest(messages) m;
  ELSE
    done := pg_catalog.pg_notify('events', coalesce(messages[1], message)) IS NULL;
  END IF;
  RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION pgevict."public.actions truncate"()
 RETURNS trigger
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- Made by "pgevict triggers" from the rules, for public.actions; the next install overwrites it.
BEGIN
  PERFORM pg_notify('events', '{"schema":"public","table":"actions","action":"TRUNCATE"}');
  RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION pgevict."public.actions update"()
 RETURNS trigger
 LANGUAGE plpgsql
 STABLE
AS $function$
-- Made by "pgevict triggers" from the rules, for public.actions; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  message pg_catalog.text;
  messages pg_catalog.text[];
  done pg_catalog.bool;
BEGIN
  BEGIN
    SELECT CASE WHEN NOT false OR (pg_catalog.row_to_json(r.*)::pg_catalog.text OPERATOR(pg_catalog.<>)
        (SELECT pg_catalog.row_to_json(o.*)::pg_catalog.text FROM (SELECT (CASE WHEN false THEN o.id OPERATOR(pg_catalog.&) -1 ELSE o.id END) AS id, (CASE WHEN false THEN o.actionable_id OPERATOR(pg_catalog.&) -1 ELSE o.actionable_id END) AS actionable_id, (o.actionable_type COLLATE pg_catalog."C")::pg_catalog.text AS actionable_type FROM pgevict_old o) o)) IS NOT FALSE THEN
      pg_catalog.format('{"schema":"public","table":"actions","action":"UPDATE","pinned":true,"data":[%s],"old":[%s]}', pg_catalog.row_to_json(r.*), (SELECT pg_catalog.row_to_json(o.*) FROM (SELECT (CASE WHEN false THEN o.id OPERATOR(pg_catalog.&) -1 ELSE o.id END) AS id, (CASE WHEN false THEN o.actionable_id OPERATOR(pg_catalog.&) -1 ELSE o.actionable_id END) AS actionable_id, (o.actionable_type COLLATE pg_catalog."C")::pg_catalog.text AS actionable_type FROM pgevict_old o) o)) END
    INTO STRICT message
    FROM (SELECT (CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END) AS id, (CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END) AS actionable_id, (r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text AS actionable_type FROM pgevict_rows r) r;
    IF message IS NULL THEN
      RETURN NULL;
    END IF;
    IF pg_catalog.octet_length(message) OPERATOR(pg_catalog.>=) 8000 THEN
      RAISE invalid_parameter_value;
    END IF;
  EXCEPTION
  WHEN no_data_found THEN
    IF NOT EXISTS (SELECT FROM pgevict_old) THEN
      RETURN NULL;
    END IF;
    message := '{"schema":"public","table":"actions","action":"UPDATE"}';
  WHEN too_many_rows OR cardinality_violation OR invalid_parameter_value THEN

    DECLARE
      path CONSTANT pg_catalog.text := pg_catalog.current_setting('search_path');
      jit CONSTANT pg_catalog.text := pg_catalog.current_setting('jit');
      plans CONSTANT pg_catalog.text := pg_catalog.current_setting('plan_cache_mode');
      head CONSTANT pg_catalog.text := '{"schema":"public","table":"actions","action":"UPDATE","pinned":true,';
      any_row CONSTANT pg_catalog.text := '{"schema":"public","table":"actions","action":"UPDATE"}';
      shrink pg_catalog.int4 := 1;
    BEGIN
      PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('jit', 'off', true),
        pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
      LOOP
        
        SELECT CASE WHEN r.n > 10 OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN
            concat(head, '"changed":[', ltrim(concat('', CASE WHEN d.d1 THEN ',"id"' END, CASE WHEN d.d2 THEN ',"actionable_id"' END, CASE WHEN d.d3 THEN ',"actionable_type"' END), ','), '],"columns":{', '"id":' || '[' || array_to_string(s.c1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.c3)::text, '},"old_columns":{', ltrim(concat('', ',"id":' || '[' || array_to_string(s.o1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.o2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.o3)::text), ','), '}}')
            ELSE concat(head, '"data":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1, s.c2, s.c3) AS x (id, actionable_id, actionable_type)) x), ',"old":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(coalesce(s.o1, s.c1), coalesce(s.o2, s.c2), coalesce(s.o3, s.c3)) AS x (id, actionable_id, actionable_type)) x), '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[a.start : a.start + 10 * e.step - 1] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[a.start : a.start + 10 * e.step - 1] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[a.start : a.start + 10 * e.step - 1] END AS c3, CASE WHEN d.d1 THEN o.c1[a.start : a.start + 10 * e.step - 1] END AS o1, CASE WHEN d.d2 THEN o.c2[a.start : a.start + 10 * e.step - 1] END AS o2, CASE WHEN d.d3 THEN o.c3[a.start : a.start + 10 * e.step - 1] END AS o3 OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN t.c1[1:1] ELSE t.c1[b.start : b.start + e.step - 1] END AS c1, CASE WHEN d.e2 THEN t.c2[1:1] ELSE t.c2[b.start : b.start + e.step - 1] END AS c2, CASE WHEN d.e3 THEN t.c3[1:1] ELSE t.c3[b.start : b.start + e.step - 1] END AS c3, CASE WHEN d.d1 THEN t.o1[b.start : b.start + e.step - 1] END AS o1, CASE WHEN d.d2 THEN t.o2[b.start : b.start + e.step - 1] END AS o2, CASE WHEN d.d3 THEN t.o3[b.start : b.start + e.step - 1] END AS o3 OFFSET 0) s
          WHERE true
        ) END INTO messages
        FROM (SELECT count(*)::int AS n, array_agg((CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END)) AS c1, array_agg((CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END)) AS c2, array_agg((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text) FILTER (WHERE (octet_length((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600) IS NOT TRUE) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_rows r LIMIT 10::int8 + 1) r) r,
          (SELECT count(*)::int AS n, array_agg((CASE WHEN false THEN o.id OPERATOR(pg_catalog.&) -1 ELSE o.id END)) AS c1, array_agg((CASE WHEN false THEN o.actionable_id OPERATOR(pg_catalog.&) -1 ELSE o.actionable_id END)) AS c2, array_agg((o.actionable_type COLLATE pg_catalog."C")::pg_catalog.text) FILTER (WHERE (octet_length((o.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600) IS NOT TRUE) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_old r LIMIT 10::int8 + 1) o) o,
          LATERAL (SELECT r.n = o.n AND cardinality(r.c3) = r.n AND cardinality(o.c3) = o.n AS whole, ROW(r.c1)::record *<> ROW(o.c1)::record AS d1, ROW(r.c2)::record *<> ROW(o.c2)::record AS d2, ROW(r.c3)::record *<> ROW(o.c3)::record AS d3, CASE WHEN r.n > 1000 AND r.c1[1] IS NOT DISTINCT FROM r.c1[r.n] THEN ROW(r.c1)::record *= ROW(array_fill(r.c1[1], ARRAY[r.n]))::record END AS e1, CASE WHEN r.n > 1000 AND r.c2[1] IS NOT DISTINCT FROM r.c2[r.n] THEN ROW(r.c2)::record *= ROW(array_fill(r.c2[1], ARRAY[r.n]))::record END AS e2, CASE WHEN r.n > 1000 AND r.c3[1] IS NOT DISTINCT FROM r.c3[r.n] THEN ROW(r.c3)::record *= ROW(array_fill(r.c3[1], ARRAY[r.n]))::record END AS e3 OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7850 - octet_length(head) - octet_length(concat('', CASE WHEN d.d1 THEN ',"id"' END, CASE WHEN d.d2 THEN ',"actionable_id"' END, CASE WHEN d.d3 THEN ',"actionable_type"' END))) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat('', '"id":' || '[' || array_to_string(s.c1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.c3)::text, ',"id":' || '[' || array_to_string(s.o1, ',', 'null') || ']', ',"actionable_id":' || '[' || array_to_string(s.o2, ',', 'null') || ']', ',"actionable_type":' || array_to_json(s.o3)::text) ELSE concat((SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1, s.c2, s.c3) AS x (id, actionable_id, actionable_type)) x), (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(coalesce(s.o1, s.c1), coalesce(s.o2, s.c2), coalesce(s.o3, s.c3)) AS x (id, actionable_id, actionable_type)) x)) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[p.start : p.start + 49] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[p.start : p.start + 49] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[p.start : p.start + 49] END AS c3, CASE WHEN d.d1 THEN o.c1[p.start : p.start + 49] END AS o1, CASE WHEN d.d2 THEN o.c2[p.start : p.start + 49] END AS o2, CASE WHEN d.d3 THEN o.c3[p.start : p.start + 49] END AS o3 OFFSET 0) s) i
        ) e;

        IF messages IS NULL THEN
          
        SELECT CASE WHEN r.n > 10 OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN
            concat(head, '"changed":[', ltrim(concat('', CASE WHEN d.d1 THEN ',"id"' END, CASE WHEN d.d2 THEN ',"actionable_id"' END, CASE WHEN d.d3 THEN ',"actionable_type"' END), ','), '],"columns":{', '"id":' || '[' || array_to_string(s.c1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.c3, ',') || ']', '},"old_columns":{', ltrim(concat('', ',"id":' || '[' || array_to_string(s.o1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.o2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.o3, ',') || ']'), ','), '}}')
            ELSE concat(head, '"data":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1::json[], s.c2::json[], s.c3::json[]) AS x (id, actionable_id, actionable_type)) x), ',"old":', (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(coalesce(s.o1, s.c1)::json[], coalesce(s.o2, s.c2)::json[], coalesce(s.o3, s.c3)::json[]) AS x (id, actionable_id, actionable_type)) x), '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[a.start : a.start + 10 * e.step - 1] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[a.start : a.start + 10 * e.step - 1] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[a.start : a.start + 10 * e.step - 1] END AS c3, CASE WHEN d.d1 THEN o.c1[a.start : a.start + 10 * e.step - 1] END AS o1, CASE WHEN d.d2 THEN o.c2[a.start : a.start + 10 * e.step - 1] END AS o2, CASE WHEN d.d3 THEN o.c3[a.start : a.start + 10 * e.step - 1] END AS o3 OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN t.c1[1:1] ELSE t.c1[b.start : b.start + e.step - 1] END AS c1, CASE WHEN d.e2 THEN t.c2[1:1] ELSE t.c2[b.start : b.start + e.step - 1] END AS c2, CASE WHEN d.e3 THEN t.c3[1:1] ELSE t.c3[b.start : b.start + e.step - 1] END AS c3, CASE WHEN d.d1 THEN t.o1[b.start : b.start + e.step - 1] END AS o1, CASE WHEN d.d2 THEN t.o2[b.start : b.start + e.step - 1] END AS o2, CASE WHEN d.d3 THEN t.o3[b.start : b.start + e.step - 1] END AS o3 OFFSET 0) s
          WHERE true
        ) END INTO messages
        FROM (SELECT count(*)::int AS n, array_agg(coalesce(to_json((CASE WHEN false THEN r.id OPERATOR(pg_catalog.&) -1 ELSE r.id END)::pg_catalog.text)::text, 'null')) AS c1, array_agg(coalesce(to_json((CASE WHEN false THEN r.actionable_id OPERATOR(pg_catalog.&) -1 ELSE r.actionable_id END)::pg_catalog.text)::text, 'null')) AS c2, array_agg(CASE WHEN octet_length((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600 THEN '{}' ELSE coalesce(to_json((r.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text)::text, 'null') END) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_rows r LIMIT 10::int8 + 1) r) r,
          (SELECT count(*)::int AS n, array_agg(coalesce(to_json((CASE WHEN false THEN o.id OPERATOR(pg_catalog.&) -1 ELSE o.id END)::pg_catalog.text)::text, 'null')) AS c1, array_agg(coalesce(to_json((CASE WHEN false THEN o.actionable_id OPERATOR(pg_catalog.&) -1 ELSE o.actionable_id END)::pg_catalog.text)::text, 'null')) AS c2, array_agg(CASE WHEN octet_length((o.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text) > 3600 THEN '{}' ELSE coalesce(to_json((o.actionable_type COLLATE pg_catalog."C")::pg_catalog.text::pg_catalog.text)::text, 'null') END) AS c3 FROM (SELECT r.id, r.actionable_id, r.actionable_type FROM pgevict_old r LIMIT 10::int8 + 1) o) o,
          LATERAL (SELECT r.n = o.n AS whole, ROW(r.c1)::record *<> ROW(o.c1)::record AS d1, ROW(r.c2)::record *<> ROW(o.c2)::record AS d2, ROW(r.c3)::record *<> ROW(o.c3)::record OR '{}' = ANY (r.c3) OR '{}' = ANY (o.c3) AS d3, CASE WHEN r.n > 1000 AND r.c1[1] IS NOT DISTINCT FROM r.c1[r.n] THEN ROW(r.c1)::record *= ROW(array_fill(r.c1[1], ARRAY[r.n]))::record END AS e1, CASE WHEN r.n > 1000 AND r.c2[1] IS NOT DISTINCT FROM r.c2[r.n] THEN ROW(r.c2)::record *= ROW(array_fill(r.c2[1], ARRAY[r.n]))::record END AS e2, CASE WHEN r.n > 1000 AND r.c3[1] IS NOT DISTINCT FROM r.c3[r.n] THEN ROW(r.c3)::record *= ROW(array_fill(r.c3[1], ARRAY[r.n]))::record END AS e3 OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7850 - octet_length(head) - octet_length(concat('', CASE WHEN d.d1 THEN ',"id"' END, CASE WHEN d.d2 THEN ',"actionable_id"' END, CASE WHEN d.d3 THEN ',"actionable_type"' END))) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat('', '"id":' || '[' || array_to_string(s.c1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.c2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.c3, ',') || ']', ',"id":' || '[' || array_to_string(s.o1, ',') || ']', ',"actionable_id":' || '[' || array_to_string(s.o2, ',') || ']', ',"actionable_type":' || '[' || array_to_string(s.o3, ',') || ']') ELSE concat((SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(s.c1::json[], s.c2::json[], s.c3::json[]) AS x (id, actionable_id, actionable_type)) x), (SELECT concat('[', string_agg(row_to_json(x.*)::text, ','), ']') FROM (SELECT * FROM unnest(coalesce(s.o1, s.c1)::json[], coalesce(s.o2, s.c2)::json[], coalesce(s.o3, s.c3)::json[]) AS x (id, actionable_id, actionable_type)) x)) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL, CASE WHEN d.e1 THEN r.c1[1:1] ELSE r.c1[p.start : p.start + 49] END AS c1, CASE WHEN d.e2 THEN r.c2[1:1] ELSE r.c2[p.start : p.start + 49] END AS c2, CASE WHEN d.e3 THEN r.c3[1:1] ELSE r.c3[p.start : p.start + 49] END AS c3, CASE WHEN d.d1 THEN o.c1[p.start : p.start + 49] END AS o1, CASE WHEN d.d2 THEN o.c2[p.start : p.start + 49] END AS o2, CASE WHEN d.d3 THEN o.c3[p.start : p.start + 49] END AS o3 OFFSET 0) s) i
        ) e;

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
    message := '{"schema":"public","table":"actions","action":"UPDATE"}';
  END;
  -- Out here, since what is sent within a block that catches errors takes 8 kB of memory until the transaction ends.
  IF pg_catalog.cardinality(messages) OPERATOR(pg_catalog.<>) 1 THEN
    PERFORM pg_catalog.pg_notify('events', m) FROM pg_catalog.unnest(messages) m;
  ELSE
    done := pg_catalog.pg_notify('events', coalesce(messages[1], message)) IS NULL;
  END IF;
  RETURN NULL;
END
$function$;
