package leader

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/api"
	"github.com/accumulus-metering/accumulus/leader/bucket"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/focus"
)

// PrepareExport makes the files of an export. Close what it returns. Errors:
// those of focus.Prepare and focus.PrepareOpenCost.
func (l *Leader) PrepareExport(ctx context.Context, request api.ExportRequest) (*focus.Prepared, error) {
	if request.Period == "" {
		request.Period = "month"
	}
	if month, ok := usage.Calendar(request.Period, l.clock.Now().UTC()); ok && (request.Period == "month" || request.Period == "lastmonth") {
		request.Period = month.From.Format("2006-01")
	}
	if err := l.wasCustomer(ctx, request.Customer); err != nil {
		return nil, err
	}
	options := focus.Options{Version: request.Version, Compression: request.Compression, Generator: l.config.API.Version}
	if request.Format == api.FormatOpenCost {
		return focus.PrepareOpenCost(ctx, l.query, request.Request, options)
	}
	source := focus.Closed{Ledger: l.books, Open: focus.Showback{Engine: l.query, Fleet: l.registry, Parties: l.config.Exports.Parties}, Parties: l.config.Exports.Parties}
	return focus.Prepare(ctx, source, request.Request, options)
}

// wasCustomer is an error of who never was a customer; "" is all of them.
func (l *Leader) wasCustomer(ctx context.Context, name string) error {
	if name == "" || name == schema.Unassigned {
		return nil
	}
	all, err := l.registry.History(ctx, fleet.KindCustomer, schema.Window{From: time.Unix(0, 0), To: l.clock.Now()})
	if err == nil && !slices.ContainsFunc(all, func(o fleet.Object) bool { return o.Name() == name }) {
		err = usage.Wrong("customer", name, "there was none of that name: `accumulus get customers` lists them")
	}
	return err
}

// sink is where scheduled files go.
func (l *Leader) sink() (focus.Sink, error) {
	if l.config.Exports.Bucket.URL == "" {
		return focus.Dir(l.config.Exports.Dir), nil
	}
	return bucket.Open(l.config.Exports.Bucket, http.DefaultTransport.(*http.Transport).Clone())
}

// SendExport makes a month's files and puts them where scheduled exports go.
func (l *Leader) SendExport(ctx context.Context, period string) (_ focus.Manifest, err error) {
	config := l.config.Exports
	request := api.ExportRequest{Request: focus.Request{Period: period, Step: config.Step, Labels: config.Labels}, Format: config.Format, Version: config.Version, Compression: config.Compression}
	prepared, err := l.PrepareExport(ctx, request)
	if err != nil {
		return focus.Manifest{}, fmt.Errorf("export %s: %w", period, err)
	}
	defer func() { err = errors.Join(err, prepared.Close()) }()
	sink, err := l.sink()
	if err != nil {
		return focus.Manifest{}, fmt.Errorf("export %s: %w", period, err)
	}
	if err := prepared.Send(ctx, sink); err != nil {
		return focus.Manifest{}, fmt.Errorf("export %s: %w", period, err)
	}
	return prepared.Manifest, nil
}

// periods are the months that a schedule writes at a moment: the one that the
// last minute before it lies in and, in the first days of a month, the one before
// too, of which some may still have come.
func periods(at time.Time) []string {
	last := at.Add(-time.Minute).UTC()
	month := []string{last.Format("2006-01")}
	if last.Day() <= settlingDays {
		before := time.Date(last.Year(), last.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, -1, 0)
		month = append([]string{before.Format("2006-01")}, month...)
	}
	return month
}

// settlingDays are how long the month before is written again.
const settlingDays = 5
