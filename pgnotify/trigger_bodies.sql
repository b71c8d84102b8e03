-- The bodies of the trigger functions, for format():
--   1 the table, for a comment   2 the beginning of each message   3 the channel   4 the most rows that are sent of a statement
--   5 whether rows that stay as they were need not be sent         6 to 9 the JSON of the row that is called r, o, NEW, OLD
--   10 the beginning of a message with rows
--
-- All keep to this: whatever goes wrong, the write does not fail, and the message is one that says less. To assign what
-- pg_notify gives is cheaper than to PERFORM it, and the functions do what they can to be cheap for a single row.
VALUES
('rows', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  about CONSTANT text := %2$L;
  head CONSTANT text := %10$L;
  row_now text;
  messages text[];
  message text;
  step int; -- rows in a message
  sent boolean;
BEGIN
  BEGIN -- most statements write one row
    SELECT %6$s INTO STRICT row_now FROM pgevict_rows r;
    sent := pg_notify(%3$s, head || row_now || ']}') IS NULL;
    RETURN NULL;
  EXCEPTION
  WHEN no_data_found THEN
    RETURN NULL;
  WHEN too_many_rows THEN
    NULL;
  WHEN OTHERS THEN
    PERFORM pg_notify(%3$s, about || '}');
    RETURN NULL;
  END;
  BEGIN
    IF EXISTS (SELECT FROM pgevict_rows OFFSET %4$s) THEN
      RAISE 'too many rows';
    END IF;
    SELECT greatest(1, (7900 - octet_length(head)) / (max(octet_length(%6$s)) + 2)) INTO step FROM (SELECT * FROM pgevict_rows LIMIT 20) r;
    LOOP
      SELECT array_agg(head || r.part || ']}') INTO messages FROM (
        SELECT string_agg(%6$s, ',') AS part
        FROM (SELECT *, (row_number() OVER () - 1) / step AS pgevict_part FROM pgevict_rows) r GROUP BY r.pgevict_part
      ) r;
      EXIT WHEN step = 1 OR NOT EXISTS (SELECT FROM unnest(messages) AS m (text) WHERE octet_length(m.text) >= 8000);
      step := step / 2;
    END LOOP;
    FOREACH message IN ARRAY messages LOOP
      sent := pg_notify(%3$s, message) IS NULL;
    END LOOP;
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_notify(%3$s, about || '}');
  END;
  RETURN NULL;
END
$body$),
('update', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  about CONSTANT text := %2$L;
  head CONSTANT text := %10$L;
  row_now text;
  row_was text;
  messages text[];
  message text;
  step int; -- rows in a message
  sent boolean;
BEGIN
  BEGIN -- most statements write one row
    SELECT %6$s, (SELECT %7$s FROM pgevict_old o) INTO STRICT row_now, row_was FROM pgevict_rows r;
    IF NOT %5$s OR row_now <> row_was THEN
      sent := pg_notify(%3$s, head || row_now || '],"old":[' || row_was || ']}') IS NULL;
    END IF;
    RETURN NULL;
  EXCEPTION
  WHEN no_data_found THEN
    IF NOT EXISTS (SELECT FROM pgevict_old) THEN
      RETURN NULL;
    END IF;
  WHEN too_many_rows OR cardinality_violation THEN
    NULL;
  WHEN OTHERS THEN
    PERFORM pg_notify(%3$s, about || '}');
    RETURN NULL;
  END;
  BEGIN
    IF EXISTS (SELECT FROM pgevict_rows OFFSET %4$s) THEN
      RAISE 'too many rows';
    END IF;
    -- Rows are paired by their position: both tables get a row at the same time. Only one that moves to a partition where
    -- another trigger suppresses it comes to be in one of them alone.
    IF (SELECT count(*) FROM pgevict_rows) <> (SELECT count(*) FROM pgevict_old) THEN
      RAISE 'rows without a pair';
    END IF;
    SELECT greatest(1, (7900 - octet_length(head)) / (2 * max(octet_length(%6$s)) + 4)) INTO step FROM (SELECT * FROM pgevict_rows LIMIT 20) r;
    LOOP
      SELECT array_agg(head || r.part || '],"old":[' || o.part || ']}') INTO messages FROM (
        SELECT r.pgevict_part, string_agg(%6$s, ',') AS part
        FROM (SELECT *, (row_number() OVER () - 1) / step AS pgevict_part FROM pgevict_rows) r GROUP BY r.pgevict_part
      ) r FULL JOIN (
        SELECT o.pgevict_part, string_agg(%7$s, ',') AS part
        FROM (SELECT *, (row_number() OVER () - 1) / step AS pgevict_part FROM pgevict_old) o GROUP BY o.pgevict_part
      ) o USING (pgevict_part)
      WHERE NOT %5$s OR r.part <> o.part;
      EXIT WHEN step = 1 OR NOT EXISTS (SELECT FROM unnest(messages) AS m (text) WHERE octet_length(m.text) >= 8000);
      step := step / 2;
    END LOOP;
    FOREACH message IN ARRAY coalesce(messages, '{}') LOOP
      sent := pg_notify(%3$s, message) IS NULL;
    END LOOP;
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_notify(%3$s, about || '}');
  END;
  RETURN NULL;
END
$body$),
('row', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
DECLARE
  about CONSTANT text := %2$L || TG_OP || '"';
  head CONSTANT text := about || ',"pinned":true,"data":[';
  row_now text;
  row_was text;
BEGIN
  BEGIN
    IF TG_OP <> 'DELETE' THEN
      row_now := %8$s;
    END IF;
    IF TG_OP <> 'INSERT' THEN
      row_was := %9$s;
    END IF;
    IF TG_OP <> 'UPDATE' THEN
      PERFORM pg_notify(%3$s, head || coalesce(row_now, row_was) || ']}');
    ELSIF NOT %5$s OR row_now <> row_was THEN
      PERFORM pg_notify(%3$s, head || row_now || '],"old":[' || row_was || ']}');
    END IF;
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_notify(%3$s, about || '}');
  END;
  RETURN NULL;
END
$body$),
('truncate', $body$
-- Made by "pgevict triggers" from the rules, for %1$s; the next install overwrites it.
BEGIN
  PERFORM pg_notify(%3$s, %2$L || '}');
  RETURN NULL;
END
$body$)
