package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/fault"
	"github.com/accumulus-metering/accumulus/leader/helm"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// Steps, as Installation.Step names them.
const (
	stepCredentials = "credentials"
	stepAccess      = "access"
	stepNamespace   = "namespace"
	stepLease       = "lease"
	stepOwner       = "owner"
	stepTokens      = "tokens"
	stepSeed        = "seed"
	stepRelease     = "release"
	stepHealth      = "health"
	stepLastPull    = "last-pull"
	stepLeftovers   = "leftovers"
	stepEnd         = "end"
)

// lasting is how many failures one counts as that no repetition mends.
const lasting = 4

// problem is an error that already knows what it means.
type problem struct {
	class fault.Class
	hint  string
	err   error
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

// Classes of the installer's own.
const (
	classForeign     fault.Class = "foreign"
	classExists      fault.Class = "exists"
	classValues      fault.Class = "values"
	classCredentials fault.Class = "credentials"
	classPull        fault.Class = "last-pull"
	classNotReady    fault.Class = "not-ready"
)

var hints = map[fault.Class]string{
	classForeign:     "Another leader, or a person with Helm, has installed the follower there. Remove it there first, or take it over: `accumulus cluster upgrade NAME --adopt`. An object of another release goes with `helm uninstall` of that release.",
	classExists:      "Objects of the follower's names stand there without belonging to a Helm release. Delete them, or take them over: `accumulus cluster upgrade NAME --adopt`.",
	classValues:      "The chart does not take these values: mend what the message names: `accumulus cluster upgrade NAME --values FILE`.",
	classCredentials: "The leader cannot use its credentials of this cluster: run `accumulus cluster add NAME --context CONTEXT` again.",
	classPull:        "What the follower has settled could not be pulled, and removing it would lose that. Mend the link; it is tried again by itself. To remove it and give that up: `accumulus cluster remove NAME --force`.",
	classNotReady:    "The follower's pod is not ready yet; `kubectl -n NAMESPACE describe pods` in that cluster says more.",
}

// classify is the class of an error and what to do.
func classify(err error) (fault.Class, string) {
	var p *problem
	switch {
	case errors.As(err, &p):
		hint := p.hint
		if hint == "" {
			hint = hints[p.class]
		}
		if hint == "" {
			hint = p.class.Hint()
		}
		return p.class, hint
	case errors.Is(err, helm.ErrForeign):
		return classForeign, hints[classForeign]
	case errors.Is(err, helm.ErrExists):
		return classExists, hints[classExists]
	case errors.Is(err, helm.ErrValues):
		return classValues, hints[classValues]
	case errors.Is(err, helm.ErrBusy):
		return fault.Conflict, fault.Conflict.Hint()
	}
	class := fault.Of(err)
	hint := class.Hint()
	if right := fault.Denied(err); class == fault.Forbidden && right != "" {
		hint = "Missing right: " + right + ". " + hint
	}
	return class, hint
}

// passes says whether a repetition may help without anybody having done anything.
func passes(class fault.Class) bool {
	switch class {
	case classPull, classNotReady:
		return true
	}
	return class.Passes()
}

// visit carries on one cluster and records how it went. Who is cancelled records
// nothing: the next start sees what was. It says whether the outcome is recorded.
func (i *Installer) visit(ctx context.Context, cluster string) bool {
	one, err := i.parts.Store.Installation(ctx, cluster)
	if err != nil {
		i.log.Error("installation cannot be read", "cluster", cluster, "err", err)
		return false
	}
	v := &visit{Installer: i, one: one, before: one}
	switch one.Wish {
	case registry.WishRemove:
		err = v.remove(ctx)
	case registry.WishGitOps:
		err = v.look(ctx)
	default:
		err = v.install(ctx)
	}
	if ctx.Err() != nil {
		return false
	}
	v.conclude(err)
	if err := v.record(ctx); err != nil {
		i.log.Error("installation cannot be recorded", "cluster", cluster, "err", err)
		return false
	}
	return true
}

// visit is one visit: what was known before, and what is known now.
type visit struct {
	*Installer
	one       registry.Installation
	before    registry.Installation
	namespace string // in the cluster
	note      string // the message of a visit that has no problem
	hint      string // what to do about that
	version   string // the version to be wanted from now on; "" is the same
}

// step records what is begun, so that a person sees where it hangs. While what
// went wrong before is tried again, that stands: a step beside another step's
// error would mislead.
func (v *visit) step(ctx context.Context, name string) error {
	if v.one.Step == name {
		return ctx.Err()
	}
	v.one.Step = name
	if v.one.Class != "" {
		return ctx.Err()
	}
	return v.record(ctx)
}

// reached records that it came further than before: what went wrong is past.
func (v *visit) reached(ctx context.Context) error {
	v.one.Class, v.one.Message, v.one.Hint = "", "", ""
	return v.record(ctx)
}

// record stores how it is, and leaves alone what is wanted: that may have
// changed meanwhile, and then the next visit is at once.
func (v *visit) record(ctx context.Context) error {
	_, err := v.parts.Store.ChangeInstallation(ctx, v.one.Cluster, func(stored *registry.Installation) error {
		now := v.one
		now.Wish, now.Version, now.Values, now.Adopt, now.Force = stored.Wish, stored.Version, stored.Values, stored.Adopt, stored.Force
		now.GitOps = stored.GitOps
		now.Version = cmp.Or(v.version, now.Version)
		if now.Done == stored.Generation {
			now.Adopt = false // it was for once
		}
		if stored.Generation != v.one.Generation {
			now.Next, now.Attempts, now.Generation = stored.Next, 0, stored.Generation
			if now.State == registry.InstallFailed { // at something that is not wanted so any more
				now.State, now.Since, now.Class, now.Message, now.Hint = stored.State, stored.Since, "", "", ""
			}
			if stored.State == registry.InstallRemoving && stored.Wish == registry.WishRemove {
				now.State, now.Since = stored.State, stored.Since
			}
			if now.State == registry.InstallRemoved && stored.Wish != registry.WishRemove {
				now.State = registry.InstallPending // wanted again while it was removed
			}
		}
		*stored = now
		return nil
	})
	return err
}

// enter changes the state.
func (v *visit) enter(state string) {
	if v.one.State != state {
		v.one.State, v.one.Since = state, v.clock.Now()
	}
}

// conclude says what an outcome means: the state, what happened, what to do, and
// when the next visit is.
func (v *visit) conclude(err error) {
	now := v.clock.Now()
	v.one.Tried = now
	defer func() {
		if v.one.State == v.before.State { // also where it was another meanwhile
			v.one.Since = v.before.Since
		}
		v.tell(err)
	}()
	if err == nil {
		v.one.Attempts, v.one.Class, v.one.Message, v.one.Hint = 0, "", v.note, v.hint
		v.one.Next = now.Add(v.config.Look)
		return
	}
	class, hint := classify(err)
	v.one.Class, v.one.Message, v.one.Hint = string(class), oneLine(err.Error()), v.fill(hint)
	if class == classNotReady && v.one.State == registry.InstallInstalling {
		v.one.Attempts, v.one.Next = 0, now.Add(v.config.Poll)
		return
	}
	v.one.Attempts++
	if !passes(class) {
		v.one.Attempts += lasting - 1
	}
	v.one.Next = v.later(v.one.Attempts)
	if look := now.Add(v.config.Look); v.one.Step == stepHealth && v.one.Next.After(look) {
		v.one.Next = look // a pod may mend itself, and a look is cheap
	}
	switch {
	case v.one.Wish == registry.WishRemove || v.one.Wish == registry.WishGitOps:
	case v.one.Installed != "" && v.one.Done == v.one.Generation, v.one.Step == stepHealth:
		v.enter(registry.InstallDegraded) // it stands as it was wanted, and something is wrong
	default:
		v.enter(registry.InstallFailed)
	}
}

// fill puts names into a hint.
func (v *visit) fill(hint string) string {
	return strings.NewReplacer("NAMESPACE", v.namespace, "NAME", v.one.Cluster).Replace(hint)
}

// tell logs a change of the state, and a failure that is new.
func (v *visit) tell(err error) {
	switch {
	case err != nil && (v.one.State != v.before.State || v.one.Class != v.before.Class) && v.one.State != registry.InstallInstalling:
		v.log.Warn("installation has a problem", "cluster", v.one.Cluster, "state", v.one.State, "step", v.one.Step, "class", v.one.Class, "err", err)
	case v.one.State != v.before.State:
		v.log.Info("installation is in another state", "cluster", v.one.Cluster, "state", v.one.State, "version", v.one.Installed, "revision", v.one.Revision)
	}
}

// longest is how much of a message is kept.
const longest = 600

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// look is a visit of what somebody else installs.
func (v *visit) look(ctx context.Context) error {
	v.enter(registry.InstallGitOps)
	v.one.Done = v.one.Generation
	if err := v.step(ctx, stepHealth); err != nil {
		return err
	}
	if v.parts.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.config.Timeout)
	defer cancel()
	if err := v.parts.Ready(ctx, v.one.Cluster); err != nil {
		return &problem{class: classNotReady, err: fmt.Errorf("follower: %w", err),
			hint: "The follower is installed by somebody else and does not answer as ready: look at its pod, and at the link from the leader."}
	}
	return nil
}
