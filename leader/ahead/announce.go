package ahead

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/webhook"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/prometheus/client_golang/prometheus"
)

// AnnounceConfig says who is told of runs that ended.
type AnnounceConfig struct {
	URL       string // of the webhook; "" is none
	TokenFile string // bearer token, read for each request; "" is none
	Source    string // of the events; "" is accumulus
	PublicURL string // where people reach the leader; "" leaves links without a host
	// GroupLabel is a label whose values name groups of pods that are told of together
	// too, as one run; "" is none.
	GroupLabel string
	// Lookback is how late what a cluster says of a run may come and still be told.
	// 0 = 72 h; at most 768 h.
	Lookback time.Duration
}

// Reach is how long after a run's end its report is made at the latest.
func (c AnnounceConfig) Reach() time.Duration { return cmp.Or(c.Lookback, 72*time.Hour) }

const mostLookback = 32 * 24 * time.Hour

// Validate lists what is wrong.
func (c AnnounceConfig) Validate() error {
	var wrong []error
	for name, text := range map[string]string{"run-events-url": c.URL, "public-url": c.PublicURL} {
		if text == "" {
			continue
		}
		if err := webhook.CheckURL(text); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
	}
	if c.Lookback < 0 || c.Lookback > mostLookback {
		wrong = append(wrong, fmt.Errorf("run-events-lookback %s: use at most %s", c.Lookback, mostLookback))
	}
	if strings.ContainsAny(c.GroupLabel, "=,* ") {
		wrong = append(wrong, fmt.Errorf("run-events-group-label %q: name one label, such as example.com/batch", c.GroupLabel))
	}
	return errors.Join(wrong...)
}

// EventBooks note what was told of runs: *registry.Registry.
type EventBooks interface {
	NoteRunEvent(ctx context.Context, e registry.RunEvent) (bool, error)
	RunEventUnmade(ctx context.Context, e registry.RunEvent) error
	DismissRunEvents(ctx context.Context, unmade time.Time) ([]registry.RunEvent, error)
	AnswerRunEvent(ctx context.Context, e registry.RunEvent) error
	RunEvents(ctx context.Context, since time.Time) ([]registry.RunEvent, error)
}

// Announcer tells a webhook of each run that ended, once: of each Job, of each pod that
// is nobody's replica, and of each group of pods. It waits until what the run used has
// settled, and nothing of its energy is provisional any more. A run whose report cannot
// be made is tried again later and later, and holds back no other; it is dismissed, on
// record, after mostMade attempts or when the look-back has ended.
type Announcer struct {
	config AnnounceConfig
	desk   *Desk
	books  EventBooks
	client *http.Client
	clock  clock.Clock
	log    *slog.Logger
	told   *prometheus.CounterVec
	groups *groups // nil without a label
	// waiting says from when on a run whose energy was provisional is looked at again.
	waiting map[string]time.Time
}

// NewAnnouncer makes an announcer.
func NewAnnouncer(config AnnounceConfig, desk *Desk, books EventBooks, client *http.Client, clk clock.Clock, log *slog.Logger, registerer prometheus.Registerer) (*Announcer, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Source == "" {
		config.Source = "accumulus"
	}
	config.Lookback = config.Reach()
	a := &Announcer{config: config, desk: desk, books: books, client: client, clock: clk, log: log, waiting: make(map[string]time.Time),
		told: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "accumulus_run_events_total", Help: "Reports of runs that ended, and what came of them: noted or unmade, sent, refused or a failed request, dismissed."}, []string{"result"})}
	if config.GroupLabel != "" {
		a.groups = &groups{label: config.GroupLabel, pods: make(map[string]*groupPod)}
	}
	if err := registerer.Register(a.told); err != nil {
		return nil, fmt.Errorf("register metrics of run events: %w", err)
	}
	return a, nil
}

const (
	// settleAfter is how long after a run's end its cluster must have settled.
	settleAfter = 2 * time.Minute
	// provisionalFor is how long readings of meters are waited for.
	provisionalFor = 24 * time.Hour
	lookAgain      = 10 * time.Minute
	// mostNoted bounds the reports of one tick, and mostFailed those that cannot be made:
	// the next goes on.
	mostNoted  = 500
	mostFailed = 50
	// mostMade bounds the attempts to make one report: the last one is about 27 hours
	// after the first.
	mostMade = 12
)

// Tick notes what ended, and tells the webhook what is pending and due. What cannot be
// read now holds back nothing that was noted before.
func (a *Announcer) Tick(ctx context.Context) error {
	settled, err := a.desk.settled(ctx)
	if errors.Is(err, ErrNothing) {
		return nil
	}
	if err == nil {
		err = a.note(ctx, settled)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, a.send(ctx))
}

// note looks for runs that ended in the look-back and are not known yet.
func (a *Announcer) note(ctx context.Context, settled time.Time) error {
	from := settled.Add(-a.config.Lookback).Truncate(time.Hour)
	given, err := a.books.DismissRunEvents(ctx, from)
	if err != nil {
		return err
	}
	for _, e := range given {
		a.dismissed(e)
	}
	events, err := a.books.RunEvents(ctx, from.Add(-time.Hour))
	if err != nil {
		return err
	}
	known := make(map[string]registry.RunEvent, len(events))
	for _, e := range events {
		known[e.ID] = e
	}
	l := look{settled: settled, known: known}
	for _, hour := range (schema.Window{From: from, To: settled.Add(-settleAfter)}).Split(time.Hour) {
		for _, kind := range []string{kindJob, kindPod} {
			if err := a.noteEnded(ctx, &l, kind, hour); err != nil || l.full() {
				return err
			}
		}
	}
	return a.noteGroups(ctx, from, settled, events)
}

// look is one look for runs that ended.
type look struct {
	settled       time.Time
	known         map[string]registry.RunEvent // by their ids
	noted, failed int
}

func (l *look) full() bool { return l.noted == mostNoted || l.failed == mostFailed }

// noteEnded notes the runs of a kind that ended in an hour, until the look is full.
func (a *Announcer) noteEnded(ctx context.Context, l *look, kind string, hour schema.Window) error {
	kept := 0
	ended, err := a.desk.runs(ctx, kind, hour, func(r run) bool {
		id := r.eventID()
		e, there := l.known[id]
		keep := kept < mostNoted && (!there || a.again(e)) && (kind == kindJob || r.alone()) && !a.waiting[id].After(l.settled)
		if keep {
			kept++
		}
		return keep
	})
	if err != nil {
		return err
	}
	for _, one := range ended {
		fresh, err := a.noteRun(ctx, one, l.settled)
		if err != nil {
			l.failed++
			e := l.known[one.eventID()]
			e.ID, e.Subject, e.Ended = one.eventID(), one.subject(), one.end
			err = a.unmade(ctx, e, err)
		}
		if fresh {
			l.noted++
		}
		if err != nil || l.full() {
			return err
		}
	}
	return nil
}

// again says whether it is time to try to make an event's report again.
func (a *Announcer) again(e registry.RunEvent) bool {
	return e.State == registry.EventUnmade && !e.Next.After(a.clock.Now())
}

// unmade notes that the report of an event could not be made, with its attempts before:
// it is tried again, later and later, or dismissed after the last time.
func (a *Announcer) unmade(ctx context.Context, e registry.RunEvent, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now := a.clock.Now().UTC()
	e.Attempts++
	e.State, e.Error, e.Next = registry.EventUnmade, why.Error(), now.Add(backoff(e.Attempts))
	if e.At.IsZero() {
		e.At = now
	}
	if e.Attempts >= mostMade {
		e.State = registry.EventDismissed
	}
	if err := a.books.RunEventUnmade(ctx, e); err != nil {
		return err
	}
	a.told.WithLabelValues(registry.EventUnmade).Inc()
	if e.State == registry.EventDismissed {
		a.dismissed(e)
		return nil
	}
	a.log.Warn("no report of a run that ended", "run", e.Subject, "attempts", e.Attempts, "next", e.Next, "err", why)
	return nil
}

// dismissed tells of an event that was given up.
func (a *Announcer) dismissed(e registry.RunEvent) {
	a.told.WithLabelValues(registry.EventDismissed).Inc()
	a.log.Error("event of a run given up", "run", e.Subject, "ended", e.Ended, "attempts", e.Attempts, "why", e.Error)
}

// alone says whether a pod is a run by itself: no Job's, and no replica of what goes on
// without it.
func (r run) alone() bool {
	kind, _, _ := strings.Cut(r.workload, "/")
	return !slices.Contains([]string{kindJob, "CronJob", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Node"}, kind)
}

// eventID is the id of the run's event.
func (r run) eventID() string {
	return webhook.EventID(r.cluster, r.kind, r.namespace, r.name, r.uid)
}

// subject is what the run's event is of.
func (r run) subject() string {
	return strings.Join([]string{r.cluster, r.namespace, r.kind, r.name}, "/")
}

// Ended is a run, or a group of runs, that ended: the data of an event.
type Ended struct {
	Cluster   string    `json:"cluster,omitempty"` // none of a group
	Namespace string    `json:"namespace,omitempty"`
	Kind      string    `json:"kind"` // Job, Pod or Group
	Name      string    `json:"name"` // of a group LABEL=VALUE
	Workload  string    `json:"workload,omitempty"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Failed    bool      `json:"failed"` // of a group: some did
	HTML      string    `json:"html"`   // where the report is for people
	Report    Report    `json:"report"`
}

// kindGroup is the kind of a group's event.
const kindGroup = "Group"

// noteRun notes the event of one run, unless something of it is still to come.
func (a *Announcer) noteRun(ctx context.Context, one run, settled time.Time) (bool, error) {
	pods := []run{one}
	if one.kind == kindJob {
		var err error
		pods, err = a.desk.runs(ctx, kindPod, schema.Window{From: one.life().From, To: one.life().To.Add(settleAfter)}, func(r run) bool {
			return r.cluster == one.cluster && r.namespace == one.namespace && r.start.Before(one.end) && r.named(kindJob+"/"+one.name)
		})
		if err != nil {
			return false, err
		}
	}
	name := one.kind + "/" + one.name
	report, err := a.desk.endedReport(ctx, name, pods)
	if err != nil {
		return false, fmt.Errorf("report of %s/%s/%s: %w", one.cluster, one.namespace, name, err)
	}
	if report.open && settled.Sub(one.end) < provisionalFor {
		a.waiting[one.eventID()] = settled.Add(lookAgain)
		return false, nil
	}
	delete(a.waiting, one.eventID())
	if len(pods) == 0 {
		report.From, report.To, report.Seconds = one.start, one.end, one.end.Sub(one.start).Seconds()
	}
	data := Ended{Cluster: one.cluster, Namespace: one.namespace, Kind: one.kind, Name: one.name, Workload: one.workload, Start: one.start, End: one.end, Failed: one.failed(), Report: report,
		HTML: a.link(url.Values{"name": {name}, "cluster": {one.cluster}, "namespace": {one.namespace}}, one.start, schema.Later(one.end, report.To))}
	return a.put(ctx, one.eventID(), one.subject(), data)
}

// endedReport is the report of runs, of none and of many too.
func (d *Desk) endedReport(ctx context.Context, name string, runs []run) (Report, error) {
	switch {
	case len(runs) == 0:
		return Report{Name: name, Runs: []RunCost{}, Total: noSums(), Failed: noSums(), Notes: []string{"no pod of it was metered"}}, nil
	case len(runs) > mostReported:
		report, err := d.reportOf(ctx, name, runs[len(runs)-mostReported:])
		report.Notes = append(report.Notes, fmt.Sprintf("%d runs ended; the last %d of them are in the report and its sums", len(runs), mostReported))
		return report, err
	}
	return d.reportOf(ctx, name, runs)
}

// link is where a report is for people.
func (a *Announcer) link(values url.Values, from, to time.Time) string {
	w := schema.Window{From: from.UTC().Truncate(schema.Minute), To: schema.WindowAt(to.UTC(), schema.Minute).To}
	values.Set("window", w.From.Format(time.RFC3339)+","+w.To.Format(time.RFC3339))
	values.Set("format", "html")
	return strings.TrimSuffix(a.config.PublicURL, "/") + "/api/v1/reports/run?" + values.Encode()
}

// RunType is the type of the events.
const RunType = "accumulus.run.ended"

// runEvent is an event on the wire, a CloudEvent 1.0.
type runEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            Ended     `json:"data"`
}

// put notes an event durably, in place of unmade ones that it tells of too.
func (a *Announcer) put(ctx context.Context, id, subject string, data Ended, replaces ...string) (bool, error) {
	body, err := json.Marshal(runEvent{"1.0", id, a.config.Source, RunType, subject, data.End.UTC(), "application/json", data})
	if err != nil {
		return false, fmt.Errorf("event of %s: %w", subject, err)
	}
	fresh, err := a.books.NoteRunEvent(ctx, registry.RunEvent{ID: id, Subject: subject, Ended: data.End, Body: string(body), At: a.clock.Now().UTC(), Replaces: replaces})
	if fresh {
		a.told.WithLabelValues("noted").Inc()
	}
	return fresh, err
}

// send tells the webhook what is pending and due, the oldest first. The first that has
// no answer ends it: the webhook is away.
func (a *Announcer) send(ctx context.Context) error {
	now := a.clock.Now()
	events, err := a.books.RunEvents(ctx, now)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.State != registry.EventPending || e.Next.After(now) {
			continue
		}
		e.Attempts++
		refusal, err := webhook.Post(ctx, a.client, webhook.Request{URL: a.config.URL, TokenFile: a.config.TokenFile,
			Header: map[string]string{"Content-Type": "application/cloudevents+json"}, Body: []byte(e.Body), Said: 500})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		came := cameOf(refusal, err, e.Attempts, now)
		e.State, e.Error, e.Next = came.state, came.said, came.next
		a.told.WithLabelValues(came.result).Inc()
		if err := a.books.AnswerRunEvent(ctx, e); err != nil {
			return err
		}
		switch came.result {
		case "failed":
			return fmt.Errorf("tell of %s, %d times: %w", e.Subject, e.Attempts, err)
		case "refused":
			a.log.Warn("report of a run refused", "run", e.Subject, "answer", refusal)
		}
	}
	return nil
}
