package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
)

// megabyte is 10^6 bytes, as disks and networks count.
const megabyte = 1_000_000

// Bounds of one load.
const (
	maxCores     = 1024
	maxMegabytes = 1 << 20
	maxFetches   = 1 << 20
)

// Load is what keeps this container busy. The zero value is not ready: NewLoad.
type Load struct {
	file string

	mu     sync.Mutex
	stop   context.CancelFunc // of the busy cores
	busy   sync.WaitGroup
	memory []byte
}

// NewLoad keeps its file in a directory, which must exist.
func NewLoad(dir string) *Load {
	return &Load{file: filepath.Join(dir, "stress.load"), stop: func() {}}
}

// Close ends every load.
func (l *Load) Close() error {
	return errors.Join(l.CPU(0), l.RAM(0), l.Disk(0))
}

// CPU keeps a number of cores busy.
func (l *Load) CPU(cores int) error {
	if cores < 0 || cores > maxCores {
		return fmt.Errorf("cores: %d is not between 0 and %d", cores, maxCores)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	l.busy.Wait()
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	if cores >= runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(cores + 1) // the readings go on
	}
	for range cores {
		l.busy.Go(func() { spin(ctx) })
	}
	return nil
}

// spin uses one core until ctx ends.
func spin(ctx context.Context) {
	x := seed
	for ctx.Err() == nil {
		x = spun(x)
	}
	runtime.KeepAlive(x)
}

// seed is where xorshift begins: any number but 0.
const seed uint64 = 88172645463325252

// spun is a million rounds of xorshift: nothing to optimize away, no memory.
func spun(x uint64) uint64 {
	for range 1_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// RAM holds megabytes of memory that was written to.
func (l *Load) RAM(megabytes int) error {
	if megabytes < 0 || megabytes > maxMegabytes {
		return fmt.Errorf("MB: %d is not between 0 and %d", megabytes, maxMegabytes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory = nil
	debug.FreeOSMemory()
	if megabytes == 0 {
		return nil
	}
	l.memory = make([]byte, megabytes*megabyte)
	for i := 0; i < len(l.memory); i += os.Getpagesize() {
		l.memory[i] = 1
	}
	return nil
}

// Disk holds a file of megabytes; it is on the disk when Disk returns.
func (l *Load) Disk(megabytes int) error {
	if megabytes < 0 || megabytes > maxMegabytes {
		return fmt.Errorf("MB: %d is not between 0 and %d", megabytes, maxMegabytes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.Remove(l.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("disk load: %w", err)
	}
	if megabytes == 0 {
		return nil
	}
	f, err := os.OpenFile(l.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("disk load: %w", err)
	}
	piece := make([]byte, megabyte)
	for i := range piece {
		piece[i] = byte(i)
	}
	for range megabytes {
		if _, err = f.Write(piece); err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("disk load: %w", err)
	}
	return nil
}

// blockSize is the unit of a file's blocks in stat, whatever the file system's
// own is.
const blockSize = 512

// DiskBytes are the blocks that the disk's load takes.
func (l *Load) DiskBytes() (int64, error) {
	var stat syscall.Stat_t
	err := syscall.Stat(l.file, &stat)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("disk load: %w", err)
	}
	return stat.Blocks * blockSize, nil
}

// Net fetches a page a number of times and returns how many bytes of bodies
// came.
func Net(ctx context.Context, client *http.Client, url string, times int) (int64, error) {
	if times < 0 || times > maxFetches {
		return 0, fmt.Errorf("n: %d is not between 0 and %d", times, maxFetches)
	}
	var total int64
	for range times {
		n, err := fetch(ctx, client, url)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func fetch(ctx context.Context, client *http.Client, url string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, fmt.Errorf("fetch: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("fetch: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return n, fmt.Errorf("fetch %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return n, fmt.Errorf("fetch %s: %s", url, response.Status)
	}
	return n, nil
}
