package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// allPages are answers of every kind that a person may see.
func allPages(i *instance) map[string]*reply {
	i.Helper()
	i.furnish(`{"clients": [{"client_id": "cli", "client_secret": "cli-secret", "redirect_uris": ["` + outOfBand + `"]}]}`)
	b, anonymous := i.as("alice"), i.browser()
	cli := url.Values{"client_id": {"cli"}, "response_type": {"code"}}
	code := b.approve(cli)
	login := anonymous.get("/login")
	pages := map[string]*reply{
		"start":            b.get("/"),
		"start, anonymous": anonymous.get("/"),
		"login":            login,
		"login for client": anonymous.authorize(authorization("web")),
		"login refused":    anonymous.post("/login", login.form(credentials("alice", "guess"))),
		"consent":          b.authorize(authorization("native")),
		"redirect":         b.decide(b.authorize(authorization("other")), "approve"),
		"code":             b.get(code.location().String()),
		"no code":          b.get("/oauth/authorize/native?code=x"),
		"unknown client":   b.authorize(authorization("nobody")),
		"foreign form":     b.post("/login", url.Values{"token": {"x"}}),
		"cross-site":       b.post("/login", nil, "Sec-Fetch-Site", "cross-site"),
		"too large":        b.post("/login", url.Values{"username": {strings.Repeat("x", maxBody)}}),
		"wrong method":     b.do("DELETE", "/login", ""),
		"not found":        b.get("/nowhere"),
	}
	for range passwordTries {
		pages["too many"] = anonymous.post("/login", login.form(credentials("bob", "guess")))
		pages["too many"] = anonymous.post("/login", login.form(credentials("bob", "guess")))
	}
	for name, status := range map[string]int{"login refused": 422, "consent": 200, "redirect": 303, "code": 200, "unknown client": 400,
		"foreign form": 403, "cross-site": 403, "too large": 413, "wrong method": 405, "not found": 404, "too many": 429} {
		if pages[name].StatusCode != status {
			i.Errorf("%s: status %d, want %d", name, pages[name].StatusCode, status)
		}
	}
	return pages
}

// TestPageHeaders is RFC 6749 §10.13 and RFC 9700 §4.16, §4.2.4: R66, R67, R68.
func TestPageHeaders(t *testing.T) {
	t.Parallel()
	i := start(t)
	answers := allPages(i)
	// Whatever else is routed, by every method, allowed or not.
	b := i.as("alice")
	for path := range i.server.routes {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS"} {
			answers[method+" "+path] = b.do(method, path, "")
		}
	}
	resource := regexp.MustCompile(`(?:src|href|action|srcset|data|poster|content)="([^"]*)"`)
	for name, r := range answers {
		t.Run("R66 R67 R68 "+name, func(t *testing.T) {
			for header, want := range map[string]string{
				"X-Frame-Options":        "DENY",
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "same-origin",
			} {
				if got := r.Header[header]; !slices.Equal(got, []string{want}) {
					t.Errorf("%s: %q, want %s", header, got, want)
				}
			}
			policy := make(map[string]string)
			for directive := range strings.SplitSeq(r.Header.Get("Content-Security-Policy"), ";") {
				key, value, _ := strings.Cut(strings.TrimSpace(directive), " ")
				policy[key] = value
			}
			if policy["frame-ancestors"] != "'none'" || policy["default-src"] != "'none'" || policy["base-uri"] != "'none'" {
				t.Errorf("Content-Security-Policy: %v", policy)
			}
			if _, there := policy["form-action"]; there {
				t.Error("form-action stands in the way of the redirect to the client")
			}
			for _, weak := range []string{"unsafe", "*", "http:", "https:", "data:"} {
				if strings.Contains(r.Header.Get("Content-Security-Policy"), weak) {
					t.Errorf("the Content-Security-Policy has %s: %v", weak, policy)
				}
			}
			if asset := regexp.MustCompile(`/((style|inspect)\.css|(script|inspect|playground)\.js|icon\.svg|jwks\.json)$`); asset.MatchString(name) && r.StatusCode == 200 {
				return
			}
			if got := r.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control: %q", got)
			}
			contentType := r.Header.Get("Content-Type")
			if strings.HasPrefix(contentType, "text/") && !strings.HasSuffix(contentType, "; charset=utf-8") {
				t.Errorf("Content-Type: %q", contentType)
			}
			if markup := strings.ReplaceAll(r.body, `<script src="/script.js?`, ""); strings.Contains(markup, "<script") || strings.Contains(r.body, "<style") || strings.Contains(r.body, " style=") || strings.Contains(r.body, " on") && regexp.MustCompile(`<[^>]* on[a-z]+=`).MatchString(r.body) {
				t.Errorf("the page has what its policy forbids: %s", r.body)
			}
			for _, match := range resource.FindAllStringSubmatch(r.body, -1) {
				elsewhere := match[1] == "https://cb.example/" || strings.HasPrefix(match[1], "https://www.rfc-editor.org/rfc/rfc") // the client's own home page, and rules
				if strings.Contains(match[1], "//") && !elsewhere {
					t.Errorf("the page refers to %s", match[1])
				}
			}
		})
	}
}

// TestHost is R69: what a request claims about the server's address is not believed.
func TestHost(t *testing.T) {
	t.Parallel()
	i := start(t)
	// A cookie jar would go by the Host header.
	b := i.withCookie(i.as("alice").cookie())
	anonymous := i.withCookie(i.browser().get("/login").Cookies()[0].Value)
	form := anonymous.get("/login").form(credentials("alice", "guess"))
	requests := map[string]func(header ...string) *reply{
		"metadata": func(h ...string) *reply { return b.get(b.endpoint("metadata"), h...) },
		"start":    func(h ...string) *reply { return b.get("/", h...) },
		"login":    func(h ...string) *reply { return anonymous.get("/login?continue=/login", h...) },
		"refused":  func(h ...string) *reply { return anonymous.post("/login", form, h...) },
		"authorize": func(h ...string) *reply {
			return anonymous.get("/oauth/authorize?"+authorization("web").Encode(), h...)
		},
		"by POST":   func(h ...string) *reply { return anonymous.post("/oauth/authorize", authorization("web"), h...) },
		"not found": func(h ...string) *reply { return b.get("/nowhere", h...) },
		"new cookie": func(h ...string) *reply {
			r := i.browser().get("/login", h...)
			cookie := r.Cookies()[0]
			r.Header.Set("Set-Cookie", strings.Replace(cookie.Raw, cookie.Value, "VALUE", 1))
			r.body = ""
			return r
		},
		"error redirect": func(h ...string) *reply {
			request := authorization("web")
			request.Set("scope", "bogus")
			return b.get("/oauth/authorize?"+request.Encode(), h...)
		},
		"refused token": func(h ...string) *reply { return i.post("/oauth/token", url.Values{"grant_type": {"x"}}, h...) },
	}
	evil := map[string][]string{
		"Host":              {"Host", "evil.example"},
		"Host with port":    {"Host", "evil.example:1"},
		"X-Forwarded-Host":  {"X-Forwarded-Host", "evil.example"},
		"X-Forwarded-Proto": {"X-Forwarded-Proto", "https"},
		"Forwarded":         {"Forwarded", "host=evil.example;proto=https"},
		"others":            {"X-Original-URL", "/evil.example", "X-Rewrite-URL", "/evil.example", "X-Forwarded-Prefix", "/evil.example", "X-Host", "evil.example", "X-HTTP-Method-Override", "DELETE"},
	}
	for name, request := range requests {
		t.Run("R69 "+name, func(t *testing.T) {
			i.advance(guessWindow * time.Second)
			answer := func(header ...string) string {
				r := request(header...)
				r.Header.Del("Date")
				return fmt.Sprintln(r.Status, r.Header, r.body)
			}
			honest := answer()
			for header, value := range evil {
				if got := answer(value...); got != honest {
					t.Errorf("with %s:\n%s\nwithout:\n%s", header, got, honest)
				}
			}
		})
	}
	t.Run("R69 the form of a foreign host", func(t *testing.T) {
		// A page that is reached by another name may not send its forms here.
		if r := anonymous.post("/login", form, "Origin", "http://evil.example", "X-Forwarded-Host", "evil.example"); r.StatusCode != http.StatusForbidden {
			t.Errorf("status %d", r.StatusCode)
		}
	})
}

// TestNotFound is R70.
func TestNotFound(t *testing.T) {
	t.Parallel()
	t.Run("R70 no page says what a wrong path was", func(t *testing.T) {
		i := start(t)
		for _, path := range []string{
			"/marker", "/<script>marker</script>", "/%3Cscript%3Emarker", "/%00marker", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/debug/pprof/",
			"/login/", "//login", "/./login", "/x/../login", "/LOGIN", "/login%2f", "/login;marker", "/oauth/token/", "//oauth/token", "/healthz/",
			"/templates/base.html", "/.git/config", "/style.css/marker", "/%ff", "/" + strings.Repeat("marker", 1000),
		} {
			for _, method := range []string{"GET", "POST", "OPTIONS", "BREW"} {
				request := method + " " + path + " HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
				status, answer := i.raw(request)
				head, body, _ := strings.Cut(answer, "\r\n\r\n")
				if status != http.StatusNotFound && status != http.StatusBadRequest || strings.Contains(answer, "marker") || strings.Contains(head, "\r\nLocation:") {
					t.Errorf("%s %.40s: %.300s", method, path, answer)
				}
				if status == http.StatusNotFound && (!strings.Contains(head, "\r\nX-Frame-Options: DENY\r\n") || !strings.Contains(body, `id="error"`)) {
					t.Errorf("%s %.40s: %s", method, path, answer)
				}
			}
		}
	})
}

// TestEndpointRows: the start page has a row for every endpoint, and no two
// rows of one name.
func TestEndpointRows(t *testing.T) {
	t.Parallel()
	for profile, want := range map[string][]string{
		"rfc6749":    {"Authorization", "Token", "User info", "Token info", "Revocation", "Introspection", "Device authorization", "Registration", "Metadata"},
		"figshare":   {"Authorization", "Token", "User info", "Token info"},
		"mastodon":   {"Authorization", "Token", "User info", "Token info", "Revocation", "Registration", "About the server"},
		"trackmania": {"Authorization", "Token", "User info"},
		"sharesight": {"Authorization", "Token", "User info", "Resource portfolios", "Token info", "Revocation"},
	} {
		var names []string
		i := startProfile(t, profile)
		for _, row := range i.server.endpointRows() {
			if row.Methods == "GET" && i.get(row.URL).StatusCode == http.StatusNotFound {
				t.Errorf("%s: %v is not there", profile, row)
			}
		}
		for _, match := range regexp.MustCompile(`<span class="what">([^<]+) <small>`).FindAllStringSubmatch(i.get("/").body, -1) {
			names = append(names, match[1])
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %q, want %q", profile, names, want)
		}
	}
}

// TestReasonsOfPages: the reasons that templates have words for are those that
// errors have.
func TestReasonsOfPages(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, compared := range regexp.MustCompile(`eq \S*\.Reason((?: "[^"]+")+)`).FindAllStringSubmatch(string(text), -1) {
			for _, named := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(compared[1], -1) {
				if found++; !slices.Contains(reasons, reason(named[1])) {
					t.Errorf("%s: %q is not a reason", file, named[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d reasons are compared", found)
	}
}

// TestHelp is what error pages tell the person in front of them.
func TestHelp(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	id, _ := b.register(registrationForm())
	answered := b.authorize(authorization("native"))
	b.decide(answered, "approve")
	late, foreign := b.authorize(authorization("native")), i.as("bob").authorize(authorization("native"))
	b.fill("/account/applications/delete", url.Values{"id": {id}})
	pages := map[string]*reply{
		`<h1>You have answered already</h1>
<p class="lede">Your first answer has been sent to the application. If you are still here, go back to the application and start again.</p>`: b.decide(answered, "approve"),
		`<h1>This question is out of date</h1>
<p class="lede">You have signed in or out since it was asked. Go back to the application and start again.</p>`: b.decide(foreign, "approve"),
		`<h1>This form is out of date</h1>
<p class="lede">You have signed in or out since it was loaded, or your browser does not keep cookies. Go back, reload the page and try again.</p>`: b.post("/account/applications/delete", url.Values{"id": {id}}),
		`<h1>You have no such application</h1>
<p class="lede">It may have been deleted already.</p>
<p class="actions"><a class="button" href="/account/applications">Your applications</a></p>`: b.fill("/account/applications/delete", url.Values{"id": {id}}),
		`<h1>There is no such page</h1>
<p class="lede">The start page lists the endpoints.</p>
<p class="actions"><a class="button" href="/">Start page</a></p>`: b.get("/nowhere", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
		`<h1>There is no code here</h1>
<p class="lede">It may have been used or have expired. Go back to the application and start again.</p>`: b.get(b.endpoint("oob") + "?code=x"),
		`<h1>This request cannot be answered</h1>
<p class="lede">You cannot fix this here. Go back to where you came from.</p>`: b.authorize(authorization("web", "client_id", "none")),
	}
	i.advance(consentLifetime * time.Second)
	pages[`<h1>This question is out of date</h1>
<p class="lede">It was asked more than half an hour ago. Go back to the application and start again.</p>`] = b.decide(late, "deny")
	for want, page := range pages {
		page.contains(want)
	}
}

// TestPanic is R70 and R174: a bug shows itself in the log alone, and harms
// one request only.
func TestPanic(t *testing.T) {
	t.Parallel()
	t.Run("R70 R174 a bug shows in the log alone", func(t *testing.T) {
		i := start(t, func(s *server) {
			s.routes["/bug"] = []*route{{methods: "GET", handle: func(http.ResponseWriter, *http.Request, *exchange) error {
				panic("the detail")
			}}}
		})
		res, err := http.Get(i.URL + "/bug")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusInternalServerError || bytes.Contains(body, []byte("detail")) || bytes.Contains(body, []byte("goroutine")) || bytes.Contains(body, []byte(".go:")) {
			t.Errorf("status %d: %s", res.StatusCode, body)
		}
		if res.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(res.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", res.Header)
		}
		if log := i.log.String(); !strings.Contains(log, "the detail") || !strings.Contains(log, "pages_test.go:") {
			t.Errorf("the log does not tell where: %s", log)
		}
		i.as("alice")
	})
}

// TestErrorText is R71: RFC 6749 §4.1.2.1 and §5.2 on what error and
// error_description may be made of; and nothing of the request is in them.
func TestErrorText(t *testing.T) {
	t.Parallel()
	t.Run("4.1.2.1 R71 what error and error_description are made of", func(t *testing.T) {
		i := start(t)
		check := func(name string, texts ...string) {
			t.Helper()
			for _, text := range texts {
				if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
					t.Errorf("%s: %q has a character that is not allowed", name, text)
				}
				if strings.Contains(strings.ToLower(text), "marker") {
					t.Errorf("%s: %q echoes the request", name, text)
				}
			}
		}
		seen := make(map[string]bool) // the errors, so that the test tests something
		checkReply := func(name string, r *reply) {
			t.Helper()
			if r.json["error"] != nil {
				code, ok := r.json["error"].(string)
				description, too := r.json["error_description"].(string)
				if !ok || !too || description == "" {
					t.Errorf("%s: %s", name, r.body)
				}
				check(name, code, description)
				seen[code] = true
			}
			if r.Header.Get("Location") != "" && r.param("error") != "" {
				check(name, r.param("error"), r.param("error_description"))
				seen[r.param("error")] = true
			}
			for _, challenge := range r.Header["Www-Authenticate"] {
				if !regexp.MustCompile(`^(Basic|Bearer) [a-z_]+="[ !#-\[\]-~]*"(, [a-zA-Z_]+="[ !#-\[\]-~]*")*$`).MatchString(challenge) || strings.Contains(challenge, "marker") {
					t.Errorf("%s: WWW-Authenticate: %s", name, challenge)
				}
			}
		}
		markers := []string{"marker", "marker\r\nX: y", "märker-marker", "\"marker\\", "marker\x00", "marker\xff", "marker\t"}
		access, refresh := i.tokens("web")
		b := i.as("alice")
		code := i.code("web")
		valid := map[string]url.Values{
			"authorize":          authorization("web"),
			"implicit":           {"client_id": {"legacy"}, "response_type": {"token"}, "redirect_uri": {redirectURIs["legacy"]}},
			"public":             authorization("native"),
			"authorization_code": exchangeOf("web", code),
			"password":           withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}),
			"client_credentials": withClient("web", url.Values{"grant_type": {"client_credentials"}}),
			"refresh_token":      withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}),
			"revoke":             withClient("other", url.Values{"token": {access}}),
			"introspect":         withClient("rs", url.Values{"token": {access}}),
		}
		send := func(kind string, form url.Values, header ...string) *reply {
			switch kind {
			case "authorize", "implicit", "public":
				return b.get(b.endpoint("authorize")+"?"+form.Encode(), header...)
			case "revoke", "introspect":
				return i.post(i.endpoint(kind), form, header...)
			}
			return i.post(i.endpoint("token"), form, header...)
		}
		for kind, form := range valid {
			for _, marker := range markers {
				for name := range isParameter {
					if kind == "password" && (name == "username" || name == "password") {
						i.advance(guessWindow * time.Second) // not what is asked here
					}
					changed := maps.Clone(form)
					changed.Set(name, marker)
					checkReply(kind+" with another "+name, send(kind, changed))
					changed = maps.Clone(form)
					changed.Add(name, marker)
					checkReply(kind+" with two of "+name, send(kind, changed))
				}
				checkReply(kind+" with an unknown name", send(kind, url.Values{marker: {marker}}))
			}
			for name := range form {
				changed := maps.Clone(form)
				changed.Del(name)
				checkReply(kind+" without "+name, send(kind, changed))
			}
		}
		for _, marker := range []string{"marker", "Bearer marker", "Bearer \"marker\",x=y", "Bearer märker-marker", "Basic marker", "Basic bWFya2VyOm1hcmtlcg==", "Basic bWFya2Vy", "Basic JW1hcmtlcjp4"} {
			for _, name := range []string{"userinfo", "tokeninfo"} {
				checkReply(name+" with "+marker, i.get(i.endpoint(name), "Authorization", marker))
				checkReply(name+" with two of "+marker, i.get(i.endpoint(name)+"?access_token=marker", "Authorization", marker))
			}
			for _, name := range []string{"token", "revoke", "introspect"} {
				checkReply(name+" with "+marker, i.post(i.endpoint(name), url.Values{"grant_type": {"client_credentials"}}, "Authorization", marker))
				checkReply(name+" as "+marker, i.post(i.endpoint(name), valid["client_credentials"], "Content-Type", "application/"+url.PathEscape(marker)))
			}
		}
		clientToken, _ := send("client_credentials", valid["client_credentials"]).wantToken()
		checkReply("a client's token", i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+clientToken))
		for _, path := range []string{i.path("token"), i.path("revoke")} {
			checkReply("method", b.do("MARKER", path, ""))
			checkReply("large", i.post(path, url.Values{"marker": {strings.Repeat("marker", maxBody/6)}}))
			checkReply("compressed", i.post(path, valid["client_credentials"], "Content-Encoding", "marker"))
			for range secretTries {
				checkReply("too many", i.post(path, url.Values{"grant_type": {"client_credentials"}, "client_id": {"web"}, "client_secret": {"marker"}}))
			}
		}
		for _, code := range []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
			"unsupported_response_type", "invalid_token", "insufficient_scope"} {
			if !seen[code] {
				t.Errorf("no request was answered with %s", code)
			}
		}
	})
}

// TestMetadata is RFC 8414: R145, R146.
func TestMetadata(t *testing.T) {
	t.Parallel()
	i := start(t)

	t.Run("3.2 R145 the members", func(t *testing.T) {
		t.Parallel()
		r := i.in(t).get("/.well-known/oauth-authorization-server")
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" || r.json["issuer"] != i.URL {
			t.Fatalf("status %d, %v: %s", r.StatusCode, r.Header, r.body)
		}
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "response_types_supported", "grant_types_supported",
			"token_endpoint_auth_methods_supported", "code_challenge_methods_supported", "revocation_endpoint", "introspection_endpoint"} {
			if r.json[name] == nil {
				t.Errorf("no %s", name)
			}
		}
		for name, value := range r.json {
			switch value := value.(type) {
			case nil:
				t.Errorf("%s is null", name)
			case []any:
				if len(value) == 0 {
					t.Errorf("%s is empty", name)
				}
			case string:
				if name != "issuer" && !strings.HasPrefix(value, i.URL+"/") {
					t.Errorf("%s is %s", name, value)
				}
			}
		}
	})

	t.Run("3.1 R145 an issuer with a path", func(t *testing.T) {
		t.Parallel()
		i := i.in(t).behind("https://as.example/tenant")
		r := i.get("/.well-known/oauth-authorization-server/tenant")
		if r.json["issuer"] != "https://as.example/tenant" || r.json["token_endpoint"] != "https://as.example/tenant/oauth/token" {
			t.Errorf("%s", r.body)
		}
		if r := i.get("/.well-known/oauth-authorization-server"); r.StatusCode != http.StatusNotFound {
			t.Errorf("of another issuer: status %d", r.StatusCode)
		}
		page := i.get("/tenant/oauth/authorize?" + authorization("web").Encode())
		if page.action() != "/tenant/login" || !strings.Contains(page.body, `href="/tenant/style.css?`) {
			t.Errorf("%s", page.body)
		}
		form := page.form(credentials("alice", "wonderland"))
		b := i.withCookie(page.Cookies()[0].Value)
		signedIn := b.post("/tenant/login", form)
		b = i.withCookie(signedIn.Cookies()[0].Value)
		consent := b.get(signedIn.location().String())
		back := b.decide(consent, "approve")
		if back.param("code") == "" || back.param("iss") != "https://as.example/tenant" {
			t.Errorf("back to %s", back.location())
		}
	})

	t.Run("2 R145 bad issuers", func(t *testing.T) {
		t.Parallel()
		for _, issuer := range []string{"", "as.example", "//as.example", "ftp://as.example", "https://", "https:as.example", "https://as.example?x=y", "https://as.example?",
			"https://as.example#x", "https://as.example#", "https://u:p@as.example", "https://as.example/a/../b", "https://as.example//a", "https://as.example:x", "https://as.example/%zz"} {
			if _, err := newServer(i.server.profile, i.server.store, issuer, i.server.log); err == nil {
				t.Errorf("%q is accepted", issuer)
			}
		}
	})

	list := func(r *reply, name string) []string {
		var values []string
		all, _ := r.json[name].([]any)
		for _, value := range all {
			values = append(values, value.(string))
		}
		return values
	}
	want := func(t *testing.T, r *reply, name string, values ...string) {
		t.Helper()
		got := list(r, name)
		slices.Sort(got)
		slices.Sort(values)
		if !slices.Equal(got, values) {
			t.Errorf("%s: %q, want %q", name, got, values)
		}
	}

	t.Run("2 R146 the truth", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		r := i.get(i.endpoint("metadata"))
		want(t, r, "grant_types_supported", "authorization_code", "implicit", "password", "client_credentials", "refresh_token", deviceGrant)
		want(t, r, "response_types_supported", "code", "token")
		want(t, r, "response_modes_supported", "query", "fragment", "form_post")
		want(t, r, "code_challenge_methods_supported", "S256")
		if r.json["authorization_response_iss_parameter_supported"] != true {
			t.Error("authorization_response_iss_parameter_supported is not true")
		}
		b := i.as("alice")
		for _, grantType := range []string{"authorization_code", "implicit", "password", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code",
			"urn:ietf:params:oauth:grant-type:jwt-bearer"} {
			r := i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {grantType}}))
			known := slices.Contains(list(b.get(i.endpoint("metadata")), "grant_types_supported"), grantType) && grantType != "implicit"
			if unknown := r.json["error"] == "unsupported_grant_type"; unknown == known {
				t.Errorf("%s: %s", grantType, r.body)
			}
		}
		for _, method := range []string{"S256", "plain", "s256", "S512"} {
			request := authorization("native") // which is always asked for consent
			request.Set("code_challenge_method", method)
			if listed := slices.Contains(list(r, "code_challenge_methods_supported"), method); listed != (b.authorize(request).Header.Get("Location") == "") {
				t.Errorf("method %s is listed: %t", method, listed)
			}
		}
	})

	t.Run("2 R146 client authentication", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		r := i.get(i.endpoint("metadata"))
		for _, endpoint := range []struct{ name, path string }{{"token", "token"}, {"revocation", "revoke"}, {"introspection", "introspect"}} {
			listed := list(r, endpoint.name+"_endpoint_auth_methods_supported")
			for method, send := range map[string]func(form url.Values) *reply{
				"client_secret_basic": func(form url.Values) *reply {
					form.Set("grant_type", "client_credentials")
					return i.post(i.endpoint(endpoint.path), form, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("web:web-secret")))
				},
				"client_secret_post": func(form url.Values) *reply {
					form.Set("grant_type", "client_credentials")
					return i.post(i.endpoint(endpoint.path), withClient("web", form))
				},
				"none": func(form url.Values) *reply {
					form.Set("grant_type", "authorization_code")
					form.Set("code", "x")
					return i.post(i.endpoint(endpoint.path), withClient("native", form))
				},
				"client_secret_jwt": func(form url.Values) *reply {
					form.Set("grant_type", "client_credentials")
					form.Set("client_id", "web")
					form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
					form.Set("client_assertion", "e30.e30.e30")
					return i.post(i.endpoint(endpoint.path), form)
				},
			} {
				answer := send(url.Values{"token": {"x"}})
				if refused := answer.json["error"] == "invalid_client"; refused == slices.Contains(listed, method) {
					t.Errorf("%s is listed for %s: %t; the answer is %d %s", method, endpoint.name, !refused, answer.StatusCode, answer.body)
				}
			}
		}
	})

	t.Run("2 R146 what no client may use is not there", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		if err := i.server.store.deleteClient("legacy"); err != nil {
			t.Fatal(err)
		}
		r := i.get(i.endpoint("metadata"))
		want(t, r, "grant_types_supported", "authorization_code", "client_credentials", "refresh_token", deviceGrant)
		want(t, r, "response_types_supported", "code")
		want(t, r, "response_modes_supported", "query", "fragment", "form_post")
	})

	t.Run("2 R146 what the profile lacks is not there", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) {
			s.profile.Grants = []string{"authorization_code"}
			s.profile.Scopes = []scope{{Name: "read"}, {Name: "write"}}
			for _, name := range []string{"revoke", "introspect"} {
				delete(s.profile.Endpoints, name)
			}
			s.profile.Resources = nil
			s.routes = s.newRoutes()
		})
		r := i.get(i.endpoint("metadata"))
		want(t, r, "grant_types_supported", "authorization_code")
		want(t, r, "response_types_supported", "code")
		want(t, r, "scopes_supported", "read", "write")
		for name := range r.json {
			if strings.HasPrefix(name, "revocation") || strings.HasPrefix(name, "introspection") || strings.HasPrefix(name, "userinfo") {
				t.Errorf("%s is there", name)
			}
		}
		for _, path := range []string{"/oauth/revoke", "/oauth/introspect", "/userinfo"} {
			if r := i.post(path, nil); r.StatusCode != http.StatusNotFound {
				t.Errorf("%s: status %d", path, r.StatusCode)
			}
		}
	})
}

// paths are all that have a route, with one of the explanations, which differ only
// in their text, for all.
func (i *instance) paths() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(i.server.routes)), func(path string) bool {
		return strings.HasPrefix(path, "/explain/") && path != "/explain/" && path != "/explain/"+codeExpired.slug()
	})
}

// TestCORS is R147 and R148: browser clients may call what reads no cookie,
// from anywhere; nothing else answers another origin.
func TestCORS(t *testing.T) {
	t.Parallel()
	i := start(t)
	open := []string{"metadata", "jwks", "token", "revoke", "registration", "tokeninfo", "userinfo"}
	access, _ := i.tokens("web")
	b := i.as("alice")
	for _, path := range i.paths() {
		route := i.server.routes[path][0] // this profile has no path with two
		for _, origin := range []string{"https://cb.example", "https://evil.example", "null", i.URL, ""} {
			t.Run("R147 R148 "+path+" from "+origin, func(t *testing.T) {
				header := []string{"Origin", origin}
				method := strings.Split(route.methods, ", ")[0]
				answers := map[string]*reply{
					"preflight": b.do("OPTIONS", path, "", append(header, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization, content-type")...),
					"GET":       b.get(path, header...),
					"POST":      b.post(path, withClient("web", url.Values{"grant_type": {"client_credentials"}, "token": {"x"}}), header...),
					"refused":   b.post(path, url.Values{"grant_type": {"x"}}, header...),
					"bearer":    b.get(path, append(header, "Authorization", "Bearer "+access)...),
					"dead":      b.get(path, append(header, "Authorization", "Bearer x")...),
					"DELETE":    b.do("DELETE", path, "", header...),
				}
				for name, r := range answers {
					var got []string
					for header := range r.Header {
						if strings.HasPrefix(header, "Access-Control-") {
							got = append(got, header)
						}
					}
					if !slices.Contains(open, route.endpoint) {
						if len(got) > 0 {
							t.Errorf("%s: %v", name, got)
						}
						continue
					}
					if allowed := r.Header["Access-Control-Allow-Origin"]; !slices.Equal(allowed, []string{"*"}) {
						t.Errorf("%s: Access-Control-Allow-Origin %q", name, allowed)
					}
					if r.Header["Access-Control-Allow-Credentials"] != nil {
						t.Errorf("%s: with credentials", name)
					}
				}
				if slices.Contains(open, route.endpoint) {
					r := answers["preflight"]
					if r.StatusCode/100 != 2 || !strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), method) ||
						!strings.Contains(strings.ToLower(r.Header.Get("Access-Control-Allow-Headers")), "authorization") || !strings.Contains(strings.ToLower(r.Header.Get("Access-Control-Allow-Headers")), "content-type") {
						t.Errorf("preflight: status %d, %v", r.StatusCode, r.Header)
					}
				} else if r := answers["preflight"]; r.StatusCode/100 == 2 {
					t.Errorf("preflight: status %d", r.StatusCode)
				}
			})
		}
	}
	t.Run("R148 nothing is read from a cookie", func(t *testing.T) {
		for _, name := range open {
			if r := b.get(b.endpoint(name), "Origin", "https://evil.example"); strings.Contains(r.body, "alice") {
				t.Errorf("%s: %s", name, r.body)
			}
		}
	})
}

// raw sends bytes and returns what comes back until the server closes the
// connection, with the status of the first answer.
func (i *instance) raw(request string) (status int, answer string) {
	i.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(i.URL, "http://"))
	if err != nil {
		i.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		io.WriteString(conn, request) // may be refused half-way
		conn.(*net.TCPConn).CloseWrite()
	}()
	all, err := io.ReadAll(conn)
	if err != nil && len(all) == 0 {
		i.Fatal(err)
	}
	if r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil); err == nil {
		status = r.StatusCode
	}
	return status, string(all)
}

// TestProtocolOddities is R178: RFC 9112 §3.2, §6.3.
func TestProtocolOddities(t *testing.T) {
	t.Parallel()
	i := start(t)
	form := withClient("web", url.Values{"grant_type": {"client_credentials"}}).Encode()
	length := fmt.Sprintf("Content-Length: %d\r\n", len(form))
	const head = "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(form), form)
	tests := []struct {
		name, request string
		want          []int
	}{
		{"the one valid request", head + length + "\r\n" + form, []int{200}},
		{"in chunks", head + "Transfer-Encoding: chunked\r\n\r\n" + chunked, []int{200}},
		{"in chunks, with a length", head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, []int{200, 400}},
		{"two lengths", head + length + "Content-Length: 0\r\n\r\n" + form, []int{400}},
		{"a list of lengths", head + "Content-Length: 5, 6\r\n\r\n" + form, []int{400}},
		{"a signed length", head + "Content-Length: +5\r\n\r\n" + form, []int{400}},
		{"a negative length", head + "Content-Length: -5\r\n\r\n" + form, []int{400}},
		{"an unknown coding", head + "Transfer-Encoding: x\r\n\r\n" + chunked, []int{400, 501}},
		{"two codings", head + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked, []int{400, 501}},
		{"coding twice", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, []int{400, 501}},
		{"a bad chunk", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", []int{400}},
		{"a body cut short", head + "Content-Length: 5000\r\n\r\n" + form, []int{400}},
		{"no Host", strings.Replace(head, "Host: x\r\n", "", 1) + length + "\r\n" + form, []int{400}},
		{"two Hosts", strings.Replace(head, "Host: x\r\n", "Host: x\r\nHost: y\r\n", 1) + length + "\r\n" + form, []int{400}},
		{"a bad Host", strings.Replace(head, "Host: x", "Host: x y", 1) + length + "\r\n" + form, []int{400}},
		{"absolute form", strings.Replace(head, "/oauth", "http://evil.example/oauth", 1) + length + "\r\n" + form, []int{200, 400, 421}},
		{"HTTP/0.9", "GET /\r\n", []int{400}},
		{"HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", []int{200}},
		{"HTTP/9.9", "GET / HTTP/9.9\r\nHost: x\r\n\r\n", []int{400, 505}},
		{"HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 404, 405, 505}},
		{"an upgrade", "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", []int{200}},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", []int{400, 404, 405}},
		{"asterisk", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 404}},
		{"a folded header", head + "X-A: b\r\n c\r\n" + length + "\r\n" + form, []int{200, 400}},
		{"a blank before the colon", head + "Content-Length : 5\r\n\r\n" + form, []int{400}},
		{"NUL in a header", head + "X-A: b\x00c\r\n" + length + "\r\n" + form, []int{400}},
		{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
		{"a long header", "GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("b", 2<<20) + "\r\n\r\n", []int{431}},
		{"noise", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
	}
	for _, test := range tests {
		t.Run("R178 "+test.name, func(t *testing.T) {
			t.Parallel()
			status, answer := i.in(t).raw(test.request)
			if !slices.Contains(test.want, status) || strings.Count(answer, "HTTP/1.") != 1 {
				t.Errorf("status %d, want one of %v, once: %s", status, test.want, answer)
			}
		})
	}
}

// TestSlow is R172: who dribbles or does not read is cut off, and the others
// do not notice. The command's limits are kept in proportion, a 25th of each.
func TestSlow(t *testing.T) {
	t.Parallel()
	t.Run("R172 who is slow is cut off", func(t *testing.T) {
		i := start(t)
		ts := httptest.NewUnstartedServer(nil)
		ts.Config = i.server.newHTTPServer()
		for _, limit := range []*time.Duration{&ts.Config.ReadHeaderTimeout, &ts.Config.ReadTimeout, &ts.Config.WriteTimeout, &ts.Config.IdleTimeout} {
			if *limit < time.Second || *limit > 5*time.Minute {
				t.Errorf("a limit of %v", *limit)
			}
			*limit /= 25
		}
		ts.Start()
		defer ts.Close()
		i = &instance{T: t, server: i.server, URL: ts.URL, log: i.log}

		const body = "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n"
		// connect sends first and then rest again and again, until the server
		// closes the connection.
		connect := func(first, rest string, pause time.Duration, read bool) error {
			conn, err := net.Dial("tcp", ts.Listener.Addr().String())
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			closed := make(chan error, 1)
			if read {
				go func() {
					_, err := io.Copy(io.Discard, conn)
					closed <- err
				}()
			}
			io.WriteString(conn, first)
			for {
				select {
				case err := <-closed:
					if e, ok := err.(net.Error); ok && e.Timeout() {
						return err
					}
					return nil
				case <-time.After(pause):
				}
				if rest == "" {
					continue
				}
				if _, err := io.WriteString(conn, rest); err != nil {
					if e, ok := err.(net.Error); ok && e.Timeout() {
						return err
					}
					return nil
				}
			}
		}
		done := make(chan error)
		slow := 0
		attack := func(times int, first, rest string, pause time.Duration, read bool) {
			slow += times
			for range times {
				go func() { done <- connect(first, rest, pause, read) }()
			}
		}
		const page = "GET /login HTTP/1.1\r\nHost: x\r\n\r\n"
		attack(20, "", "", 10*time.Millisecond, true)                           // says nothing
		attack(20, "GET / HTTP/1.1\r\nX-A: ", "b", 10*time.Millisecond, true)   // headers that never end
		attack(20, body, "x", 10*time.Millisecond, true)                        // a body that never ends
		attack(20, page, "", 10*time.Millisecond, true)                         // stays after the answer
		attack(4, page, strings.Repeat(page, 1000), 10*time.Microsecond, false) // never reads
		for range slow {
			if err := <-done; err != nil {
				t.Errorf("a slow connection was kept: %v", err)
			}
			i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
		}
		// The largest header that the command reads.
		status, _ := i.raw("GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("b", 64<<10) + "\r\n\r\n")
		if status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 64 KB: status %d", status)
		}
	})
}

// everyFlow makes requests of every kind, good and bad, and returns the
// secrets that went back and forth.
func everyFlow(i *instance) map[string]string {
	i.Helper()
	secrets := map[string]string{
		"alice's password": "wonderland", "bob's password": "builder", "a guess": "guess-the-password",
		"web's secret": "web-secret", "legacy's secret": "legacy-secret", "another secret": "guess-the-secret",
		"verifier": verifier, "another verifier": strings.Repeat("another-verifier-", 3), "state": "state-of-the-request",
		"random": newCredential().String(),
	}
	credential := func(name, value string) {
		if _, ok := parseCredential(value); !ok {
			i.Fatalf("%s: %q", name, value)
		}
		secrets[name] = value
	}
	tokens := func(name string, r *reply) (access, refresh string) {
		i.Helper()
		access, refresh = r.wantToken()
		credential("access token "+name, access)
		if refresh != "" {
			credential("refresh token "+name, refresh)
		}
		return access, refresh
	}
	token := i.endpoint("token")

	// Sign in, agree, exchange the code, refresh; with errors on the way.
	b := i.browser()
	request := authorization("web")
	request.Set("state", secrets["state"])
	page := b.authorize(request)
	credential("cookie of a visitor", b.cookie())
	secrets["form token"] = page.form(nil).Get("form_token")
	b.post(page.action(), page.form(credentials("alice", secrets["a guess"])))
	b.post(page.action(), page.form(credentials("alice", "wonderland")))
	credential("cookie", b.cookie())
	consent := b.authorize(request)
	secrets["mac"] = consent.form(nil).Get("mac")
	back := b.decide(consent, "approve")
	credential("code", back.param("code"))
	b.decide(consent, "approve").wantPage(http.StatusBadRequest)
	exchange := exchangeOf("web", secrets["code"])
	for name, value := range map[string]string{"code_verifier": secrets["another verifier"], "client_secret": secrets["another secret"], "client_id": "other", "redirect_uri": "https://evil.example/"} {
		wrong := maps.Clone(exchange)
		wrong.Set(name, value)
		i.post(token, wrong)
		wrong = maps.Clone(exchange)
		wrong.Add(name, value)
		i.post(token, wrong).wantError(400, "invalid_request")
	}
	access, refresh := tokens("by code", i.post(token, exchange))
	i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
	i.get(i.endpoint("tokeninfo"), "Authorization", "Bearer "+access)
	i.introspect(access)
	_, again := tokens("by refresh", i.refresh("web", refresh))
	i.refresh("other", again).wantError(400, "invalid_grant")
	i.refresh("web", refresh).wantError(400, "invalid_grant") // reuse
	i.refresh("web", again).wantError(400, "invalid_grant")
	i.post(token, exchange).wantError(400, "invalid_grant") // replay

	// The other grants.
	implicit := url.Values{"client_id": {"legacy"}, "response_type": {"token"}, "redirect_uri": {redirectURIs["legacy"]}, "state": {secrets["state"]}}
	credential("access token in the fragment", b.approve(implicit).param("access_token"))
	form := withClient("legacy", credentials("alice", "wonderland"))
	form.Set("grant_type", "password")
	_, refresh = tokens("by password", i.post(token, form))
	form.Set("password", secrets["a guess"])
	i.post(token, form).wantError(400, "invalid_grant")
	basic := base64.StdEncoding.EncodeToString([]byte("web:web-secret"))
	secrets["Basic credentials"] = basic
	access, _ = tokens("for the client", i.post(token, url.Values{"grant_type": {"client_credentials"}}, "Authorization", "Basic "+basic))
	i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {access}}))
	i.post(i.endpoint("revoke"), withClient("legacy", url.Values{"token": {refresh}}))

	// A code that is shown.
	i.furnish(`{"clients": [{"client_id": "shown", "client_secret": "shown-secret", "redirect_uris": ["` + outOfBand + `"]}]}`)
	shown := b.get(b.approve(url.Values{"client_id": {"shown"}, "response_type": {"code"}}).location().String())
	credential("code shown", regexp.MustCompile(`id="code">([^<]*)<`).FindStringSubmatch(shown.body)[1])
	i.withCookie("").get(shown.Request.URL.String()).wantPage(http.StatusBadRequest)

	// A secret of each kind where it does not belong.
	for _, kind := range []string{
		"alice's password", "a guess", "web's secret", "Basic credentials", "verifier", "state", "random", "form token", "mac", "cookie",
		"code", "access token by code", "refresh token by code", "access token in the fragment", "refresh token by password",
	} {
		secret := secrets[kind]
		everywhere := url.Values{}
		for name := range isParameter {
			everywhere.Set(name, secret)
		}
		everywhere.Del("client_id")
		query := "?" + everywhere.Encode()
		everywhere.Set("continue", "/login"+query)
		for _, route := range i.paths() {
			if route == "/logout" || route == "/consent" {
				continue
			}
			b.get(route + query)
			b.get(route+query+"&client_id=web&redirect_uri="+url.QueryEscape(redirectURIs["web"]), "Authorization", "Bearer "+secret, "Referer", i.URL+"/"+query)
			b.post(route+query, everywhere)
			b.post(route, withClient("web", url.Values{"grant_type": {secret}, "code": {secret}, "state": {secret}}))
			b.post(route, url.Values{"grant_type": {"authorization_code"}, "code": {secret}}, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("web:"+secret)))
			b.do("POST", route, "grant_type=refresh_token&refresh_token="+secret+"&x=%zz", "Authorization", "Basic "+secret)
			b.do("POST", route, `{"code":"`+secret+`"}`, "Content-Type", "application/json", "User-Agent", secret, "X-Forwarded-For", secret)
			b.do("POST", route, "--x\r\nContent-Disposition: form-data; name=\"code\"\r\n\r\n"+secret+"\r\n--x--", "Content-Type", "multipart/form-data; boundary=x")
		}
		i.withCookie(secret).get("/")
		i.post(token, withClient("legacy", url.Values{"grant_type": {"password"}, "username": {secret}, "password": {secret}}))
	}
	b.post("/logout", b.get("/").form(nil))
	return secrets
}

// spellings are what a secret may look like in a file.
func spellings(secret string) []string {
	all := []string{secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
	// In base64 it depends on how many bytes stand before it.
	for before, cut := range []int{0, 2, 3} {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + secret))[cut:]
		if (before+len(secret))%3 != 0 {
			encoded = encoded[:len(encoded)-1]
		}
		all = append(all, encoded, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
	}
	return all
}

// logged returns an instance, and what it logs as text and as JSON.
func logged(t *testing.T, options ...func(*server)) (i *instance, text, object *lockedBuffer) {
	t.Helper()
	text, object = new(lockedBuffer), new(lockedBuffer)
	all := &slog.HandlerOptions{Level: slog.LevelDebug}
	i = start(t, append(options, func(s *server) {
		s.log = slog.New(slog.NewMultiHandler(slog.NewTextHandler(text, all), slog.NewJSONHandler(object, all)))
	})...)
	return i, text, object
}

// TestNoSecrets: what is kept and what is logged tell no secrets.
func TestNoSecrets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "grantling.db")
	i, text, object := logged(t, onDisk(t, file))
	secrets := everyFlow(i)
	// RFC 6749 §10.3, §10.4, §10.5. Free pages are looked at as well: bbolt leaves
	// old bytes there.
	t.Run("10.3 R173 no secret is in the file", func(t *testing.T) {
		check := func() {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(data, []byte("alice@example.com")) {
				t.Fatal("the file is not the one that was used")
			}
			for name, secret := range secrets {
				forms := spellings(secret)
				if raw, err := base64.RawURLEncoding.DecodeString(secret); err == nil && len(raw) == 32 {
					// The id is the key in the file; the rest is secret, and so are the bytes of both.
					forms = append(forms, spellings(string(raw[16:]))...)
					forms = append(forms, secret[22:])
				}
				for _, form := range forms {
					if at := bytes.Index(data, []byte(form)); at >= 0 {
						t.Errorf("%s is in the file as %q: %q", name, form, data[max(0, at-100):at+len(form)])
					}
				}
			}
		}
		check()
		i.advance(10 * 365 * 24 * time.Hour)
		if removed, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix())); removed == 0 || err != nil {
			t.Fatalf("%d records swept: %v", removed, err)
		}
		check()
	})
	t.Run("R174 no secret is in the log", func(t *testing.T) {
		// A failing store tells none either.
		i.server.store.close()
		failing := maps.Clone(withClient("legacy", credentials("alice", "wonderland")))
		failing.Set("grant_type", "password")
		for name, secret := range secrets {
			failing.Set("code", secret)
			failing.Set("token", secret)
			for _, route := range []string{i.path("token"), i.path("revoke"), "/login", i.path("userinfo")} {
				res, err := http.PostForm(i.URL+route+"?code="+url.QueryEscape(secret), failing)
				if err != nil {
					t.Fatal(name, err)
				}
				res.Body.Close()
			}
			i.get("/nowhere%3Fcode=" + url.QueryEscape(secret))
			i.get("/nowhere&client_secret=" + url.QueryEscape(secret))
			if scrub(secret) != secret {
				i.get("/nowhere/" + secret)
			}
		}
		for _, log := range []string{text.String(), object.String()} {
			if !strings.Contains(log, "alice") || !strings.Contains(log, "invalid_grant") || !strings.Contains(log, "ERROR") {
				t.Fatal("the log is not the one that was used")
			}
			for name, secret := range secrets {
				for _, form := range slices.Concat(spellings(secret), spellings(secret[:min(12, len(secret))])) {
					if at := strings.Index(log, form); at >= 0 {
						t.Errorf("%s is in the log as %q: %q", name, form, log[max(0, at-200):at+len(form)])
					}
				}
			}
		}
	})
}

// TestLog is R175: what is logged is one record a request, whatever the request.
func TestLog(t *testing.T) {
	t.Parallel()
	t.Run("R175 no forged records", func(t *testing.T) {
		t.Parallel()
		i, text, object := logged(t, inMemory(t), func(s *server) {
			s.routes["/bug"] = []*route{{methods: "GET, POST", handle: func(w http.ResponseWriter, r *http.Request, x *exchange) error {
				form, _ := x.body()
				panic(fmt.Sprint("a form of ", len(form)))
			}}}
		})
		evil := []string{
			"\ntime=2026-01-01T00:00:00Z level=ERROR msg=forged", "\r\nforged", "x\x1b[2J\x1b[31mforged", "\"}\n{\"msg\":\"forged\"}", "x\x00y", "a=b c=d",
			"\u0085forged", "\u2028forged", "\u202eforged", "\u009b31m", "\xff\xfe", "\\n", "\x7f", "\u200b", "\x08\x08\x08",
		}
		requests := 0
		for _, text := range evil {
			form := withClient("web", url.Values{"grant_type": {"client_credentials"}})
			for name := range isParameter {
				changed := maps.Clone(form)
				changed.Set(name, text)
				i.post(i.endpoint("token"), changed)
				requests++
			}
			i.get("/"+url.PathEscape(text)+"?"+url.QueryEscape(text), "User-Agent", strings.Map(printable, text), "Referer", strings.Map(printable, text))
			b := i.browser()
			b.post("/login", b.get("/login").form(credentials(text, text)))
			i.get(i.endpoint("authorize") + "?client_id=" + url.QueryEscape(text))
			res, err := http.Get(i.URL + "/bug?" + url.QueryEscape(text))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			requests += 6 // the last one has a record of its panic too
		}
		for _, log := range []string{text.String(), object.String()} {
			lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
			if len(lines) != requests {
				t.Errorf("%d lines for %d records", len(lines), requests)
			}
			for _, line := range lines {
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' }) {
					t.Errorf("%q", line)
				}
				if strings.HasPrefix(line, "{") {
					var record struct{ Level, Msg string }
					if err := json.Unmarshal([]byte(line), &record); err != nil || record.Msg != "request" && record.Msg != "panic" {
						t.Errorf("%v: %s", err, line)
					}
				} else if !regexp.MustCompile(`^time=\S+ level=(INFO|ERROR) msg=(request|panic) `).MatchString(line) {
					t.Errorf("%s", line)
				}
			}
		}
	})
}

// printable leaves what may stand in a header.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '_'
	}
	return r
}

// TestBounds is R177: what is begun and not finished leaves nothing behind,
// and what is finished does not stay for ever.
func TestBounds(t *testing.T) {
	t.Parallel()
	i := start(t)
	records := func() map[string]int {
		counts := make(map[string]int)
		for _, name := range buckets {
			if n := count(t, i.server.store, name); n > 0 {
				counts[string(name)] = n
			}
		}
		return counts
	}
	furnished := records()
	want := func(what string, want map[string]int) {
		t.Helper()
		if got := records(); !maps.Equal(got, want) {
			t.Errorf("after %s: %v, want %v", what, got, want)
		}
	}
	for range 200 {
		i.browser().authorize(authorization("web"))
		i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"authorization_code"}, "code": {newCredential().String()}}))
	}
	want("requests of nobody", furnished)
	b := i.browser()
	for range 20 {
		b.signIn("alice", "wonderland")
	}
	signedIn := maps.Clone(furnished)
	signedIn["sessions"] = 1
	want("signing in again and again", signedIn)
	for range 200 {
		b.authorize(authorization("native"))
	}
	want("consent pages", signedIn)
	for range 20 {
		b.approve(authorization("native"))
		i.tokens("web")
		i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
	}
	i.advance(400 * 24 * time.Hour)
	for range 3 { // a grant goes first, then what hangs on it
		if _, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix())); err != nil {
			t.Fatal(err)
		}
	}
	want("the sweep", furnished)
	i.tokens("web")
	t.Run("R177 the newest sessions stay", func(t *testing.T) {
		i := start(t, inMemory(t))
		first, last := i.as("alice"), i.as("bob")
		signedIn := func(b *browser) bool {
			return !strings.Contains(b.get("/account/applications").body, `name="password"`)
		}
		some := count(t, i.server.store, bucketSessions)
		i.mustUpdate(func(t *tx) error {
			for range maxSessions - some {
				other := session{stored: newCredential().stored(0), Expires: math.MaxInt32}
				t.put(bucketSessions, other.id[:], other)
			}
			return nil
		})
		if !signedIn(first) {
			t.Error("the first session ended before there were too many")
		}
		next := i.as("alice")
		if n := count(t, i.server.store, bucketSessions); n != maxSessions {
			t.Errorf("%d sessions", n)
		}
		if signedIn(first) || !signedIn(last) || !signedIn(next) {
			t.Errorf("signed in: the first %v, want false; the last %v, the next %v, want true", signedIn(first), signedIn(last), signedIn(next))
		}
	})
}

// TestFirstToken: the start page leads to a token in three steps, and says where
// alice's password is while she still has it.
func TestFirstToken(t *testing.T) {
	t.Parallel()
	i := startBare(t, "rfc6749")
	i.must(i.server.store.deleteUser("alice"))
	i.must(i.server.store.deleteUser("bob"))
	on := true
	i.must(i.server.furnish(nil, &options{db: memory, inspect: &on}, &outlet{to: io.Discard}))
	const hint = "Sign in as <code>alice</code>: her password is in the terminal where grantling started."
	i.get("/").contains("Your first token", hint, "<dt>Client ID</dt><dd><code>demo</code>, public: it has no secret</dd>", "<code>http://127.0.0.1/callback</code>, at any port")
	i.furnish(`{"users": [{"username": "alice", "password": "wonderland"}]}`)
	if body := i.get("/").body; strings.Contains(body, "her password is") {
		t.Errorf("the start page knows of a password that is no longer hers: %s", body)
	}
	if body := i.as("alice").get("/").body; strings.Contains(body, "her password is") || !strings.Contains(body, "and allow access.") {
		t.Errorf("the start page for alice: %s", body)
	}
}
