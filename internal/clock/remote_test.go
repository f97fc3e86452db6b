package clock

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func TestAtDoesNotOversleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewManual(noon)
		done := make(chan error, 1)
		go func() { done <- At(t.Context(), c, noon.Add(time.Minute)) }()
		synctest.Wait()
		c.Advance(59 * time.Second)
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("woken early")
		}
		c.Advance(time.Second)
		synctest.Wait()
		if len(done) != 1 {
			t.Fatal("not woken")
		}
		if err := At(t.Context(), c, noon); err != nil {
			t.Errorf("a moment that has passed: %v", err)
		}
		began := System().Now()
		if err := At(t.Context(), System(), began.Add(time.Hour)); err != nil || System().Now().Sub(began) != time.Hour {
			t.Errorf("the machine's clock: %s, %v", System().Now().Sub(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := At(ctx, c, noon.Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a deadline: %v", err)
		}
	})
}

func TestRemote(t *testing.T) {
	manual := NewManual(noon.Add(123456789))
	broken := false
	handler := Handler(manual)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	remote := NewRemote(server.URL+"/", server.Client())
	if got := remote.Now(); !got.Equal(manual.Now()) || remote.Err() != nil {
		t.Fatalf("now %s, %v", got, remote.Err())
	}
	done := make(chan error)
	go func() { done <- remote.Sleep(t.Context(), time.Hour) }()
	for waiting := 0; waiting == 0; { // until the long poll has arrived
		manual.mu.Lock()
		waiting = len(manual.sleepers)
		manual.mu.Unlock()
	}
	manual.Advance(time.Hour)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := remote.Sleep(t.Context(), -1); err != nil {
		t.Error(err)
	}
	broken = true
	before := manual.Now()
	manual.Advance(time.Hour)
	if got := remote.Now(); !got.Equal(before) || remote.Err() == nil {
		t.Errorf("without an answer: %s, %v", got, remote.Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := remote.SleepUntil(ctx, manual.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("asleep at an endpoint that does not answer: %v", err)
	}
	broken = false
	response, err := server.Client().Get(server.URL + RemoteWaitPath + "?until=soon")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", response.StatusCode)
	}
}
