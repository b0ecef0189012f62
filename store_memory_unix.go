//go:build unix

package main

import (
	"os"
	"runtime"
	"syscall"
)

// openUnlinked opens a file without a name, so that nothing is left when the
// process ends.
func openUnlinked(string, int, os.FileMode) (*os.File, error) {
	if runtime.GOOS == "linux" {
		const unnamed = 0x400000 // with O_DIRECTORY Linux's O_TMPFILE
		if f, err := os.OpenFile(os.TempDir(), os.O_RDWR|syscall.O_DIRECTORY|unnamed, 0o600); err == nil {
			return f, nil
		}
		// Some file systems do not support it.
	}
	f, err := os.CreateTemp("", "grantling-*.db")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// syncDirectory makes a rename in dir durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
