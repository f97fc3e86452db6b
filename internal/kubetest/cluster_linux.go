package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	bridge       = "lan"
	gateway      = "10.99.0.1"
	apiPort      = 6443
	mostClusters = 15
)

// Cluster is a control plane with real nodes, started by this process in the
// lab that it runs in.
type Cluster struct {
	Standing

	plane  *Plane
	lab    *Lab
	index  int
	nodes  []*process
	wires  int // that were made, one for each node
	client *kubernetes.Clientset
}

// NewCluster starts a cluster of the test's own, which ends with it: for tests
// that kill nodes or need a control plane with nothing else in it.
func (l *Lab) NewCluster(t testing.TB, name string, nodes int) *Cluster {
	t.Helper()
	c, err := l.Start(t.Context(), Wanted{Name: name, Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Start starts a cluster and returns when its nodes are ready. It must be
// called inside the lab. The caller stops the cluster.
func (l *Lab) Start(ctx context.Context, wanted Wanted) (_ *Cluster, err error) {
	c := &Cluster{lab: l}
	defer func() {
		if err != nil {
			c.Stop()
			err = fmt.Errorf("start cluster %s: %w", wanted.Name, err)
		}
	}()
	if err := c.take(); err != nil {
		return nil, err
	}
	dir := filepath.Join(l.Dir, "clusters", wanted.Name)
	// One of the same name that has ended left its store and its logs.
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	if c.plane, err = Launch(ctx, PlaneConfig{Dir: dir, Address: c.address(1), Port: apiPort, With: []Component{ControllerManager, Scheduler}}); err != nil {
		return nil, err
	}
	c.Standing = Standing{Name: wanted.Name, Kubeconfig: filepath.Join(dir, "kubeconfig"), CAFile: c.plane.file("ca.crt"), config: c.plane.Config}
	if err := WriteKubeconfig(c.Kubeconfig, wanted.Name, c.plane.Config); err != nil {
		return nil, err
	}
	if c.client, err = kubernetes.NewForConfig(c.plane.Config); err != nil {
		return nil, err
	}
	for i := range wanted.Nodes {
		if err := c.startNode(ctx, i+1); err != nil {
			return nil, fmt.Errorf("node %d: %w", i+1, err)
		}
	}
	for i, node := range c.Standing.Nodes {
		if err := c.nodes[i].until(ctx, func(ctx context.Context) error { return c.usable(ctx, node.Name) }); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// take takes the lowest number that no cluster of the lab has.
func (c *Cluster) take() error {
	dir := filepath.Join(c.lab.Dir, "taken")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := 1; i <= mostClusters; i++ {
		err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		c.index = i
		return command("ip", "addr", "add", c.address(1)+"/16", "dev", bridge)
	}
	return fmt.Errorf("the lab has %d clusters, which is all that it has addresses for", mostClusters)
}

// address is a host of the cluster on the lab's bridge.
func (c *Cluster) address(host int) string { return fmt.Sprintf("10.99.%d.%d", c.index, host) }

// startNode starts the node's first process and gives it a wire to the bridge.
func (c *Cluster) startNode(ctx context.Context, number int) error {
	node := Node{Name: fmt.Sprintf("%s-%d", c.Name, number), Address: c.address(10 + number), Pods: c.pods(number)}
	node.Cgroup = filepath.Join(c.lab.Cgroup(), node.Name)
	config := NodeConfig{Name: node.Name, Address: node.Address, Gateway: gateway, Dir: filepath.Join(c.plane.Dir, node.Name), Cgroup: node.Cgroup}
	if err := c.nodeFiles(&config, number); err != nil {
		return err
	}
	port := c.port(number)
	if err := command("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0-"+port); err != nil {
		return err
	}
	c.wires = number
	if err := errors.Join(command("ip", "link", "set", port, "master", bridge, "up"),
		command("ip", "route", "replace", c.pods(number), "via", node.Address, "dev", bridge, "onlink")); err != nil {
		return err
	}
	first, err := start(config.Dir, "node", c.lab.Program, func(attributes *syscall.SysProcAttr) {
		attributes.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	}, "node", filepath.Join(config.Dir, "node.json"))
	if err != nil {
		return err
	}
	c.nodes, c.Standing.Nodes = append(c.nodes, first), append(c.Standing.Nodes, node)
	return command("ip", "link", "set", "eth0-"+port, "netns", fmt.Sprint(first.command.Process.Pid))
}

// port is the name of a node's wire at the bridge.
func (c *Cluster) port(number int) string { return fmt.Sprintf("n%d-%d", c.index, number) }

// pods is the subnet of a node's pods.
func (c *Cluster) pods(number int) string { return fmt.Sprintf("10.244.%d.0/24", 16*c.index+number) }

// nodeFiles writes all that the node reads, and completes its configuration.
func (c *Cluster) nodeFiles(config *NodeConfig, number int) error {
	plugins, err := cniPlugins()
	if err != nil {
		return err
	}
	binaries, err := Binaries()
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return err
	}
	if err := writeFiles(config.Dir, nodeFiles(*config, c.plane.file(""), c.pods(number), plugins, snapshotter(config.Dir), min(limit.Max, 1000000))); err != nil {
		return err
	}
	pair, err := c.plane.Authority.Issue("system:node:"+config.Name, []string{"system:nodes"}, config.Name, config.Address)
	if err != nil {
		return err
	}
	user := *c.plane.Config
	user.CertData, user.KeyData = pair.Cert, pair.Key
	if err := errors.Join(pair.write(config.Dir, "node"), WriteKubeconfig(filepath.Join(config.Dir, "node.kubeconfig"), c.Name, &user)); err != nil {
		return err
	}
	config.Services = nodeServices(*config, binaries)
	config.Ready = Command{"ctr", []string{"ctr", "--address=" + socket, "version"}}
	for _, image := range c.lab.Images {
		config.Prepare = append(config.Prepare, Command{"ctr", []string{"ctr", "--address=" + socket, "--namespace=k8s.io", "images", "import", image}})
	}
	return writeJSON(filepath.Join(config.Dir, "node.json"), config)
}

// usable asks whether pods can be started there.
func (c *Cluster) usable(ctx context.Context, node string) error {
	if _, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return err
	}
	found, err := c.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("node %s: %s", node, condition.Message)
		}
	}
	return fmt.Errorf("node %s has not said whether it is ready", node)
}

// Stop kills all of the cluster and gives its addresses back.
func (c *Cluster) Stop() {
	for i := range c.Standing.Nodes {
		c.KillNode(i)
	}
	if c.plane != nil {
		c.plane.Stop()
	}
	if c.index == 0 {
		return
	}
	// A dead node's network ends some time after it, its wire with it. The next
	// cluster of this number must not meet it.
	for i := range c.wires {
		_ = command("ip", "link", "del", c.port(i+1)) // gone when its network was faster
	}
	_ = command("ip", "addr", "del", c.address(1)+"/16", "dev", bridge) // gone when it was never there
	_ = os.Remove(filepath.Join(c.lab.Dir, "taken", fmt.Sprint(c.index)))
}

// KillNode ends a node as a loss of its power does: everything on it at once.
func (c *Cluster) KillNode(i int) { c.nodes[i].kill() }

// KillService ends one program of a node, which the node's first process starts
// again: kubelet, kube-proxy or containerd. Pods go on.
func (c *Cluster) KillService(i int, name Component) error {
	return c.SignalService(i, name, syscall.SIGKILL)
}

// SignalService sends a signal to one program of a node.
func (c *Cluster) SignalService(i int, name Component, of syscall.Signal) error {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	parent := fmt.Sprint(c.nodes[i].command.Process.Pid)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT ...
		before, after, _ := strings.Cut(string(content), ") ")
		pid, comm, _ := strings.Cut(before, " (")
		if fields := strings.Fields(after); comm != string(name) || len(fields) < 2 || fields[1] != parent {
			continue
		}
		number, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		return syscall.Kill(number, of)
	}
	return fmt.Errorf("%s does not run on node %s", name, c.Standing.Nodes[i].Name)
}

// snapshotter is containerd's overlay where the directory's file system can
// hold one, and copies elsewhere (a directory that is itself on an overlay).
func snapshotter(dir string) string {
	base := filepath.Join(dir, "overlay")
	defer func() { _ = os.RemoveAll(base) }()
	for _, name := range []string{"lower", "upper", "work", "all"} {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			return "native"
		}
	}
	all := filepath.Join(base, "all")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)
	if err := syscall.Mount("overlay", all, "overlay", 0, options); err != nil {
		return "native"
	}
	if err := syscall.Unmount(all, 0); err != nil {
		return "native"
	}
	return "overlayfs"
}

// command runs a program to its end.
func command(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
