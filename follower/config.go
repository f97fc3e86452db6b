package follower

import (
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/tagger"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Kinds of sources.
const (
	SourceHost    = "host"    // this machine's control groups
	SourceKubelet = "kubelet" // the kubelets of a Kubernetes cluster
)

// Config is what a follower is told. Validate lists all that is wrong.
type Config struct {
	Cluster string // immutable id; a tag of every row
	Dir     string // everything that is kept: store, seed's database, tokens

	Source  string // SourceHost or SourceKubelet; "" when Deps gives one
	Node    string // host source: name of the machine in the rows
	API     watch.ClientConfig
	Kubelet kubelet.Config
	Labels  []string // globs of the pods' labels that are kept; nil = watch.DefaultLabels
	// Annotations are globs of the pods' annotations that are kept; nil = none.
	Annotations []string

	SharedRoot bool // nodes with one boot id read their host's root group, which is counted once

	JobGroups    []string // labels whose value groups Jobs into a workload; nil = watch.DefaultJobGroups
	Namespace    string   // of the metering itself: its objects are marked; "" = unknown
	PseudonymKey string   // file of the key by which names are replaced; "" = they are not

	SeedDir string // directory of the seed; "" = none
	// SeedPublicKey is the leader's, base64: only what it signed is taken. "" takes
	// seeds that nobody signed.
	SeedPublicKey string

	Interval       time.Duration // between two reads of the source; a slot of wall-clock time
	SettleDeadline time.Duration // after its end a window settles with what is there
	FactsDeadline  time.Duration // after its end a row's missing facts settle as "unknown"
	// From is the first window of the live lane: a minute. The zero time is the
	// minute of the first reading. It counts at the first start only.
	From time.Time

	// KeepMinutes is how long minute rows stay; they go only when a leader has pulled
	// them, where there is one. 0 is DefaultKeepMinutes.
	KeepMinutes time.Duration
	// DiskBudget bounds, in bytes, what the embedded store takes: beyond it minutes go
	// before their time, those that were not pulled last, and on record. 0 is no bound.
	DiskBudget int64

	InfluxURL       string // external InfluxDB 1.x; "" = embedded in Dir
	InfluxTokenFile string // its bearer token; read again when it changes

	Listen  string // host:port that Run serves; "" = nothing, the owner serves Handler
	TLSCert string // PEM files; both or none
	TLSKey  string
	// TLSSelfSigned makes a certificate in memory, for TLSNames and loopback.
	TLSSelfSigned bool
	TLSNames      []string // DNS names and IP addresses

	Insecure    bool   // serve an address beyond loopback without TLS
	LeaderToken string // file of the leader's token; "" = Dir/leader.token, made when absent
	ViewerToken string // file of the viewer's token; "" = Dir/viewer.token, made when absent

	// MemoryTarget, in bytes, makes the collector give CPU for memory above it;
	// 0 leaves the process as it is. See Frugal.
	MemoryTarget int64

	// Reviews lets in who the cluster knows, with what he may see in it: the
	// follower asks the API server for TokenReviews and SubjectAccessReviews.
	Reviews         bool
	ReviewAudiences []string // of the tokens; nil = the API server's own
}

// Defaults of the settings.
const (
	DefaultInterval       = 15 * time.Second
	DefaultSettleDeadline = schema.SettleDeadline
	DefaultFactsDeadline  = 10 * time.Minute
	DefaultListen         = "127.0.0.1:8081"
	HostCluster           = "local" // cluster of the host source
)

// Validate lists all that is wrong, each with the setting's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Cluster == "" {
		wrong("cluster: a name is needed")
	}
	if c.Dir == "" {
		wrong("data: a directory is needed")
	}
	switch c.Source {
	case "":
	case SourceHost:
		if c.Node == "" {
			wrong("node: the host source needs a name for the machine")
		}
		if c.PseudonymKey != "" {
			wrong("pseudonym-key-file: only the kubelet source can replace names")
		}
		if c.SharedRoot {
			wrong("shared-root: the host source reads one machine's root group, and once; leave it out")
		}
	case SourceKubelet:
		if c.API.URL != "" && c.API.Kubeconfig != "" {
			wrong("api-server and kubeconfig: give one of them")
		}
	default:
		wrong("source: %q is neither %s nor %s", c.Source, SourceHost, SourceKubelet)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"scrape-interval", c.Interval}, {"settle-deadline", c.SettleDeadline}, {"facts-deadline", c.FactsDeadline}} {
		if d.value <= 0 {
			wrong("%s: %s is not positive", d.name, d.value)
		}
	}
	if c.Interval > 0 && (c.Interval < time.Second || c.Interval > schema.Minute) {
		wrong("scrape-interval: %s is not between 1s and 1m", c.Interval)
	}
	if c.KeepMinutes != 0 && c.KeepMinutes < leastMinutes {
		wrong("keep-minutes: %s is less than %s", c.KeepMinutes, leastMinutes)
	}
	if c.DiskBudget < 0 {
		wrong("disk-budget: %d is negative", c.DiskBudget)
	}
	if c.SeedPublicKey != "" {
		if _, err := tagger.ParsePublicKey(c.SeedPublicKey); err != nil {
			wrong("seed-public-key: %w", err)
		}
		if c.SeedDir == "" {
			wrong("seed-public-key: without seed there is nothing to verify")
		}
	}
	if c.Reviews && c.Source == SourceHost {
		wrong("reviews: the host source has no cluster that could review callers")
	}
	if len(c.ReviewAudiences) > 0 && !c.Reviews {
		wrong("review-audience: it is of reviews, which are off")
	}
	if !c.From.Equal(c.From.Truncate(schema.Minute)) {
		wrong("from: %s is no whole minute", c.From.Format(time.RFC3339Nano))
	}
	return errors.Join(append(errs, c.validateListen()...)...)
}
