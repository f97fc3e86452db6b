package api

import (
	"encoding/json"
	"net/http"

	"github.com/accumulus-metering/accumulus/leader/ahead"
	"github.com/accumulus-metering/accumulus/leader/allocation"
	"github.com/accumulus-metering/accumulus/leader/audit"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/heat"
	"github.com/accumulus-metering/accumulus/leader/models"
	"github.com/accumulus-metering/accumulus/leader/prices"
	"github.com/accumulus-metering/accumulus/leader/quarantine"
	"github.com/accumulus-metering/accumulus/leader/query"
	"github.com/accumulus-metering/accumulus/leader/registry"
	"github.com/accumulus-metering/accumulus/leader/seed"
	"github.com/accumulus-metering/accumulus/leader/status"
)

// Media types of bodies and answers that are no JSON.
const (
	mediaText = "text/plain"
	mediaCSV  = "text/csv"
	mediaHTML = "text/html"
	mediaYAML = "application/yaml"
	mediaJSON = "application/json"
)

// described says of each route, by method and path, what it takes and answers.
func described() map[string]Doc {
	text, done := Doc{AnswerTypes: []string{mediaText}}, Doc{Answer: Done{}}
	added := Doc{Query: []string{"url", "context", "adopt"}, Body: fleet.Cluster{}, BodyOptional: true, Status: http.StatusCreated, Answer: Done{}}
	removed := Doc{Query: []string{"force"}, Answer: Done{}}
	upgrade := Doc{Status: http.StatusAccepted, Answer: registry.Upgrade{}}
	objects := Doc{Query: []string{"at", "history", "format"}, Answer: ObjectList{}, AnswerTypes: []string{mediaYAML}}
	of := func(answer any) Doc { return Doc{Answer: answer} }
	question := []string{"window", "aggregate", "filter", "step", "sort", "limit", "page", "completeness"}
	figures := func(answer any, more ...string) Doc {
		return Doc{Query: append(append([]string{}, question...), append(more, "format")...), Keys: true, Answer: answer, AnswerTypes: []string{mediaCSV}}
	}
	statement := Doc{Query: []string{"format"}, Answer: books.Statement{}, AnswerTypes: []string{mediaHTML}}
	shares := Doc{Query: allocation.Parameters, Tagged: true, Answer: allocation.Response{}, AnswerTypes: []string{mediaCSV}}
	selection := []string{"cluster", "table", "kind", "class", "ids", "all"}
	return map[string]Doc{
		"GET /":             {AnswerTypes: []string{mediaHTML}},
		"GET /docs/api":     {AnswerTypes: []string{mediaHTML}},
		"GET /openapi.json": of(json.RawMessage{}),
		"GET /healthz":      text, "GET /livez": text, "GET /readyz": text, "GET /metrics": text,

		"GET /accumulus": of(status.Overview{}), "GET /api/v1/status": of(status.Overview{}),
		"POST /accumulus/start": done, "POST /accumulus/stop": done,
		"POST /accumulus/clusters/add/{name}": added, "PUT /accumulus/clusters/add/{name}": added,
		"POST /accumulus/clusters/remove/{name}": removed, "DELETE /accumulus/clusters/remove/{name}": removed, "DELETE /api/v1/clusters/{name}": removed,
		"POST /accumulus/clear": {Body: ClearRequest{}, Answer: Done{}},

		"GET /api/v1": of(Index{}), "GET /api/v1/me": of(Me{}),
		"GET /api/v1/audit":            {Query: []string{"since", "limit", "page", "verify"}, Answer: ChangeList{}},
		"GET /api/v1/tokens":           {Query: []string{"revoked"}, Answer: TokenList{}},
		"POST /api/v1/tokens":          {Body: TokenRequest{}, Status: http.StatusCreated, Answer: NewToken{}},
		"DELETE /api/v1/tokens/{name}": done,

		"GET /accumulus/clusters": of(ClusterList{}), "GET /api/v1/clusters": of(ClusterList{}), "GET /api/v1/clusters/{name}": of(status.Cluster{}),
		"PUT /api/v1/clusters/{name}":              {Query: []string{"url"}, Body: fleet.Cluster{}, BodyOptional: true, Status: http.StatusCreated, Answer: Done{}},
		"POST /api/v1/clusters/{name}/credentials": {Body: Kubeconfig{}, Answer: Done{}}, "DELETE /api/v1/clusters/{name}/credentials": done,
		"POST /api/v1/clusters/{name}/rotate-token": done,
		"GET /api/v1/clusters/{name}/installation":  of(registry.Installation{}),
		"POST /api/v1/clusters/{name}/upgrade":      {Query: []string{"version", "adopt"}, Body: UpgradeRequest{}, BodyOptional: true, Status: http.StatusAccepted, Answer: registry.Installation{}},
		"GET /api/v1/upgrades":                      of(UpgradeList{}),
		"POST /api/v1/upgrades":                     {Body: registry.UpgradePlan{}, BodyOptional: true, Status: http.StatusAccepted, Answer: registry.Upgrade{}},
		"POST /api/v1/upgrades/{id}/stop":           upgrade, "POST /api/v1/upgrades/{id}/resume": upgrade,
		"GET /api/v1/clusters/{name}/completeness": {Query: []string{"window"}, Answer: query.Completeness{}},
		"POST /api/v1/clusters/{name}/audit":       {Query: []string{"window", "table", "repair"}, Answer: audit.Report{}},
		"GET /api/v1/clusters/{name}/seed":         of(seed.Signed{}), "POST /api/v1/clusters/{name}/seed/renew": of(seed.Signed{}), "GET /api/v1/seed/key": of(SeedKey{}),

		"GET /api/v1/quarantine":          {Query: []string{"cluster", "table", "kind", "class", "limit", "page"}, Answer: QuarantineList{}},
		"POST /api/v1/quarantine/replay":  {Query: selection, Body: registry.QuarantineFilter{}, BodyOptional: true, Answer: quarantine.Outcome{}},
		"POST /api/v1/quarantine/discard": {Query: append(append([]string{}, selection...), "reason"), Body: DiscardRequest{}, BodyOptional: true, Answer: Discarded{}},

		"GET /api/v1/fleet/{kind}": objects, "GET /api/v1/fleet/{kind}/{name}": objects,
		"POST /api/v1/fleet": {Query: []string{"dryRun", "reason", "correct"}, BodyTypes: []string{mediaYAML, mediaJSON}, Answer: Applied{}},

		"GET /api/v1/prices/ahead":                {Query: []string{"hours", "customer"}, Answer: prices.Ahead{}},
		"POST /api/v1/prices/series/{name}":       {BodyTypes: []string{mediaJSON, mediaCSV}, Answer: prices.Pushed{}},
		"POST /api/v1/prices/simulate":            {Query: []string{"period"}, BodyTypes: []string{mediaYAML, mediaJSON}, Answer: prices.Simulation{}},
		"GET /api/v1/prices/lists/{name}/history": of(PriceHistory{}),

		"GET /api/v1/rates":           {Query: ahead.RatesParameters, Keys: true, Answer: ahead.Rates{}},
		"GET /api/v1/forecast":        {Query: ahead.ForecastParameters, Keys: true, Answer: ahead.Forecasts{}},
		"GET /api/v1/forecast/job":    {Query: []string{"name", "namespace", "cluster", "completions"}, Answer: ahead.JobForecast{}},
		"GET /api/v1/budgets":         of(ahead.BudgetStates{}),
		"GET /api/v1/recommendations": {Query: ahead.RecommendParameters, Keys: true, Answer: ahead.Recommendations{}},
		"POST /api/v1/estimate":       {Query: []string{"cluster", "duration"}, BodyTypes: []string{mediaYAML, mediaJSON}, Answer: ahead.Estimate{}},
		"GET /api/v1/reports/run":     {Query: []string{"name", "group", "namespace", "cluster", "window", "format"}, Answer: ahead.Report{}, AnswerTypes: []string{mediaText, mediaHTML}},

		"GET /api/v1/archive": {Query: []string{"cluster", "day"}, Answer: ArchiveList{}}, "GET /api/v1/archive/{cluster}/{day}": of(ArchivedDay{}),
		"GET /api/v1/archive/verify":                               {Query: []string{"cluster", "day", "place"}, Answer: ArchiveVerified{}},
		"GET /api/v1/books":                                        {Query: []string{"customer", "period"}, Answer: PeriodList{}},
		"GET /api/v1/books/{customer}/chain":                       of(books.Chain{}),
		"GET /api/v1/books/{customer}/log":                         of(ActionList{}),
		"GET /api/v1/books/{customer}/statements/{number}":         statement,
		"GET /api/v1/books/{customer}/statements/{number}/archive": of(books.Seal{}),
		"GET " + bookPath + "/statement":                           statement,
		"GET /api/v1/books/{customer}/lines/{number}/explanation":  {AnswerTypes: []string{"application/gzip"}},
		"GET /api/v1/books/failures":                               {Query: []string{"cluster"}, Answer: FailureList{}},
		"POST /api/v1/books/failures":                              {Body: books.FailureRequest{}, Answer: books.Failure{}},
		"POST /api/v1/books/failures/{id}/dismiss":                 {Body: BookRequest{}, Answer: books.Failure{}},
		"POST /api/v1/books/failures/{id}/reinstate":               {Body: BookRequest{}, Answer: books.Failure{}},
		"GET /api/v1/books/{customer}/refunds":                     of(RefundList{}),
		"POST /api/v1/books/{customer}/refunds":                    {Body: books.RefundRequest{}, Answer: books.Refund{}},
		"POST /api/v1/books/{customer}/refunds/{id}/approve":       {Body: BookRequest{}, Answer: books.Statement{}},
		"POST /api/v1/books/{customer}/refunds/{id}/decline":       {Body: BookRequest{}, Answer: books.Refund{}},
		"POST " + bookPath + "/draft":                              {Body: BookRequest{}, Answer: books.Draft{}},
		"GET " + bookPath + "/review":                              of(books.Review{}),
		"POST " + bookPath + "/review":                             {Body: BookRequest{}, Answer: books.Review{}},
		"POST " + bookPath + "/approve":                            {Body: BookRequest{}, Answer: books.Period{}},
		"POST " + bookPath + "/close":                              {Body: books.CloseRequest{}, Answer: books.Statement{}},
		"GET " + bookPath + "/rerate":                              of(books.Correction{}),
		"POST " + bookPath + "/rerate":                             {Body: BookRequest{}, Answer: books.Correction{}},

		"GET /metrics/allocation": {Query: []string{"cluster"}, AnswerTypes: []string{mediaText}},
		"GET /allocation":         shares, "GET /allocation/compute": shares, "GET /api/v1/allocation": shares, "GET /api/v1/allocation/compute": shares,
		"GET /api/v1/usage":  {Query: question, Keys: true, Answer: query.Answer{}},
		"GET /api/v1/energy": figures(query.EnergyAnswer{}), "GET /api/v1/heat": figures(query.HeatAnswer{}, "days"), "GET /api/v1/carbon": figures(query.CarbonAnswer{}, "days"),
		"GET /api/v1/boxes":         {Query: []string{"window"}, Answer: query.BoxAnswer{}},
		"GET /api/v1/export":        {Query: []string{"period", "format", "requireComplete", "focusVersion", "compression", "customer", "step", "labels"}, Answer: query.Export{}, AnswerTypes: []string{mediaCSV, FilesType}},
		"GET /api/v1/events":        of(EventsAnswer{}),
		"POST /api/v1/events/retry": of(Retried{}),

		"GET /api/v1/meters": of(MeterList{}), "POST /api/v1/meters/{id}/readings": {BodyTypes: []string{mediaJSON, mediaCSV, mediaText}, Answer: Pushed{}},
		"GET /api/v1/models": of(models.Answer{}), "GET /api/v1/models/measure": {Query: []string{"node", "from", "to"}, Answer: models.Measured{}},
		"POST /api/v1/models/calibrations": {Body: CalibrationRequest{}, Answer: models.Changed{}},
		"POST /api/v1/carbon/intensities":  {BodyTypes: []string{mediaCSV}, Answer: Imported{}},
		"POST " + heatReadings:             {BodyTypes: []string{mediaJSON, mediaCSV}, Answer: heat.Receipt{}},
	}
}
