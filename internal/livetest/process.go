package livetest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = time.Minute
	stopTimeout  = time.Minute
	pollInterval = 2 * time.Millisecond
)

// errPortTaken says that a server ended because somebody else listens on its port.
var errPortTaken = errors.New("port taken")

// process is a child that does not outlive this program.
type process struct {
	*os.Process
	done chan struct{} // closed once it has exited
	err  error         // how it exited; to be read after done
}

// spawn starts cmd. The kernel sends the death signal when the forking *thread* ends, and Go ends threads as it likes,
// so a goroutine that owns its thread forks, and keeps the thread until the child is gone.
func spawn(cmd *exec.Cmd, death syscall.Signal) (*process, error) {
	dieWithParent(cmd.SysProcAttr, death)
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		p.Process = cmd.Process
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// host is where servers of one kind live: a directory of their own, and the user they run as.
type host struct {
	dir  string
	user *syscall.Credential // nil: the user of this program
}

// newHost makes the directory. Postgres and PgBouncer refuse to run as root, so they get somebody else's name then.
func newHost(name string, user *syscall.Credential) (host, error) {
	dir, err := os.MkdirTemp(tempRoot(user), "livetest-"+name+"-")
	if err != nil {
		return host{}, fmt.Errorf("make a directory: %w", err)
	}
	if user != nil {
		if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
			return host{}, errors.Join(fmt.Errorf("give away the directory: %w", err), os.RemoveAll(dir))
		}
	}
	return host{dir, user}, nil
}

// command prepares a program. Its environment is fixed: PGOPTIONS or a locale of whoever runs the tests shall change
// nothing. It has a process group of its own, so that ^C reaches this program alone, which then stops things in order.
func (h host) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = h.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.user}
	return cmd
}

// run runs a program to its end.
func (h host) run(path string, args ...string) error {
	s := server{name: filepath.Base(path), host: h, death: syscall.SIGKILL}
	from, err := s.spawn(path, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	<-s.proc.done
	if s.proc.err != nil {
		return fmt.Errorf("%s: %w%s", s.name, s.proc.err, s.logTail(from))
	}
	return nil
}

// server is what Postgres, Redis and PgBouncer have in common.
type server struct {
	host
	name  string
	death syscall.Signal // what ends it when this program dies
	proc  *process       // nil before the first start
}

// spawn starts the program with its output in the log, and returns where in the log this output begins.
func (s *server) spawn(path string, args ...string) (int64, error) {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("open its log: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("find the end of its log: %w", err)
	}
	cmd := s.command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	s.proc, err = spawn(cmd, s.death)
	return from, err
}

// start starts the program, and waits until ready, asked again and again, has no objection.
func (s *server) start(ready func(pid int) error, path string, args ...string) error {
	if s.running() {
		return errors.New("it is already running")
	}
	from, err := s.spawn(path, args...)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready(s.proc.Pid)
		if err == nil {
			return nil
		}
		select {
		case <-s.proc.done:
			tail := s.logTail(from)
			if strings.Contains(strings.ToLower(tail), "address already in use") {
				return fmt.Errorf("%w: %w%s", errPortTaken, s.proc.err, tail)
			}
			if s.proc.err == nil {
				return fmt.Errorf("it ended by itself%s", tail)
			}
			return fmt.Errorf("it ended by itself: %w%s", s.proc.err, tail)
		case <-time.After(pollInterval):
		}
		if time.Now().After(deadline) {
			_ = s.stop(s.death)
			return fmt.Errorf("not ready after %v: %w%s", startTimeout, err, s.logTail(from))
		}
	}
}

func (s *server) running() bool {
	if s.proc == nil {
		return false
	}
	select {
	case <-s.proc.done:
		return false
	default:
		return true
	}
}

// stop sends a signal, and waits until the process is gone. A server that does not run is stopped already.
func (s *server) stop(sig syscall.Signal) error {
	if !s.running() {
		return nil
	}
	signal := s.proc.Signal
	if sig == syscall.SIGKILL { // the group: a Redis that saves has a child, which would not notice
		signal = func(os.Signal) error { return syscall.Kill(-s.proc.Pid, sig) }
	}
	if err := signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v: %w", sig, err)
	}
	select {
	case <-s.proc.done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("still running %v after %v", stopTimeout, sig)
	}
}

// close stops the server and removes its directory.
func (s *server) close(sig syscall.Signal) error {
	if err := s.stop(sig); err != nil {
		return err
	}
	return os.RemoveAll(s.dir)
}

func (s *server) logPath() string { return filepath.Join(s.dir, s.name+".log") }

// logTail returns the end of what was logged since from, to be put behind an error.
func (s *server) logTail(from int64) string {
	log, err := os.ReadFile(s.logPath())
	if err != nil || int64(len(log)) <= from {
		return ""
	}
	const enough = 3000
	log = log[from:]
	if len(log) > enough {
		log = log[len(log)-enough:]
	}
	return "\nits log ends:\n" + strings.TrimSpace(string(log))
}
