package follower

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/follower/customer"
	"github.com/accumulus-metering/accumulus/follower/pseudonym"
	"github.com/accumulus-metering/accumulus/follower/watch"
	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/review"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
)

// newCustomer is what the cluster's own people see of the follower.
func (f *Follower) newCustomer(registry prometheus.Registerer) (*customer.Customer, error) {
	var names answers.Names = answers.Plain{}
	if f.input.Names != nil {
		names = &ownNames{table: f.input.Names, log: f.log, known: make(map[string]string)}
	}
	engine := answers.New(answers.Config{Cluster: f.config.Cluster}, ownStore{f}, names, f.settled, ownRevisions{f}, f.clock)
	return customer.New(customer.Config{Cluster: f.config.Cluster}, customer.Deps{Answers: engine, Reviewer: f.input.Reviewer,
		Token:  func(r *http.Request) string { return credentialOf(r).token },
		Own:    func(token string) bool { return f.roleWith(token) >= viewer },
		Health: f.health, Clock: f.clock, Log: f.log}, registry)
}

// ownNames are the names behind the pseudonyms that the follower stores: the
// cluster's own people are shown them, and rights are of them.
type ownNames struct {
	table *pseudonym.Table
	log   *slog.Logger

	mu    sync.Mutex
	known map[string]string // what a pseudonym stands for never changes
}

// maxKnown bounds how many names are held in memory.
const maxKnown = 20_000

// Resolve is the name, or what is stored where the table has none for it.
func (n *ownNames) Resolve(stored string) string {
	if !strings.HasPrefix(stored, pseudonym.Prefix) {
		return stored
	}
	n.mu.Lock()
	name, ok := n.known[stored]
	n.mu.Unlock()
	if ok {
		return name
	}
	found, ok, err := n.table.Resolve(context.Background(), stored) // of a local file
	if err != nil {
		n.log.Warn("a pseudonym cannot be resolved", "err", err)
	}
	if err != nil || !ok {
		return stored
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.known) >= maxKnown {
		clear(n.known)
	}
	n.known[stored] = found.Name
	return found.Name
}

// reviewRate is how many reviews may be asked in a second: a caller who sees
// some namespaces makes one for each that is there.
const reviewRate = 100

// newReviewer asks the cluster's API server, by a client of its own, so that
// callers do not use up the watch's share.
func newReviewer(c Config, clk clock.Clock, registry prometheus.Registerer) (*review.Reviewer, error) {
	api := c.API
	api.Rate = reviewRate
	client, err := watch.NewClient(api, clk)
	if err != nil {
		return nil, err
	}
	return review.New(review.Config{Audiences: c.ReviewAudiences}, client.AuthenticationV1().TokenReviews(),
		client.AuthorizationV1().SubjectAccessReviews(), clk, registry)
}

// ownStore are the follower's databases, once they are open.
type ownStore struct{ f *Follower }

// Database is one of them.
func (s ownStore) Database(name string) *influxsync.Database { return s.f.store.Database(name) }

// ownRevisions tell changes of the meter's tables by their journals, and of
// results by the writes that came over the port.
type ownRevisions struct{ f *Follower }

// Revision is the sum of the revisions of the day's minutes, of a table that
// has a journal, or how often results were written.
func (r ownRevisions) Revision(db, table string, day schema.Window) uint64 {
	if db == schema.ResultsDB {
		return r.f.pushed.of(day)
	}
	var latest func(schema.Window) (influxsync.Entry, bool)
	if journal, ok := r.f.journals[table]; ok {
		latest = journal.Latest
	} else if table == schema.VolumeMinute.Name && r.f.volumes != nil {
		latest = r.f.volumes.Latest
	} else if table == schema.Object.Name && r.f.facts != nil {
		latest = r.f.facts.LatestObjects
	} else {
		return 0
	}
	var sum uint64
	for _, minute := range day.Split(schema.Minute) {
		entry, _ := latest(minute)
		sum += uint64(entry.Revision)
	}
	return sum
}

// pushed counts the writes of results by the days that they touch.
type pushed struct {
	mu     sync.Mutex
	writes map[int64]uint64
}

// wrote counts a body of lines, each of which ends with its time.
func (p *pushed) wrote(lines []byte) {
	touched := make(map[int64]bool)
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSpace(line)
		if at, err := strconv.ParseInt(string(line[bytes.LastIndexByte(line, ' ')+1:]), 10, 64); err == nil {
			touched[dayOf(time.Unix(0, at))] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writes == nil {
		p.writes = make(map[int64]uint64)
	}
	for day := range touched {
		p.writes[day]++
	}
}

func (p *pushed) of(day schema.Window) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes[dayOf(day.From)]
}

// dayOf numbers the days of UTC.
func dayOf(t time.Time) int64 { return t.UTC().Truncate(24 * time.Hour).Unix() }

// settled is the end of the newest settled minute, the zero time before the
// first. The store is open.
func (f *Follower) settled() time.Time {
	if m := f.meter.Status(); m.Mark.After(m.From) {
		return m.Mark.UTC()
	}
	return time.Time{}
}

// late is how old the newest settled minute may be before the page says why.
const late = 5 * time.Minute

// health is how the follower is, in words.
func (f *Follower) health() customer.Health {
	s := f.Status()
	h := customer.Health{Now: s.Now, Open: s.Open}
	if s.Mark != nil {
		h.Settled = *s.Mark
	}
	add := func(wrong bool, hint, format string, values ...any) {
		if wrong {
			h.Problems = append(h.Problems, customer.Trouble{Whole: true, Text: fmt.Sprintf(format, values...), Hint: hint})
		}
	}
	add(s.StoreError != "", "Readings are kept and stored when it works again, as far as they reach.", "The store has a problem: %s.", s.StoreError)
	add(!s.Clock.Trusted, "Readings are kept; minutes settle when the clock can be trusted.", "The clock cannot be trusted: %s.", s.Clock.Reason)
	add(watchProblem(s.Watch) != "", "What is known of pods and nodes stays in use.", "The API server is not followed: %s.", watchProblem(s.Watch))
	add(s.Mark != nil && s.Now.Sub(*s.Mark) > late, "It settles by itself when the readings are there, or at its deadline.",
		"The next minute has not settled: %s.", cmp.Or(s.Waiting, "it is being worked on"))
	add(s.Seed.Error != "", "The one before it stays in use.", "The newest facts of the nodes cannot be used: %s.", s.Seed.Error)
	add(len(s.UnknownNodes) > 0, "Usage is metered all the same; their hardware and energy are unknown until the provider describes them.",
		"Nodes whose facts are not known: %s.", listed(s.UnknownNodes))
	for _, nodes := range s.SharedHosts {
		add(true, "Their capacity is counted once.", "These nodes are one machine: %s.", listed(nodes))
	}
	unread := 0
	for _, source := range s.Sources {
		node := customer.Node{Name: source.Name, Error: source.Error, Problems: source.Problems}
		if source.LastSuccess != nil {
			node.Last = *source.LastSuccess
		}
		if source.Error != "" {
			unread++
		}
		h.Nodes = append(h.Nodes, node)
	}
	add(unread > 0, "What ran there meanwhile is metered from its counters when they can be read again.", "%d of %d nodes cannot be read.", unread, len(s.Sources))
	return h
}

// watchProblem is what is wrong with the watch, "" where nothing is.
func watchProblem(w *WatchStatus) string {
	switch {
	case w == nil:
		return ""
	case w.LastError != "":
		return w.LastError
	case !w.Synced:
		return "the first list of pods and nodes is not here yet"
	case len(w.Unlisted) > 0:
		return "not listed yet: " + listed(w.Unlisted)
	}
	return ""
}

// listed are the first names of a list.
func listed(names []string) string {
	const most = 5
	text := ""
	for i, name := range names {
		if i == most {
			return text + fmt.Sprintf(" and %d more", len(names)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += name
	}
	return text
}
