package postgres

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, received, stop := WithIdleTimeout(t.Context(), time.Second)
		for range 10 {
			time.Sleep(900 * time.Millisecond)
			received()
		}
		synctest.Wait()
		if err := Silence(ctx, io.EOF); err != io.EOF || ctx.Err() != nil {
			t.Errorf("while something comes: %v, %v", err, ctx.Err())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if err := Silence(ctx, io.EOF); !errors.Is(err, ErrSilent) || !errors.Is(err, io.EOF) || Silence(ctx, nil) != nil {
			t.Errorf("after a second of silence: %v", err)
		}
		stop()
	})
}

func TestIdleTimeoutIsNotTheCallersEnd(t *testing.T) {
	t.Parallel()
	caller, cancel := context.WithCancel(t.Context())
	ctx, _, stop := WithIdleTimeout(caller, time.Hour)
	cancel()
	<-ctx.Done()
	if err := Silence(ctx, io.EOF); err != io.EOF {
		t.Errorf("the caller has stopped, and that is said to be silence: %v", err)
	}
	stop()
}

func TestQuoting(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`a`: `'a'`, `it's`: `'it''s'`, `\`: ` E'\\'`, `\'`: ` E'\\'''`} {
		if got := Literal(text); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
	if got := Identifier(`a"b`); got != `"a""b"` {
		t.Error(got)
	}
}
