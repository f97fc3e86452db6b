package credentials

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Limits of the requests to one API server: an installation makes about forty,
// and client-go's own limits (5 a second) would make it wait.
const (
	qps   = 50
	burst = 100
)

// How long a cluster's API server may take to take a connection. What comes
// after has no limit of its own: watches and long queries go over it too.
const (
	dialTimeout = 10 * time.Second
	tlsTimeout  = 10 * time.Second
)

// idleConnections is how many are kept to an API server that speaks HTTP/1.
const idleConnections = 8

// Link is how a cluster's follower is reached through its API server.
type Link struct {
	// Transport carries requests to the API server, with its credentials.
	Transport http.RoundTripper
	Base      *url.URL // of the follower behind the service proxy
	Token     string   // leader's, of the follower
}

// servicePath is where the API server's proxy passes requests on to the
// follower: scheme, name and port's name of its Service.
func servicePath(namespace string) string {
	return "/api/v1/namespaces/" + namespace + "/services/https:accumulus-follower:https/proxy"
}

// RESTConfig is the configuration of clients of a cluster's API server. All of
// them, and the link to the follower, share connections. ErrNone, ErrKey.
func (s *Store) RESTConfig(ctx context.Context, cluster string) (*rest.Config, error) {
	c, err := s.connect(ctx, cluster)
	if err != nil {
		return nil, err
	}
	return rest.CopyConfig(c.config), nil
}

// Namespace is where the follower stands in a cluster. ErrNone, ErrKey.
func (s *Store) Namespace(ctx context.Context, cluster string) (string, error) {
	c, err := s.connect(ctx, cluster)
	if err != nil {
		return "", err
	}
	return c.namespace, nil
}

// Link is how a cluster's follower is reached, with the credentials as they are
// now. A token that is not known yet is read from the cluster. ErrNone, ErrKey,
// ErrNoToken.
func (s *Store) Link(ctx context.Context, cluster string) (Link, error) {
	c, err := s.connect(ctx, cluster)
	if err != nil {
		return Link{}, err
	}
	if len(c.record.Tokens) == 0 {
		if err := s.ReadTokens(ctx, cluster); err != nil {
			return Link{}, err
		}
		if c, err = s.connect(ctx, cluster); err != nil {
			return Link{}, err
		}
	}
	return c.to(c.record.Tokens)
}

func (c *connection) to(tokens []string) (Link, error) {
	base, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return Link{}, fmt.Errorf("server of the kubeconfig: %w", err)
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + servicePath(c.namespace)
	link := Link{Transport: c.link, Base: base}
	if len(tokens) > 0 {
		link.Token = tokens[0]
	}
	return link, nil
}

// connect is the opened record of a cluster, kept until another one takes its
// place.
func (s *Store) connect(ctx context.Context, cluster string) (*connection, error) {
	s.mu.Lock()
	held, generation := s.known[cluster], s.generation
	s.mu.Unlock()
	if held != nil {
		return held, nil
	}
	record, _, err := s.Get(ctx, cluster)
	if err != nil {
		return nil, err
	}
	made, err := newConnection(record)
	if err != nil {
		return nil, fmt.Errorf("credentials of %s: %w", cluster, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch held := s.known[cluster]; {
	case s.generation != generation: // it may be of a record that was replaced meanwhile
		return made, nil
	case held != nil: // somebody was faster
		return held, nil
	}
	s.known[cluster] = made
	return made, nil
}

func newConnection(record Record) (*connection, error) {
	c := &connection{record: record, namespace: record.Namespace}
	var err error
	if record.InCluster {
		c.config, err = rest.InClusterConfig()
	} else {
		err = c.load(record.Kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	if !record.InCluster { // the kubelet renews that one
		c.life, c.ends = lifeOf(c.config.BearerToken)
	}
	c.namespace = cmp.Or(c.namespace, DefaultNamespace)
	c.config.QPS, c.config.Burst, c.config.UserAgent = qps, burst, "accumulus-leader"
	return c, c.open()
}

func (c *connection) load(kubeconfig []byte) error {
	loaded, err := clientcmd.NewClientConfigFromBytes(kubeconfig)
	if err != nil {
		return err
	}
	if c.namespace == "" {
		raw, err := loaded.RawConfig()
		if err != nil {
			return err
		}
		if context := raw.Contexts[raw.CurrentContext]; context != nil {
			c.namespace = context.Namespace
		}
	}
	c.config, err = loaded.ClientConfig()
	return err
}

// open makes the transport. Were each client to make its own dialer, client-go
// would find none of its transports again and keep them all.
func (c *connection) open() error {
	tlsConfig, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return err
	}
	c.transport = utilnet.SetTransportDefaults(&http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: tlsTimeout,
		TLSClientConfig:     tlsConfig,
		MaxIdleConnsPerHost: idleConnections,
		DisableCompression:  c.config.DisableCompression,
	})
	c.config.TLSClientConfig = rest.TLSClientConfig{}
	c.config.Transport = c.transport
	c.link, err = rest.HTTPWrappersForConfig(c.config, c.transport)
	return err
}
