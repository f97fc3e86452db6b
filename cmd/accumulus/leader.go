package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/settings"
	centre "github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/bucket"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"
)

// leaderOptions are a leader's settings as a person gives them.
type leaderOptions struct {
	data, listen, tlsCert, tlsKey string
	insecure                      bool
	tick, meterInterval           time.Duration
	failedAfter                   time.Duration
	onePersonBooks                bool
	influxURL, influxTokenFile    string
	exportSchedule, exportDir     string
	exports                       exportOptions
	auditSchedule                 string
	credentialsKey, kubeconfig    string
	localCluster, namespace       string
	seedKeyFile                   string
	configFile, logLevel          string
	accessFile                    string
	tokens                        api.TokenFiles
	initialFile, followerValues   string
	archive                       archive.Config
	archiveBucket                 bucket.Config
}

func (o *leaderOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.data, "data", "./accumulus-data", "directory; the leader's own is leader in it")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of page and REST API")
	flags.StringVar(&o.tlsCert, "tls-cert", "", "PEM file of the server's certificate")
	flags.StringVar(&o.tlsKey, "tls-key", "", "PEM file of its key")
	flags.BoolVar(&o.insecure, "insecure-listen", false, "allow plain HTTP on an address that others can reach")
	flags.StringVar(&o.tokens.Operator, "operator-token-file", "", "file of the operator's token (default operator.token in the leader's directory, made at the first start)")
	flags.StringVar(&o.tokens.Meters, "meters-token-file", "", "file of the token with which readings of meters may be sent, and nothing else (default meters.token, likewise)")
	flags.StringVar(&o.tokens.Viewer, "viewer-token-file", "", "file of the viewer's token (default viewer.token, likewise)")
	flags.StringVar(&o.accessFile, "access-file", "", "YAML file of who is known beside the tokens (OpenID Connect, the leader's own cluster) and of the limits of requests: docs/access.md")
	flags.StringVar(&o.initialFile, "initial-file", "", "fleet file that is applied at the first start, while nobody has changed the fleet yet")
	flags.DurationVar(&o.tick, "tick", 15*time.Second, "length of a slot: pull, process, push")
	flags.DurationVar(&o.meterInterval, "meter-interval", 10*time.Second, "between two readings of the electricity meters")
	flags.DurationVar(&o.failedAfter, "failed-after", 5*time.Minute, "how long a node must not be ready, or not be reached, to have failed: what its pods used is then refunded")
	flags.BoolVar(&o.onePersonBooks, "one-person-books", false, "let one person draft and approve a billing period; its lines and its statement say so")
	flags.StringVar(&o.influxURL, "influxdb-url", "", "external InfluxDB 1.x as the central store (default: embedded)")
	flags.StringVar(&o.influxTokenFile, "influxdb-token-file", "", "file of its bearer token")
	flags.StringVar(&o.exportSchedule, "export-schedule", "", `when to write the billing export, as five cron fields in UTC, such as "15 2 * * *" (default: never)`)
	flags.StringVar(&o.exportDir, "export-dir", "", "where the export goes (default: exports in the leader's directory)")
	o.exports.bind(flags)
	flags.StringVar(&o.archive.Dir, "archive-dir", "", "where settled days are archived (default: archive in the leader's directory)")
	flags.DurationVar(&o.archive.Keep, "keep-minutes", archive.DefaultKeep, "how long minute rows stay in the central store after their UTC day; they go only when they are archived; at least 72h, below 0 is for ever")
	bindBucket(flags, &o.archiveBucket, "archive-bucket", "into which the archive is copied before minute rows are deleted (default: none)")
	flags.StringVar(&o.auditSchedule, "audit-schedule", "17 3 * * *", "when to audit the UTC day before of every cluster, as five cron fields in UTC; empty is never")
	flags.StringVar(&o.credentialsKey, "credentials-key-file", "", "file of the key that seals the credentials of clusters, 32 bytes in base64; older keys on further lines still open (default: credentials.key in the leader's directory, made at the first start)")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig whose contexts POST /accumulus/clusters/add/CONTEXT adds; everything must stand in it, no files and no programs")
	flags.StringVar(&o.localCluster, "local-cluster", "", "name of the cluster that the leader runs in as a pod: it is added with the leader's own service account")
	flags.StringVar(&o.seedKeyFile, "seed-key-file", "", "PEM file of the ed25519 key that signs what followers are told (default: seed.key in the leader's directory, made at the first start)")
	flags.StringVar(&o.followerValues, "follower-values", "", "YAML file of values of the follower's chart, for the followers of all clusters that the leader installs")
	flags.StringVar(&o.configFile, "config", "", "YAML file of settings")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
}

// complete makes a configuration of the options, and lists all that is wrong.
func (o *leaderOptions) complete() (centre.Config, slog.Level, error) {
	config := centre.Config{StoreURL: o.influxURL, Tick: o.tick, MeterInterval: o.meterInterval, FailedAfter: o.failedAfter, OnePersonBooks: o.onePersonBooks,
		API:     api.Config{Listen: o.listen, TLSCert: o.tlsCert, TLSKey: o.tlsKey, Insecure: o.insecure, Version: version},
		Access:  centre.AccessConfig{KeyFile: o.credentialsKey, Kubeconfig: o.kubeconfig, LocalCluster: o.localCluster, Namespace: o.namespace},
		Exports: o.exports.config(o.exportSchedule, o.exportDir), Events: o.exports.events, Announce: o.exports.runs(), Audits: centre.AuditConfig{Schedule: o.auditSchedule}, Archive: o.archive, ArchiveBucket: o.archiveBucket,
		Tokens: o.tokens, InitialFile: o.initialFile, SeedKeyFile: o.seedKeyFile, AccessFile: o.accessFile}
	var wrong []error
	if o.data != "" {
		config.Dir = filepath.Join(o.data, "leader")
	}
	if config.Exports.Dir == "" {
		config.Exports.Dir = filepath.Join(config.Dir, "exports")
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		wrong = append(wrong, fmt.Errorf("log-level: %w", err))
	}
	if o.influxTokenFile != "" {
		if _, err := os.ReadFile(o.influxTokenFile); err != nil {
			wrong = append(wrong, fmt.Errorf("influxdb-token-file: %w", err))
		}
		config.StoreTokenFile = o.influxTokenFile
	}
	if _, err := identity.ReadConfig(o.accessFile); err != nil {
		wrong = append(wrong, fmt.Errorf("access-file: %w", err))
	}
	if o.followerValues != "" {
		text, err := os.ReadFile(o.followerValues)
		if err == nil {
			err = yaml.UnmarshalStrict(text, &config.Installer.Values)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("follower-values: %w", err))
		}
	}
	return config, level, errors.Join(append(wrong, config.Validate())...)
}

// newLeader is the role of the centre.
func newLeader(a *app) *cobra.Command {
	var options leaderOptions
	command := &cobra.Command{
		Use:   "leader",
		Short: "Run a leader: pull clusters, split meters, rate, answer",
		Long: `Runs the centre: it pulls what the followers of the fleet have settled, reads the
boxes' electricity meters, computes energy and cost, gives each cluster its own
results, and answers on one port. Clusters, boxes, meters and prices are told with
"accumulus apply -f".

Each flag is also a variable (--meter-interval is ACCUMULUS_METER_INTERVAL) and a
key of the YAML file given by --config. The command line wins over the environment,
the environment over the file.`,
		Example: `  accumulus leader
  accumulus leader --data /var/lib/accumulus --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fillSettings(cmd, a, options.configFile); err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			options.namespace = a.getenv("POD_NAMESPACE")
			config, level, err := options.complete()
			if err != nil {
				return fmt.Errorf("configuration:\n%w", err)
			}
			return runLeader(cmd.Context(), config, slog.New(slog.NewTextHandler(a.errOut, &slog.HandlerOptions{Level: level})))
		},
	}
	options.bind(command.Flags())
	return command
}

// fillSettings takes what is not on the command line from the environment and
// the file, whose own name may come from the environment.
func fillSettings(cmd *cobra.Command, a *app, path string) error {
	lookup := func(name string) (string, bool) {
		value := a.getenv(name)
		return value, value != ""
	}
	if path == "" {
		path = a.getenv(settings.Variable("config"))
	}
	var file []byte
	if path != "" {
		var err error
		if file, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	return settings.Fill(cmd.LocalNonPersistentFlags(), lookup, file)
}

func runLeader(ctx context.Context, config centre.Config, log *slog.Logger) (err error) {
	klog.SetSlogLogger(log) // what the Kubernetes libraries have to say
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	l, err := centre.Open(ctx, config, clock.System(), log, metrics)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	listener, err := l.Listen(ctx)
	if err != nil {
		return err
	}
	log.Info("listening", "address", listener.Addr().String(), "tokens", config.Dir)
	return l.Run(ctx, listener)
}
