package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// slowly answers one request late, so that a person has the time to click
// again, and counts how often that one is sent.
func slowly(t *testing.T, method, path string, handler http.Handler) (address string, sent *atomic.Int32) {
	sent = new(atomic.Int32)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method && r.URL.Path == path {
			sent.Add(1)
			time.Sleep(400 * time.Millisecond)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(ts.Close)
	return ts.URL, sent
}

// twice clicks on a button two times, 120 ms apart, and returns the value that
// an expression has in the end.
func (b *tab) twice(selector, expression string) string {
	b.Helper()
	return b.eventually(`const button = document.querySelector("`+selector+`"); button.click(); setTimeout(() => button.click(), 120)`, expression)
}

// TestSecondPress is R189.
func TestSecondPress(t *testing.T) {
	t.Parallel()
	s := start(t)
	client := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<!doctype html><title>Client</title><p>Welcome back</p>"))
	})
	for decision, answer := range map[string]string{"approve": "code", "deny": "error"} {
		t.Run("R189 "+decision, func(t *testing.T) {
			t.Parallel()
			address, sent := slowly(t, "GET", "/callback", client)
			b := newTab(t)
			b.open(s.ask("xyz", address+"/callback", oauth2.GenerateVerifier()))
			b.signIn("alice", "wonderland")
			shown := b.twice("button[value="+decision+"]", `location.pathname === "/callback" ? location.search : document.querySelector("#error-description")?.textContent ?? ""`)
			if query, _ := url.ParseQuery(strings.TrimPrefix(shown, "?")); query.Get(answer) == "" || query.Get("state") != "xyz" || sent.Load() != 1 {
				t.Errorf("two clicks lead to %s, and the client was called %d times", shown, sent.Load())
			}
			b.wantText("p", "Welcome back")
		})
	}
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	t.Run("R189 sign in", func(t *testing.T) {
		t.Parallel()
		address, sent := slowly(t, "POST", "/login", proxy)
		b := newTab(t)
		b.open(address + "/login?continue=/account/applications")
		b.fill("input[name=username]", "alice")
		b.fill("input[name=password]", "wonderland")
		heading := b.twice("main form button", `["Sign in", ""].includes(document.querySelector("h1")?.textContent ?? "") && !document.querySelector("[role=alert]") ? "" : document.querySelector("main").textContent`)
		if !strings.Contains(heading, "Your applications") || sent.Load() != 1 {
			t.Errorf("two clicks lead to %s after %d requests", heading, sent.Load())
		}
	})
	t.Run("R189 register", func(t *testing.T) {
		t.Parallel()
		address, sent := slowly(t, "POST", "/account/applications/new", proxy)
		b := newTab(t)
		b.open(address + "/account/applications/new")
		b.signIn("bob", "builder")
		b.fill("#client_name", "Notes")
		b.fill("#redirect_uris", "http://127.0.0.1/callback")
		secret := b.twice("main form button", `document.querySelector("#client_secret, [role=status].done")?.textContent ?? ""`)
		if len(secret) != 43 || sent.Load() != 1 {
			t.Errorf("two clicks show %q after %d requests", secret, sent.Load())
		}
	})
	t.Run("R189 back and forward", func(t *testing.T) {
		t.Parallel()
		// A client that loads nothing else: the page before it may be kept.
		redirectURI := callback(t)
		b := newTab(t)
		b.open(s.ask("xyz", redirectURI, oauth2.GenerateVerifier()))
		b.signIn("alice", "wonderland")
		const consent, back = `document.querySelector("button[value=approve]") ? "there" : ""`, `location.pathname === "/callback" ? location.search : ""`
		b.eventually(`document.querySelector("button[value=deny]").click()`, back)
		b.eventually(`history.back()`, consent)
		b.eventually(`history.forward()`, back)
		b.eventually(`history.back()`, consent)
		// It asks anew, or it is the page that has been answered.
		b.eventually(`document.querySelector("button[value=approve]").click()`, back[:len(back)-2]+`document.querySelector("#error-description")?.textContent ?? ""`)

		t.Log("A page that the browser has kept as it was.")
		b.open(s.URL + "/login")
		if sent := run(b, chromedp.Evaluate[string](`document.forms[0].dataset.sent = "yes"; dispatchEvent(new PageTransitionEvent("pageshow", {persisted: true})); document.forms[0].dataset.sent ?? ""`)); sent != "" {
			t.Error("its form takes no press")
		}
	})
}

// TestTwoServers is R188: with https, in one browser.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	t.Run("R188 https at two ports", func(t *testing.T) {
		t.Parallel()
		ts := httptest.NewTLSServer(nil)
		defer ts.Close()
		certificate := ts.TLS.Certificates[0]
		key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		flags := []string{}
		for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}, "key": {Type: "PRIVATE KEY", Bytes: key}} {
			file := filepath.Join(folder, name)
			if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
			flags = append(flags, "-tls-"+name, file)
		}
		one, other := start(t, flags...), start(t, flags...)
		b := newTab(t)
		run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
			_, err := chromedp.Call(ctx, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
			return chromedp.Void{}, err
		})
		b.open(one.URL + "/login")
		b.signIn("alice", "wonderland")
		b.open(other.URL + "/login")
		b.signIn("bob", "builder")
		b.open(one.URL)
		b.wantText("main", "signed in as alice")
		b.open(other.URL)
		b.wantText("main", "signed in as bob")
	})
}
