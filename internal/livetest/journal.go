package livetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Journal collects the lines that a process writes, and has whoever reads wait for more.
type Journal struct {
	also io.WriteCloser // what is written goes there, too; nil: nowhere

	mu    sync.Mutex
	text  bytes.Buffer
	ended bool
	more  chan struct{} // closed when there is more, or when it has ended
}

func (j *Journal) Write(text []byte) (int, error) {
	if j.also != nil {
		if n, err := j.also.Write(text); err != nil {
			return n, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wakeLocked()
	return j.text.Write(text)
}

func (j *Journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	j.wakeLocked()
}

func (j *Journal) wakeLocked() {
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
}

func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Lines returns the lines that are whole.
func (j *Journal) Lines() []string {
	lines := strings.Split(j.String(), "\n")
	return lines[:len(lines)-1]
}

// Wait returns the first line that is as wanted, but for the first n lines. There may be none: when the time is over, or
// the process.
func (j *Journal) Wait(n int, within time.Duration, wanted func(line string) bool) (line string, ok bool) {
	deadline := time.After(within)
	for {
		j.mu.Lock()
		ended := j.ended
		if j.more == nil {
			j.more = make(chan struct{})
		}
		more := j.more
		j.mu.Unlock()
		lines := j.Lines()
		for ; n < len(lines); n++ {
			if wanted(lines[n]) {
				return lines[n], true
			}
		}
		if ended {
			return "", false
		}
		select {
		case <-more:
		case <-deadline:
			return "", false
		}
	}
}

// Entry is a line of a log in JSON.
type Entry map[string]any

// ReadEntry reads a line. One that is no JSON, such as an exit's last words, is a message.
func ReadEntry(line string) Entry {
	var e Entry
	if json.Unmarshal([]byte(line), &e) != nil {
		return Entry{"msg": line}
	}
	return e
}

// Field returns the text of a field, which is empty if there is none.
func (e Entry) Field(name string) string {
	if e[name] == nil {
		return ""
	}
	return fmt.Sprint(e[name])
}

// Metrics are the values of series, each named with its labels as /metrics writes them.
type Metrics map[string]float64

func readMetrics(text string) (Metrics, error) {
	series := Metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		end := max(strings.LastIndexByte(line, ' '), 0)
		value, err := strconv.ParseFloat(strings.TrimSpace(line[end:]), 64)
		if err != nil {
			return nil, fmt.Errorf("read the metrics: %q: %w", line, err)
		}
		series[line[:end]] = value
	}
	return series, nil
}

// Sum adds up the series of a metric that have all the labels, each written as name="value".
func (m Metrics) Sum(name string, labels ...string) float64 {
	sum := 0.0
series:
	for series, value := range m {
		rest, ok := strings.CutPrefix(series, name)
		if !ok || rest != "" && rest[0] != '{' {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue series
			}
		}
		sum += value
	}
	return sum
}
