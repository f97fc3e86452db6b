package customer

import (
	"context"
	"net/http"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// answersOf are the questions that have a route.
type answersOf interface {
	Usage(ctx context.Context, request usage.Request, sight answers.Sight) (answers.UsageAnswer, error)
	Energy(ctx context.Context, request usage.Request, sight answers.Sight) (answers.Page[answers.EnergyRow], error)
	Cost(ctx context.Context, request usage.Request, sight answers.Sight) (answers.Page[answers.CostRow], error)
	Runs(ctx context.Context, request usage.Request, kind string, sight answers.Sight) (answers.Page[answers.Run], error)
}

// Route is one entry of the API's table.
type Route struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	Summary string `json:"summary"`
	answer  func(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error
}

func (c *Customer) routes() []Route {
	const get = http.MethodGet
	return []Route{
		{get, "/api/v1/usage", "Usage, energy and cost; window, aggregate, filter, step, sort, limit, page, format=json|csv", c.usage},
		{get, "/api/v1/energy", "Energy that the leader pushed; window, aggregate, filter, step, sort, limit, page", c.energy},
		{get, "/api/v1/cost", "Cost that the leader pushed, by resource; window, aggregate, filter, step, sort, limit, page", c.cost},
		{get, "/api/v1/runs", "Pods and Jobs that ended in the window, with their exact totals; window, kind=Pod|Job, filter, limit, page", c.runs},
	}
}

func (c *Customer) index(w http.ResponseWriter, r *http.Request) error {
	if _, err := c.callerOf(r); err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"cluster": c.config.Cluster, "routes": c.routes()})
}

func writeJSON(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, http.StatusOK, value)
	return nil
}

// question lets in who is known, in his turn, while the store is open.
func (c *Customer) question(answer func(context.Context, http.ResponseWriter, *http.Request, answers.Sight) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		who, err := c.callerOf(r)
		if err != nil {
			return err
		}
		return c.inTurn(r.Context(), func(ctx context.Context) error { return answer(ctx, w, r, who.sight) })
	}
}

func (c *Customer) inTurn(ctx context.Context, work func(context.Context) error) error {
	if !c.deps.Health().Open {
		return errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := c.turns.Acquire(ctx, 1); err != nil {
		return errBusy
	}
	defer c.turns.Release(1)
	return work(ctx)
}

func (c *Customer) usage(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, err := usage.ParseRequest(r.URL.RawQuery, "format")
	if err != nil {
		return err
	}
	format := r.URL.Query().Get("format")
	if format != "" && format != "json" && format != "csv" {
		return usage.Wrong("format", format, "use csv or json")
	}
	answer, err := c.deps.Answers.Usage(ctx, request, sight)
	if err != nil {
		return err
	}
	if format != "csv" {
		return writeJSON(w, answer)
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="accumulus-usage-`+answer.From.Format("20060102T1504")+`.csv"`)
	return usage.WriteCSV(w, answer.Aggregate, answer.Rows)
}

func (c *Customer) energy(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, err := usage.ParseRequest(r.URL.RawQuery)
	if err != nil {
		return err
	}
	answer, err := c.deps.Answers.Energy(ctx, request, sight)
	if err != nil {
		return err
	}
	return writeJSON(w, answer)
}

func (c *Customer) cost(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, err := usage.ParseRequest(r.URL.RawQuery)
	if err != nil {
		return err
	}
	answer, err := c.deps.Answers.Cost(ctx, request, sight)
	if err != nil {
		return err
	}
	return writeJSON(w, answer)
}

func (c *Customer) runs(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, err := usage.ParseRequest(r.URL.RawQuery, "kind")
	if err != nil {
		return err
	}
	answer, err := c.deps.Answers.Runs(ctx, request, r.URL.Query().Get("kind"), sight)
	if err != nil {
		return err
	}
	return writeJSON(w, answer)
}
