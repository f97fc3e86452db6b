package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/identity"
)

// maxBody bounds what a request may carry.
const maxBody = 4 << 20

// Route is one entry of the table.
type Route struct {
	Method  string
	Path    string // as gorilla/mux reads it
	Role    Role   // whom it lets in; without one it is closed to everybody
	Summary string
	handle  func(w http.ResponseWriter, r *http.Request) error
}

// Changes says whether the route changes something.
func (r Route) Changes() bool { return r.Method != http.MethodGet }

// table is every route there is.
func (s *Server) table() []Route {
	const get, post, put, remove = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return append([]Route{
		{get, "/", Nobody, "Status page", s.statusPage},
		{get, "/docs/api", Nobody, "This API, for people", s.docsOfAPI},
		{get, "/openapi.json", Nobody, "This API, for programs: OpenAPI 3.1", s.openAPI},
		{get, "/healthz", Nobody, "The process answers", s.healthz},
		{get, "/livez", Nobody, "No loop hangs", s.livez},
		{get, "/readyz", Nobody, "The first tick is done and each cluster has rows", s.readyz},
		{get, "/metrics", Viewer, "Metrics of the leader, for Prometheus", s.metrics},
		{get, "/metrics/allocation", Viewer, "Prices and allocations of the last settled quarter of an hour, for Prometheus, by the names that OpenCost's boards know; cluster=NAME", s.allocationMetrics},

		{get, "/accumulus", Viewer, "Status of the leader and its clusters", s.overview},
		{post, "/accumulus/start", Operator, "Start the loops", s.start},
		{post, "/accumulus/stop", Operator, "Stop the loops", s.stop},
		{get, "/accumulus/clusters", Viewer, "The clusters", s.clusters},
		{post, "/accumulus/clusters/add/{name}", Operator, "Add a cluster; its body is the spec; without url the context of that name, or context=NAME, of the leader's kubeconfig; adopt=true takes it over from another leader", s.addByName},
		{put, "/accumulus/clusters/add/{name}", Operator, "The same", s.addByName},
		{post, "/accumulus/clusters/remove/{name}", Operator, "Pull to the last settled window, uninstall the follower, remove; the history is kept; force=true also where that fails", s.removeCluster},
		{remove, "/accumulus/clusters/remove/{name}", Operator, "Pull to the last settled window, uninstall the follower, remove; the history is kept; force=true also where that fails", s.removeCluster},
		{post, "/accumulus/clear", Operator, `Delete what was metered; body {"cluster":"NAME","confirm":"NAME"} or {"confirm":"all"}`, s.clear},

		{get, "/api/v1", Viewer | Tenant, "This list; a tenant's has what is open to him", s.index},
		{get, "/api/v1/me", Viewer | Tenant | Feeder, "Who you are to the leader: name, role and scope", s.me},
		{get, "/api/v1/audit", Billing, "Who changed what, newest first; since=24h or TIME, limit, page; verify=true computes the hashes of the log anew", s.changes},
		{get, "/api/v1/tokens", Operator, "Named tokens, without their secrets; revoked=true also those that were revoked", s.tokens},
		{post, "/api/v1/tokens", Operator, `Make a named token; body {"name":"grafana","role":"tenant","scope":{"customers":["acme"]},"expiresIn":"90d"}; the answer alone has its secret`, s.createToken},
		{remove, "/api/v1/tokens/{name}", Operator, "Revoke a named token, from the next request on", s.revokeToken},
		{get, "/api/v1/status", Viewer, "Status of the leader and its clusters", s.overview},
		{get, "/api/v1/clusters", Viewer, "The clusters", s.clusters},
		{get, "/api/v1/clusters/{name}", Viewer, "One cluster", s.cluster},
		{put, "/api/v1/clusters/{name}", Operator, "Add a cluster; its body is the spec", s.addCluster},
		{remove, "/api/v1/clusters/{name}", Operator, "Pull to the last settled window, uninstall the follower, remove; the history is kept; force=true also where that fails", s.removeCluster},
		{post, "/api/v1/clusters/{name}/credentials", Operator, `How the leader reaches the cluster's API server; body {"kubeconfig":"…"}, over TLS or on this machine`, s.setCredentials},
		{remove, "/api/v1/clusters/{name}/credentials", Operator, "Forget how the leader reaches the cluster's API server", s.dropCredentials},
		{post, "/api/v1/clusters/{name}/rotate-token", Operator, "Give the cluster's follower a new token; takes a minute or two", s.rotateToken},
		{get, "/api/v1/clusters/{name}/installation", Viewer, "How the follower's installation is: state, last step, what is wrong and what to do", s.installation},
		{post, "/api/v1/clusters/{name}/upgrade", Operator, `Bring the cluster's follower to the leader's version, or try again; adopt=true takes over what somebody else installed; body {"version":"","adopt":false,"values":{}} or none`, s.upgradeCluster},
		{get, "/api/v1/upgrades", Viewer, "Upgrades of many clusters in waves, the newest first", s.upgrades},
		{post, "/api/v1/upgrades", Operator, `Upgrade all clusters in waves; body {"canaries":2,"waveSize":10,"soak":"1h","maxFailures":1} or {"canary":["NAME"]}`, s.startUpgrade},
		{post, "/api/v1/upgrades/{id}/stop", Operator, "Begin no further cluster of an upgrade", s.stopUpgrade},
		{post, "/api/v1/upgrades/{id}/resume", Operator, "Go on with an upgrade that was stopped; clusters that failed are tried again", s.resumeUpgrade},
		{get, "/api/v1/clusters/{name}/completeness", Viewer, "Node-windows expected, received, audited and rated, and each gap with its reason; window=24h", s.completeness},
		{post, "/api/v1/clusters/{name}/audit", Operator, "Compare the centre with ledger and follower; window=24h, table, repair=true copies again what is wrong; parameters only, no body", s.audit},
		{get, "/api/v1/clusters/{name}/seed", Viewer, "What the cluster's follower may know of the fleet, packed and signed", s.seed},
		{post, "/api/v1/clusters/{name}/seed/renew", Operator, "The same with a higher generation, for a registry that was restored from a copy", s.renewSeed},
		{get, "/api/v1/seed/key", Viewer, "The public key by which followers know the leader's seeds", s.seedKey},
		{get, "/api/v1/quarantine", Viewer, "Rows that were not taken; cluster, table, kind=foreign|refused, class, limit, page", s.quarantined},
		{post, "/api/v1/quarantine/replay", Operator, `Write refused rows again; body {"cluster":"NAME"}, {"ids":[1]} or {"all":true}, or parameters`, s.replay},
		{post, "/api/v1/quarantine/discard", Operator, `Give rows up, on record; as replay, with "reason"`, s.discard},
		{get, "/api/v1/fleet/{kind}", Viewer, "Objects of a kind; at=TIME", s.objects},
		{get, "/api/v1/fleet/{kind}/{name}", Viewer, "One object; at=TIME", s.object},
		{post, "/api/v1/fleet", Billing, "Apply objects (YAML or JSON); dryRun=true only says what would change; reason=TEXT is recorded; correct=true, with a reason, changes prices that have held; the role billing applies price lists alone", s.apply},
		{get, "/api/v1/prices/ahead", Viewer | Tenant, "What is known of the prices of the coming hours: dynamic series, slots of time of use, and the CO2e of a kWh by grid; with customer=NAME what he is charged, which is what a tenant is told; hours=24", s.pricesAhead},
		{post, "/api/v1/prices/series/{name}", Billing, `Slots of a dynamic price; body {"slots":[{"from":"TIME","to":"TIME","price":"0.21"}]}, or text/csv: from, to, price; whole quarters of an hour`, s.pushPrices},
		{post, "/api/v1/prices/simulate", Billing, "What a period would have cost with the price lists in the body (YAML or JSON), by customer; nothing is booked; period=2026-10", s.simulatePrices},
		{get, "/api/v1/rates", Viewer | Tenant, "What is used and spent by the hour now: over the last settled hour and day; aggregate, filter", s.rates},
		{get, "/api/v1/forecast", Viewer | Tenant, "What will have been used and spent by a moment ahead, as P10, P50 and P90, and when an amount will be spent; until=month|7d|TIME, zone, amount=500 EUR, aggregate, filter", s.forecast},
		{get, "/api/v1/forecast/job", Viewer, "When a Job that runs will be done, by how many of its pods have succeeded and how long they took, and what it will have cost; name, namespace, cluster, completions", s.forecastJob},
		{get, "/api/v1/budgets", Viewer | Tenant, "What is spent of each budget in the present month, what is expected by its end, and which thresholds were told", s.budgetStates},
		{get, "/api/v1/recommendations", Viewer | Tenant, "Requests of CPU and memory that fit what workloads used over the last settled day, hardware types and hours that cost less, with what that saves; filter", s.recommendations},
		{post, estimation, Viewer, "What a run of the Job, CronJob or Pod in the body (YAML or JSON) will take and cost, by hardware and starting hour; nothing is stored; cluster, duration=2h where no earlier run is known", s.estimate},
		{get, "/api/v1/reports/run", Viewer | Tenant, "What finished runs used and cost; name of a pod, Job or CronJob, or group=LABEL=VALUE; namespace, cluster, window=7d, format=json|text|html", s.runReport},
		{get, "/api/v1/prices/lists/{name}/history", Viewer, "Who changed a price list, when and why", s.priceHistory},
		{get, "/api/v1/usage", Viewer | Tenant, "Usage, energy and cost; window, aggregate, filter, step, sort, limit, page", s.usage},
		{get, "/allocation", Viewer | Tenant, "Costs and resources by cluster, namespace, controller, label, customer … as OpenCost's API has them; window, aggregate, step, accumulate, includeIdle, shareIdle, idleByNode, filter, shareNamespaces, shareLabels, shareCost, shareSplit, offset, limit, format=json|csv, costMetric, currency", s.allocation},
		{get, "/allocation/compute", Viewer | Tenant, "The same as /allocation", s.allocation},
		{get, "/api/v1/allocation", Viewer | Tenant, "The same as /allocation", s.allocation},
		{get, "/api/v1/allocation/compute", Viewer | Tenant, "The same as /allocation", s.allocation},
		{get, "/api/v1/energy", Viewer | Tenant, "Energy: active, idle, overhead, measured, modelled; residual by box; window, aggregate, filter, step, sort, limit, page, format=json|csv", s.energy},
		{get, "/api/v1/heat", Viewer, "Heat that energy became, and what of it was of use, by box; parameters as of energy; days=true adds sources, households too, by whole days", s.heat},
		{get, "/api/v1/carbon", Viewer | Tenant, "CO2e, location-based, market-based, embodied, and apart from these avoided by box; parameters as of heat", s.carbon},
		{get, "/api/v1/meters", Viewer | Feeder, "How each electricity meter is read: last reading, what is wrong, lag of its clock; with the token of the meters, those that are sent", s.meters},
		{get, "/api/v1/models", Viewer, "Power model of each hardware type: which is in use, its points, its error, and what else there was", s.models},
		{get, "/api/v1/models/measure", Viewer, "Power and load of a node by the meters; node=NAME, from=TIME, to=TIME", s.measure},
		{post, "/api/v1/models/calibrations", Operator, `Power of a node by load, as it was measured; body {"cluster":"NAME","node":"NAME","points":[{"load":50,"utilisation":0.51,"watts":140}],"since":"TIME"}`, s.calibrate},
		{post, "/api/v1/meters/{id}/readings", Operator | Feeder, `Readings of a meter, of now or of the past; JSON {"readings":[{"time":"…","counter":1234.5,"unit":"kWh","watts":410}]}, text/csv with a header, or text/plain line protocol; says of each what became of it; also with the token of the meters, for those whose driver is push`, s.push},
		{get, "/api/v1/boxes", Viewer, "Energy of each box against its meters; window", s.boxes},
		{get, "/api/v1/events", Viewer, "What a webhook was told of usage: counts by state, and the oldest events that are pending or were refused", s.usageEvents},
		{post, "/api/v1/events/retry", Operator, "Send the refused events again, with their ids", s.retryEvents},
		{get, "/api/v1/export", Viewer | Tenant, "Cost by customer, cluster, namespace and resource; with the completeness of the period; period=2026-11, format=csv|json, requireComplete=true; format=focus|opencost-csv is a tar of files, with focusVersion=1.4|1.2, compression=gzip|none|parquet, customer, step=1d|1h, labels=app,team for opencost-csv", s.export},
		{post, "/api/v1/carbon/intensities", Operator, "Import the CO2e of a kWh by zone and time; its body is CSV: zone, from, grams_per_kwh, and to, estimated, source", s.importIntensities},
		{post, heatReadings, Operator, "Take readings of a heat source, JSON or CSV: time, supply, return, flow, store; also with the source's own token", s.pushHeat},
	}, append(s.bookRoutes(), s.archiveRoutes()...)...)
}

// guard lets in who has the role, bounds the body and what a tenant may see,
// counts, and turns errors into problems.
func (s *Server) guard(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := s.deps.Clock.Now()
		recorder := &recorder{ResponseWriter: w, status: http.StatusOK}
		r.Body = http.MaxBytesReader(recorder, r.Body, maxBody)
		if r, err := s.letIn(r, route); err != nil {
			s.logRefused(r, route, err)
			s.refuse(recorder, r, err)
		} else {
			s.logged(recorder, r, route)
		}
		s.requests.WithLabelValues(route.Path, methodLabel(r.Method), strconv.Itoa(recorder.status)).Inc()
		s.duration.WithLabelValues(route.Path).Observe(s.deps.Clock.Now().Sub(began).Seconds())
	})
}

// carryOut lets the handler answer.
func (s *Server) carryOut(w *recorder, r *http.Request, route Route) {
	if err := route.handle(w, r); err != nil {
		s.fail(w, r, err)
	}
}

// methodLabel keeps a caller from inventing values of a metric's label.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return method
	}
	return "other"
}

// fail answers with a problem. After the first byte of a body it can only
// break the connection, so that the caller does not take a part for the whole.
func (s *Server) fail(w *recorder, r *http.Request, err error) {
	problem := problemOf(err)
	if problem.Status == http.StatusInternalServerError && identity.Of(r.Context()).Role == Tenant { // it may name what is another's
		problem.Detail, problem.Hint = "the answer could not be made", "Ask again; the operator finds the reason in the leader's log."
	}
	if problem.Status == http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
	}
	if w.wrote {
		panic(http.ErrAbortHandler)
	}
	writeProblem(w, r, problem)
}

// wrongMethod answers every method that a path does not have.
func (s *Server) wrongMethod(route Route, methods []string, changing bool) http.Handler {
	role := min(route.Role.Least(), Viewer) | route.Role&(Tenant|Feeder)
	return s.guard(Route{Path: route.Path, Role: role, handle: func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		problem := Problem{Status: http.StatusMethodNotAllowed, Detail: r.Method + " is not a method of " + r.URL.Path,
			Hint: "Use " + strings.Join(methods, " or ") + "."}
		if changing && r.Method == http.MethodGet {
			problem.Detail = "this endpoint changes state: GET is not allowed and nothing was changed"
			problem.Hint = "Use " + strings.Join(methods, " or ") + ", for example: curl -X " + methods[0] + " -H \"Authorization: Bearer $TOKEN\" …" + r.URL.Path
		}
		writeProblem(w, r, problem)
		return nil
	}})
}

func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) error {
	writeProblem(w, r, Problem{Status: http.StatusNotFound, Detail: "no such endpoint", Hint: "GET /api/v1 lists all endpoints."})
	return nil
}

// strangePath answers a path that would lead elsewhere.
func (s *Server) strangePath(w http.ResponseWriter, r *http.Request) error {
	writeProblem(w, r, Problem{Status: http.StatusBadRequest, Detail: "the path has a name with a slash, an empty one, or one that is . or ..",
		Hint: "No name has a slash: send the path as GET /api/v1 lists it, with one name in the place of each {…}."})
	return nil
}

// secure sets the headers that every answer carries.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// recorder remembers the status and whether a body was begun.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status, r.wrote = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(body []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(body)
}

// Unwrap gives http.ResponseController the writer beneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func writeJSON(w http.ResponseWriter, status int, body any) error {
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller is gone: nobody is left to tell
	return nil
}
