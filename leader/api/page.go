package api

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
)

//go:embed page/index.html page/page.css page/page.js
var pageFiles embed.FS

// page is the status page: one document that holds its style and its script,
// no data, and asks the public API like any other caller.
type page struct {
	template *template.Template
	view     pageView
}

type pageView struct {
	Version string
	Demo    bool
	Nonce   string
	Style   template.CSS
	Script  template.JS
}

func newPage(version string, demo bool) (*page, error) {
	parsed, err := template.ParseFS(pageFiles, "page/index.html")
	if err != nil {
		return nil, fmt.Errorf("parse status page: %w", err)
	}
	style, err := pageFiles.ReadFile("page/page.css")
	if err != nil {
		return nil, fmt.Errorf("read status page: %w", err)
	}
	script, err := pageFiles.ReadFile("page/page.js")
	if err != nil {
		return nil, fmt.Errorf("read status page: %w", err)
	}
	return &page{parsed, pageView{Version: version, Demo: demo, Style: template.CSS(style), Script: template.JS(script)}}, nil
}

// statusPage allows exactly this document's own style and script.
func (s *Server) statusPage(w http.ResponseWriter, _ *http.Request) error {
	nonce, err := newNonce()
	if err != nil {
		return err
	}
	view := s.page.view
	view.Nonce = nonce
	var out bytes.Buffer
	if err := s.page.template.Execute(&out, view); err != nil {
		return fmt.Errorf("render status page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+view.Nonce+"'; script-src 'nonce-"+view.Nonce+
		"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(out.Bytes()) // the caller is gone: nobody is left to tell
	return nil
}

// newNonce names the style and the script of one answer.
func newNonce() (string, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("make nonce: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(random[:]), nil
}
