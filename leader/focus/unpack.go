package focus

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFiles bounds the files of an archive.
const maxFiles = 10_000

// Unpack reads an archive that Tar has written: each file is what the manifest,
// which comes last, says of it. Close the result.
func Unpack(archive io.Reader, scratch string) (_ *Prepared, err error) {
	p, err := newPrepared(scratch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	in := tar.NewReader(archive)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("unpack export: %w", err)
		}
		if header.Typeflag != tar.TypeReg || !filepath.IsLocal(filepath.FromSlash(header.Name)) || len(p.files) >= maxFiles {
			return nil, fmt.Errorf("unpack export: unexpected entry %q", header.Name)
		}
		if err := p.add(header.Name, in); err != nil {
			return nil, fmt.Errorf("unpack export: %w", err)
		}
	}
	return p, p.verify()
}

// verify compares the files with the manifest.
func (p *Prepared) verify() error {
	if len(p.files) == 0 || !strings.HasSuffix(p.files[len(p.files)-1].Name, manifestName) {
		return errors.New("unpack export: it ends without its manifest")
	}
	text, err := os.ReadFile(p.files[len(p.files)-1].Path)
	if err != nil {
		return fmt.Errorf("unpack export: %w", err)
	}
	if p.Manifest, err = readManifest(text); err != nil {
		return err
	}
	if len(p.Manifest.Files) != len(p.files)-1 {
		return fmt.Errorf("unpack export: the manifest lists %d files, and %d came", len(p.Manifest.Files), len(p.files)-1)
	}
	for i, want := range p.Manifest.Files {
		if got := p.files[i]; got.Name != want.Name || got.SHA256 != want.SHA256 || got.Bytes != want.Bytes {
			return fmt.Errorf("unpack export: %s is not what the manifest says of %s", got.Name, want.Name)
		}
		p.files[i].Rows = want.Rows
	}
	return nil
}

// Names are the files' names, the manifest's last.
func (p *Prepared) Names() []string {
	names := make([]string, len(p.files))
	for i, file := range p.files {
		names[i] = file.Name
	}
	return names
}

// Fetch unpacks an archive into a sink and says what came.
func Fetch(ctx context.Context, archive io.Reader, sink Sink) (_ Manifest, err error) {
	p, err := Unpack(archive, "")
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return p.Manifest, p.Send(ctx, sink)
}
