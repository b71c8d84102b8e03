-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
BEGIN
  PERFORM pg_notify({channel}, {any_row});
  RETURN NULL;
END
