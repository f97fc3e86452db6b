package kubetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Images of every lab's nodes, which pods name with imagePullPolicy Never: what
// the tests run, and the product's own as `make images` makes them.
const (
	PauseImage    = "kubetest.local/pause:1"
	WorkloadImage = "kubetest.local/workload:1"
	StressImage   = "kubetest.local/accumulus-stress:e2e"
	LeaderImage   = "kubetest.local/accumulus:e2e"
	FollowerImage = "kubetest.local/accumulus-follower:e2e"
)

// Image writes an archive that `ctr images import` takes: an image of that
// reference (with its registry and tag) whose entry point is the one static
// binary, run as user 65532.
func Image(archive, reference, binary string) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("make image %s: %w", reference, err)
	}
	program := filepath.Base(binary)
	users := []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n")
	layer, err := pack(
		entry{tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, nil},
		entry{tar.Header{Name: "etc/", Mode: 0o755, Typeflag: tar.TypeDir}, nil},
		entry{tar.Header{Name: "etc/passwd", Mode: 0o644, Typeflag: tar.TypeReg}, users},
		entry{tar.Header{Name: program, Mode: 0o755, Typeflag: tar.TypeReg}, content})
	if err != nil {
		return fmt.Errorf("make image %s: %w", reference, err)
	}
	layerName := fmt.Sprintf("%x/layer.tar", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/" + program}, "Env": []string{"PATH=/"}, "WorkingDir": "/", "User": "65532:65532"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return fmt.Errorf("make image %s: %w", reference, err)
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{reference}, "Layers": []string{layerName}}})
	if err != nil {
		return fmt.Errorf("make image %s: %w", reference, err)
	}
	whole, err := pack(
		entry{tar.Header{Name: configName, Mode: 0o644, Typeflag: tar.TypeReg}, config},
		entry{tar.Header{Name: layerName, Mode: 0o644, Typeflag: tar.TypeReg}, layer},
		entry{tar.Header{Name: "manifest.json", Mode: 0o644, Typeflag: tar.TypeReg}, manifest})
	if err != nil {
		return fmt.Errorf("make image %s: %w", reference, err)
	}
	if err := os.WriteFile(archive, whole, 0o644); err != nil {
		return fmt.Errorf("make image %s: %w", reference, err)
	}
	return nil
}

type entry struct {
	header  tar.Header
	content []byte
}

// pack is a tar archive of the entries.
func pack(entries ...entry) ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		e.header.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}
