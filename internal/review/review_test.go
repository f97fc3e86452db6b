package review

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

var begin = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// cluster is an API server that knows tokens and who may see what.
type cluster struct {
	tokens   map[string]string          // token → user
	may      map[string]map[string]bool // user → namespaces; "" = all
	down     error
	asked    []string // "token", "access NAMESPACE"
	specs    []authorization.SubjectAccessReviewSpec
	audience []string // of every token
}

func (c *cluster) client() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action kubetesting.Action) (bool, runtime.Object, error) {
		review := action.(kubetesting.CreateAction).GetObject().(*authentication.TokenReview).DeepCopy()
		c.asked = append(c.asked, "token")
		if c.down != nil {
			return true, nil, c.down
		}
		if user, ok := c.tokens[review.Spec.Token]; ok {
			review.Status = authentication.TokenReviewStatus{Authenticated: true, Audiences: c.audience,
				User: authentication.UserInfo{Username: user, UID: "uid", Groups: []string{"dev"}, Extra: map[string]authentication.ExtraValue{"k": {"v"}}}}
		}
		return true, review, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(action kubetesting.Action) (bool, runtime.Object, error) {
		review := action.(kubetesting.CreateAction).GetObject().(*authorization.SubjectAccessReview).DeepCopy()
		c.asked = append(c.asked, "access "+review.Spec.ResourceAttributes.Namespace)
		c.specs = append(c.specs, review.Spec)
		if c.down != nil {
			return true, nil, c.down
		}
		review.Status.Allowed = c.may[review.Spec.User][review.Spec.ResourceAttributes.Namespace]
		return true, review, nil
	})
	return client
}

func (c *cluster) reviewer(t *testing.T, config Config, clk clock.Clock) *Reviewer {
	t.Helper()
	client := c.client()
	r, err := New(config, client.AuthenticationV1().TokenReviews(), client.AuthorizationV1().SubjectAccessReviews(), clk, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newCluster() *cluster {
	return &cluster{tokens: map[string]string{"token-ann": "ann", "token-root": "root"},
		may: map[string]map[string]bool{"ann": {"shop": true, "blog": true}, "root": {"": true, "shop": true}}}
}

func TestWhoAndWhat(t *testing.T) {
	c, clk := newCluster(), clock.NewManual(begin)
	r := c.reviewer(t, Config{}, clk)
	ann, err := r.Who(t.Context(), "token-ann")
	if err != nil || ann.Name != "ann" {
		t.Fatalf("got %+v, %v", ann, err)
	}
	got, err := r.Visible(t.Context(), ann, []string{"bank", "blog", "shop"})
	if want := []string{"blog", "shop"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if all, err := r.MaySee(t.Context(), ann, ""); err != nil || all {
		t.Errorf("ann sees all: %t, %v", all, err)
	}
	spec := c.specs[0]
	want := authorization.SubjectAccessReviewSpec{User: "ann", UID: "uid", Groups: []string{"dev"}, Extra: map[string]authorization.ExtraValue{"k": {"v"}},
		ResourceAttributes: &authorization.ResourceAttributes{Namespace: spec.ResourceAttributes.Namespace, Verb: "get", Resource: "pods", Version: "v1"}}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("access review (-want +got):\n%s", diff)
	}
	for _, token := range []string{"", "token-bob", "token ann", "token-ann\n", strings.Repeat("x", maxToken+1), "tökén"} {
		if _, err := r.Who(t.Context(), token); !errors.Is(err, ErrUnknown) {
			t.Errorf("%.20q: got %v, want ErrUnknown", token, err)
		}
	}
}

func TestAnswersAreRememberedForATime(t *testing.T) {
	c, clk := newCluster(), clock.NewManual(begin)
	r := c.reviewer(t, Config{}, clk)
	ask := func() {
		t.Helper()
		ann, err := r.Who(t.Context(), "token-ann")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Visible(t.Context(), ann, []string{"shop"}); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	clk.Set(begin.Add(59 * time.Second))
	ask()
	if want := []string{"token", "access shop"}; !cmp.Equal(c.asked, want) {
		t.Errorf("asked %v, want %v: an answer holds for a minute", c.asked, want)
	}
	c.asked = nil
	delete(c.may["ann"], "shop")
	clk.Set(begin.Add(time.Minute))
	ask()
	if want := []string{"token", "access shop"}; !cmp.Equal(c.asked, want) {
		t.Errorf("asked %v, want %v: and no longer", c.asked, want)
	}
	c.asked, c.may["ann"]["shop"] = nil, true
	clk.Set(begin.Add(time.Minute + 9*time.Second))
	ask()
	if len(c.asked) != 0 {
		t.Errorf("asked %v within a refusal's time", c.asked)
	}
	clk.Set(begin.Add(time.Minute + 10*time.Second))
	ann, _ := r.Who(t.Context(), "token-ann")
	if may, err := r.MaySee(t.Context(), ann, "shop"); err != nil || !may {
		t.Errorf("a refusal outlives its time: %t, %v", may, err)
	}
}

func TestATokenThatEndsIsForgottenInTime(t *testing.T) {
	c, clk := newCluster(), clock.NewManual(begin)
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, begin.Add(20*time.Second).Unix()))
	token := "e30." + claims + ".sig"
	c.tokens[token] = "ann"
	r := c.reviewer(t, Config{}, clk)
	ann, err := r.Who(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if may, err := r.MaySee(t.Context(), ann, "shop"); err != nil || !may {
		t.Fatal(may, err)
	}
	delete(c.tokens, token) // it has expired: the API server knows it no more
	clk.Set(begin.Add(20 * time.Second))
	if _, err := r.Who(t.Context(), token); !errors.Is(err, ErrUnknown) {
		t.Errorf("an expired token is let in: %v", err)
	}
}

func TestWithoutTheAPIServer(t *testing.T) {
	c, clk := newCluster(), clock.NewManual(begin)
	r := c.reviewer(t, Config{}, clk)
	ann, err := r.Who(t.Context(), "token-ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.MaySee(t.Context(), ann, "shop"); err != nil {
		t.Fatal(err)
	}
	c.down = errors.New("connection refused")
	if _, err := r.Who(t.Context(), "token-ann"); err != nil {
		t.Errorf("who is remembered is turned away: %v", err)
	}
	if may, err := r.MaySee(t.Context(), ann, "shop"); err != nil || !may {
		t.Errorf("what is remembered is refused: %t, %v", may, err)
	}
	for name, ask := range map[string]func() error{
		"other token":     func() error { _, err := r.Who(t.Context(), "token-root"); return err },
		"other namespace": func() error { _, err := r.MaySee(t.Context(), ann, "blog"); return err },
		"list":            func() error { _, err := r.Visible(t.Context(), ann, []string{"shop", "bank"}); return err },
		"later":           func() error { clk.Set(begin.Add(time.Minute)); _, err := r.Who(t.Context(), "token-ann"); return err },
	} {
		if err := ask(); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) || strings.Contains(err.Error(), "token-ann") {
			t.Errorf("%s: got %v, want ErrUnavailable without a token in it", name, err)
		}
	}
	c.down = nil
	if _, err := r.Who(t.Context(), "token-root"); err != nil {
		t.Errorf("a failure was remembered: %v", err)
	}
}

func TestAudience(t *testing.T) {
	c, clk := newCluster(), clock.NewManual(begin)
	c.audience = []string{"accumulus"}
	if _, err := c.reviewer(t, Config{Audiences: []string{"accumulus"}}, clk).Who(t.Context(), "token-ann"); err != nil {
		t.Errorf("got %v", err)
	}
	c.audience = nil // an API server that does not know of audiences
	if _, err := c.reviewer(t, Config{Audiences: []string{"accumulus"}}, clk).Who(t.Context(), "token-ann"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a token of another audience: got %v", err)
	}
}

func TestMadeUpTokensDriveNobodyOut(t *testing.T) {
	c, clk := newCluster(), clock.NewManual(begin)
	r := c.reviewer(t, Config{Callers: 4, Grants: 4}, clk)
	if _, err := r.Who(t.Context(), "token-ann"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := r.Who(t.Context(), fmt.Sprintf("made-up-%d", i)); !errors.Is(err, ErrUnknown) {
			t.Fatal(err)
		}
	}
	c.asked = nil
	if _, err := r.Who(t.Context(), "token-ann"); err != nil || slices.Contains(c.asked, "token") {
		t.Errorf("asked %v again, %v", c.asked, err)
	}
	if held := len(r.unknown.held); held > 4 {
		t.Errorf("%d refusals are remembered", held)
	}
}

// TestHangingAPIServer: a review ends by its own time.
func TestHangingAPIServer(t *testing.T) {
	r, err := New(Config{Timeout: time.Millisecond}, hanging{}, nil, clock.NewManual(begin), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Who(context.Background(), "token-ann"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

type hanging struct{}

func (hanging) Create(ctx context.Context, _ *authentication.TokenReview, _ meta.CreateOptions) (*authentication.TokenReview, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
