-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
DECLARE
  -- A row that an update moves to another partition is deleted from one and inserted into the other.
  about CONSTANT text := {any_row} || TG_OP || CASE TG_OP WHEN 'UPDATE' THEN '"' ELSE '","part":true' END;
  head CONSTANT text := about || ',"pinned":true,"data":[';
  row_now text;
  row_was text;
  message text;
  done bool;
BEGIN
  BEGIN
    IF TG_OP <> 'DELETE' THEN
      row_now := {new_json};
    END IF;
    IF TG_OP <> 'INSERT' THEN
      row_was := {old_json};
    END IF;
    IF TG_OP <> 'UPDATE' THEN
      message := head || coalesce(row_now, row_was) || ']}';
    ELSIF NOT {skip_unchanged} OR row_now <> row_was THEN
      message := head || row_now || '],"old":[' || row_was || ']}';
    ELSE
      RETURN NULL;
    END IF;
    IF octet_length(message) >= 8000 THEN
      message := about || '}';
    END IF;
  EXCEPTION WHEN OTHERS THEN
    message := about || '}';
  END;
  -- Out here, since what is sent within a block that catches errors takes 8 kB of memory until the transaction ends.
  done := pg_notify({channel}, message) IS NULL;
  RETURN NULL;
END
