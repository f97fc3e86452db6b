package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/access"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/client"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/status"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// userContext is a context of the user's kubeconfig. It is resolved on his
// machine, with the programs that it names; the leader never sees it.
type userContext struct{ name, kubeconfig string }

func (u *userContext) bind(flags *pflag.FlagSet, what string) {
	flags.StringVar(&u.name, "context", "", what)
	flags.StringVar(&u.kubeconfig, "kubeconfig", "", "with --context: the kubeconfig that has it (default: KUBECONFIG, else ~/.kube/config)")
}

// config is how the context's cluster is reached.
func (u *userContext) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = u.kubeconfig
	loading := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: u.name})
	raw, err := loading.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w; name another one with --kubeconfig or KUBECONFIG", err)
	}
	wanted, found := raw.Contexts[u.name]
	if !found {
		known := strings.Join(slices.Sorted(maps.Keys(raw.Contexts)), ", ")
		return nil, fmt.Errorf("the kubeconfig has no context %q; it has: %s (--kubeconfig or KUBECONFIG names another one)", u.name, cmp.Or(known, "none"))
	}
	if _, found := raw.Clusters[wanted.Cluster]; !found {
		return nil, fmt.Errorf("context %s of the kubeconfig is of the cluster %q, which it does not have: mend it with `kubectl config set-context` or get it anew", u.name, wanted.Cluster)
	}
	if _, found := raw.AuthInfos[wanted.AuthInfo]; !found {
		return nil, fmt.Errorf("context %s of the kubeconfig is of the user %q, whom it does not have: mend it with `kubectl config set-context` or get it anew", u.name, wanted.AuthInfo)
	}
	config, err := loading.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("use context %s: %w", u.name, err)
	}
	return config, nil
}

// contextOptions are those of adding a cluster by a context.
type contextOptions struct {
	userContext
	gitops, adopt, noWait bool
	apiServer             string
	wait, tokenDuration   time.Duration
}

func (o *contextOptions) bind(flags *pflag.FlagSet) {
	o.userContext.bind(flags, "context of your kubeconfig: the leader gets an account of its own in that cluster and installs the follower")
	flags.BoolVar(&o.gitops, "gitops", false, "with --context: somebody else installs the follower; the leader only meters, and gets fewer rights")
	flags.BoolVar(&o.adopt, "adopt", false, "with --context: take over from another leader, or what somebody else installed")
	flags.StringVar(&o.apiServer, "api-server", "", "with --context: URL of the API server as the leader reaches it (default: the context's)")
	flags.DurationVar(&o.tokenDuration, "token-duration", 0, "with --context: give the leader a token that ends after this long, such as 720h, which it renews by itself at two thirds of that (default: one that does not end, in a Secret of the cluster)")
	flags.BoolVar(&o.noWait, "no-wait", false, "with --context: do not wait until the follower is ready")
	flags.DurationVar(&o.wait, "timeout", 10*time.Minute, "with --context: how long to wait for it")
}

// given is an option that was given and means nothing without a context; "" is none.
func (o *contextOptions) given(flags *pflag.FlagSet) string {
	for _, name := range []string{"kubeconfig", "gitops", "adopt", "api-server", "token-duration", "no-wait", "timeout"} {
		if flags.Changed(name) {
			return name
		}
	}
	return ""
}

// addByContext makes the leader's account in a cluster, hands it over, and shows
// how the follower comes up. It may be run again: it goes on where it ended.
func (a *app) addByContext(ctx context.Context, name string, spec fleet.Cluster, o contextOptions) error {
	if spec.URL != "" {
		return errors.New("--url and --context: give one of them")
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	if err := c.Private(); err != nil {
		return err
	}
	user, err := o.config()
	if err != nil {
		return err
	}
	overview, err := c.Overview(ctx)
	if err != nil {
		return err
	}
	present, exists := find(overview, name)
	if exists && present.Via != fleet.ViaServiceProxy {
		return fmt.Errorf("cluster %s is there already and is reached by its url %s: choose another name, or change it with `accumulus apply`", name, present.URL)
	}
	spec.Via = fleet.ViaServiceProxy
	if o.gitops {
		spec.Manage = fleet.ManageGitOps
	}
	if exists && (present.Manage == fleet.ManageGitOps) != o.gitops {
		return managedOtherwise(name, o.gitops)
	}
	if !exists {
		if err := c.CheckCluster(ctx, name, spec); err != nil {
			return err
		}
	}
	options := access.Options{Leader: overview.Leader.ID, Install: !o.gitops, Adopt: o.adopt, Server: o.apiServer, TokenDuration: o.tokenDuration}
	grant, err := access.Make(ctx, user, a.clock, options)
	if err != nil {
		return accessError(name, o, err)
	}
	a.printf("the leader has an account in the cluster of context %s: ServiceAccount %s/%s\n", o.name, access.Namespace, access.Account)
	if !grant.Ends.IsZero() {
		a.printf("its token ends at %s; the leader renews it before\n", humanTime(grant.Ends))
	}
	if !exists {
		if err := c.AddCluster(ctx, name, spec); err != nil {
			return err
		}
	}
	if err := c.SetCredentials(ctx, name, api.Kubeconfig{Kubeconfig: api.Secret(grant.Kubeconfig), ClusterID: grant.ClusterID}); err != nil {
		return fmt.Errorf("cluster %s is known, but the leader has no credentials of it (run the same command again): %w", name, err)
	}
	if err := access.Tidy(ctx, user, options); err != nil {
		a.printf("what the leader's former token needed is still in the cluster: %v\n", err)
	}
	if exists {
		a.printf("cluster %s was there already: the leader has new credentials of it\n", name)
	} else {
		a.printf("cluster %s was added\n", name)
	}
	return a.afterAdding(ctx, c, name, o)
}

// managedOtherwise refuses to give the leader other rights in a cluster than go with
// what the cluster's object says of who installs there.
func managedOtherwise(name string, gitops bool) error {
	if gitops {
		return fmt.Errorf("cluster %s is there already, and the leader installs its follower: leave out --gitops, or first put `manage: gitops` into the object (`accumulus get cluster %s -o yaml`, then `accumulus apply`)", name, name)
	}
	return fmt.Errorf("cluster %s is there already with `manage: gitops`, so that the leader installs nothing there: add --gitops, or first take that out of the object (`accumulus get cluster %s -o yaml`, then `accumulus apply`)", name, name)
}

func (a *app) afterAdding(ctx context.Context, c *client.Client, name string, o contextOptions) error {
	if o.gitops {
		key, err := c.SeedKey(ctx)
		if err != nil {
			return err
		}
		a.printf("Install the follower: helm install accumulus-follower deploy/charts/follower --namespace %s --set cluster=%s --set seed.publicKey=%s\n", access.Namespace, name, key)
		return nil
	}
	if o.adopt {
		if err := c.Upgrade(ctx, name, api.UpgradeRequest{Adopt: true}); err != nil {
			return err
		}
	}
	if o.noWait {
		a.printf("`accumulus cluster status %s` shows how the follower comes up\n", name)
		return nil
	}
	if err := a.follow(ctx, c, name, o.wait); err != nil {
		return err
	}
	a.printf("its first window is here in about two minutes: accumulus usage --cluster %s --aggregate namespace,workload\n", name)
	return nil
}

func find(overview status.Overview, name string) (status.Cluster, bool) {
	for _, cluster := range overview.Clusters {
		if cluster.Name == name && cluster.State != status.Removed {
			return cluster, true
		}
	}
	return status.Cluster{}, false
}

// accessError says what to do about an account that could not be made.
func accessError(name string, o contextOptions, err error) error {
	var forbidden *access.PermissionError
	var foreign *access.ForeignError
	switch {
	case errors.As(err, &forbidden):
		flag := ""
		if o.gitops {
			flag = " --gitops"
		}
		if o.tokenDuration > 0 {
			flag += " --renew"
		}
		return fmt.Errorf("context %s: %w\nHave an administrator apply what `accumulus cluster access %s%s --print` prints, then run this again", o.name, err, name, flag)
	case errors.As(err, &foreign):
		return fmt.Errorf("context %s: %w\nRemove it from that leader first, or take it over with --adopt", o.name, err)
	}
	return fmt.Errorf("context %s: %w", o.name, err)
}

// followStep is how long to wait between two looks at an installation.
const followStep = 2 * time.Second

// follow prints each step of an installation until it is done, or has failed,
// which is an error.
func (a *app) follow(ctx context.Context, c *client.Client, name string, most time.Duration) error {
	end := a.clock.Now().Add(most)
	var told string
	for {
		now, err := c.Installation(ctx, name)
		if err != nil && !client.IsNotFound(err) { // the installer has not looked at it yet
			return err
		}
		if line := progress(now); err == nil && line != told {
			told = line
			a.printf("  %s\n", line)
		}
		if err == nil && now.Settled() {
			return installed(name, now)
		}
		if a.clock.Now().After(end) {
			return fmt.Errorf("cluster %s is not ready after %s; the leader goes on, and `accumulus cluster status %s` shows how far it is", name, most, name)
		}
		if err := a.clock.Sleep(ctx, followStep); err != nil {
			return fmt.Errorf("not waited for: the leader goes on, and `accumulus cluster status %s` shows how far it is: %w", name, err)
		}
	}
}

func progress(i registry.Installation) string {
	line := i.State
	for _, more := range []string{i.Step, i.Message} {
		if more != "" {
			line += ": " + more
		}
	}
	return line
}

// installed is the error of an installation that came to an end, if any.
func installed(name string, i registry.Installation) error {
	switch i.State {
	case registry.InstallReady, registry.InstallGitOps:
		return nil
	}
	text := fmt.Sprintf("the follower of %s is %s", name, i.State)
	for _, more := range []string{i.Step, i.Message} {
		if more != "" {
			text += ": " + more
		}
	}
	if i.Hint != "" {
		text += "\n" + i.Hint
	}
	return errors.New(text)
}

func newClusterAccess(a *app) *cobra.Command {
	var show, gitops, renew bool
	command := &cobra.Command{
		Use:   "access NAME --print",
		Short: "Print the objects that let the leader into a cluster, for an administrator or GitOps",
		Long: `Prints the namespace, service account and rights that the leader needs in a
cluster, each verb with what it is for, as kubectl apply takes them. "accumulus
cluster add NAME --context CONTEXT" makes them by itself; where its user may not,
somebody who may applies these first.`,
		Example: "  accumulus cluster access ams-03 --print | kubectl apply -f -",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, _ []string) error {
			if !show {
				return errors.New("add --print; `accumulus cluster add NAME --context CONTEXT` makes the objects")
			}
			text, err := access.Manifests(access.Kind{Install: !gitops, Renew: renew})
			if err != nil {
				return err
			}
			a.printf("%s", text)
			return nil
		},
	}
	command.Flags().BoolVar(&show, "print", false, "print the objects")
	command.Flags().BoolVar(&gitops, "gitops", false, "only what the leader needs to meter: somebody else installs the follower")
	command.Flags().BoolVar(&renew, "renew", false, "for cluster add --token-duration: the right to renew the leader's token, in place of a Secret with one that does not end")
	return command
}

func newClusterUpgrade(a *app) *cobra.Command {
	var noWait bool
	var wanted api.UpgradeRequest
	var values string
	var most time.Duration
	command := &cobra.Command{
		Use:   "upgrade NAME",
		Short: "Bring a cluster's follower to the leader's version, or install it again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if wanted.Values, err = readValues(values); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Upgrade(cmd.Context(), args[0], wanted); err != nil {
				return err
			}
			if noWait {
				a.printf("the leader upgrades %s; `accumulus cluster status %s` shows how far it is\n", args[0], args[0])
				return nil
			}
			if err := a.follow(cmd.Context(), c, args[0], most); err != nil {
				return err
			}
			a.printf("the follower of %s is up to date\n", args[0])
			return nil
		},
	}
	command.Flags().BoolVar(&wanted.Adopt, "adopt", false, "take over a follower that somebody else installed")
	command.Flags().StringVar(&values, "values", "", "YAML file of values of the follower's chart for this cluster, over those of all clusters and in place of what was given before; {} is none")
	command.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is ready")
	command.Flags().DurationVar(&most, "timeout", 10*time.Minute, "how long to wait for it")
	return command
}

// readValues reads a file of values; without a name there are none.
func readValues(path string) (map[string]any, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		return nil, fmt.Errorf("values %s: %w", path, err)
	}
	if values == nil { // a slip, perhaps: it would drop the values that were given before
		return nil, fmt.Errorf("values %s: is empty: write {} for no values at all", path)
	}
	return values, nil
}

// rotation is how long a rotation of a token may take: a little more than the
// leader waits for the follower.
const rotation = 6 * time.Minute

func newClusterRotate(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-token NAME",
		Short: "Give a cluster's follower a new token; metering goes on meanwhile",
		Long: `Gives the follower a new token: it stands beside the old one until the follower
takes it, which is when its node has brought the changed Secret into the pod, in a
minute or two; then the old one is taken out of the Secret, and ends likewise. What
broke off may be run again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := client.New(client.Config{Server: a.server, TokenFile: a.tokenFile, CAFile: a.caFile, Timeout: rotation})
			if err != nil {
				return err
			}
			if err := c.RotateToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			a.printf("the follower of %s takes a new token; the old one ends within two minutes\n", args[0])
			return nil
		},
	}
}
