package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// shows waits until an element has a text.
func (b *tab) shows(selector, text string) {
	b.Helper()
	find := fmt.Sprintf("(document.querySelector(%q)?.textContent ?? '').includes(%q)", selector, text)
	if !run(b, chromedp.Evaluate[bool](`new Promise((found) => {
		const look = () => `+find+` && (seen.disconnect(), found(true));
		const seen = new MutationObserver(look);
		seen.observe(document, { subtree: true, childList: true, characterData: true });
		look();
		setTimeout(() => found(false), 10000);
	})`, await)) {
		b.Errorf("%s shows %q, want %q in it", selector, b.text(selector), text)
	}
}

// TestInspector watches a flow in one tab while another goes through it.
func TestInspector(t *testing.T) {
	t.Parallel()
	s := start(t)
	list, b := newTab(t), newTab(t)
	list.open(s.URL + "/inspect")
	list.shows(".live", "Live")
	b.open(s.URL + "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"native"}, "redirect_uri": {"urn:ietf:wg:oauth:2.0:oob"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}.Encode())
	list.shows(".flows", "Waits for somebody to sign in")
	if status := list.click(".flows .outcome a"); status != http.StatusOK {
		t.Fatalf("the flow: status %d", status)
	}
	list.shows(".live", "Live")
	list.press("summary")
	b.signIn("alice", "wonderland")
	list.shows("h1", "Waits for alice to decide")
	b.click("button[value=approve]")
	list.shows("h1", "Code issued, not redeemed yet")
	code := b.text("#code")
	for _, want := range []string{"Tokens issued", "Refused: the code was redeemed before"} {
		r, err := http.PostForm(s.URL+"/oauth/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {"native"}, "code": {code},
			"redirect_uri": {"urn:ietf:wg:oauth:2.0:oob"}, "code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}})
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		list.shows("h1", want)
	}
	if !run(list, chromedp.Evaluate[bool](`document.querySelector("details").open`)) {
		t.Error("the exchange that was opened is closed again")
	}
	if shown := run(list, chromedp.Evaluate[string]("document.documentElement.outerHTML")); strings.Contains(shown, code[22:]) {
		t.Error("the page has the code")
	}
	list.audit("inspect-flow")
	list.open(s.URL + "/inspect")
	list.audit("inspect")

	list.withoutScripts()
	list.open(s.URL + "/inspect")
	list.wantText(".heading", "Reload for newer ones")
	list.wantText(".flows", "Refused: the code was redeemed before")
}
