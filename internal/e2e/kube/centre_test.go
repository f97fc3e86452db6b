package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// followerValues are those of all followers in a lab: its image is on the nodes,
// nobody makes volumes, and a test has no time to wait for probes.
const followerValues = `image: {registry: kubetest.local, repository: accumulus-follower, tag: e2e, pullPolicy: Never}
persistence: {enabled: false}
scrapeInterval: 5s
startupProbe: {periodSeconds: 1}
readinessProbe: {periodSeconds: 1}
`

// centre is the leader's own program as a process in the lab, and its command
// line.
type centre struct {
	*client.Client
	t       testing.TB
	dir     string
	address string   // host:port
	flags   []string // more than the usual ones
	output  *safeBuffer
	command *exec.Cmd
}

// safeBuffer may be read while a process writes into it.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// newCentre starts a leader, which ends with the test.
func newCentre(t testing.TB, flags ...string) *centre {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &centre{t: t, dir: t.TempDir(), address: listener.Addr().String(), flags: flags, output: &safeBuffer{}}
	if err := errors.Join(listener.Close(), os.WriteFile(c.file("values.yaml"), []byte(followerValues), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(syscall.SIGTERM); err != nil {
			t.Errorf("leader: %v", err)
		}
		if t.Failed() {
			text := c.output.String()
			t.Logf("the leader said:\n%s", text[max(0, len(text)-20000):])
		}
	})
	c.start()
	return c
}

func (c *centre) file(name string) string { return filepath.Join(c.dir, name) }

// start starts the leader, again if need be, and returns when it answers.
func (c *centre) start() {
	c.t.Helper()
	c.command = exec.Command(program(c.t, "accumulus"), append([]string{"leader", "--data", c.dir, "--listen", c.address, "--follower-values", c.file("values.yaml")}, c.flags...)...)
	c.command.Stdout, c.command.Stderr = c.output, c.output
	if err := c.command.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.connect()
}

// connect returns when the leader answers.
func (c *centre) connect() {
	c.t.Helper()
	eventually(c.t, "the leader's answer", func(ctx context.Context) (err error) {
		if c.Client, err = client.New(client.Config{Server: "http://" + c.address, TokenFile: c.token()}); err == nil {
			_, err = c.Overview(ctx)
		}
		return err
	})
}

func (c *centre) token() string { return filepath.Join(c.dir, "leader", "operator.token") }

// person is who has a token of his own, with the role billing.
func (c *centre) person(name string) *client.Client {
	c.t.Helper()
	made, err := c.CreateToken(c.t.Context(), api.TokenRequest{Wish: identity.Wish{Name: name, Role: "billing"}})
	if err == nil {
		err = os.WriteFile(c.file(name+".token"), []byte(made.Secret), 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	own, err := client.New(client.Config{Server: "http://" + c.address, TokenFile: c.file(name + ".token")})
	if err != nil {
		c.t.Fatal(err)
	}
	return own
}

// stop ends the leader, if it runs. One that is killed has no error.
func (c *centre) stop(signal syscall.Signal) error {
	if c.command == nil {
		return nil
	}
	command := c.command
	c.command = nil
	_ = command.Process.Signal(signal)
	err := command.Wait()
	if signal == syscall.SIGKILL {
		return nil
	}
	return err
}

// try runs a command line of a user and gives what it printed.
func (c *centre) try(args ...string) (string, error) { return c.begin("http://"+c.address, args...)() }

// begin starts a command line of a user who has that server; the function that it
// returns waits for the end and gives what it printed.
func (c *centre) begin(server string, args ...string) func() (string, error) {
	c.t.Helper()
	output := &safeBuffer{}
	command := exec.CommandContext(c.t.Context(), program(c.t, "accumulus"), args...)
	command.Dir, command.Stdout, command.Stderr = c.dir, output, output
	command.Env = []string{"HOME=" + c.dir, "PATH=" + os.Getenv("PATH"), "ACCUMULUS_SERVER=" + server, "ACCUMULUS_TOKEN_FILE=" + c.token()}
	if err := command.Start(); err != nil {
		c.t.Fatal(err)
	}
	return func() (string, error) {
		err := command.Wait()
		return output.String(), err
	}
}

// run is try of what must succeed.
func (c *centre) run(args ...string) string {
	c.t.Helper()
	output, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("accumulus %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// cloud is a kubeconfig with a context of that name whose credentials come from
// a program, as those of the clouds do.
func (c *centre) cloud(name string, cluster *kubetest.Standing) string {
	c.t.Helper()
	admin := cluster.Config()
	credential, err := json.Marshal(map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
		"status": map[string]string{"clientCertificateData": string(admin.CertData), "clientKeyData": string(admin.KeyData)}})
	if err != nil {
		c.t.Fatal(err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: "cat",
		Args: []string{c.file(name + ".json")}, InteractiveMode: clientcmdapi.NeverExecInteractiveMode}}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	path := c.file(name + ".kubeconfig")
	if err := errors.Join(os.WriteFile(c.file(name+".json"), credential, 0o600), clientcmd.WriteToFile(*config, path)); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// apply applies objects of the fleet, as YAML.
func (c *centre) apply(objects string) {
	c.t.Helper()
	if err := os.WriteFile(c.file("fleet.yaml"), []byte(objects), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.run("apply", "--yes", "-f", "fleet.yaml")
}

// until waits until an installation is as wanted, and gives it.
func (c *centre) until(cluster, what string, ok func(client.Installation) bool) client.Installation {
	c.t.Helper()
	var now client.Installation
	eventually(c.t, cluster+" "+what, func(ctx context.Context) (err error) {
		if now, err = c.Installation(ctx, cluster); err == nil && !ok(now) {
			err = fmt.Errorf("%+v", now)
		}
		return err
	})
	return now
}

func settledReady(i client.Installation) bool { return i.State == "ready" && i.Done == i.Generation }

// change gives a cluster's follower other values.
func (c *centre) change(cluster string, values map[string]any) {
	c.t.Helper()
	if err := c.Upgrade(c.t.Context(), cluster, api.UpgradeRequest{Values: values}); err != nil {
		c.t.Fatal(err)
	}
}

// used is CPU in core-seconds that a leader's API tells of a cluster, by
// "namespace workload".
func used(ctx context.Context, c *client.Client, cluster string) (map[string]float64, error) {
	answer, err := c.Usage(ctx, url.Values{"window": {"1h"}, "aggregate": {"namespace,workload"}, "filter": {"cluster=" + cluster}})
	if err != nil {
		return nil, err
	}
	cpu := make(map[string]float64)
	for _, row := range answer.Rows {
		cpu[row.Key["namespace"]+" "+row.Key["workload"]] += row.CPUCoreSeconds.Float()
	}
	return cpu, nil
}
