package fault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestClasses(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	terminating := apierrors.NewForbidden(secrets, "x", errors.New("unable to create new content in namespace a because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	webhook := apierrors.NewBadRequest(`admission webhook "policy" denied the request`)
	for name, test := range map[string]struct {
		err  error
		want Class
	}{
		"none":            {nil, ""},
		"refused":         {&url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}, Unreachable},
		"no name":         {&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}, Unreachable},
		"dial timed out":  {&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, Unreachable},
		"says nothing":    {&url.Error{Op: "Get", Err: context.DeadlineExceeded}, Timeout},
		"cancelled":       {fmt.Errorf("install: %w", context.Canceled), Canceled},
		"CA":              {&url.Error{Op: "Get", Err: x509.UnknownAuthorityError{}}, WrongCA},
		"host name":       {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, WrongCA},
		"CA, as text":     {errors.New("Kubernetes cluster unreachable: Get: x509: certificate signed by unknown authority"), WrongCA},
		"token":           {apierrors.NewUnauthorized("no"), Unauthorized},
		"right":           {apierrors.NewForbidden(secrets, "x", errors.New(`User "u" cannot get resource "secrets"`)), Forbidden},
		"right, as text":  {errors.New(`failed to create: secrets is forbidden: User "u" cannot create resource "secrets"`), Forbidden},
		"quota":           {fmt.Errorf("install: %w", apierrors.NewForbidden(secrets, "x", errors.New("exceeded quota: q"))), Quota},
		"policy":          {apierrors.NewForbidden(secrets, "x", errors.New(`violates PodSecurity "restricted:latest"`)), Policy},
		"webhook":         {webhook, Policy},
		"terminating":     {terminating, Conflict},
		"conflict":        {apierrors.NewConflict(secrets, "x", errors.New("modified")), Conflict},
		"exists":          {apierrors.NewAlreadyExists(secrets, "x"), Conflict},
		"invalid":         {apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, "x", nil), Invalid},
		"server timeout":  {apierrors.NewServerTimeout(secrets, "get", 1), Timeout},
		"too many":        {apierrors.NewTooManyRequestsError("later"), Busy},
		"internal":        {apierrors.NewInternalError(errors.New("etcdserver: leader changed")), Busy},
		"something":       {errors.New("something"), Other},
		"joined with one": {errors.Join(errors.New("failed to delete release: x"), apierrors.NewUnauthorized("no")), Unauthorized},
	} {
		got := Of(test.err)
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		if test.err != nil && got.Hint() == "" {
			t.Errorf("%s: no hint", name)
		}
	}
	for class, passes := range map[Class]bool{Unreachable: true, Timeout: true, Conflict: true, Busy: true, WrongCA: false, Unauthorized: false, Forbidden: false, Quota: false, Invalid: false} {
		if class.Passes() != passes {
			t.Errorf("%s passes: %t", class, class.Passes())
		}
	}
}

func TestDenied(t *testing.T) {
	for text, want := range map[string]string{
		`User "u" cannot create resource "deployments" in API group "apps" in the namespace "accumulus"`:    "create deployments.apps in namespace accumulus",
		`User "u" cannot list resource "secrets" in API group "" in the namespace "a"`:                      "list secrets in namespace a",
		`User "u" cannot get resource "clusterroles" in API group "rbac.authorization.k8s.io" at the scope`: "get clusterroles.rbac.authorization.k8s.io",
		"something else": "",
	} {
		if got := Denied(errors.New(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if Denied(nil) != "" {
		t.Error("no error is denied")
	}
}
