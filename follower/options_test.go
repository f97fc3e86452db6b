package follower

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func complete(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	options := NewOptions("machine")
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	options.BindFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return options.Complete()
}

func TestDefaults(t *testing.T) {
	c, err := complete(t)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Cluster, c.Dir, c.Source, c.Node, c.Interval, c.SettleDeadline, c.FactsDeadline, c.Listen, c.Labels}
	want := []any{"local", "accumulus-data/follower-local", "host", "machine", 15 * time.Second, 2 * time.Minute, 10 * time.Minute,
		"127.0.0.1:8081", []string{"app", "team", "app.kubernetes.io/*"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestKubeletCredentials(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want [2]string
	}{
		"in a cluster": {nil, [2]string{serviceAccount + "ca.crt", serviceAccount + "token"}},
		"API server's": {[]string{"--api-server=https://a", "--ca-file=ca", "--token-file=token"}, [2]string{"ca", "token"}},
		"their own":    {[]string{"--api-server=https://a", "--ca-file=ca", "--kubelet-ca-file=k", "--kubelet-token-file=t"}, [2]string{"k", "t"}},
		"kubeconfig":   {[]string{"--kubeconfig=c"}, [2]string{}},
	} {
		c, err := complete(t, append(tc.args, "--source=kubelet", "--cluster=edge")...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, [2]string{c.Kubelet.CAFile, c.Kubelet.TokenFile}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestOneErrorListsAll: a wrong configuration is mended in one go.
func TestOneErrorListsAll(t *testing.T) {
	_, err := complete(t, "--source=kubelet", "--api-server=https://a", "--kubeconfig=c", "--scrape-interval=0s", "--settle-deadline=-1s",
		"--listen=0.0.0.0:8081", "--tls-key=k", "--influxdb-token-file=/absent/token", "--data=")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"cluster:", "data:", "api-server and kubeconfig", "scrape-interval", "settle-deadline", "tls-cert and tls-key",
		"not a loopback address", "influxdb-token-file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not tell of %q:\n%v", want, err)
		}
	}
}

// TestKubeletsAlone: what only the kubelet source can do is not passed over.
func TestKubeletsAlone(t *testing.T) {
	for _, flag := range []string{"--shared-root", "--reviews", "--pseudonym-key-file=k"} {
		name := strings.TrimPrefix(strings.TrimSuffix(flag, "=k"), "--")
		if _, err := complete(t, flag, "--listen=127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestListen(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want bool
	}{
		{[]string{"--listen=127.0.0.1:0"}, true},
		{[]string{"--listen=[::1]:8081"}, true},
		{[]string{"--listen=localhost:8081"}, true},
		{[]string{"--listen="}, true},
		{[]string{"--listen=:8081"}, false},
		{[]string{"--listen=192.0.2.1:8081"}, false},
		{[]string{"--listen=192.0.2.1:8081", "--insecure-listen"}, true},
		{[]string{"--listen=192.0.2.1:8081", "--tls-cert=c", "--tls-key=k"}, true},
		{[]string{"--listen=:8443", "--tls-self-signed"}, true},
		{[]string{"--listen=:8443", "--tls-self-signed", "--tls-names=follower.accumulus.svc,192.0.2.1,*.example.net"}, true},
		{[]string{"--listen=:8443", "--tls-self-signed", "--tls-cert=c", "--tls-key=k"}, false},
		{[]string{"--listen=:8443", "--tls-self-signed", "--tls-names=not a name"}, false},
		{[]string{"--tls-names=follower"}, false},
		{[]string{"--listen=8081"}, false},
		{[]string{"--cluster=../x"}, false},
		{[]string{"--source=ship"}, false},
	} {
		if _, err := complete(t, tc.args...); (err == nil) != tc.want {
			t.Errorf("%v: %v, want accepted: %t", tc.args, err, tc.want)
		}
	}
}
