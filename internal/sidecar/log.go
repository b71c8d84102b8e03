package sidecar

import (
	"bytes"
	"io"
	"time"
)

// flushTime is how long the end waits for what is still to be written.
const flushTime = time.Second

// nonBlockingWriter returns a writer that never waits for w: a log that nobody reads must not keep Postgres from being read.
// What does not fit into its room is dropped. flush waits for what has been written so far; what comes later is lost.
func nonBlockingWriter(w io.Writer) (out io.Writer, flush func()) {
	lines := make(lineWriter, 1000)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for line := range lines {
			if line == nil {
				return
			}
			_, _ = w.Write(line) // there is nowhere to tell of an error
		}
	}()
	return lines, func() {
		late := time.After(flushTime)
		select {
		case lines <- nil: // the end
		case <-late:
			return
		}
		select {
		case <-written:
		case <-late:
		}
	}
}

type lineWriter chan []byte

// Write takes a line, or drops it.
func (l lineWriter) Write(line []byte) (int, error) {
	select {
	case l <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}
