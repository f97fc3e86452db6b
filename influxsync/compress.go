package influxsync

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// compression packs bodies of writes at the fastest level: lines repeat
// themselves so much that a better one saves little.
type compression struct{ writers sync.Pool }

func newCompression() *compression {
	return &compression{writers: sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid one
		return w
	}}}
}

// pack is the body packed, whole, so that its length is known.
func (c *compression) pack(body io.Reader) (io.Reader, error) {
	var packed bytes.Buffer
	w := c.writers.Get().(*gzip.Writer)
	defer c.writers.Put(w)
	w.Reset(&packed)
	if _, err := io.Copy(w, body); err != nil {
		return nil, fmt.Errorf("pack request: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack request: %w", err)
	}
	return bytes.NewReader(packed.Bytes()), nil
}

// unpack puts what a gzip answer unpacks to in the place of its body. Whoever
// did not ask for gzip is given it by some proxies.
func unpack(response *http.Response) error {
	switch encoding := response.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return nil
	case "gzip":
		response.Body = &packedBody{body: response.Body}
		return nil
	default:
		_ = response.Body.Close()
		return fmt.Errorf("answer has the encoding %q, want gzip or none", encoding)
	}
}

// packedBody unpacks as it is read. It ends with io.EOF only where the packed
// stream had its trailer, with the right sum and length, and the answer under
// it ended there as well: the reader goes on to look for another member until
// the answer ends. A cut anywhere else is io.ErrUnexpectedEOF, or what cut it.
type packedBody struct {
	body   io.ReadCloser
	reader *gzip.Reader
	err    error
}

// Read begins with the first bytes that arrive, so that the wait for them is
// the reader's.
func (p *packedBody) Read(to []byte) (int, error) {
	if p.reader == nil && p.err == nil {
		if p.reader, p.err = gzip.NewReader(p.body); p.err == io.EOF { // not even a header
			p.err = io.ErrUnexpectedEOF
		}
	}
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.reader.Read(to)
	p.err = err
	return n, err
}

func (p *packedBody) Close() error { return p.body.Close() }
