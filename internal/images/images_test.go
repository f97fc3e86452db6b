package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program is the smallest file that says what it is for; with a loader it is one
// that is linked dynamically.
func program(t *testing.T, machine elf.Machine, loader bool) []byte {
	t.Helper()
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	part := elf.Prog64{Type: uint32(elf.PT_LOAD)}
	if loader {
		part.Type = uint32(elf.PT_INTERP)
	}
	var text bytes.Buffer
	for _, value := range []any{header, part} {
		if err := binary.Write(&text, binary.LittleEndian, value); err != nil {
			t.Fatal(err)
		}
	}
	return text.Bytes()
}

// binaries are a directory with a program for each architecture.
func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for arch, machine := range machines {
		put(t, filepath.Join(dir, arch, "accumulus"), program(t, machine, false))
	}
	return dir
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// make writes the archives and gives their directory.
func archives(t *testing.T, bin string) string {
	t.Helper()
	out := t.TempDir()
	if err := run([]string{"-version", "v1.2.3", "-revision", "abc", "-epoch", "1764000000", "-bin", bin, "-out", out, "accumulus"}); err != nil {
		t.Fatal(err)
	}
	return out
}

// unpack reads a tar file into a directory.
func unpack(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	dir := t.TempDir()
	for name, e := range contents(t, file) {
		if !strings.HasSuffix(name, "/") {
			put(t, filepath.Join(dir, name), e.text)
		}
	}
	return dir
}

type inTar struct {
	header *tar.Header
	text   []byte
}

func contents(t *testing.T, from io.Reader) map[string]inTar {
	t.Helper()
	all := make(map[string]inTar)
	reader := tar.NewReader(from)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		all[header.Name] = inTar{header, text}
	}
}

// TestSameProgramsSameBytes: and another program gives others.
func TestSameProgramsSameBytes(t *testing.T) {
	sums := func(bin string) map[string][sha256.Size]byte {
		out := archives(t, bin)
		files, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string][sha256.Size]byte)
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(out, file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all[file.Name()] = sha256.Sum256(text)
		}
		return all
	}
	bin := binaries(t)
	first, second := sums(bin), sums(bin)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the bytes differ:\n%s", diff)
	}
	want := []string{"accumulus-v1.2.3-amd64.tar", "accumulus-v1.2.3-arm64.tar", "accumulus-v1.2.3.tar"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(first))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	put(t, filepath.Join(bin, "arm64", "accumulus"), append(program(t, elf.EM_AARCH64, false), 0))
	third := sums(bin)
	for name := range first {
		if same, want := first[name] == third[name], name == "accumulus-v1.2.3-amd64.tar"; same != want {
			t.Errorf("%s is the same: %t", name, same)
		}
	}
}

// TestIndexHoldsBothArchitectures reads the archive as a registry's client does.
func TestIndexHoldsBothArchitectures(t *testing.T) {
	dir := unpack(t, filepath.Join(archives(t, binaries(t)), "accumulus-v1.2.3.tar"))
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := root.IndexManifest()
	if err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%+v, %v", top, err)
	}
	want := map[string]string{"org.opencontainers.image.ref.name": "v1.2.3", "io.containerd.image.name": "ghcr.io/accumulus-metering/accumulus:v1.2.3"}
	if diff := cmp.Diff(want, top.Manifests[0].Annotations); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	index, err := root.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, m.Platform.Architecture)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64/v8"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// checkImage looks at what is in an image and what is not.
func checkImage(t *testing.T, image v1.Image, arch string) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || config.Architecture != arch || !slices.Equal(config.Config.Entrypoint, []string{"/accumulus"}) ||
		config.Config.Labels["org.opencontainers.image.revision"] != "abc" || config.Created.Unix() != 1764000000 {
		t.Errorf("config: %+v", config)
	}
	files := make(map[string]inTar)
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		text, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, contents(t, text))
		_ = text.Close()
	}
	want := []string{"accumulus", "data/", "etc/", "etc/group", "etc/passwd", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "tmp/"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for name, e := range files {
		if own := name == "data/"; (e.header.Uid == user) != own || e.header.ModTime.Unix() > 0 || e.header.Mode&0o6000 != 0 {
			t.Errorf("%s: %+v", name, e.header)
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"].text) {
		t.Error("no certificates")
	}
}

// TestOneArchitectureAlone: the archive is also one that docker load reads.
func TestOneArchitectureAlone(t *testing.T) {
	path := filepath.Join(archives(t, binaries(t)), "accumulus-v1.2.3-arm64.tar")
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	checkImage(t, image, "arm64")
	text, err := os.ReadFile(filepath.Join(unpack(t, path), "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ RepoTags []string }
	if err := json.Unmarshal(text, &manifest); err != nil || len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"ghcr.io/accumulus-metering/accumulus:v1.2.3"}) {
		t.Errorf("manifest.json: %s, %v", text, err)
	}
}

func TestProgramsThatDoNotFit(t *testing.T) {
	for name, text := range map[string][]byte{
		"linked dynamically": program(t, elf.EM_X86_64, true),
		"is for EM_AARCH64":  program(t, elf.EM_AARCH64, false),
		"read program":       []byte("#!/bin/sh\n"),
	} {
		bin, out := t.TempDir(), t.TempDir()
		put(t, filepath.Join(bin, "amd64", "accumulus"), text)
		err := run([]string{"-version", "v1", "-arch", "amd64", "-bin", bin, "-out", out, "accumulus"})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(out); len(left) != 0 {
			t.Errorf("%s: left %v behind", name, left)
		}
	}
	for _, args := range [][]string{{}, {"-version", "a+b", "-bin", "x", "accumulus"}, {"-version", "v1", "-bin", "x"}, {"-version", "v1", "accumulus"},
		{"-version", "v1", "-bin", "x", "-arch", "riscv64", "accumulus"}} {
		if run(args) == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
