package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// entriesAtOnce is how many journal entries are held at once, about 3 MB.
const entriesAtOnce = 10_000

// journal is what a follower's journal says of the windows of a part.
type journal struct {
	store   string                             // the id of the follower's store
	behind  map[schema.Window]influxsync.Entry // the newest that the mark is past
	ahead   map[schema.Window]influxsync.Entry // the newest that it is not past
	marked  bool                               // the mark's own entry is there
	entries int                                // in all
	begins  time.Time                          // of the oldest entry that is kept; zero where none was deleted
	broken  error                              // influxsync.ErrChain
}

// readJournal reads the follower's journal of the part's table from where it
// begins, verifies its chain, and keeps what is of the part.
func (p *part) readJournal(ctx context.Context) (*journal, error) {
	db := p.follower.Database(p.table.DB)
	j := &journal{behind: make(map[schema.Window]influxsync.Entry), ahead: make(map[schema.Window]influxsync.Entry)}
	// Only read: an id is made by whoever writes there.
	err := db.Query(ctx, influxsync.Query{Select: []string{"id"}, From: influxsync.StoreTable}, func(row influxsync.Point) error {
		id, _ := row.Field("id")
		j.store = id.Str()
		return nil
	})
	if err != nil {
		return nil, err
	}
	base, err := influxsync.ReadBase(ctx, db, p.cluster, p.table.Name)
	if err != nil {
		return nil, err
	}
	j.begins = base.At
	previous, after := base.Previous, base.After()
	for {
		entries, err := influxsync.ReadJournal(ctx, db, p.cluster, p.table.Name, after, entriesAtOnce)
		if err != nil {
			return nil, err
		}
		if err := influxsync.VerifyChain(entries, previous); err != nil && j.broken == nil {
			if !errors.Is(err, influxsync.ErrChain) {
				return nil, err
			}
			j.broken = err
		}
		j.entries += len(entries)
		for _, e := range entries {
			j.keep(p, e)
		}
		if len(entries) < entriesAtOnce {
			return j, nil
		}
		previous, after = entries[len(entries)-1].Hash, entries[len(entries)-1].Time
	}
}

func (j *journal) keep(p *part, e influxsync.Entry) {
	if e.Time.Equal(p.mark.Time) && e.Hash == p.mark.Hash {
		j.marked = true
	}
	if !p.window.Contains(e.Window.From) {
		return
	}
	if e.Time.After(p.mark.Time) {
		j.ahead[e.Window] = e
	} else {
		j.behind[e.Window] = e
	}
}

// compareSource compares the ledger with the follower's journal.
func (p *part) compareSource() []Finding {
	j := p.journal
	switch {
	case j.broken != nil:
		return []Finding{{Kind: ChainBroken, Message: "the follower's journal: " + j.broken.Error()}}
	case p.mark.Store == "":
		return nil // nothing was pulled: all of it is on its way
	case j.store != p.mark.Store:
		return []Finding{{Kind: OtherStore, Message: fmt.Sprintf("the follower's store is %s, pulled was %s", orNone(j.store), p.mark.Store)}}
	case p.mark.Hash != "" && !j.marked:
		return []Finding{{Kind: ChainBroken, Message: fmt.Sprintf("the follower's journal has %s and not that of the mark, at %s: its end was lost, or it was changed",
			plural.Of(j.entries, "entry", "entries"), p.mark.Time.Format(time.RFC3339Nano))}}
	}
	var findings []Finding
	known := make(map[schema.Window]bool)
	for i := range p.ledger {
		known[p.ledger[i].Window] = true
		if f, ok := p.compareEntry(i); ok {
			findings = append(findings, f)
		}
	}
	for window, e := range j.behind {
		if !known[window] {
			findings = append(findings, p.finding(WindowLost, window, e.Rows, 0,
				fmt.Sprintf("the follower's journal has revision %d with %s, the ledger has nothing", e.Revision, inRows(e.Rows))))
		}
	}
	return findings
}

func orNone(id string) string {
	if id == "" {
		return "new"
	}
	return id
}

// compareEntry compares one window of the ledger with the journal.
func (p *part) compareEntry(i int) (Finding, bool) {
	e := p.ledger[i]
	behind, named := p.journal.behind[e.Window]
	ahead, newer := p.journal.ahead[e.Window]
	told := func(kind Kind, format string, args ...any) (Finding, bool) {
		return p.finding(kind, e.Window, e.Rows, e.Rows, fmt.Sprintf(format, args...)), true
	}
	switch {
	case e.Store != p.journal.store:
		return told(NotAtSource, "it came from store %s", e.Store)
	case e.Era != p.mark.Era:
		return told(NotAtSource, "it came in era %d of the journal, this is era %d", e.Era, p.mark.Era)
	case newer && ahead.Revision == e.Revision && ahead.Rows == e.Rows && ahead.Digest == e.Digest:
		return Finding{}, false // confirmed before its turn
	case !named && e.Entered.Before(p.journal.begins):
		return told(NotKept, "the follower keeps no journal of before %s; %s", p.journal.begins.Format(time.RFC3339), p.archivedText(e.Window))
	case !named:
		return told(NotAtSource, "the follower's journal does not name it")
	case behind.Revision > e.Revision:
		return told(RevisionLost, "the follower's journal has revision %d with %s behind the mark, the ledger revision %d with %d",
			behind.Revision, inRows(behind.Rows), e.Revision, e.Rows)
	case behind.Revision == e.Revision && (behind.Rows != e.Rows || behind.Digest != e.Digest):
		return told(RevisionLost, "revision %d has %s, digest %x in the follower's journal, and %s, digest %x in the ledger",
			e.Revision, inRows(behind.Rows), uint64(behind.Digest), inRows(e.Rows), uint64(e.Digest))
	case behind.Revision < e.Revision:
		return told(NotAtSource, "the follower's journal ends at revision %d, the ledger has %d", behind.Revision, e.Revision)
	}
	return Finding{}, false
}

// archivedText says where a window's rows are, of which the follower has none any more.
func (p *part) archivedText(w schema.Window) string {
	day := w.From.UTC().Truncate(day)
	for _, d := range p.archived {
		if d.Day.Equal(day) {
			return fmt.Sprintf("the archive has the day, as revision %d: `accumulus archive verify --cluster %s --day %s` compares it with the ledger",
				d.Revision, p.cluster, day.Format(time.DateOnly))
		}
	}
	return "the centre has the only rows until the day is archived"
}
