package influxsync

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
)

// packing gives every request the same packed answer, which ends with err.
type packing struct {
	body []byte
	err  error
}

func (p packing) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-msgpack"}, "Content-Encoding": {"gzip"}},
		Body: io.NopCloser(io.MultiReader(bytes.NewReader(p.body), iotest.ErrReader(p.err))), Request: r}, nil
}

func packed(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func selectAll(t *testing.T, transport http.RoundTripper) (rows int, err error) {
	t.Helper()
	server, err := New(Config{URL: "http://follower", Transport: transport, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	err = server.Database("minute").Select(t.Context(), "SELECT * FROM t", func(Point) error {
		rows++
		return nil
	})
	return rows, err
}

// TestPackedAnswerCut: a packed answer that is cut after any byte, its trailer
// and its HTTP end included, is an error; the whole one is not.
func TestPackedAnswerCut(t *testing.T) {
	whole := packed(t, sample())
	rows, err := selectAll(t, packing{whole, io.EOF})
	if err != nil || rows == 0 {
		t.Fatalf("%d rows, %v", rows, err)
	}
	for n := range whole {
		if _, err := selectAll(t, packing{whole[:n], io.EOF}); !errors.Is(err, ErrTruncated) {
			t.Errorf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
	if _, err := selectAll(t, packing{whole, io.ErrUnexpectedEOF}); !errors.Is(err, ErrTruncated) {
		t.Errorf("no HTTP end after the trailer: %v", err)
	}
	reset := errors.New("connection reset")
	if _, err := selectAll(t, packing{whole, reset}); !errors.Is(err, reset) {
		t.Errorf("a reset after the trailer: %v", err)
	}
	if _, err := selectAll(t, packing{append(bytes.Clone(whole), "more"...), io.EOF}); err == nil {
		t.Error("bytes behind the trailer were taken")
	}
	whole[len(whole)-1]++
	if _, err := selectAll(t, packing{whole, io.EOF}); !errors.Is(err, gzip.ErrChecksum) {
		t.Errorf("another length in the trailer: %v", err)
	}
}

// TestFencedWrite: 409 to a write is the sink's word that a newer leader writes.
func TestFencedWrite(t *testing.T) {
	err := error(&WriteError{Status: http.StatusConflict})
	if !errors.Is(err, ErrFenced) || errors.Is(err, ErrNotFound) {
		t.Errorf("409 is %v", err)
	}
	if errors.Is(&WriteError{Status: http.StatusBadRequest}, ErrFenced) {
		t.Error("400 is ErrFenced")
	}
}
