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
	loopBatch  = "batch"  // all notifications that there are, one UNLINK of many keys, wait for the reply
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
	var keys []string
	apply := func(payloads ...string) error {
		if kind == loopRead {
			return nil
		}
		keys = keys[:0]
		for _, payload := range payloads {
			name, err := key(payload)
			if err != nil {
				return err
			}
			keys = append(keys, name)
		}
		switch kind {
		case loopUnlink, loopBatch:
			return rdb.Unlink(ctx, keys...).Err()
		case loopNaive:
			return rdb.Del(ctx, keys...).Err()
		case loopFresh:
			var row string
			if err := rows.QueryRow(ctx, freshRow, strings.TrimPrefix(keys[0], "action:")).Scan(&row); err != nil {
				return err
			}
			return rdb.Set(ctx, keys[0], row, 0).Err()
		}
		return fmt.Errorf("no such loop: %q", kind)
	}
	if kind == loopBatch {
		return runBatches(ctx, conn, count, apply)
	}
	for n := 1; ; n++ {
		notification, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if err := apply(notification.Payload); err != nil {
			return err
		}
		if n%count == 0 {
			fmt.Println(n)
		}
	}
}

// runBatches reads and applies side by side, as somebody does who wants to be fast and thinks of nothing else: what is read
// and not yet applied is lost with a connection or the process, a Redis that is slow has the memory grow, or here the reading
// stop and the queue of Postgres fill, and nobody notices if nothing is heard at all.
func runBatches(ctx context.Context, conn *pgx.Conn, count int, apply func(payloads ...string) error) error {
	const most = 1000
	read, failed := make(chan string, 100*most), make(chan error, 1)
	go func() {
		for {
			notification, err := conn.WaitForNotification(ctx)
			if err != nil {
				failed <- err
				return
			}
			read <- notification.Payload
		}
	}()
	var batch []string
	for n := 0; ; {
		batch = batch[:0]
		select {
		case payload := <-read:
			batch = append(batch, payload)
		case err := <-failed:
			return err
		}
		for len(batch) < min(most, count-n%count) && len(read) > 0 {
			batch = append(batch, <-read)
		}
		if err := apply(batch...); err != nil {
			return err
		}
		if n += len(batch); n%count == 0 {
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
