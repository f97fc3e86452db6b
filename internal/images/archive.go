package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// names are the annotations by which an importer finds the image's name: the
// specification's, which is the tag, and containerd's, which is all of it.
func names(name string) map[string]string {
	return map[string]string{"org.opencontainers.image.ref.name": name[lastColon(name)+1:], "io.containerd.image.name": name}
}

func lastColon(name string) int {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == ':' {
			return i
		}
	}
	return -1
}

// writeArchive writes an OCI layout as a tar file. Of several images it makes an
// index by platform; one image alone can also be read by docker load. The digest
// is what a pod may name in place of the tag.
func writeArchive(path, name string, images []v1.Image) (v1.Hash, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".layout-*")
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := fill(dir, name, images)
	if err == nil {
		err = pack(path, dir)
	}
	return digest, errors.Join(err, os.RemoveAll(dir))
}

// fill writes the layout.
func fill(dir, name string, images []v1.Image) (v1.Hash, error) {
	if len(images) == 1 {
		return fillOne(dir, name, images[0])
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			return v1.Hash{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	target, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := target.AppendIndex(index, layout.WithAnnotations(names(name))); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

func fillOne(dir, name string, image v1.Image) (v1.Hash, error) {
	target, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return v1.Hash{}, err
	}
	if err := target.AppendImage(image, layout.WithAnnotations(names(name)), layout.WithPlatform(*config.Platform())); err != nil {
		return v1.Hash{}, err
	}
	if err := writeDockerManifest(dir, name, image); err != nil {
		return v1.Hash{}, err
	}
	return image.Digest()
}

// writeDockerManifest adds the file that older importers look for; it points at
// the blobs of the layout.
func writeDockerManifest(dir, name string, image v1.Image) error {
	blob := func(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
	config, err := image.ConfigName()
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	one := struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{Config: blob(config), RepoTags: []string{name}}
	for _, l := range layers {
		descriptor, err := partial.Descriptor(l)
		if err != nil {
			return err
		}
		one.Layers = append(one.Layers, blob(descriptor.Digest))
	}
	text, err := json.Marshal([]any{one})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), text, 0o644)
}

// pack writes the directory as a tar file: in the order of names, without times
// and owners.
func pack(path, dir string) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".archive-*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err == nil {
			err = errors.Join(os.Chmod(file.Name(), 0o644), os.Rename(file.Name(), path))
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("write archive: %w", err), os.Remove(file.Name()))
		}
	}()
	writer := tar.NewWriter(file)
	walk := func(path string, info fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return add(writer, path, filepath.ToSlash(name), info.IsDir())
	}
	if err := filepath.WalkDir(dir, walk); err != nil { // in the order of names
		return err
	}
	return writer.Close()
}

func add(writer *tar.Writer, path, name string, dir bool) error {
	if dir {
		return writer.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX})
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size(), Format: tar.FormatPAX}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(writer, file)
	return err
}
