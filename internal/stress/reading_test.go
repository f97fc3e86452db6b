package stress

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     999       9    0    0    0     0          0         0      999       9    0    0    0     0       0          0
  eth0:    1200      10    0    0    0     0          0         0      340       5    0    0    0     0       0          0
  net1:      34       1    0    0    0     0          0         0       60       1    0    0    0     0       0          0
`

// tree writes files below a new directory.
func tree(t *testing.T, files map[string]string) Kernel {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Kernel{Cgroup: filepath.Join(root, "cgroup"), Proc: filepath.Join(root, "proc")}
}

var (
	version1 = map[string]string{"proc/net/dev": netDev,
		"cgroup/cpuacct/cpuacct.usage":        "12345678901\n",
		"cgroup/memory/memory.usage_in_bytes": "9000000\n",
		"cgroup/memory/memory.stat":           "inactive_file 1\ntotal_inactive_file 2000000\n"}
	version2 = map[string]string{"proc/net/dev": netDev,
		"cgroup/cgroup.controllers": "cpu memory\n",
		"cgroup/cpu.stat":           "usage_usec 12345678\nuser_usec 1\n",
		"cgroup/memory.current":     "9000000\n",
		"cgroup/memory.stat":        "anon 1\ninactive_file 2000000\n"}
)

func TestReadBothVersions(t *testing.T) {
	want := Reading{CPUMicroseconds: 12345678, MemoryBytes: 7000000, ReceiveBytes: 1234, TransmitBytes: 400}
	for name, files := range map[string]map[string]string{"version 1": version1, "version 2": version2} {
		got, err := tree(t, files).Read()
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
}

// TestReadMissing: what is not there is an error, never a zero.
func TestReadMissing(t *testing.T) {
	for _, files := range []map[string]string{version1, version2} {
		for left := range files {
			if strings.HasSuffix(left, "cgroup.controllers") {
				continue // tells the versions apart
			}
			some := make(map[string]string)
			for name, text := range files {
				if name != left {
					some[name] = text
				}
			}
			if got, err := tree(t, some).Read(); err == nil {
				t.Errorf("without %s: %+v", left, got)
			}
		}
	}
}

func TestReadGarbage(t *testing.T) {
	for _, garbage := range []string{"", "x", "usage_usec x\n"} {
		files := make(map[string]string)
		for name, text := range version2 {
			files[name] = text
		}
		files["cgroup/cpu.stat"] = garbage
		if got, err := tree(t, files).Read(); err == nil {
			t.Errorf("cpu.stat %q: %+v", garbage, got)
		}
	}
}
