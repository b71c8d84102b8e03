        SELECT CASE WHEN r.n > {max_rows} OR shrink > 1 AND e.room * 2 < shrink THEN ARRAY[any_row] WHEN d.whole THEN (
          SELECT coalesce(array_agg(CASE WHEN r.n > 1000 THEN concat(head, '"columns":{'{lists}, '}}') ELSE concat(head, '"data":', {rows}, '}') END), '{}')
          FROM generate_series(1, r.n, 10 * e.step) AS a (start), LATERAL (SELECT NULL{ten_messages} OFFSET 0) t,
            generate_series(1, least(10 * e.step, r.n - a.start + 1), e.step) AS b (start), LATERAL (SELECT NULL{one_message} OFFSET 0) s
        ) END INTO messages
        FROM (SELECT count(*)::int AS n{arrays} FROM (SELECT {columns} FROM pgevict_rows r LIMIT {max_rows}::int8 + 1) r) r, LATERAL (SELECT true{whole} AS whole{even} OFFSET 0) d, LATERAL (
          SELECT i.room, greatest(1, i.room / shrink) AS step FROM (SELECT (7900 - octet_length(head)) * least(50, r.n) / max(octet_length(CASE WHEN r.n > 1000 THEN concat(''{lists}) ELSE {rows} END) + 1) AS room
          FROM unnest(ARRAY[1, r.n / 2, r.n - 49]) AS p (start), LATERAL (SELECT NULL{sample} OFFSET 0) s) i
        ) e;
