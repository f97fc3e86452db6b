package simulator

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"k8s.io/client-go/rest"
)

// Config of a Server.
type Config struct {
	Fleet Fleet
	Clock clock.Clock // the fleet's time, and what the clock endpoint shows
	// MeterPort is the port of the first electricity meter, the others follow
	// in the fleet's order; 0: any free ports.
	MeterPort int
}

// Server serves a fleet on 127.0.0.1.
type Server struct {
	*Simulator
	clock     clock.Clock
	authority *authority
	cancel    context.CancelFunc
	running   sync.WaitGroup
	servers   []interface{ Close() error }
	apis      map[string]*apiServer
	kubelets  map[[2]string]*kubelet
	meters    map[[2]string]*meterServer
	clockURL  string
}

// Start listens on free ports of 127.0.0.1: an API server for each cluster, a
// kubelet for each node, each meter, and the clock. It serves until Close or
// the end of ctx.
func Start(ctx context.Context, config Config) (*Server, error) {
	simulator, err := New(config.Fleet)
	if err != nil {
		return nil, err
	}
	s := &Server{Simulator: simulator, clock: config.Clock, apis: make(map[string]*apiServer),
		kubelets: make(map[[2]string]*kubelet), meters: make(map[[2]string]*meterServer)}
	if s.authority, err = newAuthority(); err != nil {
		return nil, fmt.Errorf("start simulator: %w", err)
	}
	ctx, s.cancel = context.WithCancel(ctx)
	if err := s.start(ctx, config.MeterPort); err != nil {
		return nil, errors.Join(fmt.Errorf("start simulator: %w", err), s.Close())
	}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		<-ctx.Done()
		for _, server := range s.servers {
			_ = server.Close() // its listener alone could fail, and it goes with the process
		}
	}()
	return s, nil
}

func (s *Server) start(ctx context.Context, meterPort int) error {
	for c := range s.fleet.Clusters {
		cluster := &s.fleet.Clusters[c]
		api := &apiServer{sim: s.Simulator, clock: s.clock, cluster: cluster.Name, ports: make(map[string]int),
			tokens: tokens{good: rand.Text(), denied: rand.Text()}}
		for n := range cluster.Nodes {
			node := &kubelet{sim: s.Simulator, clock: s.clock, cluster: cluster.Name, node: &cluster.Nodes[n], tokens: &api.tokens}
			address, err := s.serve(ctx, 0, node, true)
			if err != nil {
				return err
			}
			node.url, api.ports[node.node.Name] = "https://"+address.String(), address.Port
			s.kubelets[[2]string{cluster.Name, node.node.Name}] = node
		}
		address, err := s.serve(ctx, 0, api, true)
		if err != nil {
			return err
		}
		api.url = "https://" + address.String()
		s.apis[cluster.Name] = api
	}
	for b := range s.fleet.Boxes {
		box := &s.fleet.Boxes[b]
		for _, m := range box.Meters {
			meter := &meterServer{sim: s.Simulator, clock: s.clock, box: box, meter: m}
			serve, scheme := s.serve, "http://"
			if m.Kind == SDM120 {
				serve, scheme = s.serveModbus(meter), "tcp://"
			}
			address, err := serve(ctx, meterPort, meter, false)
			if err != nil {
				return err
			}
			if meterPort > 0 {
				meterPort++
			}
			meter.url = scheme + address.String()
			s.meters[[2]string{box.Name, m.Name}] = meter
		}
	}
	address, err := s.serve(ctx, 0, clock.Handler(s.clock), false)
	s.clockURL = "http://" + address.String()
	return err
}

// serve starts one listener.
func (s *Server) serve(ctx context.Context, port int, handler http.Handler, secure bool) (net.TCPAddr, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return net.TCPAddr{}, err
	}
	server := &http.Server{Handler: handler, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: log.New(io.Discard, "", 0), // what a client broke off is no news here
	}
	if secure {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{s.authority.certificate}, MinVersion: tls.VersionTLS12}
	}
	s.servers = append(s.servers, server)
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		if secure {
			_ = server.ServeTLS(listener, "", "") // ends by Close alone
		} else {
			_ = server.Serve(listener)
		}
	}()
	return *listener.Addr().(*net.TCPAddr), nil
}

// Close ends every connection and waits for the listeners.
func (s *Server) Close() error {
	s.cancel()
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	s.running.Wait()
	return errors.Join(errs...)
}

// Access is how a client reaches a cluster's API server and kubelets.
type Access struct {
	URL    string // of the API server
	Token  string // may read everything here
	Denied string // is known, and may read nothing: 403
	CA     []byte // PEM, of API server and kubelets
}

// Access is the way to a cluster.
func (s *Server) Access(cluster string) Access {
	api := s.api(cluster)
	return Access{URL: api.url, Token: api.tokens.good, Denied: api.tokens.denied, CA: s.authority.pem}
}

// WriteFiles writes the cluster's CA and token into dir, as a pod finds them
// mounted, and returns their paths.
func (s *Server) WriteFiles(cluster, dir string) (caFile, tokenFile string, err error) {
	access := s.Access(cluster)
	caFile, tokenFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	if err := os.WriteFile(caFile, access.CA, 0o644); err != nil {
		return "", "", fmt.Errorf("write CA: %w", err)
	}
	if err := os.WriteFile(tokenFile, []byte(access.Token), 0o600); err != nil {
		return "", "", fmt.Errorf("write token: %w", err)
	}
	return caFile, tokenFile, nil
}

// RESTConfig is Access for client-go.
func (s *Server) RESTConfig(cluster string) *rest.Config {
	access := s.Access(cluster)
	return &rest.Config{Host: access.URL, BearerToken: access.Token, TLSClientConfig: rest.TLSClientConfig{CAData: access.CA}}
}

// KubeletURL is where a node's kubelet listens; the Node object says the same.
func (s *Server) KubeletURL(cluster, node string) string { return s.kubelet(cluster, node).url }

// MeterURL is the base URL of a box's meter.
func (s *Server) MeterURL(box, meter string) string { return s.meter(box, meter).url }

// ClockURL is the base URL for clock.NewRemote.
func (s *Server) ClockURL() string { return s.clockURL }

// SetKubeletFault replaces the fault of a node's kubelet.
func (s *Server) SetKubeletFault(cluster, node string, fault Fault) {
	s.kubelet(cluster, node).fault.set(fault)
}

// SetAPIFault replaces the fault of a cluster's API server and breaks its
// watches off.
func (s *Server) SetAPIFault(cluster string, fault Fault) { s.api(cluster).fault.set(fault) }

// SetMeterFault replaces the fault of a meter.
func (s *Server) SetMeterFault(box, meter string, fault Fault) { s.meter(box, meter).fault.set(fault) }

func (s *Server) api(cluster string) *apiServer {
	s.cluster(cluster)
	return s.apis[cluster]
}

func (s *Server) kubelet(cluster, node string) *kubelet {
	s.node(cluster, node)
	return s.kubelets[[2]string{cluster, node}]
}

func (s *Server) meter(box, name string) *meterServer {
	if meter := s.meters[[2]string{box, name}]; meter != nil {
		return meter
	}
	panic("simulator: box " + box + " has no meter " + name)
}
