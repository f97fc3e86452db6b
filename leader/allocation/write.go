package allocation

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// Response is the JSON of an answer, for who reads it.
type Response struct {
	Code      int                     `json:"code"`
	Data      []map[string]Allocation `json:"data"`
	Accumulus Envelope                `json:"accumulus"`
}

// Envelope is what an answer says beside OpenCost's code and data.
type Envelope struct {
	Window     Window           `json:"window"`
	Currency   string           `json:"currency"`
	Total      int              `json:"total"` // names on all pages
	NextOffset *int             `json:"nextOffset"`
	Closed     bool             `json:"closed"` // all of it is here and settled
	Idle       []Reconciliation `json:"idle,omitempty"`
	Warnings   []string         `json:"warnings"`
}

// JSON is the answer in OpenCost's shape, {"code":200,"data":[{NAME:{…}}]}, with
// what Accumulus says of it in "accumulus". The same answer has the same bytes.
func (a Answer) JSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(`{"code":200,"data":[`)
	shown := 0
	names := make(map[string]bool)
	for i, set := range a.Sets {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('{')
		for j, allocation := range set.Allocations {
			if j > 0 {
				out.WriteByte(',')
			}
			name, err := json.Marshal(allocation.Name)
			if err != nil {
				return nil, err
			}
			text, err := json.Marshal(allocation)
			if err != nil {
				return nil, fmt.Errorf("allocation %q: %w", allocation.Name, err)
			}
			out.Write(name)
			out.WriteByte(':')
			out.Write(text)
			if !names[allocation.Name] {
				names[allocation.Name] = true
				shown++
			}
		}
		out.WriteByte('}')
	}
	said := Envelope{Window: Window{stamp(a.Window.From), stamp(a.Window.To)}, Currency: a.Currency, Total: a.Total, Closed: a.Closed, Idle: a.Idle, Warnings: a.Warnings}
	if said.Warnings == nil {
		said.Warnings = []string{}
	}
	if next := a.Offset + shown; shown > 0 && next < a.Total {
		said.NextOffset = &next
	}
	text, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	out.WriteString(`],"accumulus":`)
	out.Write(text)
	out.WriteString("}\n")
	return out.Bytes(), nil
}

var csvHeader = []string{"Name", "Start", "End", "Cluster", "Node", "Namespace", "ControllerKind", "Controller", "Pod", "Container",
	"CPUCoreHours", "CPUCoreRequestAverage", "CPUCoreUsageAverage", "CPUCost", "GPUHours", "GPUCost", "NetworkReceiveBytes", "NetworkTransferBytes", "NetworkCost",
	"PVByteHours", "PVCost", "RAMByteHours", "RAMByteRequestAverage", "RAMByteUsageAverage", "RAMCost", "SharedCost", "TotalCost", "TotalEfficiency",
	"EnergyKwh", "EnergyActiveKwh", "EnergyIdleKwh", "EnergyCost", "OtherCost", "CO2eKg", "HeatKwh", "Coverage", "Quality", "Currency", "Provisional", "Labels"}

// CSV is the answer as rows, one per name and step.
func (a Answer) CSV() ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	if err := w.Write(csvHeader); err != nil {
		return nil, err
	}
	for _, set := range a.Sets {
		for _, o := range set.Allocations {
			p := o.Properties
			labels, err := usage.LabelText(p.Labels)
			if err != nil {
				return nil, err
			}
			row := []string{o.Name, o.Start, o.End, p.Cluster, p.Node, p.Namespace, p.ControllerKind, p.Controller, p.Pod, p.Container}
			for _, n := range []Number{o.CPUCoreHours, o.CPUCoreRequestAverage, o.CPUCoreUsageAverage, o.CPUCost, o.GPUHours, o.GPUCost, o.NetworkReceiveBytes,
				o.NetworkTransferBytes, o.NetworkCost, o.PVByteHours, o.PVCost, o.RAMByteHours, o.RAMByteRequestAverage, o.RAMByteUsageAverage, o.RAMCost, o.SharedCost, o.TotalCost} {
				row = append(row, n.String())
			}
			row = append(row, fraction(o.TotalEfficiency))
			for _, n := range []Number{o.EnergyKwh, o.EnergyActiveKwh, o.EnergyIdleKwh, o.EnergyCost, o.OtherCost} {
				row = append(row, n.String())
			}
			row = append(row, perhaps(o.CO2eKg), perhaps(o.HeatKwh), fraction(o.Coverage), o.Quality, o.Currency, strconv.FormatBool(o.Provisional), labels)
			if err := w.Write(row); err != nil {
				return nil, err
			}
		}
	}
	w.Flush()
	return out.Bytes(), w.Error()
}

func fraction(f float64) string { return strconv.FormatFloat(f, 'f', 4, 64) }

// perhaps is "" of what is unknown.
func perhaps(n *Number) string {
	if n == nil {
		return ""
	}
	return n.String()
}

// ETag is a strong entity tag of an answer's bytes.
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}
