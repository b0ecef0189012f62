package grantlingtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const fixtures = `{
  "users": [{"username": "alice", "password": "wonderland"}],
  "clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["http://127.0.0.1/cb"], "scope": "read write"}]
}`

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
	s := Start(t, Options{Fixtures: fixtures})
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
	s := Start(t, Options{Fixtures: fixtures})
	post(t, s, url.Values{"grant_type": {"refresh_token"}, "scope": {"a", "b"}})
	if got := s.Requests(Filter{})[0].Params["scope"]; fmt.Sprint(got) != "[a b]" {
		t.Errorf("a repeated parameter is %v in the log", got)
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
	if _, err := build(); err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	for range 3 { // whatever else the machine does
		began := time.Now()
		servers := make([]*Server, 20)
		t.Run("20 at once", func(t *testing.T) {
			var group sync.WaitGroup
			for i := range servers {
				group.Go(func() { servers[i] = Start(t, Options{Fixtures: fixtures}) })
			}
			group.Wait()
			took = time.Since(began)
			for i, s := range servers {
				s.Advance(time.Duration(i) * time.Hour)
				s.Token("web", "alice", "")
			}
			for i, s := range servers {
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
	if s := grantlingtest.Start(t, grantlingtest.Options{}); s.Token("demo", "alice", "read").AccessToken == "" {
		t.Error("no token")
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
		dir, err := privateDir("/source")
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
		first, _ := privateDir("/source")
		if second, _ := privateDir("/source"); first == second {
			t.Errorf("%s is not a fresh one", second)
		}
	})
	for name, open := range map[string]func(above, cache string) string{
		"the directory":                 func(_, cache string) string { return filepath.Join(cache, "grantlingtest") },
		"the cache":                     func(_, cache string) string { return cache },
		"the one above the cache":       func(above, _ string) string { return above },
		"the directory of this version": func(_, cache string) string { dir, _ := privateDir("/source"); return dir },
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
