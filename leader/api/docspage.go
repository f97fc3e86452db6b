package api

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

//go:embed page/api.html page/api.css
var docsFiles embed.FS

// docsRoute is a route as its page shows it.
type docsRoute struct {
	Method, Path, Summary, Roles string
	Anchor                       string
	Parameters                   []docsParameter
	Body, Answer                 string
}

type docsParameter struct{ Name, Text string }

// docsPage is the API for people: one document without a script.
type docsPage struct {
	template *template.Template
	version  string
	style    template.CSS
	tags     []docsTag
}

func newDocsPage(version string, routes []Route) (*docsPage, error) {
	parsed, err := template.ParseFS(docsFiles, "page/api.html")
	if err != nil {
		return nil, fmt.Errorf("parse page of the API: %w", err)
	}
	style, err := docsFiles.ReadFile("page/api.css")
	if err != nil {
		return nil, fmt.Errorf("read page of the API: %w", err)
	}
	page := &docsPage{template: parsed, version: version, style: template.CSS(style)}
	docs := described()
	var all []docsRoute
	for _, route := range routes {
		doc := docs[route.Method+" "+route.Path]
		one := docsRoute{Method: route.Method, Path: route.Path, Summary: route.Summary, Roles: letIn(route), Anchor: anchor(route.Method + " " + route.Path),
			Body: forms(doc.Body, doc.BodyTypes), Answer: fmt.Sprintf("%d %s", doc.status(), forms(doc.Answer, doc.AnswerTypes))}
		for _, name := range doc.Query {
			one.Parameters = append(one.Parameters, docsParameter{name, parameterDocs[name].text})
		}
		if doc.Keys {
			one.Parameters = append(one.Parameters, docsParameter{"each key", "as a filter, such as namespace=shop"})
		}
		all = append(all, one)
	}
	page.tags = grouped(all)
	return page, nil
}

// letIn names the roles of a route for people.
func letIn(route Route) string {
	if route.Role.Admits(Nobody) {
		return "anybody, also without a token"
	}
	return strings.Join(rolesOf(route), ", ")
}

// forms are the forms of a body or an answer in words.
func forms(value any, types []string) string {
	var all []string
	if _, raw := value.(json.RawMessage); raw {
		all = append(all, "JSON")
	} else if value != nil {
		all = append(all, "JSON "+strings.TrimPrefix(fmt.Sprintf("%T", value), "json."))
	}
	return strings.Join(append(all, types...), ", ")
}

// docsOfAPI shows the routes to people.
func (s *Server) docsOfAPI(w http.ResponseWriter, _ *http.Request) error {
	nonce, err := newNonce()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	err = s.docs.template.Execute(&out, map[string]any{"Version": s.docs.version, "Style": s.docs.style, "Tags": s.docs.tags, "Nonce": nonce})
	if err != nil {
		return fmt.Errorf("render page of the API: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(out.Bytes()) // the caller is gone: nobody is left to tell
	return nil
}
