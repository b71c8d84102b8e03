//go:build !linux

package e2e_test

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil } // a test that panics may leave a program behind here
