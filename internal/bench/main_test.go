package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"testing"

	"pgevict/internal/livetest"
	"pgevict/internal/sidecar"
)

// profileFile is a variable that has the benchmarks measure pgevict in a process that writes a profile of its processor's
// time, which holds nothing of the benchmark itself. The name is best an absolute one:
//
//	BENCH_PROFILE=/tmp/cpu.out go test -run '^$' -bench Throughput/tcn -benchtime 1x ./internal/bench
const (
	profileFile = "BENCH_PROFILE"
	serveUnder  = "BENCH_SERVE_UNDER" // is what such a process is given
)

// TestMain makes this program one of the loops, or pgevict under a profile, if one of the benchmarks has started it as such.
func TestMain(m *testing.M) {
	var err error
	switch kind, profile := os.Getenv(loopKind), os.Getenv(serveUnder); {
	case kind != "":
		err = runLoop(context.Background(), kind)
	case profile != "":
		err = serveProfiled(profile)
	default:
		livetest.Main(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveProfiled(profile string) error {
	file, err := os.Create(profile)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = sidecar.Serve(ctx, sidecar.Process{Environ: os.Environ(), Stderr: os.Stderr})
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}
