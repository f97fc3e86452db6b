package stress

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// kept is how many readings are held: at one a second, two hours.
const kept = 2 * 60 * 60

// pageBytes is the length of /page.
const pageBytes = 64 << 10

// Server holds a load and its readings. It is safe for concurrent use.
type Server struct {
	kernel Kernel
	load   *Load
	clock  clock.Clock
	client *http.Client

	mu       sync.Mutex
	readings []Reading
	failed   error // of the newest try
}

// NewServer serves a load on the container that kernel shows.
func NewServer(kernel Kernel, load *Load, clk clock.Clock, client *http.Client) *Server {
	return &Server{kernel: kernel, load: load, clock: clk, client: client}
}

// Run takes a reading at each second until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	for {
		s.take()
		if _, err := clock.Until(ctx, s.clock, time.Second); err != nil {
			return nil
		}
	}
}

// take adds a reading.
func (s *Server) take() {
	reading, err := s.kernel.Read()
	if err == nil {
		reading.DiskBytes, err = s.load.DiskBytes()
	}
	reading.Time = s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	if err != nil {
		return
	}
	if len(s.readings) == kept {
		s.readings = append(s.readings[:0], s.readings[1:]...)
	}
	s.readings = append(s.readings, reading)
}

// Since are the readings at or after from, oldest first, and the error of the
// newest try.
func (s *Server) Since(from time.Time) ([]Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	readings := make([]Reading, 0, len(s.readings))
	for _, r := range s.readings {
		if !r.Time.Before(from) {
			readings = append(readings, r)
		}
	}
	return readings, s.failed
}

// Handler serves the routes of the package's comment.
func (s *Server) Handler() http.Handler {
	page := bytes.Repeat([]byte("0123456789abcdef"), pageBytes/16)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	mux.HandleFunc("GET /readings", s.serveReadings)
	mux.HandleFunc("GET /stress/cpu/{size}", sized(func(_ *http.Request, n int) (any, error) { return nil, s.load.CPU(n) }))
	mux.HandleFunc("GET /stress/ram/{size}", sized(func(_ *http.Request, n int) (any, error) { return nil, s.load.RAM(n) }))
	mux.HandleFunc("GET /stress/disk/{size}", sized(func(_ *http.Request, n int) (any, error) { return nil, s.load.Disk(n) }))
	mux.HandleFunc("GET /stress/net/{size}", sized(func(r *http.Request, n int) (any, error) {
		url := r.URL.Query().Get("url")
		if url == "" {
			return nil, fmt.Errorf("url: name the page to fetch, such as http://10.1.2.3:8080/page")
		}
		total, err := Net(r.Context(), s.client, url, n)
		return map[string]int64{"bodyBytes": total}, err
	}))
	return mux
}

func (s *Server) serveReadings(w http.ResponseWriter, r *http.Request) {
	var from time.Time
	if text := r.URL.Query().Get("from"); text != "" {
		var err error
		if from, err = time.Parse(time.RFC3339Nano, text); err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": "from: " + err.Error()})
			return
		}
	}
	s.take() // the newest is of now
	readings, err := s.Since(from)
	if err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	answer(w, http.StatusOK, readings)
}

// sized runs do with the path's number.
func sized(do func(r *http.Request, n int) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("size"))
		if err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": fmt.Sprintf("%q is no whole number", r.PathValue("size"))})
			return
		}
		result, err := do(r, n)
		if err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, result)
	}
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a reader that went away needs no answer
}
