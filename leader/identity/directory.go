package identity

import (
	"context"
	"errors"
)

// Source is somebody outside who knows callers by their tokens.
type Source interface {
	// Knows says whether the token is of a kind that the source could know.
	Knows(token string) bool
	// Who is the caller. Errors: ErrUnknown, ErrExpired, ErrNoRole, ErrUnavailable.
	Who(ctx context.Context, token string) (Principal, error)
}

// Directory asks each source that could know a token, in order.
type Directory []Source

// Who is the caller with a token. A source that knows him decides; where one
// cannot be asked and no other knows him, that is the error. Errors: those of a
// Source.
func (d Directory) Who(ctx context.Context, token string) (Principal, error) {
	worst := ErrUnknown
	for _, source := range d {
		if !source.Knows(token) {
			continue
		}
		p, err := source.Who(ctx, token)
		switch {
		case err == nil:
			return p, nil
		case errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrUnknown) && !errors.Is(worst, ErrUnavailable):
			worst = err
		}
	}
	return Anonymous, worst
}
