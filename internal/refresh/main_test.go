package refresh

import (
	"testing"

	"pgevict/internal/livetest"
)

func TestMain(m *testing.M) { livetest.Main(m) }
