package livetest

import "syscall"

// dieWithParent has the kernel send sig to the child when the thread that forked it ends, however it ends.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }
