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

// verifications are what cases of Sync compare, the cheapest last.
var verifications = []string{verifyReadBack, verifyStream, verifyNone}

func verification(name string) (influxsync.Verify, error) {
	switch name {
	case verifyReadBack:
		return influxsync.VerifyReadBack, nil
	case verifyStream:
		return influxsync.VerifyStream, nil
	case verifyNone:
		return influxsync.VerifyNone, nil
	}
	return 0, fmt.Errorf("no such verification: %q", name)
}
