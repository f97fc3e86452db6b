package stress

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

type site struct {
	*httptest.Server
	t     *testing.T
	clock *clock.Manual
	load  *Load
}

func open(t *testing.T) site {
	t.Helper()
	clk := clock.NewManual(time.Unix(1_000_000, 0))
	load := NewLoad(t.TempDir())
	server := httptest.NewServer(NewServer(tree(t, version2), load, clk, &http.Client{}).Handler())
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		if err := load.Close(); err != nil {
			t.Error(err)
		}
	})
	return site{server, t, clk, load}
}

func (s site) get(path string) (int, string) {
	s.t.Helper()
	response, err := http.Get(s.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestDiskLoadIsItsSize(t *testing.T) {
	s := open(t)
	for _, megabytes := range []string{"3", "1", "0"} {
		if status, text := s.get("/stress/disk/" + megabytes); status != http.StatusOK {
			t.Fatalf("%s MB: %d %s", megabytes, status, text)
		}
		stat, err := os.Stat(s.load.file)
		size := int64(0)
		if err == nil {
			size = stat.Size()
		}
		blocks, err := s.load.DiskBytes()
		if err != nil || blocks < size || blocks > size+1<<20 || size != int64(megabytes[0]-'0')*megabyte {
			t.Errorf("%s MB: the file has %d bytes, %d in blocks, %v", megabytes, size, blocks, err)
		}
	}
}

func TestMemoryAndCoresCanBeChanged(t *testing.T) {
	s := open(t)
	for _, path := range []string{"/stress/ram/2", "/stress/ram/1", "/stress/ram/0", "/stress/cpu/2", "/stress/cpu/1", "/stress/cpu/0"} {
		if status, text := s.get(path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if s.load.memory != nil {
		t.Error("memory is still held")
	}
}

func TestNetFetchesThePage(t *testing.T) {
	s := open(t)
	status, text := s.get("/stress/net/3?url=" + s.URL + "/page")
	var fetched struct {
		BodyBytes int `json:"bodyBytes"`
	}
	if err := json.Unmarshal([]byte(text), &fetched); err != nil || status != http.StatusOK || fetched.BodyBytes != 3*pageBytes {
		t.Errorf("got %d %s", status, text)
	}
}

func TestBadSizes(t *testing.T) {
	s := open(t)
	for _, path := range []string{"/stress/cpu/-1", "/stress/cpu/x", "/stress/cpu/100000", "/stress/ram/-1", "/stress/ram/99999999",
		"/stress/disk/-1", "/stress/net/3", "/stress/net/-1?url=" + s.URL + "/page", "/stress/net/1?url=" + s.URL + "/nothing", "/readings?from=yesterday"} {
		if status, text := s.get(path); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestReadingsSince(t *testing.T) {
	s := open(t)
	for range 3 {
		if status, text := s.get("/readings"); status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
		s.clock.Advance(time.Second)
	}
	_, text := s.get("/readings?from=" + time.Unix(1_000_001, 0).UTC().Format(time.RFC3339Nano))
	var readings []Reading
	if err := json.Unmarshal([]byte(text), &readings); err != nil || len(readings) != 3 || readings[0].CPUMicroseconds != 12345678 {
		t.Errorf("got %s", text)
	}
}

func TestJobTellsItsCounters(t *testing.T) {
	reading, err := Job(t.Context(), tree(t, version2), clock.System(), 1, time.Millisecond)
	if err != nil || reading.CPUMicroseconds != 12345678 {
		t.Fatalf("got %+v, %v", reading, err)
	}
	path := t.TempDir() + "/words"
	if err := WriteMessage(path, reading); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	var read Reading
	if err := json.Unmarshal(text, &read); err != nil || read.CPUMicroseconds != reading.CPUMicroseconds {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestWorkTellsHowLongItTook(t *testing.T) {
	reading, err := Work(t.Context(), tree(t, version2), clock.System(), 2)
	if err != nil || reading.CPUMicroseconds != 12345678 || reading.Seconds <= 0 {
		t.Errorf("got %+v, %v", reading, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Work(ended, tree(t, version2), clock.System(), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
