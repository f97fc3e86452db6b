package influxtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// Group is one server of each kind for all tests of a package, started when
// the first test asks for it. Each test finds it empty, so tests that share one
// do not run side by side. TestMain closes the group. The zero value is ready.
type Group struct {
	mu      sync.Mutex
	members map[Kind]member
}

type member struct {
	process *Process
	err     error
	dir     string
}

// Get is the group's server of that kind, emptied when the test ends. Without
// the program the test is skipped, or fails where the environment says CI=true.
func (g *Group) Get(t testing.TB, kind Kind) *Process {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	m, ok := g.members[kind]
	if !ok {
		if g.members == nil {
			g.members = make(map[Kind]member)
		}
		if m.dir, m.err = os.MkdirTemp("", string(kind)); m.err == nil {
			m.process, m.err = Launch(context.Background(), kind, m.dir, nil)
		}
		g.members[kind] = m
	}
	demand(t, m.err)
	t.Cleanup(func() {
		if err := m.process.Wipe(context.Background()); err != nil {
			t.Errorf("empty the server: %v", err)
		}
	})
	return m.process
}

// Close kills the servers and removes their directories.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, m := range g.members {
		if m.process != nil {
			m.process.Kill()
		}
		errs = append(errs, os.RemoveAll(m.dir))
	}
	g.members = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove servers: %w", err)
	}
	return nil
}

// demand ends the test where there is no server: one that was not made is a
// reason to skip, but not where everything is to be shown.
func demand(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}
