package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"golang.org/x/sync/errgroup"
)

// inside runs what the other commands start; done says that it was one of it.
func inside(action string, args []string) (code int, err error, done bool) {
	runs := map[string]func(string) error{"keep": keep, "hold": hold, "serve": serve, "node": node, "live": live}
	one, ok := runs[action]
	if !ok || len(args) != 1 {
		return 0, nil, false
	}
	if err := one(args[0]); err != nil {
		return 1, fmt.Errorf("%s: %w", action, err), true
	}
	return 0, nil, true
}

// hold is the first process of a lab: it makes the mounts and the network,
// starts the server of the clusters and reaps.
func hold(dir string) error {
	lab, err := kubetest.ReadLab(dir)
	if err != nil {
		return err
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM) // the keeper was killed
	if err := errors.Join(ownMounts(), syscall.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		return fmt.Errorf("make mounts: %w", err)
	}
	if err := syscall.Sethostname([]byte("lab")); err != nil {
		return err
	}
	if err := commands("ip link set lo up", "ip link add lan type bridge", "ip addr add 10.99.0.1/16 dev lan", "ip link set lan up"); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	reaper := newReaper()
	server, err := reaper.start(kubetest.Command{Name: "serve", Args: []string{lab.Program, "serve", dir}}, filepath.Join(dir, "serve.log"))
	if err != nil {
		return err
	}
	go reaper.run()
	select {
	case <-server:
		return fmt.Errorf("the clusters' server ended:\n%s", text(filepath.Join(dir, "serve.log")))
	case <-ends:
		// Nobody is outside: what the keeper would do is done here. The files stay
		// until the next lab; the directory may be another mount namespace's.
		err := syscall.Kill(-1, syscall.SIGKILL)
		return errors.Join(err, removeCgroups(lab.Cgroup()))
	}
}

// serve starts the clusters and stays: they end with it.
func serve(dir string) error {
	lab, err := kubetest.ReadLab(dir)
	if err != nil {
		return err
	}
	var group errgroup.Group
	standing := make([]*kubetest.Standing, len(lab.Wanted))
	for i, wanted := range lab.Wanted {
		group.Go(func() error {
			cluster, err := lab.Start(context.Background(), wanted)
			if err == nil {
				standing[i] = &cluster.Standing
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := lab.Stand(standing); err != nil {
		return err
	}
	select {}
}

// ownMounts cuts the mounts from the machine's: what is mounted from here on is
// seen in this namespace and those made from it.
func ownMounts() error {
	return errors.Join(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""))
}

func commands(lines ...string) error {
	for _, line := range lines {
		args := strings.Fields(line)
		if output, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(output)))
		}
	}
	return nil
}

func readNode(file string) (kubetest.NodeConfig, error) {
	var config kubetest.NodeConfig
	content, err := os.ReadFile(file)
	if err != nil {
		return config, err
	}
	return config, json.Unmarshal(content, &config)
}

// exists says whether a path is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
