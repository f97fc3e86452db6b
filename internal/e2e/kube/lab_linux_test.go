package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/kubernetes"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

// A lab leaves the machine as it was: processes, mounts, control groups,
// settings, links, rules, directories; also when the process that made its
// namespaces is killed, the one outside that keeps it, or both.
func TestLabLeavesNothing(t *testing.T) {
	if os.Getenv(kubetest.LabVariable) != "" {
		t.Skip("it makes its own lab, outside of any")
	}
	if err := kubetest.Able(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	rig := newOutside(t)
	for _, end := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"down", func(t *testing.T) {}},
		{"first process killed", func(t *testing.T) { rig.kill(t, "hold") }},
		{"keeper killed", func(t *testing.T) { rig.kill(t, "keep") }},
		{"both killed", func(t *testing.T) { rig.kill(t, "keep", "hold") }},
	} {
		t.Run(end.name, func(t *testing.T) {
			before := rig.machine(t)
			rig.cluster(t, "up", "-clusters", "one=1", "-images", rig.images)
			t.Cleanup(func() { rig.cluster(t, "down") })
			lab, err := kubetest.ReadLab(rig.dir)
			if err != nil {
				t.Fatal(err)
			}
			rig.cluster(t, "enter", "--", rig.kubectl, "create", "deployment", "web", "--image="+kubetest.WorkloadImage, "--replicas=2")
			eventually(t, "pods", func(context.Context) error { return rig.running(lab, 2) })
			processes := rig.processes(t)
			if len(processes) < 10 {
				t.Errorf("%d processes: %v", len(processes), processes)
			}
			if left := rig.cgroups(t, lab.Cgroup()); len(left) == 0 {
				t.Error("the lab has no control groups")
			}
			end.do(t)
			if end.name == "down" || end.name == "both killed" {
				rig.cluster(t, "down")
			}
			eventually(t, "end of the lab", func(context.Context) error { return gone(processes) })
			eventually(t, "end of the control groups", func(context.Context) error {
				if left := rig.cgroups(t, lab.Cgroup()); len(left) > 0 {
					return fmt.Errorf("left: %v", left)
				}
				return nil
			})
			if diff := cmp.Diff(before, rig.machine(t)); diff != "" {
				t.Errorf("the machine is not as it was (-before +after):\n%s", diff)
			}
		})
	}
}

// outsider runs command cluster with a lab of the test's own.
type outsider struct {
	program, dir, images, kubectl string
}

func newOutside(t *testing.T) outsider {
	t.Helper()
	temp := t.TempDir()
	binaries, err := kubetest.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	rig := outsider{program: filepath.Join(temp, "bin", "cluster"), dir: filepath.Join(temp, "lab"), images: filepath.Join(temp, "images"),
		kubectl: filepath.Join(binaries, string(kubetest.Kubectl))}
	root, err := kubetest.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []struct{ name, cgo string }{{"cluster", "1"}, {"pause", "0"}, {"workload", "0"}} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(temp, "bin", program.name), "./internal/kubetest/"+program.name)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED="+program.cgo)
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	if output, err := exec.CommandContext(t.Context(), rig.program, "images", filepath.Dir(rig.program), rig.images).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return rig
}

// cluster runs the command.
func (o outsider) cluster(t *testing.T, action string, args ...string) {
	t.Helper()
	command := exec.Command(o.program, append([]string{action, "-dir", o.dir}, args...)...)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		t.Fatalf("cluster %s: %v\n%s", action, err, output.Bytes())
	}
	t.Logf("cluster %s: %s", action, bytes.TrimSpace(output.Bytes()))
}

// running says whether so many pods run. Their cluster is not reached from
// outside, so that the containers' control groups tell it.
func (o outsider) running(lab *kubetest.Lab, want int) error {
	found, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/memory", lab.Cgroup(), "*", "kubepods", "*", "pod*", "*", "cgroup.procs"))
	if err != nil {
		return err
	}
	busy := 0
	for _, path := range found {
		if content, err := os.ReadFile(path); err == nil && len(content) > 0 {
			busy++
		}
	}
	if busy < 2*want { // each pod's own container and its pause
		return fmt.Errorf("%d containers run", busy)
	}
	return nil
}

// kill kills the keeper or the first process as the kernel does when memory ends.
func (o outsider) kill(t *testing.T, names ...string) {
	t.Helper()
	var pids []int
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(o.dir, name+".pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(string(content))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// processes are the lab's, each as its directory in /proc and its start.
func (o outsider) processes(t *testing.T) map[string]string {
	t.Helper()
	parents, starts := make(map[string]string), make(map[string]string)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		if start, parent := stat(path); start != "" {
			pid := filepath.Base(filepath.Dir(path))
			parents[pid], starts[pid] = parent, start
		}
	}
	keeper, err := os.ReadFile(filepath.Join(o.dir, "keep.pid"))
	if err != nil {
		t.Fatal(err)
	}
	lab := make(map[string]string)
	for pid := range parents {
		for up := pid; up != "" && up != "0"; up = parents[up] {
			if up == string(keeper) {
				lab["/proc/"+pid+"/stat"] = starts[pid]
			}
		}
	}
	return lab
}

// stat is a process's start and its parent, or nothing when it has ended.
func stat(path string) (start, parent string) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", ""
	}
	_, after, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(after) // from the third on
	return fields[19], fields[1]
}

func gone(processes map[string]string) error {
	var left []string
	for path, start := range processes {
		if now, _ := stat(path); now == start {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("still there: %v", left)
	}
	return nil
}

// cgroups are the directories of a control group in all hierarchies.
func (o outsider) cgroups(t *testing.T, name string) []string {
	t.Helper()
	found, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// machine is what could have been changed of it, by kind. Labs of others have
// control groups of names of their own, and nothing else that is seen here.
func (o outsider) machine(t *testing.T) map[string][]string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := exec.CommandContext(t.Context(), "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Logf("the rules are not compared: %v: %s", err, rules)
		rules = nil
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{"mounts": strings.Split(string(mounts), "\n"), "rules": strings.Split(string(rules), "\n"),
		"settings": settings(t), "directories": nil, "links": nil, "control groups": nil}
	for _, link := range links {
		all["links"] = append(all["links"], link.Name)
	}
	for _, pattern := range []string{"/opt/*", "/etc/*", "/var/lib/*", "/var/log/*", "/usr/libexec/*", "/run/containerd", "/run/ipam", "/run/netns/*", "/run/kubernetes",
		"/run/flannel", "/run/xtables.lock", "/run/cni*", "/etc/cni/*", "/var/lib/kubelet/*", "/var/lib/cni/*", "/var/lib/containerd/*", "/var/log/containers/*", "/var/log/pods/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all["directories"] = append(all["directories"], found...)
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && entry.IsDir() {
			if strings.HasPrefix(entry.Name(), "kubetest-") || strings.HasPrefix(entry.Name(), "accumulus-") { // labs, and tests of the host source
				return filepath.SkipDir
			}
			all["control groups"] = append(all["control groups"], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// settings are the kernel's that can be written, but for the one that counts.
func settings(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("/proc/sys", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == "/proc/sys/kernel/ns_last_pid" {
			return nil // some are closed even to root
		}
		info, err := entry.Info()
		if err != nil || info.Mode()&0o600 != 0o600 {
			return nil
		}
		if value, err := os.ReadFile(path); err == nil {
			all = append(all, path+" = "+strings.TrimSpace(string(value)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	if len(all) < 100 {
		t.Fatalf("found %d settings", len(all))
	}
	return all
}

// A test that starts a cluster of its own in the lab has it beside the standing
// ones, and can take a node's power away, or its kubelet, which comes back.
func TestOwnCluster(t *testing.T) {
	lab := kubetest.Inside(t)
	c := lab.NewCluster(t, "own", 2)
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := space{client, "default"}
	s.deploy(t, "spread", 2)
	healthy := func(ctx context.Context, node int) error {
		answer, err := s.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", c.Nodes[node].Name, "proxy/healthz").DoRaw(ctx)
		if err == nil && string(answer) != "ok" {
			err = fmt.Errorf("it answers %q", answer)
		}
		return err
	}
	c.KillNode(1)
	if healthy(t.Context(), 1) == nil {
		t.Error("a node without power is healthy")
	}
	if err := healthy(t.Context(), 0); err != nil {
		t.Errorf("the other node: %v", err)
	}
	if err := c.KillService(0, kubetest.Kubelet); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kubelet again", func(ctx context.Context) error { return healthy(ctx, 0) })
}
