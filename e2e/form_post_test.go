package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// TestFormPost: Chromium sends the answer to the client as a form, under the
// Content-Security-Policy of the page, and only once.
func TestFormPost(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, verifier := s.web(), oauth2.GenerateVerifier()
	got := make(chan url.Values, 10)
	var origin string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/callback" {
			r.ParseForm()
			origin = r.Header.Get("Origin")
			got <- r.PostForm
		}
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<!doctype html><title>Web app</title><p>Welcome back</p>"))
	}))
	t.Cleanup(ts.Close)
	c.RedirectURL = strings.Replace(ts.URL, "127.0.0.1", "localhost", 1) + "/callback"
	answer := func(t *testing.T) url.Values {
		t.Helper()
		select {
		case form := <-got:
			if form.Get("state") != "xyz" || form.Get("iss") != s.URL || origin != s.URL {
				t.Fatalf("got %v from %s", form, origin)
			}
			return form
		case <-time.After(20 * time.Second):
			t.Fatal("the client got no form")
			return nil
		}
	}
	ask := c.AuthCodeURL("xyz", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("response_mode", "form_post"))
	b := newTab(t)
	b.open(ts.URL)
	b.open(ask)
	b.signIn("alice", "wonderland")

	t.Run("R221 a refusal as a form", func(t *testing.T) {
		b.click("button[value=deny]")
		if form := answer(t); form.Get("error") != "access_denied" || form.Has("code") {
			t.Errorf("%v", form)
		}
	})
	t.Run("R221 a code as a form", func(t *testing.T) {
		b.open(ask)
		b.click("button[value=approve]")
		token, err := c.Exchange(b.Context(), answer(t).Get("code"), oauth2.VerifierOption(verifier))
		wantToken(t, token, err, "read write")
		b.wantText("p", "Welcome back")
	})
	t.Run("R221 going back sends nothing again", func(t *testing.T) {
		for _, entry := range run(b, chromedp.NavigationEntries()).Entries {
			if strings.HasSuffix(entry.URL, "/consent") {
				t.Errorf("the history has the page with the form, %s", entry.URL)
			}
		}
	})
}
