package main

import (
	"fmt"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// What a case compares.
const (
	verifyReadBack = "readback"
	verifyStream   = "stream"
	verifyNone     = "none"
)

func verifies(name string) error {
	if name != verifyReadBack {
		return fmt.Errorf("no such verification: %q", name)
	}
	return nil
}

func setVerify(request *influxsync.SyncRequest, name string) {}
