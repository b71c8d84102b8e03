package livetest

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// pristine is state of the package because initdb takes longer than all the rest of a start, and its result can serve
// every server of the process: the data directory is made once, and copied. It stays as long as somebody holds it.
var pristine template

type template struct {
	mu      sync.Mutex
	holders int
	dir     string // "" before the first copy
}

func (t *template) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holders++
}

func (t *template) release() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holders--
	if t.holders > 0 || t.dir == "" {
		return nil
	}
	dir := t.dir
	t.dir = ""
	return os.RemoveAll(dir)
}

// copy makes the data directory to for the user of h. The caller holds the template.
func (t *template) copy(bin string, h host, to string) error {
	from, err := t.create(bin, h)
	if err != nil {
		return err
	}
	// As the user of h, so that the copy belongs to that user.
	return h.run("cp", "-Rp", from, to)
}

func (t *template) create(bin string, h host) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir == "" {
		own, err := newHost("initdb", h.user)
		if err != nil {
			return "", err
		}
		err = own.run(filepath.Join(bin, "initdb"), "-D", filepath.Join(own.dir, "data"),
			"-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N")
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(own.dir))
		}
		t.dir = own.dir
	}
	return filepath.Join(t.dir, "data"), nil
}
