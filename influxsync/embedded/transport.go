package embedded

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// transport serves requests onto a handler in memory. An answer streams: the
// handler waits while nobody reads.
type transport struct {
	handler http.Handler
	done    chan struct{}
	mu      sync.Mutex
	shutUp  bool
	running sync.WaitGroup
}

func newTransport(handler http.Handler) *transport {
	return &transport{handler: handler, done: make(chan struct{})}
}

// shut refuses new requests and aborts the running ones.
func (t *transport) shut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.shutUp {
		t.shutUp = true
		close(t.done)
	}
}

// wait returns when no handler runs any more.
func (t *transport) wait() { t.running.Wait() }

func (t *transport) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.shutUp {
		t.running.Add(1)
	}
	return !t.shutUp
}

// RoundTrip returns when the handler has sent its header. Cancelling the
// request's context, or closing the body, ends a running query.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body := request.Body
	if body == nil {
		body = http.NoBody
	}
	if !t.begin() {
		return nil, errors.Join(ErrClosed, body.Close())
	}
	ctx, cancel := context.WithCancel(request.Context())
	served := request.Clone(ctx)
	served.Body = body
	served.RequestURI = served.URL.RequestURI()
	served.RemoteAddr = "embedded:0"
	served.Proto, served.ProtoMajor, served.ProtoMinor = "HTTP/1.1", 1, 1

	reader, writer := io.Pipe()
	w := &responseWriter{header: make(http.Header), pipe: writer, buffer: bufio.NewWriterSize(writer, 32<<10),
		started: make(chan struct{}), ended: make(chan struct{}), gone: make(chan bool, 1)}
	go func() {
		defer t.running.Done()
		defer cancel()
		defer func() { _ = body.Close() }()
		if routed(served.URL.Path) {
			t.handler.ServeHTTP(w, served)
		} else {
			http.NotFound(w, served)
		}
		w.finish()
	}()
	go t.watch(ctx, request.Context(), w)

	select {
	case <-w.started:
	case <-request.Context().Done():
		return nil, request.Context().Err()
	case <-t.done:
		return nil, ErrClosed
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: answerBody{reader, cancel}, ContentLength: -1, Request: request,
	}, nil
}

// watch ends what the handler does when the caller leaves or the server closes.
func (t *transport) watch(ctx, caller context.Context, w *responseWriter) {
	reason := ErrClosed
	select {
	case <-ctx.Done():
		reason = context.Canceled
		if err := caller.Err(); err != nil {
			reason = err
		}
	case <-t.done:
	}
	select {
	case <-w.ended:
		return
	default:
	}
	w.gone <- true
	_ = w.pipe.CloseWithError(reason)
}

// routed says which parts of the engine's interface are reached.
func routed(path string) bool {
	return path == "/query" || path == "/write" || path == "/ping"
}

type answerBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the query when it still runs.
func (b answerBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// responseWriter is the handler's end of an answer.
type responseWriter struct {
	header  http.Header
	sent    http.Header // the header when it was sent
	status  int
	started chan struct{} // closed when status and sent are set
	once    sync.Once
	buffer  *bufio.Writer
	pipe    *io.PipeWriter
	gone    chan bool     // tells the handler that the reader left
	ended   chan struct{} // closed when the reader has everything
}

// Header is what will be sent.
func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader sends the header; only the first call does.
func (w *responseWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}

// Write hands bytes over, and waits for the reader when the buffer is full.
func (w *responseWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.buffer.Write(p)
}

// Flush hands over what is in the buffer.
func (w *responseWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	_ = w.buffer.Flush() // the reader left; CloseNotify told the handler
}

// CloseNotify tells when the reader has left.
func (w *responseWriter) CloseNotify() <-chan bool { return w.gone }

// finish ends the answer; a reader sees EOF only after everything.
func (w *responseWriter) finish() {
	w.Flush()
	_ = w.pipe.Close()
	close(w.ended)
}
