package focus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Options of an export.
type Options struct {
	Version     Version
	Compression Compression
	Generator   string // version of the program
	// PartBytes bounds the cells' text in a data file, which is one row group; 0 is
	// 96 MiB.
	PartBytes int64
	Scratch   string // where files are made; "" is the system's
}

// IncompleteError names what of a period is not here.
type IncompleteError struct {
	Period  string
	Sectors int // that are not complete
	First   string
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("the period %s lacks something, or has not settled, in %d charge periods, first in that from %s", e.Period, e.Sectors, e.First)
}

// Prepared is an export whose files are made and have gone nowhere yet.
type Prepared struct {
	Manifest Manifest
	dir      string
	dataDir  string
	files    []File // the manifest is the last
}

// Close removes the files.
func (p *Prepared) Close() error { return os.RemoveAll(p.dir) }

// Send puts the files into a sink, the manifest last, then removes what an earlier
// run left beside the data.
func (p *Prepared) Send(ctx context.Context, sink Sink) error {
	names := make([]string, len(p.files))
	for i, file := range p.files {
		names[i] = file.Name
		if err := sink.Put(ctx, file); err != nil {
			return err
		}
	}
	for _, dir := range dataDirs(names) {
		if err := sink.Prune(ctx, dir, names); err != nil {
			return err
		}
	}
	return nil
}

// dataDirs are the directories of data files.
func dataDirs(names []string) []string {
	var dirs []string
	for _, name := range names {
		if IsData(name) {
			dirs = append(dirs, path.Dir(name))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// Prepare makes the files of an export in a directory of its own. Close it.
// Errors: *RowError, *IncompleteError, *query.InputError, and those of the source.
func Prepare(ctx context.Context, source Source, request Request, options Options) (_ *Prepared, err error) {
	if _, _, err := request.Check(); err != nil {
		return nil, err
	}
	state, err := source.State(ctx, request)
	if err != nil {
		return nil, err
	}
	if request.RequireComplete && !state.complete() {
		return nil, incomplete(request.Period, state)
	}
	p, err := newPrepared(options.Scratch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	p.dataDir = path.Join("focus", string(options.Version))
	if request.Customer != "" {
		p.dataDir = path.Join(p.dataDir, "billing_account="+Partition(request.Customer))
	}
	period := "billing_period=" + request.Period
	p.Manifest = Manifest{FocusVersion: options.Version, Format: "focus", Period: request.Period, Customer: request.Customer, Complete: state.complete(), LeftOut: []LeftOut{}}
	usage := &parts{prepared: p, dir: path.Join(p.dataDir, period), options: options, name: "CostAndUsage", columns: columns(options.Version)}
	if err := p.writeUsage(ctx, source, request, usage); err != nil {
		return nil, err
	}
	billing := &parts{prepared: p, dir: path.Join(p.dataDir, "billing_periods", period), options: options, name: "BillingPeriod", columns: periodTable()}
	if err := writePeriods(state.Periods, billing); err != nil {
		return nil, err
	}
	id := strings.ReplaceAll(path.Join("accumulus", p.dataDir, request.Step.String()), "/", ":")
	text, err := metadata(options.Version, options.Generator, state, dataSet{id + ":CostAndUsage", "Cost and Usage", usage.columns}, dataSet{id + ":BillingPeriod", "Billing Period", billing.columns})
	if err == nil {
		err = p.add(path.Join(p.dataDir, period, metadataName), bytes.NewReader(text))
	}
	if err == nil {
		err = p.seal(path.Join(p.dataDir, period, manifestName))
	}
	return p, err
}

func newPrepared(scratch string) (*Prepared, error) {
	dir, err := os.MkdirTemp(scratch, "accumulus-export-*")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the export: %w", err)
	}
	return &Prepared{dir: dir}, nil
}

// Partition is a value as the name of a directory.
func Partition(value string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, value)
}

func incomplete(period string, state State) error {
	e := &IncompleteError{Period: period, First: "its start"}
	for _, sector := range state.Sectors {
		if sector.Complete {
			continue
		}
		if e.Sectors++; e.Sectors == 1 {
			e.First = sector.From.UTC().Format(timeFormat)
		}
	}
	return e
}

// writeUsage writes the rows of Cost and Usage.
func (p *Prepared) writeUsage(ctx context.Context, source Source, request Request, to *parts) error {
	checks := newChecker(to.options.Version)
	totals, billed := make(map[string]*apd.Decimal), make(map[string]*apd.Decimal)
	leftOut, err := source.Rows(ctx, request, func(r *Row) error {
		cells, err := checks.check(r)
		if err != nil {
			return err
		}
		add(totals, r.BillingCurrency, r.ListCost)
		add(billed, r.BillingCurrency, r.BilledCost)
		return to.write(cells)
	})
	if err != nil {
		return err
	}
	p.Manifest.Rows, p.Manifest.Totals, p.Manifest.Billed = checks.rows, texts(totals), texts(billed)
	p.Manifest.LeftOut = append(p.Manifest.LeftOut, leftOut...)
	return to.close()
}

func writePeriods(periods []Period, to *parts) error {
	for i, period := range periods {
		if err := period.check(i + 1); err != nil {
			return err
		}
		if err := to.write(period.cells()); err != nil {
			return err
		}
	}
	return to.close()
}

// add counts an amount, exactly.
func add(sums map[string]*apd.Decimal, currency string, amount *apd.Decimal) {
	sum, ok := sums[currency]
	if !ok {
		sum = zero()
		sums[currency] = sum
	}
	_, _ = apd.BaseContext.WithPrecision(1000).Add(sum, sum, amount) // more digits than sums of DECIMAL(38) can have
}

func texts(sums map[string]*apd.Decimal) map[string]string {
	all := make(map[string]string, len(sums))
	for currency, sum := range sums {
		all[currency] = plainDecimal(sum)
	}
	return all
}

// add makes a file of a text.
func (p *Prepared) add(name string, text io.Reader) error {
	file, err := p.create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, text)
	return errors.Join(err, file.finish(0))
}

// seal writes the manifest of all files.
func (p *Prepared) seal(name string) error {
	for _, file := range p.files {
		p.Manifest.Files = append(p.Manifest.Files, ManifestFile{file.Name, file.Bytes, file.SHA256, file.Rows})
	}
	text, err := indented(p.Manifest)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return p.add(name, bytes.NewReader(text))
}

// made is a file in the making.
type made struct {
	prepared *Prepared
	name     string
	file     *os.File
	sum      hash.Hash
	bytes    int64
}

func (p *Prepared) create(name string) (*made, error) {
	file, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("%04d", len(p.files))))
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return &made{prepared: p, name: name, file: file, sum: sha256.New()}, nil
}

// Write writes and sums.
func (m *made) Write(b []byte) (int, error) {
	n, err := m.file.Write(b)
	m.bytes += int64(n)
	_, _ = m.sum.Write(b[:n]) // a hash returns no error
	return n, err
}

// finish closes the file and lists it.
func (m *made) finish(rows int) error {
	if err := m.file.Close(); err != nil {
		return fmt.Errorf("make %s: %w", m.name, err)
	}
	m.prepared.files = append(m.prepared.files, File{Name: m.name, Path: m.file.Name(), Bytes: m.bytes, SHA256: hex.EncodeToString(m.sum.Sum(nil)), Rows: rows})
	return nil
}

// parts writes rows into data files, each with one row group.
type parts struct {
	prepared *Prepared
	dir      string
	options  Options
	name     string
	columns  []column

	count, rows int
	text        int64
	file        *made
	table       tableWriter
}

func (w *parts) open() error {
	var err error
	if w.file, err = w.prepared.create(path.Join(w.dir, fmt.Sprintf("part-%04d%s", w.count, w.options.Compression.Extension()))); err != nil {
		return err
	}
	w.count, w.rows, w.text = w.count+1, 0, 0
	w.table, err = newTable(w.file, w.options.Compression, w.name, w.columns)
	return err
}

func (w *parts) write(cells []cell) error {
	if w.table == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if err := w.table.write(cells); err != nil {
		return fmt.Errorf("write %s: %w", w.file.name, err)
	}
	w.rows++
	for _, c := range cells {
		w.text += int64(len(c.text)) + decimalBytes
	}
	limit := w.options.PartBytes
	if limit == 0 {
		limit = 96 << 20
	}
	if w.text < limit {
		return nil
	}
	return w.end()
}

func (w *parts) end() error {
	if err := w.table.close(); err != nil {
		return fmt.Errorf("write %s: %w", w.file.name, err)
	}
	w.table = nil
	return w.file.finish(w.rows)
}

// close ends the last file; without a row there is one with the columns alone.
func (w *parts) close() error {
	if w.table == nil && w.count == 0 {
		if err := w.open(); err != nil {
			return err
		}
	}
	if w.table == nil {
		return nil
	}
	return w.end()
}

// readManifest reads and checks a manifest.
func readManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}
