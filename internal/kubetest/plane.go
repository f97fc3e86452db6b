package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Service addresses of every cluster, and the first: the API server's.
const (
	serviceRange = "10.96.0.0/16"
	serviceIP    = "10.96.0.1"
)

// PlaneConfig says what control plane to launch.
type PlaneConfig struct {
	Dir     string      // of its own: data, certificates, logs
	Address string      // where the API server listens and what it calls itself; 127.0.0.1 by default
	Port    int         // of the API server; a free one by default
	With    []Component // beside etcd and the API server: ControllerManager, Scheduler
}

// Plane is a running control plane: etcd, kube-apiserver, and what else was
// asked for. RBAC is on, and so is the admission of service accounts: a pod
// needs its service account, which ControllerManager makes in each namespace.
type Plane struct {
	Dir       string
	Authority *Authority
	Config    *rest.Config // of the user admin of system:masters, whom nothing is forbidden

	processes []*process
}

// ControlPlane is a control plane on loopback ports, with those components
// beside etcd and the API server. It ends with the test. Several at once are
// fine; each is about 350 MB of memory.
func ControlPlane(t testing.TB, with ...Component) *Plane {
	t.Helper()
	if _, err := Binaries(); err != nil {
		demand(t, err)
	}
	p, err := Launch(t.Context(), PlaneConfig{Dir: t.TempDir(), With: with})
	demand(t, err)
	t.Cleanup(p.Stop)
	return p
}

// Launch starts a control plane and returns when it is ready. The caller stops it.
func Launch(ctx context.Context, config PlaneConfig) (*Plane, error) {
	if config.Address == "" {
		config.Address = "127.0.0.1"
	}
	for attempt := 0; ; attempt++ { // another program may take a port first
		p, err := launch(ctx, config)
		if err == nil {
			return p, nil
		}
		if attempt == 2 || !strings.Contains(err.Error(), "address already in use") {
			return nil, fmt.Errorf("start control plane: %w", err)
		}
	}
}

func launch(ctx context.Context, config PlaneConfig) (_ *Plane, err error) {
	p := &Plane{Dir: config.Dir}
	defer func() {
		if err != nil {
			p.Stop()
		}
	}()
	ports, err := freePorts("127.0.0.1", 5)
	if err != nil {
		return nil, err
	}
	if config.Port == 0 {
		config.Port = ports[4]
	}
	if err := p.credentials(config); err != nil {
		return nil, err
	}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	if _, err := p.run(Etcd, "--data-dir="+filepath.Join(config.Dir, "etcd"), "--unsafe-no-fsync", "--listen-client-urls="+etcd,
		"--advertise-client-urls="+etcd, "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer); err != nil {
		return nil, err
	}
	server, err := p.run(APIServer, p.serverFlags(config, etcd)...)
	if err != nil {
		return nil, err
	}
	if err := server.until(ctx, p.ready); err != nil {
		return nil, err
	}
	for i, component := range config.With {
		if err := p.controller(component, ports[2+i]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// file is the path of one of the plane's credentials.
func (p *Plane) file(name string) string { return filepath.Join(p.Dir, "pki", name) }

// credentials makes the certificates and kubeconfigs.
func (p *Plane) credentials(config PlaneConfig) error {
	dir := p.file("")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if p.Authority, err = NewAuthority(); err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(p.file("ca.crt"), p.Authority.PEM, 0o600), signer(dir)); err != nil {
		return err
	}
	host := fmt.Sprintf("https://%s:%d", config.Address, config.Port)
	for _, one := range []struct {
		file, name string
		groups     []string
		hosts      []string
	}{
		{"apiserver", "kube-apiserver", nil, []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", serviceIP, config.Address}},
		{"kubelet-client", "apiserver-kubelet-client", []string{"system:masters"}, nil},
		{string(ControllerManager), "system:kube-controller-manager", nil, nil},
		{string(Scheduler), "system:kube-scheduler", nil, nil},
		{string(Proxy), "system:kube-proxy", nil, nil},
		{"admin", "admin", []string{"system:masters"}, nil},
	} {
		pair, err := p.Authority.Issue(one.name, one.groups, one.hosts...)
		if err != nil {
			return err
		}
		p.Config = &rest.Config{Host: host, QPS: 500, Burst: 1000,
			TLSClientConfig: rest.TLSClientConfig{CAData: p.Authority.PEM, CertData: pair.Cert, KeyData: pair.Key}}
		if err := errors.Join(pair.write(dir, one.file), WriteKubeconfig(p.file(one.file+".kubeconfig"), "default", p.Config)); err != nil {
			return err
		}
	}
	return nil // the last one is the admin
}

// KubeconfigFile is the path of the admin's kubeconfig.
func (p *Plane) KubeconfigFile() string { return p.file("admin.kubeconfig") }

func (p *Plane) serverFlags(config PlaneConfig, etcd string) []string {
	flags := []string{
		"--etcd-servers=" + etcd, "--bind-address=" + config.Address, "--advertise-address=" + config.Address, fmt.Sprintf("--secure-port=%d", config.Port),
		"--tls-cert-file=" + p.file("apiserver.crt"), "--tls-private-key-file=" + p.file("apiserver.key"), "--client-ca-file=" + p.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file=" + p.file("sa.pub"),
		"--service-account-signing-key-file=" + p.file("sa.key"), "--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-client-certificate=" + p.file("kubelet-client.crt"), "--kubelet-client-key=" + p.file("kubelet-client.key"),
		"--kubelet-certificate-authority=" + p.file("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
	}
	if strings.HasPrefix(config.Address, "127.") {
		flags = append(flags, "--endpoint-reconciler-type=none") // loopback is refused as an endpoint
	}
	return flags
}

// controller starts the controller manager or the scheduler. Their own limits
// of requests would be most of what a test of many pods waits for.
func (p *Plane) controller(component Component, port int) error {
	flags := []string{"--kubeconfig=" + p.file(string(component)+".kubeconfig"), "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=300"}
	switch component {
	case ControllerManager:
		flags = append(flags, "--root-ca-file="+p.file("ca.crt"), "--service-account-private-key-file="+p.file("sa.key"), "--use-service-account-credentials=true")
	case Scheduler:
	default:
		return fmt.Errorf("%s does not run beside the API server", component)
	}
	_, err := p.run(component, flags...)
	return err
}

func (p *Plane) run(component Component, args ...string) (*process, error) {
	dir, err := Binaries()
	if err != nil {
		return nil, err
	}
	started, err := start(p.Dir, string(component), filepath.Join(dir, string(component)), nil, args...)
	if err != nil {
		return nil, err
	}
	p.processes = append(p.processes, started)
	return started, nil
}

// ready asks the API server whether it is.
func (p *Plane) ready(ctx context.Context) error {
	client, err := rest.HTTPClientFor(p.Config)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Config.Host+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

// Stop kills all of it. A second call does nothing.
func (p *Plane) Stop() {
	for _, process := range slices.Backward(p.processes) {
		process.kill()
	}
	p.processes = nil
}

// WriteKubeconfig writes a file that holds all of that configuration's
// credentials in a context of that name.
func WriteKubeconfig(path, name string, config *rest.Config) error {
	return clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: name,
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken}},
	}, path)
}
