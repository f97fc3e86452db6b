package helm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/client-go/rest"
)

// Errors.
var (
	ErrNotInstalled = errors.New("no such release")
	ErrForeign      = errors.New("belongs to somebody else")
	ErrExists       = errors.New("exists and belongs to no release")
	ErrBusy         = errors.New("another operation is in progress")
)

// Labels of a release's record.
const (
	LeaderLabel = "accumulus-leader-id"
	chartLabel  = "accumulus-chart-digest"
	valuesLabel = "accumulus-values-digest"
)

// Config of a Client.
type Config struct {
	REST      *rest.Config // of the cluster
	Namespace string       // of the release, its record and its objects; must exist
	Release   string
	Leader    string // id of this leader, a label's value; releases of others are foreign
	// Stale is the age from which a pending operation that nobody is known to
	// hold counts as dead; 0 is 10 min.
	Stale time.Duration
}

// Client acts on one release. It holds no connection: an operation makes its
// clients and drops them, for they cost some megabytes each.
type Client struct {
	config Config
	clock  clock.Clock
	log    *slog.Logger
	open   func(ctx context.Context, log action.DebugLog) (*action.Configuration, error)
}

// New is a client; it asks nothing yet.
func New(config Config, clk clock.Clock, log *slog.Logger) *Client {
	if config.Stale == 0 {
		config.Stale = 10 * time.Minute
	}
	c := &Client{config: config, clock: clk, log: log}
	c.open = func(ctx context.Context, debug action.DebugLog) (*action.Configuration, error) {
		cfg := new(action.Configuration)
		err := cfg.Init(newGetter(ctx, config.REST, config.Namespace), config.Namespace, "secrets", debug)
		return cfg, err
	}
	return c
}

// Release is what stands in the cluster.
type Release struct {
	Revision     int
	Status       string // as Helm names it: deployed, failed, pending-install …
	ChartVersion string
	ChartDigest  string // "" where it was not installed by a leader
	ValuesDigest string
	Leader       string // "" where it was not installed by a leader
	Changed      time.Time
	Description  string
}

func describe(r *release.Release) Release {
	d := Release{Revision: r.Version, ChartDigest: r.Labels[chartLabel], ValuesDigest: r.Labels[valuesLabel], Leader: r.Labels[LeaderLabel]}
	if r.Info != nil {
		d.Status, d.Description, d.Changed = r.Info.Status.String(), r.Info.Description, r.Info.LastDeployed.Time
	}
	if r.Chart != nil && r.Chart.Metadata != nil {
		d.ChartVersion = r.Chart.Metadata.Version
	}
	return d
}

// session is one operation.
type session struct {
	*Client
	cfg *action.Configuration

	mu     sync.Mutex
	causes []error // what Helm only logs
}

func (c *Client) session(ctx context.Context) (*session, error) {
	s := &session{Client: c}
	cfg, err := c.open(ctx, s.debug)
	if err != nil {
		return nil, fmt.Errorf("open release %s: %w", c.config.Release, err)
	}
	s.cfg = cfg
	return s, nil
}

// debug is Helm's log. Some errors reach nothing else: the reason why an object
// could not be deleted, and the types of those of an update.
func (s *session) debug(format string, args ...any) {
	s.log.Debug("helm", "release", s.config.Release, "text", fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, arg := range args {
		switch arg := arg.(type) {
		case []error:
			s.causes = append(s.causes, arg...)
		case error:
			s.causes = append(s.causes, arg)
		}
	}
}

// failure is an error of Helm with what it only logged.
type failure struct {
	text string
	errs []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.errs }

func (s *session) failed(what string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &failure{text: fmt.Sprintf("%s %s: %v", what, s.config.Release, err), errs: []error{err}}
	for _, cause := range s.causes {
		// What an update could not do is in its own text; a driver's "not found"
		// is an answer.
		if errors.Is(cause, driver.ErrReleaseNotFound) {
			continue
		}
		f.errs = append(f.errs, cause)
		if !strings.Contains(f.text, cause.Error()) {
			f.text += ": " + cause.Error()
		}
	}
	return f
}

// last is the newest record; nil where there is none.
func (s *session) last() (*release.Release, error) {
	r, err := s.cfg.Releases.Last(s.config.Release)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", s.config.Release, err)
	}
	if r.Info == nil {
		r.Info = &release.Info{Status: release.StatusUnknown}
	}
	return r, nil
}

// ForeignError is ErrForeign with whose it is.
type ForeignError struct {
	Object  string // "release accumulus-follower", or an object as ExistsError names it
	Release string // that owns it, as namespace/name; "" of a release
	Leader  string // that owns the release; "" where it was installed without one
}

func (e *ForeignError) Error() string {
	switch {
	case e.Release != "":
		return fmt.Sprintf("%s %s: the release %s", e.Object, ErrForeign, e.Release)
	case e.Leader != "":
		return fmt.Sprintf("%s %s: the leader %s", e.Object, ErrForeign, e.Leader)
	}
	return fmt.Sprintf("%s %s: it was installed by hand", e.Object, ErrForeign)
}

// Is makes it ErrForeign.
func (e *ForeignError) Is(target error) bool { return target == ErrForeign }

// owned says whether a release is this leader's; else it is a *ForeignError.
func (c *Client) owned(r *release.Release) error {
	if leader := r.Labels[LeaderLabel]; leader != c.config.Leader {
		return &ForeignError{Object: "release " + c.config.Release, Leader: leader}
	}
	return nil
}

// Status is the release as it stands, whoever it belongs to. Errors:
// ErrNotInstalled, and the API's.
func (c *Client) Status(ctx context.Context) (Release, error) {
	s, err := c.session(ctx)
	if err != nil {
		return Release{}, err
	}
	last, err := s.last()
	if err != nil {
		return Release{}, err
	}
	if last == nil {
		return Release{}, fmt.Errorf("release %s: %w", c.config.Release, ErrNotInstalled)
	}
	return describe(last), nil
}
