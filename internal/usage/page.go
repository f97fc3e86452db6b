package usage

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// CompareKeys orders by the keys, then by time; what no pod carries comes last.
func CompareKeys(a, b Row, keys []Key) int {
	for _, k := range keys {
		if c := compareValue(a.Key[string(k)], b.Key[string(k)]); c != 0 {
			return c
		}
	}
	return a.From.Compare(b.From)
}

// CompareValues orders by the values of the same keys, as CompareKeys does.
func CompareValues(a, b []string) int { return slices.CompareFunc(a, b, compareValue) }

func compareValue(left, right string) int {
	if left == right {
		return 0
	}
	if strings.HasPrefix(left, "__") != strings.HasPrefix(right, "__") {
		if strings.HasPrefix(left, "__") {
			return 1
		}
		return -1
	}
	return strings.Compare(left, right)
}

// sortColumns are what rows can be sorted by.
var sortColumns = map[string]func(Row) Exact{
	"cpu":             func(r Row) Exact { return r.CPUCoreSeconds },
	"memory":          func(r Row) Exact { return r.MemoryByteSeconds },
	"networkReceive":  func(r Row) Exact { return r.NetworkReceiveBytes },
	"networkTransmit": func(r Row) Exact { return r.NetworkTransmitBytes },
	"ephemeral":       func(r Row) Exact { return r.EphemeralByteSeconds },
	"volumeClaimed":   func(r Row) Exact { return r.VolumeClaimedByteSeconds },
	"volumeUsed":      func(r Row) Exact { return r.VolumeUsedByteSeconds },
	"energy":          func(r Row) Exact { return r.EnergyJoules },
	"cost":            func(r Row) Exact { return costNumber(r) },
	"key":             nil,
	"from":            nil,
}

func (s Subject) sortNames() string {
	columns := s.columns()
	names := make([]string, 0, len(columns))
	for name := range columns {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func trimSign(text string) string { return strings.TrimPrefix(text, "-") }

// costNumber is a row's cost for sorting; costs in several currencies do not
// compare and count as nothing.
func costNumber(r Row) Exact {
	var number Exact
	if r.Cost == nil || number.UnmarshalJSON([]byte(*r.Cost)) != nil {
		return Exact{}
	}
	return number
}

// ByKey says whether rows are wanted in the order of CompareKeys.
func (r Request) ByKey() bool { return r.Sort == "" || r.Sort == "key" }

// sortRows orders by the wanted column, then by key and time.
func sortRows(rows []Row, request Request) {
	if request.ByKey() {
		return // they are
	}
	by := trimSign(request.Sort)
	sign := 1
	if strings.HasPrefix(request.Sort, "-") {
		sign = -1
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		var first int
		switch column := request.About.columns()[by]; {
		case by == "from":
			first = a.From.Compare(b.From)
		case by == "key":
			first = CompareKeys(a, b, request.Aggregate)
		default:
			first = column(a).Cmp(column(b))
		}
		return cmp.Or(sign*first, CompareKeys(a, b, request.Aggregate))
	})
}

// Page sorts the rows and cuts one page out of them; see Cut.
func Page(rows []Row, request Request, defaultLimit int) ([]Row, string, error) {
	sortRows(rows, request)
	return Cut(rows, request, defaultLimit)
}

// Cut cuts one page out of sorted rows and names the next one, "" after the
// last. A page is named by the number of its first row: with a window that is
// written as FROM,TO the pages of one answer fit together.
func Cut[R any](rows []R, request Request, defaultLimit int) ([]R, string, error) {
	start := 0
	if request.Page != "" {
		n, err := strconv.Atoi(request.Page)
		if err != nil || n < 0 {
			return nil, "", Wrong("page", request.Page, "use the value of next in the answer before")
		}
		start = n
	}
	limit := request.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	start = min(start, len(rows))
	end := min(start+limit, len(rows))
	next := ""
	if end < len(rows) {
		next = strconv.Itoa(end)
	}
	return rows[start:end], next, nil
}
