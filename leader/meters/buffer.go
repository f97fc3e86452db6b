package meters

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// kept is a reading that waits to be sent: one line of the buffer.
type kept struct {
	Meter string `json:"meter"`
	Sent
}

// maxKept bounds the readings that wait: 100 meters each 10 s for three hours, one
// meter for two weeks. Beyond it every second one of the older half goes: a counter
// holds its energy in the next.
const maxKept = 120_000

// buffer holds the readings that were not sent yet, in memory and in a file of a
// line each. A line that a crash cut off is left out.
type buffer struct {
	path string
	lock *flock.Flock

	mu      sync.Mutex
	file    *os.File
	waiting []kept
	stale   int // lines of the file that were sent already
}

// openBuffer reads the file, which need not exist, and locks it.
func openBuffer(path string) (*buffer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of buffer: %w", err)
	}
	b := &buffer{path: path, lock: flock.New(path + ".lock")}
	if locked, err := b.lock.TryLock(); err != nil || !locked {
		return nil, errors.Join(fmt.Errorf("buffer %s is in use by another process", path), err)
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("read buffer: %w", err), b.lock.Unlock())
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var k kept
		if json.Unmarshal(lines.Bytes(), &k) == nil && k.Meter != "" {
			b.waiting = append(b.waiting, k)
		}
	}
	if err := errors.Join(lines.Err(), b.rewrite()); err != nil {
		return nil, errors.Join(err, b.lock.Unlock())
	}
	return b, nil
}

// rewrite makes the file hold what waits, in one step.
func (b *buffer) rewrite() error {
	var text []byte
	for _, k := range b.waiting {
		line, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("write buffer: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	fresh, err := os.CreateTemp(filepath.Dir(b.path), ".buffer-*")
	if err != nil {
		return fmt.Errorf("write buffer: %w", err)
	}
	_, err = fresh.Write(text)
	if err := errors.Join(err, fresh.Sync()); err != nil {
		return errors.Join(fmt.Errorf("write buffer: %w", err), fresh.Close(), os.Remove(fresh.Name()))
	}
	if err := os.Rename(fresh.Name(), b.path); err != nil {
		return errors.Join(fmt.Errorf("write buffer: %w", err), fresh.Close())
	}
	if b.file != nil {
		err = b.file.Close()
	}
	b.file, b.stale = fresh, 0
	return err
}

// add makes readings durable.
func (b *buffer) add(fresh []kept) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	b.waiting = append(b.waiting, fresh...)
	if len(b.waiting) > maxKept {
		b.thin()
		return b.rewrite()
	}
	var text []byte
	for _, k := range fresh {
		line, err := json.Marshal(k)
		if err != nil {
			return fmt.Errorf("write buffer: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	_, err := b.file.Write(text)
	if err := errors.Join(err, b.file.Sync()); err != nil {
		return fmt.Errorf("write buffer: %w", err)
	}
	return nil
}

// thin leaves out every second reading of each meter in the older half.
func (b *buffer) thin() {
	seen := make(map[string]int)
	half := len(b.waiting) / 2
	thinned := b.waiting[:0]
	for i, k := range b.waiting {
		if seen[k.Meter]++; i < half && seen[k.Meter]%2 == 0 {
			continue
		}
		thinned = append(thinned, k)
	}
	b.waiting = thinned
}

// meters are the names of those whose readings wait, the oldest first.
func (b *buffer) meters() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	known := make(map[string]bool)
	for _, k := range b.waiting {
		if !known[k.Meter] {
			known[k.Meter] = true
			names = append(names, k.Meter)
		}
	}
	return names
}

// of are the oldest readings of a meter, at most n.
func (b *buffer) of(meter string, n int) []Sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sent []Sent
	for _, k := range b.waiting {
		if k.Meter == meter && len(sent) < n {
			sent = append(sent, k.Sent)
		}
	}
	return sent
}

// compactAt is how many sent lines the file may hold before it is written anew.
// After a crash they are sent again, and are duplicates.
const compactAt = 1000

// drop forgets the readings of a meter up to a time, which were sent.
func (b *buffer) drop(meter string, upTo time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	former := len(b.waiting)
	b.waiting = slices.DeleteFunc(b.waiting, func(k kept) bool { return k.Meter == meter && !k.Time.After(upTo) })
	b.stale += former - len(b.waiting)
	if b.stale >= compactAt || len(b.waiting) == 0 && b.stale > 0 {
		return b.rewrite()
	}
	return nil
}

// newest are the times of the last reading of each meter.
func (b *buffer) newest() map[string]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	newest := make(map[string]time.Time)
	for _, k := range b.waiting {
		if k.Time.After(newest[k.Meter]) {
			newest[k.Meter] = k.Time
		}
	}
	return newest
}

func (b *buffer) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

func (b *buffer) close() error { return errors.Join(b.file.Close(), b.lock.Unlock()) }

// joules is a number of thousandths, as a decimal.
func joules(milli int64) json.Number {
	sign := ""
	if milli < 0 {
		sign = "-"
	}
	whole, rest := milli/1000, milli%1000
	if rest < 0 {
		rest = -rest
	}
	if whole < 0 {
		whole = -whole
	}
	return json.Number(sign + strconv.FormatInt(whole, 10) + "." + fmt.Sprintf("%03d", rest))
}
