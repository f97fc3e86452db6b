package follower

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// errEncoding is a body in an encoding that is not read here.
var errEncoding = errors.New("a body is sent as it is or with Content-Encoding: gzip")

// readBody reads a whole body, packed or not. At most most bytes of it are
// taken, as it arrives and as it unpacks to: more is an *http.MaxBytesError.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	arriving := http.MaxBytesReader(w, r.Body, most)
	switch encodings := r.Header.Values("Content-Encoding"); strings.Join(encodings, ",") {
	case "", "identity":
		return io.ReadAll(arriving)
	case "gzip":
	default:
		return nil, errEncoding
	}
	unpacked, err := gzip.NewReader(arriving)
	if err != nil {
		return nil, fmt.Errorf("unpack body: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(unpacked, most+1))
	if err != nil {
		return nil, fmt.Errorf("unpack body: %w", err)
	}
	if int64(len(body)) > most {
		return nil, &http.MaxBytesError{Limit: most}
	}
	return body, nil
}

// acceptsGzip says whether the client asked for a packed answer.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, given := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
		q, err := strconv.ParseFloat(weight, 64)
		return !given || err == nil && q > 0
	}
	return false
}

// packers are writers of gzip that can be used again. The fastest level is
// used: what the engine itself would do costs the cluster twice as much.
type packers struct{ sync.Pool }

func newPackers() *packers {
	return &packers{sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid one
		return w
	}}}
}

// packing is an answer that is packed as it is written.
type packing struct {
	http.ResponseWriter
	packer *gzip.Writer
}

func (p *packers) answer(w http.ResponseWriter) *packing {
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Add("Vary", "Accept-Encoding")
	packer := p.Get().(*gzip.Writer)
	packer.Reset(w)
	return &packing{w, packer}
}

// Write packs.
func (p *packing) Write(b []byte) (int, error) { return p.packer.Write(b) }

// FlushError sends what was written.
func (p *packing) FlushError() error {
	if err := p.packer.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(p.ResponseWriter).Flush()
}
