-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  done pg_catalog.bool;
BEGIN
  SELECT pg_catalog.pg_notify({channel}, pg_catalog.format({one_row}, pg_catalog.row_to_json(r.*))) IS NOT NULL INTO STRICT done
  FROM (SELECT {values} FROM pgevict_rows r) r;
  RETURN NULL;
EXCEPTION
WHEN no_data_found THEN
  RETURN NULL;
WHEN too_many_rows OR invalid_parameter_value THEN
{bulk}
