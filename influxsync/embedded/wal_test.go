package embedded

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/accumulus-metering/accumulus/influxsync"
	"github.com/accumulus-metering/accumulus/internal/schema"
)

// segments are the log files below a store's directory.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(dir, "wal"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".wal") {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("segments %v, %v", found, err)
	}
	return found
}

// TestTornLog: a process that is killed while it writes leaves the beginning
// of an entry at the end of its log. What is written after the next start is
// there after the one after.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	session := func(do func(*influxsync.Database)) {
		t.Helper()
		server, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		client, err := server.Client()
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Create(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		do(client.Database("db"))
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(n int) func(*influxsync.Database) {
		return func(db *influxsync.Database) {
			p := influxsync.NewPoint("t", nil, map[string]influxsync.Value{"n": influxsync.Int(int64(n))}, at.Add(time.Duration(n)*time.Second))
			if err := db.Write(t.Context(), []influxsync.Point{p}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, torn := range []string{"\x01\x00\x00\x02\x00half of an entry", "\x01\x00", "\x00\x00\x00\x00\x00\x00\x00"} {
		session(write(n))
		for _, path := range segments(t, dir) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString(torn)
			if closed := f.Close(); err != nil || closed != nil {
				t.Fatal(err, closed)
			}
		}
	}
	session(write(3))
	session(func(db *influxsync.Database) {
		var got []int64
		err := db.TimeQuery(t.Context(), "t", schema.Window{}, nil, func(p influxsync.Point) error {
			got = append(got, p.Int("n"))
			return nil
		})
		if err != nil || len(got) != 4 {
			t.Errorf("rows %v, %v; want 0 to 3", got, err)
		}
	})
}
