package archive

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/google/go-cmp/cmp"
)

// TestAYearLater: minute rows are gone from the store, and a closed line is explained
// with its pods from the archive, in a file that verifies. The control takes the archive
// away.
func TestAYearLater(t *testing.T) {
	w := newWorld(t, Config{})
	w.days(3, 4*dayLength)
	w.pass()
	desk := w.desk()
	w.clk.Set(first.AddDate(0, 1, 4))
	w.work()
	w.approve(desk)
	if _, err := w.close(t.Context(), desk); err != nil {
		t.Fatal(err)
	}
	explain := func() books.Explanation {
		t.Helper()
		file, err := desk.Explain(t.Context(), "acme", 1)
		if err != nil {
			t.Fatal(err)
		}
		e, findings, err := books.VerifyExplanation(file, w.Key())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			if !f.Holds {
				t.Errorf("%s does not hold: %s", f.What, f.Detail)
			}
		}
		return e
	}
	w.clk.Set(first.AddDate(1, 0, 0))
	before := explain()
	w.pass()
	if w.inStore(schema.PodMinute, edge, first).Rows > 0 {
		t.Fatal("the rows are in the store still")
	}
	after := explain()
	if diff := cmp.Diff(jsonOf(t, before), jsonOf(t, after)); diff != "" {
		t.Error(diff)
	}
	pods, named := 0, 0
	for _, d := range after.Days {
		pods, named = pods+len(d.Pods), named+len(d.Archive)
	}
	if d := after.Days[0]; len(after.NoPods) > 0 || pods != 6 || named != 30 || d.Archive[0].Manifest != w.archived(edge, first).Manifest {
		t.Errorf("%d pods, %d archived days, without pods: %v", pods, named, after.NoPods)
	}
	if err := os.RemoveAll(w.Dir()); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.Explain(t.Context(), "acme", 1); err == nil {
		t.Error("the line is explained without store and archive")
	}
}

func jsonOf(t *testing.T, e books.Explanation) string {
	t.Helper()
	e.Made = time.Time{}
	text, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
