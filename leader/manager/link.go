package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/leader/followers"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// linkState is the word and the message of a contact, for the ledger: why what
// is missing is missing.
func linkState(follower FollowerStatus, err error) (state, message string) {
	if err != nil {
		return string(blame(err)), err.Error()
	}
	if fullDisk(follower.StoreError) {
		return string(registry.GapDiskBudget), follower.StoreError
	}
	return registry.StateOK, ""
}

// blame says what an error of a contact speaks of. A follower is down where its
// machine answers in its place, or a proxy in front of it does; everything that
// keeps an answer from arriving is the link's.
func blame(err error) registry.GapCode {
	status := statusOf(err)
	var proxy *followers.ProxyError
	var file *followers.FileError
	switch {
	case errors.As(err, &proxy):
		return ofProxy(proxy)
	case errors.As(err, &file):
		return registry.GapLinkDown
	case errors.Is(err, followers.ErrUnauthorized) || status == http.StatusUnauthorized || status == http.StatusForbidden:
		return registry.GapUnauthorized
	case errors.Is(err, ErrOpening) || errors.Is(err, syscall.ECONNREFUSED) || status == http.StatusBadGateway || status == http.StatusServiceUnavailable:
		return registry.GapFollowerDown
	case status == http.StatusGatewayTimeout || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, influxsync.ErrTruncated) || ofNetwork(err):
		return registry.GapLinkDown
	}
	return registry.GapSyncFailing
}

// ofProxy says what an answer of an API server in front of a follower speaks of.
func ofProxy(err *followers.ProxyError) registry.GapCode {
	switch {
	case err.Status == http.StatusUnauthorized || err.Status == http.StatusForbidden:
		return registry.GapUnauthorized
	case err.Status == http.StatusNotFound || err.Status == http.StatusServiceUnavailable && !err.NoWay():
		return registry.GapFollowerDown
	}
	return registry.GapLinkDown
}

// statusOf is the HTTP status that an error tells of, or 0.
func statusOf(err error) int {
	var answered *followers.StatusError
	var store *influxsync.StatusError
	var write *influxsync.WriteError
	switch {
	case errors.As(err, &answered):
		return answered.Status
	case errors.As(err, &store):
		return store.Status
	case errors.As(err, &write):
		return write.Status
	}
	return 0
}

// ofNetwork says whether an error is of name resolution, routes, connections,
// time-outs or TLS.
func ofNetwork(err error) bool {
	var operation *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var timed interface{ Timeout() bool }
	return errors.As(err, &operation) || errors.As(err, &name) || errors.As(err, &certificate) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &timed) && timed.Timeout() ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, http.ErrSchemeMismatch)
}

// fullDisk says whether a store's error is that it has no room.
func fullDisk(text string) bool {
	text = strings.ToLower(text)
	for _, sign := range []string{"no space left", "disk full", "disk is full", "disk budget", "disk quota"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
