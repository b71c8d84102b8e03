//go:build !linux

package bench_test

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil } // a test that panics may leave a program behind here
