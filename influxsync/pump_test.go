package influxsync

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestPumpEndsWithItsContext: whichever moment the end comes at, and be it that the
// write is done all the same, nobody waits for ever; and a buffer that somebody may
// still read from is given to nobody. It hung where the reader had handed its buffer
// over and went without another one.
func TestPumpEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		for range 200 {
			c := &copier{spare: make(chan []byte, 2)}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := c.pump(ctx, func(context.Context, []byte) error { return nil }, func(_ context.Context, send func(*row) error) error {
				reader := &rowReader{table: "t", sink: "t", each: send}
				return reader.start().answer(bytes.NewReader(numbers()))
			})
			switch {
			case errors.Is(err, context.Canceled) && len(c.spare) == 0:
				ended++
			case err != nil || len(c.spare) != 2:
				t.Fatalf("%d buffers to spare, %v", len(c.spare), err)
			}
		}
		if ended == 0 {
			t.Error("it never ended early")
		}
	})
}
