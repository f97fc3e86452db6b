package leader

import (
	"context"
	"fmt"
	"os"

	"github.com/accumulus-metering/accumulus/leader/fleet"
)

// initialAuthor stands in the registry as who applied the first objects.
const initialAuthor = "initial-file"

// applyInitial applies the fleet file that an installation comes with, where
// nobody has ever changed the fleet. What was changed or removed since is not
// brought back at the next start.
func (l *Leader) applyInitial(ctx context.Context) error {
	if l.config.InitialFile == "" {
		return nil
	}
	changes, err := l.registry.Audit(ctx, 1)
	if err != nil || len(changes) > 0 {
		return err
	}
	text, err := os.ReadFile(l.config.InitialFile)
	if err != nil {
		return fmt.Errorf("initial-file: %w", err)
	}
	objects, err := fleet.Decode(text)
	if err != nil {
		return fmt.Errorf("initial-file %s: %w", l.config.InitialFile, err)
	}
	if _, err := l.registry.Apply(ctx, objects, initialAuthor); err != nil {
		return fmt.Errorf("initial-file %s: %w", l.config.InitialFile, err)
	}
	l.log.Info("initial objects applied", "file", l.config.InitialFile, "objects", len(objects))
	return nil
}
