package audit

import (
	"slices"
	"time"
)

// Kind is what does not agree.
type Kind string

// The kinds. Those of the first block are findings; the others are told for
// information, and nothing is wrong with them.
const (
	RowsMissing  Kind = "rows-missing"  // the centre has fewer rows than the ledger says
	RowsDiffer   Kind = "rows-differ"   // as many, and others
	RowsExtra    Kind = "rows-extra"    // more, and no era explains them
	RevisionLost Kind = "revision-lost" // the ledger has an older entry than the journal has behind the mark
	WindowLost   Kind = "window-lost"   // the journal names a window behind the mark that the ledger does not have
	ChainBroken  Kind = "chain-broken"  // the journal does not follow from itself, or does not hold the mark's entry

	NotAtSource Kind = "not-at-source"  // the centre has it, the follower's journal does not name it
	NotKept     Kind = "not-kept"       // the follower's journal begins later: it keeps them no longer
	OtherStore  Kind = "other-store"    // the follower's store is another than the mark's: the next pull begins an era
	Explained   Kind = "rows-explained" // rows beyond the ledger's, of an earlier era or under refused ones
	NotPulled   Kind = "not-pulled"     // a newer revision is at the follower and on its way
)

// Information says whether nothing is wrong.
func (k Kind) Information() bool {
	return slices.Contains([]Kind{NotAtSource, NotKept, OtherStore, Explained, NotPulled}, k)
}

// mendable says whether a copy from the follower may mend it.
func (k Kind) mendable() bool {
	return slices.Contains([]Kind{RowsMissing, RowsDiffer, RevisionLost, WindowLost}, k)
}

// Finding is something that does not agree, of one window or of several without
// a gap between them.
type Finding struct {
	Kind        Kind      `json:"kind"`
	From        time.Time `json:"from,omitzero"` // zero where it is the table's as a whole
	To          time.Time `json:"to,omitzero"`
	Windows     int       `json:"windows"`
	Expected    int64     `json:"expected"` // rows in the centre, by the ledger
	Found       int64     `json:"found"`    // rows in the centre
	Message     string    `json:"message"`  // of the first of its windows
	Information bool      `json:"information,omitempty"`
	Repaired    bool      `json:"repaired,omitempty"` // it was so before the repair, and is not any more
}

// Wrong says whether it is to be looked at.
func (f Finding) Wrong() bool { return !f.Information && !f.Repaired }

// Table is what was seen of one table.
type Table struct {
	Table    string    `json:"table"`
	Windows  int       `json:"windows"` // of the ledger
	Rows     int64     `json:"rows"`    // by the ledger
	OK       int       `json:"ok"`      // windows about which nothing is wrong
	Findings []Finding `json:"findings"`
	// Archived counts the days whose rows are in the archive alone: `accumulus archive
	// verify` looks at them.
	Archived int `json:"archivedDays,omitempty"`
	// Source says why it was not compared with the follower's journal; "" where
	// it was.
	Source string `json:"source,omitempty"`
	// Repair says why something was not repaired.
	Repair []string `json:"repair,omitempty"`
}

// Report is what an audit saw.
type Report struct {
	Cluster string    `json:"cluster"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	At      time.Time `json:"at"` // when it began
	Tables  []Table   `json:"tables"`
}

// Windows is how many there were to compare.
func (r Report) Windows() int {
	n := 0
	for _, table := range r.Tables {
		n += table.Windows
	}
	return n
}

// Wrong is how many findings are to be looked at.
func (r Report) Wrong() int {
	wrong := 0
	for _, table := range r.Tables {
		for _, finding := range table.Findings {
			if finding.Wrong() {
				wrong++
			}
		}
	}
	return wrong
}

// add puts the findings of a day to those of the table, joined where they go on.
func (t *Table) add(findings []Finding) {
	for _, f := range findings {
		last := len(t.Findings) - 1
		if last >= 0 && !f.From.IsZero() {
			if l := &t.Findings[last]; l.Kind == f.Kind && l.Repaired == f.Repaired && l.To.Equal(f.From) {
				l.To, l.Windows, l.Expected, l.Found = f.To, l.Windows+f.Windows, l.Expected+f.Expected, l.Found+f.Found
				continue
			}
		}
		if last >= 0 && f.From.IsZero() && slices.Contains(t.Findings, f) {
			continue // of the table as a whole, seen on another day
		}
		t.Findings = append(t.Findings, f)
	}
}
