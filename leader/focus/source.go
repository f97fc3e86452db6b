package focus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Request says what to export.
type Request struct {
	Period   string        // a month, 2026-11: of each customer in its own time zone
	Customer string        // "" is all
	Step     time.Duration // of a charge period in UTC: an hour or a day; 0 is a day
	// Labels are names of pods' labels, of OpenCost's CSV: it has a column for each, and
	// for AllLabels one with all of them.
	Labels []string
	// RequireComplete makes it an error if something of the period is missing or has
	// not settled.
	RequireComplete bool
}

// Check reads the month and completes the request. Errors: *query.InputError.
func (r *Request) Check() (year int, month time.Month, err error) {
	start, err := time.Parse("2006-01", r.Period)
	if err != nil || start.Year() < 1971 || start.Year() > 2199 {
		return 0, 0, &query.InputError{Parameter: "period", Value: r.Period, Hint: "use a month such as 2026-11: a billing period is one"}
	}
	if r.Step == 0 {
		r.Step = 24 * time.Hour
	}
	if r.Step != time.Hour && r.Step != 24*time.Hour {
		return 0, 0, &query.InputError{Parameter: "step", Value: r.Step.String(), Hint: "a charge period is 1h or 1d"}
	}
	return start.Year(), start.Month(), nil
}

// AllLabels among the labels of a request is all labels of a pod, as a JSON object.
const AllLabels = "*"

// maxLabels bounds the labels of one file.
const maxLabels = 20

// ParseLabels reads names of labels with commas between them; "" is none. Errors:
// *query.InputError.
func ParseLabels(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	names := strings.Split(text, ",")
	for _, name := range names {
		if name == "" || len(name) > 512 || !usage.IsText(name) || len(names) > maxLabels {
			return nil, &query.InputError{Parameter: "labels", Value: text, Hint: fmt.Sprintf("name labels such as app,team with commas between them, %d at most, or * for one column of all", maxLabels)}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// BillingPeriod is a month in a time zone, as two moments.
func BillingPeriod(year int, month time.Month, zone *time.Location) schema.Window {
	return schema.Window{From: time.Date(year, month, 1, 0, 0, 0, 0, zone).UTC(), To: time.Date(year, month+1, 1, 0, 0, 0, 0, zone).UTC()}
}

// Source gives the rows of a billing period, always in the same order, and says
// how complete they are. It is asked for its State first.
type Source interface {
	State(ctx context.Context, request Request) (State, error)
	Rows(ctx context.Context, request Request, yield func(*Row) error) ([]LeftOut, error)
}

// State is what is known of a period before its rows are read.
type State struct {
	Sectors []query.Sector // in order, without a gap between them
	Periods []Period
}

// Period is one row of the data set Billing Period.
type Period struct {
	Start, End, Created, Updated time.Time
	Closed                       bool
	Issuer                       string
}

// complete says whether nothing of the period can still come.
func (s State) complete() bool {
	return len(s.Sectors) > 0 && !slices.ContainsFunc(s.Sectors, func(sector query.Sector) bool { return !sector.Complete })
}

// updated is when the newest of the data arrived; the period's start before any.
func (s State) updated() time.Time {
	var newest time.Time
	for _, sector := range s.Sectors {
		newest = schema.Later(newest, sector.Updated)
	}
	if newest.IsZero() && len(s.Sectors) > 0 {
		newest = s.Sectors[0].From
	}
	return newest.UTC().Truncate(time.Second)
}

// periodColumns are those of Billing Period.
func periodColumns() []string {
	return []string{"BillingPeriodCreated", "BillingPeriodEnd", "BillingPeriodLastUpdated", "BillingPeriodStart", "BillingPeriodStatus", "InvoiceIssuerName"}
}

// periodTable are the columns as data files take them.
func periodTable() []column {
	var all []column
	for i, name := range periodColumns() {
		c := column{Name: name, Type: Moment, NotNull: true}
		if i >= 4 {
			c.Type = String
		}
		all = append(all, c)
	}
	all[4].Allowed = []string{"Open", "Closed"}
	return all
}

// cells are a period's values in the order of its columns.
func (p Period) cells() []cell {
	status := "Open"
	if p.Closed {
		status = "Closed"
	}
	return []cell{{at: p.Created}, {at: p.End}, {at: p.Updated}, {at: p.Start}, {text: status}, {text: p.Issuer}}
}

// check says what is wrong with a period.
func (p Period) check(row int) error {
	for i, c := range periodTable() {
		if err := c.check(p.cells()[i]); err != nil {
			return &RowError{row, c.Name, "Billing Period", err.Error()}
		}
	}
	if !p.Start.Before(p.End) {
		return &RowError{row, "BillingPeriodEnd", "Billing Period", fmt.Sprintf("it does not lie after %s", p.Start.Format(timeFormat))}
	}
	return nil
}

// sortPeriods puts periods into the order of their starts; open ones first.
func sortPeriods(all []Period) {
	slices.SortFunc(all, func(a, b Period) int {
		open := 0
		if a.Closed != b.Closed {
			if open = 1; b.Closed {
				open = -1
			}
		}
		return cmp.Or(a.Start.Compare(b.Start), a.End.Compare(b.End), open, a.Updated.Compare(b.Updated))
	})
}
