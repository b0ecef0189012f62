//go:build unix

package grantlingtest

import (
	"os"
	"path/filepath"
	"syscall"
)

// isPrivate reports whether only this user and root can put files into a
// directory or replace it. The directory must be this user's, the directories
// above it this user's or root's, and others must not be able to write to any
// of them. Above it a sticky bit is enough, because then others cannot replace
// what is not theirs. The path must have no symbolic links.
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
