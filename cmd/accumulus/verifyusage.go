package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/decimal"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/spf13/cobra"
)

// errDiffers is a meter that differs from what is billed by more than two meters'
// intervals explain.
var errDiffers = errors.New("a quantity differs by more than the tolerance")

// ownInterval is how often a follower reads, where nobody says otherwise, and how
// often the leader is asked whether it has metered a stretch.
const ownInterval = 15 * time.Second

// comparison is a customer's own meter against what is metered.
type comparison struct {
	Cluster    string     `json:"cluster"`
	Namespace  string     `json:"namespace"`
	From       time.Time  `json:"from"`
	To         time.Time  `json:"to"`
	Tolerance  string     `json:"tolerancePercent,omitempty"` // of all quantities; of kubelets each has its own bound
	Origin     string     `json:"toleranceOrigin"`
	Quantities []compared `json:"quantities"`
	Skipped    []string   `json:"skipped,omitempty"` // what was not compared, and why
}

type compared struct {
	Pod      string `json:"pod,omitempty"` // "" is all that are compared
	Quantity string `json:"quantity"`
	Own      string `json:"own"`
	Metered  string `json:"metered"`
	Percent  string `json:"differencePercent"` // of the own one; "" where that is 0
	Bound    string `json:"bound,omitempty"`   // of the difference, of its own
	Within   bool   `json:"withinTolerance"`
}

// meterable are the quantities that both meters may have, as the usage API names
// them.
var meterable = map[string]func(r usage.Row) usage.Exact{
	"cpuCoreSeconds":       func(r usage.Row) usage.Exact { return r.CPUCoreSeconds },
	"memoryByteSeconds":    func(r usage.Row) usage.Exact { return r.MemoryByteSeconds },
	"networkReceiveBytes":  func(r usage.Row) usage.Exact { return r.NetworkReceiveBytes },
	"networkTransmitBytes": func(r usage.Row) usage.Exact { return r.NetworkTransmitBytes },
}

func newVerifyUsage(a *app) *cobra.Command {
	var source, prometheus, cluster, namespace, window, selector string
	var interval, scrape time.Duration
	var kubelets kubeletOptions
	command := &cobra.Command{
		Use:   "usage --source {kubelet|prometheus|FILE} --cluster NAME --namespace NAME {--window WINDOW | --context NAME --for TIME}",
		Short: "Compare a meter of one's own with what is metered",
		Long: `Compares a meter of one's own with what is metered of a namespace in a window, which
is what bills are made of, and prints the difference of each quantity.

kubelet reads the counters of the nodes' kubelets now, through the API server of a
context of your kubeconfig (nodes/proxy), at the start and at the end of --for, waits
until the leader has metered that stretch, and compares pod by pod. What a pod had used at
an edge lies on a line between what its kubelet counted before it and after. Each pod has a
bound of its own: what it used around both edges, from the follower's last reading before
an edge until its next one.

prometheus asks a Prometheus (--prometheus URL) for the increase of
container_cpu_usage_seconds_total. FILE is CSV with the columns quantity and value;
quantities are cpuCoreSeconds, memoryByteSeconds, networkReceiveBytes and
networkTransmitBytes, as in the API.

Two meters that read the same counter differ by what happens between a reading and the
window's edge. The tolerance is that: at both edges an interval of each meter, by the
window's length. A longer window has a smaller one. It ends with code 1 beyond that.
Where the cluster's follower reads more or less often than each 15 s (the chart's
scrapeInterval), say so with --scrape-interval.`,
		Example: `  accumulus verify usage --source kubelet --context ams-03 --cluster ams-03 --namespace shop --for 15m
  accumulus verify usage --source prometheus --prometheus http://127.0.0.1:9090 --cluster ams-03 --namespace shop --window yesterday
  accumulus verify usage --source own.csv --cluster ams-03 --namespace shop --window 2026-11-01T00:00:00Z,2026-11-02T00:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if scrape <= 0 || interval <= 0 {
				return fmt.Errorf("--scrape-interval %s, --interval %s: a meter reads again after more than 0s", scrape, interval)
			}
			if source == "kubelet" {
				kubelets.namespace, kubelets.scrape = namespace, scrape
				made, err := a.compareKubelet(cmd.Context(), kubelets, cluster)
				return a.tellComparison(made, err)
			}
			made, err := a.compareUsage(cmd.Context(), cluster, namespace, window, intervals{scrape, interval}, func(from, to time.Time) (map[string]*big.Rat, error) {
				if source == "prometheus" {
					return askPrometheus(cmd.Context(), prometheus, namespace, selector, from, to)
				}
				return readMeter(source)
			})
			return a.tellComparison(made, err)
		},
	}
	flags := command.Flags()
	flags.StringVar(&source, "source", "", "kubelet, prometheus, or a CSV file with the columns quantity and value")
	flags.StringVar(&prometheus, "prometheus", "http://127.0.0.1:9090", "URL of the Prometheus")
	flags.StringVar(&selector, "selector", `container!="",container!="POD"`, "what else the series of Prometheus are selected by")
	flags.StringVar(&cluster, "cluster", "", "the cluster")
	flags.StringVar(&namespace, "namespace", "", "the namespace")
	flags.StringVarP(&window, "window", "w", "yesterday", "time to compare")
	flags.DurationVar(&interval, "interval", 30*time.Second, "how often one's own meter reads")
	flags.DurationVar(&scrape, "scrape-interval", ownInterval, "how often the cluster's follower reads")
	kubelets.bindAll(flags)
	a.answerFlags(command)
	required(command, "source", "cluster", "namespace")
	return command
}

// tellComparison prints a comparison. Its error is errDiffers where something is
// beyond its bound, and the comparison's own where there is one.
func (a *app) tellComparison(made comparison, err error) error {
	if err != nil {
		return err
	}
	if a.output != asTable {
		err = a.answerOr(nil, made)
	} else {
		err = a.showComparison(made)
	}
	if err == nil && slices.ContainsFunc(made.Quantities, func(c compared) bool { return !c.Within }) {
		err = errDiffers
	}
	return err
}

// intervals are how often the two meters read.
type intervals struct{ follower, own time.Duration }

// compareUsage asks the leader, and the own meter for the very same window.
func (a *app) compareUsage(ctx context.Context, cluster, namespace, window string, each intervals, own func(from, to time.Time) (map[string]*big.Rat, error)) (comparison, error) {
	c, err := a.client()
	if err != nil {
		return comparison{}, err
	}
	answer, err := c.Usage(ctx, url.Values{"window": {window}, "filter": {"cluster=" + cluster, "namespace=" + namespace}})
	if err != nil {
		return comparison{}, err
	}
	if len(answer.Rows) != 1 || !answer.From.Before(answer.To) {
		return comparison{}, fmt.Errorf("nothing is metered of namespace %s of cluster %s in %s", namespace, cluster, window)
	}
	values, err := own(answer.From, answer.To)
	if err != nil {
		return comparison{}, err
	}
	length := answer.To.Sub(answer.From)
	tolerance := big.NewRat(int64(2*(each.follower+each.own)), int64(length))
	made := comparison{Cluster: cluster, Namespace: namespace, From: answer.From, To: answer.To, Tolerance: percentOf(tolerance),
		Origin: fmt.Sprintf("at both edges of %s an interval of each meter: %s of the follower, %s of the own one", length, each.follower, each.own)}
	for _, name := range sortedNames(values) {
		metered, ok := new(big.Rat).SetString(meterable[name](answer.Rows[0]).String())
		if !ok {
			return comparison{}, fmt.Errorf("%s is not known of the window", name)
		}
		one := compared{Quantity: name, Own: values[name].FloatString(3), Metered: metered.FloatString(3)}
		difference := new(big.Rat).Sub(metered, values[name])
		if values[name].Sign() != 0 {
			share := new(big.Rat).Quo(difference, values[name])
			one.Percent = percentOf(share)
			one.Within = share.Abs(share).Cmp(tolerance) <= 0
		} else {
			one.Within = difference.Sign() == 0
		}
		made.Quantities = append(made.Quantities, one)
	}
	return made, nil
}

func percentOf(share *big.Rat) string {
	return new(big.Rat).Mul(share, big.NewRat(100, 1)).FloatString(3)
}

func sortedNames(values map[string]*big.Rat) []string {
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// readMeter reads a CSV of quantities.
func readMeter(path string) (map[string]*big.Rat, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read meter: %w; --source is prometheus or a CSV file", err)
	}
	defer func() { _ = file.Close() }()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read meter %s: %w", path, err)
	}
	if len(rows) < 2 || !slices.Equal(rows[0], []string{"quantity", "value"}) {
		return nil, fmt.Errorf("read meter %s: want a header quantity,value and at least one row", path)
	}
	values := make(map[string]*big.Rat)
	for i, row := range rows[1:] {
		number, err := decimal.Parse(row[1])
		if err == nil && meterable[row[0]] == nil {
			err = fmt.Errorf("quantity %q is none of cpuCoreSeconds, memoryByteSeconds, networkReceiveBytes, networkTransmitBytes", row[0])
		}
		if err == nil && values[row[0]] != nil {
			err = fmt.Errorf("quantity %s is there twice", row[0])
		}
		if err != nil {
			return nil, fmt.Errorf("read meter %s, line %d: %w", path, i+2, err)
		}
		values[row[0]], _ = new(big.Rat).SetString(number.Text('f'))
	}
	return values, nil
}

// maxPrometheus bounds an answer.
const maxPrometheus = 1 << 20

// askPrometheus asks for the increase of the CPU counter over a window.
func askPrometheus(ctx context.Context, server, namespace, selector string, from, to time.Time) (map[string]*big.Rat, error) {
	matchers := "namespace=" + strconv.Quote(namespace)
	if selector != "" {
		matchers += "," + selector
	}
	query := fmt.Sprintf("sum(increase(container_cpu_usage_seconds_total{%s}[%ds]))", matchers, int64(to.Sub(from)/time.Second))
	target := strings.TrimSuffix(server, "/") + "/api/v1/query?" + url.Values{"query": {query}, "time": {to.UTC().Format(time.RFC3339)}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	answer, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w; --prometheus says where it is", err)
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxPrometheus)).Decode(&body); err != nil {
		return nil, fmt.Errorf("ask Prometheus: %s answered %s, which is no answer of its API", server, answer.Status)
	}
	if body.Status != "success" {
		return nil, fmt.Errorf("ask Prometheus: %s", body.Error)
	}
	if len(body.Data.Result) != 1 {
		return nil, fmt.Errorf("ask Prometheus: it has no container_cpu_usage_seconds_total{%s} until %s: look at --selector, and at what it keeps", matchers, to.Format(time.RFC3339))
	}
	text, _ := body.Data.Result[0].Value[1].(string)
	number, err := decimal.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	value, _ := new(big.Rat).SetString(number.Text('f'))
	return map[string]*big.Rat{"cpuCoreSeconds": value}, nil
}

func (a *app) showComparison(made comparison) error {
	a.printf("Namespace %s of cluster %s, %s to %s\n\n", made.Namespace, made.Cluster, humanTime(made.From), humanTime(made.To))
	t := &table{columns: append(left("QUANTITY"), right("OWN", "METERED", "DIFFERENCE %")...)}
	bounded := slices.ContainsFunc(made.Quantities, func(c compared) bool { return c.Bound != "" })
	if bounded {
		t.columns = append(append(left("POD"), t.columns...), right("BOUND")...)
	}
	t.columns = append(t.columns, left("WITHIN")...)
	for _, c := range made.Quantities {
		within := "yes"
		if !c.Within {
			within = "NO"
		}
		if !bounded {
			t.add(c.Quantity, c.Own, c.Metered, c.Percent, within)
			continue
		}
		t.add(cmp.Or(c.Pod, "all"), c.Quantity, c.Own, c.Metered, c.Percent, c.Bound, within)
	}
	if err := t.write(a.out); err != nil {
		return err
	}
	for _, skipped := range made.Skipped {
		a.printf("Not compared: %s\n", skipped)
	}
	if bounded {
		a.printf("\nBound: %s.\n", made.Origin)
		return nil
	}
	a.printf("\nTolerance %s %%: %s.\n", made.Tolerance, made.Origin)
	return nil
}
