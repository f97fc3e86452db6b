package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// part is a day of one cluster's table, with what is known of it.
type part struct {
	Parts
	cluster string
	table   schema.Table
	window  schema.Window
	began   time.Time

	ledger      []registry.LedgerEntry               // by time
	refused     map[time.Time][]registry.Quarantined // by their windows' beginnings
	foreign     []registry.ForeignRow
	archived    []registry.ArchivedDay
	mark        influxsync.Mark
	follower    *influxsync.Server
	journal     *journal // nil while unreachable
	unreachable error
}

// tally is what is compared of a window.
type tally struct {
	rows   int64
	digest influxsync.Digest
}

func (t *tally) add(hash uint64)    { t.rows, t.digest = t.rows+1, t.digest+influxsync.Digest(hash) }
func (t *tally) remove(hash uint64) { t.rows, t.digest = t.rows-1, t.digest-influxsync.Digest(hash) }

// look compares the part anew. Findings are by time, one for each window.
func (p *part) look(ctx context.Context) ([]Finding, error) {
	var err error
	if p.ledger, err = p.Registry.Ledger(ctx, p.cluster, p.table.Name, p.window); err != nil {
		return nil, err
	}
	kept, err := p.Registry.Kept(ctx, p.cluster, p.table.Name, p.window)
	if err != nil {
		return nil, err
	}
	p.foreign, p.refused = kept.Foreign, make(map[time.Time][]registry.Quarantined)
	for _, row := range kept.Refused {
		p.refused[row.From] = append(p.refused[row.From], row)
	}
	if p.mark, err = p.Registry.Mark(ctx, p.cluster, p.table.Name); err != nil {
		return nil, err
	}
	if p.archived, err = p.Registry.Archived(ctx, p.cluster, schema.Window{From: p.window.From.UTC().Truncate(day), To: p.window.To}); err != nil {
		return nil, err
	}
	p.reach(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var findings []Finding
	if p.journal != nil {
		findings = p.compareSource()
	}
	inCentre, err := p.compareCentre(ctx)
	if err != nil {
		return nil, err
	}
	findings = append(findings, inCentre...)
	for i := range findings {
		findings[i].Information = findings[i].Kind.Information()
	}
	sortFindings(findings)
	return findings, nil
}

// reach reads the follower's journal, or says why it can't.
func (p *part) reach(ctx context.Context) {
	p.journal, p.unreachable = nil, nil
	if p.follower, p.unreachable = p.Follower(ctx, p.cluster); p.unreachable == nil {
		p.journal, p.unreachable = p.readJournal(ctx)
	}
}

func (p *part) finding(kind Kind, w schema.Window, expected, found int64, message string) Finding {
	return Finding{Kind: kind, From: w.From, To: w.To, Windows: 1, Expected: expected, Found: found, Message: message}
}

// proven are the windows that are the same at the follower, in the ledger and in
// the centre.
func (p *part) proven(wrong map[time.Time]bool) []schema.Window {
	if p.journal == nil || p.journal.broken != nil || p.journal.store != p.mark.Store {
		return nil
	}
	var windows []schema.Window
	for _, e := range p.ledger {
		_, behind := p.journal.behind[e.Window]
		_, ahead := p.journal.ahead[e.Window]
		if !wrong[e.Window.From] && p.current(e) && (behind || ahead) {
			windows = append(windows, e.Window)
		}
	}
	return windows
}

func (p *part) sink() (*influxsync.Database, []influxsync.Condition) {
	return p.Centre.Database(p.table.DB), []influxsync.Condition{{Tag: schema.Cluster, Value: p.cluster}}
}

// compareCentre compares the centre's rows with the ledger.
func (p *part) compareCentre(ctx context.Context) ([]Finding, error) {
	got := make([]tally, len(p.ledger))
	loose := make(map[time.Time]int64) // rows in no window of the ledger, by the table's grain
	longest := p.longest()
	sink, where := p.sink()
	span := p.window // a window that begins in it may end behind it
	if n := len(p.ledger); n > 0 && p.ledger[n-1].Window.To.After(span.To) {
		span.To = p.ledger[n-1].Window.To
	}
	err := sink.TimeQuery(ctx, p.table.Name, span, where, func(row influxsync.Point) error {
		found := false
		p.at(row.Time, longest, func(i int) {
			got[i].add(row.Hash())
			found = true
		})
		if !found && p.window.Contains(row.Time) {
			loose[schema.WindowAt(row.Time, schema.Minute).From]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for i := range p.ledger {
		finding, ok, err := p.compareWindow(ctx, i, got[i])
		if err != nil {
			return nil, err
		}
		if ok {
			findings = append(findings, finding)
		}
	}
	return append(findings, p.looseRows(loose)...), nil
}

func (p *part) longest() time.Duration {
	var longest time.Duration
	for _, e := range p.ledger {
		longest = max(longest, e.Window.Length())
	}
	return longest
}

// at calls each for the windows of the ledger that hold t.
func (p *part) at(t time.Time, longest time.Duration, each func(i int)) {
	i, _ := slices.BinarySearchFunc(p.ledger, t, func(e registry.LedgerEntry, t time.Time) int {
		if e.Window.From.After(t) {
			return 1
		}
		return -1
	})
	for i--; i >= 0 && t.Sub(p.ledger[i].Window.From) < longest; i-- {
		if p.ledger[i].Window.Contains(t) {
			each(i)
		}
	}
}

// looseRows are rows of the centre in windows that the ledger does not have:
// those of a pull that was not confirmed, of a window that is lost, or nobody's.
func (p *part) looseRows(loose map[time.Time]int64) []Finding {
	var findings []Finding
	for from, rows := range loose {
		window := schema.WindowAt(from, schema.Minute)
		kind, message := RowsExtra, fmt.Sprintf("the centre has %s in a window that the ledger does not have", inRows(rows))
		if p.journal != nil {
			if _, ok := p.journal.ahead[window]; ok {
				kind, message = NotPulled, "the centre has rows of a window whose pull was not confirmed"
			} else if _, ok := p.journal.behind[window]; ok {
				continue // the window is lost, which is told
			}
		}
		findings = append(findings, p.finding(kind, window, 0, rows, message))
	}
	return findings
}

// compareWindow compares one window's rows with the ledger; ok is whether there
// is something to tell.
func (p *part) compareWindow(ctx context.Context, i int, got tally) (_ Finding, ok bool, _ error) {
	e := p.ledger[i]
	want := tally{e.Rows, e.Digest}
	for _, row := range p.refused[e.Window.From] {
		want.remove(row.Hash)
	}
	own := want // without rows of other clusters, which the journal may count
	for _, row := range p.foreign {
		if e.Window.Contains(row.Time) {
			own.remove(row.Hash)
		}
	}
	if got == want || got == own {
		return Finding{}, false, nil
	}
	if newer, ok := p.newer(e); ok {
		return p.finding(NotPulled, e.Window, want.rows, got.rows,
			fmt.Sprintf("revision %d is at the follower and not confirmed; the ledger has %d", newer.Revision, e.Revision)), true, nil
	}
	hashes, under, err := p.rowsOf(ctx, e.Window)
	if err != nil {
		return Finding{}, false, err
	}
	var rest tally
	for hash := range hashes {
		rest.add(hash)
	}
	if under > 0 && (rest == want || rest == own) {
		return p.finding(Explained, e.Window, want.rows, got.rows, plural.Of(under, "row is an older value of one that the store refused", "rows are older values of rows that the store refused")), true, nil
	}
	return p.judge(ctx, e, want, rest, hashes)
}

// current says whether a window is of the journal that the follower has now.
func (p *part) current(e registry.LedgerEntry) bool {
	return p.journal != nil && p.journal.store == e.Store && p.mark.Era == e.Era
}

// newer is a revision of the window that the mark is not past.
func (p *part) newer(e registry.LedgerEntry) (influxsync.Entry, bool) {
	if !p.current(e) {
		return influxsync.Entry{}, false
	}
	ahead, ok := p.journal.ahead[e.Window]
	return ahead, ok && ahead.Revision > e.Revision
}

// judge says what is wrong with a window whose rows are not those of the ledger.
func (p *part) judge(ctx context.Context, e registry.LedgerEntry, want, got tally, hashes map[uint64]bool) (Finding, bool, error) {
	extra, explained := got.rows-want.rows, e.Extra-e.Unexplained
	told := func(kind Kind, message string) (Finding, bool, error) {
		return p.finding(kind, e.Window, want.rows, got.rows, message), true, nil
	}
	switch {
	case extra < 0:
		return told(RowsMissing, fmt.Sprintf("the centre has %s, the ledger %d", inRows(got.rows), want.rows))
	case extra > explained:
		return told(RowsExtra, fmt.Sprintf("the centre has %s, the ledger %d, and an earlier era explains %d more", inRows(got.rows), want.rows, explained))
	case extra < explained:
		return told(RowsMissing, fmt.Sprintf("the centre has %s, the ledger %d and %d more of an earlier era", inRows(got.rows), want.rows, explained))
	case extra == 0:
		return told(RowsDiffer, fmt.Sprintf("the centre's %s digest %x, the ledger's %x", plural.Of(got.rows, "row has", "rows have"), uint64(got.digest), uint64(want.digest)))
	}
	if !p.current(e) {
		return told(Explained, fmt.Sprintf("%s of an earlier era; the others were counted and not compared, for the follower has them no more or cannot be reached", areRows(extra)))
	}
	missing, err := p.missing(ctx, e, hashes)
	switch {
	case err != nil:
		return told(Explained, fmt.Sprintf("%s of an earlier era; the others were counted and not compared: %v", areRows(extra), err))
	case missing > 0:
		return told(RowsDiffer, fmt.Sprintf("%s not in the centre, beside %d of an earlier era", plural.Of(missing, "row of the follower is", "rows of the follower are"), extra))
	}
	return told(Explained, areRows(extra)+" of an earlier era; the others are the follower's")
}

func inRows(n int64) string { return plural.Of(n, "row", "rows") }

func areRows(n int64) string { return plural.Of(n, "row is", "rows are") }

// missing is how many rows of a window the follower has and the centre has not.
func (p *part) missing(ctx context.Context, e registry.LedgerEntry, hashes map[uint64]bool) (int, error) {
	refused := make(map[uint64]bool)
	for _, row := range p.refused[e.Window.From] {
		refused[row.Hash] = true
	}
	missing := 0
	var source tally
	where := []influxsync.Condition{{Tag: schema.Cluster, Value: p.cluster}}
	err := p.follower.Database(p.table.DB).TimeQuery(ctx, p.table.Name, e.Window, where, func(row influxsync.Point) error {
		hash := row.Hash()
		source.add(hash)
		if !hashes[hash] && !refused[hash] {
			missing++
		}
		return nil
	})
	if err == nil && source.rows < e.Rows {
		err = fmt.Errorf("the follower has %d of %d rows", source.rows, e.Rows)
	}
	return missing, err
}

// rowsOf are the hashes of a window's rows in the centre, without those that a
// refused row would overwrite, which are counted.
func (p *part) rowsOf(ctx context.Context, w schema.Window) (hashes map[uint64]bool, under int, err error) {
	stale := make(map[string]bool)
	for _, row := range p.refused[w.From] {
		parsed, err := influxsync.ParseLine(row.Line)
		if err != nil {
			return nil, 0, fmt.Errorf("refused row %d: %w", row.ID, err)
		}
		stale[rowKey(parsed)] = true
	}
	hashes = make(map[uint64]bool)
	sink, where := p.sink()
	err = sink.TimeQuery(ctx, p.table.Name, w, where, func(row influxsync.Point) error {
		if len(stale) > 0 && stale[rowKey(row)] {
			under++
		} else {
			hashes[row.Hash()] = true
		}
		return nil
	})
	return hashes, under, err
}

// rowKey is what a row overwrites by: its tags and its time.
func rowKey(p influxsync.Point) string {
	var b strings.Builder
	for _, tag := range p.Tags {
		fmt.Fprintf(&b, "%q=%q,", tag.Key, tag.Value)
	}
	fmt.Fprint(&b, p.Time.UnixNano())
	return b.String()
}
