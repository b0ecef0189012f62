//go:build !unix

package grantlingtest

// isPrivate: the user's cache directory is the user's own there.
func isPrivate(string) bool { return true }
