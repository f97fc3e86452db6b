package prices

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/processors/rating"
)

// ErrOpenCost is a text that is no custom pricing of OpenCost's.
var ErrOpenCost = errors.New("no CSV of OpenCost's custom pricing")

// Columns of OpenCost's CSV provider (docs: "Custom pricing using CSV").
const (
	columnRegion = "region"
	columnClass  = "assetclass"
	columnType   = "instancetype"
	columnID     = "instanceid"
	columnPrice  = "marketpricehourly"
)

// Import is what came of an import.
type Import struct {
	Object fleet.Object
	// Skipped are the rows that have no counterpart, each with why.
	Skipped []string
	// Hardware are the instance types that rates are for: objects of these names must
	// be there.
	Hardware []string
}

// ImportOpenCost makes a price list of OpenCost's custom pricing, whose columns are
// EndTimestamp, InstanceID, Region, AssetClass, InstanceIDField, InstanceType,
// MarketPriceHourly, Version: a node is node-hours of its hardware, a pv the claimed
// GiB-hours of its storage class, a gpu the hours of nvidia.com/gpu. OpenCost names
// no currency. Of several rows of one thing the last counts, as in OpenCost. Errors:
// ErrOpenCost.
func ImportOpenCost(text []byte, name, currency string) (Import, error) {
	rows, err := openCostRows(text)
	if err != nil {
		return Import{}, err
	}
	list := fleet.PriceList{Currency: currency}
	var in Import
	for i, row := range rows {
		rate, why := openCostRate(row)
		if why != "" {
			in.Skipped = append(in.Skipped, fmt.Sprintf("row %d: %s", i+2, why))
			continue
		}
		if rate.Match != nil && rate.Match.Hardware != "" && !slices.Contains(in.Hardware, rate.Match.Hardware) {
			in.Hardware = append(in.Hardware, rate.Match.Hardware)
		}
		same := func(o fleet.Rate) bool {
			return o.Resource == rate.Resource && rating.Match(*o.Match) == rating.Match(*rate.Match)
		}
		if at := slices.IndexFunc(list.Rates, same); at >= 0 {
			list.Rates[at] = rate
			continue
		}
		list.Rates = append(list.Rates, rate)
	}
	if len(list.Rates) == 0 {
		return Import{}, fmt.Errorf("%w: no row has a counterpart: %s", ErrOpenCost, strings.Join(in.Skipped, "; "))
	}
	for i := range list.Rates {
		if *list.Rates[i].Match == (fleet.PriceMatch{}) {
			list.Rates[i].Match = nil
		}
	}
	slices.Sort(in.Hardware)
	in.Object = fleet.NewObject(name, list)
	if problems := fleet.CheckAlone(in.Object); len(problems) > 0 {
		return Import{}, fmt.Errorf("%w: %w", ErrOpenCost, problems)
	}
	return in, nil
}

func openCostRows(text []byte) ([]map[string]string, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: read the header: %w", ErrOpenCost, err)
	}
	for i := range head {
		head[i] = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(head[i], "\ufeff")))
	}
	for _, name := range []string{columnClass, columnPrice} {
		if !slices.Contains(head, name) {
			return nil, fmt.Errorf("%w: the header has no column %s: want EndTimestamp,InstanceID,Region,AssetClass,InstanceIDField,InstanceType,MarketPriceHourly,Version", ErrOpenCost, name)
		}
	}
	var rows []map[string]string
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOpenCost, err)
		}
		row := make(map[string]string, len(head))
		for i, value := range record {
			if i < len(head) {
				row[head[i]] = strings.TrimSpace(value)
			}
		}
		rows = append(rows, row)
	}
}

var objectName = regexp.MustCompile(`[^a-z0-9.-]+`)

// openCostRate is the rate of a row, or why it has none.
func openCostRate(row map[string]string) (fleet.Rate, string) {
	price, err := parsePrice(row[columnPrice])
	if err != nil {
		return fleet.Rate{}, err.Error()
	}
	if price.Negative && !price.IsZero() {
		return fleet.Rate{}, "the price is negative"
	}
	kind := strings.ToLower(row[columnClass])
	of := row[columnType]
	if of == "" {
		of = row[columnID]
	}
	name := strings.Trim(objectName.ReplaceAllString(strings.ToLower(of), "-"), "-.")
	rate := fleet.Rate{Price: fleet.Decimal(price.Text('f')), Match: &fleet.PriceMatch{Region: row[columnRegion]}}
	switch kind {
	case "node":
		if name == "" {
			return fleet.Rate{}, "a node without an InstanceType"
		}
		rate.Resource, rate.Match.Hardware = "node_hours", name
	case "pv":
		if rate.Resource = "volume_claimed"; name != "" {
			rate.Resource += ":" + name
		}
	case "gpu":
		rate.Resource = "extended:nvidia.com/gpu"
	default:
		return fleet.Rate{}, fmt.Sprintf("AssetClass %.40q is none of node, pv, gpu", row[columnClass])
	}
	return rate, ""
}
