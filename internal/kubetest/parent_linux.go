package kubetest

import "syscall"

// dieWithParent has the kernel kill the program when the thread that starts
// it ends, however that happens.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }
