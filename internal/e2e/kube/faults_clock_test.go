package kube

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"k8s.io/client-go/rest"
)

// month is how far the clock of a node is ahead.
const month = 30 * 24 * time.Hour

// monthOff: a node whose clock is a month ahead. A lab cannot set one: the time
// of day is the machine's (a time namespace has its own monotonic and boot clocks
// alone), and programs that link statically ask the kernel themselves. So the real
// kubelet's answers, and what it wrote of its pods and its node into the API
// server, come to the follower with their times moved.
func monthOff(t *testing.T, lab *kubetest.Lab) {
	cluster := lab.NewCluster(t, "ahead", 1)
	s := watchNode(t, cluster, 0)
	redirect(t, lab, cluster)
	dir := t.TempDir()
	user := moved(t, cluster)
	user.BearerToken = s.space.account(t, "follower", meterRules...)
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := kubetest.WriteKubeconfig(kubeconfig, cluster.Name, user); err != nil {
		t.Fatal(err)
	}
	s.meter = startMeter(t, s.space, &cluster.Standing, 18476, "--scrape-interval", often.String(), "--facts-deadline", patient.String(), "--kubeconfig", kubeconfig)
	s.compare(still)
	uid := s.space.server(t, "works", s.node.Name)
	s.begin()
	s.space.ask(t, "works", "stress/cpu/1")
	s.space.stressJob(t, "short", s.node.Name, 3*time.Second)
	job := s.space.stressed(t, 1)[0]
	s.sleep(2 * often)
	s.space.ask(t, "works", "stress/cpu/0")
	u := s.sums()
	s.adds(u)
	s.notNegative()
	// A Job that ends beside a busy pod gets what nobody else is known to have used,
	// by estimate: on a node as quiet as this one that is more than a share of all,
	// but for a kubelet that the machine's other work kept from answering.
	slack := max(idling, u.whole/200)
	if left := u.pods[schema.UnattributedNamespace]; left < -slack || left > slack {
		t.Errorf("unattributed is %s core-s of %s", seconds(left), seconds(u.whole))
	}
	if truth, got := s.pods.of(uid), u.pods[uid]; got < truth-slack || got > truth+slack {
		t.Errorf("the pod that worked: its control group counted %s core-s, metered %s", seconds(truth), seconds(got))
	}
	t.Logf("the Job measured %s core-s of itself, metered %s", seconds(job.own), seconds(u.pods[job.uid]))
	if got := u.pods[job.uid]; got < job.own/2 {
		t.Errorf("a Job that measured %s core-s of itself was metered %s", seconds(job.own), seconds(got))
	}
	status, err := s.meter.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(status.Nodes) != 1 || (time.Duration(status.Nodes[0].ClockShiftSeconds*1e9)+month).Abs() > time.Minute {
		t.Errorf("the status tells of the node's clock: %+v", status.Nodes)
	}
	s.asked(uid, u)
}

// asked: a pod has what it asked for in each whole minute of its life.
func (s *stand) asked(uid string, u sums) {
	s.t.Helper()
	minutes := 0
	for _, row := range s.keyed(u.To) {
		at, err := time.Parse(time.RFC3339, row["time"])
		if err != nil {
			s.t.Fatal(err)
		}
		if row[schema.PodUID] != uid || !u.Contains(at) {
			continue
		}
		minutes++
		if row[schema.Uptime] != "60000" || row[schema.CPURequest] != strconv.Itoa(10e3*60) {
			s.t.Errorf("row %v", row)
		}
	}
	if want := int(u.Length() / schema.Minute); minutes != want {
		s.t.Errorf("%d minutes of the pod, want %d", minutes, want)
	}
}

var (
	// statusTimes are those that a kubelet writes into the API server.
	statusTimes = regexp.MustCompile(`"(?:startTime|startedAt|finishedAt|lastTransitionTime|lastHeartbeatTime)":"[^"]*"`)
	// summaryTimes are those of /stats/summary.
	summaryTimes = regexp.MustCompile(`"(?:startTime|time)": ?"[^"]*"`)
	anyTime      = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	// sampleTime and startTime are those of the text format.
	sampleTime = regexp.MustCompile(` \d{13}\n$`)
	startTime  = regexp.MustCompile(`^(container_start_time_seconds\{.*\}) (\S+)`)
)

// moveJSON moves the times of some fields.
func moveJSON(fields *regexp.Regexp) func(line []byte) []byte {
	return func(line []byte) []byte {
		return fields.ReplaceAllFunc(line, func(field []byte) []byte {
			return anyTime.ReplaceAllFunc(field, func(text []byte) []byte {
				at, err := time.Parse(time.RFC3339Nano, string(text))
				if err != nil {
					return text
				}
				return []byte(at.Add(month).Format(time.RFC3339Nano))
			})
		})
	}
}

// moveText moves the times of a line of the text format.
func moveText(line []byte) []byte {
	line = startTime.ReplaceAllFunc(line, func(start []byte) []byte {
		name, value, _ := strings.Cut(string(start), "} ")
		at, err := strconv.ParseFloat(value, 64)
		if err != nil || at == 0 {
			return start
		}
		return []byte(name + "} " + strconv.FormatFloat(at+month.Seconds(), 'e', -1, 64))
	})
	return sampleTime.ReplaceAllFunc(line, func(text []byte) []byte {
		at, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		if err != nil {
			return text
		}
		return fmt.Appendf(nil, " %d\n", at+month.Milliseconds())
	})
}

// lines is a body each of whose lines is changed.
type lines struct {
	io.Closer
	from   *bufio.Reader
	change func([]byte) []byte
	ready  []byte
}

// Read implements io.Reader.
func (l *lines) Read(p []byte) (int, error) {
	for len(l.ready) == 0 {
		line, err := l.from.ReadBytes('\n')
		if len(line) == 0 {
			return 0, err
		}
		l.ready = l.change(line)
	}
	n := copy(p, l.ready)
	l.ready = l.ready[n:]
	return n, nil
}

// changed is a proxy to a server that changes the lines of its answers to
// requests for which there is a change, and says that its clock is ahead.
func changed(to string, transport http.RoundTripper, ahead time.Duration, by func(path string) func([]byte) []byte) http.Handler {
	target, err := url.Parse(to)
	if err != nil {
		panic(err) // it is a cluster's own
	}
	return &httputil.ReverseProxy{Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Accept-Encoding") // what is packed has no lines
		},
		ModifyResponse: func(response *http.Response) error {
			if change := by(response.Request.URL.Path); change != nil {
				date, err := http.ParseTime(response.Header.Get("Date"))
				if err != nil {
					return err
				}
				response.Header.Set("Date", date.Add(ahead).UTC().Format(http.TimeFormat))
				response.Body = &lines{Closer: response.Body, from: bufio.NewReader(response.Body), change: change}
				response.ContentLength = -1
				response.Header.Del("Content-Length")
			}
			return nil
		}}
}

// moved is the cluster's API server as the follower sees it.
func moved(t testing.TB, cluster *kubetest.Cluster) *rest.Config {
	t.Helper()
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(cluster.Config()))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(changed(cluster.Config().Host, transport, 0, func(path string) func([]byte) []byte {
		if strings.HasSuffix(path, "/pods") || strings.HasSuffix(path, "/nodes") {
			return moveJSON(statusTimes)
		}
		return nil
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
}

// pastRules marks the connections of the proxy itself.
const pastRules = 0x2a

// redirect leads whoever asks the node's kubelet from the lab through a proxy
// with the kubelet's own certificate.
func redirect(t testing.TB, lab *kubetest.Lab, cluster *kubetest.Cluster) {
	t.Helper()
	node := cluster.Nodes[0]
	files := filepath.Join(lab.Dir, "clusters", cluster.Name, node.Name, "node")
	pair, err := tls.LoadX509KeyPair(files+".crt", files+".key")
	if err != nil {
		t.Fatal(err)
	}
	direct := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if controlled := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, pastRules) }); controlled != nil {
			return controlled
		}
		return err
	}}
	transport := &http.Transport{DialContext: direct.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	server := httptest.NewUnstartedServer(changed("https://"+node.Address+":10250", transport, month, func(path string) func([]byte) []byte {
		switch path {
		case "/metrics/cadvisor":
			return moveText
		case "/stats/summary":
			return moveJSON(summaryTimes)
		}
		return nil
	}))
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	if server.Listener, err = net.Listen("tcp", "10.99.0.1:0"); err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	table := "kubetest-" + cluster.Name
	rules := fmt.Sprintf("table ip %s {\n chain out {\n  type nat hook output priority -100;\n  ip daddr %s tcp dport 10250 meta mark != %d dnat to %s\n }\n}\n",
		table, node.Address, pastRules, server.Listener.Addr())
	nft(t, rules)
	t.Cleanup(func() { nft(t, "delete table ip "+table) })
}

// nft changes the rules of the lab.
func nft(t testing.TB, text string) {
	t.Helper()
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(text)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("nft: %v: %s\n%s", err, output, text)
	}
}
