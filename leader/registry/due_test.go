package registry

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func work(scope string, quarter int, reason string) Due {
	return Due{Processor: ProcessorPower, Scope: scope, Quarter: noon.Add(time.Duration(quarter) * 15 * time.Minute), Reason: reason}
}

func (r *Registry) list(t *testing.T) []Due {
	t.Helper()
	due, err := r.Due(t.Context(), ProcessorPower, 0)
	if err != nil {
		t.Fatal(err)
	}
	return due
}

func add(t *testing.T, r *Registry, due ...Due) {
	t.Helper()
	if err := r.AddDue(t.Context(), due...); err != nil {
		t.Fatal(err)
	}
}

func done(t *testing.T, r *Registry, d Due, fingerprint string, next ...Due) {
	t.Helper()
	if err := r.Done(t.Context(), d, fingerprint, next); err != nil {
		t.Fatal(err)
	}
}

var untimed = cmpopts.IgnoreFields(Due{}, "Added", "Sequence")

func TestDueOrderAndMerge(t *testing.T) {
	r, clk := open(t)
	add(t, r, work("b", 1, "first"))
	clk.Advance(time.Second)
	add(t, r, work("a", 1, "x"), work("z", 0, "x"))
	clk.Advance(time.Second)
	add(t, r, work("b", 1, "second"), work("b", 1, "first"), work("b", 1, ""))
	want := []Due{work("z", 0, "x"), work("b", 1, "first; second"), work("a", 1, "x")}
	got := r.list(t)
	if diff := cmp.Diff(want, got, untimed); diff != "" {
		t.Error(diff)
	}
	if !got[1].Added.Equal(noon) {
		t.Errorf("merging changed the age: %s", got[1].Added)
	}
	two, err := r.Due(t.Context(), ProcessorPower, 2)
	if err != nil || len(two) != 2 {
		t.Errorf("limit 2: %v, %v", two, err)
	}
	for i := range 200 {
		add(t, r, work("a", 1, fmt.Sprintf("reason number %d", i)))
	}
	if got := r.list(t)[2].Reason; len(got) > maxReason {
		t.Errorf("reasons of %d bytes", len(got))
	}
}

func TestDone(t *testing.T) {
	r, _ := open(t)
	add(t, r, work("a", 0, "x"))
	d := r.list(t)[0]
	next := Due{Processor: ProcessorCost, Scope: "alpha", Quarter: noon, Reason: "power changed"}
	done(t, r, d, "f1", next)
	if f, err := r.Fingerprint(t.Context(), ProcessorPower, "a", noon); f != "f1" || err != nil {
		t.Errorf("fingerprint %q, %v", f, err)
	}
	if f, err := r.Fingerprint(t.Context(), ProcessorPower, "other", noon); f != "" || err != nil {
		t.Errorf("fingerprint %q, %v of what never ran", f, err)
	}
	counts, err := r.DueCount(t.Context())
	if diff := cmp.Diff(map[string]int{ProcessorCost: 1}, counts); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	add(t, r, work("a", 0, "running"))
	done(t, r, r.list(t)[0], "f2", work("a", 0, "provisional"))
	if diff := cmp.Diff([]Due{work("a", 0, "provisional")}, r.list(t), untimed); diff != "" {
		t.Errorf("the running quarter stays due: %s", diff)
	}
}

// doneAnyway is Done with the bug put back: it takes the entry away whether or
// not it was added again.
func doneAnyway(ctx context.Context, r *Registry, d Due) error {
	return r.write(ctx, ordered, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM due WHERE processor = ? AND scope = ? AND quarter = ?", d.Processor, d.Scope, nanos(d.Quarter))
		return err
	})
}

// TestAddedAgainWhileWorkedOnIsNotLost, and lost by the control.
func TestAddedAgainWhileWorkedOnIsNotLost(t *testing.T) {
	r, _ := open(t)
	add(t, r, work("a", 0, "x"))
	d := r.list(t)[0]
	add(t, r, work("a", 0, "x")) // the same reason: new input of the same kind
	done(t, r, d, "f")
	if got := r.list(t); len(got) != 1 {
		t.Fatalf("due %v; the second adding is lost", got)
	}
	d = r.list(t)[0]
	add(t, r, work("a", 0, "x"))
	if err := doneAnyway(t.Context(), r, d); err != nil {
		t.Fatal(err)
	}
	if got := r.list(t); len(got) != 0 {
		t.Errorf("control: due %v; the test would not see the bug", got)
	}
}

// TestNoInputIsMissed: writers raise an input and make the work due while a
// worker computes from the input that it reads. When all is done, the worker
// has seen the last input of every scope.
func TestNoInputIsMissed(t *testing.T) {
	r, _ := open(t)
	scopes := []string{"a", "b", "c"}
	var mu sync.Mutex
	input, seen := make(map[string]int), make(map[string]int)
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for i := range 60 {
				scope := scopes[i%len(scopes)]
				mu.Lock()
				input[scope]++
				mu.Unlock()
				if err := r.AddDue(t.Context(), work(scope, 0, "input")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { writers.Wait(); close(finished) }()
	for last := false; ; {
		select {
		case <-finished:
			last = true
		default:
		}
		due := r.list(t)
		if last && len(due) == 0 {
			break
		}
		for _, d := range due {
			mu.Lock()
			seen[d.Scope] = input[d.Scope]
			mu.Unlock()
			done(t, r, d, "f")
		}
	}
	if diff := cmp.Diff(input, seen); diff != "" {
		t.Error(diff)
	}
}

func TestDueRefusesWhatIsNoQuarter(t *testing.T) {
	r, _ := open(t)
	for _, d := range []Due{{}, {Processor: "p", Scope: "s", Quarter: noon.Add(1)}, {Processor: "p", Quarter: noon}, {Scope: "s", Quarter: noon}} {
		if err := r.AddDue(t.Context(), work("good", 0, ""), d); err == nil {
			t.Errorf("%+v was added", d)
		}
	}
	if got := r.list(t); len(got) != 0 {
		t.Errorf("a refused call added %v", got)
	}
}
