package grantlingtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const module = "github.com/grantling/grantling"

// binary is where the source of the server is, and where its binary is or will
// be.
type binary struct{ source, path string }

// theBinary is that of the module that the tests are built with.
var theBinary = sync.OnceValues(func() (binary, error) { return findBinary(".") })

// findBinary finds the source of the module as seen from a directory. The name
// of the binary has a hash of everything that it is built from, so each version,
// and each state of a work tree, has its own.
func findBinary(from string) (b binary, err error) {
	cmd := goCommand("list", "-find", "-f",
		`{{.Dir}}{{range .GoFiles}}{{"\n"}}{{.}}{{end}}{{range .EmbedFiles}}{{"\n"}}{{.}}{{end}}`, module)
	cmd.Dir = from
	found, err := output(cmd)
	if err != nil {
		return b, fmt.Errorf("finding the source of %s: %w", module, err)
	}
	files := strings.Split(strings.TrimSpace(found), "\n")
	b.source = files[0]
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range append(files[1:], "go.mod", "go.sum") {
		content, err := os.ReadFile(filepath.Join(b.source, name))
		if err != nil {
			return b, err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(content), content)
	}
	dir, err := privateDir()
	if err != nil {
		return b, err
	}
	b.path = filepath.Join(dir, fmt.Sprintf("grantling-%x", hash.Sum(nil)[:16]))
	if runtime.GOOS == "windows" {
		b.path += ".exe"
	}
	return b, nil
}

var building sync.Mutex

// build makes the binary unless it is there.
func (b binary) build() error {
	building.Lock()
	defer building.Unlock()
	if _, err := os.Stat(b.path); err == nil {
		os.Chtimes(b.path, time.Time{}, time.Now()) // it is in use
		return nil
	}
	// Other processes may build and run it at the same time, so it appears under
	// its name when it is complete.
	dir := filepath.Dir(b.path)
	unfinished, err := os.MkdirTemp(dir, "unfinished-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(unfinished)
	fresh := filepath.Join(unfinished, filepath.Base(b.path))
	cmd := goCommand("build", "-buildvcs=false", "-o", fresh, ".")
	cmd.Dir = b.source
	cmd.Env = append(cmd.Env, "GOFLAGS=", "GOWORK=off") // the module's own go.mod decides
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("building %s: %w", module, err)
	}
	if err := os.Rename(fresh, b.path); err != nil {
		// On Windows it fails if the binary of another process is there and runs.
		if _, missing := os.Stat(b.path); missing != nil {
			return err
		}
	}
	removeUnused(dir)
	return nil
}

// removeUnused removes what no test has used for an hour.
func removeUnused(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.RemoveAll(filepath.Join(dir, entry.Name())) // fails on Windows while it runs
		}
	}
}

// privateDir returns a directory in which only this user can write (CWE-379):
// one in the user's cache, or else among the temporary files.
func privateDir() (string, error) {
	mine := "grantlingtest-" + strconv.Itoa(os.Getuid()) // users may share the directory for temporary files
	candidates := []string{filepath.Join(os.TempDir(), mine)}
	if cache, err := os.UserCacheDir(); err == nil {
		candidates = []string{filepath.Join(cache, "grantlingtest"), candidates[0]}
	}
	for _, dir := range candidates {
		parent, name := filepath.Split(dir)
		os.MkdirAll(parent, 0o700)
		parent, err := filepath.EvalSymlinks(parent)
		if err != nil {
			continue
		}
		dir = filepath.Join(parent, name)
		os.Mkdir(dir, 0o700)
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && isPrivate(dir) {
			return dir, nil
		}
	}
	return os.MkdirTemp("", "grantlingtest-*") // mode 0700
}

// goCommand is the go command for this machine, also if the environment says to
// build for another.
func goCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS=", "GOARCH=")
	return cmd
}

// output runs a command. Its error has what the command wrote to standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}
