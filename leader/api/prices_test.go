package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/prices"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

type fakePrices struct{ *leader }

func (f fakePrices) Push(_ context.Context, series, mediaType string, body []byte) (prices.Pushed, error) {
	if !fleet.SeriesForm(series) {
		return prices.Pushed{}, fmt.Errorf("%q: %w", series, prices.ErrSeries)
	}
	slots, err := prices.ParseSlots(mediaType, body)
	if err != nil {
		return prices.Pushed{}, err
	}
	return prices.Pushed{Series: series, Slots: len(slots)}, f.did("push %d of %s", len(slots), series)
}

func (f fakePrices) Ahead(_ context.Context, hours int, _ string) (prices.Ahead, error) {
	return prices.Ahead{From: now, Series: []prices.AheadSeries{}, TimeOfUse: []prices.AheadTariff{}}, nil
}

func (f fakePrices) Simulate(_ context.Context, period string, objects []fleet.Object) (prices.Simulation, error) {
	if err := fleet.Validate(objects, nil); err != nil {
		return prices.Simulation{}, err
	}
	return prices.Simulation{From: now, Customers: []prices.Amounts{}}, f.did("simulate %s", period)
}

func (f fakePrices) History(_ context.Context, list string) ([]registry.AuditEntry, error) {
	if list == "none" {
		return nil, fmt.Errorf("price list %q: %w", list, registry.ErrNotFound)
	}
	return []registry.AuditEntry{{By: "operator", Reason: "inflation"}}, nil
}

func TestPrices(t *testing.T) {
	s, _ := newServer(t, false)
	const slots, list = `{"slots":[{"from":"2026-11-03T12:00:00Z","to":"2026-11-03T13:00:00Z","price":"0.21"}]}`, `{apiVersion: accumulus.dev/v1, kind: PriceList, metadata: {name: x}, spec: {currency: EUR}}`
	for _, at := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/api/v1/prices/series/spot-nl", slots, 200, `"slots": 1`},
		{"POST", "/api/v1/prices/series/SPOT", slots, 422, "no name of a series"},
		{"POST", "/api/v1/prices/series/spot", `{"slots":[]}`, 422, "Nothing was taken"},
		{"GET", "/api/v1/prices/ahead?hours=48", "", 200, `"timeOfUse"`},
		{"GET", "/api/v1/prices/ahead?hours=0", "", 400, "whole number"},
		{"POST", "/api/v1/prices/simulate?period=2026-10", list, 200, `"customers"`},
		{"POST", "/api/v1/prices/simulate", list, 400, "name a month"},
		{"POST", "/api/v1/prices/simulate?period=2026-10", "{", 422, "apiVersion"},
		{"GET", "/api/v1/prices/lists/standard/history", "", 200, "inflation"},
		{"GET", "/api/v1/prices/lists/none/history", "", 404, "lists the price lists"},
		{"POST", "/api/v1/fleet?reason=inflation", list, 200, "added"},
		{"POST", "/api/v1/fleet?reason=" + strings.Repeat("x", 1001), list, 400, "at most 1000"},
	} {
		answer := call(s, at.method, at.path, operatorToken, at.body)
		if body := text(t, answer); answer.StatusCode != at.status || !strings.Contains(body, at.want) {
			t.Errorf("%s %s: %d %s, want %d with %s", at.method, at.path, answer.StatusCode, body, at.status, at.want)
		}
	}
	if answer := call(s, "POST", "/api/v1/prices/series/spot", viewerToken, slots); answer.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer pushes prices: %d", answer.StatusCode)
	}
}
