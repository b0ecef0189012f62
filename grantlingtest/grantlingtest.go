// Package grantlingtest runs grantling servers for Go tests.
//
//	func TestLogin(t *testing.T) {
//		srv := grantlingtest.Start(t, grantlingtest.Options{Fixtures: fixtures})
//		client := newClient(srv.URL + "/oauth/authorize", srv.URL + "/oauth/token")
//		client.Callback(srv.Approve(client.AuthorizationURL(), "alice"))
//		srv.Advance(2 * time.Hour)
//		...
//	}
//
// Each server is a process of its own on a free port, keeps everything in
// memory, and ends with its test, or with the test binary, however that ends.
// The binary is built once per test binary, from the version of the module
// that the tests are built with; that takes the go command.
package grantlingtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const module = "github.com/grantling/grantling"

// Options say how a server starts. What the environment says of flags does not
// count.
type Options struct {
	Fixtures string   // JSON of a fixtures file; empty: the user alice and the public client demo
	Args     []string // more flags, as "-profile", "figshare"; not -issuer or -tls-cert, by which tests would not reach it
	Binary   string   // the grantling to run; empty: it is built
}

// Server is a running server. Its methods end the test when something fails,
// so they are for the test's own goroutine.
type Server struct {
	URL string // the issuer, which paths are appended to

	t   testing.TB
	log lockedBuffer
}

// Start runs a server until the end of the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	binary := o.Binary
	if binary == "" {
		var err error
		if binary, err = build(); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-addr", "127.0.0.1:0", "-db", ":memory:", "-control", "-stop-with-stdin"}
	if o.Fixtures != "" {
		file := filepath.Join(t.TempDir(), "fixtures.json")
		if err := os.WriteFile(file, []byte(o.Fixtures), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-fixtures", file)
	}
	s := &Server{t: t}
	cmd := exec.Command(binary, append(args, o.Args...)...)
	cmd.Stderr = &s.log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "GRANTLING_") })
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // at which it stops
		patience := time.AfterFunc(15*time.Second, func() { cmd.Process.Kill() })
		defer patience.Stop()
		io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("grantling: %v", err)
		}
		if t.Failed() {
			t.Logf("grantling's log:\n%s", s.log.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("grantling did not start:\n%s", s.log.String())
	}
	s.URL = strings.TrimSpace(line)
	return s
}

// build makes the binary and returns its path.
var build = sync.OnceValues(func() (string, error) {
	// The module's own go.mod decides what it is built of, wherever it is used.
	found, err := output(exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module))
	source := strings.TrimSpace(found)
	if err == nil && source == "" {
		err = errors.New("its source is not here (with vendoring it cannot be)")
	}
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", module, err)
	}
	dir, err := privateDir(source)
	if err != nil {
		return "", err
	}
	// Other test binaries may build and run it at the same time: it is put
	// into place whole.
	fresh := filepath.Join(dir, "grantling-"+strconv.Itoa(os.Getpid()))
	binary := filepath.Join(dir, "grantling")
	if runtime.GOOS == "windows" {
		// There a running program cannot be replaced.
		binary += "-" + strconv.Itoa(os.Getpid()) + ".exe"
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", fresh, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=")
	if _, err := output(cmd); err != nil {
		os.Remove(fresh)
		return "", fmt.Errorf("building %s: %w", module, err)
	}
	return binary, os.Rename(fresh, binary)
})

// privateDir is a directory for what is built from a source, in which only this
// user can write: in the user's cache, or a new one for temporary files where
// there is no such cache or others can write to it (CWE-379).
func privateDir(source string) (string, error) {
	if cache, err := os.UserCacheDir(); err == nil {
		key := sha256.Sum256([]byte(source))
		dir := filepath.Join(cache, "grantlingtest", hex.EncodeToString(key[:8]))
		if err = os.MkdirAll(dir, 0o700); err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		if err == nil && isPrivate(dir) {
			return dir, nil
		}
	}
	return os.MkdirTemp("", "grantlingtest-*") // mode 0700
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), nil
}

// Approve sends an authorization request as if user had signed in and agreed.
// It returns where the browser is sent then: the client's redirect URI with a
// code, or with an error.
func (s *Server) Approve(authorizationURL, user string) (callbackURL string) {
	s.t.Helper()
	return s.decide(authorizationURL, user, "approve")
}

// Deny is Approve for a user who does not agree.
func (s *Server) Deny(authorizationURL, user string) (callbackURL string) {
	s.t.Helper()
	return s.decide(authorizationURL, user, "deny")
}

func (s *Server) decide(authorizationURL, user, decision string) string {
	s.t.Helper()
	var answer struct {
		RedirectTo string `json:"redirect_to"`
	}
	s.Control("POST", "authorize", map[string]string{"url": authorizationURL, "username": user, "decision": decision}, &answer)
	return answer.RedirectTo
}

// Token is a token answer (RFC 6749 §5.1).
type Token struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"` // seconds; 0: it was not said
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}

// Token issues tokens to a client: for a user, or, with user empty, for the
// client itself. An empty scope is the client's default.
func (s *Server) Token(client, user, scope string) Token {
	s.t.Helper()
	var token Token
	s.Control("POST", "tokens", map[string]string{"client_id": client, "username": user, "scope": scope}, &token)
	return token
}

// Advance moves the server's clock.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.Control("POST", "clock", map[string]string{"advance": d.String()}, nil)
}

// Forever is for Fault.Times.
const Forever = -1

// Fault is a failure on demand. What is empty is left as it is.
type Fault struct {
	Name             string            // a failure known by name; GET /_control/ lists them
	Endpoint         string            // authorize, token, revoke, introspect, tokeninfo, userinfo or metadata
	ClientID         string            // only requests of this client
	Times            int               // how often; 0: once, or, with Percent, Forever
	Percent          int               // of the requests, by dice that begin with Seed
	Seed             uint64            //
	Delay            time.Duration     //
	Status           int               //
	Error            string            // in the endpoint's own way
	ErrorDescription string            //
	Headers          map[string]string //
	Body             string            // instead of the endpoint's
	Drop             bool              // the connection is cut
}

// Fail stages a fault and returns its id, which the answer that it changed
// carries in the header Grantling-Fault.
func (s *Server) Fail(f Fault) (id string) {
	s.t.Helper()
	member := make(map[string]any)
	set := func(name string, value any, there bool) {
		if there {
			member[name] = value
		}
	}
	set("name", f.Name, f.Name != "")
	set("endpoint", f.Endpoint, f.Endpoint != "")
	set("client_id", f.ClientID, f.ClientID != "")
	set("times", max(f.Times, 0), f.Times != 0)
	set("percent", f.Percent, f.Percent != 0)
	set("seed", f.Seed, f.Seed != 0)
	set("delay", f.Delay.String(), f.Delay != 0)
	set("status", f.Status, f.Status != 0)
	set("error", f.Error, f.Error != "")
	set("error_description", f.ErrorDescription, f.ErrorDescription != "")
	set("headers", f.Headers, f.Headers != nil)
	set("body", f.Body, f.Body != "")
	set("drop", f.Drop, f.Drop)
	var staged struct{ ID string }
	s.Control("POST", "faults", member, &staged)
	return staged.ID
}

// Filter picks requests; what is empty picks all.
type Filter struct {
	Endpoint string
	ClientID string
	After    int           // the ID of a request
	Wait     time.Duration // for WaitRequest, at most 30 s; 0: 5 s
}

// Request is one request that the server was sent, and how it answered.
type Request struct {
	ID               int       `json:"id"`
	Time             time.Time `json:"time"`
	Endpoint         string    `json:"endpoint"` // empty: a page
	Method           string    `json:"method"`
	Path             string    `json:"path"`
	Params           Params    `json:"params"`
	ClientID         string    `json:"client_id"`
	GrantType        string    `json:"grant_type"`
	Username         string    `json:"username"`
	Status           int       `json:"status"` // 0: the connection was dropped
	Error            string    `json:"error"`
	ErrorDescription string    `json:"error_description"`
	Section          string    `json:"section"` // of the RFC, why it was refused
	Fault            string    `json:"fault"`   // id of the fault that changed the answer
	DurationMS       float64   `json:"duration_ms"`
	Flow             string    `json:"flow"`     // shared by an authorization request, its code, its tokens and their refreshes
	Warnings         []string  `json:"warnings"` // what works but should not be relied on
}

// Params are the parameters of a request. Secrets are cut to "…", codes and
// tokens to their public id and "…".
type Params map[string][]string

// Get returns the first value of a parameter, or "".
func (p Params) Get(name string) string { return url.Values(p).Get(name) }

// UnmarshalJSON takes strings, and lists where a parameter was sent repeatedly.
func (p *Params) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*p = make(Params)
	for name, value := range raw {
		if !bytes.HasPrefix(value, []byte("[")) {
			value = append(append([]byte("["), value...), ']')
		}
		var values []string
		if err := json.Unmarshal(value, &values); err != nil {
			return err
		}
		(*p)[name] = values
	}
	return nil
}

// Requests returns what the server was asked and answered, oldest first.
func (s *Server) Requests(f Filter) []Request {
	s.t.Helper()
	f.Wait = 0
	return s.requests(f)
}

// WaitRequest returns the first request that the filter picks, and waits for it.
func (s *Server) WaitRequest(f Filter) Request {
	s.t.Helper()
	if f.Wait == 0 {
		f.Wait = 5 * time.Second
	}
	found := s.requests(f)
	if len(found) == 0 {
		s.t.Fatalf("no request within %v that is %+v", f.Wait, f)
	}
	return found[0]
}

func (s *Server) requests(f Filter) []Request {
	s.t.Helper()
	query := url.Values{"wait": {f.Wait.String()}, "after": {strconv.Itoa(f.After)}}
	if f.Endpoint != "" {
		query.Set("endpoint", f.Endpoint)
	}
	if f.ClientID != "" {
		query.Set("client_id", f.ClientID)
	}
	var found []Request
	s.Control("GET", "requests?"+query.Encode(), nil, &found)
	return found
}

// client is not http.DefaultClient, in whose place suites put mocks.
var client = &http.Client{Transport: new(http.Transport)}

// Control sends any request of the control API: what is under /_control/. in
// is sent as JSON unless it is nil, and the answer decoded into out likewise.
func (s *Server) Control(method, path string, in, out any) {
	s.t.Helper()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			s.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, s.URL+"/_control/"+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK && out != nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s /_control/%s: %v %s %s", method, path, err, response.Status, data)
	}
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
