package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/accumulus-metering/accumulus/internal/simulator"
	"github.com/accumulus-metering/accumulus/leader/heat"
	"github.com/accumulus-metering/accumulus/leader/registry"
)

// The tank that box-par heats, and its loop.
const (
	tankName  = "par-tank"
	tankBox   = "box-par"
	tankFlow  = 0.8 // l/min
	tankShare = 0.82
	tankMax   = 60 // °C
	// wattsPerFlowKelvin of water: 1.163 Wh/(l·K) in W per l/min and K.
	wattsPerFlowKelvin = 69.78
)

// tankReading is what the sensors of the tank's loop show.
type tankReading struct {
	Time   time.Time `json:"time"`
	Supply float64   `json:"supply"` // °C
	Return float64   `json:"return"` // °C
	Flow   float64   `json:"flow"`   // l/min
	Store  float64   `json:"store"`  // °C
}

// tankAt is the tank's loop at a moment: it takes up
// tankShare of what the box draws. The tank is drawn from and fills again in six hours, and is full for
// a part of them.
func tankAt(s *simulator.Simulator, at time.Time) tankReading {
	sixth := float64(at.Unix()%21_600) / 21_600
	store := 52 + 10*math.Sin(2*math.Pi*sixth)
	rise := tankShare * s.BoxWatts(tankBox, at) / (wattsPerFlowKelvin * tankFlow)
	round := func(v float64) float64 { return math.Round(v*100) / 100 }
	return tankReading{Time: at, Supply: round(store - 8 + rise), Return: round(store - 8), Flow: tankFlow, Store: round(store)}
}

// fillTank tells the tank's readings of the day before the start.
func (d *Demo) fillTank(ctx context.Context) error {
	var readings []tankReading
	for at := d.state.Live.Add(-historyLength); at.Before(d.state.Live); at = at.Add(schema.Minute) {
		if d.clock.Now().Sub(at) < registry.HeatFinal-time.Hour { // of one that is kept for days, what is final is not told again
			readings = append(readings, tankAt(d.simulated.Simulator, at))
		}
	}
	if len(readings) == 0 {
		return nil
	}
	return d.tellTank(ctx, readings)
}

// runTank tells the tank's reading each minute until ctx ends.
func (d *Demo) runTank(ctx context.Context) error {
	for {
		at, err := clock.Until(ctx, d.clock, schema.Minute)
		if err != nil {
			return nil // the way to stop
		}
		if err := d.tellTank(ctx, []tankReading{tankAt(d.simulated.Simulator, at.UTC())}); err != nil && ctx.Err() == nil {
			d.log.Warn("heat readings are not taken", "source", tankName, "err", err)
		}
	}
}

func (d *Demo) tellTank(ctx context.Context, readings []tankReading) error {
	body, err := json.Marshal(readings)
	if err != nil {
		return fmt.Errorf("readings of %s: %w", tankName, err)
	}
	_, err = heat.New(d.leader.Registry(), d.clock, d.log).Receive(ctx, tankName, "application/json", body)
	return err
}
