package followers

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// maxHeaders bounds a file of headers, in bytes.
const maxHeaders = 16 << 10

// link adds what a cluster's requests carry: the time, the token, the cluster's
// own headers, and the fence where something is written.
type link struct {
	base           http.RoundTripper
	clock          clock.Clock
	fence          int64
	token, headers string // files
}

// checker is a transport whose files can be looked at beforehand.
type checker interface{ check() error }

// check says what is wrong with the files.
func (l *link) check() error {
	if base, ok := l.base.(checker); ok {
		if err := base.check(); err != nil {
			return err
		}
	}
	return l.dress(make(http.Header))
}

// RoundTrip sends a copy of the request.
func (l *link) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	err := l.dress(request.Header)
	if err != nil {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, err
	}
	if l.fence > 0 && request.Method == http.MethodPost && strings.HasSuffix(request.URL.Path, "/write") {
		request.Header.Set(schema.FenceHeader, strconv.FormatInt(l.fence, 10))
	}
	return l.base.RoundTrip(request)
}

// CloseIdleConnections closes those of the transport under it.
func (l *link) CloseIdleConnections() {
	if base, ok := l.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// dress sets the headers. Its errors are *FileError.
func (l *link) dress(header http.Header) error {
	if err := l.fromFiles(header); err != nil {
		return &FileError{err}
	}
	return nil
}

func (l *link) fromFiles(header http.Header) error {
	header.Set("Date", l.clock.Now().Format(http.TimeFormat))
	if l.token != "" {
		text, err := readFile(l.token)
		if err != nil {
			return fmt.Errorf("read tokenFile: %w", err)
		}
		token := strings.TrimSpace(string(text))
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("tokenFile %s holds no token, which is one word on one line", l.token)
		}
		header.Set("Authorization", "Bearer "+token)
	}
	if l.headers == "" {
		return nil
	}
	text, err := readFile(l.headers)
	if err != nil {
		return fmt.Errorf("read headerFile: %w", err)
	}
	own, err := parseHeaders(string(text))
	if err != nil {
		return fmt.Errorf("headerFile %s: %w", l.headers, err)
	}
	for _, field := range own {
		header.Add(field.name, field.value)
	}
	return nil
}

// maxFile bounds a file of a link, in bytes.
const maxFile = 1 << 20

// readFile reads a file of a link. One that is none but a pipe or a device would
// hold up whoever reads it for ever, or never end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

type headerField struct{ name, value string }

// refusedHeaders are those that the connection or this package decides on.
var refusedHeaders = strings.Fields(`Accept Accept-Encoding Authorization Connection Date Expect Host Keep-Alive Proxy-Authenticate
	Proxy-Authorization Proxy-Connection Te Trailer Transfer-Encoding Upgrade ` + schema.FenceHeader)

// parseHeaders reads lines "Name: value"; empty ones and those that begin with #
// say nothing. An error names line and name, never a value: it may be a key.
func parseHeaders(text string) ([]headerField, error) {
	if len(text) > maxHeaders {
		return nil, fmt.Errorf("longer than %d bytes", maxHeaders)
	}
	var fields []headerField
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("line %d: want \"Name: value\"", n)
		}
		if !isToken(name) {
			return nil, fmt.Errorf("line %d: what stands before the colon is no header's name", n)
		}
		name, value = http.CanonicalHeaderKey(name), strings.TrimSpace(value)
		if strings.HasPrefix(name, "Content-") || contains(refusedHeaders, name) {
			return nil, fmt.Errorf("line %d: the header %s is not one's own to set", n, name)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("line %d: the value of %s holds a control character", n, name)
		}
		fields = append(fields, headerField{name, value})
	}
	return fields, nil
}

func contains(names []string, name string) bool {
	for _, one := range names {
		if strings.EqualFold(one, name) {
			return true
		}
	}
	return false
}

// isToken says whether a text is a token of RFC 9110, section 5.6.2.
func isToken(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return false
		}
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
