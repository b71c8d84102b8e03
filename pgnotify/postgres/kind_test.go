package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestErrorKind(t *testing.T) {
	t.Parallel()
	refused := func(addr string) error {
		config, err := pgconn.ParseConfig("postgres://u:hunter2@" + addr + "/d?sslmode=disable&connect_timeout=5")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Connect(t.Context(), config, time.Second)
		return err
	}
	for want, err := range map[string]error{
		"refused":              refused("127.0.0.1:1"),
		"dns":                  &net.DNSError{Name: "hunter2", IsNotFound: true},
		"timeout":              fmt.Errorf("connect: %w", context.DeadlineExceeded),
		"standby":              fmt.Errorf("connect: %w", pgconn.ErrReadOnlyConnection),
		"pooler":               ErrPooler,
		"silent":               fmt.Errorf("%w (%w)", ErrSilent, context.Canceled),
		"starting or stopping": &pgconn.PgError{Code: "57P03"},
		"sqlstate 42501":       &pgconn.PgError{Code: "42501"},
		"connection":           errors.New("EOF, hunter2"),
	} {
		if got := ErrorKind(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
