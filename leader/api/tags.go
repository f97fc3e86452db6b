package api

import (
	"slices"
	"strings"
)

// tag is a part of the API: its table of contents, and the tags of the OpenAPI document.
type tag struct {
	Name, Text string
	paths      []string // that begin so, each whole or up to a slash
}

// tags are in the order in which people look for them. The longest path decides.
var tags = []tag{
	{"Status and pages", "Probes, the pages, and what the leader says of itself", []string{"/docs", "/openapi.json", "/healthz", "/livez", "/readyz", "/api/v1/status", "/api/v1/me"}},
	{"Usage and cost", "What was used, and what it costs", []string{"/api/v1/usage", "/api/v1/export", "/api/v1/events"}},
	{"Allocation", "As OpenCost's API has it", []string{"/allocation", "/api/v1/allocation"}},
	{"Energy, heat, carbon", "Of boxes, nodes and pods", []string{"/api/v1/energy", "/api/v1/heat", "/api/v1/carbon", "/api/v1/boxes"}},
	{"Electricity meters and models", "How meters are read, and what power follows from load", []string{"/api/v1/meters", "/api/v1/models"}},
	{"Prices", "Price lists, series and simulations", []string{"/api/v1/prices"}},
	{"Books", "Billing periods, statements, corrections and refunds", []string{"/api/v1/books"}},
	{"Rates, forecasts, runs, budgets", "What is spent now, and what will be", []string{"/api/v1/rates", "/api/v1/forecast", "/api/v1/budgets", "/api/v1/recommendations", "/api/v1/estimate", "/api/v1/reports"}},
	{"Fleet", "The objects that describe it", []string{"/api/v1/fleet"}},
	{"Clusters", "Clusters, their followers and upgrades", []string{"/api/v1/clusters", "/api/v1/upgrades", "/api/v1/seed"}},
	{"Archive and quarantine", "Settled days, and rows that were not taken", []string{"/api/v1/archive", "/api/v1/quarantine"}},
	{"Access and audit", "Named tokens, and who changed what", []string{"/api/v1/tokens", "/api/v1/audit"}},
	{"Metrics", "For Prometheus", []string{"/metrics"}},
	{"Routes of the first version", "Paths below /accumulus", []string{"/accumulus"}},
}

// tagOf is the index of a path's tag, -1 where none has it.
func tagOf(path string) int {
	if path == "/" || path == "/api/v1" { // what all others begin with
		return 0
	}
	found, longest := -1, 0
	for i, t := range tags {
		for _, begin := range t.paths {
			rest, is := strings.CutPrefix(path, begin)
			if is && (rest == "" || rest[0] == '/') && len(begin) > longest {
				found, longest = i, len(begin)
			}
		}
	}
	return found
}

// anchor is how a page's links name a part.
func anchor(text string) string {
	return strings.ToLower(strings.Trim(notOfIDs.ReplaceAllString(text, "-"), "-"))
}

// docsTag is a part of the page with its routes.
type docsTag struct {
	tag
	Anchor string
	Routes []docsRoute
}

// grouped are routes by their tags; a tag without routes is none.
func grouped(routes []docsRoute) []docsTag {
	all := make([]docsTag, len(tags))
	for i, t := range tags {
		all[i] = docsTag{tag: t, Anchor: anchor(t.Name)}
	}
	for _, route := range routes {
		if i := tagOf(route.Path); i >= 0 {
			all[i].Routes = append(all[i].Routes, route)
		}
	}
	return slices.DeleteFunc(all, func(t docsTag) bool { return len(t.Routes) == 0 })
}
