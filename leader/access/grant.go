package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// fieldManager names this package in what it writes.
const fieldManager = "accumulus-access"

// How long the cluster may take to fill in the token, and between two looks.
const (
	tokenTime = 90 * time.Second
	tokenStep = 200 * time.Millisecond
)

// ShortestToken is the least that an API server gives a token to live.
const ShortestToken = 10 * time.Minute

// Options of Grant.
type Options struct {
	Leader  string // its id, which is written to the account
	Install bool   // the leader may install the follower
	Adopt   bool   // take over from another leader
	Server  string // URL of the API server as the leader reaches it; "" is the user's
	// TokenDuration is how long the token is good, if the cluster does not make it
	// less; the leader renews it before. 0 is one without end, of a Secret.
	TokenDuration time.Duration
}

func (o Options) kind() Kind { return Kind{Install: o.Install, Renew: o.TokenDuration > 0} }

// Grant is what a leader gets to reach a cluster.
type Grant struct {
	Kubeconfig []byte    // self-contained: server, CA, token
	ClusterID  string    // UID of the namespace kube-system
	Ends       time.Time // when the token does; zero: it does not
}

// ForeignError is a cluster that another leader has access to.
type ForeignError struct{ Leader string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the leader %s has this cluster: two leaders would both bill it", e.Leader)
}

// PermissionError is what the user may not do in the cluster.
type PermissionError struct {
	Doing string // "create ClusterRole accumulus-leader-link"
	Err   error
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("you may not %s: %v", e.Doing, e.Err)
}
func (e *PermissionError) Unwrap() error { return e.Err }

// Make makes the account in a cluster, or brings it up to date, and returns how
// the leader reaches it. user are the credentials of who may make these objects.
// Where he may not, but they are there as they must be, that is as good. Errors:
// *PermissionError, *ForeignError, what the API server says.
func Make(ctx context.Context, user *rest.Config, clk clock.Clock, options Options) (Grant, error) {
	if user.Insecure {
		return Grant{}, errors.New("the context does not verify the API server (insecure-skip-tls-verify): the leader would send its token to whoever answers; give the context the server's certificate-authority")
	}
	if d := options.TokenDuration; d != 0 && (d < ShortestToken || d > longestToken) {
		return Grant{}, fmt.Errorf("a token cannot be given %s: a cluster gives none that ends in less than 10m or in more than %dh; say such as 720h", d, longestToken/time.Hour)
	}
	user = rest.CopyConfig(user)
	user.QPS, user.Burst = 50, 100
	client, err := kubernetes.NewForConfig(user)
	if err != nil {
		return Grant{}, fmt.Errorf("use the context: %w", err)
	}
	writer, err := dynamic.NewForConfig(user)
	if err != nil {
		return Grant{}, fmt.Errorf("use the context: %w", err)
	}
	system, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return Grant{}, said("get Namespace kube-system", err)
	}
	if err := foreign(ctx, client, options); err != nil {
		return Grant{}, err
	}
	if err := apply(ctx, writer, options); err != nil {
		return Grant{}, err
	}
	grant := Grant{ClusterID: string(system.UID)}
	var token string
	if options.TokenDuration > 0 {
		token, grant.Ends, err = ask(ctx, client, options.TokenDuration)
	} else {
		token, err = await(ctx, client, clk)
	}
	if err != nil {
		return Grant{}, err
	}
	grant.Kubeconfig, err = kubeconfig(user, options.Server, token)
	return grant, err
}

// said names what could not be done, and whether it is for want of rights.
func said(doing string, err error) error {
	if apierrors.IsForbidden(err) {
		return &PermissionError{doing, err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// foreign is an error where the account is another leader's.
func foreign(ctx context.Context, client kubernetes.Interface, options Options) error {
	account, err := client.CoreV1().ServiceAccounts(Namespace).Get(ctx, Account, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) { // what follows will say so
		return nil
	}
	if err != nil {
		return fmt.Errorf("get ServiceAccount %s: %w", Account, err)
	}
	if has := account.Annotations[leaderAnnotation]; has != "" && has != options.Leader && !options.Adopt {
		return &ForeignError{has}
	}
	return nil
}

func apply(ctx context.Context, writer dynamic.Interface, options Options) error {
	text, err := Manifests(options.kind())
	if err != nil {
		return err
	}
	all, err := decode(text)
	if err != nil {
		return err
	}
	for _, object := range all {
		if object.GetKind() == "ServiceAccount" && options.Leader != "" {
			object.SetAnnotations(map[string]string{leaderAnnotation: options.Leader})
		}
		target := resource(writer, object)
		text, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("write %s: %w", named(object), err)
		}
		force := true // what somebody changed is mended
		_, err = target.Patch(ctx, object.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
		if apierrors.IsForbidden(err) && holds(ctx, target, object) {
			continue
		}
		if err != nil {
			return said("make "+named(object), err)
		}
	}
	return nil
}

func resource(writer dynamic.Interface, object *unstructured.Unstructured) dynamic.ResourceInterface {
	of := writer.Resource(resources[object.GetKind()])
	if object.GetNamespace() == "" {
		return of
	}
	return of.Namespace(object.GetNamespace())
}

func named(object *unstructured.Unstructured) string {
	return object.GetKind() + " " + object.GetName()
}

// holds says whether an object that may not be written is there and has all
// that it is to have.
func holds(ctx context.Context, target dynamic.ResourceInterface, wanted *unstructured.Unstructured) bool {
	present, err := target.Get(ctx, wanted.GetName(), metav1.GetOptions{})
	return err == nil && contains(present.Object, wanted.Object)
}

// contains says whether a tree has all of another one; lists must be the same.
func contains(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for key, child := range want {
			if key == leaderAnnotation { // not in the manifests that an administrator applies
				continue
			}
			if !contains(have[key], child) {
				return false
			}
		}
		return true
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return false
		}
		for i := range want {
			if !contains(have[i], want[i]) {
				return false
			}
		}
		return true
	}
	return have == want
}

// await waits until the cluster has filled in the token's Secret.
func await(ctx context.Context, client kubernetes.Interface, clk clock.Clock) (string, error) {
	end := clk.Now().Add(tokenTime)
	for {
		secret, err := client.CoreV1().Secrets(Namespace).Get(ctx, tokenSecret, metav1.GetOptions{})
		if err != nil {
			return "", said("get Secret "+tokenSecret, err)
		}
		if token := secret.Data["token"]; len(token) > 0 {
			return string(token), nil
		}
		if clk.Now().After(end) {
			return "", fmt.Errorf("the cluster did not fill in the Secret %s within %s: does its controller manager run, and does it make tokens of the type kubernetes.io/service-account-token?", tokenSecret, tokenTime)
		}
		if err := clk.Sleep(ctx, tokenStep); err != nil {
			return "", err
		}
	}
}

// longestToken is what an API server can be asked for: seconds in 32 bits.
const longestToken = 1 << 32 * time.Second

// ask has the cluster make a token that ends.
func ask(ctx context.Context, client kubernetes.Interface, duration time.Duration) (string, time.Time, error) {
	seconds := int64(duration / time.Second)
	made, err := client.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, Account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return "", time.Time{}, said("create a token of ServiceAccount "+Account, err)
	}
	return made.Status.Token, made.Status.ExpirationTimestamp.UTC(), nil
}

// kubeconfig is that of the account, with the user's server and CA.
func kubeconfig(user *rest.Config, server, token string) ([]byte, error) {
	const name = "accumulus"
	if server == "" {
		server = user.Host
	}
	if u, err := url.Parse(server); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the API server %q is not an https URL: the leader's token would cross the network in the clear", server)
	}
	user = rest.CopyConfig(user)
	if err := rest.LoadTLSFiles(user); err != nil {
		return nil, fmt.Errorf("read the context's certificates: %w", err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, TLSServerName: user.ServerName, CertificateAuthorityData: user.CAData}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: Namespace}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}

// Tidy deletes what a token of the other kind left in the cluster: the Secret with
// one that does not end, or the right to renew. It is for when the leader has the
// kubeconfig that Make made; until then the former token is the one in use.
func Tidy(ctx context.Context, user *rest.Config, options Options) error {
	text, err := manifests(tokenFile(Kind{Renew: options.TokenDuration == 0}))
	if err != nil {
		return err
	}
	return remove(ctx, user, text)
}

// Revoke deletes what Make made, except for the namespace, which may hold more.
// What is not there is no error.
func Revoke(ctx context.Context, user *rest.Config) error {
	text, err := manifests("account.yaml", "token.yaml", "renew.yaml", "link.yaml", "install.yaml")
	if err != nil {
		return err
	}
	return remove(ctx, user, text)
}

// remove deletes objects, the last first, so that rights go before the account.
func remove(ctx context.Context, user *rest.Config, text string) error {
	writer, err := dynamic.NewForConfig(user)
	if err != nil {
		return fmt.Errorf("use the context: %w", err)
	}
	all, err := decode(text)
	if err != nil {
		return err
	}
	for _, object := range slices.Backward(all) {
		if object.GetKind() == "Namespace" { // the customer's: it may hold more
			continue
		}
		target := resource(writer, object)
		err := target.Delete(ctx, object.GetName(), metav1.DeleteOptions{})
		if apierrors.IsForbidden(err) { // who may not delete is told so of what is not there, too
			if _, looked := target.Get(ctx, object.GetName(), metav1.GetOptions{}); apierrors.IsNotFound(looked) {
				continue
			}
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return said("delete "+named(object), err)
		}
	}
	return nil
}
