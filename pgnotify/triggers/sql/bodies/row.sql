-- Made by "pgevict triggers" from the rules, for {table}; the next install overwrites it.
DECLARE
  -- A row that an update moves to another partition is deleted from one and inserted into the other.
  about CONSTANT text := {any_row} || TG_OP || CASE TG_OP WHEN 'UPDATE' THEN '"' ELSE '","part":true' END;
  head CONSTANT text := about || ',"pinned":true,"data":[';
  row_now text;
  row_was text;
BEGIN
  BEGIN
    IF TG_OP <> 'DELETE' THEN
      row_now := {new_json};
    END IF;
    IF TG_OP <> 'INSERT' THEN
      row_was := {old_json};
    END IF;
    IF TG_OP <> 'UPDATE' THEN
      PERFORM pg_notify({channel}, head || coalesce(row_now, row_was) || ']}');
    ELSIF NOT {skip_unchanged} OR row_now <> row_was THEN
      PERFORM pg_notify({channel}, head || row_now || '],"old":[' || row_was || ']}');
    END IF;
  EXCEPTION WHEN OTHERS THEN
    PERFORM pg_notify({channel}, about || '}');
  END;
  RETURN NULL;
END
