package helm

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
)

// keptRevisions is how many records of a release are kept in the cluster.
const keptRevisions = 5

// Options of an operation.
type Options struct {
	// Adopt takes over a release of another leader or of a person, and objects of
	// the chart's names that no release owns.
	Adopt bool
	// Locked says that the caller holds the lock of this release: what is pending
	// was left by a process that is gone.
	Locked bool
}

// Changes that Ensure made.
const (
	Unchanged = "unchanged"
	Installed = "installed"
	Upgraded  = "upgraded"
)

// Result of Ensure.
type Result struct {
	Release
	Change string // Unchanged, Installed or Upgraded
}

// wish is what the release is to be.
type wish struct {
	chart   Chart
	values  Values
	digest  string // of the values
	options Options
}

func (w wish) labels(leader string) map[string]string {
	return map[string]string{LeaderLabel: leader, chartLabel: w.chart.Digest, valuesLabel: w.digest}
}

// fulfilled says whether a release was made of the same chart and values.
func (w wish) fulfilled(r *release.Release) bool {
	return r.Labels[chartLabel] == w.chart.Digest && r.Labels[valuesLabel] == w.digest &&
		r.Chart != nil && r.Chart.Metadata != nil && r.Chart.Metadata.Version == w.chart.Version
}

// Ensure makes the release what chart and values say:
//
//	none                   → install
//	deployed, the same     → nothing; objects that are missing are put back
//	deployed, another      → upgrade
//	failed, superseded     → upgrade
//	pending, of nobody     → marked failed, then upgrade
//	uninstalling           → uninstall to the end, then install
//	uninstalled (record)   → install in its place
//
// Errors: ErrValues before anything is sent; ErrForeign, ErrExists, ErrBusy; and
// the API's.
func (c *Client) Ensure(ctx context.Context, chart Chart, values Values, options Options) (Result, error) {
	digest, err := values.Digest()
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrValues, err)
	}
	if _, err := Render(chart, c.config.Release, c.config.Namespace, values); err != nil {
		return Result{}, err
	}
	s, err := c.session(ctx)
	if err != nil {
		return Result{}, err
	}
	w := wish{chart, values, digest, options}
	for range 3 { // an interrupted operation, an interrupted removal, the wish
		last, err := s.last()
		if err != nil {
			return Result{}, err
		}
		if last == nil {
			return s.install(w, false)
		}
		foreign := s.owned(last)
		if foreign != nil && !options.Adopt {
			return Result{}, foreign
		}
		switch status := last.Info.Status; {
		case status.IsPending():
			err = s.unlock(last, options)
		case status == release.StatusUninstalling:
			err = s.uninstall()
		case status == release.StatusUninstalled:
			return s.install(w, true)
		case status == release.StatusDeployed && foreign == nil && w.fulfilled(last):
			missing, err := s.missing(last)
			if err != nil {
				return Result{}, err
			}
			if len(missing) == 0 {
				return Result{describe(last), Unchanged}, nil
			}
			s.log.Info("objects of a release are missing and are put back", "release", c.config.Release, "objects", missing)
			return s.upgrade(w, last)
		default:
			return s.upgrade(w, last)
		}
		if err != nil {
			return Result{}, err
		}
	}
	return Result{}, fmt.Errorf("release %s: %w", c.config.Release, ErrBusy)
}

// unlock marks a pending operation as failed if nobody can be at it.
func (s *session) unlock(r *release.Release, options Options) error {
	status := r.Info.Status
	if age := s.clock.Now().Sub(r.Info.LastDeployed.Time); !options.Locked && age < s.config.Stale {
		return fmt.Errorf("release %s is %s since %s: %w", s.config.Release, status, r.Info.LastDeployed.UTC().Format("15:04:05Z"), ErrBusy)
	}
	r.SetStatus(release.StatusFailed, fmt.Sprintf("%s was interrupted", status))
	if err := s.cfg.Releases.Update(r); err != nil {
		return s.failed("unlock release", err)
	}
	s.log.Info("interrupted operation of a release given up", "release", s.config.Release, "status", string(status), "revision", r.Version)
	return nil
}

func (s *session) load(w wish) (*chart.Chart, map[string]any, error) {
	loaded, err := w.chart.load()
	if err != nil {
		return nil, nil, err
	}
	values, err := w.values.copied()
	return loaded, values, err
}

func (s *session) install(w wish, replace bool) (Result, error) {
	if err := s.prepare(w, nil); err != nil {
		return Result{}, err
	}
	loaded, values, err := s.load(w)
	if err != nil {
		return Result{}, err
	}
	install := s.newInstall(w)
	install.Replace = replace
	r, err := install.Run(loaded, values)
	if err != nil {
		return Result{}, s.failed("install release", err)
	}
	return Result{describe(r), Installed}, nil
}

func (s *session) newInstall(w wish) *action.Install {
	install := action.NewInstall(s.cfg)
	install.ReleaseName, install.Namespace = s.config.Release, s.config.Namespace
	install.Labels = w.labels(s.config.Leader)
	install.TakeOwnership = w.options.Adopt
	install.SkipCRDs, install.DisableHooks, install.DisableOpenAPIValidation = true, true, true
	return install
}

func (s *session) upgrade(w wish, last *release.Release) (Result, error) {
	if err := s.prepare(w, last); err != nil {
		return Result{}, err
	}
	loaded, values, err := s.load(w)
	if err != nil {
		return Result{}, err
	}
	upgrade := action.NewUpgrade(s.cfg)
	upgrade.Namespace, upgrade.Labels = s.config.Namespace, w.labels(s.config.Leader)
	upgrade.TakeOwnership = w.options.Adopt
	upgrade.ResetValues, upgrade.MaxHistory = true, keptRevisions
	upgrade.SkipCRDs, upgrade.DisableHooks, upgrade.DisableOpenAPIValidation = true, true, true
	r, err := upgrade.Run(s.config.Release, loaded, values)
	if err != nil {
		return Result{}, s.failed("upgrade release", err)
	}
	return Result{describe(r), Upgraded}, nil
}

// Remove deletes the release's objects and its records. One that is not there is
// no error; a storage that cannot be read is. Errors: ErrForeign, ErrBusy, and
// the API's.
func (c *Client) Remove(ctx context.Context, options Options) error {
	s, err := c.session(ctx)
	if err != nil {
		return err
	}
	last, err := s.last()
	if err != nil || last == nil {
		return err
	}
	if foreign := s.owned(last); foreign != nil && !options.Adopt {
		return foreign
	}
	if last.Info.Status.IsPending() {
		if err := s.unlock(last, options); err != nil {
			return err
		}
	}
	return s.uninstall()
}

func (s *session) uninstall() error {
	uninstall := action.NewUninstall(s.cfg)
	uninstall.DisableHooks = true
	if _, err := uninstall.Run(s.config.Release); err != nil {
		return s.failed("remove release", err)
	}
	return nil
}
