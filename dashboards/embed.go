// Package dashboards holds the Grafana boards. They read the centre's InfluxDB
// in InfluxQL: settled minutes from the database minute, totals from quarter.
// A board is a plain dashboard object, as Grafana's provisioning reads it; its
// data source is a variable, so that it works with any.
//
// Boards are data: nothing here runs, and no board is changed when it is
// installed.
package dashboards

import "embed"

// FS holds the boards, NAME.json.
//
//go:embed *.json
var FS embed.FS
