package main

import (
	"context"
	"fmt"
)

// truths are the queries of the application for what it caches. A row that does not exist is cached, too.
var truths = map[string]string{
	"action": `SELECT coalesce((SELECT row_to_json(a)::text FROM actions a WHERE id = $1::bigint), 'null')`,
	"owner": `SELECT coalesce(json_agg(id ORDER BY id), '[]')::text FROM actions
		WHERE actionable_type = $1 AND actionable_id = $2::bigint AND $3 = 'actions'`,
	"actions": `SELECT coalesce(json_agg(id), '[]')::text FROM
		(SELECT id FROM actions ORDER BY id LIMIT 50 OFFSET 50 * $3::int) page WHERE $1 = 'list' AND $2 = 'page'`,
}

// fill has the application read all of the keys.
func (d *demo) fill(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := d.app.Read(ctx, d.reader, key); err != nil {
			return fmt.Errorf("fill the cache: %w", err)
		}
	}
	return nil
}

// The rows of the note.
const (
	noteFirst  = "814150981284533461"
	noteSecond = "814156125556446423"
)

// shown are the keys of the first part: two rows of one owner, a row of another, both owners' lists, and a page.
func shown() []string {
	return []string{
		"action:" + noteFirst, "action:" + noteSecond, "action:1",
		"owner:composite_actions:466303161695474694:actions", "owner:folders:1:actions",
		"actions:list:page:0",
	}
}

const (
	busyRows   = 300
	busyOwners = 20
)

// busy are the keys of the second part.
func busy() []string {
	var keys []string
	for i := 1; i <= busyRows; i++ {
		keys = append(keys, fmt.Sprintf("action:%d", i))
	}
	for i := range busyOwners {
		keys = append(keys, fmt.Sprintf("owner:folders:%d:actions", i))
	}
	for i := range 7 {
		keys = append(keys, fmt.Sprintf("actions:list:page:%d", i))
	}
	return keys
}
