-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  message pg_catalog.text;
  messages pg_catalog.text[];
  done pg_catalog.bool;
BEGIN
  BEGIN
    SELECT CASE WHEN NOT {skip_unchanged} OR (pg_catalog.row_to_json(r.*)::pg_catalog.text OPERATOR(pg_catalog.<>)
        (SELECT pg_catalog.row_to_json(o.*)::pg_catalog.text FROM (SELECT {old_values} FROM pgevict_old o) o)) IS NOT FALSE THEN
      pg_catalog.format({one_update}, pg_catalog.row_to_json(r.*), (SELECT pg_catalog.row_to_json(o.*) FROM (SELECT {old_values} FROM pgevict_old o) o)) END
    INTO STRICT message
    FROM (SELECT {values} FROM pgevict_rows r) r;
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
    message := {any_row};
  WHEN too_many_rows OR cardinality_violation OR invalid_parameter_value THEN
{bulk}
