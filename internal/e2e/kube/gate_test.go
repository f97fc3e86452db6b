package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// gate stands in a cluster's API server before what the leader writes into the
// product's namespace, and can hold one write: a leader that is killed meanwhile
// is killed there, however fast the machine is.
type gate struct {
	mu   sync.Mutex
	hold string // such as "CREATE Deployment"; "" lets all pass
	held chan struct{}
	open chan struct{}
}

// newGate makes it, until the test ends.
func newGate(t testing.TB, client *kubernetes.Clientset) *gate {
	t.Helper()
	g := &gate{}
	authority, err := kubetest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue("gate", nil, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the API server is in the same network
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(listener, "", "") }()
	webhooks := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	t.Cleanup(func() {
		err := errors.Join(webhooks.Delete(context.Background(), "gate", metav1.DeleteOptions{}), server.Close())
		if served := <-served; err != nil || !errors.Is(served, http.ErrServerClosed) {
			t.Errorf("end of the gate: %v, %v", err, served)
		}
	})
	url, seconds, fail, none := "https://"+listener.Addr().String(), int32(30), admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	rule := func(group, version, resource string) admissionregistrationv1.RuleWithOperations {
		return admissionregistrationv1.RuleWithOperations{Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
			Rule: admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}}}
	}
	_, err = webhooks.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "gate"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "gate.kubetest.local", AdmissionReviewVersions: []string{"v1"}, TimeoutSeconds: &seconds,
			FailurePolicy: &fail, SideEffects: &none, ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: authority.PEM},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": standsIn}},
			Rules:             []admissionregistrationv1.RuleWithOperations{rule("", "v1", "secrets"), rule("", "v1", "serviceaccounts"), rule("apps", "v1", "deployments")}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// shut makes the gate hold the leader's next write of that kind; held tells when
// one stands before it, and drop refuses it. A leader that was killed meanwhile
// has made no such write, while the API server may not have noticed its end yet.
func (g *gate) shut(write string) (held <-chan struct{}, drop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold, g.held, g.open = write, make(chan struct{}), make(chan struct{})
	opened := g.open
	return g.held, sync.OnceFunc(func() { close(opened) })
}

// ServeHTTP answers the API server's question about a write.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	var review admissionv1.AdmissionReview
	if err == nil {
		err = json.Unmarshal(text, &review)
	}
	if err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	may := g.pass(r.Context(), review.Request)
	review.Response, review.Request = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: may}, nil
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // an API server that has given up needs no answer
}

// pass returns whether the write may be made, and of one that is held when it is
// dropped. It is told by operation and kind; of Helm's record, which is a Secret,
// by the state that it is given: "CREATE pending-install", "UPDATE deployed".
func (g *gate) pass(ctx context.Context, write *admissionv1.AdmissionRequest) bool {
	if write.UserInfo.Username != "system:serviceaccount:"+standsIn+":accumulus-leader" || write.DryRun != nil && *write.DryRun {
		return true
	}
	var object metav1.PartialObjectMetadata
	if json.Unmarshal(write.Object.Raw, &object) != nil {
		return true
	}
	what := write.Kind.Kind
	if strings.HasPrefix(object.Name, "sh.helm.release.v1.") {
		what = object.Labels["status"]
	}
	g.mu.Lock()
	if string(write.Operation)+" "+what != g.hold {
		g.mu.Unlock()
		return true
	}
	held, open := g.held, g.open
	g.hold = ""
	g.mu.Unlock()
	close(held)
	select {
	case <-open:
	case <-ctx.Done():
	}
	return false
}
