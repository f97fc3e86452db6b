package main

import (
	"time"

	centre "github.com/accumulus-metering/accumulus/leader"
	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/accumulus-metering/accumulus/leader/bucket"
	"github.com/accumulus-metering/accumulus/leader/events"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/spf13/pflag"
)

// exportOptions are a leader's settings of exports of files.
type exportOptions struct {
	format, version, compression string
	step                         time.Duration
	labels                       []string
	bucket                       bucket.Config
	parties                      focus.Parties
	events                       events.Config
	announce                     ahead.AnnounceConfig
}

// bindBucket adds the flags of a bucket, which begin with name; use says what for.
func bindBucket(flags *pflag.FlagSet, b *bucket.Config, name, use string) {
	flags.StringVar(&b.URL, name, "", "bucket that speaks S3, as https://HOST/BUCKET/PREFIX, "+use)
	flags.StringVar(&b.Region, name+"-region", "", "its region (default us-east-1)")
	flags.StringVar(&b.CredentialsFile, name+"-credentials-file", "", "its credentials, as an AWS credentials file; read again when they expire")
	flags.StringVar(&b.Profile, name+"-profile", "", "profile in that file (default: default)")
}

func (o *exportOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.format, "export-format", asCSV, "what the schedule writes: csv (PERIOD.csv), focus or opencost-csv")
	flags.StringVar(&o.version, "export-focus-version", string(focus.V14), "version of FOCUS that the schedule writes: 1.4 or 1.2")
	flags.StringVar(&o.compression, "export-compression", string(focus.Gzip), "data files that the schedule writes: gzip, none or parquet")
	flags.DurationVar(&o.step, "export-charge-period", 24*time.Hour, "charge periods of FOCUS that the schedule writes: 1h or 24h")
	flags.StringSliceVar(&o.labels, "export-labels", nil, "labels of pods, of opencost-csv: a column Label_NAME for each, for * the column Labels with all of them")
	bindBucket(flags, &o.bucket, "export-bucket", "in place of the directory")
	flags.StringVar(&o.parties.Provider, "export-provider", "", "name of who sells, in FOCUS (default Accumulus)")
	flags.StringVar(&o.parties.Issuer, "export-issuer", "", "name of who sends invoices, in FOCUS (default: who sells)")
	flags.StringVar(&o.events.URL, "events-url", "", "webhook that is told of usage by the hour, as CloudEvents (default: none)")
	flags.StringVar(&o.events.TokenFile, "events-token-file", "", "file of its bearer token")
	flags.StringVar(&o.events.Source, "events-source", "accumulus", "source of the events: another one for each leader that tells one receiver")
	flags.StringVar(&o.events.Schedule, "events-schedule", "7 * * * *", "when to tell, as five cron fields in UTC")
	flags.DurationVar(&o.events.Lookback, "events-lookback", 72*time.Hour, "how far back what was rated again is told, at most 768h")
	flags.StringVar(&o.announce.URL, "run-events-url", "", "webhook that is told of each Job or pod that has ended, with its report, as a CloudEvent (default: none)")
	flags.StringVar(&o.announce.TokenFile, "run-events-token-file", "", "file of its bearer token")
	flags.StringVar(&o.announce.GroupLabel, "run-events-group-label", "", "label whose values name groups of pods that are told of together, too")
	flags.DurationVar(&o.announce.Lookback, "run-events-lookback", 72*time.Hour, "how late what a cluster says of a run is still told, at most 768h")
	flags.StringVar(&o.announce.PublicURL, "public-url", "", "where people reach this leader, as https://HOST: links in reports begin with it")
}

// runs is who is told of runs that ended; the source is that of the usage events.
func (o *exportOptions) runs() ahead.AnnounceConfig {
	config := o.announce
	config.Source = o.events.Source
	return config
}

func (o *exportOptions) config(schedule, dir string) centre.ExportConfig {
	return centre.ExportConfig{Schedule: schedule, Dir: dir, Format: o.format, Version: focus.Version(o.version), Compression: focus.Compression(o.compression),
		Step: o.step, Labels: o.labels, Bucket: o.bucket, Parties: o.parties}
}
