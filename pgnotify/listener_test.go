package pgnotify

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, down := range []time.Duration{0, time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, time.Hour, 1 << 62} {
		least, most := backoff(down), backoff(down)
		for range 10_000 {
			d := backoff(down)
			least, most = min(least, d), max(most, d)
		}
		if least < 100*time.Millisecond || most > 5*time.Second {
			t.Errorf("after %v: %v to %v", down, least, most)
		}
		if most-least < least/2 {
			t.Errorf("after %v hardly any jitter: %v to %v", down, least, most)
		}
		if down >= time.Second && most > max(200*time.Millisecond, down/8) {
			t.Errorf("after %v: %v", down, most)
		}
	}
}
