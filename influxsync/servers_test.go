package influxsync_test

import (
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/influxsync/influxtest"
)

func embeddedServer(t testing.TB) *influxsync.Server { return influxtest.New(t) }

// servers runs the test on the embedded engine and on an installed influxd.
func servers(t *testing.T, test func(*testing.T, *influxsync.Server)) {
	t.Run("embedded", func(t *testing.T) { test(t, embeddedServer(t)) })
	t.Run("influxd", func(t *testing.T) { test(t, influxtest.External(t)) })
}
