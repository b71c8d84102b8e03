package livetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePort picks a port below those that the kernel gives to outgoing connections (32768 and up): while a server is
// down, no client's own port can take its place, and no client that dials it again and again can connect to itself.
// The bus of a Redis Cluster node, 10000 above its port, fits between the two, where nothing else of ours takes it.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 10000 + rand.IntN(10000)
		var l net.Listener
		if l, err = net.Listen("tcp4", loopback(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// onFreePort starts something on a free port, and on another one if somebody was faster.
func onFreePort(start func(port int) error) error {
	var err error
	for range 5 {
		port, portErr := freePort()
		if portErr != nil {
			return portErr
		}
		if err = start(port); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// onSamePort starts something again on the port that clients know, and waits for some seconds if that is taken.
func onSamePort(start func() error) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := start()
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * pollInterval)
	}
}

// unprivileged says as whom to run what refuses to run as root: nil, or the user nobody if this is root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("find an unprivileged user: %w", err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the user id of nobody: %w", err)
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the group id of nobody: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// tempRoot returns where to make temporary directories: root's TMPDIR may be closed to the user of the server.
func tempRoot(user *syscall.Credential) string {
	root := os.TempDir()
	if user != nil && !reachable(root) {
		return "/tmp"
	}
	return root
}

// reachable reports whether everybody can get into dir.
func reachable(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// find finds a program on the PATH, or in the directories of the system's own daemons, which a user's PATH may lack.
func find(program, pkg string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w (to install it: apt-get install %s)", err, pkg)
}

// findPostgres finds the directory of initdb and postgres, which Debian keeps off the PATH.
func findPostgres() (string, error) {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(versions, func(a, b string) int { return version(b) - version(a) })
	dirs = append(dirs, versions...)
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		_, initdb := exec.LookPath(filepath.Join(dir, "initdb"))
		_, postgres := exec.LookPath(filepath.Join(dir, "postgres"))
		if initdb == nil && postgres == nil {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("no initdb and postgres in %q or on the PATH "+
		"(to install them: apt-get install postgresql postgresql-contrib)", dirs)
}

// version reads 15 from /usr/lib/postgresql/15/bin.
func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}
