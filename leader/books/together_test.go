package books

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// together does something in several goroutines at once and returns how often it was done.
// Who comes too late is told so, as a caller is told: with ErrState, ErrInput or ErrStale.
func together(t *testing.T, what string, do func(ctx context.Context, who int) error) int {
	t.Helper()
	start := make(chan struct{})
	errs := make([]error, 6)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			<-start
			errs[i] = do(t.Context(), i)
		})
	}
	close(start)
	all.Wait()
	done := 0
	for _, err := range errs {
		told, known := errors.AsType[*Error](err)
		switch {
		case err == nil:
			done++
		case errors.Is(err, registry.ErrStale) || known && (told.Kind == ErrState || told.Kind == ErrInput):
		default:
			t.Errorf("%s: %v", what, err)
		}
	}
	return done
}

// TestManyAtOnce: of many who approve, close, correct or give back at the same time one
// does, and nothing is booked twice or in half.
func TestManyAtOnce(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, december, small("UTC")...)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := w.Draft(ctx, "acme", "2026-10", "dora"); return err },
		func(ctx context.Context) error { _, err := w.Review(ctx, "acme", "2026-10", "dora"); return err },
	} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := together(t, "approve", func(ctx context.Context, who int) error {
		_, err := w.Approve(ctx, "acme", "2026-10", fmt.Sprint("anna", who))
		return err
	}); n != 1 {
		t.Errorf("%d have approved", n)
	}
	if n := together(t, "close", func(ctx context.Context, who int) error {
		_, err := w.Close(ctx, "acme", "2026-10", CloseRequest{By: fmt.Sprint("carl", who)})
		return err
	}); n != 1 {
		t.Errorf("%d have closed", n)
	}
	first, err := w.Statement(ctx, "acme", "2026-10", 0)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := w.RequestRefund(ctx, "acme", RefundRequest{Statement: 1, Amount: first.Total, Reason: "goodwill", By: "dora"})
	if err != nil {
		t.Fatal(err)
	}
	if n := together(t, "refund", func(ctx context.Context, who int) error {
		_, err := w.ApproveRefund(ctx, "acme", asked.ID, fmt.Sprint("anna", who))
		return err
	}); n != 1 {
		t.Errorf("%d have given back", n)
	}
	w.uses("2026-10", 300)
	var mu sync.Mutex
	applied := 0
	together(t, "correct", func(ctx context.Context, _ int) error {
		made, err := w.Apply(ctx, "acme", "2026-10", "dora", "more")
		mu.Lock()
		defer mu.Unlock()
		if err == nil && made.Applied {
			applied++
		}
		return err
	})
	if applied != 1 {
		t.Errorf("%d corrections were applied", applied)
	}
	if c := w.chain("acme"); len(c.Statements) != 2 {
		t.Errorf("%d statements", len(c.Statements))
	}
	if wrong := w.ledger().wrong(); wrong != "" {
		t.Error(wrong)
	}
}

// TestRefundAndCorrectionAtOnce: whoever is first, the sum is not below 0.
func TestRefundAndCorrectionAtOnce(t *testing.T) {
	w := newWorld(t, december, small("UTC")...)
	w.clock.Set(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC))
	first := w.close("acme", "2026-10")
	w.uses("2026-10", 0)
	if _, err := w.Rerate(t.Context(), "acme", "2026-10"); err != nil { // the days are summed
		t.Fatal(err)
	}
	asked, err := w.RequestRefund(t.Context(), "acme", RefundRequest{Statement: 1, Amount: first.Total, Reason: "goodwill", By: "dora"})
	if err != nil {
		t.Fatal(err)
	}
	together(t, "refund and correct", func(ctx context.Context, who int) error {
		var err error
		if who%2 == 0 {
			_, err = w.ApproveRefund(ctx, "acme", asked.ID, "anna")
		} else {
			_, err = w.Apply(ctx, "acme", "2026-10", "dora", "a meter that was wrong")
		}
		return err
	})
	if l := w.ledger(); l.wrong() != "" || l.sum.Cmp(rational(t, first.Total)) == 0 {
		t.Errorf("%s, in all %s", l.wrong(), l.sum.FloatString(2))
	}
	w.chain("acme")
}

// TestPricesThatChangeUnderADraft: what was drafted at other prices than hold now is
// neither approved nor closed; a step whose caller is gone leaves the period as it was.
func TestPricesThatChangeUnderADraft(t *testing.T) {
	ctx := t.Context()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	w := newWorld(t, december, small("UTC")...)
	objects := small("UTC")
	dearer := func(price fleet.Decimal) {
		list := objects[3].Spec.(fleet.PriceList)
		list.Rates[0].Price = price
		objects[3].Spec = list
		w.apply(objects[3])
	}
	draft := func() {
		if _, err := w.Draft(ctx, "acme", "2026-11", "dora"); err != nil {
			t.Fatal(err)
		}
	}
	review := func() error { _, err := w.Review(ctx, "acme", "2026-11", "dora"); return err }
	approve := func(ctx context.Context) error { _, err := w.Approve(ctx, "acme", "2026-11", "anna"); return err }
	closed := func(ctx context.Context) error {
		_, err := w.Close(ctx, "acme", "2026-11", CloseRequest{By: "carl"})
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		if told, ok := errors.AsType[*Error](err); !ok || told.Kind != ErrState || told.Hint == "" {
			t.Errorf("%s at other prices: %v", what, err)
		}
	}
	draft()
	dearer("0.06")
	refused("review", review())
	draft()
	if err := review(); err != nil {
		t.Fatal(err)
	}
	dearer("0.07")
	refused("approve", approve(ctx))
	draft()
	if err := errors.Join(review(), approve(ctx)); err != nil {
		t.Fatal(err)
	}
	dearer("0.08")
	refused("close", closed(ctx))
	draft()
	if err := review(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{approve, closed} {
		before, err := w.List(ctx, "acme", "2026-11")
		if err != nil {
			t.Fatal(err)
		}
		if err := step(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("of a caller who is gone: %v", err)
		}
		if after, err := w.List(ctx, "acme", "2026-11"); err != nil || after[0].State != before[0].State || len(w.chain("acme").Lines) > 0 {
			t.Errorf("%+v %v", after, err)
		}
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.chain("acme")
}
