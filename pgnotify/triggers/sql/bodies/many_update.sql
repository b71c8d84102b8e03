        SELECT CASE WHEN r.n > {max_rows} OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN
            concat(head, '"changed":[', ltrim(concat(''{changed}), ','), '],"columns":{'{lists}, '},"old_columns":{', ltrim(concat(''{old_lists}), ','), '}}')
            ELSE concat(head, '"data":', {rows}, ',"old":', {old_rows}, '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL{ten_messages} OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL{one_message} OFFSET 0) s
          WHERE {to_send}
        ) END INTO messages
        FROM (SELECT count(*)::int AS n{arrays} FROM (SELECT {columns} FROM pgevict_rows r LIMIT {max_rows}::int8 + 1) r) r,
          (SELECT count(*)::int AS n{old_arrays} FROM (SELECT {columns} FROM pgevict_old r LIMIT {max_rows}::int8 + 1) o) o,
          LATERAL (SELECT r.n = o.n{both_whole} AS whole{differ}{even} OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7850 - octet_length(head) - octet_length(concat(''{changed}))) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat(''{lists}{old_lists}) ELSE concat({rows}, {old_rows}) END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL{sample} OFFSET 0) s) i
        ) e;
