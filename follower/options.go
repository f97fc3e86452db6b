package follower

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/accumulus-metering/accumulus/follower/kubelet"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Options are a follower's settings as a person gives them: flags, which
// package settings also fills from the environment and a file. NewOptions has
// the defaults; Complete makes a Config of them.
type Options struct {
	Cluster, Data, Source, Node string

	Kubeconfig, APIServer, CAFile, TokenFile string
	KubeletCAFile, KubeletTokenFile          string
	KubeletInsecure                          bool
	Labels, Annotations, JobGroups           []string
	Namespace, PseudonymKeyFile              string

	Seed, SeedPublicKey string

	ScrapeInterval, SettleDeadline, FactsDeadline time.Duration

	KeepMinutes time.Duration
	DiskBudget  string // a quantity such as 8Gi; "" = none

	InfluxURL, InfluxTokenFile string

	SharedRoot bool

	Listen, TLSCert, TLSKey          string
	TLSSelfSigned                    bool
	TLSNames                         []string
	Insecure                         bool
	LeaderTokenFile, ViewerTokenFile string

	Reviews         bool
	ReviewAudiences []string
}

// serviceAccount is where a pod finds its credentials.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// NewOptions are the defaults. Node is this machine's name in the host source.
func NewOptions(node string) *Options {
	return &Options{Data: "./accumulus-data", Source: SourceHost, Node: node, Labels: watch.DefaultLabels, JobGroups: watch.DefaultJobGroups,
		ScrapeInterval: DefaultInterval, SettleDeadline: DefaultSettleDeadline, FactsDeadline: DefaultFactsDeadline,
		KeepMinutes: DefaultKeepMinutes, Listen: DefaultListen}
}

// BindFlags adds the flags, with the present values as defaults.
func (o *Options) BindFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Cluster, "cluster", o.Cluster, `the cluster's immutable id, a tag of every row (default "local" for the host source)`)
	flags.StringVar(&o.Data, "data", o.Data, "directory; the follower's own is follower-CLUSTER in it")
	flags.StringVar(&o.Source, "source", o.Source, "what is metered: host (this machine's control groups) or kubelet (a Kubernetes cluster)")
	flags.StringVar(&o.Node, "node", o.Node, "host source: name of this machine")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubelet source: kubeconfig file; without it and --api-server, the cluster that the follower runs in")
	flags.StringVar(&o.APIServer, "api-server", o.APIServer, "kubelet source: URL of the API server")
	flags.StringVar(&o.CAFile, "ca-file", o.CAFile, "PEM file of the API server's CA, with --api-server")
	flags.StringVar(&o.TokenFile, "token-file", o.TokenFile, "file of the bearer token, with --api-server")
	flags.StringVar(&o.KubeletCAFile, "kubelet-ca-file", o.KubeletCAFile, "PEM file of the kubelets' CA (default --ca-file)")
	flags.StringVar(&o.KubeletTokenFile, "kubelet-token-file", o.KubeletTokenFile, "file of the bearer token for kubelets (default --token-file)")
	flags.BoolVar(&o.KubeletInsecure, "kubelet-insecure-tls", o.KubeletInsecure, "do not verify the kubelets' certificates")
	flags.BoolVar(&o.SharedRoot, "shared-root", o.SharedRoot, "kubelet source: nodes with one boot id are containers without a cgroup namespace of their own, which all count their host's root group: it is counted once")
	flags.StringSliceVar(&o.Labels, "labels", o.Labels, "globs of the pods' labels that are kept")
	flags.StringSliceVar(&o.Annotations, "annotations", o.Annotations, "globs of the pods' annotations that are kept, such as example.com/cost-centre; the label of one is called annotation:NAME")
	flags.StringSliceVar(&o.JobGroups, "job-group-labels", o.JobGroups, "labels of Jobs and their pods whose value stands for the workload; the first that is there counts")
	flags.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace of the metering itself: it is marked, so that a bill can leave it out")
	flags.StringVar(&o.PseudonymKeyFile, "pseudonym-key-file", o.PseudonymKeyFile, "file of a secret key: names of namespaces, pods, workloads, containers, claims and values of labels are replaced by pseudonyms, which this cluster alone can resolve")
	flags.StringVar(&o.Seed, "seed", o.Seed, "directory of the facts of the nodes: seed.sql.gz with its signature, or *.sql files")
	flags.StringVar(&o.SeedPublicKey, "seed-public-key", o.SeedPublicKey, "the leader's key, base64, as \"accumulus seed key\" prints it: only what it signed is taken (default: anything)")
	flags.DurationVar(&o.ScrapeInterval, "scrape-interval", o.ScrapeInterval, "time between two reads of the source")
	flags.DurationVar(&o.SettleDeadline, "settle-deadline", o.SettleDeadline, "after its end, a minute settles with what is there")
	flags.DurationVar(&o.FactsDeadline, "facts-deadline", o.FactsDeadline, "after its end, missing facts of a row settle as unknown")
	flags.DurationVar(&o.KeepMinutes, "keep-minutes", o.KeepMinutes, "how long minute rows stay; they go only when the leader has pulled them, where there is one; readings stay for 48h")
	flags.StringVar(&o.DiskBudget, "disk-budget", o.DiskBudget, "what the embedded store may take of the disk, such as 8Gi: beyond it minutes go before their time, those that were not pulled last and on record (default: no bound)")
	flags.StringVar(&o.InfluxURL, "influxdb-url", o.InfluxURL, "an external InfluxDB 1.x in place of the embedded one")
	flags.StringVar(&o.InfluxTokenFile, "influxdb-token-file", o.InfluxTokenFile, "file of its bearer token")
	flags.StringVar(&o.Listen, "listen", o.Listen, "host:port of health, status and the leader's queries")
	flags.StringVar(&o.TLSCert, "tls-cert", o.TLSCert, "PEM file of the port's certificate; needed beyond loopback")
	flags.StringVar(&o.TLSKey, "tls-key", o.TLSKey, "PEM file of its key")
	flags.BoolVar(&o.TLSSelfSigned, "tls-self-signed", o.TLSSelfSigned, "make the port's certificate in memory at each start: for the proxy of an API server, which verifies none")
	flags.StringSliceVar(&o.TLSNames, "tls-names", o.TLSNames, "DNS names and IP addresses of the certificate of --tls-self-signed, besides loopback")
	flags.BoolVar(&o.Insecure, "insecure-listen", o.Insecure, "serve an address beyond loopback without TLS")
	flags.StringVar(&o.LeaderTokenFile, "leader-token-file", o.LeaderTokenFile, "file of the leader's token (default leader.token in the follower's directory, made at the first start)")
	flags.StringVar(&o.ViewerTokenFile, "viewer-token-file", o.ViewerTokenFile, "file of the viewer's token (default viewer.token, likewise)")
	flags.BoolVar(&o.Reviews, "reviews", o.Reviews, "kubelet source: let in who the cluster knows, with what he may see in it (needs create on tokenreviews and subjectaccessreviews)")
	flags.StringSliceVar(&o.ReviewAudiences, "review-audience", o.ReviewAudiences, "audiences that a caller's token must be for, one of them (default the API server's own)")
}

var clusterName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Complete derives what was not given and lists all that is wrong.
func (o *Options) Complete() (Config, error) {
	c := Config{Cluster: o.Cluster, Source: o.Source, Node: o.Node, Labels: o.Labels, Annotations: o.Annotations, SeedDir: o.Seed, SeedPublicKey: o.SeedPublicKey,
		SharedRoot: o.SharedRoot, JobGroups: o.JobGroups, Namespace: o.Namespace, PseudonymKey: o.PseudonymKeyFile,
		API:      watch.ClientConfig{URL: o.APIServer, CAFile: o.CAFile, TokenFile: o.TokenFile, Kubeconfig: o.Kubeconfig},
		Interval: o.ScrapeInterval, SettleDeadline: o.SettleDeadline, FactsDeadline: o.FactsDeadline,
		InfluxURL: o.InfluxURL, Listen: o.Listen, TLSCert: o.TLSCert, TLSKey: o.TLSKey, TLSSelfSigned: o.TLSSelfSigned, TLSNames: o.TLSNames, Insecure: o.Insecure,
		LeaderToken: o.LeaderTokenFile, ViewerToken: o.ViewerTokenFile,
		Reviews: o.Reviews, ReviewAudiences: o.ReviewAudiences}
	if c.Cluster == "" && c.Source == SourceHost {
		c.Cluster = HostCluster
	}
	var errs []error
	if c.Cluster != "" && !clusterName.MatchString(c.Cluster) {
		errs = append(errs, fmt.Errorf("cluster: %q may hold letters, digits, '-', '.' and '_', 63 at most", c.Cluster))
	}
	if o.Data != "" {
		c.Dir = filepath.Join(o.Data, "follower-"+c.Cluster)
	}
	if c.Source == "" {
		errs = append(errs, errors.New("source: one is needed"))
	}
	c.Kubelet = kubelet.Config{CAFile: o.KubeletCAFile, TokenFile: o.KubeletTokenFile, InsecureSkipVerify: o.KubeletInsecure, Timeout: o.ScrapeInterval,
		SummaryEvery: min(4*o.ScrapeInterval, time.Minute)}
	credentials := watch.ClientConfig{CAFile: o.CAFile, TokenFile: o.TokenFile}
	if o.APIServer == "" && o.Kubeconfig == "" {
		credentials = watch.ClientConfig{CAFile: serviceAccount + "ca.crt", TokenFile: serviceAccount + "token"}
	}
	if c.Kubelet.CAFile == "" {
		c.Kubelet.CAFile = credentials.CAFile
	}
	if c.Kubelet.TokenFile == "" {
		c.Kubelet.TokenFile = credentials.TokenFile
	}
	if o.InfluxTokenFile != "" {
		if _, err := os.ReadFile(o.InfluxTokenFile); err != nil {
			errs = append(errs, fmt.Errorf("influxdb-token-file: %w", err))
		}
		c.InfluxTokenFile = o.InfluxTokenFile
	}
	c.KeepMinutes = o.KeepMinutes
	if o.DiskBudget != "" {
		budget, err := resource.ParseQuantity(o.DiskBudget)
		if err != nil {
			errs = append(errs, fmt.Errorf("disk-budget: %q is no quantity such as 8Gi: %w", o.DiskBudget, err))
		}
		c.DiskBudget = budget.Value()
	}
	if err := errors.Join(append(errs, c.Validate())...); err != nil {
		return Config{}, err
	}
	return c, nil
}
