package chaos

import (
	"os"
	"runtime/debug"
	"testing"

	"github.com/influxdata/influxdb/tsdb/index/tsi1"
)

func TestMain(m *testing.M) {
	tsi1.DefaultPartitionN = 1
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
