package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// node is the first process of a node, for a moment: it moves into the node's
// control groups and takes them for the roots of its hierarchies. A namespace
// of control groups is a thread's, so that this thread becomes the process.
func node(file string) error {
	config, err := readNode(file)
	if err != nil {
		return err
	}
	if err := joinCgroups(config.Cgroup); err != nil {
		return err
	}
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make namespace of control groups: %w", err)
	}
	program, err := os.Executable() // before /proc is another one's
	if err != nil {
		return err
	}
	return syscall.Exec(program, []string{program, "live", file}, os.Environ())
}

// live is the rest of a node's first process: it makes the mounts and the
// network, runs the services and starts those again that end.
func live(file string) error {
	config, err := readNode(file)
	if err != nil {
		return err
	}
	if err := nodeMounts(config); err != nil {
		return fmt.Errorf("make mounts: %w", err)
	}
	// A machine's own services are not in the root of its hierarchies either:
	// what is not pods' is told apart.
	if err := joinCgroups("system"); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(config.Name)); err != nil {
		return err
	}
	if err := nodeNetwork(config); err != nil {
		return fmt.Errorf("make network: %w", err)
	}
	reaper := newReaper()
	go reaper.run()
	log := func(c kubetest.Command) string { return filepath.Join(config.Dir, c.Name+".log") }
	for i, service := range config.Services {
		ended, err := reaper.start(service, log(service))
		if err != nil {
			return err
		}
		go func() {
			for {
				<-ended
				time.Sleep(pollEach)
				if ended, err = reaper.start(service, log(service)); err != nil {
					fmt.Fprintf(os.Stderr, "start %s again: %v\n", service.Name, err)
					return
				}
			}
		}()
		if i > 0 {
			continue
		}
		for start := time.Now(); reaper.toEnd(config.Ready, log(config.Ready)) != nil; time.Sleep(pollEach) {
			if time.Since(start) > patience {
				return fmt.Errorf("%s does not answer: %s", service.Name, text(log(service)))
			}
		}
		for _, command := range config.Prepare {
			if err := reaper.toEnd(command, log(command)); err != nil {
				return fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, text(log(command)))
			}
		}
	}
	select {}
}

// nodeNetwork configures the wire that comes from outside under a name eth0-...
func nodeNetwork(config kubetest.NodeConfig) error {
	wire := ""
	for start := time.Now(); wire == ""; time.Sleep(pollEach) {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, one := range all {
			if strings.HasPrefix(one.Name, "eth0-") {
				wire = one.Name
			}
		}
		if time.Since(start) > patience {
			return errors.New("no wire to the lab's bridge")
		}
	}
	return errors.Join(commands("ip link set lo up", "ip link set "+wire+" name eth0", "ip addr add "+config.Address+"/16 dev eth0",
		"ip link set eth0 up", "ip route add default via "+config.Gateway), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
}

// kernelSettings are what the kubelet demands of the kernel. They are the whole
// machine's, so that the node is shown files in their place.
var kernelSettings = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// nodeMounts gives the node a /proc, /sys, /run, /var/lib and /var/log of its own.
func nodeMounts(config kubetest.NodeConfig) error {
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	links, err := cgroupLinks()
	if err != nil {
		return err
	}
	if err := errors.Join(ownMounts(), syscall.Mount("proc", "/proc", "proc", 0, ""), syscall.Mount("sysfs", "/sys", "sysfs", 0, ""),
		mountCgroups(mounts, links), syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755")); err != nil {
		return err
	}
	for _, dir := range []string{"/var/lib", "/var/log"} {
		if err := cover(dir, filepath.Join(config.Dir, "cover", filepath.Base(dir))); err != nil {
			return fmt.Errorf("cover %s: %w", dir, err)
		}
	}
	settings := filepath.Join(config.Dir, "kernel")
	if err := os.MkdirAll(settings, 0o755); err != nil {
		return err
	}
	for name, value := range kernelSettings {
		shown := filepath.Join(settings, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(shown, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(shown, "/proc/sys/"+name, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("show %s: %w", name, err)
		}
	}
	return nil
}

// cover lets the node make new entries in a directory of the machine that stay
// the node's own: an empty file system with the present directories bound into it.
func cover(dir, over string) error {
	if err := os.MkdirAll(over, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", over, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// The kubelet's directory is the one to be covered, when there is one.
		if !entry.IsDir() || entry.Name() == "kubelet" || entry.Name() == "containers" || entry.Name() == "cni" {
			continue
		}
		to := filepath.Join(over, entry.Name())
		if err := errors.Join(os.Mkdir(to, 0o755), syscall.Mount(filepath.Join(dir, entry.Name()), to, "", syscall.MS_BIND|syscall.MS_REC, "")); err != nil {
			return err
		}
	}
	return syscall.Mount(over, dir, "", syscall.MS_BIND|syscall.MS_REC, "")
}
