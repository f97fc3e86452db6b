package influxsync

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"golang.org/x/sync/errgroup"
)

// Attempts at a write whose failure may pass, and the pause between them: it
// doubles up to its cap and is shortened at random, so that many clusters that
// failed together do not come back together.
const (
	attempts   = 5
	firstPause = 250 * time.Millisecond
	longPause  = 5 * time.Second
)

// attempt posts lines, again and again while the failure may pass. A full disk
// does not pass in seconds: the caller's next turn is soon enough.
func (c *copier) attempt(ctx context.Context, lines []byte) error {
	for try := 1; ; try++ {
		err := c.Sink.post(ctx, lines)
		class := ClassOf(err)
		if err == nil || !class.Passes() || class == DiskFull || try == attempts || ctx.Err() != nil {
			return err
		}
		pause := min(longPause, firstPause<<(try-1))
		pause = pause/2 + rand.N(pause/2)
		if asked := min(retryAfter(err), longPause); asked > pause {
			pause = asked
		}
		if c.pause(ctx, pause) != nil {
			return err
		}
	}
}

func (c *copier) pause(ctx context.Context, d time.Duration) error {
	if c.Pause != nil {
		return c.Pause(ctx, d)
	}
	return clock.System().Sleep(ctx, d)
}

// pump writes what read hands over, in requests of about 1 MB, while read goes
// on reading.
func (c *copier) pump(ctx context.Context, write func(context.Context, []byte) error, read func(context.Context, func(*row) error) error) error {
	group, ctx := errgroup.WithContext(ctx)
	requests, free := make(chan []byte), make(chan []byte, 2) // room for both buffers: who gives one back never waits
	free <- c.buffer()
	group.Go(func() error {
		for lines := range requests {
			if err := write(ctx, lines); err != nil {
				return err
			}
			free <- lines[:0]
		}
		return nil
	})
	group.Go(func() error {
		defer close(requests)
		lines := c.buffer()
		send := func() error {
			select {
			case requests <- lines:
				lines = nil // the writer's
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case lines = <-free:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err := read(ctx, func(r *row) (err error) {
			if lines, err = r.appendLine(lines); err != nil || len(lines) < c.batch() {
				return err
			}
			return send()
		})
		if err == nil && len(lines) > 0 {
			err = send()
		}
		if err == nil {
			free <- lines
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return err // a request that was given up may still be read from its buffer
	}
	for len(free) > 0 {
		c.recycle(<-free)
	}
	return nil
}

// batch is the size of a request: about 1 MB, and less where many parts are
// copied side by side, so that the memory of a call has a bound.
func (c *copier) batch() int {
	return max(batchBytes/8, min(batchBytes, 2*batchBytes/max(1, c.Parallel)))
}

// buffer has room for a request, and for the line that makes it full.
func (c *copier) buffer() []byte {
	select {
	case lines := <-c.spare:
		return lines[:0]
	default:
		return make([]byte, 0, c.batch()+64<<10)
	}
}

func (c *copier) recycle(lines []byte) {
	select {
	case c.spare <- lines:
	default:
	}
}
