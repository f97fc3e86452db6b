package kubetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

// programs of the distribution that a lab runs.
var programs = []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "nft", "ip", "nsenter"}

// Able says what keeps this machine from running a lab: all of it, or nil.
func Able() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("nodes need Linux: this is %s", runtime.GOOS)
	}
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("nodes need root: namespaces, mounts and control groups are made"))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		errs = append(errs, errors.New("nodes are kept in hierarchies of cgroup v1: this machine mounts cgroup v2 alone"))
	} else if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		errs = append(errs, errors.New("nodes need control groups: /sys/fs/cgroup/memory is not mounted"))
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("no %s: %w", program, errPackages))
		}
	}
	if _, err := cniPlugins(); err != nil {
		errs = append(errs, err)
	}
	if _, err := Binaries(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// cniPlugins is where the distribution puts them.
func cniPlugins() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(dir + "/bridge"); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no CNI plugins in /usr/lib/cni, /opt/cni/bin or /usr/libexec/cni: %w", errPackages)
}
