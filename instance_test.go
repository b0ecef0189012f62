package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// The black-box tests speak HTTP to a whole server on a free port. They begin
// from the one valid request, and each row changes one thing. Names begin with
// the section of the RFC. Ids such as R96 number what grantling requires of
// itself: go test -run '/R96' . runs the tests of one.

// instance is a running server with the clients and users that the tests know:
//
//	web     confidential, https://cb.example/cb, scope "read write"
//	other   confidential, likewise, at https://other.example/cb
//	native  public, http://127.0.0.1/cb
//	native2 public, likewise
//	legacy  confidential, with the password and implicit grants too
//	rs      confidential, without grants: a resource server
//
// alice's password is wonderland, bob's builder. A confidential client's
// secret is its client_id + "-secret".
type instance struct {
	*testing.T
	server *server
	URL    string
	log    *lockedBuffer
}

const instanceFixtures = `{
  "users": [
    {"username": "alice", "password": "wonderland", "name": "Alice Liddell", "email": "alice@example.com"},
    {"username": "bob", "password": "builder"}
  ],
  "clients": [
    {"client_id": "web", "client_secret": "web-secret", "client_name": "Web app", "client_uri": "https://cb.example/",
     "redirect_uris": ["https://cb.example/cb"], "scope": "read write", "owner": "alice"},
    {"client_id": "other", "client_secret": "other-secret", "redirect_uris": ["https://other.example/cb"], "scope": "read write"},
    {"client_id": "native", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb"], "scope": "read write"},
    {"client_id": "native2", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb"], "scope": "read write"},
    {"client_id": "legacy", "client_secret": "legacy-secret", "redirect_uris": ["https://legacy.example/cb"], "scope": "read write",
     "grant_types": ["authorization_code", "implicit", "password", "client_credentials", "refresh_token"]},
    {"client_id": "rs", "client_secret": "rs-secret", "redirect_uris": [], "grant_types": []}
  ]
}`

// openTestStore opens a store in memory or, if GRANTLING_TEST_DB has an etcd:// URL,
// under a prefix of its own there.
func openTestStore(t *testing.T) *store {
	t.Helper()
	o := options{db: memory}
	if at := os.Getenv("GRANTLING_TEST_DB"); at != "" {
		o.db = at + "/" + uuid.NewString()
	}
	st, err := o.openStore()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// start runs a server in memory for the time of the test.
func start(t *testing.T, change ...func(*server)) *instance {
	t.Helper()
	return startProfile(t, "rfc6749", change...)
}

// startProfile runs one of a profile, given by its name or its file. Where
// that does not have the scope "read write", clients may ask for all it has.
func startProfile(t *testing.T, name string, change ...func(*server)) *instance {
	t.Helper()
	p, err := loadProfile(name)
	if err != nil {
		t.Fatal(err)
	}
	st := openTestStore(t)
	log := new(lockedBuffer)
	ts := httptest.NewUnstartedServer(nil)
	s, err := newServer(p, st, "http://"+ts.Listener.Addr().String(), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.hashRounds = 1
	s.keys.Store(&[]*signingKey{testKey()})
	for _, c := range change {
		c(s)
	}
	ts.Config.Handler = observed{t, s}
	ts.Start()
	t.Cleanup(func() { ts.Close(); st.close() })
	i := &instance{T: t, server: s, URL: ts.URL, log: log}
	fixtures := instanceFixtures
	if !p.hasScope("read") || !p.hasScope("write") {
		fixtures = strings.ReplaceAll(fixtures, `, "scope": "read write"`, "")
	}
	i.furnish(fixtures)
	return i
}

// startExtended runs a server of rfc6749 with these members of a profile.
func startExtended(t *testing.T, members string, change ...func(*server)) *instance {
	t.Helper()
	folder := t.TempDir()
	writeFile(t, folder, "own.json", `{"extends": "rfc6749", `+members+`}`)
	return startProfile(t, filepath.Join(folder, "own.json"), change...)
}

// The reasons that some test was refused for, and those whose check some request
// passed.
var provoked, passed sync.Map

// observed is a server that notes its checks, and whose refusals are compared
// with them: the last check that failed is the one that the refusal names.
type observed struct {
	*testing.T
	*server
}

func (o observed) ServeHTTP(w http.ResponseWriter, r *http.Request) { o.observe(w, r) }

// observe answers a request, and returns what was noted of it.
func (o observed) observe(w http.ResponseWriter, r *http.Request) *exchange {
	x := newExchange(r, o.clock.now())
	x.era = &era{requests: requests{changed: make(chan struct{})}}
	defer func() {
		failed := reason("")
		for _, c := range x.checks {
			if c.OK {
				passed.Store(c.Reason, true)
			} else {
				failed = c.Reason
			}
		}
		if x.refusal != nil && x.Fault == "" {
			provoked.Store(x.refusal.Reason, true)
		}
		if x.refusal != nil && x.era != nil && x.Fault == "" && failed != x.refusal.Reason {
			o.Errorf("%s %s: refused as %q, but the last check that failed is %q of %v", x.Method, x.Path, x.refusal.Reason, failed, x.checks)
		}
		if x.era != nil {
			o.wantNoSecrets(x)
		}
	}()
	o.serve(w, r, x)
	return x
}

// furnish adds users and clients from the JSON of a fixtures file.
func (i *instance) furnish(fixturesJSON string) {
	i.Helper()
	f := new(fixtures)
	if _, err := parseDocument("fixtures.json", []byte(fixturesJSON), f); err != nil {
		i.Fatal(err)
	}
	if _, err := i.server.applyFixtures(f); err != nil {
		i.Fatal(err)
	}
}

// in returns the instance as seen from a subtest.
func (i *instance) in(t *testing.T) *instance {
	t.Helper()
	sub := *i
	sub.T = t
	return &sub
}

// advance moves the server's clock.
func (i *instance) advance(d time.Duration) {
	i.server.clock.mu.Lock()
	defer i.server.clock.mu.Unlock()
	i.server.clock.offset += d
}

func (i *instance) endpoint(name string) string {
	i.Helper()
	paths := i.server.profile.paths(name)
	if len(paths) == 0 {
		i.Fatalf("the profile has no endpoint %s", name)
	}
	return i.URL + paths[0]
}

// path is that of an endpoint.
func (i *instance) path(endpoint string) string {
	i.Helper()
	return strings.TrimPrefix(i.endpoint(endpoint), i.URL)
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// reply is an answer, read whole.
type reply struct {
	*http.Response
	i    *instance
	body string
	json map[string]any // nil unless the body is a JSON object
}

// browser keeps cookies and does not follow redirects.
type browser struct {
	*instance
	client  *http.Client
	mayFail bool // the server may answer with a 5xx
}

func (i *instance) browser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{instance: i, client: &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// do sends a request. body "" is no body; otherwise it is a form unless a
// header says what it is. Headers are name, value, name, value.
func (b *browser) do(method, target, body string, header ...string) *reply {
	b.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.URL + target
	}
	req, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for n := 0; n < len(header); n += 2 {
		if header[n] == "Host" {
			req.Host = header[n+1]
			continue
		}
		req.Header[http.CanonicalHeaderKey(header[n])] = append(req.Header[http.CanonicalHeaderKey(header[n])], header[n+1])
	}
	if ct := req.Header["Content-Type"]; len(ct) > 1 {
		req.Header["Content-Type"] = ct[1:]
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.Fatal(err)
	}
	r := &reply{Response: res, i: b.instance, body: string(data)}
	json.Unmarshal(data, &r.json)
	if res.StatusCode >= 500 && !b.mayFail {
		b.Errorf("%s %s: status %d: %s", method, target, res.StatusCode, data)
	}
	return r
}

func (b *browser) get(target string, header ...string) *reply {
	b.Helper()
	return b.do("GET", target, "", header...)
}

func (b *browser) post(target string, form url.Values, header ...string) *reply {
	b.Helper()
	return b.do("POST", target, form.Encode(), header...)
}

// get and post without cookies.
func (i *instance) get(target string, header ...string) *reply {
	i.Helper()
	return i.browser().get(target, header...)
}

func (i *instance) post(target string, form url.Values, header ...string) *reply {
	i.Helper()
	return i.browser().post(target, form, header...)
}

// signIn signs a user in through the page.
func (b *browser) signIn(username, password string) *reply {
	b.Helper()
	return b.post("/login", b.get("/login").form(url.Values{"username": {username}, "password": {password}}))
}

// as returns a browser in which a user of the fixtures is signed in.
func (i *instance) as(username string) *browser {
	i.Helper()
	b := i.browser()
	password := map[string]string{"alice": "wonderland", "bob": "builder"}[username]
	if r := b.signIn(username, password); r.StatusCode != http.StatusSeeOther {
		i.Fatalf("sign-in as %s: status %d: %s", username, r.StatusCode, r.body)
	}
	return b
}

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	firstForm   = regexp.MustCompile(`(?s)<form.*?</form>`)
	formAction  = regexp.MustCompile(`<form[^>]* action="([^"]*)"`)
)

// form returns the hidden fields of the page's first form, with more added.
func (r *reply) form(more url.Values) url.Values {
	form := url.Values{}
	for _, field := range hiddenField.FindAllStringSubmatch(firstForm.FindString(r.body), -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	for name, values := range more {
		form[name] = values
	}
	return form
}

// action is where the page's first form goes.
func (r *reply) action() string {
	r.i.Helper()
	match := formAction.FindStringSubmatch(r.body)
	if match == nil {
		r.i.Fatalf("no form in status %d: %s", r.StatusCode, r.body)
	}
	return html.UnescapeString(match[1])
}

// location is where the answer redirects to.
func (r *reply) location() *url.URL {
	r.i.Helper()
	u, err := r.Location()
	if err != nil {
		r.i.Fatalf("no redirect in status %d: %s", r.StatusCode, r.body)
	}
	return u
}

// param is a parameter of the redirect, from its query or its fragment.
func (r *reply) param(name string) string {
	r.i.Helper()
	u := r.location()
	if fragment, err := url.ParseQuery(u.EscapedFragment()); err == nil && fragment.Has(name) {
		return fragment.Get(name)
	}
	return u.Query().Get(name)
}

// wantPage wants an error page with no way to anywhere.
func (r *reply) wantPage(status int) {
	r.i.Helper()
	if r.StatusCode != status || r.Header.Get("Location") != "" || !strings.Contains(r.body, `id="error"`) {
		r.i.Errorf("got status %d, Location %q, want an error page with status %d: %s", r.StatusCode, r.Header.Get("Location"), status, r.body)
	}
}

// wantRedirect wants the error sent back to the client, with state and iss.
func (r *reply) wantRedirect(code, state string) {
	r.i.Helper()
	if r.StatusCode != http.StatusSeeOther {
		r.i.Errorf("got status %d, want a redirect with error=%s: %s", r.StatusCode, code, r.body)
		return
	}
	if got := r.param("error"); got != code {
		r.i.Errorf("redirect has error=%s (%s), want %s", got, r.param("error_description"), code)
	}
	if got := r.param("state"); got != state {
		r.i.Errorf("redirect has state=%q, want %q", got, state)
	}
	if r.param("iss") == "" {
		r.i.Errorf("redirect has no iss: %s", r.location())
	}
	if r.param("code") != "" || r.param("access_token") != "" {
		r.i.Errorf("redirect with an error has a code or token: %s", r.location())
	}
}

// wantError wants an error as JSON (RFC 6749 §5.2), with its headers (R81).
func (r *reply) wantError(status int, code string) {
	r.i.Helper()
	if r.StatusCode != status || r.json["error"] != code {
		r.i.Errorf("got status %d, %s, want %d %s", r.StatusCode, r.body, status, code)
	}
	r.wantTokenHeaders()
}

func (r *reply) wantTokenHeaders() {
	r.i.Helper()
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
		if got, _, _ := strings.Cut(r.Header.Get(name), ";"); got != want {
			r.i.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// wantToken wants a token answer and returns its access and refresh token.
func (r *reply) wantToken() (access, refresh string) {
	r.i.Helper()
	access, _ = r.json["access_token"].(string)
	if r.StatusCode != http.StatusOK || access == "" {
		r.i.Fatalf("got status %d, %s, want a token", r.StatusCode, r.body)
	}
	r.wantTokenHeaders()
	refresh, _ = r.json["refresh_token"].(string)
	return access, refresh
}

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 Appendix B

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// redirectURIs of the clients in instanceFixtures.
var redirectURIs = map[string]string{
	"web": "https://cb.example/cb", "other": "https://other.example/cb", "legacy": "https://legacy.example/cb",
	"native": "http://127.0.0.1/cb", "native2": "http://127.0.0.1/cb",
}

// with returns a form with parameters changed: name, value, name, value. A name
// that comes twice is sent twice, and absent takes a parameter out.
func with(form url.Values, change ...string) url.Values {
	form = maps.Clone(form)
	for n := 0; n < len(change); n += 2 {
		form.Del(change[n])
	}
	for n := 0; n < len(change); n += 2 {
		if name, value := change[n], change[n+1]; value != absent {
			form[name] = append(form[name], value)
		}
	}
	return form
}

const absent = "\x00absent"

// authorization is the one valid authorization request of a client, with changes.
func authorization(clientID string, change ...string) url.Values {
	return with(url.Values{
		"response_type":         {"code"},
		"client_id":             {clientID},
		"redirect_uri":          {redirectURIs[clientID]},
		"scope":                 {"read write"},
		"state":                 {"xyz"},
		"code_challenge":        {challengeOf(verifier)},
		"code_challenge_method": {"S256"},
	}, change...)
}

// authorize sends an authorization request.
func (b *browser) authorize(request url.Values) *reply {
	b.Helper()
	return b.get(b.endpoint("authorize") + "?" + request.Encode())
}

// decide answers the consent page.
func (b *browser) decide(page *reply, decision string) *reply {
	b.Helper()
	return b.post(page.action(), page.form(url.Values{"decision": {decision}}))
}

// approve sends an authorization request and approves it if asked.
func (b *browser) approve(request url.Values) *reply {
	b.Helper()
	r := b.authorize(request)
	if r.StatusCode == http.StatusOK && strings.Contains(r.body, `name="decision"`) {
		r = b.decide(r, "approve")
	}
	return r
}

// code returns a fresh authorization code of alice's for a client.
func (i *instance) code(clientID string, change ...string) string {
	i.Helper()
	r := i.as("alice").approve(authorization(clientID, change...))
	code := r.param("code")
	if code == "" {
		i.Fatalf("no code in %s", r.location())
	}
	return code
}

// exchange is the one valid token request for a code.
func exchangeOf(clientID, code string) url.Values {
	return withClient(clientID, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {redirectURIs[clientID]},
		"code_verifier": {verifier},
	})
}

// withClient adds the client's authentication to a form.
func withClient(clientID string, form url.Values) url.Values {
	form.Set("client_id", clientID)
	if !strings.HasPrefix(clientID, "native") {
		form.Set("client_secret", clientID+"-secret")
	}
	return form
}

// tokens returns a fresh access and refresh token of alice's for a client.
func (i *instance) tokens(clientID string) (access, refresh string) {
	i.Helper()
	return i.post(i.endpoint("token"), exchangeOf(clientID, i.code(clientID))).wantToken()
}

// refresh sends a token request for a refresh token.
func (i *instance) refresh(clientID, token string, change ...string) *reply {
	i.Helper()
	return i.post(i.endpoint("token"), with(refreshOf(clientID, token), change...))
}

// introspect asks about a token as the resource server.
func (i *instance) introspect(token string) *reply {
	i.Helper()
	return i.post(i.endpoint("introspect"), withClient("rs", url.Values{"token": {token}}))
}

// alive reports whether a token is good for anything.
func (i *instance) alive(token string) bool {
	i.Helper()
	r := i.introspect(token)
	active, ok := r.json["active"].(bool)
	if !ok {
		i.Fatalf("introspection: status %d, %s", r.StatusCode, r.body)
	}
	if !active && len(r.json) != 1 {
		i.Errorf("introspection of a dead token says more than active: %s", r.body) // R132
	}
	return active
}

// wantDead wants all tokens dead, wantAlive all alive.
func (i *instance) wantDead(tokens ...string) {
	i.Helper()
	for n, token := range tokens {
		if i.alive(token) {
			i.Errorf("token %d is alive", n)
		}
	}
}

func (i *instance) wantAlive(tokens ...string) {
	i.Helper()
	for n, token := range tokens {
		if !i.alive(token) {
			i.Errorf("token %d is dead", n)
		}
	}
}

// transcript plays a conversation with the server, in one browser. Lines that
// begin with ">" are a request and lines with "<" its answer: first line,
// headers, an empty line, body; an indented line goes on with the one before.
// In an answer … is anything, and a header that is not named may be there.
// {name} in an answer keeps what stands there under that name; later it stands
// for it. {page} in a request is the hidden fields of the page before.
func transcript(t *testing.T, i *instance, text string) {
	t.Helper()
	b := i.in(t).browser()
	known := map[string]string{"issuer": i.URL, "iss": url.QueryEscape(i.URL)}
	text = regexp.MustCompile(`\n\t+ {4,}`).ReplaceAllString(text, "")
	turns := regexp.MustCompile(`(?m)(^\t*>.*\n)+(^\t*<.*\n)+`).FindAllString(text, -1)
	if len(turns) == 0 {
		t.Fatal("nobody says anything")
	}
	for _, turn := range turns {
		said := map[string][]string{}
		for line := range strings.Lines(turn) {
			line = strings.TrimSpace(line)
			said[line[:1]] = append(said[line[:1]], strings.TrimPrefix(line[1:], " "))
		}
		r := b.say(said[">"], known)
		r.wantSaid(said["<"], known)
	}
}

var named = regexp.MustCompile(`\{[a-z_]+\}`)

// say sends a request of a transcript.
func (b *browser) say(lines []string, known map[string]string) *reply {
	b.Helper()
	fill := func(text string) string {
		return named.ReplaceAllStringFunc(text, func(name string) string { return known[name[1:len(name)-1]] })
	}
	method, target, _ := strings.Cut(lines[0], " ")
	var header []string
	end := 1
	for ; end < len(lines) && lines[end] != ""; end++ {
		name, value, _ := strings.Cut(fill(lines[end]), ": ")
		header = append(header, name, value)
	}
	return b.do(method, fill(target), fill(strings.Join(lines[min(end+1, len(lines)):], "\n")), header...)
}

// wantSaid wants the answer of a transcript, and keeps what it names.
func (r *reply) wantSaid(lines []string, known map[string]string) {
	r.i.Helper()
	known["page"] = r.form(nil).Encode()
	check := func(what, got, want string) {
		r.i.Helper()
		var names []string
		pattern := strings.ReplaceAll(regexp.QuoteMeta(want), "…", "(?s:.*)")
		pattern = regexp.MustCompile(`\\\{[a-z_]+\\\}`).ReplaceAllStringFunc(pattern, func(quoted string) string {
			name := quoted[2 : len(quoted)-2]
			if value, ok := known[name]; ok {
				return regexp.QuoteMeta(value)
			}
			names = append(names, name)
			return `([^",\s]+?)`
		})
		match := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(got)
		if match == nil {
			r.i.Fatalf("%s %s: %s is\n%s\nwant\n%s", r.Request.Method, r.Request.URL, what, got, want)
		}
		for n, name := range names {
			known[name] = match[n+1]
		}
	}
	check("the status", r.Status, lines[0])
	end := 1
	for ; end < len(lines) && lines[end] != ""; end++ {
		name, value, _ := strings.Cut(lines[end], ": ")
		check(name, r.Header.Get(name), value)
	}
	if end < len(lines) {
		check("the body", strings.TrimSpace(r.body), strings.Join(lines[end+1:], "\n"))
	}
}

// newCredential and parseCredential are for codes and tokens as they look
// where the profile says nothing.
func newCredential() credential                      { return format{}.newCredential(nil) }
func parseCredential(text string) (credential, bool) { return format{}.parse(text) }
