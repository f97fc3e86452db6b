package credentials

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// maxKubeconfig bounds a kubeconfig, in bytes.
const maxKubeconfig = 256 << 10

// ErrRefused is a kubeconfig that the leader does not take.
var ErrRefused = errors.New("the kubeconfig is refused")

// Check reads a kubeconfig and returns it with its current context alone: what
// the leader stores. Everything in it must stand in it. An error, ErrRefused with
// all that is wrong, names fields and never their values. Refused are:
//
//   - exec and auth-provider, which would run a program on the leader's machine;
//   - names of files, which would read the leader's disk;
//   - proxy-url, which would send the traffic elsewhere;
//   - insecure-skip-tls-verify and a server that is not https, which would show
//     the token to who stands between;
//   - several contexts of which none is the current one.
func Check(kubeconfig []byte) ([]byte, error) {
	config, err := load(kubeconfig)
	if err != nil {
		return nil, err
	}
	if config.CurrentContext == "" {
		if len(config.Contexts) != 1 {
			return nil, refused("it has %d contexts and no current-context: say which one", len(config.Contexts))
		}
		for name := range config.Contexts {
			config.CurrentContext = name
		}
	}
	return narrow(config)
}

// CheckContext is Check for one context of a kubeconfig; *UnknownContextError.
// What stands in other contexts is not looked at.
func CheckContext(kubeconfig []byte, context string) ([]byte, error) {
	config, err := load(kubeconfig)
	if err != nil {
		return nil, err
	}
	if _, found := config.Contexts[context]; !found {
		return nil, &UnknownContextError{Context: context, Known: names(config)}
	}
	config.CurrentContext = context
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return nil, refused("%s", err)
	}
	return narrow(config)
}

// UnknownContextError is a context that a kubeconfig does not have.
type UnknownContextError struct {
	Context string
	Known   []string // those that it has
}

func (e *UnknownContextError) Error() string {
	return fmt.Sprintf("the kubeconfig has no context %q; it has %s", e.Context, listed(e.Known))
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func names(config *clientcmdapi.Config) []string {
	var all []string
	for name := range config.Contexts {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func load(kubeconfig []byte) (*clientcmdapi.Config, error) {
	if len(kubeconfig) > maxKubeconfig {
		return nil, refused("it is longer than %d bytes", maxKubeconfig)
	}
	config, err := clientcmd.Load(kubeconfig)
	if err != nil { // the decoder's text may repeat what it could not read: a token
		return nil, refused("it is not the YAML or JSON of a kubeconfig")
	}
	return config, nil
}

// narrow checks a kubeconfig and cuts it to its current context.
func narrow(config *clientcmdapi.Config) ([]byte, error) {
	var wrong []string
	report := func(kind, name, field, why string) {
		wrong = append(wrong, fmt.Sprintf("%s %q: %s %s", kind, name, field, why))
	}
	for name, user := range config.AuthInfos {
		checkUser(user, func(field, why string) { report("user", name, field, why) })
	}
	for name, cluster := range config.Clusters {
		checkCluster(cluster, func(field, why string) { report("cluster", name, field, why) })
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return nil, refused("%s", strings.Join(wrong, "; "))
	}
	context := config.Contexts[config.CurrentContext]
	if context == nil {
		return nil, refused("current-context %q is none of its contexts, which are %s", config.CurrentContext, listed(names(config)))
	}
	cluster, user := config.Clusters[context.Cluster], config.AuthInfos[context.AuthInfo]
	if cluster == nil {
		return nil, refused("context %q names a cluster that is not there", config.CurrentContext)
	}
	if user == nil {
		return nil, refused("context %q names a user that is not there", config.CurrentContext)
	}
	if user.Token == "" && len(user.ClientCertificateData) == 0 && user.Username == "" {
		return nil, refused("user %q has neither token nor client-certificate-data", context.AuthInfo)
	}
	return write(cluster, user, context.Namespace)
}

func checkUser(user *clientcmdapi.AuthInfo, report func(field, why string)) {
	if user == nil {
		report("it", "is empty")
		return
	}
	if user.Exec != nil {
		report("exec", "would run a program on the leader's machine: `accumulus cluster add NAME --context …` makes a kubeconfig without")
	}
	if user.AuthProvider != nil {
		report("auth-provider", "would run code of its own: use a token")
	}
	for _, file := range []struct{ field, value, instead string }{
		{"tokenFile", user.TokenFile, "token"},
		{"client-certificate", user.ClientCertificate, "client-certificate-data"},
		{"client-key", user.ClientKey, "client-key-data"},
	} {
		if file.value != "" {
			report(file.field, "names a file, which the leader does not read: give "+file.instead+" (kubectl config view --flatten --raw)")
		}
	}
	if (len(user.ClientCertificateData) == 0) != (len(user.ClientKeyData) == 0) {
		report("client-certificate-data", "and client-key-data: give both or none")
	}
	if strings.ContainsFunc(user.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		report("token", "is not one word")
	}
}

func checkCluster(cluster *clientcmdapi.Cluster, report func(field, why string)) {
	if cluster == nil {
		report("it", "is empty")
		return
	}
	server, err := url.Parse(cluster.Server)
	switch {
	case err != nil || server.Host == "" || server.RawQuery != "" || server.Fragment != "" || server.User != nil:
		report("server", "is no URL such as https://host:6443")
	case server.Scheme != "https":
		report("server", "is not https: the token would cross the network in the clear")
	}
	if cluster.CertificateAuthority != "" {
		report("certificate-authority", "names a file, which the leader does not read: give certificate-authority-data (kubectl config view --flatten --raw)")
	}
	if cluster.ProxyURL != "" {
		report("proxy-url", "is not followed: take it out, and set HTTPS_PROXY for the leader if it needs one")
	}
	if cluster.InsecureSkipTLSVerify {
		report("insecure-skip-tls-verify", "would show the credentials to who stands between: give certificate-authority-data")
	}
}

// write is a kubeconfig with one context. Only fields that were checked are
// taken over.
func write(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo, namespace string) ([]byte, error) {
	const name = "accumulus"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: cluster.Server, TLSServerName: cluster.TLSServerName,
		CertificateAuthorityData: cluster.CertificateAuthorityData, DisableCompression: cluster.DisableCompression}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: user.Token, ClientCertificateData: user.ClientCertificateData,
		ClientKeyData: user.ClientKeyData, Username: user.Username, Password: user.Password, Impersonate: user.Impersonate,
		ImpersonateUID: user.ImpersonateUID, ImpersonateGroups: user.ImpersonateGroups, ImpersonateUserExtra: user.ImpersonateUserExtra}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	config.CurrentContext = name
	text, err := clientcmd.Write(*config)
	if err != nil {
		return nil, refused("it cannot be written again")
	}
	client, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		return nil, refused("it is of no use: a part is missing or wrong")
	}
	if _, err := rest.TLSConfigFor(client); err != nil { // its text may repeat what it could not read
		return nil, refused("its certificate-authority-data, client-certificate-data or client-key-data cannot be read")
	}
	return text, nil
}
