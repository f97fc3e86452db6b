package credentials

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The follower's tokens as its chart mounts them.
const (
	TokenSecret = "accumulus-follower-tokens"
	leaderKey   = "leader" // one or two tokens, one a line; both are valid
	viewerKey   = "viewer" // one
)

// fieldManager names the leader in what it writes.
const fieldManager = "accumulus-leader"

// ErrNoToken is a cluster whose Secret of tokens is not there, or holds none.
var ErrNoToken = errors.New("the follower's token is not known")

// How long a rotation waits for the follower to take the new token, and between
// two attempts: a kubelet brings a changed Secret into a pod within about two
// minutes.
const (
	rotationTime = 5 * time.Minute
	rotationStep = 2 * time.Second
)

func (s *Store) client(ctx context.Context, cluster string) (*kubernetes.Clientset, string, error) {
	config, err := s.RESTConfig(ctx, cluster)
	if err != nil {
		return nil, "", err
	}
	namespace, err := s.Namespace(ctx, cluster)
	if err != nil {
		return nil, "", err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, "", fmt.Errorf("reach the API server of %s: %w", cluster, err)
	}
	return client, namespace, nil
}

// EnsureTokens makes the cluster's Secret of tokens where it is not there, with
// random ones, and takes the leader's token from it. A Secret that is there is
// taken as it is: it may be the customer's own. One that the follower's release
// made before the leader took that over becomes the leader's: the next revision
// would delete it, and with it the key of the pseudonyms. The namespace must exist.
func (s *Store) EnsureTokens(ctx context.Context, cluster string) error {
	client, namespace, err := s.client(ctx, cluster)
	if err != nil {
		return err
	}
	secrets := client.CoreV1().Secrets(namespace)
	present, err := secrets.Get(ctx, TokenSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		made := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: TokenSecret, Labels: map[string]string{managedBy: fieldManager}},
			Data: map[string][]byte{leaderKey: []byte(newToken() + "\n"), viewerKey: []byte(newToken() + "\n")}}
		present, err = secrets.Create(ctx, made, metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsAlreadyExists(err) { // somebody was faster
			present, err = secrets.Get(ctx, TokenSecret, metav1.GetOptions{})
		}
	}
	if err == nil && present.Annotations[releaseName] == release && present.Annotations[releaseNamespace] == namespace {
		present, err = secrets.Update(ctx, taken(present), metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return fmt.Errorf("Secret %s of %s: %w", TokenSecret, cluster, err)
	}
	return s.keepTokens(ctx, cluster, present)
}

// What Helm knows its objects by, and what makes it leave one alone that a new
// revision does not have.
const (
	release          = "accumulus-follower" // the follower's
	managedBy        = "app.kubernetes.io/managed-by"
	releaseName      = "meta.helm.sh/release-name"
	releaseNamespace = "meta.helm.sh/release-namespace"
	keepPolicy       = "helm.sh/resource-policy"
)

// taken is a release's Secret as the leader's own.
func taken(secret *corev1.Secret) *corev1.Secret {
	secret = secret.DeepCopy()
	delete(secret.Annotations, releaseName)
	delete(secret.Annotations, releaseNamespace)
	secret.Annotations[keepPolicy] = "keep"
	if secret.Labels == nil {
		secret.Labels = make(map[string]string)
	}
	secret.Labels[managedBy] = fieldManager
	return secret
}

// ReadTokens takes the leader's token from the cluster's Secret. ErrNoToken
// where there is none.
func (s *Store) ReadTokens(ctx context.Context, cluster string) error {
	client, namespace, err := s.client(ctx, cluster)
	if err != nil {
		return err
	}
	present, err := client.CoreV1().Secrets(namespace).Get(ctx, TokenSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: there is no Secret %s in namespace %s: it is made when the follower is installed", ErrNoToken, TokenSecret, namespace)
	}
	if err != nil {
		return fmt.Errorf("read Secret %s of %s: %w", TokenSecret, cluster, err)
	}
	return s.keepTokens(ctx, cluster, present)
}

// keepTokens seals the tokens of a Secret, where they are others than before.
func (s *Store) keepTokens(ctx context.Context, cluster string, secret *corev1.Secret) error {
	tokens := lines(secret)
	if len(tokens) == 0 {
		return fmt.Errorf("%w: the key %s of Secret %s holds none", ErrNoToken, leaderKey, TokenSecret)
	}
	record, revision, err := s.Get(ctx, cluster)
	if err != nil || slices.Equal(record.Tokens, tokens) {
		return err
	}
	record.Tokens = tokens
	return s.put(ctx, cluster, record, revision)
}

func lines(secret *corev1.Secret) []string { return strings.Fields(string(secret.Data[leaderKey])) }

func newToken() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it does not return an error
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// RotateTokens gives a cluster's follower a new leader token: it stands beside
// the old one in the Secret until accepted says that the follower takes it, then
// alone. A rotation that broke off is finished by the next one. Where the follower
// does not take the token in time both stay valid, and the error says so.
func (s *Store) RotateTokens(ctx context.Context, cluster string, accepted func(context.Context, Link) error) error {
	client, namespace, err := s.client(ctx, cluster)
	if err != nil {
		return err
	}
	secrets := client.CoreV1().Secrets(namespace)
	write := func(secret *corev1.Secret, tokens ...string) (*corev1.Secret, error) {
		secret = secret.DeepCopy()
		if secret.Data == nil {
			secret.Data = make(map[string][]byte)
		}
		secret.Data[leaderKey] = []byte(strings.Join(tokens, "\n") + "\n")
		return secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	secret, err := secrets.Get(ctx, TokenSecret, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("rotate token of %s: %w", cluster, err)
	}
	tokens := lines(secret)
	switch len(tokens) {
	case 0:
		return fmt.Errorf("rotate token of %s: %w: Secret %s holds none", cluster, ErrNoToken, TokenSecret)
	case 1:
		tokens = append(tokens, newToken())
		if secret, err = write(secret, tokens...); err != nil {
			return fmt.Errorf("rotate token of %s: %w", cluster, err)
		}
	}
	wanted := tokens[len(tokens)-1] // of a rotation that broke off: the newer stands last
	if err := s.awaitToken(ctx, cluster, wanted, accepted); err != nil {
		return fmt.Errorf("rotate token of %s: both tokens stay valid: %w", cluster, err)
	}
	record, revision, err := s.Get(ctx, cluster)
	if err != nil {
		return err
	}
	record.Tokens = []string{wanted}
	if err := s.put(ctx, cluster, record, revision); err != nil {
		return err
	}
	if _, err := write(secret, wanted); err != nil {
		return fmt.Errorf("rotate token of %s: the new one is in use, the old one stays valid: %w", cluster, err)
	}
	return nil
}

// awaitToken asks until the follower takes a token.
func (s *Store) awaitToken(ctx context.Context, cluster, token string, accepted func(context.Context, Link) error) error {
	end := s.clock.Now().Add(rotationTime)
	for {
		c, err := s.connect(ctx, cluster)
		if err != nil {
			return err
		}
		link, err := c.to([]string{token})
		if err != nil {
			return err
		}
		refusal := accepted(ctx, link)
		if refusal == nil {
			return nil
		}
		if s.clock.Now().After(end) {
			return fmt.Errorf("the follower did not take the new one within %s: %w", rotationTime, refusal)
		}
		if err := s.clock.Sleep(ctx, rotationStep); err != nil {
			return fmt.Errorf("%w; the follower's last word: %w", err, refusal)
		}
	}
}
