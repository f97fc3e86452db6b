package allocation

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

const (
	day        = 24 * time.Hour
	windowHint = "use today, yesterday, week, lastweek, month, lastmonth, 30m, 12h, 7d, two RFC 3339 times or two Unix times (seconds) with a comma between them"
	maxWindow  = 3660 * day
)

var lengthForm = regexp.MustCompile(`^([0-9]{1,6})([mhdw])$`)

// ParseWindow reads OpenCost's windows, in UTC. Words and lengths are told by the
// last settled minute and end there; days and weeks count as OpenCost's do: 7d is
// today and the six days before. Weeks begin on Sunday. Errors: *usage.InputError.
func ParseWindow(text string, settled time.Time) (schema.Window, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return schema.Window{}, usage.Wrong("window", "", "it is required: "+windowHint)
	}
	w, relative, err := parseWindow(text, settled.UTC().Truncate(schema.Minute))
	if err != nil {
		return schema.Window{}, err
	}
	if settled = settled.UTC().Truncate(schema.Minute); relative && w.To.After(settled) && settled.After(w.From) {
		w.To = settled
	}
	switch {
	case !w.From.Before(w.To):
		return schema.Window{}, usage.Wrong("window", text, "the first time must lie before the second")
	case w.From.Year() < 1970 || w.To.Year() > 2200 || w.Length() > maxWindow:
		return schema.Window{}, usage.Wrong("window", text, "ask for ten years at most, between 1970 and 2200")
	case !w.From.Equal(w.From.Truncate(schema.Minute)) || !w.To.Equal(w.To.Truncate(schema.Minute)):
		return schema.Window{}, usage.Wrong("window", text, "use whole minutes: usage is stored by the minute")
	}
	return w, nil
}

func parseWindow(text string, settled time.Time) (w schema.Window, relative bool, err error) {
	if from, to, pair := strings.Cut(text, ","); pair {
		start, ok := parseMoment(from)
		end, also := parseMoment(to)
		if !ok || !also {
			return w, false, usage.Wrong("window", text, windowHint)
		}
		return schema.Window{From: start, To: end}, false, nil
	}
	if w, ok := usage.Calendar(text, settled); ok {
		return w, true, nil
	}
	today := settled.Truncate(day)
	sunday := today.AddDate(0, 0, -int(today.Weekday()))
	switch text {
	case "week":
		return schema.Window{From: sunday, To: sunday.AddDate(0, 0, 7)}, true, nil
	case "lastweek":
		return schema.Window{From: sunday.AddDate(0, 0, -7), To: sunday}, true, nil
	}
	parts := lengthForm.FindStringSubmatch(text)
	if parts == nil {
		return w, false, usage.Wrong("window", text, windowHint)
	}
	n, _ := strconv.Atoi(parts[1]) // six digits
	unit := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day}[parts[2]]
	if n == 0 || time.Duration(n) > maxWindow/unit {
		return w, false, usage.Wrong("window", text, windowHint)
	}
	length := time.Duration(n) * unit
	if unit >= day { // the day that goes on counts as the last one
		return schema.Window{From: today.Add(day - length), To: today.Add(day)}, true, nil
	}
	return schema.Window{From: settled.Add(-length), To: settled}, true, nil
}

// parseMoment reads RFC 3339 or Unix seconds.
func parseMoment(text string) (time.Time, bool) {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC(), seconds >= 0 && seconds < 8_000_000_000
	}
	t, err := time.Parse(time.RFC3339, text)
	return t.UTC(), err == nil
}

// parseStep reads a step: minutes, hours, days or weeks; "" is the whole window.
func parseStep(text string, w schema.Window) (time.Duration, error) {
	if text == "" {
		return w.Length(), nil
	}
	parts := lengthForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, usage.Wrong("step", text, "use a length such as 10m, 1h, 1d, 3d or 1w")
	}
	n, _ := strconv.Atoi(parts[1])
	unit := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day}[parts[2]]
	if n == 0 || time.Duration(n) > maxWindow/unit {
		return 0, usage.Wrong("step", text, "use a length such as 10m, 1h, 1d, 3d or 1w")
	}
	return time.Duration(n) * unit, nil
}

// steps cuts a window from its start on.
func steps(w schema.Window, step time.Duration) []schema.Window {
	var all []schema.Window
	for at := w.From; at.Before(w.To); at = at.Add(step) {
		all = append(all, schema.Window{From: at, To: schema.Earlier(at.Add(step), w.To)})
	}
	return all
}
