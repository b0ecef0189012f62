package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// chromium is the one browser process, started by the first test that needs it.
var chromium = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, errors.New("these tests need Chromium: apt-get install chromium")
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.WindowSize(1280, 800)}
	for _, flag := range []string{"headless", "hide-scrollbars", "no-sandbox", "disable-gpu", "disable-dev-shm-usage",
		"disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	// Whatever it would look up: it finds this machine only.
	options = append(options, chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))
	allocator, quit := chromedp.NewExecAllocator(context.Background(), options...)
	quitChromium = quit
	ctx, _ := chromedp.NewContext(allocator)
	return ctx, chromedp.Do(ctx)
})

// quitChromium ends the process and removes its folder.
var quitChromium = func() {}

// tab is a tab with cookies of its own.
type tab struct {
	*testing.T
	ctx context.Context
}

// newTab opens a tab for the time of the test, which fails if the browser
// blocks anything, as a Content-Security-Policy makes it do.
func newTab(t *testing.T) *tab {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var blocked []string
	err = chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok && e.Entry.Source == log.EntrySourceSecurity {
			mu.Lock()
			defer mu.Unlock()
			blocked = append(blocked, e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closeTab()
		mu.Lock()
		defer mu.Unlock()
		for _, text := range blocked {
			t.Errorf("the browser says: %s", text)
		}
	})
	return &tab{t, ctx}
}

// run runs an action, which has to be done within 20 seconds.
func run[T any](b *tab, action chromedp.Action[T]) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.Fatal(err)
	}
	return result
}

// open goes to a URL and returns the status of the page at the end.
func (b *tab) open(url string) int {
	b.Helper()
	return int(run(b, chromedp.NavigateResponse(url)).Status)
}

// click clicks on what leads to another page and returns that one's status.
func (b *tab) click(selector string) int {
	b.Helper()
	return int(run(b, func(ctx context.Context, t *chromedp.Target) (*network.Response, error) {
		return chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
	}).Status)
}

// fill types into a field.
func (b *tab) fill(selector, text string) {
	b.Helper()
	run(b, chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// text is what a person sees of an element.
func (b *tab) text(selector string) string {
	b.Helper()
	return run(b, chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible))
}

// wantText wants an element to show all of texts.
func (b *tab) wantText(selector string, texts ...string) {
	b.Helper()
	shown := b.text(selector)
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			b.Errorf("%s shows %q, want %q in it", selector, shown, text)
		}
	}
}

// url is what the address bar shows.
func (b *tab) url() *url.URL {
	b.Helper()
	u, err := url.Parse(run(b, chromedp.Location()))
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// signIn fills in the sign-in page.
func (b *tab) signIn(username, password string) int {
	b.Helper()
	b.fill("input[name=username]", username)
	b.fill("input[name=password]", password)
	return b.click("main form button")
}

// look wants the page to fit a desktop and a telephone. With
// GRANTLING_SCREENSHOTS=DIR it leaves pictures there, light and dark.
func (b *tab) look(name string) {
	b.Helper()
	dir := os.Getenv("GRANTLING_SCREENSHOTS")
	for _, size := range []struct{ width, height int64 }{{360, 740}, {1280, 800}} {
		run(b, chromedp.EmulateViewport(size.width, size.height))
		if width := run(b, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); width > size.width {
			b.Errorf("%s is %d pixels wide on a screen of %d", name, width, size.width)
		}
		for _, scheme := range []string{"light", "dark"} {
			if dir == "" {
				continue
			}
			run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
				_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				return chromedp.Void{}, err
			})
			file := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, size.width, scheme))
			if err := os.WriteFile(file, run(b, chromedp.FullScreenshot(100)), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// application is a web application at another site than the server's.
type application struct {
	*oauth2.Config
	URL      string
	verifier string
}

// newApplication runs the client web: a page with a link and a form that lead
// to the authorization endpoint, and a callback.
func (s *server) newApplication(t *testing.T) *application {
	a := &application{Config: s.web(), verifier: oauth2.GenerateVerifier()}
	page := template.Must(template.New("").Parse(`<!doctype html><title>Web app</title>
<a href="{{.URL}}">Sign in</a>
<form method="post" action="{{.Endpoint}}">
{{range $name, $values := .Query}}<input type="hidden" name="{{$name}}" value="{{index $values 0}}">{{end}}
<button>Sign in</button>
</form>`))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		target := a.AuthCodeURL("xyz", oauth2.S256ChallengeOption(a.verifier))
		u, err := url.Parse(target)
		if err != nil {
			t.Error(err)
			return
		}
		page.Execute(w, struct {
			URL, Endpoint string
			Query         url.Values
		}{target, a.Endpoint.AuthURL, u.Query()})
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<!doctype html><title>Web app</title><p>Welcome back</p>"))
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	a.URL = strings.Replace(ts.URL, "127.0.0.1", "localhost", 1)
	a.RedirectURL = a.URL + "/callback"
	return a
}

// wantCallback wants the browser to have come back, and returns the answer
// (RFC 6749 §4.1.2, RFC 9207 §2).
func (a *application) wantCallback(b *tab, issuer string) url.Values {
	b.Helper()
	u := b.url()
	answer := u.Query()
	if !strings.HasPrefix(u.String(), a.RedirectURL+"?") || answer.Get("state") != "xyz" || answer.Get("iss") != issuer {
		b.Fatalf("the browser is at %s", u)
	}
	b.wantText("p", "Welcome back")
	return answer
}

// wantCode wants the browser to have come back with a code that is good.
func (a *application) wantCode(b *tab, issuer string) {
	b.Helper()
	answer := a.wantCallback(b, issuer)
	token, err := a.Exchange(b.Context(), answer.Get("code"), oauth2.VerifierOption(a.verifier))
	wantToken(b.T, token, err, "read write")
}

// R67: the redirect that answers the form goes to another origin, which a
// form-action in the Content-Security-Policy would block.
func TestBrowserApprove(t *testing.T) {
	t.Parallel()
	s := start(t)
	a, b := s.newApplication(t), newTab(t)
	b.open(a.URL)
	b.click("a")
	b.wantText("main", "Sign in", "Web app")
	b.look("sign-in")
	b.signIn("alice", "wonderland")
	b.wantText("h1", "Web app")
	b.wantText("main", "alice", "Alice Liddell", "web.example", "read", "write", strings.TrimPrefix(a.URL, "http://"))
	b.look("consent")
	b.click("button[value=approve]")
	a.wantCode(b, s.URL)

	t.Log("Again: the session and the consent are remembered.")
	b.open(a.URL)
	b.click("a")
	a.wantCode(b, s.URL)
}

// The authorization endpoint takes POST as well (RFC 6749 §3.1), also from
// another site, from where browsers send no cookie with it.
func TestBrowserPost(t *testing.T) {
	t.Parallel()
	s := start(t)
	a, b := s.newApplication(t), newTab(t)
	b.open(s.URL + "/login")
	b.signIn("alice", "wonderland")
	b.open(a.URL)
	b.click("button")
	b.click("button[value=approve]")
	a.wantCode(b, s.URL)
}

func TestBrowserDeny(t *testing.T) {
	t.Parallel()
	s := start(t)
	a, b := s.newApplication(t), newTab(t)
	b.open(a.URL)
	b.click("a")
	b.signIn("alice", "wonderland")
	b.click("button[value=deny]")
	answer := a.wantCallback(b, s.URL)
	if answer.Get("error") != "access_denied" || answer.Has("code") {
		t.Errorf("the answer is %v, want access_denied", answer)
	}

	t.Log("Again: a refusal is not remembered.")
	b.open(a.URL)
	b.click("a")
	b.click("button[value=approve]")
	a.wantCode(b, s.URL)
}

func TestBrowserWrongPassword(t *testing.T) {
	t.Parallel()
	s := start(t)
	a, b := s.newApplication(t), newTab(t)
	b.open(a.URL)
	b.click("a")
	if status := b.signIn("alice", "guess"); status != http.StatusUnprocessableEntity {
		t.Errorf("status %d", status)
	}
	b.wantText("[role=alert]", "wrong")
	b.look("sign-in-wrong")
	if username := run(b, chromedp.Value(chromedp.CSS("input[name=username]"))); username != "alice" {
		t.Errorf("the username is %q now", username)
	}
	if password := run(b, chromedp.Value(chromedp.CSS("input[name=password]"))); password != "" {
		t.Errorf("the password is %q now", password)
	}
	b.fill("input[name=password]", "wonderland")
	b.click("main form button")
	b.click("button[value=approve]")
	a.wantCode(b, s.URL)
}

func TestBrowserSwitchUser(t *testing.T) {
	t.Parallel()
	s := start(t)
	a, b := s.newApplication(t), newTab(t)
	b.open(s.URL)
	b.look("start")
	b.click(`a[href$="/login"]`)
	b.signIn("bob", "builder")
	b.wantText("main", "signed in as bob")
	b.look("start-signed-in")
	b.open(a.URL)
	b.click("a")
	b.wantText("main", "bob")
	b.click(`button[formaction$="/logout"]`)
	b.signIn("alice", "wonderland")
	b.wantText("main", "alice")
	b.click("button[value=approve]")
	a.wantCode(b, s.URL)
	b.open(s.URL)
	b.click(`form[action$="/logout"] button`)
	b.wantText("main", "not signed in")
}

func TestBrowserOutOfBand(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := newTab(t)
	c := s.native()
	c.RedirectURL = "urn:ietf:wg:oauth:2.0:oob"
	verifier := oauth2.GenerateVerifier()
	ask := c.AuthCodeURL("", oauth2.S256ChallengeOption(verifier))
	b.open(ask)
	b.signIn("alice", "wonderland")
	b.wantText(".note", "cannot prove who it is") // RFC 6749 §10.2
	b.look("consent-public")
	b.click("button[value=approve]")
	b.look("code")
	token, err := c.Exchange(t.Context(), b.text("#code"), oauth2.VerifierOption(verifier))
	wantToken(t, token, err, "read write")

	t.Log("The code is used now, and its page says so.")
	b.open(b.url().String())
	b.wantText("#error", "invalid_request")

	t.Log("A public client is asked for every time.")
	b.open(ask)
	b.click("button[value=deny]")
	b.wantText("#error", "access_denied")
	b.wantText("#error-description", "denied")
	b.look("error")
}

func TestBrowserErrorPage(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := newTab(t)
	c := s.web()
	c.RedirectURL = "https://evil.example/callback"
	if status := b.open(c.AuthCodeURL("xyz")); status != http.StatusBadRequest {
		t.Errorf("status %d", status)
	}
	b.wantText("#error", "invalid_request")
	b.wantText("#error-description", "redirect_uri")
	b.look("error-redirect-uri")
}

// TestFirstStart follows the banner of a server that starts in an empty
// folder, until there is a token.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("this test needs curl: apt-get install curl")
	}
	s := startIn(t, t.TempDir())
	banner := s.stderr(t)
	find := func(pattern string) string {
		t.Helper()
		match := regexp.MustCompile(pattern).FindStringSubmatch(banner)
		if match == nil {
			t.Fatalf("no %s in the banner:\n%s", pattern, banner)
		}
		return match[1]
	}
	link := find(`(?m)^\s*(` + regexp.QuoteMeta(s.URL) + `/oauth/authorize\?\S+)$`)
	password := find(`alice with the password (\S+)`)
	command := find(`(?m)^\s*(curl (?:.*\\\n)*.*)$`)

	b := newTab(t)
	b.open(link)
	b.signIn("alice", password)
	b.look("first-start-consent")
	b.click("button[value=approve]")
	code := b.text("#code")
	if n := strings.Count(command, "CODE"); n != 1 {
		t.Fatalf("CODE is %d times in %s", n, command)
	}
	output, err := exec.Command("sh", "-c", strings.Replace(command, "CODE", code, 1)).Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	token := new(oauth2.Token)
	if err := json.Unmarshal(output, token); err != nil || token.AccessToken == "" {
		t.Fatalf("%s: %s", command, output)
	}
	client := oauth2.NewClient(t.Context(), oauth2.StaticTokenSource(token))
	if sub := getJSON(t, client, s.URL+"/userinfo")["sub"]; sub != "alice" {
		t.Errorf("the token stands for %v", sub)
	}
}
