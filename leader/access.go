package leader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/credentials"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/status"
	"k8s.io/client-go/tools/clientcmd"
)

// AccessConfig says how the leader comes by access to clusters.
type AccessConfig struct {
	// KeyFile holds the keys that seal credentials, base64, one a line; "" is
	// credentials.key in the leader's directory, made at the first start.
	KeyFile string
	// Kubeconfig is a file whose contexts may be added by name; "" is none. A
	// context is used once, to make an account of the leader's own.
	Kubeconfig string
	// LocalCluster is the name of the cluster that the leader itself runs in, which
	// is added at the start; "" is none. Its follower stands in Namespace.
	LocalCluster, Namespace string
}

// openAccess opens the credentials.
func (l *Leader) openAccess(ctx context.Context) (err error) {
	if l.id, err = l.registry.LeaderID(ctx); err != nil {
		return err
	}
	l.keys, err = credentials.Open(ctx, credentials.Config{Dir: l.config.Dir, KeyPath: l.config.Access.KeyFile}, l.registry, l.clock, l.log)
	if err != nil {
		return err
	}
	l.pool.Credentials = l.keys
	return nil
}

// addLocal adds the cluster that the leader runs in, with the leader's own
// service account for credentials. What an earlier start has done is left as it
// is: a cluster that an operator removed is not added again, and credentials that
// he gave are not replaced.
func (l *Leader) addLocal(ctx context.Context) error {
	name := l.config.Access.LocalCluster
	if name == "" {
		return nil
	}
	removed, err := l.wasRemoved(ctx, name)
	if err != nil {
		return fmt.Errorf("add the leader's own cluster: %w", err)
	}
	if removed {
		l.log.Info("the leader's own cluster was removed and is not added again", "cluster", name)
		return nil
	}
	err = l.AddCluster(ctx, name, fleet.Cluster{Via: fleet.ViaServiceProxy})
	if err != nil && !errors.Is(err, api.ErrConflict) { // it is there since an earlier start
		return fmt.Errorf("add the leader's own cluster: %w", err)
	}
	wanted := credentials.Record{InCluster: true, Namespace: l.config.Access.Namespace}
	switch present, _, err := l.keys.Get(ctx, name); {
	case err == nil && (!present.InCluster || present.Namespace == wanted.Namespace):
		return nil
	case err != nil && !errors.Is(err, credentials.ErrNone):
		return fmt.Errorf("add the leader's own cluster: %w", err)
	}
	if err := l.keys.Put(ctx, name, wanted); err != nil {
		return fmt.Errorf("add the leader's own cluster: %w", err)
	}
	return nil
}

// wasRemoved says whether there was a cluster of the name, and is none now.
func (l *Leader) wasRemoved(ctx context.Context, name string) (bool, error) {
	objects, err := l.registry.Objects(ctx)
	if err != nil {
		return false, err
	}
	was := false
	for _, o := range objects {
		if o.Kind != fleet.KindCluster || o.Name() != name {
			continue
		}
		if o.Overlaps(l.clock.Now(), time.Time{}) {
			return false, nil
		}
		was = true
	}
	return was, nil
}

// SetCredentials keeps how a cluster is reached, in place of what was kept.
func (l *Leader) SetCredentials(ctx context.Context, name string, given api.Kubeconfig) error {
	if err := l.proxied(ctx, name); err != nil {
		return err
	}
	if err := l.keys.Put(ctx, name, credentials.Record{Kubeconfig: []byte(given.Kubeconfig), ClusterID: given.ClusterID}); err != nil {
		return toAPI(err)
	}
	if err := l.installer.Again(ctx, name); err != nil && !errors.Is(err, registry.ErrNotFound) { // it is new, and found at the next look
		return err
	}
	l.installer.Wake()
	return nil
}

// proxied is an error where a cluster is none that credentials are for.
func (l *Leader) proxied(ctx context.Context, name string) error {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return err
	}
	cluster, exists := snapshot.Cluster(name)
	if !exists {
		return &api.Hinted{Err: fmt.Errorf("cluster %q: %w", name, api.ErrNotFound), Hint: `Add it first: PUT /api/v1/clusters/NAME with {"via": "service-proxy"}.`,
			Command: "`accumulus cluster list` shows the clusters; `accumulus cluster add NAME --context CONTEXT` adds one."}
	}
	if cluster.Via != fleet.ViaServiceProxy {
		return &api.Hinted{Err: fmt.Errorf("cluster %s is reached by its url: %w", name, api.ErrConflict), Hint: "Credentials are for clusters with via: service-proxy; change that with `accumulus apply`."}
	}
	return nil
}

// proxiedClusters are the clusters that credentials are for.
func (l *Leader) proxiedClusters(ctx context.Context) ([]string, error) {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, cluster := range snapshot.Clusters() {
		if cluster.Via == fleet.ViaServiceProxy {
			names = append(names, cluster.Name)
		}
	}
	return names, nil
}

// tokenProblems are why the leader's token of a cluster will not do for long.
func (l *Leader) tokenProblems(cluster string) []status.Problem {
	state, failed := l.renewer.State(cluster)
	if !failed {
		return nil
	}
	ends := "ends"
	if !l.clock.Now().Before(state.Until) {
		ends = "ended"
	}
	problem := status.NewProblem(status.TokenNotRenewed, fmt.Sprintf("the leader's token %s at %s and is not renewed: %v", ends, state.Until.Format(time.RFC3339), state.Err))
	problem.Since = moment(state.Since)
	return []status.Problem{problem}
}

// DropCredentials forgets how a cluster is reached.
func (l *Leader) DropCredentials(ctx context.Context, name string) error {
	return l.keys.Remove(ctx, name)
}

// RotateToken replaces the token that a cluster's follower wants from the leader.
func (l *Leader) RotateToken(ctx context.Context, name string) error {
	if err := l.proxied(ctx, name); err != nil {
		return err
	}
	return toAPI(l.keys.RotateTokens(ctx, name, followers.Accepted))
}

// AddContext adds the cluster of a context of the leader's kubeconfig. Nothing is
// made in the cluster when its name is taken.
func (l *Leader) AddContext(ctx context.Context, name string, request api.ContextRequest) error {
	snapshot, err := l.registry.Fleet(ctx, l.clock.Now())
	if err != nil {
		return err
	}
	if _, exists := snapshot.Cluster(name); exists {
		return taken(name)
	}
	request.Spec.Via = fleet.ViaServiceProxy
	object := fleet.NewObject(name, request.Spec)
	if _, err := l.registry.Plan(ctx, []fleet.Object{object}); err != nil {
		return err
	}
	text, err := readKubeconfig(l.config.Access.Kubeconfig)
	if err != nil {
		return err
	}
	narrow, err := credentials.CheckContext(text, request.Context)
	if err != nil {
		return toAPI(fmt.Errorf("kubeconfig of the leader: %w", err))
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(narrow)
	if err != nil {
		return err
	}
	grant, err := access.Make(ctx, config, l.clock, access.Options{Leader: l.id, Install: request.Spec.Manage != fleet.ManageGitOps, Adopt: request.Adopt})
	if err != nil {
		return toAPI(fmt.Errorf("make the leader's account in %s: %w", name, err))
	}
	// The credentials first: whoever sees the cluster finds them.
	if err := l.keys.Put(ctx, name, credentials.Record{Kubeconfig: grant.Kubeconfig, ClusterID: grant.ClusterID}); err != nil {
		return toAPI(err)
	}
	return l.AddCluster(ctx, name, request.Spec)
}

// maxKubeconfig bounds the leader's own kubeconfig, in bytes.
const maxKubeconfig = 1 << 20

func readKubeconfig(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of the leader: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKubeconfig))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("kubeconfig of the leader: %w", err)
	}
	return text, nil
}

// toAPI gives the errors of access and credentials the API's own.
func toAPI(err error) error {
	var unknown *credentials.UnknownContextError
	var foreign *access.ForeignError
	var forbidden *access.PermissionError
	hint := func(kind error, hint string) error {
		return &api.Hinted{Err: fmt.Errorf("%w (%w)", err, kind), Hint: hint}
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return hint(api.ErrNotFound, "Name one of these with context=NAME, or mount another kubeconfig into the leader.")
	case errors.As(err, &foreign):
		return hint(api.ErrConflict, "Remove the cluster from that leader first, or take it over with adopt=true.")
	case errors.As(err, &forbidden):
		return hint(api.ErrInvalid, "Give the context's user that right, or have an administrator apply `accumulus cluster access NAME --print`.")
	case errors.Is(err, credentials.ErrOther):
		return hint(api.ErrConflict, "Is it the right context? A cluster that was made again is another one: remove the old one, whose history is kept, and add it under a new name.")
	case errors.Is(err, credentials.ErrRefused):
		return hint(api.ErrInvalid, "`accumulus cluster add NAME --context CONTEXT` makes a kubeconfig that the leader takes.")
	case errors.Is(err, credentials.ErrNone), errors.Is(err, credentials.ErrKey), errors.Is(err, credentials.ErrNoToken), errors.Is(err, registry.ErrChanged):
		return hint(api.ErrConflict, "See the message; `accumulus cluster status NAME` says how the cluster is.")
	}
	return err
}

// accessRefused says whether an error of a contact is that the leader's
// credentials of the cluster are missing or refused.
func accessRefused(err error) bool {
	var proxy *followers.ProxyError
	if errors.As(err, &proxy) {
		return proxy.Status == http.StatusUnauthorized || proxy.Status == http.StatusForbidden
	}
	return errors.Is(err, credentials.ErrNone) || errors.Is(err, credentials.ErrKey)
}
