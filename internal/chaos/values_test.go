package chaos

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// Names and values that line protocol, InfluxQL and msgpack treat in ways of
// their own.
var (
	tableNames = []string{"plain", "a b", "a,b=c", `quo"te`, "it's", "日本", "select", "/.*/", "; DROP"}
	tagNames   = []string{"node", "pod uid", "k=v", "a,b", "ключ", `"`, "it's", "from", "name"}
	fieldNames = []string{"value", "v w", "x,y", "u=v", "größe", `quo"ted`, "it's", "cluster_", "count", "select", "::field"}
	tagValues  = []string{"", "a", "b", "a b", "a,b", "a=b", `quo"te`, "it's", "#", "ü €", "日本", `a\b`, `\x`, `x\\y`, "; DROP DATABASE minute",
		`' OR ''='`, "*", "/.*/", "::tag", "true", "1i", "-- c", " lead and trail ", strings.Repeat("long ", 60)}
	texts = []string{"", "x", "a \"quoted\" \\ text", "two\nlines\r\n", "ends with \\", "a,b=c d", "\t", "☃ ключ", "true", "1i", "#",
		strings.Repeat("é\n", 200)}
	integers = []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 53, 1<<53 + 1, 60_000_000}
	floats   = []float64{0, math.Copysign(0, -1), 1, -1, 1.5, 1e21, 1.0 / 3, 5e-324, math.MaxFloat64, -math.MaxFloat64, 9007199254740993, 1e-7}
)

// value is a random one of the type.
func value(r *rand.Rand, kind schema.Type, zero bool) influxsync.Value {
	switch kind {
	case schema.Integer:
		switch {
		case zero:
			return influxsync.Int(0)
		case r.IntN(3) == 0:
			return influxsync.Int(pick(r, integers))
		}
		return influxsync.Int(int64(r.Uint64()))
	case schema.Float:
		switch f := math.Float64frombits(r.Uint64()); {
		case zero:
			return influxsync.Float(0)
		case r.IntN(3) == 0 || math.IsNaN(f) || math.IsInf(f, 0):
			return influxsync.Float(pick(r, floats))
		default:
			return influxsync.Float(f)
		}
	case schema.String:
		if zero {
			return influxsync.Str("")
		}
		return influxsync.Str(pick(r, texts))
	default:
		return influxsync.Bool(!zero && r.IntN(2) == 0)
	}
}
