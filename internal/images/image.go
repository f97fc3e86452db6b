package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is the id and group that the programs run as: nobody's on any host.
const user = 65532

// machines are the architectures, as the kernel names them in a program's file.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkStatic refuses what would not start in an image that holds nothing else:
// a program of another architecture, or one that wants a loader or libraries.
func checkStatic(path, arch string) error {
	machine, known := machines[arch]
	if !known {
		return fmt.Errorf("architecture %q: amd64 and arm64 are known", arch)
	}
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read program %s: %w", path, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	if file.Machine != machine {
		return fmt.Errorf("%s is for %s, not for %s", path, file.Machine, arch)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read program %s: %w", path, err)
	}
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP || len(libraries) > 0 {
			return fmt.Errorf("%s is linked dynamically (%v): build it with -linkmode external -extldflags -static", path, libraries)
		}
	}
	return nil
}

// build is the image of one program for one architecture: certificates, names of
// the user, two directories, and the program. There is no shell.
func (o options) build(program, arch, binary string) (v1.Image, error) {
	text, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	ground, err := layer(groundFiles())
	if err != nil {
		return nil, err
	}
	top, err := layer([]entry{{name: program, mode: 0o755, text: text}})
	if err != nil {
		return nil, err
	}
	labels := o.labels(program)
	created := v1.Time{Time: o.created}
	image, err := mutate.Append(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1),
		mutate.Addendum{Layer: ground, MediaType: types.OCILayer, History: v1.History{Created: created, CreatedBy: "certificates, user, /tmp and /data"}},
		mutate.Addendum{Layer: top, MediaType: types.OCILayer, History: v1.History{Created: created, CreatedBy: "/" + program}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, created
	if arch == "arm64" {
		config.Variant = "v8"
	}
	config.Config = v1.Config{User: fmt.Sprintf("%d:%d", user, user), Entrypoint: []string{"/" + program}, WorkingDir: "/data",
		Env: []string{"PATH=/"}, Labels: labels}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, labels).(v1.Image)
	if !ok {
		return nil, errors.New("annotations changed the kind of the image")
	}
	return annotated, nil
}

// labels are those that registries and scanners show.
func (o options) labels(program string) map[string]string {
	const prefix = "org.opencontainers.image."
	labels := map[string]string{
		prefix + "title": program, prefix + "version": o.version, prefix + "source": source, prefix + "url": source,
		prefix + "licenses": "Apache-2.0", prefix + "created": o.created.Format("2006-01-02T15:04:05Z"),
		prefix + "description": "Accumulus: metering for fleets of Kubernetes clusters",
	}
	if o.revision != "" {
		labels[prefix+"revision"] = o.revision
	}
	return labels
}

// entry is one file of a layer, or a directory where its name ends in a slash.
type entry struct {
	name string
	mode int64
	own  bool // by the user; else root's
	text []byte
}

// groundFiles are what both programs stand on.
func groundFiles() []entry {
	return []entry{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, text: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", user)},
		{name: "etc/passwd", mode: 0o644, text: fmt.Appendf(nil, "root:x:0:0:root:/:/\nnonroot:x:%d:%d:nonroot:/data:/\n", user, user)},
		{name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, text: certificates()},
		{name: "data/", mode: 0o700, own: true},
		{name: "tmp/", mode: 0o1777},
	}
}

// certificates are Mozilla's roots, of the version that go.mod names: not those of
// the machine that builds, which may hold a certificate of its own network. Roots
// that hold under a condition that a PEM file cannot express are left out.
func certificates() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	return text.Bytes()
}

// layer is a compressed layer without times.
func layer(entries []entry) (v1.Layer, error) {
	var text bytes.Buffer
	writer := tar.NewWriter(&text)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if e.name[len(e.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if e.own {
			header.Uid, header.Gid = user, user
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(e.text); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
