package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// set replaces the text of a field.
func (b *tab) set(selector, text string) {
	b.Helper()
	run(b, chromedp.Evaluate[chromedp.Void](`document.querySelector("`+selector+`").value = ""`))
	b.fill(selector, text)
}

// sent presses a button of a lesson's step and wants the page after it.
func (b *tab) sent(selector string) {
	b.Helper()
	if status := b.click(selector); status != http.StatusOK {
		b.Errorf("%s: status %d", selector, status)
	}
}

// unfold opens a step.
func (b *tab) unfold(step string) {
	b.Helper()
	b.press("li:has(#" + step + ") summary")
}

// breaks presses a button that breaks a step, and follows its explanation.
func (b *tab) breaks(step, broken, heading string) {
	b.Helper()
	lesson := b.url().String()
	b.sent("#" + step + " button[value=" + broken + "]")
	b.sent("#" + step + " li:has(button[value=" + broken + "]) a")
	b.wantText("h1", heading)
	b.open(lesson)
}

// device walks through the lesson on the device grant, whose page opens in another
// tab.
func (b *tab) device(s *server) {
	b.Helper()
	b.open(s.URL + "/playground/device")
	b.sent("#ask button[value=send]")
	b.wantText("#ask", "200 OK", `"interval": 5`, "what the user enters")
	b.unfold("token")
	b.sent("#token button[value=send]")
	b.wantText("#token", "authorization_pending", "Refused: the user has not decided yet")
	b.breaks("token", "too-soon", "The device asks too often")
	b.unfold("decide")
	code := run(b, chromedp.Value(chromedp.CSS("#decide [name=user_code]")))
	mistyped := b.opens("#decide button[value=wrong-code]")
	mistyped.wantText("#problem", "No device waits with this code")
	page := b.opens("#decide button[value=send]") // at once, with scripts too
	page.wantText("#user-code", code)
	page.click("button[value=approve]")
	page.wantText("h1", "Device connected")

	b.open(s.URL + "/playground/device")
	b.unfold("token")
	b.sent("#token button[value=send]")
	b.wantText("#token", "200 OK", `"scope": "read"`)
	b.unfold("use")
	b.sent("#use button[value=send]")
	b.wantText("#use", "200 OK", `"sub": "alice"`)
	b.unfold("token")
	b.breaks("token", "replay", "The device code was used before")
	b.wantText("#token", "No longer good: the access token has been revoked.")
}

// TestPlayground walks through the lesson on codes, through the real sign-in and
// consent, with and without scripts.
func TestPlayground(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"with scripts", "without scripts"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newTab(t)
			if way == "without scripts" {
				b.withoutScripts()
			}
			b.open(s.URL + "/playground")
			b.wantText("h1", "Authorization code with PKCE")
			b.set("#verifier [name=code_verifier]", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
			if way == "without scripts" {
				b.sent("#verifier button[value=send]")
			}
			b.wantText("#verifier .hash", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
			if way == "with scripts" {
				b.sent("#verifier button[value=send]")
			}
			b.open(s.URL + "/playground/code?authorize.scope=read+notes")
			b.unfold("authorize")
			b.wantText("#authorize pre", "scope=read+notes", "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
			b.set("#authorize [name=scope]", "read")
			if way == "without scripts" {
				b.sent("#authorize button[value=show]")
			}
			b.wantText("#authorize pre", "scope=read&", "state=")

			b.sent("#authorize button[value=send]")
			b.wantText("h1", "Sign in")
			b.signIn("alice", "wonderland")
			b.wantText("h1", "Playground asks for access")
			b.sent("button[value=approve]")
			if got := b.url().String(); strings.Contains(got, "code=") || !strings.HasSuffix(got, "#back") {
				t.Errorf("after consent the address is %s", got)
			}
			b.wantText("#back", "state is the one that was sent", "iss is the server that was asked")

			b.unfold("token")
			b.sent("#token button[value=send]")
			b.wantText("#token", "200 OK", `"scope": "read"`, "opens resources until it expires")
			run(b, chromedp.Reload())
			b.wantText("#token", "200 OK", `"scope": "read"`)
			lesson := b.url().String()
			b.sent("#token .answer h3 a")
			b.wantText("main", "playground", "code_verifier")
			b.open(lesson)
			b.breaks("token", "wrong-verifier", "verifier")
			b.breaks("token", "replay", "The code was redeemed before")
			b.wantText("#token", "Refused: the code was used before; the tokens issued for it are now revoked.", "No longer good: the access token has been revoked.")
			if way == "without scripts" {
				b.device(s)
				return
			}
			b.audit("playground")
			b.open(s.URL + "/playground/client-credentials")
			b.set("#token [name=scope]", "read & write")
			b.wantText("#token pre", "scope=read+%26+write")
			b.sent("#token button[value=send]")
			b.audit("playground-client-credentials")
			b.open(s.URL + "/playground/device")
			b.sent("#ask button[value=send]")
			run(b, chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach(d => d.open = true)`))
			b.audit("playground-device")

			// The token of the implicit grant is behind the #, where only a script sees it.
			b.open(s.URL + "/playground/implicit")
			b.sent("#authorize button[value=send]")
			b.sent("button[value=approve]")
			if got := b.url().String(); strings.Contains(got, "access_token=") {
				t.Errorf("the token stays in the address: %s", got)
			}
			b.sent("#fragment button[value=send]")
			b.unfold("use")
			b.sent("#use button[value=send]")
			b.wantText("#use", "200 OK", `"sub": "alice"`)
			b.audit("playground-implicit")
			b.device(s) // leaves this tab behind others
		})
	}
}
