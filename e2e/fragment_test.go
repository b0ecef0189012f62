package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestFragment is oidc-client-ts in Chromium, a single-page app that gets its code
// in the fragment and asks for tokens itself, from another origin than the server's.
func TestFragment(t *testing.T) {
	t.Parallel()
	needPackages(t)
	s := start(t, "-control")
	mux := http.NewServeMux()
	for path, file := range map[string]string{"/oidc-client-ts.js": "node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js", "/app.mjs": "oidc-client.mjs"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	}
	asked := make(chan string, 10) // what the app's own server saw of the answer
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			asked <- r.URL.String()
		}
		fmt.Fprintf(w, `<!doctype html><title>Single-page app</title><link rel="icon" href="data:,"><body data-issuer="%s">
			<button id="sign-in">Sign in</button><p id="outcome"></p>
			<script src="/oidc-client-ts.js"></script><script type="module" src="/app.mjs"></script>`, s.URL)
	})
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)

	b := newTab(t)
	b.open(s.URL + "/login")
	b.signIn("alice", "wonderland")
	signIn := func(t *testing.T, decision string) (outcome string) {
		t.Helper()
		b.open(app.URL)
		b.eventually(`document.getElementById("sign-in").click()`, `document.querySelector("button[value=`+decision+`]")?.value ?? ""`)
		b.click("button[value=" + decision + "]")
		outcome = b.eventually("", `document.getElementById("outcome")?.textContent ?? ""`)
		if seen := <-asked; strings.ContainsAny(seen, "?#") {
			t.Errorf("the server of the app is asked for %s", seen)
		}
		return outcome
	}
	t.Run("R221 tokens by a code in the fragment", func(t *testing.T) {
		want := `{"scope":"read write","token_type":"Bearer","state":"page 7","sub":"alice","isNew":true,"status":401}`
		if got := signIn(t, "approve"); got != want {
			t.Errorf("it has %s, want %s", got, want)
		}
	})
	t.Run("R221 a refusal in the fragment", func(t *testing.T) {
		if got := signIn(t, "deny"); got != "ErrorResponse: the user denied the request" {
			t.Errorf("it says %s", got)
		}
	})
	t.Run("R221 another state in the fragment", func(t *testing.T) {
		s.control(t, "POST", "faults", `{"name":"wrong_state"}`)
		if got := signIn(t, "approve"); got != "Error: No matching state found in storage" {
			t.Errorf("it says %s", got)
		}
	})
}
