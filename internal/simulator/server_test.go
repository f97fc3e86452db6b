package simulator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

func startServer(t *testing.T, fleet Fleet, clk clock.Clock) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Fleet: fleet, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// get asks with a token and the fleet's CA.
func get(t *testing.T, s *Server, url, token string) (int, string, http.Header, error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.authority.pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), response.Header, err
}

func TestKubeletAsksForAToken(t *testing.T) {
	s := startServer(t, Shared(start), clock.NewManual(start.Add(time.Hour)))
	url := s.KubeletURL("red", "red-1") + "/metrics/cadvisor"
	red, blue := s.Access("red"), s.Access("blue")
	for _, test := range []struct {
		token string
		want  int
		body  string
	}{
		{"", http.StatusUnauthorized, "Unauthorized"},
		{"guess", http.StatusUnauthorized, "Unauthorized"},
		{blue.Token, http.StatusUnauthorized, "Unauthorized"},
		{red.Denied, http.StatusForbidden, "Forbidden (user="},
		{red.Token, http.StatusOK, `container_cpu_usage_seconds_total{container="web",cpu="total",id="/kubepods/burstable/pod`},
	} {
		status, body, header, err := get(t, s, url, test.token)
		if err != nil || status != test.want || !strings.Contains(body, test.body) {
			t.Errorf("token %.4q: %d %.60q %v, want %d", test.token, status, body, err, test.want)
		}
		if got := header.Get("Date"); got != "Mon, 02 Nov 2026 10:00:00 GMT" {
			t.Errorf("date %q is not the fleet's", got)
		}
	}
	if _, err := (&http.Client{}).Get(url); err == nil {
		t.Error("a client without the fleet's CA was answered")
	}
}

func TestKubeletFaults(t *testing.T) {
	clk := clock.NewManual(start.Add(time.Hour))
	s := startServer(t, Steady(start), clk)
	url, token := s.KubeletURL("steady", "n1")+"/metrics/cadvisor", s.Access("steady").Token
	whole := func() string {
		status, body, _, err := get(t, s, url, token)
		if status != http.StatusOK || err != nil {
			t.Fatalf("%d %v", status, err)
		}
		return body
	}
	healthy := whole()
	s.SetKubeletFault("steady", "n1", Fault{Down: true})
	if _, _, _, err := get(t, s, url, token); err == nil {
		t.Error("down: answered")
	}
	s.SetKubeletFault("steady", "n1", Fault{Status: http.StatusForbidden})
	if status, _, _, _ := get(t, s, url, token); status != http.StatusForbidden {
		t.Errorf("403: %d", status)
	}
	s.SetKubeletFault("steady", "n1", Fault{Status: http.StatusServiceUnavailable})
	if status, _, _, _ := get(t, s, url, token); status != http.StatusServiceUnavailable {
		t.Errorf("503: %d", status)
	}
	s.SetKubeletFault("steady", "n1", Fault{Truncate: 1000})
	if _, body, _, err := get(t, s, url, token); err == nil || len(body) != 1000 {
		t.Errorf("truncated: %d bytes, %v", len(body), err)
	}
	s.SetKubeletFault("steady", "n1", Fault{Delay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if _, err := transport.RoundTrip(request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow: %v", err)
	}
	s.SetKubeletFault("steady", "n1", Fault{Frozen: clk.Now()})
	clk.Advance(time.Hour)
	if whole() != healthy {
		t.Error("frozen: the body moved")
	}
	s.SetKubeletFault("steady", "n1", Fault{})
	if whole() == healthy {
		t.Error("thawed: the body stands still")
	}
}

func TestOffsetMovesSamplesAndStartTimes(t *testing.T) {
	clk := clock.NewManual(start.Add(time.Hour))
	s := startServer(t, Steady(start), clk)
	url, token := s.KubeletURL("steady", "n1")+"/metrics/cadvisor", s.Access("steady").Token
	_, right, _, _ := get(t, s, url, token)
	s.SetKubeletFault("steady", "n1", Fault{Offset: 30 * 24 * time.Hour})
	_, off, header, _ := get(t, s, url, token)
	if header.Get("Date") != "Wed, 02 Dec 2026 10:00:00 GMT" {
		t.Errorf("date %s", header.Get("Date"))
	}
	a, b := strings.Split(right, "\n"), strings.Split(off, "\n")
	moved := 0
	for n := range a {
		if a[n] != b[n] {
			moved++
		}
	}
	if len(a) != len(b) || moved < 50 {
		t.Errorf("%d of %d lines moved", moved, len(a))
	}
}

// status is what matters of a switch's.
type shelly struct {
	Apower  float64
	Aenergy struct{ Total json.Number }
	Meters  []struct {
		Power float64
		Total int64
		Valid bool `json:"is_valid"`
	}
}

func TestMeters(t *testing.T) {
	fleet := Shared(start)
	fleet.Boxes[0].Meters = []Meter{{Name: "two", Generation: 2, Channel: 1}, {Name: "one", Generation: 1}}
	clk := clock.NewManual(start.Add(time.Hour + 1234*time.Millisecond))
	s := startServer(t, fleet, clk)
	watts := s.BoxWatts("box-shared", clk.Now())
	read := func(url string, want int) shelly {
		t.Helper()
		status, body, _, err := get(t, s, url, "")
		if err != nil || status != want {
			t.Fatalf("%s: %d %s %v", url, status, body, err)
		}
		var answer shelly
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	two := read(s.MeterURL("box-shared", "two")+"/rpc/Switch.GetStatus?id=1", http.StatusOK)
	if want := wattHours(s.MeterMillijoules("box-shared", "two", clk.Now())); two.Aenergy.Total.String() != want || two.Apower < watts-0.1 || two.Apower > watts+0.1 {
		t.Errorf("second generation %+v, want %s Wh and %v W", two, want, watts)
	}
	read(s.MeterURL("box-shared", "two")+"/rpc/Switch.GetStatus?id=0", http.StatusInternalServerError)
	one := read(s.MeterURL("box-shared", "one")+"/status", http.StatusOK)
	if want := s.BoxMillijoules("box-shared", start, clk.Now()) / 60_000; len(one.Meters) != 1 || one.Meters[0].Total != want || !one.Meters[0].Valid {
		t.Errorf("first generation %+v, want %d Wmin", one, want)
	}
	response, err := http.Post(s.MeterURL("box-shared", "two")+"/rpc", "application/json", strings.NewReader(`{"id":7,"method":"Switch.GetStatus","params":{"id":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var frame struct {
		ID     int
		Result shelly
	}
	if err := json.NewDecoder(response.Body).Decode(&frame); err != nil || frame.ID != 7 || frame.Result.Aenergy.Total != two.Aenergy.Total {
		t.Errorf("frame %+v %v", frame, err)
	}
	s.SetMeterFault("box-shared", "two", Fault{Down: true})
	if _, _, _, err := get(t, s, s.MeterURL("box-shared", "two")+"/rpc/Switch.GetStatus?id=1", ""); err == nil {
		t.Error("a meter that is down answered")
	}
}

func TestWattHours(t *testing.T) {
	for millijoules, want := range map[int64]string{0: "0.000", 3_600: "0.001", 3_599: "0.000", 3_600_000: "1.000", 4_445_640_000: "1234.900"} {
		if got := wattHours(millijoules); got != want {
			t.Errorf("%d mJ: %s Wh, want %s", millijoules, got, want)
		}
	}
}

func TestTheClockIsServed(t *testing.T) {
	clk := clock.NewManual(start)
	s := startServer(t, Steady(start), clk)
	remote := clock.NewRemote(s.ClockURL(), &http.Client{})
	if got := remote.Now(); !got.Equal(start) || remote.Err() != nil {
		t.Fatalf("now %s, %v", got, remote.Err())
	}
	woken := make(chan error)
	go func() { woken <- clock.At(t.Context(), remote, start.Add(3*time.Hour)) }()
	clk.Advance(time.Hour)
	select {
	case err := <-woken:
		t.Fatalf("woken at %s: %v", clk.Now(), err)
	default:
	}
	clk.Advance(2 * time.Hour)
	if err := <-woken; err != nil {
		t.Error(err)
	}
}
