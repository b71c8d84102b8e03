-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
#variable_conflict use_variable
DECLARE
  message pg_catalog.text;
  messages pg_catalog.text[];
  done pg_catalog.bool;
BEGIN
  BEGIN
    SELECT pg_catalog.format({one_row}, pg_catalog.row_to_json(r.*)) INTO STRICT message
    FROM (SELECT {values} FROM pgevict_rows r) r;
    IF pg_catalog.octet_length(message) OPERATOR(pg_catalog.>=) 8000 THEN
      RAISE invalid_parameter_value;
    END IF;
  EXCEPTION
  WHEN no_data_found THEN
    RETURN NULL;
  WHEN too_many_rows OR invalid_parameter_value THEN
{bulk}
