package installer

import (
	"context"
	"fmt"

	"github.com/accumulus-metering/accumulus/leader/helm"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// releases is the follower's release in one cluster: *helm.Client.
type releases interface {
	Status(ctx context.Context) (helm.Release, error)
	Ensure(ctx context.Context, chart helm.Chart, values helm.Values, options helm.Options) (helm.Result, error)
	Remove(ctx context.Context, options helm.Options) error
}

// access is what a visit needs of a cluster.
type access struct {
	kube     kubernetes.Interface
	releases releases
	probe    func(ctx context.Context) error // the API server answers, and knows us
}

type opener func(config *rest.Config, namespace string) (access, error)

// Requests per second, and at once, to one cluster's API server.
const (
	requestsPerSecond = 50
	requestsAtOnce    = 100
)

// connect makes the clients of a visit; none outlives it.
func (i *Installer) connect(config *rest.Config, namespace string) (access, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst, config.WarningHandler = requestsPerSecond, requestsAtOnce, rest.NoWarnings{}
	short := rest.CopyConfig(config)
	short.Timeout = i.config.Connect
	probe, err := discovery.NewDiscoveryClientForConfig(short)
	if err != nil {
		return access{}, fmt.Errorf("make client: %w", err)
	}
	config.Timeout = i.config.Timeout // of a request; nothing here watches
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return access{}, fmt.Errorf("make client: %w", err)
	}
	return access{
		kube: client,
		releases: helm.New(helm.Config{REST: config, Namespace: namespace, Release: Release, Leader: i.config.Leader},
			i.clock, i.log),
		probe: func(ctx context.Context) error {
			return probe.RESTClient().Get().AbsPath("/version").Do(ctx).Error()
		},
	}, nil
}

// reach opens a cluster and sees that its API server answers.
func (v *visit) reach(ctx context.Context) (access, error) {
	if err := v.step(ctx, stepCredentials); err != nil {
		return access{}, err
	}
	config, err := v.parts.Credentials.RESTConfig(ctx, v.one.Cluster)
	if err != nil {
		return access{}, &problem{class: classCredentials, err: fmt.Errorf("credentials: %w", err)}
	}
	if v.namespace, err = v.parts.Credentials.Namespace(ctx, v.one.Cluster); err != nil {
		return access{}, &problem{class: classCredentials, err: fmt.Errorf("credentials: %w", err)}
	}
	cluster, err := v.open(config, v.namespace)
	if err != nil {
		return access{}, &problem{class: classCredentials, err: err}
	}
	if err := v.step(ctx, stepAccess); err != nil {
		return access{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, v.config.Connect)
	defer cancel()
	if err := cluster.probe(ctx); err != nil {
		return access{}, fmt.Errorf("ask API server: %w", err)
	}
	return cluster, nil
}
