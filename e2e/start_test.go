// Package e2e tests the real binary with real clients (libraries in Go and JavaScript,
// a browser, curl), a real etcd, a load balancer and a container image.
package e2e

import (
	"bufio"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is the server's, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// roundTripper hides what else a transport can do.
type roundTripper struct{ http.RoundTripper }

func testMain(m *testing.M) int {
	// An httptest.Server that closes also closes the idle connections of
	// http.DefaultTransport, among them one whose answer another test is about
	// to get. Behind another type it does not find them.
	http.DefaultTransport = roundTripper{http.DefaultTransport}
	dir, err := os.MkdirTemp("", "grantling-e2e-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "grantling")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = ".."
	if output, err := build.CombinedOutput(); err != nil {
		log.Printf("%v: %v\n%s", build, err, output)
		return 1
	}
	defer func() { quitChromium() }() // what it is by then
	return m.Run()
}

// fixtures has one user and a client of each kind:
//
//	web     confidential, at http://localhost and any port; its secret is webSecret
//	native  public, at http://127.0.0.1 and any port, and out of band
//	legacy  confidential, with the password grant
//	job     confidential, with the client credentials grant only
const fixtures = `{
  "users": [
    {"username": "alice", "password": "wonderland", "name": "Alice Liddell", "email": "alice@example.com"},
    {"username": "bob", "password": "builder"}
  ],
  "clients": [
    {"client_id": "web", "client_secret": "` + webSecret + `", "client_name": "Web app", "client_uri": "https://web.example/",
     "redirect_uris": ["http://localhost/callback"], "scope": "read write"},
    {"client_id": "native", "token_endpoint_auth_method": "none", "client_name": "Native app",
     "redirect_uris": ["http://127.0.0.1/callback", "urn:ietf:wg:oauth:2.0:oob"], "scope": "read write"},
    {"client_id": "legacy", "client_secret": "legacy-secret", "grant_types": ["password", "refresh_token"], "redirect_uris": [], "scope": "read"},
    {"client_id": "job", "client_secret": "job-secret", "grant_types": ["client_credentials"], "redirect_uris": [], "scope": "read write"}
  ]
}`

// webSecret has what HTTP Basic must encode (RFC 6749 §2.3.1).
const webSecret = "1% of a+b: é/?&="

// server is a running binary.
type server struct {
	URL string // what it printed
	log string // the file with its standard error
	cmd *exec.Cmd

	ended bool // by the test itself
}

// start runs the binary in memory with the fixtures.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fixtures.json")
	if err := os.WriteFile(file, []byte(fixtures), 0o600); err != nil {
		t.Fatal(err)
	}
	return startIn(t, t.TempDir(), append([]string{"-db", ":memory:", "-fixtures", file}, flags...)...)
}

// startIn runs the binary in a folder, on a free port. When the test ends, it
// interrupts it and wants exit status 0, and one line on standard output.
func startIn(t *testing.T, folder string, flags ...string) *server {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	s := &server{log: stderr.Name()}
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	s.cmd = cmd
	cmd.Dir = folder
	cmd.Stderr = stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdout := bufio.NewReader(pipe)
	t.Cleanup(func() {
		rest, _ := io.ReadAll(stdout)
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 0 && !s.ended || len(rest) > 0 {
			t.Errorf("exit status %d, more on standard output: %q", status, rest)
		}
		if t.Failed() {
			t.Logf("standard error:\n%s", s.stderr(t))
		}
	})
	line, err := stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("no line on standard output: %v", err)
	}
	s.URL = strings.TrimSuffix(line, "\n")
	return s
}

func (s *server) stderr(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// npmCI installs what package-lock.json says, unless it is there.
var npmCI = sync.OnceValues(func() ([]byte, error) {
	locked, err := os.Stat("package-lock.json")
	if err != nil {
		return nil, err
	}
	if installed, err := os.Stat("node_modules/.package-lock.json"); err == nil && !installed.ModTime().Before(locked.ModTime()) {
		return nil, nil
	}
	return exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts").CombinedOutput()
})

// needPackages makes sure of the packages that package-lock.json names.
func needPackages(t *testing.T) {
	t.Helper()
	if output, err := npmCI(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, output)
	}
}
