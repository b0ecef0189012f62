package main

import (
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// openUnlinked opens a file that Windows removes when the process ends, however it ends.
func openUnlinked(string, int, os.FileMode) (*os.File, error) {
	const deleteOnClose = 0x04000000 // FILE_FLAG_DELETE_ON_CLOSE
	name := filepath.Join(os.TempDir(), "grantling-"+uuid.NewString()+".db")
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|deleteOnClose, 0o600)
}

// syncDirectory has nothing to do: NTFS journals its renames.
func syncDirectory(string) error { return nil }
