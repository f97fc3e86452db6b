//go:build !linux

package kubetest

import "syscall"

// dieWithParent does nothing where no kernel does it: there the program
// outlives a process that is killed.
func dieWithParent(*syscall.SysProcAttr) {}
