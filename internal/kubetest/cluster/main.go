// Command cluster makes a lab: a set of namespaces of its own in which
// Kubernetes clusters with real nodes run for the tests.
//
//	cluster up                  make the lab and its clusters, and leave them running
//	cluster enter -- CMD...     run a command inside
//	cluster run -- CMD...       run a command inside, in a lab of its own if none is up
//	cluster down                end the lab
//	cluster images BIN DIR      make the images of the programs in BIN for the nodes
//
// Three processes hold it. The keeper (`cluster keep`) stays outside; the lab's
// first process (`cluster hold`) is its child and the first of the lab's process
// namespace, so that the kernel ends all of the lab with it; `cluster serve` is
// inside and starts the clusters. Each of the first two notices the other's end
// and removes the lab's control groups, which nothing else would. Mounts,
// network, routes and rules end with their namespaces.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/kubetest"
)

func main() {
	runtime.LockOSThread() // the kernel takes the end of the thread that starts a process for that of its parent
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// settings are the flags of the commands outside.
type settings struct {
	dir    string
	wanted []kubetest.Wanted
	images []string
	rest   []string // the command to run
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("up, enter, run, down or images is needed")
	}
	if args[0] == "images" {
		return 0, makeImages(args[1:])
	}
	if code, err, done := inside(args[0], args[1:]); done {
		return code, err
	}
	s, err := parse(args)
	if err != nil {
		return 2, err
	}
	switch args[0] {
	case "up", "run":
		if err := kubetest.Able(); err != nil {
			return unable(args[0], err)
		}
	}
	return outside(args[0], s)
}

// unable says why this machine runs no lab. A person who only runs all tests
// is not to fail for it, but where everything is to be shown it is a failure.
func unable(action string, why error) (int, error) {
	if action == "run" && os.Getenv("CI") != "true" {
		fmt.Printf("No test of real nodes is run, since this machine can not have them:\n%v\n", why)
		return 0, nil
	}
	return 1, fmt.Errorf("this machine can not have a lab:\n%w", why)
}

func parse(args []string) (settings, error) {
	root, err := kubetest.Root()
	if err != nil {
		return settings{}, err
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	dir := flags.String("dir", filepath.Join(root, "build", "e2e", "lab"), "directory of the lab")
	clusters := flags.String("clusters", "alpha=1,beta=1", "clusters to start, each with its number of nodes")
	images := flags.String("images", "", "directory of archives (*.tar) of images for every node")
	if err := flags.Parse(args[1:]); err != nil {
		return settings{}, err
	}
	s := settings{rest: flags.Args()}
	if s.dir, err = filepath.Abs(*dir); err != nil {
		return settings{}, err
	}
	for _, one := range strings.Split(*clusters, ",") {
		name, number, _ := strings.Cut(one, "=")
		nodes, err := strconv.Atoi(number)
		if err != nil || name == "" || nodes < 0 {
			return settings{}, fmt.Errorf("clusters: %q is not NAME=NODES", one)
		}
		s.wanted = append(s.wanted, kubetest.Wanted{Name: name, Nodes: nodes})
	}
	if *images == "" {
		return s, nil
	}
	if *images, err = filepath.Abs(*images); err != nil {
		return settings{}, err
	}
	s.images, err = filepath.Glob(filepath.Join(*images, "*.tar"))
	return s, err
}

// references of the images, by the name of the program that each holds.
var references = map[string]string{"pause": kubetest.PauseImage, "workload": kubetest.WorkloadImage, "accumulus-stress": kubetest.StressImage}

// makeImages makes an archive of each program that is newer than its archive.
func makeImages(args []string) error {
	if len(args) != 2 {
		return errors.New("images: the directory of the programs and that of the archives are needed")
	}
	if err := os.MkdirAll(args[1], 0o755); err != nil {
		return err
	}
	for program, reference := range references {
		binary, archive := filepath.Join(args[0], program), filepath.Join(args[1], program+".tar")
		built, err := os.Stat(binary)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not every lab runs each of them
		}
		if err != nil {
			return err
		}
		if made, err := os.Stat(archive); err == nil && made.ModTime().After(built.ModTime()) {
			continue
		}
		if err := kubetest.Image(archive, reference, binary); err != nil {
			return err
		}
	}
	return nil
}
