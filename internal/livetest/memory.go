package livetest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// LimitMemory has the kernel end a process that takes more, as an orchestrator does, and reports whether it could be done:
// it takes a memory control group below the one of this process, so root as a rule. The reason is in the error.
func LimitMemory(tb testing.TB, p *Program, bytes int) error {
	tb.Helper()
	own, file, err := ownMemoryGroup()
	if err != nil {
		return err
	}
	group, err := os.MkdirTemp(own, "pgevict-test-")
	if err != nil {
		return fmt.Errorf("make a memory control group: %w", err)
	}
	tb.Cleanup(func() { _ = os.Remove(group) }) // once the process has ended, which is cleaned up before
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(bytes)), 0o644); err != nil {
		_ = os.Remove(group)
		return fmt.Errorf("limit a memory control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(p.Pid())), 0o644); err != nil {
		_ = os.Remove(group)
		return fmt.Errorf("put %s into a memory control group: %w", p, err)
	}
	return nil
}

// ownMemoryGroup returns the directory of the group that this process is in, and the name of the file with the limit.
func ownMemoryGroup() (dir, file string, err error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", "", fmt.Errorf("find the memory control group: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) == 3 && fields[1] == "memory": // version 1
			dir, file = filepath.Join("/sys/fs/cgroup/memory", fields[2]), "memory.limit_in_bytes"
		case len(fields) == 3 && fields[1] == "" && dir == "":
			dir, file = filepath.Join("/sys/fs/cgroup", fields[2]), "memory.max"
		}
	}
	if _, err := os.Stat(filepath.Join(dir, file)); err != nil && file != "memory.max" { // the root of version 2 has no such file
		return "", "", fmt.Errorf("find the memory control group: %w", err)
	}
	return dir, file, nil
}

// MostMemory is the most that a process has had in memory at a time, in bytes.
func MostMemory(pid int) (int, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d does not tell its memory", pid)
}
