package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// withoutScripts makes the tab's pages do without JavaScript.
func (b *tab) withoutScripts() {
	b.Helper()
	run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return chromedp.Void{}, err
	})
}

// press clicks on what leads to no other page.
func (b *tab) press(selector string) {
	b.Helper()
	run(b, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// status asks a URL with an access token.
func (s *server) status(t *testing.T, path, accessToken string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+accessToken)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// callback is a client's redirection endpoint.
func callback(t *testing.T) (uri string) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<!doctype html><title>Client</title><p>Welcome back</p>"))
	}))
	t.Cleanup(ts.Close)
	return ts.URL + "/callback"
}

// TestApplicationWalk is the life of an application as its owner sees it, with
// and without JavaScript.
func TestApplicationWalk(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"with scripts", "without scripts"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newTab(t)
			if name == "without scripts" {
				b.withoutScripts()
			}
			redirectURI := callback(t)
			b.open(s.URL)
			b.click("a.card[href$=login]")
			b.signIn("alice", "wonderland")
			b.click(`a[href$="/account/applications"]`)
			b.wantText("main", "none yet")
			b.click(`a[href$="/new"]`)
			b.fill("[name=client_name]", "Field notes")
			b.fill("[name=redirect_uris]", redirectURI+"#fragment")
			b.fill("[name=scope]", "read write")
			if status := b.click("main form p button"); status != http.StatusUnprocessableEntity {
				t.Errorf("status %d", status)
			}
			b.wantText("#redirect_uris-problem", "fragment")
			run(b, chromedp.Clear(chromedp.CSS("[name=redirect_uris]")))
			b.fill("[name=redirect_uris]", redirectURI)
			b.click("main form p button")
			b.wantText("h1", "Field notes is registered")
			secret := b.text("#client_secret")

			t.Log("The URL and the command of the page do what they promise.")
			asked := b.opens("details[open] a")
			asked.wantText("h1", "Field notes")
			asked.wantText("main", "alice", strings.TrimPrefix(strings.TrimSuffix(redirectURI, "/callback"), "http://"))
			asked.click("button[value=approve]")
			asked.wantText("p", "Welcome back")
			command := run(b, chromedp.TextContent(chromedp.CSS("details[open] .copyable + .copyable code"))) // it is still there
			output, err := exec.Command("sh", "-c", strings.Replace(command, "CODE", asked.url().Query().Get("code"), 1)).Output()
			match := regexp.MustCompile(`"access_token":"([^"]*)".*"refresh_token":"([^"]*)"`).FindSubmatch(output)
			if err != nil || match == nil {
				t.Fatalf("%s: %v: %s", command, err, output)
			}
			token := string(match[1])
			if status := s.status(t, "/userinfo", token); status != http.StatusOK {
				t.Errorf("userinfo: status %d", status)
			}

			t.Log("A reload sends the form again, which makes no second application.")
			run(b, chromedp.Reload())
			b.wantText("h1", "Field notes")
			b.wantText("[role=status]", "already registered")

			t.Log("It is among the authorized applications until it is revoked.")
			b.open(s.URL + "/account/authorized")
			b.wantText("main", "Field notes", "read", "write", "last used")
			b.click(".permission button")
			b.wantText("main", "No application may act for you")
			if status := s.status(t, "/userinfo", token); status != http.StatusUnauthorized {
				t.Errorf("userinfo after revocation: status %d", status)
			}

			t.Log("It can be changed.")
			b.open(s.URL + "/account/applications")
			b.click(".rows a")
			run(b, chromedp.Clear(chromedp.CSS("[name=client_name]")))
			b.fill("[name=client_name]", "Lab notes")
			b.click("main form p button")
			b.wantText("[role=status]", "Saved")
			b.wantText("h1", "Lab notes")
			b.press("details:has([action$=regenerate]) summary")
			b.click("[action$=regenerate] button")
			if again := b.text("#client_secret"); again == secret || len(again) != len(secret) {
				t.Errorf("the new secret is %s, the old one was %s", again, secret)
			}
			b.click(`main a[href*="/edit"]`)
			b.press("details:has([action$=delete]) summary")
			b.click("[action$=delete] button")
			b.wantText("main", "none yet")
		})
	}
}

// With scripts a button copies; without them there is none.
func TestCopyButton(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := newTab(t)
	b.open(s.URL)
	b.press(".copy")
	// The clipboard takes its time, and what is said of it goes away again.
	said := b.eventually(``, `(said => said && document.querySelector(".copy").innerText + "; " + said)(document.querySelector("main > [role=status]").textContent)`)
	if !strings.HasPrefix(said, "Copied") || !strings.HasSuffix(said, "; Copied the URL") {
		t.Errorf("the button, and a screen reader, say %q", said)
	}
	b.withoutScripts()
	b.open(s.URL)
	if n := run(b, chromedp.Evaluate[int](`document.querySelectorAll(".copy").length`)); n != 0 {
		t.Errorf("%d buttons that do nothing", n)
	}
}

// TestWalkWithoutScripts is sign-in, consent and the code, without JavaScript.
func TestWalkWithoutScripts(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := newTab(t)
	b.withoutScripts()
	c := s.native()
	c.RedirectURL = "urn:ietf:wg:oauth:2.0:oob"
	verifier := oauth2.GenerateVerifier()
	b.open(c.AuthCodeURL("", oauth2.S256ChallengeOption(verifier)))
	b.signIn("alice", "guess")
	b.wantText("#problem", "wrong")
	b.fill("[name=password]", "wonderland")
	b.click("main form button")
	b.click("button[value=approve]")
	token, err := c.Exchange(t.Context(), b.text("#code"), oauth2.VerifierOption(verifier))
	wantToken(t, token, err, "read write")
}

// second opens another tab of the same browser, with the same cookies.
func (b *tab) second() *tab {
	b.Helper()
	ctx, closeTab := chromedp.NewContext(b.ctx)
	if err := chromedp.Do(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(closeTab)
	return &tab{b.T, ctx}
}

// opens clicks on what opens another tab, and returns that.
func (b *tab) opens(selector string) *tab {
	b.Helper()
	tabs := func() []*target.Info {
		all, err := chromedp.Targets(b.ctx)
		if err != nil {
			b.Fatal(err)
		}
		of := slices.IndexFunc(all, func(info *target.Info) bool { return info.TargetID == chromedp.FromContext(b.ctx).Target.TargetID })
		return slices.DeleteFunc(all, func(info *target.Info) bool {
			return info.Type != "page" || info.BrowserContextID != all[of].BrowserContextID
		})
	}
	before := tabs()
	b.press(selector)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for _, info := range tabs() {
			if slices.ContainsFunc(before, func(known *target.Info) bool { return known.TargetID == info.TargetID }) {
				continue
			}
			ctx, closeTab := chromedp.NewContext(b.ctx, chromedp.WithTargetID(info.TargetID))
			if err := chromedp.Do(ctx); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(closeTab)
			return &tab{b.T, ctx}
		}
	}
	b.Fatalf("%s opens no tab", selector)
	return nil
}

// ask is an authorization request of a public client.
func (s *server) ask(state, redirectURI, verifier string) string {
	c := s.native()
	c.RedirectURL = redirectURI
	return c.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))
}

// R47: two tabs at once, answered in the other order, do not mix.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	s := start(t)
	redirectURI := callback(t)
	verifiers := map[string]string{"one": oauth2.GenerateVerifier(), "two": oauth2.GenerateVerifier()}
	one := newTab(t)
	one.open(s.URL + "/login")
	one.signIn("alice", "wonderland")
	two := one.second()
	one.open(s.ask("one", redirectURI, verifiers["one"]))
	two.open(s.ask("two", redirectURI, verifiers["two"]))
	for state, b := range map[string]*tab{"two": two, "one": one} {
		b.click("button[value=approve]")
		answer := b.url().Query()
		if answer.Get("state") != state {
			t.Errorf("state %s, want %s", answer.Get("state"), state)
		}
		c := s.native()
		c.RedirectURL = redirectURI
		token, err := c.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(verifiers[state]))
		wantToken(t, token, err, "read write")
	}
}

// R61: a second user signs in while the consent page of the first is open.
func TestSecondUser(t *testing.T) {
	t.Parallel()
	s := start(t)
	redirectURI := callback(t)
	alice := newTab(t)
	alice.open(s.ask("xyz", redirectURI, oauth2.GenerateVerifier()))
	alice.signIn("alice", "wonderland")
	alice.wantText("main", "alice")
	bob := alice.second()
	bob.open(s.URL)
	bob.click(`form[action$="/logout"] button`)
	bob.click(`nav a[href$="/login"]`)
	bob.signIn("bob", "builder")
	bob.wantText("main", "signed in as bob")
	if status := alice.click("button[value=approve]"); status != http.StatusForbidden {
		t.Errorf("status %d", status)
	}
	alice.wantText("#error", "access_denied")
	alice.wantText("#error-description", "another sign-in")
	alice.open(s.ask("xyz", redirectURI, oauth2.GenerateVerifier()))
	alice.wantText("main", "bob")
}

// R62: a request that waits too long for its decision is over, and the next
// one is asked as usual.
func TestExpiredRequest(t *testing.T) {
	t.Parallel()
	s := start(t, "-control")
	redirectURI := callback(t)
	b := newTab(t)
	b.open(s.ask("xyz", redirectURI, oauth2.GenerateVerifier()))
	b.signIn("alice", "wonderland")
	answer, err := http.Post(s.URL+"/_control/clock", "application/json", strings.NewReader(`{"advance":"31m"}`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if status := b.click("button[value=approve]"); status != http.StatusBadRequest {
		t.Errorf("status %d", status)
	}
	b.wantText("#error-description", "expired")
	b.open(s.ask("xyz", redirectURI, oauth2.GenerateVerifier()))
	b.click("button[value=approve]")
	if b.url().Query().Get("code") == "" {
		t.Errorf("no code in %s", b.url())
	}
}

// R62: back, and approve once more: one decision is one code. The browser may
// show the page that it kept, which is answered already, or ask anew.
func TestBackAfterApprove(t *testing.T) {
	t.Parallel()
	s := start(t)
	redirectURI := callback(t)
	b := newTab(t)
	b.open(s.URL + "/login")
	b.signIn("alice", "wonderland")
	b.open(s.ask("xyz", redirectURI, oauth2.GenerateVerifier()))
	page := run(b, chromedp.Evaluate[string](`document.querySelector("[name=id]").value`))
	b.click("button[value=approve]")
	code := b.url().Query().Get("code")

	// Not NavigateBack, which waits for a load: a page that was kept has none.
	b.eventually(`history.back()`, `document.querySelector("[name=id]")?.value ?? ""`)
	again := run(b, chromedp.Evaluate[string](`document.querySelector("[name=id]").value`))
	shown := b.eventually(`document.querySelector("button[value=approve]").click()`, `location.pathname === "/callback" ? location.search : document.querySelector("#error-description")?.textContent ?? ""`)
	switch answer, _ := url.ParseQuery(strings.TrimPrefix(shown, "?")); {
	case again == page && !strings.Contains(shown, "answered already"):
		t.Errorf("the second answer to one request is %s", shown)
	case again != page && (answer.Get("code") == "" || answer.Get("code") == code):
		t.Errorf("the answer to the second request is %s", shown)
	}
}

// eventually lets the page do something and returns the value of an
// expression as soon as it has one.
func (b *tab) eventually(do, expression string) (value string) {
	b.Helper()
	run(b, chromedp.Evaluate[chromedp.Void]("setTimeout(() => { "+do+" }); undefined"))
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		// Between two pages there is nothing to ask.
		if value, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression)); err == nil && value != "" {
			return value
		}
	}
	b.Fatalf("%s: %s is empty", do, expression)
	return ""
}
