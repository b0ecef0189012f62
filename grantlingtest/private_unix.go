//go:build unix

package grantlingtest

import (
	"os"
	"path/filepath"
	"syscall"
)

// isPrivate reports whether nobody but this user and root can put files into a
// directory, or another directory in its place: it and all above it are theirs,
// and others cannot write there. Above it they can where there is a sticky bit,
// which keeps them from replacing what is not theirs. The path has no links.
func isPrivate(dir string) bool {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return false
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid != uint32(os.Geteuid()) && (owner.Uid != 0 || at == dir) {
			return false
		}
		if info.Mode()&0o022 != 0 && (info.Mode()&os.ModeSticky == 0 || at == dir) {
			return false
		}
		if at == filepath.Dir(at) {
			return true
		}
	}
}
