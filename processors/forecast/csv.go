package forecast

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

// Named is a series with its name.
type Named struct {
	Name string
	Series
}

// fine is how many parts of a value of a file are told apart.
const fine = 1_000_000

// ReadCSV reads series by the hour: a header with the columns time (RFC 3339, whole
// hours), value (at least 0) and, where there are several, series. An hour that is
// missing is unknown. The series stand in the order of their names.
func ReadCSV(r io.Reader) ([]Named, error) {
	in := csv.NewReader(r)
	head, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	at, value, name := slices.Index(head, "time"), slices.Index(head, "value"), slices.Index(head, "series")
	if at < 0 || value < 0 {
		return nil, errors.New("the header has no columns time and value; series is a third where there are several")
	}
	read := make(map[string]map[int64]int64)
	for line := 2; ; line++ {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		hour, err := time.Parse(time.RFC3339, row[at])
		if err != nil || hour.Unix()%3600 != 0 {
			return nil, fmt.Errorf("line %d: time %q is no whole hour in RFC 3339", line, row[at])
		}
		v, err := strconv.ParseFloat(row[value], 64)
		if err != nil || !(v >= 0 && v < math.MaxInt64/fine) {
			return nil, fmt.Errorf("line %d: value %q is no number from 0 on", line, row[value])
		}
		of := ""
		if name >= 0 {
			of = row[name]
		}
		if read[of] == nil {
			read[of] = make(map[int64]int64)
		}
		if _, twice := read[of][hour.Unix()/3600]; twice {
			return nil, fmt.Errorf("line %d: the hour %s is there twice", line, row[at])
		}
		read[of][hour.Unix()/3600] = int64(math.Round(v * fine))
	}
	var all []Named
	for of, hours := range read {
		one, err := joined(of, hours)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Named) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all, nil
}

// joined is a series of all hours from the first to the last.
func joined(name string, hours map[int64]int64) (Named, error) {
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for hour := range hours {
		first, last = min(first, hour), max(last, hour)
	}
	one := Named{Name: name}
	if last-first > 20*366*day {
		return one, fmt.Errorf("series %q spans more than twenty years", name)
	}
	for hour := first; hour <= last; hour++ {
		v, known := hours[hour]
		one.Values, one.Unknown = append(one.Values, v), append(one.Unknown, !known)
	}
	return one, nil
}
