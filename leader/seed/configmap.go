package seed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/accumulus-metering/accumulus/internal/schema"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
)

// What a seed is in a cluster.
const (
	ConfigMap         = "accumulus-follower-seed"
	FieldManager      = "accumulus-leader"
	VersionAnnotation = "accumulus.dev/seed-version"
)

// MaxConfigMap is what the values of a ConfigMap may hold together, in bytes.
const MaxConfigMap = 1 << 20

// ErrTooLarge is a seed that does not fit into a ConfigMap.
var ErrTooLarge = errors.New("the seed does not fit into a ConfigMap")

// fits says whether a ConfigMap holds the seed, and if not, what to do.
func (s Signed) fits() error {
	size := len(s.Packed) + len(s.Signature)
	if size <= MaxConfigMap {
		return nil
	}
	return fmt.Errorf("seed of %s: %d bytes, at most %d: %w; write it with `accumulus seed %s --out DIR` to a volume that the follower mounts in the ConfigMap's place",
		s.Cluster, size, MaxConfigMap, ErrTooLarge, s.Cluster)
}

// Apply makes the ConfigMap of the namespace say what the seed says, by
// server-side apply. It writes nothing when it does already, and says whether it
// wrote. Errors: ErrTooLarge, those of the API server.
func (s Signed) Apply(ctx context.Context, client kubernetes.Interface, namespace string) (bool, error) {
	there, err := read(ctx, client, namespace)
	if err != nil {
		return false, fmt.Errorf("seed of %s: %w", s.Cluster, err)
	}
	return s.apply(ctx, client, namespace, there)
}

// apply is Apply on top of what is there; nil is nothing.
func (s Signed) apply(ctx context.Context, client kubernetes.Interface, namespace string, there *corev1.ConfigMap) (bool, error) {
	if err := s.fits(); err != nil {
		return false, err
	}
	if there != nil && there.Annotations[VersionAnnotation] == s.Version &&
		bytes.Equal(there.BinaryData[schema.SeedFile], s.Packed) && bytes.Equal(there.BinaryData[schema.SeedSignatureFile], s.Signature) {
		return false, nil
	}
	wanted := v1.ConfigMap(ConfigMap, namespace).
		WithLabels(map[string]string{"app.kubernetes.io/managed-by": FieldManager, "app.kubernetes.io/part-of": "accumulus"}).
		WithAnnotations(map[string]string{VersionAnnotation: s.Version}).
		WithBinaryData(map[string][]byte{schema.SeedFile: s.Packed, schema.SeedSignatureFile: s.Signature})
	if _, err := client.CoreV1().ConfigMaps(namespace).Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: FieldManager, Force: true}); err != nil {
		return false, fmt.Errorf("apply seed of %s: %w", s.Cluster, err)
	}
	return true, nil
}

func read(ctx context.Context, client kubernetes.Interface, namespace string) (*corev1.ConfigMap, error) {
	there, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, ConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at ConfigMap %s/%s: %w", namespace, ConfigMap, err)
	}
	return there, nil
}

// Remove deletes the ConfigMap; none is no error.
func Remove(ctx context.Context, client kubernetes.Interface, namespace string) error {
	err := client.CoreV1().ConfigMaps(namespace).Delete(ctx, ConfigMap, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ConfigMap %s/%s: %w", namespace, ConfigMap, err)
	}
	return nil
}
