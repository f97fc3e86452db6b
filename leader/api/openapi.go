package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/identity"
)

// Doc says what a route takes and answers, for the OpenAPI document.
type Doc struct {
	Query        []string // names of parameters; see parameterDocs
	Keys         bool     // each key of usage is a parameter too
	Body         any      // a value of the type of a JSON body; nil is none
	BodyTypes    []string // media types of a body that is no JSON
	BodyOptional bool
	Status       int      // of success; 0 = 200
	Tagged       bool     // it may have an ETag, and answer 304
	Answer       any      // a value of the type of a JSON answer; nil is none
	AnswerTypes  []string // media types of answers that are no JSON
}

// parameterDoc is a parameter wherever it stands.
type parameterDoc struct {
	text   string
	schema object
}

var (
	anyText = object{"type": "string"}
	flag    = object{"type": "boolean", "default": false}
	instant = object{"type": "string", "format": "date-time"}
	count   = object{"type": "integer", "minimum": 1}
)

func oneOf(values ...string) object { return object{"type": "string", "enum": values} }

// parameterDocs are all parameters: a name means the same wherever it stands.
var parameterDocs = map[string]parameterDoc{
	"window":          {"Time to look at: 24h, 7d, today, yesterday, month, lastmonth, 2026-11, or FROM,TO in RFC 3339", anyText},
	"day":             {"UTC day, such as 2026-11-27", anyText},
	"place":           {"bucket verifies the copy there, and not the leader's directory", anyText},
	"period":          {"Month such as 2026-11, or a window", anyText},
	"aggregate":       {"Keys to add up by, with commas: cluster, node, namespace, workload, pod, container, customer, project, user, label:NAME and more", anyText},
	"filter":          {"key=value1,value2; * is any run of characters; as often as wanted, all must hold", object{"type": "array", "items": anyText}},
	"step":            {"Length of a row's time, such as 15m, 1h, 1d", anyText},
	"sort":            {"Column to sort by, with - before it for descending", anyText},
	"limit":           {"Rows on a page", count},
	"page":            {"The value of next in the answer before", anyText},
	"completeness":    {"Say also what of the clusters is missing in the window", flag},
	"format":          {"Form of the answer", anyText},
	"until":           {"Moment ahead: month (its end), a length such as 7d, or a time in RFC 3339", anyText},
	"amount":          {"Amount of which is asked when it will be spent, such as 500 EUR", anyText},
	"completions":     {"How many pods of the Job must succeed; without it as many as in earlier runs", count},
	"zone":            {"IANA time zone in which a month ends", anyText},
	"duration":        {"How long the job takes, such as 90m, where no earlier run is known", anyText},
	"name":            {"Name of a pod, Job or CronJob", anyText},
	"group":           {"LABEL=VALUE of the runs that belong together", anyText},
	"namespace":       {"Namespace", anyText},
	"days":            {"Add sources of heat by whole days", flag},
	"requireComplete": {"409 if something of the period is missing", flag},
	"focusVersion":    {"Version of FOCUS", oneOf("1.4", "1.2")},
	"compression":     {"Of the files", oneOf("gzip", "none", "parquet")},
	"labels":          {"Names of pods' labels, with commas, each a column of opencost-csv; * is one column of all", anyText},
	"customer":        {"Only this customer", anyText},
	"cluster":         {"Only this cluster", anyText},
	"table":           {"Only this table", anyText},
	"kind":            {"Only rows of this kind", oneOf("foreign", "refused")},
	"class":           {"Only rows that were refused for this reason", anyText},
	"ids":             {"Numbers of rows, with commas", anyText},
	"all":             {"All rows", flag},
	"reason":          {"Why", anyText},
	"at":              {"Moment at which the objects hold", instant},
	"history":         {"Every version", flag},
	"dryRun":          {"Only say what would change", flag},
	"force":           {"Also where pulling or uninstalling fails", flag},
	"url":             {"Where the cluster's follower is", anyText},
	"context":         {"Context of the leader's kubeconfig", anyText},
	"adopt":           {"Take over from another leader, or what somebody else installed", flag},
	"version":         {"Of the chart; none is the leader's own", anyText},
	"accumulate":      {"true is one set of the whole window; false, hour, day", anyText},
	"resolution":      {"Taken and not needed: usage is exact", anyText},
	"includeIdle":     {"Tell what nobody was charged", flag},
	"idle":            {"The same as includeIdle", flag},
	"shareIdle":       {"Share it: true or weighted by cost, even by name", anyText},
	"idleByNode":      {"Idle by node, and not by cluster", flag},
	"splitIdle":       {"The same as idleByNode", flag},
	"shareNamespaces": {"Namespaces whose cost the others share, with commas", anyText},
	"shareLabels":     {"Labels whose cost the others share, as name:value,name:value", anyText},
	"shareCost":       {"A cost of a month of 730 hours that all share", anyText},
	"shareSplit":      {"How: weighted by cost, or even by name", oneOf("weighted", "even")},
	"offset":          {"Names to leave out at the start", object{"type": "integer", "minimum": 0}},
	"costMetric":      {"Taken as OpenCost has it: cumulative", anyText},
	"currency":        {"Which, where there are several", anyText},
	"hours":           {"How far ahead", count},
	"correct":         {"Change prices that have held; with a reason", flag},
	"repair":          {"Copy again what is wrong", flag},
	"node":            {"Node, or CLUSTER/NODE", anyText},
	"from":            {"Start", instant},
	"to":              {"End", instant},
	"since":           {"Since when: 24h, 7d, or a time", anyText},
	"verify":          {"Compute the hashes of the whole log anew", flag},
	"revoked":         {"Also those that were revoked", flag},
}

var inPath = regexp.MustCompile(`\{([a-z]+)\}`)

// document is the OpenAPI document of the routes. A route without a Doc is an
// error: nothing is open that is not described.
func (s *Server) document(strict bool) (object, error) {
	made := &schemas{strict: strict, components: object{}}
	docs := described()
	paths := object{}
	problem := made.component(reflect.TypeFor[Problem]())
	for _, route := range s.routes {
		doc, ok := docs[route.Method+" "+route.Path]
		if !ok {
			return nil, fmt.Errorf("route %s %s is not described: say what it takes and answers in api.described", route.Method, route.Path)
		}
		path, _ := paths[route.Path].(object)
		if path == nil {
			path = object{}
			paths[route.Path] = path
		}
		operation, err := made.operation(route, doc)
		if err != nil {
			return nil, err
		}
		path[strings.ToLower(route.Method)] = operation
	}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "Accumulus leader", "version": s.config.Version, "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Usage, energy, carbon and cost of a fleet of Kubernetes clusters. x-roles says whom a route lets in."},
		"servers": []object{{"url": "/"}},
		"tags":    tagObjects(),
		"paths":   paths,
		"components": object{"schemas": made.components,
			"securitySchemes": object{"bearer": object{"type": "http", "scheme": "bearer", "description": "a token of the leader's directory, a named token, an OpenID Connect token, or one of the leader's own cluster"}},
			"responses":       object{"Problem": object{"description": "What is wrong and what to do about it (RFC 9457)", "content": object{"application/problem+json": object{"schema": problem}}}}},
	}, nil
}

var notOfIDs = regexp.MustCompile(`[^A-Za-z0-9]+`)

// operation is one route.
func (s *schemas) operation(route Route, doc Doc) (object, error) {
	parameters := []object{}
	for _, found := range inPath.FindAllStringSubmatch(route.Path, -1) {
		parameters = append(parameters, object{"name": found[1], "in": "path", "required": true, "schema": anyText})
	}
	for _, name := range doc.Query {
		p, ok := parameterDocs[name]
		if !ok {
			return nil, fmt.Errorf("route %s %s: the parameter %s is not described in api.parameterDocs", route.Method, route.Path, name)
		}
		parameters = append(parameters, object{"name": name, "in": "query", "description": p.text, "schema": p.schema})
	}
	if doc.Keys {
		for _, key := range usage.Keys {
			parameters = append(parameters, object{"name": string(key), "in": "query", "schema": anyText, "description": "Only this " + string(key) + ", as filter " + string(key) + "=…"})
		}
	}
	failed := object{"$ref": "#/components/responses/Problem"}
	responses := object{strconv.Itoa(doc.status()): s.answer(doc), "default": failed, "429": failed}
	if doc.Tagged {
		responses["304"] = object{"description": http.StatusText(http.StatusNotModified)}
	}
	operation := object{"operationId": strings.Trim(notOfIDs.ReplaceAllString(strings.ToLower(route.Method)+route.Path, "_"), "_"), "summary": route.Summary,
		"parameters": parameters, "responses": responses, "x-roles": rolesOf(route)}
	i := tagOf(route.Path)
	if i < 0 {
		return nil, fmt.Errorf("route %s %s has no tag: give its path to one in api.tags", route.Method, route.Path)
	}
	operation["tags"] = []string{tags[i].Name}
	if route.Role.Least() != Nobody {
		operation["security"] = []object{{"bearer": []string{}}}
		responses["401"], responses["403"] = failed, failed
	}
	if content := s.body(doc); len(content) > 0 {
		operation["requestBody"] = object{"required": !doc.BodyOptional, "content": content}
	}
	return operation, nil
}

// tagObjects are the tags as the document lists them.
func tagObjects() []object {
	all := make([]object, len(tags))
	for i, t := range tags {
		all[i] = object{"name": t.Name, "description": t.Text}
	}
	return all
}

// rolesOf are the names of the roles that a route lets in.
func rolesOf(route Route) []string {
	names := []string{}
	for name, role := range identity.Named {
		if route.Role.Admits(role) {
			names = append(names, name)
		}
	}
	if route.Role.Admits(Nobody) {
		names = append(names, Nobody.String())
	}
	slices.Sort(names)
	return names
}

func (d Doc) status() int {
	if d.Status == 0 {
		return http.StatusOK
	}
	return d.Status
}

func (s *schemas) body(doc Doc) object {
	return s.content(doc.Body, doc.BodyTypes, true)
}

// content is what a body may be: a type as JSON, and other media. asked says that it
// is a request's.
func (s *schemas) content(of any, others []string, asked bool) object {
	content := object{}
	if of != nil {
		content["application/json"] = object{"schema": s.of(reflect.TypeOf(of), asked)}
	}
	for _, media := range others {
		content[media] = object{"schema": mediaSchema(media)}
	}
	return content
}

func (s *schemas) answer(doc Doc) object {
	return object{"description": http.StatusText(doc.status()), "content": s.content(doc.Answer, doc.AnswerTypes, false)}
}

// mediaSchema is what is said of a body that is no JSON of ours.
func mediaSchema(media string) object {
	if media == "application/json" || media == "application/yaml" {
		return object{}
	}
	return object{"type": "string"}
}

// openAPI serves the document, which was made at the start.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.spec) // the caller is gone: nobody is left to tell
	return nil
}

// makeDocs makes the document and its page.
func (s *Server) makeDocs() error {
	document, err := s.document(false)
	if err != nil {
		return err
	}
	if s.spec, err = json.MarshalIndent(document, "", " "); err != nil {
		return fmt.Errorf("write the OpenAPI document: %w", err)
	}
	s.docs, err = newDocsPage(s.config.Version, s.routes)
	return err
}
