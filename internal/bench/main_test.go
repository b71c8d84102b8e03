package bench_test

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"pgevict/internal/livetest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests mostly wait: for heartbeats, for second deletes, for servers to be back.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue || f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set(strconv.Itoa(3 * runtime.GOMAXPROCS(0))) // a number is always taken
	}
	livetest.Main(m)
}
