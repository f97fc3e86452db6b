package customer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/review"
)

// Sessions are few and end by themselves.
const (
	sessionTime = 12 * time.Hour
	maxSessions = 1000
)

// sessions hold the tokens of the page's users in memory, each under the hash
// of the random number that is the browser's cookie.
type sessions struct {
	clock clock.Clock

	mu   sync.Mutex
	held map[[sha256.Size]byte]session
}

type session struct {
	token string
	until time.Time
}

func newSessions(clk clock.Clock) *sessions {
	return &sessions{clock: clk, held: make(map[[sha256.Size]byte]session)}
}

// begin keeps a token and returns the cookie's value. When there is no room,
// the session that ends first goes.
func (s *sessions) begin(token string) (string, error) {
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("begin session: %w", err)
	}
	value := base64.RawURLEncoding.EncodeToString(random[:])
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var first [sha256.Size]byte
	var ends time.Time
	for id, held := range s.held {
		if !now.Before(held.until) {
			delete(s.held, id)
		} else if ends.IsZero() || held.until.Before(ends) {
			first, ends = id, held.until
		}
	}
	if len(s.held) >= maxSessions {
		delete(s.held, first)
	}
	s.held[sha256.Sum256([]byte(value))] = session{token, now.Add(sessionTime)}
	return value, nil
}

// token is the token of the request's session, "" without one.
func (s *sessions) token(r *http.Request) string {
	cookie := sessionCookie(r)
	if cookie == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.held[sha256.Sum256([]byte(cookie.Value))]
	if !ok || !s.clock.Now().Before(held.until) {
		return ""
	}
	return held.token
}

func (s *sessions) end(r *http.Request) {
	if cookie := sessionCookie(r); cookie != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, sha256.Sum256([]byte(cookie.Value)))
	}
}

// The cookie's names: over TLS a browser sends the first one to this host and
// over TLS alone.
const (
	secureCookie = "__Host-accumulus"
	plainCookie  = "accumulus"
)

func sessionCookie(r *http.Request) *http.Cookie {
	for _, name := range []string{secureCookie, plainCookie} {
		if cookie, err := r.Cookie(name); err == nil && cookie.Value != "" {
			return cookie
		}
	}
	return nil
}

// cookieFor is the session's cookie for the browser that sent the request.
func cookieFor(r *http.Request, value string, age int) *http.Cookie {
	cookie := &http.Cookie{Name: plainCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if r.TLS != nil {
		cookie.Name, cookie.Secure = secureCookie, true
	}
	return cookie
}

// login begins a session for who gives a token that is known.
func (c *Customer) login(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return c.showDoor(w, http.StatusBadRequest, "The form could not be read.")
	}
	token := strings.TrimSpace(r.PostForm.Get("token"))
	if token == "" {
		return c.showDoor(w, http.StatusUnauthorized, "Paste a token first.")
	}
	_, err := c.callerWith(r.Context(), token)
	switch {
	case errors.Is(err, errUnknown), errors.Is(err, review.ErrUnknown):
		return c.showDoor(w, http.StatusUnauthorized, "That token is not known here, or it has expired.")
	case errors.Is(err, review.ErrUnavailable):
		c.deps.Log.Warn("callers cannot be reviewed", "err", err)
		return c.showDoor(w, http.StatusServiceUnavailable, "The cluster's API server does not answer, so that the token cannot be checked. Try again.")
	case err != nil:
		return err
	}
	value, err := c.sessions.begin(token)
	if err != nil {
		return err
	}
	http.SetCookie(w, cookieFor(r, value, int(sessionTime/time.Second)))
	return toPage(w)
}

// logout ends the session.
func (c *Customer) logout(w http.ResponseWriter, r *http.Request) error {
	c.sessions.end(r)
	http.SetCookie(w, cookieFor(r, "", -1))
	return toPage(w)
}

// toPage leads to the page beside this address, whatever path a proxy has put
// before it.
func toPage(w http.ResponseWriter) error {
	w.Header().Set("Location", "./")
	w.WriteHeader(http.StatusSeeOther)
	return nil
}
