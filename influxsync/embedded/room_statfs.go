//go:build linux || darwin

package embedded

import "syscall"

// room is how many bytes this process may still write in a directory's volume.
func room(dir string) (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}
