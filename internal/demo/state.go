package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// state is what a demonstration keeps beside its stores, so that a restart
// meets the same fleet.
type state struct {
	Start time.Time `json:"start"` // of the simulated fleet
	Live  time.Time `json:"live"`  // the minute in which metering began; history ends there
}

// length of the history, and how much older the fleet is.
const (
	historyLength = 24 * time.Hour
	fleetAge      = historyLength + time.Hour
)

// loadState reads the state in dir, or makes it.
func loadState(dir string, now time.Time) (state, error) {
	path := filepath.Join(dir, "demo.json")
	text, err := os.ReadFile(path)
	if err == nil {
		var s state
		if err := json.Unmarshal(text, &s); err != nil {
			return s, fmt.Errorf("read %s: %w", path, err)
		}
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return state{}, fmt.Errorf("read state: %w", err)
	}
	live := now.UTC().Truncate(time.Minute)
	s := state{Start: live.Add(-fleetAge).Truncate(time.Hour), Live: live}
	if text, err = json.MarshalIndent(s, "", "  "); err != nil {
		return s, err
	}
	return s, os.WriteFile(path, append(text, '\n'), 0o600)
}
