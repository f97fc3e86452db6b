package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/follower"
	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// agent is one follower with its port.
type agent struct {
	cluster  string
	dir      string
	log      *slog.Logger
	follower *follower.Follower
	listener net.Listener
}

func (d *Demo) makeAgents(ctx context.Context) error {
	for _, cluster := range d.simulated.Fleet().Clusters {
		config, err := d.edgeConfig(cluster.Name)
		if err != nil {
			return err
		}
		if err := d.makeAgent(ctx, config); err != nil {
			return err
		}
	}
	if !d.config.Host {
		return nil
	}
	config := d.baseConfig(hostCluster)
	config.Source, config.Node = follower.SourceHost, hostName()
	return d.makeAgent(ctx, config)
}

func (d *Demo) baseConfig(cluster string) follower.Config {
	dir := filepath.Join(d.config.Dir, "follower-"+cluster)
	return follower.Config{Cluster: cluster, Dir: dir, SeedDir: filepath.Join(dir, "seed"), Interval: d.config.Interval,
		SettleDeadline: follower.DefaultSettleDeadline, FactsDeadline: follower.DefaultFactsDeadline, From: d.state.Live}
}

// edgeConfig is that of a simulated cluster: its API server and kubelets are
// reached as a pod reaches them, with a token and a CA in files.
func (d *Demo) edgeConfig(cluster string) (follower.Config, error) {
	config := d.baseConfig(cluster)
	access := filepath.Join(config.Dir, "serviceaccount")
	if err := os.MkdirAll(access, 0o700); err != nil {
		return config, fmt.Errorf("make service account of %s: %w", cluster, err)
	}
	ca, token, err := d.simulated.WriteFiles(cluster, access)
	if err != nil {
		return config, err
	}
	config.Source = follower.SourceKubelet
	config.API = watch.ClientConfig{URL: d.simulated.Access(cluster).URL, TokenFile: token, CAFile: ca}
	config.Kubelet = kubelet.Config{TokenFile: token, CAFile: ca}
	return config, nil
}

func (d *Demo) makeAgent(ctx context.Context, config follower.Config) error {
	log := d.log.With("role", "follower", "cluster", config.Cluster)
	made, err := follower.New(config, follower.Deps{Clock: d.clock, Log: log, Registry: prometheus.NewRegistry()})
	if err != nil {
		return fmt.Errorf("make follower of %s: %w", config.Cluster, err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the follower of %s: %w", config.Cluster, err)
	}
	d.agents = append(d.agents, &agent{cluster: config.Cluster, dir: config.Dir, log: log, follower: made, listener: listener})
	return nil
}

func (a *agent) seedDir() string { return filepath.Join(a.dir, "seed") }

func (a *agent) endpoint() endpoint {
	return endpoint{url: "http://" + a.listener.Addr().String(), tokenFile: filepath.Join(a.dir, "leader.token")}
}

// run serves the follower's port and runs it until ctx ends.
func (a *agent) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	server := &http.Server{Handler: a.follower.Handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	group.Go(func() error {
		if err := server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the follower of %s: %w", a.cluster, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	group.Go(func() error { return a.follower.Run(ctx) })
	return group.Wait()
}

func (a *agent) close() error {
	if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
