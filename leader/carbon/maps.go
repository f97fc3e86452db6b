package carbon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/roots"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// maxAnswer bounds the body of an answer: a day has 24 values, of 5 minutes 288.
const maxAnswer = 4 << 20

// mapsClient asks an API in the shape of Electricity Maps' v3.
type mapsClient struct{ base *http.Client }

// mapsValue is one value. All but the intensity and its time is optional.
type mapsValue struct {
	Zone             string      `json:"zone"`
	CarbonIntensity  json.Number `json:"carbonIntensity"` // g/kWh; null where it is not known
	Datetime         string      `json:"datetime"`
	FactorType       string      `json:"emissionFactorType"`
	IsEstimated      bool        `json:"isEstimated"`
	EstimationMethod string      `json:"estimationMethod"`
	Granularity      string      `json:"temporalGranularity"`
}

// latest, history and past are the three questions.
func (c mapsClient) latest(ctx context.Context, g fleet.Grid) ([]registry.Intensity, error) {
	return c.ask(ctx, g, "latest", nil)
}

// history is the last 24 hours.
func (c mapsClient) history(ctx context.Context, g fleet.Grid) ([]registry.Intensity, error) {
	return c.ask(ctx, g, "history", nil)
}

// past is one moment's value.
func (c mapsClient) past(ctx context.Context, g fleet.Grid, at time.Time) ([]registry.Intensity, error) {
	return c.ask(ctx, g, "past", url.Values{"datetime": {at.UTC().Format(time.RFC3339)}})
}

func (c mapsClient) ask(ctx context.Context, g fleet.Grid, question string, values url.Values) (_ []registry.Intensity, err error) {
	if values == nil {
		values = make(url.Values)
	}
	values.Set("zone", g.Zone)
	if g.Factors != "" {
		values.Set("emissionFactorType", g.Factors)
	}
	address := strings.TrimRight(g.URL, "/") + "/v3/carbon-intensity/" + question
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+values.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	request.Header.Set("Accept", "application/json")
	if g.TokenFile != "" {
		token, err := os.ReadFile(g.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("token of grid %s: %w", g.Name, err)
		}
		request.Header.Set("auth-token", strings.TrimSpace(string(token)))
	}
	client, err := roots.Client(c.base, g.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA of grid %s: %w", g.Name, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", address, err)
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("ask %s: %s: the token in %s does not open zone %s", address, response.Status, g.TokenFile, g.Zone)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("ask %s: %s: %.200q", address, response.Status, body)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("ask %s: the answer is longer than %d bytes", address, maxAnswer)
	}
	list, err := decodeMaps(body, g)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", address, err)
	}
	return list, nil
}

// decodeMaps reads an answer: one value, or {"history": [values]}. Values that are
// null are left out. Of another zone or other factors than were asked it is an
// error.
func decodeMaps(body []byte, g fleet.Grid) ([]registry.Intensity, error) {
	var answer struct {
		mapsValue
		History []mapsValue `json:"history"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	values := answer.History
	if values == nil {
		values = []mapsValue{answer.mapsValue}
	}
	if answer.Zone != "" && answer.Zone != g.Zone {
		return nil, fmt.Errorf("it is of zone %q, asked was %q", answer.Zone, g.Zone)
	}
	var list []registry.Intensity
	for _, value := range values {
		if value.Zone != "" && value.Zone != g.Zone {
			return nil, fmt.Errorf("it is of zone %q, asked was %q", value.Zone, g.Zone)
		}
		if value.FactorType != "" && value.FactorType != g.FactorsOrDefault() {
			return nil, fmt.Errorf("its factors are %q, asked were %q", value.FactorType, g.FactorsOrDefault())
		}
		if value.CarbonIntensity == "" {
			continue
		}
		one, err := value.intensity(g)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b registry.Intensity) int { return a.At.Compare(b.At) })
	return list, nil
}

func (v mapsValue) intensity(g fleet.Grid) (registry.Intensity, error) {
	at, err := moment(v.Datetime)
	if err != nil {
		return registry.Intensity{}, fmt.Errorf("datetime: %w", err)
	}
	length, known := map[string]time.Duration{"": time.Hour, "hourly": time.Hour, "15_minutes": 15 * time.Minute, "5_minutes": 5 * time.Minute,
		"daily": 24 * time.Hour}[v.Granularity]
	if !known {
		return registry.Intensity{}, fmt.Errorf("temporalGranularity %q is not known", v.Granularity)
	}
	mg, err := milligrams(v.CarbonIntensity.String())
	if err != nil {
		return registry.Intensity{}, err
	}
	origin := "Electricity Maps " + g.Zone + ", " + g.FactorsOrDefault()
	return registry.Intensity{At: at, Until: at.Add(length), Milligram: mg, Estimated: v.IsEstimated, Origin: origin}, nil
}
