package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// TestAJournalThatWasPruned: windows that the follower keeps no longer are told as that,
// with where their rows are, and not as ones that it never had. Those that its journal
// should name and does not are still told.
func TestAJournalThatWasPruned(t *testing.T) {
	b := newBench(t)
	b.settle(8, 7, "p", "q") // the last entry, which no pruning takes
	b.pull()
	journal, err := influxsync.OpenJournal(t.Context(), b.follower.Store.Database(schema.MinuteDB), "a", schema.PodMinute, b.clk)
	if err == nil {
		_, err = journal.Prune(t.Context(), minute(6).From, time.Time{})
	}
	if err != nil {
		t.Fatal(err)
	}
	message := func() string {
		t.Helper()
		report := b.audit(false)
		expect(t, report, "pod not-kept 0+5")
		if report.Wrong() != 0 {
			t.Errorf("%d are wrong", report.Wrong())
		}
		for _, table := range report.Tables {
			for _, f := range table.Findings {
				return f.Message
			}
		}
		return ""
	}
	if said := message(); !strings.Contains(said, "keeps no journal of before") || !strings.Contains(said, "until the day is archived") {
		t.Errorf("it says %q", said)
	}
	day := start.Truncate(schema.Day)
	if err := b.books.PutArchived(t.Context(), registry.ArchivedDay{Cluster: "a", Day: day, Revision: 3, Sequence: 1, Manifest: "m", Archived: b.clk.Now()}); err != nil {
		t.Fatal(err)
	}
	if said := message(); !strings.Contains(said, "as revision 3: `accumulus archive verify --cluster a --day "+day.Format(time.DateOnly)) {
		t.Errorf("it says %q", said)
	}
}
