package grantlingtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// options have the user alice and the client web.
var options = Options{
	Users:   []User{{Username: "alice", Password: "wonderland"}},
	Clients: []Client{{ClientID: "web", ClientSecret: "web-secret", RedirectURIs: []string{"http://127.0.0.1/cb"}, Scope: "read write"}},
}

func authorizationURL(s *Server, state string) string {
	return s.URL + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"web"}, "state": {state}}.Encode()
}

// post sends a form as the client web and returns the status and the JSON.
func post(t *testing.T, s *Server, form url.Values) (int, map[string]any) {
	t.Helper()
	request, _ := http.NewRequest("POST", s.URL+"/oauth/token", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth("web", "web-secret")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	json.NewDecoder(response.Body).Decode(&answer)
	return response.StatusCode, answer
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t, options)
	callback, err := url.Parse(s.Approve(authorizationURL(s, "xyz"), "alice"))
	if err != nil || callback.Query().Get("state") != "xyz" {
		t.Fatalf("back at %v", callback)
	}
	status, token := post(t, s, url.Values{"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}})
	if status != 200 {
		t.Fatalf("status %d: %v", status, token)
	}
	if back := s.Deny(authorizationURL(s, "abc"), "alice"); !strings.Contains(back, "error=access_denied") {
		t.Errorf("denied: %s", back)
	}

	minted := s.Token("web", "alice", "read")
	if minted.AccessToken == "" || minted.RefreshToken == "" || minted.ExpiresIn != 3600 || minted.Scope != "read" || minted.TokenType != "Bearer" {
		t.Errorf("minted %+v", minted)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {minted.RefreshToken}}
	s.Advance(31 * 24 * time.Hour)
	if status, answer := post(t, s, refresh); answer["error"] != "invalid_grant" {
		t.Errorf("refresh after 31 days: status %d, %v", status, answer)
	}

	last := s.WaitRequest(Filter{Endpoint: "token", ClientID: "web", After: 3})
	if last.Error != "invalid_grant" || last.Section != "RFC 6749 §6" || last.GrantType != "refresh_token" || !strings.HasSuffix(last.Params.Get("refresh_token"), "…") {
		t.Errorf("the log has %+v", last)
	}
	first := s.Requests(Filter{Endpoint: "authorize"})[0]
	if first.Flow == "" || first.Flow != s.Requests(Filter{Endpoint: "token"})[0].Flow || fmt.Sprint(first.Warnings) != "[PKCE missing]" {
		t.Errorf("the log begins with %+v", first)
	}

	id := s.Fail(Fault{Endpoint: "token", Times: 2, Status: 503, Body: "later", Headers: map[string]string{"Retry-After": "1"}})
	for range 2 {
		if status, _ := post(t, s, refresh); status != 503 {
			t.Errorf("with a fault staged: status %d", status)
		}
	}
	if status, _ := post(t, s, refresh); status != 400 {
		t.Errorf("after the fault: status %d", status)
	}
	if all := s.Requests(Filter{Endpoint: "token"}); all[2].Fault != id || all[4].Fault != "" {
		t.Errorf("the log has %+v", all)
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	s := Start(t, options)
	post(t, s, url.Values{"grant_type": {"refresh_token"}, "scope": {"a", "b"}})
	if got := s.Requests(Filter{})[0]; fmt.Sprint(got.Params["scope"]) != "[a b]" || got.Reason != "parameter-twice" {
		t.Errorf("the log has %+v", got)
	}
}

// A resource server is a client with an empty list of grant types. It may introspect
// the tokens of others.
func TestResourceServer(t *testing.T) {
	t.Parallel()
	o := options
	o.Clients = append(o.Clients[:1:1], Client{ClientID: "declared", ClientSecret: "x", GrantTypes: []string{}}, Client{ClientID: "other", ClientSecret: "x"})
	s := Start(t, o)
	s.AddClient(Client{ClientID: "added", ClientSecret: "x", GrantTypes: []string{}})
	token := s.Token("web", "alice", "read").AccessToken
	for clientID, want := range map[string]bool{"declared": true, "added": true, "other": false} {
		response, err := http.PostForm(s.Endpoint("introspect"), url.Values{"client_id": {clientID}, "client_secret": {"x"}, "token": {token}})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var answer struct{ Active *bool }
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Active == nil || *answer.Active != want {
			t.Errorf("%s: status %d, %v", clientID, response.StatusCode, err)
		}
	}
}

// The environment of a suite may be that of a server of its own.
func TestEnvironment(t *testing.T) {
	t.Setenv("GRANTLING_PROFILE", "none")
	Start(t, Options{}).Advance(time.Hour)
}

// A suite may have replaced what net/http sends with: this test is not one of
// the parallel ones.
func TestMockedTransport(t *testing.T) {
	s := Start(t, Options{})
	defer func(real http.RoundTripper) { http.DefaultTransport = real }(http.DefaultTransport)
	http.DefaultTransport = http.NewFileTransport(http.Dir(t.TempDir()))
	s.Advance(time.Hour)
}

// Twenty servers start together in under a second, and know nothing of each other.
func TestStart(t *testing.T) {
	Start(t, Options{}) // so that the binary is there
	var took time.Duration
	for range 3 { // whatever else the machine does
		began := time.Now()
		servers, errs := make([]*process, 20), make([]error, 20)
		t.Run("20 at once", func(t *testing.T) {
			var group sync.WaitGroup
			for i := range servers {
				group.Go(func() { servers[i], errs[i] = start(options) })
			}
			group.Wait()
			took = time.Since(began)
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			for i, p := range servers {
				t.Cleanup(func() {
					if err := p.stop(); err != nil {
						t.Error(err)
					}
				})
				s := &Server{p.url, t, p}
				s.Advance(time.Duration(i) * time.Hour)
				s.Token("web", "alice", "")
			}
			for i, p := range servers {
				s := &Server{p.url, t, p}
				var clock struct{ Offset string }
				if s.Control("GET", "clock", nil, &clock); clock.Offset != (time.Duration(i) * time.Hour).String() {
					t.Errorf("the clock of server %d is off by %s", i, clock.Offset)
				}
			}
		})
		if took < time.Second {
			return
		}
	}
	t.Errorf("20 servers took %v", took)
}

// With Args, any profile or database will do.
func TestArgs(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Args: []string{"-auto-approve", "alice"}})
	response, err := http.Get(s.URL + "/oauth/authorize?response_type=code&client_id=demo&redirect_uri=urn:ietf:wg:oauth:2.0:oob&code_challenge_method=S256&code_challenge=" + strings.Repeat("a", 43))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 || !strings.HasSuffix(response.Request.URL.Path, "/native") {
		t.Errorf("%d at %s", response.StatusCode, response.Request.URL)
	}
}

// recorder is a test that may fail: it keeps what it was told.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	told     strings.Builder
	failed   bool
	cleanups []func()
}

func (r *recorder) note(failed bool, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = r.failed || failed
	fmt.Fprintln(&r.told, text)
}

func (r *recorder) Helper()                           {}
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Failed() bool                      { return r.failed }
func (r *recorder) Error(args ...any)                 { r.note(true, fmt.Sprint(args...)) }
func (r *recorder) Logf(format string, args ...any)   { r.note(false, fmt.Sprintf(format, args...)) }
func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

func (r *recorder) Fatal(args ...any) {
	r.note(true, fmt.Sprint(args...))
	runtime.Goexit()
}

// record runs a test and returns what it was told, and whether it failed.
func record(test func(t testing.TB)) (told string, failed bool) {
	r, over := new(recorder), make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			for i := range r.cleanups {
				r.cleanups[len(r.cleanups)-1-i]()
			}
		}()
		test(r)
	}()
	<-over
	return r.told.String(), r.failed
}

// TestIn: a failure is that of the test whose view of the server it came from.
func TestIn(t *testing.T) {
	t.Parallel()
	t.Run("a server of Start", func(t *testing.T) {
		t.Parallel()
		s := Start(t, options)
		told, failed := record(func(t testing.TB) { s.In(t).Token("web", "nobody", "") })
		if !failed || !strings.Contains(told, "username: ") {
			t.Errorf("failed: %v, told %q", failed, told)
		}
		s.Token("web", "alice", "")
	})
	t.Run("a server of Run", func(t *testing.T) {
		t.Parallel()
		var s Server
		code := Run(tests(func() int {
			s.Token("web", "alice", "") // outside of a test
			visit := func(path string) {
				http.Get(s.URL + path)
				for !strings.Contains(s.p.log.since(0), path) {
					time.Sleep(time.Millisecond) // the log comes after the answer
				}
			}
			visit("/before")
			told, failed := record(func(t testing.TB) {
				srv := s.In(t)
				visit("/meanwhile")
				srv.Endpoint("nowhere")
			})
			if !failed || !strings.Contains(told, `no endpoint "nowhere", only authorize, device_authorization, introspect,`) {
				t.Errorf("failed: %v, told %q", failed, told)
			}
			if !strings.Contains(told, "meanwhile") || strings.Contains(told, "before") {
				t.Errorf("the log of the test is %q", told)
			}
			defer func() {
				if problem := fmt.Sprint(recover()); !strings.Contains(problem, "username: ") {
					t.Errorf("outside of a test: %s", problem)
				}
			}()
			s.Token("web", "nobody", "")
			return 1
		}), &s, options)
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		if told, failed := record(func(t testing.TB) { new(Server).In(t) }); !failed || !strings.Contains(told, "must call Run") {
			t.Errorf("failed: %v, told %q", failed, told)
		}
	})
}

// tests are those of a package, as testing.M is.
type tests func() int

func (run tests) Run() int { return run() }

func TestRun(t *testing.T) {
	t.Parallel()
	var s Server
	if code := Run(tests(func() int { s.Reset(); return 3 }), &s, Options{}); code != 3 {
		t.Errorf("exit code %d, want 3: that of the tests", code)
	}
	if _, err := http.Get(s.URL + "/healthz"); err == nil {
		t.Error("it runs after the tests")
	}
	if code := Run(tests(func() int { t.Error("the tests run without a server"); return 0 }), &s, Options{Args: []string{"-nothing"}}); code != 1 {
		t.Errorf("exit code %d, want 1: no server", code)
	}
	if code := Run(tests(func() int { s.p.kill(); return 0 }), &s, Options{}); code != 1 {
		t.Errorf("exit code %d, want 1: the server ended before the tests", code)
	}
}

// The methods of users, clients and the clock, and what a reset does.
func TestRegistrations(t *testing.T) {
	t.Parallel()
	more := filepath.Join(t.TempDir(), "more.json")
	if err := os.WriteFile(more, []byte(`{"users": [{"username": "bob", "password": "builder"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Start(t, Options{
		Users:   []User{{Username: "alice", Password: "wonderland"}},
		Clients: []Client{{ClientID: "job", ClientSecret: "job-secret", Scope: "read"}},
		Args:    []string{"-fixtures", more},
	})
	if token := s.Token("job", "", ""); token.Scope != "read" {
		t.Errorf("a token of the client's own: %+v", token)
	}
	s.Token("job", "bob", "")

	s.AddUser(User{Username: "carol", Password: "p", Name: "Carol", Email: "carol@example.com"})
	added := s.AddClient(Client{ClientID: "app", RedirectURIs: []string{"https://app.example/cb"}, GrantTypes: []string{"authorization_code"}})
	if added.ClientSecret == "" || added.ClientID != "app" || fmt.Sprint(added.RedirectURIs, added.GrantTypes) != "[https://app.example/cb] [authorization_code]" {
		t.Errorf("added %+v", added)
	}
	if public := s.AddClient(Client{ClientID: "spa", TokenEndpointAuthMethod: "none"}); public.ClientSecret != "" {
		t.Errorf("added %+v", public)
	}
	s.Token("app", "carol", "")
	s.RemoveClient("app")
	s.RemoveUser("carol")
	for what, refused := range map[string]func(s *Server){
		"a client that was removed": func(s *Server) { s.Token("app", "alice", "") },
		"a user that was removed":   func(s *Server) { s.Token("job", "carol", "") },
	} {
		if _, failed := record(func(t testing.TB) { refused(s.In(t)) }); !failed {
			t.Errorf("%s has tokens", what)
		}
	}

	s.SetTime(time.Date(2040, 2, 3, 4, 5, 6, 0, time.UTC))
	s.Advance(time.Hour)
	if now := s.Now(); now.Before(time.Date(2040, 2, 3, 5, 5, 6, 0, time.UTC)) || now.After(time.Date(2040, 2, 3, 5, 15, 0, 0, time.UTC)) {
		t.Errorf("the clock says %v", now)
	}
	if token := s.TokenFor(90*time.Second, "job", "alice", ""); token.ExpiresIn != 90 {
		t.Errorf("a token for 90 seconds: %+v", token)
	}
	s.Fail(Fault{Endpoint: "token", Status: 503})
	s.ClearFaults()
	post(t, s, url.Values{"grant_type": {"client_credentials"}})
	if seen := s.Requests(Filter{}); len(seen) != 1 || seen[0].Status != 401 {
		t.Errorf("the log has %+v", seen)
	}
	s.ForgetRequests()
	if seen := s.Requests(Filter{}); len(seen) != 0 {
		t.Errorf("the log has %+v", seen)
	}

	s.AddUser(User{Username: "dave", Password: "p"})
	s.Reset()
	if now := s.Now(); now.Year() == 2040 {
		t.Errorf("after a reset the clock says %v", now)
	}
	s.Token("job", "alice", "")
	if _, failed := record(func(t testing.TB) { s.In(t).Token("job", "dave", "") }); !failed {
		t.Error("dave is there after a reset")
	}
}

// TestFault: what a fault is on the wire.
func TestFault(t *testing.T) {
	t.Parallel()
	for want, fault := range map[string]Fault{
		`{"endpoint":"token"}`:                          {Endpoint: "token"},
		`{"name":"slow_body","times":0,"delay":"1.5s"}`: {Name: "slow_body", Times: Forever, Delay: 1500 * time.Millisecond},
		`{"endpoint":"token","client_id":"web","percent":50,"seed":7,"status":503,"error":"busy","error_description":"later","headers":{"Retry-After":"1"},"times":2}`: {
			Endpoint: "token", ClientID: "web", Times: 2, Percent: 50, Seed: 7,
			Status: 503, Error: "busy", ErrorDescription: "later", Headers: map[string]string{"Retry-After": "1"},
		},
		`{"body":"{}","drop":true}`: {Body: "{}", Drop: true},
	} {
		if got, err := json.Marshal(fault); err != nil || string(got) != want {
			t.Errorf("%+v is %s, %v; want %s", fault, got, err, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for profile, paths := range map[string]map[string]string{
		"rfc6749":  {"authorize": "/oauth/authorize", "token": "/oauth/token", "tokeninfo": "/oauth/token/info", "userinfo": "/userinfo", "metadata": "/.well-known/oauth-authorization-server"},
		"figshare": {"authorize": "/account/applications/authorize", "token": "/v2/token", "tokeninfo": "/v2/token"},
	} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			s := Start(t, Options{Args: []string{"-profile", profile}})
			for name, path := range paths {
				if got := s.Endpoint(name); got != s.URL+path {
					t.Errorf("%s is %s, want %s", name, got, s.URL+path)
				}
			}
		})
	}
}

// init is a broken server instead of the tests, if it is run as one.
func init() {
	last := len(os.Args) - 1
	if last < 1 || os.Args[last-1] != "-broken" {
		return
	}
	fmt.Fprintln(os.Stderr, "first line\nlast line")
	switch os.Args[last] {
	case "silent": // it never tells its URL
		io.Copy(io.Discard, os.Stdin)
	case "dead": // it tells its URL and is gone
		fmt.Println("http://127.0.0.1:1")
	case "deaf": // it never answers, and never stops
		l, _ := net.Listen("tcp", "127.0.0.1:0")
		fmt.Println("http://" + l.Addr().String())
		select {}
	}
	os.Exit(3)
}

// TestBroken: a server that dies or never answers fails the test, with the end
// of its log.
func TestBroken(t *testing.T) {
	t.Parallel()
	for how, want := range map[string][]string{
		"ended":  {"grantling did not start; grantling has ended (exit status 3); its log ends with:\nfirst line\nlast line\n"},
		"silent": {"grantling did not start; grantling runs, but does not answer; its log ends with:\nfirst line\nlast line\n"},
		"dead":   {"/_control/clock", "grantling has ended (exit status 3); its log ends with:\nfirst line\nlast line\n"},
		"deaf":   {"/_control/clock", "grantling runs, but does not answer; its log ends with:\nfirst line\nlast line\n", "grantling did not stop"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			told, failed := record(func(t testing.TB) {
				Start(t, Options{Binary: os.Args[0], Args: []string{"-broken", how}, patience: 3 * time.Second}).Now()
			})
			for _, text := range want {
				if !failed || !strings.Contains(told, text) {
					t.Errorf("failed: %v, told %q", failed, told)
				}
			}
		})
	}
	t.Run("a flag that does not exist", func(t *testing.T) {
		told, failed := record(func(t testing.TB) { Start(t, Options{Args: []string{"-nothing"}}) })
		if !failed || !strings.Contains(told, "exit status 2") || !strings.Contains(told, "-nothing") {
			t.Errorf("failed: %v, told %q", failed, told)
		}
	})
	t.Run("killed", func(t *testing.T) {
		told, failed := record(func(t testing.TB) { Start(t, Options{}).p.kill() })
		if !failed || !strings.Contains(told, "grantling has ended (") {
			t.Errorf("failed: %v, told %q", failed, told)
		}
	})
}

// TestBinary: each state of the source is built once, whoever asks.
func TestBinary(t *testing.T) {
	source, cache := t.TempDir(), t.TempDir()
	for _, variable := range []string{"GOCACHE", "GOPATH", "GOMODCACHE"} { // not below the cache of this test
		value, err := output(exec.Command("go", "env", variable))
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(variable, strings.TrimSpace(value))
	}
	for _, variable := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(variable, cache)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module "+module+"\n\ngo 1.26\n")
	write("go.sum", "")
	write("page.html", "one")
	code := "package main\n\nimport (\n\t_ \"embed\"\n\t\"os\"\n)\n\n//go:embed page.html\nvar page string\n\nfunc main() { os.Stdout.WriteString(page) }\n"
	write("main.go", code)
	built := func() (path string, file os.FileInfo) {
		t.Helper()
		b, err := findBinary(source)
		if err == nil {
			err = b.build()
		}
		if err != nil {
			t.Fatal(err)
		}
		page, err := exec.Command(b.path).Output()
		if content, _ := os.ReadFile(filepath.Join(source, "page.html")); err != nil || string(page) != string(content) {
			t.Errorf("it prints %q, %v; want %q", page, err, content)
		}
		file, err = os.Stat(b.path)
		if err != nil {
			t.Fatal(err)
		}
		return b.path, file
	}
	first, file := built()
	if again, same := built(); again != first || !os.SameFile(file, same) {
		t.Errorf("it is built again, as %s after %s", again, first)
	}
	write("page.html", "two")
	second, _ := built()
	longAgo := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(first, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	write("main.go", code+"// another state\n")
	third, _ := built()
	var want, kept []string
	for _, path := range []string{second, third} {
		want = append(want, filepath.Base(path))
	}
	entries, err := os.ReadDir(filepath.Dir(first))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		kept = append(kept, entry.Name())
	}
	slices.Sort(want)
	if !slices.Equal(kept, want) {
		t.Errorf("kept are %v, want %v: what was used in the last hour", kept, want)
	}
	write("main.go", "package main\n")
	if b, err := findBinary(source); err != nil || !strings.Contains(fmt.Sprint(b.build()), "function main is undeclared") {
		t.Errorf("%v; building what has no main function: %v", err, b.build())
	}
}

// TestKilled kills a test binary that has servers running.
func TestKilled(t *testing.T) {
	if os.Getenv("GRANTLINGTEST_KILLED") != "" {
		for range 3 {
			// Without a log: writing it to a parent that is gone would end the server too.
			fmt.Println("server", Start(t, Options{Args: []string{"-log", "off"}}).URL)
		}
		fmt.Println("ready")
		select {}
	}
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	child.Env = append(os.Environ(), "GRANTLINGTEST_KILLED=yes")
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready"; {
		if url, found := strings.CutPrefix(lines.Text(), "server "); found {
			urls = append(urls, url)
		}
	}
	alive := func() (alive []string) {
		for _, url := range urls {
			if response, err := http.Get(url + "/healthz"); err == nil {
				response.Body.Close()
				alive = append(alive, url)
			}
		}
		return alive
	}
	if len(alive()) != 3 {
		t.Errorf("alive are %v of %v", alive(), urls)
	}
	child.Process.Kill() // SIGKILL: none of its cleanups run
	child.Wait()
	for deadline := time.Now().Add(10 * time.Second); len(alive()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("alive after the test binary was killed: %v", alive())
		}
	}
}

// Another module that requires this one can use the package.
func TestOtherModule(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module other.example\n\ngo 1.26\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root + "\n",
		"other_test.go": `package other

import (
	"testing"

	"` + module + `/grantlingtest"
)

func TestOther(t *testing.T) {
	srv := grantlingtest.Start(t, grantlingtest.Options{})
	if token := srv.Token("demo", "alice", "read"); token.AccessToken == "" {
		t.Errorf("no access token in %+v", token)
	}
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-mod=mod", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPrivateDir: nobody else can put a binary where this one is run from.
func TestPrivateDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("file modes are not what protects files there")
	}
	want := func(t *testing.T, parent string) {
		t.Helper()
		dir, err := privateDir()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(dir, parent+string(filepath.Separator)) {
			t.Errorf("%s, want one in %s", dir, parent)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode() != os.ModeDir|0o700 {
			t.Errorf("mode %v, %v; want 0700", info.Mode(), err)
		}
	}
	// surroundings are a cache below a directory, and another for temporary files.
	surroundings := func(t *testing.T) (above, cache, temporary string) {
		root, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		above, temporary = filepath.Join(root, "above"), filepath.Join(root, "temporary")
		cache = filepath.Join(above, "cache")
		for _, dir := range []string{cache, temporary} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("XDG_CACHE_HOME", cache)
		t.Setenv("TMPDIR", temporary)
		if runtime.GOOS == "darwin" {
			t.Setenv("HOME", above)
			cache = filepath.Join(above, "Library", "Caches")
			os.MkdirAll(cache, 0o700)
		}
		return above, cache, temporary
	}
	t.Run("R186 the user's cache", func(t *testing.T) {
		_, cache, _ := surroundings(t)
		want(t, cache)
		want(t, cache) // the same again
	})
	t.Run("R186 neither HOME nor XDG_CACHE_HOME", func(t *testing.T) {
		_, _, temporary := surroundings(t)
		t.Setenv("XDG_CACHE_HOME", "")
		t.Setenv("HOME", "")
		want(t, temporary)
		want(t, temporary) // the same again
	})
	t.Run("R186 others made the directory among the temporary files", func(t *testing.T) {
		_, _, temporary := surroundings(t)
		t.Setenv("XDG_CACHE_HOME", "")
		t.Setenv("HOME", "")
		foreign, err := privateDir()
		if err := errors.Join(err, os.Chmod(foreign, 0o777)); err != nil {
			t.Fatal(err)
		}
		want(t, temporary)
		if dir, _ := privateDir(); dir == foreign {
			t.Errorf("%s is not a new one", dir)
		}
	})
	t.Run("R186 the directory is a link", func(t *testing.T) {
		_, cache, temporary := surroundings(t)
		if err := os.Symlink(t.TempDir(), filepath.Join(cache, "grantlingtest")); err != nil {
			t.Fatal(err)
		}
		want(t, temporary)
	})
	for name, open := range map[string]func(above, cache string) string{
		"the directory":           func(_, cache string) string { return filepath.Join(cache, "grantlingtest") },
		"the cache":               func(_, cache string) string { return cache },
		"the one above the cache": func(above, _ string) string { return above },
	} {
		t.Run("R186 others can write to "+name, func(t *testing.T) {
			above, cache, temporary := surroundings(t)
			dir := open(above, cache)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, mode := range []os.FileMode{0o777, 0o770} {
				if err := os.Chmod(dir, mode); err != nil {
					t.Fatal(err)
				}
				want(t, temporary)
			}
		})
	}
	t.Run("R186 the cache is in a directory with the sticky bit", func(t *testing.T) {
		above, cache, _ := surroundings(t)
		if err := os.Chmod(above, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		want(t, cache)
	})
	t.Run("R186 the directory is another user's", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can give files away")
		}
		_, cache, temporary := surroundings(t)
		dir := filepath.Join(cache, "grantlingtest")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		want(t, temporary)
	})
}

// TestDevice plays the device and its user.
func TestDevice(t *testing.T) {
	t.Parallel()
	srv := Start(t, options)
	const grantType = "urn:ietf:params:oauth:grant-type:device_code"
	send := func(endpoint string, form url.Values) (answer struct {
		DeviceCode  string `json:"device_code"`
		UserCode    string `json:"user_code"`
		Error       string `json:"error"`
		AccessToken string `json:"access_token"`
	}) {
		t.Helper()
		form.Set("client_id", "web")
		form.Set("client_secret", "web-secret")
		response, err := http.PostForm(srv.Endpoint(endpoint), form)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for name, row := range map[string]struct {
		decide func(userCode, username string)
		error  string
	}{"R220 ApproveDevice": {srv.ApproveDevice, ""}, "R220 DenyDevice": {srv.DenyDevice, "access_denied"}} {
		t.Run(name, func(t *testing.T) {
			device := send("device_authorization", url.Values{})
			poll := url.Values{"grant_type": {grantType}, "device_code": {device.DeviceCode}}
			if got := send("token", poll); got.Error != "authorization_pending" {
				t.Errorf("%+v", got)
			}
			row.decide(device.UserCode, "alice")
			srv.Advance(5 * time.Second)
			if got := send("token", poll); got.Error != row.error || (got.AccessToken == "") != (row.error != "") {
				t.Errorf("%+v", got)
			}
		})
	}
}
