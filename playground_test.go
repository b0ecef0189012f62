package main

import (
	"crypto/sha256"
	"encoding/hex"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// lessonWalk is a browser in a lesson.
type lessonWalk struct {
	*browser
	page *reply
	url  string
}

func startPlayground(t *testing.T) *instance {
	t.Helper()
	return start(t, (*server).openPlayground)
}

func (b *browser) lesson(target string) *lessonWalk {
	b.Helper()
	w := &lessonWalk{browser: b}
	w.open(target)
	return w
}

// open shows a page of the lesson, after redirects in the playground.
func (w *lessonWalk) open(target string) {
	w.Helper()
	w.url = target
	w.page = w.get(target)
	for w.page.StatusCode == http.StatusSeeOther {
		w.url = w.page.location().String()
		w.page = w.get(w.url)
	}
	if w.page.StatusCode != http.StatusOK {
		w.Fatalf("%s: status %d: %s", target, w.page.StatusCode, w.page.body)
	}
}

// step is the part of the page that shows a step.
func (w *lessonWalk) step(name string) string {
	w.Helper()
	_, rest, found := strings.Cut(w.page.body, `<div class="step" id="`+name+`">`)
	if !found {
		w.Fatalf("there is no step %s: %s", name, w.page.body)
	}
	part, _, _ := strings.Cut(rest, "</details>")
	return html.UnescapeString(part)
}

var (
	stepAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	stepField  = regexp.MustCompile(`<input[^>]* name="([^"]*)"[^>]* value="([^"]*)"`)
	anyTag     = regexp.MustCompile(`<[^>]*>`)
)

// post sends the form of a step as it is shown, with changes: name, value. A
// redirect to a page of the playground is followed, any other is returned.
func (w *lessonWalk) post(step string, change ...string) *reply {
	w.Helper()
	part := w.step(step)
	action := stepAction.FindStringSubmatch(part)
	if action == nil {
		w.Fatalf("the step %s has no form: %s", step, part)
	}
	form := url.Values{}
	for _, field := range stepField.FindAllStringSubmatch(part, -1) {
		form.Set(field[1], field[2])
	}
	r := w.browser.post(action[1], with(form, change...))
	if r.StatusCode != http.StatusSeeOther {
		w.Fatalf("%s: status %d: %s", step, r.StatusCode, r.body)
	}
	if strings.HasPrefix(r.location().Path, "/playground") {
		w.open(r.location().String())
	}
	return r
}

// visit sends the browser to the authorization endpoint and back. alice, who is
// signed in, decides.
func (w *lessonWalk) visit(decision string, change ...string) {
	w.Helper()
	r := w.post("authorize", change...)
	r = w.get(r.location().String())
	if strings.Contains(r.body, `name="decision"`) {
		r = w.decide(r, decision)
	}
	if r.StatusCode != http.StatusSeeOther || r.location().Path != "/playground/callback" {
		w.Fatalf("it does not come back: status %d, %s: %s", r.StatusCode, r.Header.Get("Location"), r.body)
	}
	w.open(r.location().String())
}

// wants wants a step to say all of texts.
func (w *lessonWalk) wants(step string, texts ...string) {
	w.Helper()
	shown := w.step(step)
	for _, text := range texts {
		if !strings.Contains(shown, text) && !strings.Contains(anyTag.ReplaceAllString(shown, ""), text) {
			w.Errorf("the step %s does not say %q: %s", step, text, shown)
		}
	}
}

// explains wants a break to lead to an explanation.
func (w *lessonWalk) explains(step, broken, slug string) {
	w.Helper()
	w.post(step, "break", broken)
	link := regexp.MustCompile(`value="` + broken + `">.*?</li>`).FindString(strings.ReplaceAll(w.step(step), "\n", " "))
	if !strings.Contains(link, `<a href="/explain/`+slug+`">Why</a>`) {
		w.Errorf("%s of %s leads to %s, want %s", broken, step, link, slug)
	}
}

func TestPlaygroundCode(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	w := i.as("alice").lesson("/playground")
	if w.url != i.URL+"/playground/code" {
		t.Errorf("the playground begins at %s", w.url)
	}
	w.wants("token", "There is no code yet")
	w.post("verifier", "code_verifier", verifier, "do", "send")
	w.wants("verifier", "13d31e961a1ad8ec2f16b10c4c982e0876a878ad6df144566ee1894acb70f9c3", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
	w.wants("authorize", "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")

	// What is changed is in the URL, in the request shown, and in the one sent.
	w.post("authorize", "scope", "read calendar", "state", "my state", "do", "show")
	if w.url != i.URL+"/playground/code?authorize.scope=read+calendar&authorize.state=my+state#authorize" {
		t.Errorf("the URL is %s", w.url)
	}
	w.wants("authorize", "scope=read+calendar&state=my+state&", "changed, was read")
	sent := w.post("authorize", "scope", "read calendar", "do", "send")
	if got, want := sent.location().String(), i.URL+"/oauth/authorize?response_type=code&client_id=playground&redirect_uri="+url.QueryEscape(i.URL+"/playground/callback")+
		"&scope=read+calendar&state=my+state&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"; got != want {
		t.Errorf("the browser is sent to\n%s, want\n%s", got, want)
	}
	w.visit("approve", "scope", "read calendar", "do", "send")
	if w.url != i.URL+"/playground/code?authorize.scope=read+calendar&authorize.state=my+state#back" {
		t.Errorf("after consent, the URL is %s", w.url)
	}
	w.wants("back", "passstate is the one that was sent", "passiss is the server that was asked", "passthere is a code or a token, and no error")

	w.explains("token", "wrong-verifier", "code-verifier-wrong")
	w.explains("token", "other-redirect-uri", "redirect-uri-differs")
	w.wants("token", "Send the good request first.")
	w.post("token", "do", "send")
	w.wants("token", "200 OK", "Cache-Control: no-store", `"scope": "read calendar"`, "opens resources until it expires")
	w.post("use", "do", "send")
	w.wants("use", "200 OK", `"sub": "alice"`)
	w.explains("use", "wrong-token", "unknown-token")

	// The refresh token, at first in good order.
	refresh := w.browser.lesson("/playground/refresh")
	refresh.explains("refresh", "wider-scope", "scope-not-granted")
	refresh.wants("refresh", "Send the good request first.")
	refresh.post("refresh", "do", "send")
	refresh.wants("refresh", "200 OK")
	refresh.explains("refresh", "old-refresh-token", "refresh-token-used")
	refresh.post("use", "do", "send")
	refresh.wants("use", "401 Unauthorized", "the access token has been revoked")

	// Once more, for a code that is sent twice.
	w.open(w.url)
	w.visit("approve", "do", "send")
	w.post("token", "do", "send")
	w.explains("token", "replay", "code-used")
	w.wants("token", "No longer good: the access token has been revoked.")
	w.post("use", "do", "send")
	w.wants("use", "401 Unauthorized", "the access token has been revoked")
}

// TestPlaygroundState: the form shows the state that was sent, and each request has
// another one.
func TestPlaygroundState(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	w := i.as("alice").lesson("/playground/code")
	field := regexp.MustCompile(`name="state"[^>]* value="([^"]*)"`)
	known := make(map[string]bool)
	for _, decision := range []string{"approve", "deny", "approve"} {
		r := w.post("authorize", "do", "send")
		sent := r.location().Query().Get("state")
		if sent == "" || known[sent] {
			t.Errorf("the state %q is sent again", sent)
		}
		known[sent] = true
		r = w.get(r.location().String())
		if strings.Contains(r.body, `name="decision"`) {
			r = w.decide(r, decision)
		}
		w.open(r.location().String())
		if shown := field.FindStringSubmatch(w.step("authorize")); shown == nil || shown[1] != sent {
			t.Errorf("%s was sent, and the form shows %v", sent, shown)
		}
		w.wants("authorize", "this one has been sent, and the next request gets another")
		w.wants("back", "state="+sent)
	}
}

func TestPlaygroundRefusedByTheClient(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	w := i.as("alice").lesson("/playground/code")
	w.visit("approve", "break", "no-state")
	w.wants("authorize", "a good client throws this answer away", "RFC 6749 §10.12")
	w.wants("token", "There is no code yet")
	w.visit("deny", "do", "send")
	w.wants("authorize", "the user denied the request", `href="/explain/denied-by-the-user"`)
	w.wants("back", "failthere is a code or a token, and no error")

	r := w.get(w.post("authorize", "break", "unregistered-redirect-uri").location().String())
	r.wantPage(http.StatusBadRequest)
	r.contains("/explain/redirect-uri-not-registered")

	// An answer that nobody asked for is not taken.
	w.open("/playground/callback?code=foreign&state=foreign")
	w.visit("approve", "do", "send")
	w.post("authorize", "do", "send")
	w.open("/playground/callback?code=foreign&state=foreign&iss=" + url.QueryEscape(i.URL))
	w.wants("back", "failstate is the one that was sent", "the client throws this answer away")
	w.wants("token", "There is no code yet")
}

func TestPlaygroundOtherGrants(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	b := i.as("alice")
	w := b.lesson("/playground/client-credentials")
	w.wants("token", "Authorization: Basic base64(playground-confidential:…)")
	w.post("token", "do", "send")
	w.wants("token", "200 OK")
	w.explains("token", "wrong-secret", "client-secret-wrong")
	w.explains("token", "public-client", "public-client")

	w = b.lesson("/playground/introspection")
	w.post("introspect", "do", "send")
	w.wants("introspect", `"active": true`, `"client_id": "playground-confidential"`)
	w.explains("introspect", "public-client", "public-client")
	w.explains("introspect", "no-token", "missing")

	w = b.lesson("/playground/password")
	w.post("token", "password", "wonderland", "do", "send")
	w.wants("token", "200 OK")
	w.explains("token", "wrong-password", "password-wrong")
	w.explains("token", "other-client", "grant-type-not-registered")
	if strings.Contains(w.page.body, "wonderland") {
		t.Error("the page keeps the password")
	}

	w = b.lesson("/playground/revocation")
	w.explains("revoke", "no-token", "missing")
	w.explains("revoke", "other-client", "token-of-another-client")
	w.post("revoke", "do", "send")
	w.wants("revoke", "200 OK")
	w.post("use", "do", "send")
	w.wants("use", "401 Unauthorized", `href="/explain/token-revoked"`)

	w = b.lesson("/playground/implicit")
	r := w.get(w.post("authorize", "do", "send").location().String())
	back := w.decide(r, "approve").location()
	token := back.Fragment[len("access_token="):strings.Index(back.Fragment, "&")]
	back.Fragment = ""
	w.open(back.String())
	w.post("fragment", "access_token", token, "do", "send")
	if strings.Contains(w.page.body, token) {
		t.Error("the page shows a whole token")
	}
	w.post("use", "do", "send")
	w.wants("use", "200 OK", `"sub": "alice"`)
}

// TestPlaygroundDevice: a device waits while its user decides on a page of its own.
func TestPlaygroundDevice(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	w := i.as("alice").lesson("/playground/device")
	w.wants("decide", "There is no user code yet")
	w.wants("token", "There is no device code yet")
	w.explains("ask", "other-client", "grant-type-not-registered")
	w.post("ask", "do", "send")
	w.wants("ask", "200 OK", `"interval": 5`, "seconds to wait between two polls")

	w.post("token", "do", "send")
	w.wants("token", "the user has not decided yet", `href="/explain/decision-pending"`, "Get the tokens first.")
	w.explains("token", "too-soon", "poll-too-soon")
	w.explains("token", "user-code", "unknown-device-code")
	w.get(w.post("decide", "break", "wrong-code").location().String()).contains("No device waits with this code")
	w.post("decide", "user_code", "BCDF-GHJK", "do", "show")
	w.wants("decide", "GET /device?user_code=BCDF-GHJK")
	w.open("/playground/device")
	page := w.get(w.post("decide", "do", "send").location().String())
	w.wants("decide", "GET /device?user_code="+page.text("user-code"))
	w.browser.post("/device", page.form(url.Values{"decision": {"approve"}})).contains("Device connected")
	w.post("token", "do", "send")
	w.wants("token", "200 OK", `"scope": "read"`, "Ask for a new code first")
	w.post("use", "do", "send")
	w.wants("use", "200 OK", `"sub": "alice"`)
	w.explains("token", "replay", "device-code-used")
	w.wants("token", "No longer good: the access token has been revoked.")
	w.post("use", "do", "send")
	w.wants("use", "401 Unauthorized")

	// A new code, which a device gets that asks too soon but after the decision.
	w.post("ask", "do", "send")
	page = w.get(w.post("decide", "do", "send").location().String())
	w.browser.post("/device", page.form(url.Values{"decision": {"approve"}}))
	w.post("token", "break", "too-soon")
	w.wants("token", "200 OK", "Ask for a new code first")
	if strings.Contains(w.step("token"), "No longer good") {
		t.Errorf("the new tokens are not shown: %s", w.step("token"))
	}
	w.post("use", "do", "send")
	w.wants("use", "200 OK")
}

// TestPlaygroundShowsNoSecrets: no whole code or token on a page or in a URL.
func TestPlaygroundShowsNoSecrets(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	w := i.as("alice").lesson("/playground/code")
	w.visit("approve", "do", "send")
	w.post("token", "do", "send")
	code := regexp.MustCompile(`name="code"[^>]* value="([^"]*)"`).FindStringSubmatch(w.page.body)
	if code == nil || !regexp.MustCompile(`^[0-9a-f-]{36}…$`).MatchString(code[1]) {
		t.Errorf("the code is shown as %v", code)
	}
	// What looks like a secret is the verifier, its challenge in two forms, and the
	// token of the form to sign out.
	known := regexp.MustCompile(`name="code_verifier"[^>]* value="([^"]*)"`).FindStringSubmatch(w.page.body)[1]
	sum := sha256.Sum256([]byte(known))
	for _, found := range regexp.MustCompile(`[A-Za-z0-9_-]{43,}`).FindAllString(w.page.body, -1) {
		if found != known && found != challengeOf(known) && found != hex.EncodeToString(sum[:]) && found != w.page.form(nil).Get("form_token") {
			t.Errorf("the page has %s", found)
		}
	}
	if strings.Contains(w.page.body, i.server.playground.secret) {
		t.Error("the page has the client's secret")
	}
	// What is no parameter of a URL is not taken from one.
	w.open("/playground/code?token.code=abc&token.code_verifier=abc")
	if strings.Contains(w.step("token"), `value="abc"`) {
		t.Error("the URL sets a code")
	}
}

// TestPlaygroundEdit: the request is sent as it was changed, and a link has the
// changes without the answers.
func TestPlaygroundEdit(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	w := i.as("alice").lesson("/playground/code")
	w.visit("approve", "do", "send")
	w.post("token", "grant_type", "foo", "code", "bar", "do", "send")
	w.wants("token", "grant_type=foo&code=bar&", "unsupported_grant_type", `href="/explain/grant-type-not-supported"`)
	if w.url != i.URL+"/playground/code?token.grant_type=foo#token" {
		t.Errorf("the URL is %s", w.url)
	}
	w.post("token", "grant_type", "authorization_code", "do", "send")
	w.wants("token", "code=bar&", `href="/explain/unknown-code"`)

	other := i.browser().lesson("/playground/code?authorize.scope=mine&authorize.redirect_uri=")
	other.wants("authorize", "scope=mine&", `name="redirect_uri" value=""`)
	other.wants("token", "There is no code yet")
	w.open("/playground/code?authorize.scope=mine")
	w.wants("authorize", "scope=mine&")
	w.wants("token", "code=bar&")
	w.post("verifier", "do", "restart")
	w.wants("token", "There is no code yet")
}

func TestPlaygroundIsPrivate(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	for name, header := range map[string][]string{
		"another origin": {"Origin", "https://evil.example"},
		"another site":   {"Sec-Fetch-Site", "cross-site"},
		"another host":   {"Host", "evil.example"},
	} {
		for _, path := range []string{"/playground", "/playground/code", "/playground/callback?code=x"} {
			if r := i.get(path, header...); r.StatusCode != http.StatusForbidden && r.StatusCode != http.StatusMisdirectedRequest || len(r.Cookies()) > 0 {
				t.Errorf("%s, %s: status %d: %s", name, path, r.StatusCode, r.body)
			}
		}
	}
	off := start(t)
	for _, path := range []string{"/playground", "/playground/code", "/playground/callback"} {
		if r := off.get(path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d while it is off", path, r.StatusCode)
		}
	}
	off.authorizeAs("playground").wantPage(http.StatusBadRequest)
}

// authorizeAs sends the authorization request of a client.
func (i *instance) authorizeAs(clientID string) *reply {
	i.Helper()
	return i.as("alice").authorize(authorization("web", "client_id", clientID, "redirect_uri", i.URL+"/playground/callback"))
}

// TestPlaygroundClients: they are known, but in no list and not stored, and a
// registered client of the same name comes first.
func TestPlaygroundClients(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	i.authorizeAs("playground").contains("Playground")
	_, clients, err := i.server.store.registrations()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if strings.HasPrefix(c.ClientID, "playground") {
			t.Errorf("%s is stored", c.ClientID)
		}
	}
	for _, path := range []string{"/", "/account/applications"} {
		if strings.Contains(i.as("alice").get(path).body, "client_id=playground") {
			t.Errorf("%s lists a client of the playground", path)
		}
	}
	i.furnish(`{"clients": [{"client_id": "playground", "client_name": "Mine", "client_secret": "x", "redirect_uris": ["` + i.URL + `/playground/callback"]}]}`)
	i.authorizeAs("playground").contains("Mine")
}

// TestPlaygroundProfiles: each lesson that a profile has can be opened.
func TestPlaygroundProfiles(t *testing.T) {
	t.Parallel()
	for _, name := range profileNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, name, (*server).openPlayground)
			w := i.as("alice").lesson("/playground")
			for _, l := range i.server.lessons() {
				w.open("/playground/" + l.Path)
			}
			w.open("/playground/code")
			w.visit("approve", "do", "send")
			w.post("token", "do", "send")
			w.wants("token", "200 OK")
			w.explains("token", "replay", "code-used")
		})
	}
}

// TestPlaygroundIsRecorded: what the playground sends is recorded like any other
// exchange, and the explanation is told which it was.
func TestPlaygroundIsRecorded(t *testing.T) {
	t.Parallel()
	i := startPlayground(t)
	i.server.eras.begin()
	w := i.browser().lesson("/playground/client-credentials")
	w.post("token", "scope", "read & write", "do", "send")
	w.post("token", "break", "wrong-secret")
	kept := i.server.eras.now().requests.pick(t.Context(), "token", "playground-confidential", 0)
	if len(kept) != 2 {
		t.Fatalf("%d exchanges are recorded", len(kept))
	}
	if got := kept[0].Params["scope"]; got != "read & write" || kept[0].Status != http.StatusOK {
		t.Errorf("the first has the scope %v and status %d", got, kept[0].Status)
	}
	w.wants("token", `<a href="/explain/client-secret-wrong?exchange=`+strconv.Itoa(kept[1].ID)+`">Why</a>`)
}

// TestPlaygroundWithoutAnswer: a dropped answer is shown as such.
func TestPlaygroundWithoutAnswer(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	i.server.openPlayground()
	i.mustControl("POST", "faults", `{"endpoint": "token", "drop": true}`)
	w := i.browser().lesson("/playground/client-credentials")
	w.post("token", "do", "send")
	w.wants("token", "no answer came")
	w.post("token", "do", "send")
	w.wants("token", "200 OK")
}
