package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/archive"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/spf13/cobra"
)

// errArchive is an archive of which something is not what was signed.
var errArchive = errors.New("the archive does not hold")

// archiveOptions are what the commands of the archive take.
type archiveOptions struct {
	cluster, day, dir, key string
}

func newArchive(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "archive",
		Short: "The settled days as Parquet files: list, show, verify",
		Long: `The leader archives each settled UTC day of a cluster as Parquet files with a signed
manifest, and deletes minute rows only when they are archived. These commands ask the
leader; with --dir they read an archive, or a copy of one, without it.
docs/archive.md shows the layout, and how other programs read it.`,
		Example: `  accumulus archive list --cluster edge-a
  accumulus archive show --cluster edge-a --day 2026-11-27
  accumulus archive verify
  accumulus archive verify --dir /backup/archive --public-key "$(accumulus seed key)"`,
	}
	command.AddCommand(newArchiveList(a), newArchiveShow(a), newArchiveVerify(a))
	parent(command)
	return command
}

func (o *archiveOptions) bind(a *app, command *cobra.Command) *cobra.Command {
	flags := command.Flags()
	flags.StringVar(&o.cluster, "cluster", "", "only this cluster")
	flags.StringVar(&o.day, "day", "", "only this UTC day, such as 2026-11-27")
	flags.StringVar(&o.dir, "dir", "", "read this archive, without the leader")
	flags.StringVar(&o.key, "public-key", "", "with --dir: the leader's public key, as accumulus seed key prints it (default: the one in each manifest)")
	a.answerFlags(command)
	command.Args = cobra.NoArgs
	return command
}

func (o *archiveOptions) scope() (archive.Scope, error) {
	scope := archive.Scope{Cluster: o.cluster}
	if o.day == "" {
		return scope, nil
	}
	var err error
	scope.Day, err = archive.ParseDay(o.day)
	return scope, err
}

func newArchiveList(a *app) *cobra.Command {
	var o archiveOptions
	return o.bind(a, &cobra.Command{Use: "list", Short: "Days that are archived",
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.archivedDays(cmd.Context(), o)
			if err != nil || a.output != asTable {
				return a.answerOr(err, list)
			}
			t := &table{columns: append(left("CLUSTER", "DAY", "MANIFEST", "MINUTES", "COPY"), right("REVISION", "ROWS", "SIZE")...)}
			for _, d := range list.Items {
				minutes := "in the store"
				if d.Gone {
					minutes = "archive only"
				}
				if o.dir != "" {
					minutes = "-"
				}
				copied := "-"
				if list.Copies != nil {
					if copied = "waiting"; d.CopiedTo == list.Copies.Bucket {
						copied = "in the bucket"
					}
				}
				t.add(d.Cluster, d.Day.Format(time.DateOnly), d.Manifest[:min(12, len(d.Manifest))], minutes, copied, strconv.FormatInt(d.Revision, 10),
					strconv.FormatInt(d.Rows, 10), humanBytes(float64(d.Bytes)))
			}
			if err := t.write(a.out); err != nil || list.Copies == nil {
				return err
			}
			if list.Copies.Waiting > 0 {
				a.printf("\n%s to be copied to %s: minute rows stay until then\n", plural.Of(list.Copies.Waiting, "day waits", "days wait"), list.Copies.Bucket)
			}
			if list.Copies.Failed != "" {
				a.printf("Copying has failed since %s: %s\n", humanTime(list.Copies.Since), list.Copies.Failed)
			}
			return nil
		}})
}

func (a *app) archivedDays(ctx context.Context, o archiveOptions) (api.ArchiveList, error) {
	list := api.ArchiveList{Items: []registry.ArchivedDay{}}
	scope, err := o.scope()
	if err != nil {
		return list, err
	}
	if o.dir == "" {
		c, err := a.client()
		if err != nil {
			return list, err
		}
		return c.Archived(ctx, scope)
	}
	if _, err := os.Stat(o.dir); err != nil {
		return list, fmt.Errorf("read the archive: %w", err)
	}
	key, err := publicKey(o.key)
	if err != nil {
		return list, err
	}
	newest, err := archive.Newest(o.dir, scope, key)
	for _, d := range newest {
		begins, _ := d.Manifest.Begins() // Newest looked
		list.Items = append(list.Items, registry.ArchivedDay{Cluster: d.Manifest.Cluster, Day: begins, Revision: d.Manifest.Revision, Sequence: d.Manifest.Sequence,
			State: d.Manifest.State, Manifest: d.Hash, Rows: d.Manifest.Rows(), Bytes: d.Manifest.Bytes(), Archived: d.Manifest.Made})
	}
	return list, err
}

func newArchiveShow(a *app) *cobra.Command {
	var o archiveOptions
	command := o.bind(a, &cobra.Command{Use: "show", Short: "The files of a day, with rows, digests and hashes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.archivedDay(cmd.Context(), o)
			if err != nil || a.output != asTable {
				return a.answerOr(err, d)
			}
			m := d.Manifest
			a.printf("%s on %s: revision %d, archived %s\nManifest %s (%d of the cluster), signed by %s\n\n", m.Cluster, m.Day, m.Revision,
				m.Made.Format(time.RFC3339), d.Hash, m.Sequence, d.PublicKey)
			t := &table{columns: append(left("TABLE", "FILE", "DIGEST", "SHA-256"), right("ROWS", "SIZE")...)}
			for _, one := range m.Tables {
				t.add(one.Name, one.File, one.Digest, one.SHA256[:min(16, len(one.SHA256))], strconv.FormatInt(one.Rows, 10), humanBytes(float64(one.Bytes)))
			}
			return t.write(a.out)
		}})
	for _, name := range []string{"cluster", "day"} {
		_ = command.MarkFlagRequired(name) // the flag was just added
	}
	return command
}

func (a *app) archivedDay(ctx context.Context, o archiveOptions) (api.ArchivedDay, error) {
	scope, err := o.scope()
	if err != nil {
		return api.ArchivedDay{}, err
	}
	if o.dir == "" {
		c, err := a.client()
		if err != nil {
			return api.ArchivedDay{}, err
		}
		return c.ArchivedDay(ctx, scope.Cluster, scope.Day)
	}
	key, err := publicKey(o.key)
	if err != nil {
		return api.ArchivedDay{}, err
	}
	d, err := archive.OpenSigned(o.dir, scope.Cluster, scope.Day, key)
	if err != nil {
		return api.ArchivedDay{}, err
	}
	return api.ArchivedDay{Manifest: d.Manifest, Hash: d.Hash, PublicKey: base64.StdEncoding.EncodeToString(d.Key)}, nil
}

func newArchiveVerify(a *app) *cobra.Command {
	var o archiveOptions
	var bucket bool
	command := o.bind(a, &cobra.Command{Use: "verify", Short: "Recompute hashes, chain, signatures, rows and digests",
		Long: `Recomputes the archive: of each cluster the chain of manifests and their signatures,
then of the days that are named (default: all) the SHA-256 of each file, and the rows
and digests of each table and window. The leader compares these with its ledger, too.
With --from-bucket the leader reads the copy in its bucket, all that is verified of it.
One verification runs at a time on the leader. It says the first thing that is wrong,
and ends with code 1; where it takes long, how far it is goes to standard error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			seen, err := a.verifyArchive(cmd.Context(), o, bucket)
			if err != nil {
				return err
			}
			if a.output != asTable {
				err = a.answerOr(nil, seen)
			} else {
				a.printf("%s, %s, %s with %d rows, %s\n", plural.Of(seen.Clusters, "cluster", "clusters"), plural.Of(seen.Manifests, "manifest", "manifests"),
					plural.Of(seen.Files, "file", "files"), seen.Rows, humanBytes(float64(seen.Bytes)))
				if seen.Sealed > 0 {
					a.printf("%s by closed periods, and are there\n", plural.Of(seen.Sealed, "revision is named", "revisions are named"))
				}
				if seen.Lost > 0 {
					a.printf("%s not be archived: `accumulus books verify` says why\n", plural.Of(seen.Lost, "day of a closed period could", "days of closed periods could"))
				}
				if seen.Revised > 0 {
					a.printf("%s been revised since: what changed is archived before minute rows go, or a period is closed that rests on it\n", plural.Of(seen.Revised, "day has", "days have"))
				}
			}
			if err == nil && !seen.Holds {
				err = fmt.Errorf("%w: %s", errArchive, seen.Wrong)
			}
			return err
		}})
	command.Flags().BoolVar(&bucket, "from-bucket", false, "verify the copy in the leader's bucket")
	command.MarkFlagsMutuallyExclusive("from-bucket", "dir")
	return command
}

func (a *app) verifyArchive(ctx context.Context, o archiveOptions, bucket bool) (api.ArchiveVerified, error) {
	scope, err := o.scope()
	if err != nil {
		return api.ArchiveVerified{}, err
	}
	if o.dir == "" {
		c, err := a.patientClient()
		if err != nil {
			return api.ArchiveVerified{}, err
		}
		defer a.sayWhile(ctx, func() string { return "the leader is reading its archive; it goes on" })()
		return c.VerifyArchive(ctx, scope, bucket)
	}
	if _, err := os.Stat(o.dir); err != nil {
		return api.ArchiveVerified{}, fmt.Errorf("read the archive: %w", err)
	}
	key, err := publicKey(o.key)
	if err != nil {
		return api.ArchiveVerified{}, err
	}
	var at atomic.Pointer[string]
	started := "reading the manifests"
	at.Store(&started)
	count := 0
	stop := a.sayWhile(ctx, func() string { return *at.Load() })
	seen, err := archive.VerifyTelling(ctx, o.dir, scope, key, func(cluster, day string) {
		count++
		text := fmt.Sprintf("reading revision %d: %s of cluster %s", count, day, cluster)
		at.Store(&text)
	})
	stop()
	if ctx.Err() != nil {
		return api.ArchiveVerified{}, ctx.Err()
	}
	answer := api.ArchiveVerified{Checked: seen, Holds: err == nil}
	if err != nil {
		answer.Wrong = err.Error()
	}
	return answer, nil
}
