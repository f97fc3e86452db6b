package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// ClientConfig is where the API server is. With neither URL nor Kubeconfig it
// is the one of the cluster that the process runs in.
type ClientConfig struct {
	URL        string // https://HOST:PORT
	CAFile     string // PEM; with URL
	TokenFile  string // bearer token, read again when it changes; with URL
	Kubeconfig string // path
	Rate       int    // requests in a second, and twice as many at once; 0 = 20
}

// Client asks the API server.
type Client struct {
	kubernetes.Interface
	clock clock.Clock

	mu     sync.Mutex
	server time.Time
	local  time.Time
}

// NewClient makes a client; it reads the configuration's files and sends no
// request. Objects travel as JSON.
func NewClient(config ClientConfig, clk clock.Clock) (*Client, error) {
	options, err := restConfig(config)
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("configure API server: the follower does not run in a cluster: give --kubeconfig, or --api-server with --token-file and --ca-file")
	}
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("configure API server: kubeconfig %s has no current-context, or one that names a cluster that is not there: choose one with `kubectl config use-context`", config.Kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("configure API server: %w", err)
	}
	client := &Client{clock: clk}
	options.ContentType = "application/json"
	options.AcceptContentTypes = "application/json"
	options.UserAgent = "accumulus-follower"
	rate := cmp.Or(config.Rate, 20)
	options.QPS, options.Burst = float32(rate), 2*rate
	options.Wrap(func(next http.RoundTripper) http.RoundTripper { return dates{client, next} })
	client.Interface, err = kubernetes.NewForConfig(options)
	if err != nil {
		return nil, fmt.Errorf("configure API server: %w", err)
	}
	return client, nil
}

func restConfig(config ClientConfig) (*rest.Config, error) {
	switch {
	case config.URL != "" && config.Kubeconfig != "":
		return nil, fmt.Errorf("both a URL and a kubeconfig are given")
	case config.URL != "":
		return &rest.Config{Host: config.URL, BearerTokenFile: config.TokenFile, TLSClientConfig: rest.TLSClientConfig{CAFile: config.CAFile}}, nil
	case config.Kubeconfig != "":
		return clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	}
	return rest.InClusterConfig()
}

// Offset asks the API server for the time: its Date less the local clock, to
// the second that Date shows.
func (c *Client) Offset(ctx context.Context) (time.Duration, error) {
	if err := c.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return 0, fmt.Errorf("ask API server for the time: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server.IsZero() {
		return 0, fmt.Errorf("ask API server for the time: no Date in its answer")
	}
	return c.server.Sub(c.local), nil
}

// dates notes the Date of every answer.
type dates struct {
	client *Client
	next   http.RoundTripper
}

// RoundTrip passes the request on.
func (d dates) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		d.client.mu.Lock()
		d.client.server, d.client.local = date, d.client.clock.Now()
		d.client.mu.Unlock()
	}
	return response, nil
}
