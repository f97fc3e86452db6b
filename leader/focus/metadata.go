package focus

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Names of the files beside the data.
const (
	metadataName = "metadata.json"
	manifestName = "manifest.json"
)

// schemaCreated is when the columns were last changed: it is no time of a run.
var schemaCreated = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

// Metadata is the specification's metadata of an export.
type Metadata struct {
	DataGenerator   dataGenerator
	DatasetInstance []datasetInstance
	Schema          []Schema
	Recency         []Recency
}

type dataGenerator struct{ DataGenerator string }

type datasetInstance struct {
	DatasetInstanceID   string `json:"DatasetInstanceId"`
	DatasetInstanceName string
	FocusDataset        string
}

// Schema describes the columns of one data set.
type Schema struct {
	SchemaID             string `json:"SchemaId"`
	DatasetInstanceID    string `json:"DatasetInstanceId"`
	FocusVersion         Version
	CreationDate         string
	DataGeneratorVersion string
	ColumnDefinition     []ColumnDefinition
}

// ColumnDefinition describes a column.
type ColumnDefinition struct {
	ColumnName          string
	DataType            string   // STRING, DATETIME, DECIMAL or JSON
	NumericPrecision    int      `json:",omitempty"`
	NumberScale         int      `json:",omitempty"`
	StringEncoding      string   `json:",omitempty"`
	ProviderTagPrefixes []string `json:",omitempty"`
}

// Recency says how far a data set is complete.
type Recency struct {
	DatasetInstanceID          string `json:"DatasetInstanceId"`
	DatasetInstanceComplete    bool
	DatasetInstanceLastUpdated string
	RecencyLastUpdated         string
	TimeSectors                []timeSector `json:",omitempty"`
}

type timeSector struct {
	TimeSectorStart       string
	TimeSectorEnd         string
	TimeSectorComplete    bool
	TimeSectorLastUpdated string
}

// definitions describe columns.
func definitions(all []column) []ColumnDefinition {
	list := make([]ColumnDefinition, len(all))
	for i, c := range all {
		d := ColumnDefinition{ColumnName: c.Name, DataType: map[Type]string{String: "STRING", Moment: "DATETIME", Decimal: "DECIMAL", JSON: "JSON"}[c.Type]}
		switch c.Type {
		case Decimal:
			d.NumericPrecision, d.NumberScale = precision, c.Scale
		case String, JSON:
			d.StringEncoding = "UTF-8"
		}
		if c.Name == "Tags" {
			d.ProviderTagPrefixes = []string{tagPrefix}
		}
		list[i] = d
	}
	return list
}

// dataSet is a data set in the making of its metadata.
type dataSet struct {
	id, name string
	columns  []column
}

// schema describes the data set; its id changes when a column does.
func (d dataSet) schema(v Version, generator string) (Schema, error) {
	s := Schema{DatasetInstanceID: d.id, FocusVersion: v, CreationDate: schemaCreated.Format(timeFormat), DataGeneratorVersion: generator, ColumnDefinition: definitions(d.columns)}
	text, err := json.Marshal(s)
	sum := sha256.Sum256(text)
	s.SchemaID = hex.EncodeToString(sum[:8])
	return s, err
}

// metadata describes an export.
func metadata(v Version, generator string, state State, sets ...dataSet) ([]byte, error) {
	m := Metadata{DataGenerator: dataGenerator{"Accumulus"}}
	updated := state.updated()
	for i, set := range sets {
		m.DatasetInstance = append(m.DatasetInstance, datasetInstance{set.id, set.name, set.name})
		schema, err := set.schema(v, generator)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", set.name, err)
		}
		m.Schema = append(m.Schema, schema)
		recency := Recency{DatasetInstanceID: set.id, DatasetInstanceComplete: state.complete(),
			DatasetInstanceLastUpdated: updated.Format(timeFormat), RecencyLastUpdated: updated.Format(timeFormat)}
		for _, sector := range state.Sectors {
			if i > 0 {
				break // only the first is a series in time
			}
			at := sector.Updated
			if at.IsZero() {
				at = sector.From
			}
			recency.TimeSectors = append(recency.TimeSectors, timeSector{sector.From.UTC().Format(timeFormat), sector.To.UTC().Format(timeFormat),
				sector.Complete, at.UTC().Format(timeFormat)})
		}
		m.Recency = append(m.Recency, recency)
	}
	return indented(m)
}

// Manifest lists the files of an export.
type Manifest struct {
	FocusVersion Version           `json:"focusVersion,omitempty"`
	Format       string            `json:"format"`
	Period       string            `json:"period"`
	Customer     string            `json:"customer,omitempty"`
	Complete     bool              `json:"complete"` // all of the period is here and has settled
	Rows         int               `json:"rows"`     // of Cost and Usage
	Totals       map[string]string `json:"totals"`   // ListCost by currency, exact
	Billed       map[string]string `json:"billed"`   // BilledCost by currency, exact
	LeftOut      []LeftOut         `json:"leftOut"`  // usage that is no charge
	Files        []ManifestFile    `json:"files"`
}

// ManifestFile is one file; names are relative to the export's directory.
type ManifestFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Rows   int    `json:"rows,omitempty"`
}

// LeftOut is a quantity that is in no row, and why.
type LeftOut struct {
	Resource string `json:"resource"`
	Quantity string `json:"quantity"`
	Unit     string `json:"unit"`
	Reason   string `json:"reason"` // "no price" or "excluded by the price list"
}

func indented(value any) ([]byte, error) {
	text, err := json.MarshalIndent(value, "", "  ")
	return append(text, '\n'), err
}
