package livetest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Pause freezes all processes of the server: connections stay open, new ones are taken by the kernel, and nobody answers.
// Its processes are found under /proc. Resume must come before the server is stopped or closed.
func (p *Postgres) Pause() error {
	// The postmaster first, so that it starts no other meanwhile.
	if err := p.proc.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause postgres: %w", err)
	}
	if err := p.stopped(p.proc.Pid); err != nil {
		return fmt.Errorf("pause postgres: %w", err)
	}
	return p.eachChild(func(pid int) error {
		if syscall.Kill(pid, syscall.SIGSTOP) == nil { // else it has ended
			return p.stopped(pid)
		}
		return nil
	})
}

// Resume ends a Pause.
func (p *Postgres) Resume() error {
	err := p.eachChild(func(pid int) error { return syscall.Kill(pid, syscall.SIGCONT) })
	if err := p.proc.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("resume postgres: %w", err)
	}
	return err
}

// stopped waits until the signal has taken effect.
func (p *Postgres) stopped(pid int) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(pollInterval) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // empty once it is gone
		if stat := string(text); stat == "" || strings.Contains(stat, ") T ") || strings.Contains(stat, ") Z ") {
			return nil
		}
	}
	return fmt.Errorf("process %d goes on", pid)
}

// eachChild calls do for each process that the postmaster has started.
func (p *Postgres) eachChild(do func(pid int) error) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("look for the processes of postgres: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // state, parent
		if len(fields) > 1 && fields[1] == strconv.Itoa(p.proc.Pid) {
			if err := do(pid); err != nil {
				return err
			}
		}
	}
	return nil
}
