package archive

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// FuzzManifest: whatever stands there, it is read or refused; what is read is signed.
func FuzzManifest(f *testing.F) {
	key := signer{ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	whole, _, err := sign(Manifest{Format: manifestFormat, Cluster: "c", Day: "2026-11-27", Tables: []Table{{Name: "pod", File: "pod-1.parquet"}}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"manifest":{},"publicKey":"","signature":""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, hash, _, err := parseManifest(body, key.BookKey())
		if err == nil && (hash == "" || m.Cluster != "c") {
			t.Errorf("read %+v, which nobody signed", m)
		}
	})
}

// FuzzTable: bytes that are no Parquet file of ours are refused, whatever the library
// does with them.
func FuzzTable(f *testing.F) {
	var file bytes.Buffer
	out := newTableWriter(&file, schema.PodMinute)
	err := out.write(influxsync.NewPoint("pod", map[string]string{schema.Cluster: "c"}, map[string]influxsync.Value{schema.CPU: influxsync.Int(1)}, first))
	if err == nil {
		err = out.close()
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(_ *testing.T, body []byte) {
		rows := 0
		_ = readTable(bytes.NewReader(body), int64(len(body)), schema.Window{}, func(influxsync.Point) error { // that it comes back is the test
			if rows++; rows > 1000 {
				return errColumns
			}
			return nil
		})
	})
}
