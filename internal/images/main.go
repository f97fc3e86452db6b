// Command images makes container images of static binaries, without Docker and
// without root: for each program and architecture an OCI archive, and one with an
// index of all architectures. The same binaries give the same bytes.
//
//	images -version v1.2.3 -bin build/images/bin -out build/images accumulus accumulus-follower
//
// reads build/images/bin/ARCH/PROGRAM and writes build/images/PROGRAM-v1.2.3-ARCH.tar
// and build/images/PROGRAM-v1.2.3.tar.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "images: %v\n", err)
		os.Exit(1)
	}
}

// source is where the project's text is.
const source = "https://github.com/accumulus-metering/accumulus"

// options are the command line.
type options struct {
	repository, version, revision, bin, out string
	archs, programs                         []string
	created                                 time.Time
}

// tag is what a registry takes as one.
var tag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.StringVar(&o.repository, "repository", "ghcr.io/accumulus-metering", "registry and path before the program's name; it may be empty")
	flags.StringVar(&o.version, "version", "", "tag of the images")
	flags.StringVar(&o.revision, "revision", "", "commit that they are made of")
	flags.StringVar(&o.bin, "bin", "", "directory with ARCH/PROGRAM")
	flags.StringVar(&o.out, "out", ".", "directory of the archives")
	archs := flags.String("arch", "amd64,arm64", "architectures")
	epoch := flags.Int64("epoch", 0, "when they were made, in seconds since 1970: the commit's time keeps the bytes the same")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.archs, o.programs, o.created = strings.Split(*archs, ","), flags.Args(), time.Unix(*epoch, 0).UTC()
	switch {
	case !tag.MatchString(o.version):
		return o, fmt.Errorf("version: %q is no tag: letters, digits, '_', '.' and '-', 128 at most", o.version)
	case o.bin == "":
		return o, errors.New("bin: a directory with ARCH/PROGRAM is needed")
	case len(o.programs) == 0:
		return o, errors.New("name the programs")
	}
	return o, nil
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	for _, program := range o.programs {
		if err := o.write(program); err != nil {
			return fmt.Errorf("image of %s: %w", program, err)
		}
	}
	return nil
}

// name is the image's, as a pod names it.
func (o options) name(program string) string {
	return strings.TrimPrefix(o.repository+"/"+program, "/") + ":" + o.version
}

// write makes the archives of one program.
func (o options) write(program string) error {
	var images []v1.Image
	for _, arch := range o.archs {
		binary := filepath.Join(o.bin, arch, program)
		if err := checkStatic(binary, arch); err != nil {
			return err
		}
		image, err := o.build(program, arch, binary)
		if err != nil {
			return err
		}
		images = append(images, image)
		if err := o.archive(program, "-"+arch, image); err != nil {
			return err
		}
	}
	return o.archive(program, "", images...)
}

// archive writes one archive, whole or not at all, and says what is in it.
func (o options) archive(program, suffix string, images ...v1.Image) error {
	path := filepath.Join(o.out, program+"-"+o.version+suffix+".tar")
	digest, err := writeArchive(path, o.name(program), images)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fmt.Printf("%s  %s@%s  %.1f MB\n", path, o.name(program), digest, float64(info.Size())/1e6)
	return nil
}
