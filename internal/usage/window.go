package usage

import (
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// maxWindow is the longest window that one question may span: ten years. The
// work for a question grows with its quarters, also with those without rows.
const maxWindow = 3660 * 24 * time.Hour

const windowHint = "use 1h, 24h, 7d, today, yesterday, month, lastmonth, 2026-11 or two RFC 3339 times with a comma between them"

// ParseWindow reads a window as a user writes it: a length that ends at the
// last settled minute (1h, 90m, 7d), a calendar word in UTC (today, yesterday,
// month, lastmonth), a month (2026-11), or FROM,TO in RFC 3339. Words that
// would reach beyond the last settled minute end there. FROM and TO must be
// whole minutes: the stored grain. A window lies between the years 1970 and 2200
// and is at most ten years long.
func ParseWindow(text string, settled time.Time) (schema.Window, error) {
	w, err := parseWindow(text, settled)
	switch {
	case err != nil:
		return schema.Window{}, err
	case w.From.Year() < 1970 || w.To.Year() > 2200:
		return schema.Window{}, Wrong("window", text, "it must lie between the years 1970 and 2200")
	case w.Length() > maxWindow:
		return schema.Window{}, Wrong("window", text, "ask for ten years at most")
	}
	return w, nil
}

func parseWindow(text string, settled time.Time) (schema.Window, error) {
	text = strings.TrimSpace(text)
	settled = settled.UTC().Truncate(schema.Minute)
	if from, to, ok := strings.Cut(text, ","); ok {
		return parseBounds(text, from, to)
	}
	if w, ok := Calendar(text, settled); ok {
		return until(w, settled), nil
	}
	length, ok := parseLength(text)
	if !ok || length < schema.Minute || length%schema.Minute != 0 {
		return schema.Window{}, Wrong("window", text, windowHint)
	}
	return schema.Window{From: settled.Add(-length), To: settled}, nil
}

func parseBounds(text, from, to string) (schema.Window, error) {
	start, err := time.Parse(time.RFC3339, strings.TrimSpace(from))
	if err != nil {
		return schema.Window{}, Wrong("window", text, windowHint)
	}
	end, err := time.Parse(time.RFC3339, strings.TrimSpace(to))
	if err != nil {
		return schema.Window{}, Wrong("window", text, windowHint)
	}
	w := schema.Window{From: start.UTC(), To: end.UTC()}
	if !w.From.Before(w.To) {
		return schema.Window{}, Wrong("window", text, "the first time must lie before the second")
	}
	if !w.From.Equal(w.From.Truncate(schema.Minute)) || !w.To.Equal(w.To.Truncate(schema.Minute)) {
		return schema.Window{}, Wrong("window", text, "use whole minutes: usage is stored by the minute")
	}
	return w, nil
}

// Calendar is the window of one of the words and months, in UTC.
func Calendar(text string, settled time.Time) (schema.Window, bool) {
	day := time.Date(settled.Year(), settled.Month(), settled.Day(), 0, 0, 0, 0, time.UTC)
	month := time.Date(settled.Year(), settled.Month(), 1, 0, 0, 0, 0, time.UTC)
	switch text {
	case "today":
		return schema.Window{From: day, To: day.AddDate(0, 0, 1)}, true
	case "yesterday":
		return schema.Window{From: day.AddDate(0, 0, -1), To: day}, true
	case "month":
		return schema.Window{From: month, To: month.AddDate(0, 1, 0)}, true
	case "lastmonth":
		return schema.Window{From: month.AddDate(0, -1, 0), To: month}, true
	}
	if start, err := time.Parse("2006-01", text); err == nil {
		return schema.Window{From: start, To: start.AddDate(0, 1, 0)}, true
	}
	return schema.Window{}, false
}

// until cuts a window that has begun at the last settled minute. One that has
// not begun stays whole: it is empty of data and says so.
func until(w schema.Window, settled time.Time) schema.Window {
	if w.To.After(settled) && settled.After(w.From) {
		w.To = settled
	}
	return w
}

// parseLength reads a Go duration, or whole days ("7d").
func parseLength(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		length, err := time.ParseDuration(days + "h")
		if err != nil || length%time.Hour != 0 || length > 20*365*time.Hour {
			return 0, false
		}
		return 24 * length, true
	}
	length, err := time.ParseDuration(text)
	return length, err == nil
}

// ParseStep reads a step: at least a minute, and one that cuts a UTC day evenly.
func ParseStep(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	step, ok := parseLength(text)
	if !ok || step < schema.Minute || step%schema.Minute != 0 || 24*time.Hour%step != 0 {
		return 0, Wrong("step", text, "use a length that cuts a day evenly, such as 1m, 15m, 1h, 6h or 1d")
	}
	return step, nil
}

// CutAt cuts the window at the moments inside it, each rounded up to a minute:
// a change inside a minute counts from the next minute on.
func CutAt(w schema.Window, moments []time.Time) []schema.Window {
	edges := []time.Time{w.From, w.To}
	for _, t := range moments {
		if t.IsZero() {
			continue
		}
		edge := t.UTC().Truncate(schema.Minute)
		if edge.Before(t) {
			edge = edge.Add(schema.Minute)
		}
		if edge.After(w.From) && edge.Before(w.To) {
			edges = append(edges, edge)
		}
	}
	slices.SortFunc(edges, time.Time.Compare)
	edges = slices.CompactFunc(edges, time.Time.Equal)
	parts := make([]schema.Window, 0, len(edges)-1)
	for i := 1; i < len(edges); i++ {
		parts = append(parts, schema.Window{From: edges[i-1], To: edges[i]})
	}
	return parts
}

// Bucket is the step that holds t: [start, end) within the window.
func Bucket(w schema.Window, step time.Duration, t time.Time) schema.Window {
	if step == 0 {
		return w
	}
	b := schema.WindowAt(t, step)
	if b.From.Before(w.From) {
		b.From = w.From
	}
	if b.To.After(w.To) {
		b.To = w.To
	}
	return b
}

// Joined are windows in order, those that touch or overlap as one.
func Joined(windows []schema.Window) []schema.Window {
	sorted := slices.Clone(windows)
	slices.SortFunc(sorted, func(a, b schema.Window) int { return a.From.Compare(b.From) })
	joined := sorted[:0]
	for _, w := range sorted {
		if last := len(joined) - 1; last >= 0 && !w.From.After(joined[last].To) {
			joined[last].To = schema.Later(joined[last].To, w.To)
			continue
		}
		joined = append(joined, w)
	}
	return joined
}
