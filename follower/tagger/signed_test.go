package tagger

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/internal/clock"
	"github.com/accumulus-metering/accumulus/internal/schema"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// keyOf is a leader's key that a letter decides.
func keyOf(letter string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte(letter), ed25519.SeedSize))
}

func pack(t testing.TB, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// sign is a packed seed and its signature, as files.
func sign(t testing.TB, key ed25519.PrivateKey, cluster, text string) map[string]string {
	t.Helper()
	packed := pack(t, text)
	return map[string]string{schema.SeedFile: string(packed), schema.SeedSignatureFile: string(ed25519.Sign(key, schema.SeedMessage(cluster, packed)))}
}

// generation is a seed's text with its version for its generation.
func generation(n int, rows string) string {
	return fmt.Sprintf(schemaSQL, fmt.Sprint(n)) + fmt.Sprintf("INSERT INTO meta VALUES('generation', '%d');", n) + rows
}

// asking is a tagger that takes only what the key signed.
func asking(t testing.TB, dir, path string, key ed25519.PrivateKey) (*Tagger, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	tagger := New(Config{Dir: dir, Path: path, Cluster: "edge", PublicKey: key.Public().(ed25519.PublicKey)},
		clock.NewManual(epoch), slog.New(slog.DiscardHandler), registry)
	if err := tagger.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return tagger, registry
}

func without(files map[string]string, name string) map[string]string {
	rest := maps.Clone(files)
	delete(rest, name)
	return rest
}

func with(files map[string]string, name, content string) map[string]string {
	all := maps.Clone(files)
	all[name] = content
	return all
}

// TestSignedSeed: what is not what the leader signed for this cluster, and what
// it signed before, changes nothing, says why, and leaves the old one in use
// also after a restart; the next good one is taken.
func TestSignedSeed(t *testing.T) {
	leader, other := keyOf("a"), keyOf("b")
	good := sign(t, leader, "edge", generation(5, row("n1", "i7")))
	bomb := sign(t, other, "edge", strings.Repeat("-", MaxSeedBytes+1))
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":             {nil, "neither seed.sql.gz nor"},
		"plain":               {seed("9", row("n1", "i9")), "plain *.sql"},
		"unsigned":            {without(good, schema.SeedSignatureFile), "no seed.sql.gz.sig"},
		"empty signature":     {with(good, schema.SeedSignatureFile, ""), "not one for cluster"},
		"other key":           {sign(t, other, "edge", generation(9, row("n1", "i9"))), "not signed by the leader"},
		"truncated":           {with(good, schema.SeedFile, good[schema.SeedFile][:60]), "not signed by the leader"},
		"one bit":             {with(good, schema.SeedFile, "\x1e"+good[schema.SeedFile][1:]), "not signed by the leader"},
		"other cluster's":     {sign(t, leader, "far", generation(9, strings.ReplaceAll(row("n1", "i9"), "edge", "far"))), "not signed by the leader"},
		"rows of another":     {sign(t, leader, "edge", generation(9, strings.ReplaceAll(row("n1", "i9"), "edge", "far"))), `another cluster, "far"`},
		"text of another":     {sign(t, leader, "edge", strings.ReplaceAll(generation(9, ""), "edge", "far")), `of cluster "far"`},
		"older":               {sign(t, leader, "edge", generation(3, row("n1", "i3"))), "generation 3 is older than 4"},
		"without generation":  {sign(t, leader, "edge", fmt.Sprintf(schemaSQL, "9")), "generation 0 is older than 4"},
		"not packed":          {signedText(leader, "CREATE TABLE x(y)"), "unpack seed"},
		"cut, and signed":     {signedText(leader, good[schema.SeedFile][:60]), "unpack seed"},
		"bomb of a stranger":  {bomb, "not signed by the leader"},
		"bomb of the leader":  {signedText(leader, bomb[schema.SeedFile]), "more than 16777216 bytes"},
		"more than a packing": {with(good, schema.SeedFile, strings.Repeat("x", MaxPackedBytes+1)), "too large"},
		"not SQL":             {sign(t, leader, "edge", "ATTACH 'x' AS y"), "only CREATE TABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
			swap := mount(t, dir)
			swap("1", sign(t, leader, "edge", generation(4, row("n1", "i5"))))
			tagger, registry := asking(t, dir, path, leader)
			if s := tagger.Status(); !s.Signed || s.Generation != 4 || s.Error != "" {
				t.Fatalf("status %+v", s)
			}
			swap("2", tc.files)
			if tagger.Refresh(t.Context()) {
				t.Fatal("taken")
			}
			again, _ := asking(t, dir, path, leader)
			for _, tagger := range []*Tagger{tagger, again} {
				s := tagger.Status()
				if !s.Loaded || s.Version != "4" || !strings.Contains(s.Error, tc.want) {
					t.Errorf("status %+v, want version 4 and an error with %q", s, tc.want)
				}
				if got, ok := tagger.Facts("n1"); !ok || got.CPUType != "i5" {
					t.Errorf("facts %+v, %t", got, ok)
				}
			}
			refused(t, registry, 1)
			swap("3", good)
			if !tagger.Refresh(t.Context()) {
				t.Fatalf("the good one is not taken: %+v", tagger.Status())
			}
			refused(t, registry, 0)
			if got, _ := tagger.Facts("n1"); got.CPUType != "i7" {
				t.Errorf("facts %+v", got)
			}
		})
	}
}

func signedText(key ed25519.PrivateKey, packed string) map[string]string {
	return map[string]string{schema.SeedFile: packed, schema.SeedSignatureFile: string(ed25519.Sign(key, schema.SeedMessage("edge", []byte(packed))))}
}

func refused(t *testing.T, registry *prometheus.Registry, want int) {
	t.Helper()
	text := fmt.Sprintf(`# HELP accumulus_tagger_seed_refused 1 while the seed in the directory is not the one in use: it is missing or was refused.
# TYPE accumulus_tagger_seed_refused gauge
accumulus_tagger_seed_refused %d
`, want)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(text), "accumulus_tagger_seed_refused"); err != nil {
		t.Error(err)
	}
}

// TestKeyMayChange: a seed of a new key is taken whatever its generation, and a
// seed that nobody signed is not in the way of one that is.
func TestKeyMayChange(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
	swap := mount(t, dir)
	swap("1", map[string]string{schema.SeedFile: string(pack(t, generation(9, row("n1", "i9"))))})
	if tagger, _ := newTagger(t, dir, path); !tagger.Status().Loaded || tagger.Status().Signed {
		t.Fatalf("packed, and no key is configured: %+v", tagger.Status())
	}
	tagger, _ := asking(t, dir, path, keyOf("a"))
	if s := tagger.Status(); !s.Loaded || s.Signed || !strings.Contains(s.Error, "no seed.sql.gz.sig") {
		t.Fatalf("now a key is configured: %+v", s)
	}
	for i, letter := range []string{"a", "b"} {
		swap(fmt.Sprint(i+2), sign(t, keyOf(letter), "edge", generation(5-i, row("n1", letter))))
		tagger, _ := asking(t, dir, path, keyOf(letter))
		if s := tagger.Status(); !s.Signed || s.Generation != int64(5-i) || s.Error != "" {
			t.Errorf("key %s: %+v", letter, s)
		}
	}
}

// TestSameSeedIsNotBuiltAgain: neither at a look nor at a start.
func TestSameSeedIsNotBuiltAgain(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "facts.db")
	write(t, dir, sign(t, keyOf("a"), "edge", generation(1, row("n1", "i5"))))
	first, _ := asking(t, dir, path, keyOf("a"))
	built, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	first.Refresh(t.Context())
	again, _ := asking(t, dir, path, keyOf("a"))
	if now, err := os.Stat(path); err != nil || !os.SameFile(now, built) {
		t.Errorf("another file, %v", err)
	}
	if first.Status() != again.Status() {
		t.Errorf("status %+v, after the start %+v", first.Status(), again.Status())
	}
}

func TestParsePublicKey(t *testing.T) {
	for _, bad := range []string{"", "x", "AAAA"} {
		if _, err := ParsePublicKey(bad); err == nil || !strings.Contains(err.Error(), "accumulus seed key") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzSigned: whatever stands in the place of a signed seed, the old one stays.
func FuzzSigned(f *testing.F) {
	good := sign(f, keyOf("a"), "edge", generation(5, row("n1", "i7")))
	f.Add([]byte(good[schema.SeedFile]), []byte{}, false)
	f.Add([]byte(good[schema.SeedFile])[:40], []byte(good[schema.SeedSignatureFile]), true)
	f.Fuzz(func(t *testing.T, packed, signature []byte, signed bool) {
		if signed { // the leader's, of anything
			signature = ed25519.Sign(keyOf("a"), schema.SeedMessage("edge", packed))
		}
		there := found{packed: packed, signature: signature}
		files, err := there.files("edge", keyOf("a").Public().(ed25519.PublicKey))
		genuine := ed25519.Verify(keyOf("a").Public().(ed25519.PublicKey), schema.SeedMessage("edge", packed), signature)
		if err == nil && (!genuine || len(files) != 1 || len(files[0].text) > MaxSeedBytes) {
			t.Errorf("taken, genuine %t", genuine)
		}
	})
}

// many is a seed of n nodes, each in a box of its own and there since another
// moment: the worst that a fleet can be.
func many(n int) string {
	random := rand.New(rand.NewPCG(1, 1))
	var rows strings.Builder
	rows.WriteString("CREATE INDEX by_name ON node (cluster, node, valid_from);\n")
	for i := range n {
		fmt.Fprintf(&rows, "INSERT INTO node VALUES ('edge', 'pool-%d-%08x', 'box-%016X%010X', 'xeon-d', 'ddr4', 'nvme', %d, NULL);\n",
			i%20, random.Uint32(), random.Uint64(), random.Uint64N(1<<40), epoch.UnixNano()+random.Int64N(1e16))
	}
	return generation(1, rows.String())
}

// BenchmarkRebuild is a changed seed from its directory to the look-ups: the
// signature, unpacking, a new database, its checks, and the map.
func BenchmarkRebuild(b *testing.B) {
	for _, n := range []int{5_000, 20_000} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			dir, path := b.TempDir(), filepath.Join(b.TempDir(), "facts.db")
			write(b, dir, sign(b, keyOf("a"), "edge", many(n)))
			tagger, _ := asking(b, dir, path, keyOf("a"))
			if s := tagger.Status(); s.Nodes != n {
				b.Fatalf("status %+v", s)
			}
			for b.Loop() {
				tagger.used.origin = origin{} // as if it were another
				if !tagger.Refresh(context.Background()) {
					b.Fatalf("status %+v", tagger.Status())
				}
			}
		})
	}
}
