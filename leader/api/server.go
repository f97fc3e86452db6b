package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/reread"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says where the API listens and whom it lets in.
type Config struct {
	Listen   string // host:port; port 0 takes a free one
	TLSCert  string // PEM files; both or none
	TLSKey   string
	Insecure bool // allow plain HTTP on an address that others can reach
	Tokens   Tokens
	// TokenFiles are where the Tokens stand: they are read again when they change.
	// Of "" the token stays.
	TokenFiles TokenFiles
	Limits     identity.Limits // where Deps.Access says nothing
	// Demo lets a request from loopback that carries no token be a viewer.
	Demo    bool
	Version string
}

// Validate says all that is wrong, in one error.
func (c Config) Validate() error {
	var wrong []error
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		wrong = append(wrong, fmt.Errorf("listen %q: want host:port, for example 127.0.0.1:8080", c.Listen))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		wrong = append(wrong, errors.New("TLS needs both a certificate and its key"))
	}
	if err == nil && !isLoopback(host) && c.TLSCert == "" && !c.Insecure {
		wrong = append(wrong, fmt.Errorf("listen %q can be reached from outside: give a TLS certificate and key, listen on 127.0.0.1, or allow plain HTTP explicitly", c.Listen))
	}
	if c.Tokens.Operator == "" {
		wrong = append(wrong, errors.New("no operator token"))
	}
	if !c.Tokens.distinct() {
		wrong = append(wrong, errSameToken)
	}
	if c.Demo && err == nil && !isLoopback(host) {
		wrong = append(wrong, fmt.Errorf("listen %q: the demo lets a viewer in without a token and stays on 127.0.0.1", c.Listen))
	}
	return errors.Join(wrong...)
}

// Answers are what leader/query gives: *query.Engine.
type Answers interface {
	Usage(ctx context.Context, request query.Request) (query.Answer, error)
	Energy(ctx context.Context, request query.Request) (query.EnergyAnswer, error)
	Heat(ctx context.Context, request query.Request, days bool) (query.HeatAnswer, error)
	Carbon(ctx context.Context, request query.Request, days bool) (query.CarbonAnswer, error)
	Boxes(ctx context.Context, window string) (query.BoxAnswer, error)
	Completeness(ctx context.Context, cluster, window string) (query.Completeness, error)
	Export(ctx context.Context, request query.ExportRequest) (query.Export, error)
}

// Overviewer tells how the leader and its clusters are.
type Overviewer interface {
	Overview(ctx context.Context) (status.Overview, error)
}

// Loops are the leader's pull, process, push and meter loops.
type Loops interface {
	StartLoops(ctx context.Context) error // running already is no error
	StopLoops(ctx context.Context) error  // returns when the running tick is done
}

// Clusters are added and removed. AddCluster may return ErrConflict, ErrInvalid.
// RemoveCluster pulls to the last settled window first, uninstalls the follower
// where the leader has installed it, and keeps the history; with force also where
// that fails. ErrNotFound, ErrConflict, ErrNotReady.
type Clusters interface {
	AddCluster(ctx context.Context, name string, spec fleet.Cluster) error
	RemoveCluster(ctx context.Context, name string, force bool) error
}

// Eraser deletes what was metered of a cluster, or of all where cluster is "".
type Eraser interface {
	Clear(ctx context.Context, cluster string) error
}

// Objects are the fleet's objects: *registry.Registry.
type Objects interface {
	Objects(ctx context.Context) ([]fleet.Object, error)
	PlanChange(ctx context.Context, objects []fleet.Object, change registry.Change) (registry.Applied, error)
	ApplyChange(ctx context.Context, objects []fleet.Object, change registry.Change) (registry.Applied, error)
}

// Links looks at the files that a cluster names: *followers.Pool.
type Links interface {
	Check(cluster fleet.Cluster) error
}

// Health answers the probes.
type Health interface {
	Live() error  // a loop hangs
	Ready() error // the first tick is not done, or a cluster has no rows yet
}

// Deps are the parts that the API stands on.
type Deps struct {
	Answers  Answers
	Overview Overviewer
	Loops    Loops
	Clusters Clusters
	Eraser   Eraser
	Objects  Objects
	Links    Links
	Meters   Meters
	Health   Health
	Archive  Archive
	Kept     Kept
	Replayer Replayer
	Auditor  Auditor
	Seeds    Seeds
	// Credentials of clusters that are reached through their API server.
	Credentials Credentials
	Contexts    Contexts // nil where the leader has no kubeconfig
	// Installations of followers, and upgrades of many.
	Installations Installations
	Models        Models // of power
	Upgrades      Upgrades
	Heat          HeatReceiver
	Intensities   Intensities
	Exporter      Exporter
	Events        Events
	RunsReach     time.Duration // how long after a run's end its report is made
	Prices        Prices
	Ahead         Ahead
	Budgets       Budgets
	Books         Books
	Allocations   Allocations
	// Access is read for each request; nil is Config.Limits and no proxies.
	Access Access
	// Callers are known by more than the token files; nil is nobody.
	Callers Callers
	Tokens  NamedTokens
	Log     ChangeLog
	Metrics prometheus.Gatherer
	Clock   clock.Clock
}

// Server is the API.
type Server struct {
	config   Config
	deps     Deps
	log      *slog.Logger
	door     *door
	page     *page
	limits   *limits
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	handler  http.Handler
	routes   []Route
	spec     []byte // the OpenAPI document
	docs     *docsPage
}

// New builds the API; it does not listen yet. Errors: those of
// Config.Validate, or metrics that are registered already.
func New(config Config, deps Deps, log *slog.Logger, registerer prometheus.Registerer) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	page, err := newPage(config.Version, config.Demo)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, deps: deps, log: log, page: page, door: newDoor(config, log), limits: newLimits(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_api_requests_total",
			Help: "Requests by route, method and status."}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "accumulus_api_request_duration_seconds",
			Help: "Time to answer, by route.", Buckets: prometheus.ExponentialBuckets(0.002, 4, 7)}, []string{"route"}),
	}
	for _, collector := range []prometheus.Collector{s.requests, s.duration, s.limits.refused} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics of the API: %w", err)
		}
	}
	s.routes = s.table()
	if err := s.makeDocs(); err != nil {
		return nil, err
	}
	s.handler = s.router()
	return s, nil
}

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.handler }

// Routes are all routes.
func (s *Server) Routes() []Route { return s.routes }

// Listen opens the configured address, for Serve.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.config.Listen, err)
	}
	return listener, nil
}

// Serve answers on the listener, with the certificate as its files are at each
// handshake, until the context ends, then lets running
// requests finish for at most ten seconds. It closes the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	var encrypted *tls.Config
	if s.config.TLSCert != "" {
		pair, err := reread.OpenKeyPair(s.config.TLSCert, s.config.TLSKey, s.log)
		if err != nil {
			return errors.Join(fmt.Errorf("serve the API: %w", err), listener.Close())
		}
		encrypted = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate}
	}
	server := &http.Server{Handler: s.handler, TLSConfig: encrypted, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	served := make(chan error, 1)
	go func() {
		if encrypted != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := server.Shutdown(ending)
	<-served
	if err != nil {
		return fmt.Errorf("stop the API: %w", err)
	}
	return nil
}

// router is made from the table of routes.
func (s *Server) router() http.Handler {
	router := mux.NewRouter()
	allowed := make(map[string][]string)
	changing := make(map[string]bool)
	for _, route := range s.routes {
		router.Handle(route.Path, s.guard(route)).Methods(route.Method)
		allowed[route.Path] = append(allowed[route.Path], route.Method)
		changing[route.Path] = changing[route.Path] || route.Changes()
	}
	for _, route := range s.routes {
		if methods, first := allowed[route.Path]; first {
			router.Handle(route.Path, s.wrongMethod(route, methods, changing[route.Path]))
			delete(allowed, route.Path)
		}
	}
	router.NotFoundHandler = s.guard(Route{Path: "unknown", Role: Viewer | Tenant, handle: s.noRoute})
	router.SkipClean(true) // nobody is sent elsewhere: a path that would be is refused
	refused := s.guard(Route{Path: "unknown", Role: Viewer | Tenant, handle: s.strangePath})
	return secure(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strange(r.URL) {
			refused.ServeHTTP(w, r)
			return
		}
		router.ServeHTTP(w, r)
	}))
}

// strange says of a path that it would be another one when it is read: it has a slash
// inside a name, an empty name, or one that is "." or "..".
func strange(u *url.URL) bool {
	if strings.Contains(strings.ToUpper(u.EscapedPath()), "%2F") {
		return true
	}
	clean := path.Clean(u.Path)
	return u.Path != "" && u.Path != clean && u.Path != clean+"/"
}
