package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"k8s.io/client-go/rest"
)

// KeyFile is the name of the key's file in the leader's directory.
const KeyFile = "credentials.key"

// DefaultNamespace is where the follower stands in a cluster.
const DefaultNamespace = "accumulus"

// Errors that a caller branches on.
var (
	// ErrNone is a cluster without credentials.
	ErrNone = errors.New("the leader has no credentials of this cluster: `accumulus cluster add NAME --context CONTEXT` gives it some")
	// ErrKey are credentials that none of the keys opens.
	ErrKey = errors.New("the credentials were sealed with another key")
	// ErrOther are credentials of another cluster than those that they were to
	// replace.
	ErrOther = errors.New("these credentials lead to another cluster")
)

// Config says where the key is.
type Config struct {
	Dir string // the leader's
	// KeyPath is the file of keys; "" is KeyFile in Dir, made at the first start.
	KeyPath string
}

// Record is what is kept of a cluster. It is a secret and prints as one.
type Record struct {
	Kubeconfig []byte `json:"kubeconfig,omitempty"` // of Check
	// InCluster is the cluster that the leader itself runs in: its own service
	// account is taken and there is no kubeconfig.
	InCluster bool   `json:"inCluster,omitempty"`
	Namespace string `json:"namespace,omitempty"` // of the follower; "" is the kubeconfig's, else DefaultNamespace
	// ClusterID is the UID of the cluster's namespace kube-system, "" where it is
	// not known: what tells one cluster from another, whatever its address.
	ClusterID string `json:"clusterID,omitempty"`
	// Tokens are the follower's leader tokens as the cluster's Secret holds them:
	// the first is sent. Empty: to be read from the Secret.
	Tokens []string `json:"tokens,omitempty"`
}

// String hides the record.
func (Record) String() string { return "***" }

// GoString hides the record.
func (Record) GoString() string { return "***" }

// LogValue hides the record.
func (Record) LogValue() slog.Value { return slog.StringValue("***") }

// Registry is where sealed records stand: *registry.Registry.
type Registry interface {
	Credential(ctx context.Context, cluster string) (registry.Sealed, error)
	Credentials(ctx context.Context) ([]registry.Sealed, error)
	PutCredential(ctx context.Context, s registry.Sealed) (int64, error)
	RemoveCredential(ctx context.Context, cluster string) error
}

// Store opens and seals records. It is safe for concurrent use.
type Store struct {
	registry Registry
	clock    clock.Clock
	log      *slog.Logger
	keys     keys   // none when the key file is gone
	keyPath  string // for messages

	mu         sync.Mutex
	known      map[string]*connection
	generation int // counts changes, so that what was read before one is not kept
}

// connection is an opened record and what was made of it.
type connection struct {
	record    Record
	config    *rest.Config
	namespace string
	transport *http.Transport
	link      http.RoundTripper // transport with the credentials
	life      Life              // of its token
	ends      bool              // the token does
}

// Open reads the key, or makes it where it is the default one and nothing was
// sealed yet. Records of an older key are sealed again. A key that does not open
// all records is logged and no error: the other clusters go on, and nothing is
// written over.
func Open(ctx context.Context, config Config, store Registry, clk clock.Clock, log *slog.Logger) (*Store, error) {
	s := &Store{registry: store, clock: clk, log: log, keyPath: config.KeyPath, known: make(map[string]*connection)}
	records, err := store.Credentials(ctx)
	if err != nil {
		return nil, err
	}
	own := config.KeyPath == ""
	if own {
		s.keyPath = filepath.Join(config.Dir, KeyFile)
		if _, err := os.Stat(s.keyPath); errors.Is(err, fs.ErrNotExist) {
			if len(records) > 0 {
				log.Error("the key of the credentials is gone: put it back", "file", s.keyPath, "clusters", len(records))
				return s, nil
			}
			if err := makeKey(s.keyPath); err != nil {
				return nil, err
			}
		}
	}
	if s.keys, err = readKeys(s.keyPath, own); err != nil {
		return nil, err
	}
	for _, r := range records {
		if err := s.reseal(ctx, r); err != nil {
			log.Error("credentials cannot be used", "cluster", r.Cluster, "err", err)
		}
	}
	return s, nil
}

// reseal checks that a record opens, and seals it with the first key where
// another one did.
func (s *Store) reseal(ctx context.Context, r registry.Sealed) error {
	plain, err := s.unseal(r)
	if err != nil || r.KeyID == s.keys[0].id {
		return err
	}
	r.KeyID = s.keys[0].id
	if r.Sealed, err = s.keys[0].seal(r.Cluster, plain); err != nil {
		return err
	}
	_, err = s.registry.PutCredential(ctx, r)
	return err
}

func (s *Store) unseal(r registry.Sealed) ([]byte, error) {
	k, found := s.keys.find(r.KeyID)
	if !found {
		return nil, fmt.Errorf("open credentials of %s: %w: key %s, which %s does not hold; put that key back, or remove the credentials (DELETE /api/v1/clusters/%s/credentials) and add the cluster again",
			r.Cluster, ErrKey, r.KeyID, s.keyPath, r.Cluster)
	}
	plain, err := k.open(r.Cluster, r.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open credentials of %s: %w: they were changed after key %s had sealed them", r.Cluster, ErrKey, r.KeyID)
	}
	return plain, nil
}

// Get is a cluster's record with its revision; ErrNone, ErrKey.
func (s *Store) Get(ctx context.Context, cluster string) (Record, int64, error) {
	r, err := s.registry.Credential(ctx, cluster)
	if errors.Is(err, registry.ErrNotFound) {
		return Record{}, 0, fmt.Errorf("cluster %s: %w", cluster, ErrNone)
	}
	if err != nil {
		return Record{}, 0, err
	}
	plain, err := s.unseal(r)
	if err != nil {
		return Record{}, 0, err
	}
	var record Record
	if err := json.Unmarshal(plain, &record); err != nil {
		return Record{}, 0, fmt.Errorf("open credentials of %s: they are of a newer version", cluster)
	}
	return record, r.Revision, nil
}

// Put seals a record in place of the present one. ErrRefused, ErrKey when the
// present one cannot be opened, ErrOther when both name a cluster and not the
// same. Tokens that the record does not name are kept.
func (s *Store) Put(ctx context.Context, cluster string, record Record) error {
	if record.InCluster == (len(record.Kubeconfig) > 0) {
		return fmt.Errorf("credentials of %s: %w: give a kubeconfig, or say that it is the leader's own cluster", cluster, ErrRefused)
	}
	if !record.InCluster {
		checked, err := Check(record.Kubeconfig)
		if err != nil {
			return fmt.Errorf("credentials of %s: %w", cluster, err)
		}
		record.Kubeconfig = checked
	}
	present, revision, err := s.Get(ctx, cluster)
	switch {
	case errors.Is(err, ErrNone):
	case err != nil:
		return err
	case present.ClusterID != "" && record.ClusterID != "" && present.ClusterID != record.ClusterID:
		return fmt.Errorf("credentials of %s: %w: its namespace kube-system has another UID than when the cluster was added", cluster, ErrOther)
	default:
		if record.ClusterID == "" {
			record.ClusterID = present.ClusterID
		}
		if len(record.Tokens) == 0 {
			record.Tokens = present.Tokens
		}
	}
	return s.put(ctx, cluster, record, revision)
}

// put seals a record that was made from that of a revision.
func (s *Store) put(ctx context.Context, cluster string, record Record, revision int64) error {
	if len(s.keys) == 0 {
		return fmt.Errorf("seal credentials of %s: %w: %s is gone; put it back", cluster, ErrKey, s.keyPath)
	}
	plain, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("seal credentials of %s: %w", cluster, err)
	}
	text, err := s.keys[0].seal(cluster, plain)
	if err != nil {
		return fmt.Errorf("seal credentials of %s: %w", cluster, err)
	}
	if _, err := s.registry.PutCredential(ctx, registry.Sealed{Cluster: cluster, KeyID: s.keys[0].id, Sealed: text, Revision: revision}); err != nil {
		return err
	}
	s.forget(cluster)
	return nil
}

// Remove deletes a cluster's credentials, also those that no key opens.
func (s *Store) Remove(ctx context.Context, cluster string) error {
	if err := s.registry.RemoveCredential(ctx, cluster); err != nil {
		return err
	}
	s.forget(cluster)
	return nil
}

func (s *Store) forget(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	if held := s.known[cluster]; held != nil {
		held.transport.CloseIdleConnections()
	}
	delete(s.known, cluster)
}
