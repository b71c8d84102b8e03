//go:build !linux

package livetest

import "syscall"

// dieWithParent does nothing: only Linux can tie a child to its parent, so elsewhere a killed test binary leaves its
// servers behind.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
