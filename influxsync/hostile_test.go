package influxsync

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// answering gives every request the same answer.
type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-msgpack"}},
		Body: io.NopCloser(bytes.NewReader(a)), Request: r}, nil
}

func TestMoreEntriesThanAskedFor(t *testing.T) {
	server, err := New(Config{URL: "http://follower", Transport: answering(sample())})
	if err != nil {
		t.Fatal(err)
	}
	for limit, fine := range map[int]bool{0: true, 4: true, 3: false} {
		entries, err := ReadJournal(t.Context(), server.Database("minute"), "", "", time.Time{}, limit)
		if (err == nil) != fine || !fine && !strings.Contains(err.Error(), "more than") {
			t.Errorf("limit %d: %d entries, %v", limit, len(entries), err)
		}
	}
}

func TestTextThatClaimsToBeHuge(t *testing.T) {
	claim := []byte("\x81\xa7results\x91\x81\xa6series\x91\x81\xa4name\xdb\xff\xff\xff\xff")
	if _, err := decodeAll(claim); !errors.Is(err, msgp.ErrLimitExceeded) {
		t.Errorf("a name of 4 GiB: %v; want ErrLimitExceeded", err)
	}
	claim = []byte("\x81\xa7results\x91\x81\xa5error\xdb\xff\xff\xff\xff")
	if _, err := decodeAll(claim); !errors.Is(err, msgp.ErrLimitExceeded) {
		t.Errorf("an error of 4 GiB: %v; want ErrLimitExceeded", err)
	}
}
