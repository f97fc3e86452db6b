// Package webhook sends a body to somebody's webhook once and tells what came of it:
// taken, refused for good, or to be tried again. When that is, and what is kept
// meanwhile, is the caller's.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// CheckURL says what is wrong with a webhook's URL, without repeating it: it may hold
// what is secret.
func CheckURL(text string) error {
	target, err := url.Parse(text)
	if err == nil && target.User != nil {
		return errors.New("it holds a name or password: a token belongs in a file")
	}
	if err != nil || target.Host == "" || target.Scheme != "https" && target.Scheme != "http" {
		return errors.New("want http:// or https:// and a host")
	}
	return nil
}

// EventID is the id of a CloudEvent: SHA-256, in hex, of what the event is of. The same
// parts are the same event, whenever and by whom it is made.
func EventID(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%d:%s|", len(part), part) // a hash returns no error
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// timeout bounds one request.
const timeout = 30 * time.Second

// Request is one body for one webhook.
type Request struct {
	URL       string
	TokenFile string            // bearer token, read at each request; "" is none
	Header    map[string]string // Content-Type among others
	Body      []byte
	Said      int64 // bytes of a refusing answer that are kept
}

// Post sends a request. refusal is the answer of a 4xx that another attempt will not
// change, not of 408 and 429. An error is to be tried again; it names no URL, which
// may hold what is secret.
func Post(ctx context.Context, client *http.Client, r Request) (refusal string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return "", errors.New("the webhook's URL cannot be asked")
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	if r.TokenFile != "" {
		token, err := os.ReadFile(r.TokenFile)
		if err != nil {
			return "", fmt.Errorf("read token of the webhook: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return "", err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	said, err := io.ReadAll(io.LimitReader(answer.Body, r.Said))
	switch status := answer.StatusCode; {
	case status < 300:
		return "", nil
	case err == nil && status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return strings.ToValidUTF8(answer.Status+": "+strings.TrimSpace(string(said)), "�"), nil
	}
	return "", fmt.Errorf("the webhook answered %s", answer.Status)
}
