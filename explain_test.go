package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestExplanations walks both ways: every reason has an explanation that can be
// read, every explanation a reason, and one of its functions names the reason. That
// each reason is the answer of some test, TestMain finds after all tests.
func TestExplanations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("explanations/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.ContainsFunc(reasons, func(why reason) bool { return why.slug()+".md" == path.Base(file) }) {
			t.Errorf("%s explains no reason", file)
		}
	}
	lessons := readPage(t, "templates/lessons.json")
	titles := make(map[string]reason)
	for _, why := range reasons {
		text, err := explanationFiles.ReadFile("explanations/" + why.slug() + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		e, err := parseExplanation(why, string(text))
		if err != nil {
			t.Error(err)
			continue
		}
		if !e.Shown().Marks {
			t.Errorf("%s: none of the functions names the reason", why.slug())
		}
		if other, taken := titles[e.Title]; taken {
			t.Errorf("%s and %s have one title", why.slug(), other.slug())
		}
		titles[e.Title] = why
		for _, rule := range e.Rules {
			if !regexp.MustCompile(`^(RFC [0-9]+ (§[0-9]+(\.[0-9]+)*|Appendix [A-Z])|OpenID Connect Core §[0-9.]+|Client ID Metadata Document §[0-9.]+)$`).MatchString(string(rule)) {
				t.Errorf("%s: rule %q", why.slug(), rule)
			}
		}
		if lesson, step, _ := strings.Cut(e.Try, "#"); e.Try != "" && !regexp.MustCompile(`(?s)"path": "`+lesson+`".*?"name": "`+step+`"`).MatchString(lessons) {
			t.Errorf("%s: the playground has no %s", why.slug(), e.Try)
		}
		if slices.Contains(e.Related, why) {
			t.Errorf("%s is related to itself", why.slug())
		}
		for _, s := range []*sample{e.Wrong, e.Right} {
			if s != nil && !slices.ContainsFunc(s.Lines, func(l sampleLine) bool {
				return strings.HasPrefix(l.Text, "GET /") || strings.HasPrefix(l.Text, "POST /") || strings.HasPrefix(l.Text, "HEAD /")
			}) {
				t.Errorf("%s: %q is no request", why.slug(), s.Title)
			}
		}
	}
}

// TestExplanationsMalformed: what is wrong with a text is an error that names it.
func TestExplanationsMalformed(t *testing.T) {
	t.Parallel()
	data, err := explanationFiles.ReadFile("explanations/code-used.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, old, new, want string }{
		{"no such file", " in store.go", " in shop.go", "shop.go"},
		{"no such function", "authorizationCodeGrant in", "authorizationCode in", `grants.go has no function "authorizationCode"`},
		{"no such reason", "related: ", "related: code-lost, ", `no reason is "code-lost"`},
		{"no such section", "## The rule", "## The law", `the section "The law" is unknown`},
		{"no causes", "## Usual causes", "## What happened", "a part is missing"},
		{"no check", "check: ", "checks: ", "a part is missing"},
		{"only a wrong request", "\nright: ", "\nwrong: ", "a part is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(string(data), row.old, row.new, 1)
			if _, err := parseExplanation(codeUsed, text); err == nil || !strings.HasPrefix(err.Error(), "code-used: ") && row.new != " in shop.go" || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
}

// TestExplainPages: the page of every reason is there, its links lead somewhere,
// and errors lead to it.
func TestExplainPages(t *testing.T) {
	t.Parallel()
	i := start(t)
	link := regexp.MustCompile(`href="(/[^"?]*)"`)
	seen := make(map[string]bool)
	waiting := []string{"/explain/", "/explain"}
	for len(waiting) > 0 {
		at := waiting[0]
		waiting = waiting[1:]
		r := i.get(at)
		if r.StatusCode != 200 {
			t.Errorf("%s: status %d", at, r.StatusCode)
		}
		for _, match := range link.FindAllStringSubmatch(r.body, -1) {
			if !seen[match[1]] {
				seen[match[1]] = true
				waiting = append(waiting, match[1])
			}
		}
	}
	for _, why := range reasons {
		if !seen["/explain/"+why.slug()] {
			t.Errorf("nothing leads to %s", why.slug())
		}
	}
	if r := i.get("/explain/code-lost", "Accept", "text/html"); r.StatusCode != 404 || !strings.Contains(r.body, "There is no such page") {
		t.Errorf("status %d: %s", r.StatusCode, r.body)
	}

	t.Run("an error leads there", func(t *testing.T) {
		i := i.in(t)
		r := i.token(plainExchange("web", "unknown"))
		page := i.get(r.json["error_uri"].(string))
		for _, want := range []string{
			"<h1>The server does not know the code</h1>", `href="https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3"`,
			`<code>redeem</code> in <code>store.go</code>`, "go test -run ExplainedRequests/unknown-code .",
		} {
			if !strings.Contains(page.body, want) {
				t.Errorf("the page has no %s", want)
			}
		}
		if !regexp.MustCompile(`<mark data-line="[0-9]+">[^<]*errUnknown`).MatchString(page.body) {
			t.Error("no line is marked")
		}
		if !strings.Contains(i.log.String(), " reason=unknown-code ") {
			t.Error("the log has no reason")
		}
	})
	t.Run("an error page leads there", func(t *testing.T) {
		r := i.in(t).get(i.endpoint("authorize")+"?client_id=nobody", "Accept", "text/html")
		if r.StatusCode != 400 || !strings.Contains(r.body, `href="/explain/unknown-client"`) {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("the playground is linked where it has the lesson", func(t *testing.T) {
		const button = `<a class="button" href="/playground/refresh#refresh">Try it in the playground</a>`
		for profile, want := range map[string]bool{"rfc6749": true, "mastodon": false} {
			with := startProfile(t, profile, (*server).openPlayground).get("/explain/refresh-token-used")
			without := startProfile(t, profile).get("/explain/refresh-token-used")
			if strings.Contains(with.body, button) != want || strings.Contains(without.body, "/playground") {
				t.Errorf("%s: %s", profile, with.body)
			}
		}
	})
	t.Run("how long after", func(t *testing.T) {
		for apart, want := range map[time.Duration]string{3 * time.Millisecond: "a moment", 60 * time.Millisecond: "0.1 s", 2 * time.Second: "2.0 s", 90 * time.Second: "1m30s"} {
			if got := (&refusedCase{Apart: apart}).Ago(); got != want {
				t.Errorf("%v is told as %s, want %s", apart, got, want)
			}
		}
	})
	t.Run("the exchange that it came from", func(t *testing.T) {
		i := start(t, func(s *server) { s.eras.begin() })
		i.server.routes["/inspect"] = i.server.routes["/explain/"] // the inspector is on
		code := i.code("web")
		i.token(exchangeOf("web", code)).wantToken()
		i.advance(90 * time.Second)
		i.token(exchangeOf("web", code)).wantError(400, "invalid_grant")
		i.token(plainExchange("web", "unknown")).wantError(400, "invalid_grant")
		kept := i.server.eras.now().requests.kept
		replay, unknown := kept[len(kept)-2], kept[len(kept)-1]
		at := func(slug string, l *loggedRequest, header ...string) string {
			return i.get("/explain/"+slug+"?exchange="+strconv.Itoa(l.ID), header...).body
		}
		body := at("code-used", replay)
		for _, want := range []string{
			"<strong>In your flow.</strong> <bdi>web</bdi> was refused at ", ": the code was used before; the tokens issued for it are now revoked.",
			"<code>" + replay.presented[0].id.String() + "…</code> had been presented 1m30s before, at ",
			`<a href="/inspect/` + replay.Flow + "#x" + strconv.Itoa(replay.ID) + `">See the exchange</a>`,
		} {
			if !strings.Contains(body, want) {
				t.Errorf("no %s in %s", want, body)
			}
		}
		if strings.Contains(body, code) {
			t.Error("the code is on the page")
		}
		if body := at("unknown-code", unknown); !strings.Contains(body, `<a href="/inspect/x`+strconv.Itoa(unknown.ID)+"#x") {
			t.Errorf("%s", body)
		}
		for name, body := range map[string]string{
			"another reason":  at("code-expired", replay),
			"no such request": at("code-used", &loggedRequest{ID: 999}),
			"another site":    at("code-used", replay, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
			"another host":    at("code-used", replay, "Host", "evil.example"),
		} {
			if strings.Contains(body, "In your flow") {
				t.Errorf("%s: %s", name, body)
			}
		}
		delete(i.server.routes, "/inspect")
		if body := at("code-used", replay); strings.Contains(body, "In your flow") {
			t.Errorf("without the inspector: %s", body)
		}
	})
	t.Run("below a path", func(t *testing.T) {
		i := start(t).in(t).behind("https://as.example/tenant")
		if r := i.get("/tenant/explain/code-used"); r.StatusCode != 200 || !strings.Contains(r.body, `href="/tenant/explain/code-expired"`) {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("a profile that does not say so", func(t *testing.T) {
		i := startProfile(t, "figshare")
		if r := i.get("/nowhere"); r.json["error_uri"] != nil {
			t.Errorf("%s", r.body)
		}
		if r := i.get("/explain/code-used"); r.StatusCode != 200 {
			t.Errorf("status %d", r.StatusCode)
		}
	})
}

// TestExplainErrorURI: every way to send an error carries the page that explains it.
func TestExplainErrorURI(t *testing.T) {
	t.Parallel()
	i := start(t)
	want := func(slug string) string { return i.URL + "/explain/" + slug }
	if r := i.token(plainExchange("web", "unknown")); r.json["error_uri"] != want("unknown-code") {
		t.Errorf("in JSON: %s", r.body)
	}
	alice := i.as("alice")
	if got := alice.authorize(plain("web", "scope", "admin")).param("error_uri"); got != want("scope-not-registered") {
		t.Errorf("in a redirect: %s", got)
	}
	if got := alice.decide(alice.authorize(plain("web")), "deny").param("error_uri"); got != want("denied-by-the-user") {
		t.Errorf("after a decision: %s", got)
	}
	if got := i.bearer("userinfo", "x").Header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `, error_uri="`+want("unknown-token")+`"`) {
		t.Errorf("in WWW-Authenticate: %s", got)
	}
	if got := i.get(i.endpoint("userinfo")).Header.Get("WWW-Authenticate"); got != `Bearer realm="grantling"` {
		t.Errorf("without a token: %s", got)
	}
}

// TestRareRefusals provokes the reasons that no other test is refused for.
func TestRareRefusals(t *testing.T) {
	t.Parallel()
	t.Run("redirect URIs of a registration", func(t *testing.T) {
		i := startProfile(t, "mastodon")
		for uri, want := range map[string]string{
			"https://app.example/a|b":          "reason=redirect-uri-malformed ",
			"https://app.example/cb?code=mine": "reason=redirect-uri-with-a-parameter-of-the-answer ",
		} {
			form := url.Values{"client_name": {"App"}, "redirect_uris": {uri}}
			if r := i.post("/api/v1/apps", form); r.StatusCode != 422 || !strings.Contains(i.log.String(), want) {
				t.Errorf("%s: status %d: %s: %s", uri, r.StatusCode, r.body, i.log)
			}
		}
	})
	t.Run("busy", func(t *testing.T) {
		i := start(t)
		for range cap(i.server.hashing) {
			i.server.hashing <- struct{}{}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		form := url.Values{"grant_type": {"password"}, "client_id": {"legacy"}, "client_secret": {"legacy-secret"}, "username": {"alice"}, "password": {"wonderland"}}
		r := httptest.NewRequestWithContext(gone, "POST", i.endpoint("token"), strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		observed{t, i.server}.ServeHTTP(w, r)
		if w.Code != 503 || !strings.Contains(w.Body.String(), "/explain/server-busy") {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
	t.Run("a bug", func(t *testing.T) {
		i := start(t)
		bug := func(http.ResponseWriter, *http.Request, *exchange) error { return errors.New("a bug") }
		i.server.routes["/bug"] = []*route{{methods: "GET", handle: bug, fail: i.server.writeError}}
		w := httptest.NewRecorder()
		observed{t, i.server}.ServeHTTP(w, httptest.NewRequest("GET", i.URL+"/bug", nil))
		if w.Code != 500 || !strings.Contains(w.Body.String(), "/explain/server-failed") || strings.Contains(w.Body.String(), "a bug") {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}
