package influxsync

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// Texts of times are those of strconv, whatever stood in their place before.
func TestTimeTexts(t *testing.T) {
	var texts timeTexts
	random := rand.New(rand.NewPCG(1, 2))
	times := []int64{0, 0, -1, math.MinInt64, math.MaxInt64, math.MinInt64}
	for range 10_000 {
		times = append(times, random.Int64N(2_000)*time.Minute.Nanoseconds(), int64(random.Uint64()))
	}
	for _, at := range times {
		if got, want := string(texts.append([]byte("x "), at)), "x "+strconv.FormatInt(at, 10); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}
