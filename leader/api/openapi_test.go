package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/go-cmp/cmp"
)

// bodyType is the media type of a route's example body.
func bodyType(method, path string) string {
	switch method + " " + path {
	case "POST /api/v1/carbon/intensities":
		return mediaCSV
	case "POST /api/v1/fleet", "POST /api/v1/prices/simulate":
		return mediaYAML
	}
	return mediaJSON
}

// contract is the document in its strict form, and what finds a request's route.
func contract(t *testing.T, s *Server) (*openapi3.T, routers.Router) {
	t.Helper()
	made, err := s.document(true)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	document := load(t, text)
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	return document, router
}

func load(t *testing.T, text []byte) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	if !document.IsOpenAPI31OrLater() {
		t.Fatalf("version %s", document.OpenAPI)
	}
	return document
}

func TestTheDocumentIsServed(t *testing.T) {
	s, _ := newServer(t, false)
	answer := call(s, "GET", "/openapi.json", "", "")
	document := load(t, []byte(text(t, answer)))
	for _, route := range s.Routes() {
		item := document.Paths.Value(route.Path)
		if item == nil || item.GetOperation(route.Method) == nil {
			t.Errorf("%s %s is not in the document", route.Method, route.Path)
		}
	}
	page := text(t, call(s, "GET", "/docs/api", "", ""))
	for _, want := range []string{"/api/v1/clusters/{name}/completeness", "requireComplete", "billing, operator", "anybody, also without a token"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %s", want)
		}
	}
	for _, outside := range []string{`src="`, `href="http`, "<script", "ZgotmplZ", "@import", "nobody,", "RawMessage"} {
		if strings.Contains(page, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
}

// hold sends one request over the real server and holds it and its answer against
// the document.
func hold(ctx context.Context, router routers.Router, base, method, target, token, body, media string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, method, base+target, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		request.Header.Set("Content-Type", media)
	}
	checked := request.Clone(ctx)
	checked.Body = io.NopCloser(strings.NewReader(body))
	checked.URL.Scheme, checked.URL.Host = "", ""
	route, params, err := router.FindRoute(checked)
	if err != nil {
		return 0, err
	}
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}
	input := &openapi3filter.RequestValidationInput{Request: checked, PathParams: params, Route: route, Options: options}
	wrong := openapi3filter.ValidateRequest(ctx, input)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	if answer.StatusCode >= 300 {
		wrong = nil // a request that is refused may well be wrong
	}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: answer.StatusCode, Header: answer.Header,
		Body: io.NopCloser(bytes.NewReader(got)), Options: options}
	return answer.StatusCode, errors.Join(wrong, openapi3filter.ValidateResponse(ctx, output))
}

// TestHandlersKeepToTheDocument drives every route over the real server, as who may
// and as who may not, and holds what goes in and what comes out against the
// document in its strict form: a field that no type has is an error.
func TestHandlersKeepToTheDocument(t *testing.T) {
	openapi3filter.RegisterBodyDecoder(FilesType, openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/gzip", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder(mediaHTML, openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder(mediaCSV, openapi3filter.FileBodyDecoder)
	s, _ := newServer(t, false)
	_, router := contract(t, s)
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for _, route := range s.Routes() {
		name := route.Method + " " + route.Path
		body, media := examples[name], bodyType(route.Method, route.Path)
		as := operatorToken
		if namedOnly[name] {
			as = billingToken
		}
		if code, err := hold(t.Context(), router, server.URL, route.Method, pathOf(route), as, body, media); err != nil || code >= 300 {
			t.Errorf("%s: %d, %v", name, code, err)
		}
		for _, token := range []string{"nobody", tenantToken} {
			if code, err := hold(t.Context(), router, server.URL, route.Method, pathOf(route), token, body, media); err != nil {
				t.Errorf("%s as %s: %d, %v", name, token, code, err)
			}
		}
	}
	for target, want := range map[string]int{
		"/api/v1/export?period=2026-11&format=csv": 200, "/api/v1/export?period=2026-11&requireComplete=true": 409, "/api/v1/export?period=2026-11&format=focus": 200,
		"/api/v1/energy?format=csv": 200, "/api/v1/heat?days=true": 200, "/api/v1/fleet/all?format=yaml": 200, "/api/v1/fleet/all?history=true": 200,
		"/api/v1/usage?window=broken": 500, "/api/v1/usage?window=overflow": 422, "/api/v1/clusters/nowhere": 404, "/api/v1/quarantine?limit=1": 200,
	} {
		if code, err := hold(t.Context(), router, server.URL, "GET", target, operatorToken, "", ""); err != nil || code != want {
			t.Errorf("%s: %d, want %d, %v", target, code, want, err)
		}
	}
}

// TestTheContractIsSeenBroken is the control: an answer of another shape, and a
// route that is not described, are seen.
func TestTheContractIsSeenBroken(t *testing.T) {
	s, _ := newServer(t, false)
	_, router := contract(t, s)
	for name, body := range map[string]string{"a field too many": `{"done":"x","more":1}`, "a field too few": `{}`, "another type": `{"done":1}`} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaJSON)
			_, _ = io.WriteString(w, body)
		}))
		if _, err := hold(t.Context(), router, server.URL, "POST", "/accumulus/start", operatorToken, "", ""); err == nil {
			t.Errorf("%s is not seen", name)
		}
		server.Close()
	}
	s.routes = append(s.routes, Route{Method: "GET", Path: "/new", Role: Viewer})
	if _, err := s.document(false); err == nil || !strings.Contains(err.Error(), "GET /new") {
		t.Errorf("a route that is not described: %v", err)
	}
}

// TestParametersAreThoseOfTheHandlers: a handler names the parameters that it
// knows when it gets another; the document has the same.
func TestParametersAreThoseOfTheHandlers(t *testing.T) {
	s, _ := newServer(t, false)
	docs, told := described(), 0
	for _, route := range s.Routes() {
		path, _, _ := strings.Cut(pathOf(route), "?")
		answer := call(s, route.Method, path+"?no-such-parameter=1", operatorToken, examples[route.Method+" "+route.Path])
		body := text(t, answer)
		doc := docs[route.Method+" "+route.Path]
		if answer.StatusCode != http.StatusBadRequest {
			if len(doc.Query) > 0 {
				t.Errorf("%s %s takes any parameter: %d", route.Method, route.Path, answer.StatusCode)
			}
			continue
		}
		var problem Problem
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Fatal(err)
		}
		known, _ := strings.CutPrefix(problem.Hint, "this endpoint knows ")
		known, keys := strings.CutSuffix(known, ", and each key as a filter (namespace=shop)")
		got := slices.DeleteFunc(strings.Split(known, ", "), func(name string) bool { return name == "" })
		want := slices.Clone(doc.Query)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); len(want)+len(got) > 0 && diff != "" || keys != doc.Keys {
			t.Errorf("%s %s: %s, keys %t", route.Method, route.Path, diff, keys)
		}
		told++
	}
	if told < 15 {
		t.Errorf("%d handlers named their parameters", told)
	}
	for _, key := range usage.Keys {
		if _, ok := parameterDocs[string(key)]; ok && key != usage.Cluster && key != usage.Customer && key != usage.Node && key != usage.Namespace {
			t.Errorf("the key %s is a parameter of another meaning", key)
		}
	}
}
