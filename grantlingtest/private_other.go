//go:build !unix

package grantlingtest

// isPrivate is always true: here file modes do not say who can write, and the
// user's cache and temporary files are in the user's own directories.
func isPrivate(string) bool { return true }
