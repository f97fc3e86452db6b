package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// bookmarkEvery is how much time of the fleet a quiet watch lets pass between
// two bookmarks.
const bookmarkEvery = time.Minute

// apiServer lists and watches a cluster's objects. A resource version is a
// moment in µs since the Unix epoch, so every answer is a function of the clock
// and any version can be watched from.
type apiServer struct {
	sim     *Simulator
	clock   clock.Clock
	cluster string
	ports   map[string]int // of the kubelets, by node
	tokens  tokens
	url     string
	fault   faults
}

// request is what a path asks for.
type request struct {
	resource  resource
	namespace string // "" all
	name      string // "" all
	selector  selector
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, changed := a.fault.get()
	if !fault.begin(w, r, a.clock.Now()) {
		return
	}
	switch r.URL.Path {
	case "/healthz", "/livez", "/readyz":
		fault.write(w, "text/plain; charset=utf-8", []byte("ok"))
		return
	case "/version": // public, as by default
		fault.write(w, "application/json", []byte(`{"major":"1","minor":"37","gitVersion":"v1.37.2","platform":"linux/amd64"}`))
		return
	}
	switch a.tokens.check(r, fault) {
	case http.StatusUnauthorized:
		refuse(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
		return
	case http.StatusForbidden:
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf(
			`%s is forbidden: User "system:serviceaccount:accumulus:follower" cannot %s`, r.URL.Path, strings.ToLower(r.Method)))
		return
	}
	ask, ok := a.parse(r)
	if !ok || r.Method != http.MethodGet {
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	query := r.URL.Query()
	if query.Get("watch") == "true" || query.Get("watch") == "1" {
		a.watch(w, r, ask, fault, changed)
		return
	}
	a.list(w, ask, fault)
}

// refuse answers with a Status object, as client-go reads it.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status(code, reason, message))
}

func status(code int, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: message}
}

// parse reads /api/v1/… and /apis/GROUP/v1/…, with or without a namespace and
// a name.
func (a *apiServer) parse(r *http.Request) (request, bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group := ""
	switch {
	case len(parts) > 2 && parts[0] == "api":
		group, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		group, parts = parts[1]+"/"+parts[2], parts[3:]
	default:
		return request{}, false
	}
	var ask request
	if parts[0] == "namespaces" && len(parts) > 2 {
		ask.namespace, parts = parts[1], parts[2:]
	}
	known := false
	for _, resource := range resources {
		if resource.group == group && resource.plural == parts[0] {
			ask.resource, known = resource, true
		}
	}
	if len(parts) == 2 {
		ask.name = parts[1]
	}
	selector, ok := parseSelector(r.URL.Query().Get("fieldSelector"))
	ask.selector = selector
	return ask, known && ok && len(parts) <= 2
}

// selector is a list of field=value and field!=value.
type selector []struct {
	field, value string
	not          bool
}

func parseSelector(text string) (selector, bool) {
	var all selector
	for term := range strings.SplitSeq(text, ",") {
		if term == "" {
			continue
		}
		field, value, ok := strings.Cut(term, "=")
		if !ok {
			return nil, false
		}
		field, not := strings.CutSuffix(field, "!")
		all = append(all, struct {
			field, value string
			not          bool
		}{field, strings.TrimPrefix(value, "="), not})
	}
	return all, true
}

// wants says whether an object is among what the request asks for.
func (q request) wants(o object) bool {
	if (q.namespace != "" && q.namespace != o.meta.Namespace) || (q.name != "" && q.name != o.meta.Name) {
		return false
	}
	for _, term := range q.selector {
		var value string
		switch term.field {
		case "metadata.name":
			value = o.meta.Name
		case "metadata.namespace":
			value = o.meta.Namespace
		case "spec.nodeName":
			value = o.node
		case "status.phase":
			value = o.phase
		}
		if (value == term.value) == term.not {
			return false
		}
	}
	return true
}

func (a *apiServer) list(w http.ResponseWriter, ask request, fault Fault) {
	now := fault.moment(a.clock.Now())
	items := []any{}
	for _, o := range a.state(ask, now) {
		items = append(items, o.body)
	}
	var answer any = map[string]any{"kind": ask.resource.kind + "List", "apiVersion": ask.resource.group,
		"metadata": map[string]any{"resourceVersion": version(now)}, "items": items}
	if ask.name != "" {
		if len(items) == 0 {
			refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", ask.resource.plural, ask.name))
			return
		}
		answer = items[0]
	}
	body, err := json.Marshal(answer)
	if err != nil {
		refuse(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	fault.write(w, "application/json", body)
}

// state is what is there at t, in the fleet's order.
func (a *apiServer) state(ask request, t time.Time) []object {
	var all []object
	for _, life := range ask.resource.lives(a, t, t) {
		if o, ok := life.at(t); ok && ask.wants(o) {
			all = append(all, o)
		}
	}
	return all
}

// change is one event of a watch.
type change struct {
	at    time.Time
	event string
	object
}

// changes are what happened in (from, to], oldest first.
func (a *apiServer) changes(ask request, from, to time.Time) []change {
	var all []change
	for _, life := range ask.resource.lives(a, from, to) {
		for n, at := range life.moments {
			if !at.After(from) || at.After(to) {
				continue
			}
			event := "MODIFIED"
			if n == 0 {
				event = "ADDED"
			} else if at.Equal(life.gone) {
				event = "DELETED"
			}
			if o := life.object(at); ask.wants(o) {
				all = append(all, change{at: at, event: event, object: o})
			}
		}
	}
	slices.SortStableFunc(all, func(x, y change) int { return x.at.Compare(y.at) })
	return all
}

// life is the history of one object.
type life struct {
	moments []time.Time // of its changes, in order, without repeats; the first made it
	gone    time.Time   // the last one, if it was deleted
	object  func(at time.Time) object
}

// newLife sorts the moments of an object that lives from made to gone (zero:
// it stays).
func newLife(made, gone time.Time, moments []time.Time, build func(at time.Time) object) life {
	kept := []time.Time{made}
	for _, at := range moments {
		if at.After(made) && (gone.IsZero() || at.Before(gone)) {
			kept = append(kept, at)
		}
	}
	if !gone.IsZero() {
		kept = append(kept, gone)
	}
	slices.SortFunc(kept, time.Time.Compare)
	kept = slices.CompactFunc(kept, time.Time.Equal)
	return life{moments: kept, gone: gone, object: build}
}

// at is the object as its last change before or at t left it.
func (l life) at(t time.Time) (object, bool) {
	if !l.gone.IsZero() && !t.Before(l.gone) {
		return object{}, false
	}
	var last time.Time
	for _, at := range l.moments {
		if !at.After(t) {
			last = at
		}
	}
	if last.IsZero() {
		return object{}, false
	}
	return l.object(last), true
}

func version(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, ask request, fault Fault, changed <-chan struct{}) {
	query := r.URL.Query()
	ctx := r.Context()
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil && seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
	}
	stream := newStream(w, ask.resource)
	from := a.clock.Now()
	at := query.Get("resourceVersion")
	listed := query.Get("sendInitialEvents") == "true"
	if micros, err := strconv.ParseInt(at, 10, 64); err == nil && micros > 0 && !listed {
		if fault.Expired {
			stream.expired(at)
			return
		}
		from = time.UnixMicro(micros).UTC()
	} else {
		from = from.Truncate(time.Microsecond)
		for _, o := range a.state(ask, from) {
			stream.send("ADDED", o.body)
		}
		if listed {
			stream.bookmark(from, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		}
	}
	stream.flush()
	for stream.err == nil {
		now := a.clock.Now().Truncate(time.Microsecond)
		if now.After(from) {
			for _, event := range a.changes(ask, from, now) {
				stream.send(event.event, event.body)
			}
			if now.Sub(from) >= bookmarkEvery && query.Get("allowWatchBookmarks") == "true" {
				stream.bookmark(now, nil)
			}
			stream.flush()
			from = now
		}
		next := from.Add(bookmarkEvery)
		if coming := a.changes(ask, from, next); len(coming) > 0 {
			next = coming[0].at
		}
		if !until(ctx, a.clock, changed, next) {
			return
		}
	}
}

// stream writes the events of a watch.
type stream struct {
	encoder  *json.Encoder
	flusher  http.Flusher
	resource resource
	err      error
}

func newStream(w http.ResponseWriter, resource resource) *stream {
	w.Header().Set("Content-Type", "application/json")
	flusher, _ := w.(http.Flusher)
	return &stream{encoder: json.NewEncoder(w), flusher: flusher, resource: resource}
}

func (s *stream) send(event string, object any) {
	if s.err == nil {
		s.err = s.encoder.Encode(map[string]any{"type": event, "object": object})
	}
}

func (s *stream) bookmark(at time.Time, annotations map[string]string) {
	meta := map[string]any{"resourceVersion": version(at)}
	if annotations != nil {
		meta["annotations"] = annotations
	}
	s.send("BOOKMARK", map[string]any{"kind": s.resource.kind, "apiVersion": s.resource.group, "metadata": meta})
}

func (s *stream) expired(at string) {
	s.send("ERROR", status(http.StatusGone, metav1.StatusReasonExpired, "too old resource version: "+at))
	s.flush()
}

func (s *stream) flush() {
	if s.flusher != nil {
		s.flusher.Flush()
	}
}
