package registry

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// refusing is a receipt of one minute of pod in which the rows of these hashes
// were refused.
func refusing(store string, revision int64, hashes ...uint64) Receipt {
	w := entry(noon, revision, 10)
	w.Refused = int64(len(hashes))
	receipt := Receipt{Mark: influxsync.Mark{Store: store, Time: w.Time, Hash: fmt.Sprint(store, revision)}, Windows: []influxsync.Confirmed{w}}
	for _, hash := range hashes {
		receipt.Refused = append(receipt.Refused, influxsync.Refused{Window: w.Window, Line: fmt.Sprintf("pod v=%di %d", hash, noon.UnixNano()),
			Hash: hash, Class: influxsync.TypeConflict, Reason: "partial write: field type conflict dropped=1"})
	}
	return receipt
}

// later is a receipt of the next era.
func later(receipt Receipt) Receipt {
	receipt.Mark.Era, receipt.NewEra = 1, true
	return receipt
}

func receiveAll(t *testing.T, r *Registry, receipts ...Receipt) {
	t.Helper()
	for _, receipt := range receipts {
		if err := r.Received(t.Context(), "alpha", "pod", receipt, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func kept(t *testing.T, r *Registry) (lines []string) {
	t.Helper()
	rows, err := r.Quarantined(t.Context(), QuarantineFilter{}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(rows) - 1; i >= 0; i-- { // oldest first
		text := rows[i].Line
		if !rows[i].Superseded.IsZero() {
			text += " superseded"
		}
		if !rows[i].Discarded.IsZero() {
			text += " discarded"
		}
		lines = append(lines, text)
	}
	return lines
}

func replayable(t *testing.T, r *Registry) []Quarantined {
	t.Helper()
	rows, err := r.Replayable(t.Context(), QuarantineFilter{All: true}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func refusedInLedger(t *testing.T, r *Registry) int64 {
	t.Helper()
	ledger, err := r.Ledger(t.Context(), "alpha", "pod", hours(0, 1))
	if err != nil || len(ledger) != 1 {
		t.Fatalf("ledger %v, %v", ledger, err)
	}
	return ledger[0].Refused
}

// TestARevisionSupersedesRefusedRows: a newer revision's refused rows are the
// ones that are kept; otherwise a replay would bring an old value back.
func TestARevisionSupersedesRefusedRows(t *testing.T) {
	row := func(hash int) string { return fmt.Sprintf("pod v=%di %d", hash, noon.UnixNano()) }
	for name, c := range map[string]struct {
		receipts []Receipt
		want     []string
		refused  int64 // in the ledger
	}{
		"the first":                     {[]Receipt{refusing("s", 1, 1, 2)}, []string{row(1), row(2)}, 2},
		"again":                         {[]Receipt{refusing("s", 1, 1, 2), refusing("s", 1, 1, 2)}, []string{row(1), row(2)}, 2},
		"newer, one of them changed":    {[]Receipt{refusing("s", 1, 1, 2), refusing("s", 2, 2, 3)}, []string{row(2), row(3)}, 2},
		"newer, all are taken":          {[]Receipt{refusing("s", 1, 1, 2), refusing("s", 2)}, nil, 0},
		"the same revision, now taken":  {[]Receipt{refusing("s", 1, 1, 2), refusing("s", 1, 2)}, []string{row(2)}, 1},
		"another era of the store":      {[]Receipt{refusing("s", 3, 1), later(refusing("s", 2, 2))}, []string{row(1) + " superseded", row(2)}, 1},
		"another store, others refused": {[]Receipt{refusing("s", 1, 1, 2), refusing("z", 1, 2, 3)}, []string{row(1) + " superseded", row(2), row(3)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := open(t)
			receiveAll(t, r, c.receipts...)
			if diff := cmp.Diff(c.want, kept(t, r)); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if got := refusedInLedger(t, r); got != c.refused {
				t.Errorf("the ledger has %d refused rows, want %d", got, c.refused)
			}
			rows, err := r.Kept(t.Context(), "alpha", "pod", hours(0, 1))
			if err != nil || int64(len(rows.Refused)) != c.refused {
				t.Errorf("kept %v, %v", rows, err)
			}
			if n := len(replayable(t, r)); int64(n) != c.refused {
				t.Errorf("%d rows can be replayed, want %d", n, c.refused)
			}
		})
	}
	// Control: kept without looking at the older ones, the old value comes back.
	r, _ := open(t)
	receiveAll(t, r, refusing("s", 1, 1))
	newer := refusing("s", 2, 2)
	err := r.write(t.Context(), ordered, func(tx *sql.Tx) error {
		k := &keeper{tx: tx, cluster: "alpha", table: "pod", mark: newer.Mark}
		return k.put(t.Context(), newer.Refused[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows := replayable(t, r); len(rows) != 2 {
		t.Errorf("control: %d rows, want the old one beside the new one", len(rows))
	}
}

// TestRefusedRowsAndMarkAreOneTransaction: no mark goes past a row that is not
// kept, whatever fails.
func TestRefusedRowsAndMarkAreOneTransaction(t *testing.T) {
	r, _ := open(t)
	bad := Due{Processor: ProcessorPower, Scope: "b", Quarter: noon.Add(time.Second)} // the last step fails
	if err := r.Received(t.Context(), "alpha", "pod", refusing("s", 1, 1, 2), []Due{bad}); err == nil {
		t.Fatal("no error")
	}
	stranger := refusing("s", 1, 1)
	stranger.Refused[0].Window = schema.WindowAt(noon.Add(time.Hour), schema.Minute)
	if err := r.Received(t.Context(), "alpha", "pod", stranger, nil); err == nil {
		t.Error("a refused row of no window that was received is no error")
	}
	if _, err := r.writer.Exec("CREATE TRIGGER full BEFORE INSERT ON quarantine WHEN NEW.hash = 2 BEGIN SELECT RAISE(ABORT, 'disk full'); END"); err != nil {
		t.Fatal(err)
	}
	if err := r.Received(t.Context(), "alpha", "pod", refusing("s", 1, 1, 2), nil); err == nil {
		t.Error("a row that cannot be kept is no error")
	}
	mark, err := r.Mark(t.Context(), "alpha", "pod")
	if mark != (influxsync.Mark{}) || err != nil || len(kept(t, r)) != 0 {
		t.Errorf("mark %+v, %v, rows %v after transactions that failed", mark, err, kept(t, r))
	}
}

func TestQuarantineRoom(t *testing.T) {
	r, _ := open(t)
	room := func() int {
		t.Helper()
		n, err := r.QuarantineRoom(t.Context(), "alpha", "pod")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	receiveAll(t, r, refusing("s", 1, 1, 2, 3))
	if got := room(); got != MaxRefused-3 {
		t.Errorf("room %d, want %d", got, MaxRefused-3)
	}
	_, err := r.writer.Exec(`WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO quarantine (cluster, tbl, kind, class, window_from, window_to, store, hash, reason, point, line, first_at, last_at, seen)
		SELECT 'alpha', 'pod', 'refused', 'malformed', 1, 2, 's', i, '', '', 'x', 0, 0, 1 FROM n`, MaxRefused+200)
	if err != nil {
		t.Fatal(err)
	}
	if got := room(); got != 0 {
		t.Errorf("room %d of a full quarantine", got)
	}
	receiveAll(t, r, refusing("s", 2, 1, 2, 3, 4)) // what came is kept, full or not
	if counts, err := r.QuarantineCounts(t.Context(), QuarantineFilter{Class: influxsync.TypeConflict}); err != nil || len(counts) != 1 || counts[0].Rows != 4 {
		t.Errorf("counts %+v, %v", counts, err)
	}
	if n, err := r.Discard(t.Context(), QuarantineFilter{Class: influxsync.Malformed}, "nobody needs them", "operator"); n != MaxRefused+101 || err != nil {
		t.Errorf("discarded %d, %v", n, err)
	}
	if got := room(); got != MaxRefused-4 {
		t.Errorf("room %d after discarding, want %d", got, MaxRefused-4)
	}
	if other, err := r.QuarantineRoom(t.Context(), "beta", "pod"); other != MaxRefused || err != nil {
		t.Errorf("room of another cluster %d, %v", other, err)
	}
}

func TestDiscard(t *testing.T) {
	r, clk := open(t)
	receiveAll(t, r, refusing("s", 1, 1, 2))
	if _, err := r.Discard(t.Context(), QuarantineFilter{}, "x", "operator"); !errors.Is(err, ErrNoFilter) {
		t.Errorf("an empty filter: %v", err)
	}
	if _, err := r.Discard(t.Context(), QuarantineFilter{All: true}, " ", "operator"); err == nil {
		t.Error("without a reason")
	}
	id := replayable(t, r)[0].ID
	if n, err := r.Discard(t.Context(), QuarantineFilter{IDs: []int64{id}}, "a test's row", "operator"); n != 1 || err != nil {
		t.Fatalf("discarded %d, %v", n, err)
	}
	if rows := replayable(t, r); len(rows) != 1 || rows[0].ID == id {
		t.Errorf("replayable %v", rows)
	}
	clk.Advance(time.Minute)
	receiveAll(t, r, refusing("s", 2, 1)) // the same row again: it was given up
	all, err := r.Quarantined(t.Context(), QuarantineFilter{Cluster: "alpha"}, 0, 10)
	if err != nil || len(all) != 1 || all[0].DiscardedFor != "a test's row" || all[0].DiscardedBy != "operator" || !all[0].Discarded.Equal(noon) || all[0].Seen != 2 {
		t.Errorf("on record: %+v, %v", all, err)
	}
	if got := refusedInLedger(t, r); got != 1 {
		t.Errorf("the ledger has %d refused rows, want the discarded one", got)
	}
	receiveAll(t, r, refusing("s", 3))
	if got := kept(t, r); len(got) != 1 || got[0] != fmt.Sprintf("pod v=1i %d superseded discarded", noon.UnixNano()) {
		t.Errorf("after a revision without it: %v", got)
	}
}

// TestReplayed: rows that are taken leave the quarantine and the ledger's count,
// the others stay with what is the matter now, and the work is due, or nothing
// of it happens.
func TestReplayed(t *testing.T) {
	r, _ := open(t)
	receiveAll(t, r, refusing("s", 1, 1, 2, 3))
	rows := replayable(t, r)
	still := rows[2]
	still.Class, still.Reason = influxsync.Retention, "older than is kept"
	replay := Replay{Cluster: "alpha", Table: "pod", Accepted: rows[:2], Refused: []Quarantined{still}}
	if err := r.Replayed(t.Context(), replay, []Due{{Processor: ProcessorUsage, Scope: "alpha", Quarter: noon.Add(1)}}); err == nil {
		t.Fatal("work of no quarter")
	}
	if n, ledger := len(replayable(t, r)), refusedInLedger(t, r); n != 3 || ledger != 3 {
		t.Errorf("after a transaction that failed %d rows are kept, %d in the ledger", n, ledger)
	}
	for range 2 { // the second time changes nothing
		if err := r.Replayed(t.Context(), replay, []Due{{Processor: ProcessorUsage, Scope: "alpha", Quarter: noon}}); err != nil {
			t.Fatal(err)
		}
		left, ledger := replayable(t, r), refusedInLedger(t, r)
		if len(left) != 1 || left[0].Class != influxsync.Retention || left[0].Reason != still.Reason || ledger != 1 {
			t.Errorf("left %+v, %d in the ledger", left, ledger)
		}
	}
	if due, err := r.Due(t.Context(), ProcessorUsage, 0); len(due) != 1 || err != nil {
		t.Errorf("due %v, %v", due, err)
	}
}

func TestRepairedLeavesTheMark(t *testing.T) {
	r, _ := open(t)
	receiveAll(t, r, refusing("s", 1, 1))
	before, err := r.Mark(t.Context(), "alpha", "pod")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Repaired(t.Context(), "alpha", "pod", refusing("s", 2, 2, 3), nil); err != nil {
		t.Fatal(err)
	}
	if after, err := r.Mark(t.Context(), "alpha", "pod"); after != before || err != nil {
		t.Errorf("mark %+v, %v; want %+v", after, err, before)
	}
	if n, ledger := len(replayable(t, r)), refusedInLedger(t, r); n != 2 || ledger != 2 {
		t.Errorf("%d rows are kept, %d in the ledger; want those of the second revision", n, ledger)
	}
}

// TestMigrationKeepsTheQuarantine: rows from before there were two kinds.
func TestMigrationKeepsTheQuarantine(t *testing.T) {
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "registry.db")
	db, err := sql.Open("sqlite3", dsn(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := migrateTo(t.Context(), db, steps[:4]); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO quarantine (id, cluster, tbl, hash, reason, point, first_at, last_at, seen)
		VALUES (7, 'alpha', 'pod', 5, 'why', '{"tags":{}}', 1, 2, 3)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	rows, err := r.Quarantined(t.Context(), QuarantineFilter{Kind: Foreign}, 0, 9)
	want := []Quarantined{{ID: 7, Cluster: "alpha", Table: "pod", Kind: Foreign, Reason: "why", Point: []byte(`{"tags":{}}`), Hash: 5, First: moment(1), Last: moment(2), Seen: 3}}
	if diff := cmp.Diff(want, rows); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}
