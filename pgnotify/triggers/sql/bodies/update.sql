-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  done pg_catalog.bool;
BEGIN
  SELECT CASE WHEN NOT {skip_unchanged} OR (pg_catalog.row_to_json(r.*)::pg_catalog.text OPERATOR(pg_catalog.<>)
      (SELECT pg_catalog.row_to_json(o.*)::pg_catalog.text FROM (SELECT {old_values} FROM pgevict_old o) o)) IS NOT FALSE THEN
    pg_catalog.pg_notify({channel}, pg_catalog.format({one_update}, pg_catalog.row_to_json(r.*), (SELECT pg_catalog.row_to_json(o.*) FROM (SELECT {old_values} FROM pgevict_old o) o)))
    IS NOT NULL END INTO STRICT done
  FROM (SELECT {values} FROM pgevict_rows r) r;
  RETURN NULL;
EXCEPTION
WHEN no_data_found THEN
  IF EXISTS (SELECT FROM pgevict_old) THEN
    PERFORM pg_catalog.pg_notify({channel}, {any_row});
  END IF;
  RETURN NULL;
WHEN too_many_rows OR cardinality_violation OR invalid_parameter_value THEN
{bulk}
