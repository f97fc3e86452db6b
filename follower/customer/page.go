package customer

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/follower/review"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

//go:embed page/page.html page/door.html page/page.css
var pageFiles embed.FS

// page is the status page: documents that the follower fills in, which hold
// their style and no script.
type page struct {
	templates *template.Template
	style     template.CSS
}

func newPage() (*page, error) {
	parsed, err := template.ParseFS(pageFiles, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse status page: %w", err)
	}
	style, err := pageFiles.ReadFile("page/page.css")
	if err != nil {
		return nil, fmt.Errorf("read status page: %w", err)
	}
	return &page{parsed, template.CSS(style)}, nil
}

// show renders a document that may use its own style and send its own forms.
func (p *page) show(w http.ResponseWriter, status int, name string, view map[string]any) error {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("make nonce: %w", err)
	}
	nonce := base64.RawURLEncoding.EncodeToString(random[:])
	view["Nonce"], view["Style"] = nonce, p.style
	var out bytes.Buffer
	if err := p.templates.ExecuteTemplate(&out, name, view); err != nil {
		return fmt.Errorf("render status page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+
		"'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the caller is gone: nobody is left to tell
	return nil
}

// showDoor asks for a token.
func (c *Customer) showDoor(w http.ResponseWriter, status int, message string) error {
	return c.page.show(w, status, "door.html", map[string]any{"Cluster": c.config.Cluster, "Message": message, "Reviews": c.deps.Reviewer != nil})
}

// pageWindows are the windows that the page offers; the first is its own.
var pageWindows = []string{"today", "1h", "24h", "yesterday", "month", "lastmonth"}

// groupings are what the page's table can be by.
var groupings = []grouping{
	{"workload", "by workload", []usage.Key{usage.Namespace, usage.Workload}},
	{"namespace", "by namespace", []usage.Key{usage.Namespace}},
	{"pod", "by pod", []usage.Key{usage.Namespace, usage.Pod}},
}

type grouping struct {
	Name, Label string
	keys        []usage.Key
}

// showPage shows the page to who has a session, or a token in the request.
func (c *Customer) showPage(w http.ResponseWriter, r *http.Request) error {
	who, err := c.callerOf(r)
	switch {
	case errors.Is(err, errNoToken):
		return c.showDoor(w, http.StatusUnauthorized, "")
	case errors.Is(err, errUnknown), errors.Is(err, review.ErrUnknown):
		return c.showDoor(w, http.StatusUnauthorized, "Your token is not known any more: it has expired or was deleted.")
	}
	view := view{Cluster: c.config.Cluster, Window: pageWindows[0], By: groupings[0]}
	if text := r.URL.Query().Get("window"); text != "" {
		view.Window = text
	}
	for _, g := range groupings {
		if g.Name == r.URL.Query().Get("by") {
			view.By = g
		}
	}
	view.Who = who.name
	if err == nil {
		err = c.inTurn(r.Context(), func(ctx context.Context) error { return c.fill(ctx, &view, who.sight) })
	}
	status := http.StatusOK
	if err != nil {
		problem := problemOf(err)
		status = problem.Status
		view.Failure = &problem
		if status == http.StatusInternalServerError {
			c.deps.Log.Error("status page failed", "err", err)
		}
	}
	return c.page.show(w, status, "page.html", view.fields())
}

// runsShown is how many of the newest runs the page lists.
const runsShown = 15

// fill asks what the page shows.
func (c *Customer) fill(ctx context.Context, v *view, sight answers.Sight) error {
	all, err := sight.All(ctx)
	if err != nil {
		return err
	}
	health := c.deps.Health()
	v.health(health, all)
	if v.AsOf, err = c.deps.Answers.AsOf(ctx); err != nil {
		return err
	}
	answer, err := c.deps.Answers.Usage(ctx, usage.Request{Window: v.Window, Aggregate: v.By.keys, Limit: 100_000}, sight)
	if err != nil {
		return err
	}
	v.usage(answer)
	carbon, err := c.deps.Answers.Carbon(ctx, usage.Request{Window: v.Window, Aggregate: []usage.Key{usage.Cluster}, Limit: 1}, sight)
	if err != nil {
		return err
	}
	v.carbon(carbon)
	runs, err := c.deps.Answers.Runs(ctx, usage.Request{Window: v.Window, Limit: runsShown}, "", sight)
	if err != nil {
		var forbidden *answers.ForbiddenError
		if errors.As(err, &forbidden) { // nothing has ended in what the caller may see
			return nil
		}
		return err
	}
	v.runs(runs)
	return nil
}
