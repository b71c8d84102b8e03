package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

const (
	loopKind    = "BENCH_LOOP"
	loopChannel = "BENCH_CHANNEL"
	loopCount   = "BENCH_COUNT"
)

// The loops that pgevict is measured against: what somebody writes in an afternoon, and what nobody can be faster than.
const (
	loopUnlink = "unlink" // one notification, one UNLINK, wait for the reply
	loopNaive  = "naive"  // one notification, one DEL, wait for the reply
	loopRead   = "read"   // read the notifications, and nothing else
	loopFresh  = "fresh"  // one notification, one SELECT, one SET, wait for each reply
)

// freshRow reads what a refreshed key is to be.
const freshRow = "SELECT row_to_json(a)::text FROM actions a WHERE id = $1"

// runLoop is what the benchmarks run in a process of its own, as they do pgevict. It prints a line when it listens, and one
// after each loopCount notifications, and ends when it is killed.
func runLoop(ctx context.Context, kind string) error {
	count, err := strconv.Atoi(os.Getenv(loopCount))
	if err != nil {
		return err
	}
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(options)
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	rows, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	channel := os.Getenv(loopChannel)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	key := tcnKey
	if channel == "events" {
		key = eventKey
	}
	fmt.Println("listening")
	for n := 1; ; n++ {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		switch kind {
		case loopUnlink, loopNaive:
			name, err := key(notification.Payload)
			if err != nil {
				return err
			}
			command := rdb.Del
			if kind == loopUnlink {
				command = rdb.Unlink
			}
			if err := command(ctx, name).Err(); err != nil {
				return err
			}
		case loopFresh:
			name, err := key(notification.Payload)
			if err != nil {
				return err
			}
			var row string
			if err := rows.QueryRow(ctx, freshRow, strings.TrimPrefix(name, "action:")).Scan(&row); err != nil {
				return err
			}
			if err := rdb.Set(ctx, name, row, 0).Err(); err != nil {
				return err
			}
		case loopRead:
		}
		if n%count == 0 {
			fmt.Println(n)
		}
	}
}

// tcnKey makes action:1 of "actions",U,"id"='1'.
func tcnKey(payload string) (string, error) {
	_, id, ok := strings.Cut(payload, "='")
	if !ok {
		return "", fmt.Errorf("not tcn: %q", payload)
	}
	return "action:" + strings.TrimSuffix(id, "'"), nil
}

// eventKey makes action:1 of a whole row.
func eventKey(payload string) (string, error) {
	var event map[string]any
	decoder := json.NewDecoder(strings.NewReader(payload))
	decoder.UseNumber() // an id above 2^53 would become another one
	if err := decoder.Decode(&event); err != nil {
		return "", err
	}
	row, ok := event["data"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("no row: %q", payload)
	}
	return fmt.Sprintf("action:%v", row["id"]), nil
}
