package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/spf13/cobra"
)

func newToken(a *app) *cobra.Command {
	command := &cobra.Command{
		Use:   "token",
		Short: "Named tokens of the leader's API: make, list, revoke",
		Long: `Named tokens let people and programs in, each with a role of its own. A tenant's
token is bound to customers, clusters, namespaces or labels: it reads what satisfies
all that is given, and nothing else. docs/access.md has the roles.`,
	}
	command.AddCommand(newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
	parent(command)
	return command
}

func newTokenCreate(a *app) *cobra.Command {
	var wish api.TokenRequest
	var labels []string
	command := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Make a token; its secret is shown this once",
		Example: `  accumulus token create grafana --role viewer --expires 90d
  accumulus token create acme --role tenant --customer acme
  accumulus token create shop-team --role tenant --cluster ams-03 --namespace 'shop-*' --label team=shop`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wish.Name = args[0]
			for _, label := range labels {
				name, value, ok := strings.Cut(label, "=")
				if !ok || name == "" {
					return fmt.Errorf("label %q: write it as name=value", label)
				}
				if before, twice := wish.Scope.Labels[name]; twice && before != value {
					return fmt.Errorf("label %q: it is %s already, and a pod has one value of it", label, before)
				}
				if wish.Scope.Labels == nil {
					wish.Scope.Labels = make(map[string]string)
				}
				wish.Scope.Labels[name] = value
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			made, err := c.CreateToken(cmd.Context(), wish)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(made)
			}
			a.printf("%s\n", string(made.Secret))
			_, _ = fmt.Fprintf(a.errOut, "The token %s (%s) is shown this once: keep it in a file that its owner alone can read.\n", made.Name, made.Role) // nowhere is left to tell
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&wish.Role, "role", "", "viewer, tenant, billing, operator or meters")
	flags.StringSliceVar(&wish.Scope.Customers, "customer", nil, "of a tenant: a customer that it sees, as often as wanted")
	flags.StringSliceVar(&wish.Scope.Clusters, "cluster", nil, "of a tenant: a cluster that it sees; * is any run of characters")
	flags.StringSliceVar(&wish.Scope.Namespaces, "namespace", nil, "of a tenant: a namespace that it sees; * likewise; with --customer or --cluster")
	flags.StringArrayVar(&labels, "label", nil, "of a tenant: a label, name=value, of the pods that it sees; all must be there; with --customer or --cluster")
	flags.StringVar(&wish.ExpiresIn, "expires", "", "after which it ends, such as 90d or 12h (default never)")
	_ = command.MarkFlagRequired("role") // the flag was just added
	_ = command.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "tenant", "billing", "operator", "meters"}, cobra.ShellCompDirectiveNoFileComp))
	a.outputFlag(command, asTable, asJSON)
	return command
}

func newTokenList(a *app) *cobra.Command {
	var revoked bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List the named tokens, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			list, err := c.Tokens(cmd.Context(), revoked)
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.printJSON(list)
			}
			t := &table{columns: left("NAME", "ROLE", "SCOPE", "BEGINS WITH", "CREATED", "BY", "EXPIRES", "LAST USED")}
			if revoked {
				t.columns = append(t.columns, left("REVOKED")...)
			}
			for _, token := range list {
				cells := []string{token.Name, token.Role, token.Scope.String(), token.Prefix, humanTime(token.Created), token.CreatedBy,
					timeOrNone(token.Expires), timeOrNone(token.Used)}
				if revoked {
					cells = append(cells, timeOrNone(token.Revoked))
				}
				t.add(cells...)
			}
			return t.writeOr(a.out, "No token was created yet: accumulus token create NAME --role ROLE")
		},
	}
	command.Flags().BoolVar(&revoked, "revoked", false, "also those that were revoked")
	a.outputFlag(command, asTable, asJSON)
	return command
}

// timeOrNone is a time for people, "" for none.
func timeOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return humanTime(t)
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a token, from the next request on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			a.printf("token %s was revoked\n", args[0])
			return nil
		},
	}
}
