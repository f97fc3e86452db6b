// Package fault says of an error of a Kubernetes API what kind it is, and what
// to do about it: an operator who reads "wrong-ca" and one sentence needs no
// stack of wrapped texts. It asks nothing and changes nothing.
package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"
)

// Class is a kind of error.
type Class string

// Classes.
const (
	Unreachable  Class = "unreachable"  // nobody answers at that address
	WrongCA      Class = "wrong-ca"     // the server's certificate is not of the CA in the kubeconfig
	Timeout      Class = "timeout"      // the connection stands, no answer came in time
	Unauthorized Class = "unauthorized" // the token or client certificate is not known, or has expired
	Forbidden    Class = "forbidden"    // known, and not allowed to do this
	Quota        Class = "quota"        // a ResourceQuota or LimitRange is used up
	Policy       Class = "policy"       // an admission policy refuses it
	Conflict     Class = "conflict"     // somebody else changes the same objects, or they are being deleted
	Invalid      Class = "invalid"      // the API does not take what was sent
	Busy         Class = "busy"         // the API server asks to come later, or has trouble of its own
	Canceled     Class = "canceled"     // the leader stops
	Other        Class = "other"
)

// Passes says whether the same attempt may succeed later without anybody having
// changed anything.
func (c Class) Passes() bool {
	switch c {
	case Unreachable, Timeout, Conflict, Busy, Canceled, Other:
		return true
	}
	return false
}

var hints = map[Class]string{
	Unreachable: "Nobody answers at the address of the cluster's API server: is the cluster up, and can the leader's machine reach it (address, port, firewall)? It is tried again by itself.",
	WrongCA:     "The API server's certificate is not signed by the CA that the leader holds: was the cluster made anew, or its CA rotated? Run `accumulus cluster add NAME --context CONTEXT` again.",
	Timeout:     "The API server took the connection and did not answer in time: is it overloaded, or is a proxy or load balancer before it without a server behind? It is tried again by itself.",
	Unauthorized: "The API server does not know the leader's token, or it has expired: run `accumulus cluster add NAME --context CONTEXT` again, " +
		"which makes a new one.",
	Forbidden: "The leader's service account lacks this right: run `accumulus cluster add NAME --context CONTEXT` again as a user who may grant it, or apply the manifests in deploy/access.",
	Quota:     "A ResourceQuota or LimitRange of the namespace leaves no room: raise it, or lower the follower's requests in the values.",
	Policy:    "An admission policy of the cluster refuses an object: allow what the message names for this namespace, or change the follower's values.",
	Conflict:  "Somebody else is changing or deleting the same objects: it is tried again by itself; if it lasts, look who else installs Accumulus there.",
	Invalid:   "The API server does not take an object as it is: look at the values of this cluster and at the version of the cluster.",
	Busy:      "The API server asks to come later: it is tried again by itself.",
	Canceled:  "The leader was stopped in the middle: it goes on at its next start.",
	Other:     "It is tried again by itself; the leader's log has more.",
}

// Hint is what to do about it.
func (c Class) Hint() string { return hints[c] }

// Of is the class of an error; "" of none.
func Of(err error) Class {
	if err == nil {
		return ""
	}
	if class, ok := ofAnswer(err); ok {
		return class
	}
	if class, ok := ofConnection(err); ok {
		return class
	}
	return OfText(err.Error())
}

// ofAnswer is of an answer of the API server.
func ofAnswer(err error) (Class, bool) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return "", false
	}
	text := status.Status().Message
	switch {
	case apierrors.IsUnauthorized(err):
		return Unauthorized, true
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return Conflict, true
	case apierrors.IsForbidden(err):
		return OfText(text), true
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsGone(err):
		return Conflict, true
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err),
		apierrors.IsNotAcceptable(err), apierrors.IsUnsupportedMediaType(err), apierrors.IsMethodNotSupported(err):
		if strings.Contains(text, "admission webhook") {
			return Policy, true
		}
		return Invalid, true
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return Timeout, true
	case apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err),
		status.Status().Reason == metav1.StatusReasonUnknown && status.Status().Code >= 500:
		return Busy, true
	}
	return Other, true
}

// ofConnection is of an error that came instead of an answer.
func ofConnection(err error) (Class, bool) {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var network net.Error
	var dial *net.OpError
	switch {
	case errors.As(err, &verification), errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		return WrongCA, true
	case errors.Is(err, context.Canceled):
		return Canceled, true
	case errors.As(err, &dial) && dial.Op == "dial":
		return Unreachable, true // a dial that timed out, too: nobody took the connection
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return Timeout, true
	case dial != nil:
		return Unreachable, true
	case meta.IsNoMatchError(err):
		return Invalid, true
	}
	return "", false
}

// OfText is the class of a text, such as the message of a Deployment's
// condition, or of an error that lost its type on the way.
func OfText(text string) Class {
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("exceeded quota", "failed quota", "maximum cpu usage", "maximum memory usage", "minimum cpu usage", "minimum memory usage"):
		return Quota
	case has("violates PodSecurity", "admission webhook", "ValidatingAdmissionPolicy"):
		return Policy
	case has("because it is being terminated"):
		return Conflict
	case has("x509:", "tls: failed to verify"):
		return WrongCA
	case has("Unauthorized", "the server has asked for the client to provide credentials"):
		return Unauthorized
	case has("is forbidden", "forbidden: User", "permissions not currently held"):
		return Forbidden
	case has("connection refused", "no such host", "no route to host", "network is unreachable", "connection reset"):
		return Unreachable
	case has("context deadline exceeded", "Client.Timeout", "i/o timeout", "TLS handshake timeout"):
		return Timeout
	case has("the object has been modified", "already exists"):
		return Conflict
	case has("is invalid:", "unable to decode", "json: cannot unmarshal"):
		return Invalid
	}
	return Other
}

var cannot = regexp.MustCompile(`cannot (\w+) resource "([^"]+)"(?: in API group "([^"]*)")?(?: in the namespace "([^"]+)")?`)

// Denied is the right that an error of class Forbidden says is missing, such as
// "create deployments.apps in namespace accumulus"; "" where it names none.
func Denied(err error) string {
	if err == nil {
		return ""
	}
	found := cannot.FindStringSubmatch(err.Error())
	if found == nil {
		return ""
	}
	right := found[1] + " " + found[2]
	if found[3] != "" {
		right += "." + found[3]
	}
	if found[4] != "" {
		right += " in namespace " + found[4]
	}
	return right
}
