package customer

import (
	"context"
	"net/http"
	"time"

	"github.com/accumulus-metering/accumulus/follower/answers"
	"github.com/accumulus-metering/accumulus/internal/usage"
)

// answersOf are the questions that have a route.
type answersOf interface {
	Usage(ctx context.Context, request usage.Request, sight answers.Sight) (answers.UsageAnswer, error)
	Energy(ctx context.Context, request usage.Request, sight answers.Sight) (answers.Page[answers.EnergyRow], error)
	Carbon(ctx context.Context, request usage.Request, sight answers.Sight) (answers.CarbonPage, error)
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
		{get, "/api/v1/energy", "Energy that the leader pushed, and the heat that it became; window, aggregate, filter, step, sort, limit, page, format=json|csv", c.energy},
		{get, "/api/v1/carbon", "CO2e of that energy, location-based, market-based and embodied; parameters as of energy", c.carbon},
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

// asked reads what is asked and whether the answer is to be CSV.
func asked(r *http.Request) (request usage.Request, inCSV bool, err error) {
	if request, err = usage.ParseRequest(r.URL.RawQuery, "format"); err != nil {
		return request, false, err
	}
	format := r.URL.Query().Get("format")
	if format != "" && format != "json" && format != "csv" {
		return request, false, usage.Wrong("format", format, "use csv or json")
	}
	return request, format == "csv", nil
}

// csvHead is the head of an answer in CSV.
func csvHead(w http.ResponseWriter, name string, from time.Time) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="accumulus-`+name+`-`+from.Format("20060102T1504")+`.csv"`)
}

func (c *Customer) usage(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, inCSV, err := asked(r)
	if err != nil {
		return err
	}
	answer, err := c.deps.Answers.Usage(ctx, request, sight)
	if err != nil {
		return err
	}
	if !inCSV {
		return writeJSON(w, answer)
	}
	csvHead(w, "usage", answer.From)
	return usage.WriteCSV(w, answer.Aggregate, answer.Rows)
}

func (c *Customer) energy(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, inCSV, err := asked(r)
	if err != nil {
		return err
	}
	answer, err := c.deps.Answers.Energy(ctx, request, sight)
	if err != nil {
		return err
	}
	if !inCSV {
		return writeJSON(w, answer)
	}
	csvHead(w, "energy", answer.From)
	return usage.WriteFiguresCSV(w, answer.Aggregate, answer.Rows)
}

func (c *Customer) carbon(ctx context.Context, w http.ResponseWriter, r *http.Request, sight answers.Sight) error {
	request, inCSV, err := asked(r)
	if err != nil {
		return err
	}
	answer, err := c.deps.Answers.Carbon(ctx, request, sight)
	if err != nil {
		return err
	}
	if !inCSV {
		return writeJSON(w, answer)
	}
	csvHead(w, "carbon", answer.From)
	return usage.WriteFiguresCSV(w, answer.Aggregate, answer.Rows)
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
