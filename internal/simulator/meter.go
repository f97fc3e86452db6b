package simulator

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
)

// meterServer is a meter that answers over HTTP: a Shelly (Switch.GetStatus of the
// second generation, /status of the first), a Tasmota plug or a HomeWizard. It asks
// for no password and is not encrypted, as delivered.
type meterServer struct {
	sim   *Simulator
	clock clock.Clock
	box   *Box
	meter Meter
	url   string
	fault faults
}

func (m *meterServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := m.clock.Now()
	fault, _ := m.fault.get()
	fault.Down = fault.Down || m.meter.DeadAt(now)
	if !fault.begin(w, r, now) {
		return
	}
	if fault.Status == http.StatusForbidden {
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	at := fault.moment(m.clock.Now())
	var answer any
	status := http.StatusOK
	switch {
	case m.meter.Kind == Tasmota && r.URL.Path == "/cm" && r.URL.Query().Get("cmnd") == "Status 8":
		answer = m.tasmota(at, at.Add(fault.Offset))
	case m.meter.Kind == HomeWizard && r.URL.Path == "/api/v1/data":
		answer = m.homeWizard(at)
	case m.meter.Kind != "":
		http.NotFound(w, r)
		return
	case m.meter.Generation == 1 && r.URL.Path == "/status":
		answer = m.first(at, at.Add(fault.Offset))
	case r.URL.Path == "/shelly":
		answer = m.about()
	case m.meter.Generation != 1 && r.URL.Path == "/rpc/Switch.GetStatus":
		answer, status = m.rpc(r, at, at.Add(fault.Offset))
	case m.meter.Generation != 1 && r.URL.Path == "/rpc" && r.Method == http.MethodPost:
		answer, status = m.call(r, at, at.Add(fault.Offset))
	default:
		http.NotFound(w, r)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if status != http.StatusOK {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body)
		return
	}
	fault.write(w, "application/json", body)
}

func (m *meterServer) watts(at time.Time) float64 {
	return m.sim.meterWatts(m.box, m.meter, at)
}

// meterWatts is what the meter shows of the power at a moment.
func (s *Simulator) meterWatts(b *Box, m Meter, at time.Time) float64 {
	watts := 0.0
	if m.Node == "" {
		watts = s.BoxWatts(b.Name, at)
		for _, other := range m.Beside {
			watts += s.BoxWatts(other, at)
		}
	} else if n := s.node(m.Cluster, m.Node); n.alive(at) {
		watts = n.watts(s.rate(m.Cluster, n, at))
	}
	return watts * m.share() * m.gain()
}

// tasmota is the answer to Status 8; its time is UTC without a zone.
func (m *meterServer) tasmota(at, shown time.Time) any {
	watts := m.watts(at)
	return map[string]any{"StatusSNS": map[string]any{"Time": shown.UTC().Format("2006-01-02T15:04:05"), "ENERGY": map[string]any{
		"TotalStartTime": m.box.Since.UTC().Format("2006-01-02T15:04:05"), "Total": m.kilowattHours(at), "Yesterday": 0.0, "Today": 0.0,
		"Power": int64(math.Round(watts)), "ApparentPower": int64(math.Round(watts * 1.04)), "ReactivePower": int64(math.Round(watts * 0.28)),
		"Factor": 0.96, "Voltage": 231, "Current": round(watts*1.04/231, 3)}}}
}

// homeWizard is a socket's data.
func (m *meterServer) homeWizard(at time.Time) any {
	watts := m.watts(at)
	total := m.kilowattHours(at)
	return map[string]any{"wifi_ssid": "boxes", "wifi_strength": 88, "total_power_import_kwh": total, "total_power_import_t1_kwh": total,
		"total_power_export_kwh": 0, "total_power_export_t1_kwh": 0, "active_power_w": round(watts, 3), "active_power_l1_w": round(watts, 3)}
}

// kilowattHours writes the counter, whose step is a Wh, as kWh with three decimals.
func (m *meterServer) kilowattHours(at time.Time) json.Number {
	wh := m.sim.meterCounter(m.box, m.meter, at) / 3_600_000
	return json.Number(fmt.Sprintf("%d.%03d", wh/1000, wh%1000))
}

func (m *meterServer) about() any {
	if m.meter.Generation == 1 {
		return map[string]any{"type": "SHPLG-S", "mac": m.mac(), "auth": false, "fw": "20230913-113421/v1.14.0-gcb84623", "num_meters": 1}
	}
	return map[string]any{"id": "shellyplusplugs-" + m.mac(), "mac": m.mac(), "model": "SNPL-00112EU", "gen": 2, "ver": "1.4.4", "auth_en": false}
}

func (m *meterServer) mac() string {
	sum := hash(m.sim.fleet.Seed, "mac", m.box.Name, m.meter.Name)
	return fmt.Sprintf("%X", sum[:6])
}

// first is the first generation's status: W and Watt-minutes.
func (m *meterServer) first(at, shown time.Time) any {
	watts := round(m.watts(at), 2)
	total := m.sim.meterCounter(m.box, m.meter, at) / 60_000
	return map[string]any{
		"wifi_sta": map[string]any{"connected": true, "ssid": "boxes", "ip": "127.0.0.1", "rssi": -55},
		"unixtime": shown.Unix(), "time": shown.UTC().Format("15:04"), "serial": 1, "has_update": false, "mac": m.mac(),
		"relays": []any{map[string]any{"ison": true, "has_timer": false, "overpower": false, "source": "http"}},
		"meters": []any{map[string]any{"power": watts, "overpower": 0.0, "is_valid": true, "timestamp": shown.Unix(),
			"counters": []float64{watts, watts, watts}, "total": total}},
		"temperature": 31.4, "overtemperature": false, "uptime": int64(at.Sub(m.box.Since).Seconds()),
	}
}

// second is the second generation's status of a switch: W, and Wh with three
// decimals.
func (m *meterServer) second(at, shown time.Time) any {
	watts := m.watts(at)
	minute := at.Truncate(time.Minute)
	past := func(n int) float64 { // mWh in the n-th last whole minute
		to := minute.Add(-time.Duration(n-1) * time.Minute)
		grown := m.sim.meterJoules(m.box, m.meter, to) - m.sim.meterJoules(m.box, m.meter, to.Add(-time.Minute))
		return round(grown*m.meter.gain()/3.6, 3)
	}
	return map[string]any{
		"id": m.meter.Channel, "source": "init", "output": true,
		"apower": round(watts, 1), "voltage": 230.0, "freq": 50.0, "current": round(watts/230, 3), "pf": 1.0,
		"aenergy": map[string]any{"total": json.Number(wattHours(m.sim.meterCounter(m.box, m.meter, at))),
			"by_minute": []float64{past(1), past(2), past(3)}, "minute_ts": shown.Truncate(time.Minute).Unix()},
		"temperature": map[string]any{"tC": 31.4, "tF": 88.5},
	}
}

// rpc answers GET with ?id= and POST with {"id":}.
func (m *meterServer) rpc(r *http.Request, at, shown time.Time) (any, int) {
	id, err := 0, error(nil)
	if r.Method == http.MethodPost {
		var params struct {
			ID int `json:"id"`
		}
		err = json.NewDecoder(r.Body).Decode(&params)
		id = params.ID
	} else {
		id, err = strconv.Atoi(r.URL.Query().Get("id"))
	}
	if err != nil {
		return map[string]any{"code": -103, "message": "Invalid argument 'id', value or type mismatch!"}, http.StatusInternalServerError
	}
	if id != m.meter.Channel {
		return map[string]any{"code": -105, "message": fmt.Sprintf("Argument 'id', value %d not found!", id)}, http.StatusInternalServerError
	}
	return m.second(at, shown), http.StatusOK
}

// call answers a JSON-RPC frame.
func (m *meterServer) call(r *http.Request, at, shown time.Time) (any, int) {
	var frame struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			ID int `json:"id"`
		} `json:"params"`
	}
	if err := json.NewDecoder(r.Body).Decode(&frame); err != nil {
		return map[string]any{"code": -103, "message": "Invalid argument 'json': not a valid frame"}, http.StatusBadRequest
	}
	answer := map[string]any{"id": frame.ID, "src": "shellyplusplugs-" + m.mac()}
	switch {
	case frame.Method != "Switch.GetStatus":
		answer["error"] = map[string]any{"code": 404, "message": "No handler for " + frame.Method}
	case frame.Params.ID != m.meter.Channel:
		answer["error"] = map[string]any{"code": -105, "message": fmt.Sprintf("Argument 'id', value %d not found!", frame.Params.ID)}
	default:
		answer["result"] = m.second(at, shown)
	}
	return answer, http.StatusOK
}

// wattHours writes mJ as Wh with three decimals, floored, without a float.
func wattHours(millijoules int64) string {
	milli := millijoules / 3600
	return fmt.Sprintf("%d.%03d", milli/1000, milli%1000)
}

func round(x float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(x*scale) / scale
}
