package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// in returns the browser as seen from a subtest.
func (b *browser) in(t *testing.T) *browser {
	sub := *b
	sub.instance = b.instance.in(t)
	return &sub
}

// authorizeRaw sends an authorization request whose query goes out as it is.
func (b *browser) authorizeRaw(query string) *reply {
	b.Helper()
	return b.get(b.endpoint("authorize") + "?" + query)
}

// wantConsent wants the page that asks the user.
func (r *reply) wantConsent() {
	r.i.Helper()
	if r.StatusCode != http.StatusOK || !strings.Contains(r.body, `name="decision"`) {
		r.i.Errorf("got status %d, Location %q, want the consent page: %s", r.StatusCode, r.Header.Get("Location"), r.body)
	}
}

// wantSignIn wants the page that asks who the user is.
func (r *reply) wantSignIn() {
	r.i.Helper()
	if r.StatusCode != http.StatusOK || r.Header.Get("Location") != "" || !strings.Contains(r.body, `name="password"`) {
		r.i.Errorf("got status %d, Location %q, want the sign-in page: %s", r.StatusCode, r.Header.Get("Location"), r.body)
	}
}

// wantNowhere wants an error page that does not lead to a host (R3, R4).
func (r *reply) wantNowhere(status int, host string) {
	r.i.Helper()
	r.wantPage(status)
	if r.Header.Get("Refresh") != "" || strings.Contains(strings.ToLower(r.body), `http-equiv="refresh"`) || strings.Contains(r.body, host) {
		r.i.Errorf("the page leads to %s: %s", host, r.body)
	}
}

// wire sends bytes as they are and returns the answer's, with the browser's cookies.
func (b *browser) wire(method, target, body string) string {
	b.Helper()
	u, err := url.Parse(b.URL)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, target, u.Host)
	for _, c := range b.client.Jar.Cookies(u) {
		fmt.Fprintf(conn, "Cookie: %s\r\n", c)
	}
	if body != "" {
		fmt.Fprintf(conn, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(body))
	}
	fmt.Fprintf(conn, "\r\n%s", body)
	answer, err := io.ReadAll(conn)
	if err != nil {
		b.Fatal(err)
	}
	return string(answer)
}

// repeated is a scope of n tokens, all the same.
func repeated(token string, n int) string {
	return strings.TrimSuffix(strings.Repeat(token+" ", n), " ")
}

// TestAuthorize changes one thing in the valid request of a user who is signed in.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [
		{"client_id": "deleted", "redirect_uris": ["https://cb.example/cb"]},
		{"client_id": "two", "redirect_uris": ["https://cb.example/cb", "https://cb.example/cb2"]},
		{"client_id": "none", "redirect_uris": []},
		{"client_id": "machine", "redirect_uris": ["https://cb.example/cb"], "grant_types": ["client_credentials"]},
		{"client_id": "any", "redirect_uris": ["https://cb.example/cb"]}
	]}`)
	if err := i.server.store.deleteClient("deleted"); err != nil {
		t.Fatal(err)
	}
	alice := i.as("alice")

	const (
		page    = "page"    // an error page
		consent = "consent" // the request is good
		// anything else is the error of a redirect
	)
	query := func(clientID string, change ...string) string { return authorization(clientID, change...).Encode() }
	valid := query("web")
	const there = "https://cb.example/cb"
	for _, row := range []struct {
		name  string
		query string
		want  string
	}{
		{"4.1.1/the valid request", valid, consent},
		{"4.1.1/the valid request of a public client", query("native"), consent},
		{"4.1.1/no PKCE from a confidential client", query("web", "code_challenge", absent, "code_challenge_method", absent), consent},

		{"4.1.2.1 R2 no client_id", query("web", "client_id", absent), page},
		{"4.1.2.1 R2 empty client_id", query("web", "client_id", ""), page},
		{"4.1.2.1 R2 unknown client_id", query("web", "client_id", "nope"), page},
		{"4.1.2.1 R2 client_id in another case", query("web", "client_id", "WEB"), page},
		{"4.1.2.1 R2 deleted client", query("web", "client_id", "deleted"), page},
		{"4.1.2.1 R2 very long client_id", query("web", "client_id", strings.Repeat("x", 20_000)), page},

		{"3.1.2.4 R3 unregistered redirect_uri", query("web", "redirect_uri", "https://evil.example/"), page},
		{"3.1.2.4 R3 redirect_uri of another client", query("web", "redirect_uri", "https://other.example/cb"), page},

		{"3.1.2.3 R5 omitted redirect_uri, one registered", query("web", "redirect_uri", absent), consent},
		{"3.1.2.3 R5 empty redirect_uri, one registered", query("web", "redirect_uri", ""), consent},
		{"3.1.2.3 R5 omitted redirect_uri, two registered", query("two", "redirect_uri", absent), page},
		{"3.1.2.3 R5 empty redirect_uri, two registered", query("two", "redirect_uri", ""), page},
		{"3.1.2.3 R5 second of two", query("two", "redirect_uri", there+"2"), consent},
		{"3.1.2.2 R5 omitted redirect_uri, none registered", query("none", "redirect_uri", absent), page},
		{"3.1.2.2 R5 a redirect_uri, none registered", query("none", "redirect_uri", there), page},

		{"3.1.1 R6 no response_type", query("web", "response_type", absent), "invalid_request"},
		{"3.1.1 R6 empty response_type", query("web", "response_type", ""), "invalid_request"},
		{"3.1.1 R6 unknown response_type", query("web", "response_type", "foo"), "unsupported_response_type"},
		{"3.1.1 R6 response_type in capitals", query("web", "response_type", "CODE"), "unsupported_response_type"},
		{"3.1.1 R6 response_type code token", query("legacy", "response_type", "code token"), "unsupported_response_type"},
		{"3.1.1 R6 response_type code code", query("web", "response_type", "code code"), "unsupported_response_type"},
		{"3.1.1 R6 response_type with a blank", query("web", "response_type", "code "), "unsupported_response_type"},
		{"3.1.1 R6 response_type id_token", query("web", "response_type", "id_token"), "unsupported_response_type"},
		{"3.1.1 R6 response_type none", query("web", "response_type", "none"), "unsupported_response_type"},

		{"4.2.2.1 R7 implicit, not registered for", query("web", "response_type", "token"), "unauthorized_client"},
		{"4.2.2.1 R7 implicit, public client", query("native", "response_type", "token"), "unauthorized_client"},
		{"4.2.1 R7 implicit, registered for", query("legacy", "response_type", "token"), consent},
		{"4.1.2.1 R7 code, not registered for", query("machine", "redirect_uri", there), "unauthorized_client"},

		{"3.1 R8 client_id twice", valid + "&client_id=web", page},
		{"3.1 R8 redirect_uri twice", valid + "&redirect_uri=" + url.QueryEscape(there), page},
		{"3.1 R8 redirect_uri twice, one empty", valid + "&redirect_uri=", page},
		{"3.1 R8 response_type twice", valid + "&response_type=code", "invalid_request"},
		{"3.1 R8 scope twice", valid + "&scope=read+write", "invalid_request"},
		{"3.1 R8 code_challenge twice", valid + "&code_challenge=" + challengeOf(verifier), "invalid_request"},
		{"3.1 R8 code_challenge_method twice", valid + "&code_challenge_method=S256", "invalid_request"},
		{"3.1 R8 response_mode twice", valid + "&response_mode=query&response_mode=query", "invalid_request"},
		{"3.1 R8 prompt twice", valid + "&prompt=consent&prompt=consent", "invalid_request"},
		{"3.1 R8 the name once encoded", valid + "&%73cope=read", "invalid_request"},

		{"3.1 R10 unknown parameter", valid + "&extra=foobar", consent},
		{"3.1 R10 unknown parameter twice", valid + "&extra=1&extra=2", consent},
		{"3.1 R10 unknown parameter with control bytes", valid + "&extra=%00%0d%0a%ff", consent},

		{"3.1 R11 empty scope", query("web", "scope", ""), consent},
		{"3.1 R11 empty code_challenge of a public client", query("native", "code_challenge", "", "code_challenge_method", ""), "invalid_request"},
		{"3.1 R11 empty response_mode", query("web", "response_mode", ""), consent},

		{"B R12 semicolon", "client_id=web;redirect_uri=https://evil.example", page},
		{"B R12 semicolon in a value", valid + "&extra=a;b", page},
		{"B R12 bad percent-encoding", query("web", "state", absent) + "&state=%zz", page},
		{"B R12 cut percent-encoding", valid + "&extra=%a", page},
		{"B R12 bare percent sign", valid + "&%", page},
		{"B R12 bare percent sign alone", "%", page},
		{"3.1 R12 redirect_uri[] is unknown", valid + "&redirect_uri[]=https://evil.example/", consent},
		{"3.1 R12 redirect_uri[] is not redirect_uri", query("two", "redirect_uri", absent) + "&redirect_uri[]=" + url.QueryEscape(there), page},
		{"3.1 R12 scope[a] is unknown", valid + "&scope[a]=bogus", consent},
		{"3.1 R12 client_id[] is not client_id", query("web", "client_id", absent) + "&client_id[]=web", page},

		{"A R13 NUL in client_id", query("web", "client_id", "web\x00"), page},
		{"A R13 CRLF in client_id", query("web", "client_id", "web\r\n"), page},
		{"A R13 no UTF-8 in client_id", query("web", "client_id", "web\xff"), page},
		{"A R13 NUL in redirect_uri", query("web", "redirect_uri", there+"\x00"), page},
		{"A R13 CRLF in redirect_uri", query("web", "redirect_uri", there+"\r\nX: y"), page},
		{"A R13 no UTF-8 in redirect_uri", query("web", "redirect_uri", there+"\xff"), page},
		{"A R13 NUL in scope", query("web", "scope", "read\x00"), "invalid_request"},
		{"A R13 CRLF in scope", query("web", "scope", "read\r\nwrite"), "invalid_request"},
		{"A R13 no UTF-8 in scope", query("web", "scope", "read\xff"), "invalid_request"},
		{"A R13 NUL in response_type", query("web", "response_type", "code\x00"), "invalid_request"},
		{"A R13 CRLF in response_type", query("web", "response_type", "code\r\n"), "invalid_request"},
		{"A R13 no UTF-8 in response_type", query("web", "response_type", "code\xff"), "invalid_request"},
		{"A R13 DEL in code_challenge", query("web", "code_challenge", "\x7f"), "invalid_request"},

		{"3.3 R14 scope not registered", query("web", "scope", "bogus"), "invalid_scope"},
		{"3.3 R14 scope partly registered", query("web", "scope", "read admin"), "invalid_scope"},
		{"3.3 R14 scope in capitals", query("web", "scope", "READ"), "invalid_scope"},
		{"3.3 R14 malformed scope", query("web", "scope", `read"x`), "invalid_scope"},
		{"3.3 R14 malformed scope, any scope registered", query("any", "scope", `read"x`, "redirect_uri", there), "invalid_scope"},
		{"3.3 R14 scope beyond ASCII", query("any", "scope", "réad", "redirect_uri", there), "invalid_scope"},
		{"3.3 R14 scope with two blanks", query("web", "scope", "read  write"), "invalid_scope"},
		{"3.3 R14 any scope, any registered", query("any", "scope", "whatever:you.like", "redirect_uri", there), consent},
		{"3.3 R16 R177 scope of 100 tokens", query("any", "scope", repeated("s", 100), "redirect_uri", there), consent},
		{"3.3 R16 R177 scope of 101 tokens", query("any", "scope", repeated("s", 101), "redirect_uri", there), "invalid_scope"},
		{"3.3 R16 R177 scope of 2000 characters", query("any", "scope", strings.Repeat("s", 2000), "redirect_uri", there), consent},
		{"3.3 R16 R177 scope of 2001 characters", query("any", "scope", strings.Repeat("s", 2001), "redirect_uri", there), "invalid_scope"},
		{"3.3 R14 less scope", query("web", "scope", "write"), consent},

		{"4.1.2 R38 response_mode query", query("web", "response_mode", "query"), consent},
		{"4.2.2 R38 response_mode fragment with token", query("legacy", "response_type", "token", "response_mode", "fragment"), consent},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := alice.in(t).authorizeRaw(row.query)
			switch row.want {
			case page:
				r.wantNowhere(http.StatusBadRequest, "evil.example")
			case consent:
				r.wantConsent()
			default:
				r.wantRedirect(row.want, "xyz")
			}
		})
	}
}

// R1: GET and POST, and nothing else.
func TestAuthorizeMethods(t *testing.T) {
	t.Parallel()
	i := start(t)
	t.Run("3.1 R1 POST is as GET", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, b := range []*browser{i.as("bob"), i.browser()} {
			r := b.post(b.endpoint("authorize"), authorization("web"))
			if r.StatusCode != http.StatusSeeOther {
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
			posted, got := b.get(r.location().String()), b.authorize(authorization("web"))
			if posted.StatusCode != http.StatusOK || posted.action() != got.action() {
				t.Errorf("by POST: status %d and a form for %s; by GET one for %s", posted.StatusCode, posted.action(), got.action())
			}
		}
	})
	t.Run("3.1 R1 POST with an error", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		r := b.post(b.endpoint("authorize"), authorization("web", "scope", "bogus"))
		b.get(r.location().String()).wantRedirect("invalid_scope", "xyz")
		b.post(b.endpoint("authorize"), authorization("web", "redirect_uri", "https://evil.example/")).wantNowhere(http.StatusBadRequest, "evil.example")
		b.do("POST", b.endpoint("authorize"), `{"client_id":"web"}`, "Content-Type", "application/json").wantPage(http.StatusUnsupportedMediaType)
	})
	t.Run("3.1 R33 POST keeps every byte", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		request := authorization("web", "state", absent).Encode()
		for body, want := range map[string]string{
			"&state=%2B+%26%3D%25": "+ &=%",
			"&state=caf\xc3\xa9":   "café",
			"&state=a\r\nX-Y:1":    "", // refused, not altered
			"&state=a\xff":         "",
		} {
			answer := b.wire("POST", b.path("authorize"), request+body)
			res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
			if err != nil || res.StatusCode != http.StatusSeeOther || res.Header.Get("X-Y") != "" {
				t.Fatalf("%q: %v, %s", body, err, answer)
			}
			r := b.approve(mustParseQuery(t, res.Header.Get("Location")))
			if want == "" {
				r.wantRedirect("invalid_request", "")
			} else if got := r.param("state"); got != want {
				t.Errorf("%q: state is %q, want %q", body, got, want)
			}
		}
	})
	t.Run("3.1 R9 a parameter in URL and body", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		for name, value := range map[string]string{"client_id": "native", "redirect_uri": redirectURIs["native"]} {
			r := b.post(b.endpoint("authorize")+"?"+authorization("web").Encode(), url.Values{name: {value}})
			r.wantNowhere(http.StatusBadRequest, "127.0.0.1/cb")
			r = b.post(b.endpoint("authorize")+"?"+url.Values{name: {value}}.Encode(), authorization("web"))
			r.wantNowhere(http.StatusBadRequest, "127.0.0.1/cb")
		}
		r := b.post(b.endpoint("authorize")+"?scope=read", authorization("web"))
		b.get(r.location().String()).wantRedirect("invalid_request", "xyz")
	})
	for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "NONSENSE"} {
		t.Run("3.1 R1 "+method, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).as("alice")
			r := b.do(method, b.endpoint("authorize")+"?"+authorization("web").Encode(), "")
			r.wantPage(http.StatusMethodNotAllowed)
			if got := r.Header.Get("Allow"); got != "GET, POST" {
				t.Errorf("Allow: %q", got)
			}
		})
	}
}

func mustParseQuery(t *testing.T, target string) url.Values {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	return query
}

// R4: a redirect URI that cannot be trusted hides every other error.
func TestAuthorizeRedirectURIComesFirst(t *testing.T) {
	t.Parallel()
	i := start(t)
	const evil = "https://evil.example/cb"
	for name, query := range map[string]string{
		"no response_type":       authorization("web", "redirect_uri", evil, "response_type", absent).Encode(),
		"unknown response_type":  authorization("web", "redirect_uri", evil, "response_type", "foo").Encode(),
		"bad scope":              authorization("web", "redirect_uri", evil, "scope", "bogus").Encode(),
		"missing PKCE":           authorization("native", "redirect_uri", evil, "code_challenge", absent, "code_challenge_method", absent).Encode(),
		"grant type not allowed": authorization("web", "redirect_uri", evil, "response_type", "token").Encode(),
		"duplicate state":        authorization("web", "redirect_uri", evil).Encode() + "&state=xyz",
		"duplicate scope":        authorization("web", "redirect_uri", evil).Encode() + "&scope=read",
		"prompt none":            authorization("web", "redirect_uri", evil, "prompt", "none").Encode(),
		"unknown response_mode":  authorization("web", "redirect_uri", evil, "response_mode", "foo").Encode(),
		"control bytes":          authorization("web", "redirect_uri", evil, "state", "\r\n").Encode(),
		"bad encoding":           authorization("web", "redirect_uri", evil).Encode() + "&state=%zz",
	} {
		t.Run("4.1.2.1 R4 "+name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			i.as("alice").authorizeRaw(query).wantNowhere(http.StatusBadRequest, "evil.example")
			i.browser().authorizeRaw(query).wantNowhere(http.StatusBadRequest, "evil.example")
		})
	}
	t.Run("4.1.2.1 R4 auto-approve", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.autoApprove = "alice" })
		i.browser().authorize(authorization("web", "redirect_uri", evil, "scope", "bogus")).wantNowhere(http.StatusBadRequest, "evil.example")
		i.browser().authorize(authorization("web", "redirect_uri", evil)).wantNowhere(http.StatusBadRequest, "evil.example")
	})
	t.Run("4.1.2.1 R4 denial", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		page := b.authorize(authorization("web"))
		form := page.form(url.Values{"decision": {"deny"}, "request": {authorization("web", "redirect_uri", evil).Encode()}})
		b.post(page.action(), form).wantNowhere(http.StatusForbidden, "evil.example")
	})
	t.Run("4.1.2.1 R4 storage failure", func(t *testing.T) {
		t.Parallel()
		i := start(t, inMemory(t))
		b := i.as("alice")
		i.server.store.close()
		for _, redirectURI := range []string{evil, redirectURIs["web"]} {
			answer := b.wire("GET", b.path("authorize")+"?"+authorization("web", "redirect_uri", redirectURI).Encode(), "")
			if !strings.HasPrefix(answer, "HTTP/1.1 5") || strings.Contains(answer, "Location:") || strings.Contains(answer, "evil.example") {
				t.Errorf("redirect_uri %s: %s", redirectURI, answer)
			}
		}
	})
}

// R7: the implicit grant can be switched off for all.
func TestAuthorizeWithoutImplicitGrant(t *testing.T) {
	t.Parallel()
	i := start(t, func(s *server) {
		s.profile.Grants = slices.DeleteFunc(s.profile.Grants, func(grant string) bool { return grant == "implicit" })
	})
	r := i.as("alice").authorize(authorization("legacy", "response_type", "token"))
	r.wantRedirect("unsupported_response_type", "xyz")
	if r.location().Fragment == "" {
		t.Errorf("the error of response_type token is not in the fragment: %s", r.location())
	}
}

// R11, R34: no state is sent back where none was sent, or an empty one.
func TestAuthorizeWithoutState(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	for name, request := range map[string]url.Values{
		"4.1.2 R34 omitted":                authorization("web", "state", absent),
		"3.1 R11 empty":                    authorization("web", "state", ""),
		"4.2.2 R34 omitted, implicit":      authorization("legacy", "response_type", "token", "state", absent),
		"4.1.2.1 R34 omitted, an error":    authorization("web", "state", absent, "scope", "bogus"),
		"4.1.2.1 R11 empty, an error":      authorization("web", "state", "", "scope", "bogus"),
		"4.2.2.1 R34 omitted, token":       authorization("web", "state", absent, "response_type", "token"),
		"4.1.2.1 R34 omitted, prompt none": authorization("native", "state", absent, "prompt", "none"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := b.in(t).approve(request)
			if r.StatusCode != http.StatusSeeOther || strings.Contains(r.Header.Get("Location"), "state") {
				t.Errorf("status %d, Location %s", r.StatusCode, r.Header.Get("Location"))
			}
		})
	}
	t.Run("3.1 R8 twice", func(t *testing.T) {
		t.Parallel()
		for _, second := range []string{"xyz", "other", ""} {
			b.in(t).authorizeRaw(authorization("web").Encode()+"&state="+second).wantRedirect("invalid_request", "")
		}
	})
}

// R14: repeats and order of scope do not count; the default is one, and is told.
func TestAuthorizeScope(t *testing.T) {
	t.Parallel()
	i := start(t)
	scopeOf := func(i *instance, scope string) string {
		granted, _ := i.post(i.endpoint("token"), exchangeOf("web", i.code("web", "scope", scope))).json["scope"].(string)
		tokens := strings.Split(granted, " ")
		slices.Sort(tokens)
		return strings.Join(tokens, " ")
	}
	for sent, want := range map[string]string{
		"write read read": "read write",
		"read write":      "read write",
		"write":           "write",
		"":                "read write",
	} {
		t.Run("3.3 R14 scope "+sent, func(t *testing.T) {
			t.Parallel()
			if got := scopeOf(i.in(t), sent); got != want {
				t.Errorf("granted %q, want %q", got, want)
			}
		})
	}
	t.Run("3.3 R14 the default of both endpoints", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		r := i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}}))
		if got := r.json["scope"]; got != "read write" {
			t.Errorf("client credentials without scope get %v", got)
		}
	})
}

// R15: an erroneous request does not bounce an anonymous browser to the client.
func TestAuthorizeAnonymous(t *testing.T) {
	t.Parallel()
	i := start(t)
	for name, request := range map[string]url.Values{
		"the valid request":      authorization("web"),
		"bad scope":              authorization("web", "scope", "bogus"),
		"unknown response_type":  authorization("web", "response_type", "foo"),
		"no response_type":       authorization("web", "response_type", absent),
		"grant type not allowed": authorization("web", "response_type", "token"),
		"missing PKCE":           authorization("native", "code_challenge", absent, "code_challenge_method", absent),
		"no text in state":       authorization("web", "state", "\xff"),
	} {
		t.Run("9700 4.11.2 R15 "+name, func(t *testing.T) {
			t.Parallel()
			i.in(t).browser().authorize(request).wantSignIn()
		})
	}
	// With prompt none there is no sign-in to wait for.
	for name, request := range map[string]url.Values{
		"bad scope":             authorization("web", "scope", "bogus", "prompt", "none"),
		"unknown response_type": authorization("web", "response_type", "foo", "prompt", "none"),
		"none with others":      authorization("web", "prompt", "none login"),
	} {
		t.Run("9700 4.11.2 R15 prompt none, "+name, func(t *testing.T) {
			t.Parallel()
			i.in(t).browser().authorize(request).wantPage(http.StatusBadRequest)
		})
	}
	t.Run("9700 4.11.2 R15 the error comes after the sign-in", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).browser()
		b.continueAs("alice", "wonderland", b.authorize(authorization("web", "scope", "bogus"))).wantRedirect("invalid_scope", "xyz")
	})
}

// TestAuthorizeUnasked is R184: only the operator's clients, and the visitor's
// own, are sent to before the user was asked.
func TestAuthorizeUnasked(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [{"client_id": "operators", "client_secret": "x", "redirect_uris": ["https://cb.example/cb"], "owner": "bob"}]}`)
	form := registrationForm()
	form.Set("scope", "read write")
	id, _ := i.as("bob").register(form)
	requests := map[string]url.Values{
		"prompt none":            authorization("web", "prompt", "none"),
		"bad scope":              authorization("web", "scope", `"`),
		"unknown response_type":  authorization("web", "response_type", "foo"),
		"prompt none, bad scope": authorization("web", "scope", `"`, "prompt", "none"),
		"none with others":       authorization("web", "prompt", "none login"),
	}
	ask := func(t *testing.T, b *browser, clientID, redirectURI, request string) *reply {
		t.Helper()
		query := url.Values{}
		for name, values := range requests[request] {
			query[name] = values
		}
		query.Set("client_id", clientID)
		query.Set("redirect_uri", redirectURI)
		return b.authorize(query)
	}
	errors := map[string]string{"prompt none": "consent_required", "bad scope": "invalid_scope", "unknown response_type": "unsupported_response_type",
		"prompt none, bad scope": "invalid_scope", "none with others": "invalid_request"}
	for name, code := range errors {
		t.Run("R184 another user's application, "+name, func(t *testing.T) {
			t.Parallel()
			ask(t, i.in(t).as("alice"), id, "https://notes.example/cb", name).wantPage(http.StatusBadRequest)
			if r := ask(t, i.in(t).browser(), id, "https://notes.example/cb", name); r.StatusCode == http.StatusSeeOther {
				t.Errorf("nobody is signed in, and the browser goes to %s", r.location())
			}
		})
		t.Run("R184 one's own application, "+name, func(t *testing.T) {
			t.Parallel()
			ask(t, i.in(t).as("bob"), id, "https://notes.example/cb", name).wantRedirect(code, "xyz")
		})
		t.Run("R184 the operator's client, "+name, func(t *testing.T) {
			t.Parallel()
			ask(t, i.in(t).as("alice"), "operators", "https://cb.example/cb", name).wantRedirect(code, "xyz")
		})
	}
	t.Run("R184 after the sign-in", func(t *testing.T) {
		t.Parallel()
		for username, password := range map[string]string{"alice": "wonderland", "bob": "builder"} {
			b := i.in(t).browser()
			r := b.continueAs(username, password, ask(t, b, id, "https://notes.example/cb", "bad scope"))
			if username == "alice" {
				r.wantPage(http.StatusBadRequest)
			} else {
				r.wantRedirect("invalid_scope", "xyz")
			}
		}
	})
	t.Run("R184 whom the user has answered", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		id, _ := i.as("bob").register(form)
		b := i.as("alice")
		request := authorization("web", "client_id", id, "redirect_uri", "https://notes.example/cb")
		b.decide(b.authorize(request), "deny").wantRedirect("access_denied", "xyz")
		if code := b.approve(request).param("code"); code == "" {
			t.Error("no code")
		}
		request.Set("prompt", "none")
		if code := b.authorize(request).param("code"); code == "" {
			t.Error("with prompt none there is no code for what was agreed to")
		}
	})
}

// continueAs signs in at a sign-in page and goes on to where that leads.
func (b *browser) continueAs(username, password string, page *reply) *reply {
	b.Helper()
	r := b.post(page.action(), page.form(url.Values{"username": {username}, "password": {password}}))
	if r.StatusCode != http.StatusSeeOther {
		b.Fatalf("sign-in as %s: status %d: %s", username, r.StatusCode, r.body)
	}
	return b.get(b.URL + r.Header.Get("Location"))
}

// R16: a request that the forms could not carry on is refused at once.
func TestAuthorizeTooLong(t *testing.T) {
	t.Parallel()
	alice := start(t).as("alice")
	for _, state := range []string{strings.Repeat("é", 5000), strings.Repeat("é", 7000), strings.Repeat(" ", 33<<10), strings.Repeat("x", 33<<10)} {
		request := authorization("web", "state", state)
		if len(request.Encode()) < 45<<10 { // or else net/http refuses it
			alice.authorize(request).wantPage(http.StatusRequestURITooLong)
		}
		alice.post(alice.endpoint("authorize"), request).wantPage(http.StatusRequestURITooLong)
	}
	for _, state := range []string{strings.Repeat("é", 4000), strings.Repeat("x", 31<<10)} {
		if got := alice.approve(authorization("web", "state", state)).param("state"); got != state {
			t.Errorf("a state of %d bytes came back with %d", len(state), len(got))
		}
	}
}

// R16: what is too large ends fast. This one needs the command's own limits.
func TestAuthorizeTooLarge(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, w := io.Pipe()
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"-addr", "127.0.0.1:0", "-db", memory, "-log", "off"}, func(string) string { return "" }, w, io.Discard)
	}()
	defer func() { cancel(); <-done }()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSpace(line)
	for _, row := range []struct {
		name   string
		query  string
		header string
		want   []int
	}{
		{"9110 15.5.15 R16 64 KB of query", strings.Repeat("x", 64<<10), "", []int{http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge, http.StatusBadRequest}},
		{"6585 5 R16 2 MB of header", "", strings.Repeat("x", 2<<20), []int{http.StatusRequestHeaderFieldsTooLarge}},
	} {
		t.Run(row.name, func(t *testing.T) {
			u, _ := url.Parse(base)
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			// The server may answer and hang up before it has read all.
			go fmt.Fprintf(conn, "GET /oauth/authorize?client_id=demo&state=%s HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", row.query, row.header)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(row.want, res.StatusCode) {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
}

// R30, R35, R36, R37: what an answer carries, and where.
func TestAuthorizeAnswer(t *testing.T) {
	t.Parallel()
	i := start(t)
	alice := i.as("alice")
	names := func(v url.Values) string {
		var names []string
		for name, values := range v {
			for range values {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for _, row := range []struct {
		name            string
		request         url.Values
		decision        string
		query, fragment string
	}{
		{"4.1.2 R30 R42 code", authorization("web"), "approve", "code iss state", ""},
		{"4.1.2.1 R35 denial", authorization("native"), "deny", "error error_description error_uri iss state", ""},
		{"4.1.2.1 R37 error of code", authorization("web", "scope", "bogus"), "", "error error_description error_uri iss state", ""},
		{"4.1.2.1 R37 error of no response_type", authorization("web", "response_type", absent), "", "error error_description error_uri iss state", ""},
		{"4.2.2 R36 R42 token", authorization("legacy", "response_type", "token", "scope", "read"), "approve", "", "access_token expires_in iss scope state token_type"},
		{"4.2.2.1 R35 denial of token", authorization("legacy", "response_type", "token"), "deny", "", "error error_description error_uri iss state"},
		{"4.2.2.1 R37 error of token", authorization("legacy", "response_type", "token", "scope", "bogus"), "", "", "error error_description error_uri iss state"},
		{"4.2.2.1 R37 token, grant not allowed", authorization("web", "response_type", "token"), "", "", "error error_description error_uri iss state"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := alice.in(t)
			r := b.authorize(row.request)
			if row.decision != "" {
				r.wantConsent()
				r = b.decide(r, row.decision)
			}
			if row.decision == "deny" {
				r.wantRedirect("access_denied", "xyz")
			}
			if r.StatusCode != http.StatusSeeOther { // R31
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
			location := r.Header.Get("Location")
			if redirectURI := row.request.Get("redirect_uri"); !strings.HasPrefix(location, redirectURI+"?") && !strings.HasPrefix(location, redirectURI+"#") {
				t.Errorf("Location %s", location)
			}
			rest, fragment, _ := strings.Cut(location, "#")
			_, query, _ := strings.Cut(rest, "?")
			inQuery, err := url.ParseQuery(query)
			if err != nil || names(inQuery) != row.query {
				t.Errorf("the query has %s (%v), want %s", names(inQuery), err, row.query)
			}
			inFragment, err := url.ParseQuery(fragment)
			if err != nil || names(inFragment) != row.fragment {
				t.Errorf("the fragment has %s (%v), want %s", names(inFragment), err, row.fragment)
			}
			if r.param("iss") != i.URL || r.param("state") != "xyz" { // R40
				t.Errorf("iss %s, state %s", r.param("iss"), r.param("state"))
			}
			for name, want := range map[string]string{"token_type": "Bearer", "expires_in": "3600", "scope": "read"} {
				if got := r.param(name); inFragment.Has("access_token") && got != want {
					t.Errorf("%s is %s, want %s", name, got, want)
				}
			}
			if inFragment.Has("access_token") {
				b.wantAlive(r.param("access_token"))
			}
			// R42: neither address nor answer is kept or passed on.
			if got := r.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control: %s", got)
			}
			if got := r.Header.Get("Referrer-Policy"); got != "same-origin" && got != "no-referrer" {
				t.Errorf("Referrer-Policy: %s", got)
			}
		})
	}
}

// R31: nothing that a form carries is sent on, and no path is cleaned up.
func TestAuthorizeFormsAreNotSentOn(t *testing.T) {
	t.Parallel()
	i := start(t)
	form := url.Values{"username": {"alice"}, "password": {"wonderland"}}
	for _, path := range []string{"/login/", "//login", "/./login", "/x/../login", "//evil.example/login", "/consent/", "//consent", "//oauth/authorize", "/oauth//token"} {
		t.Run("9700 4.12 R31 "+path, func(t *testing.T) {
			t.Parallel()
			answer := i.in(t).browser().wire("POST", path, form.Encode())
			if !strings.HasPrefix(answer, "HTTP/1.1 404 ") || strings.Contains(answer, "Location:") {
				t.Errorf("%s", answer)
			}
		})
	}
	t.Run("9700 4.12 R31 sign-in and consent", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).browser()
		page := b.authorize(authorization("web"))
		r := b.post(page.action(), page.form(form))
		if r.StatusCode != http.StatusSeeOther {
			t.Errorf("sign-in: status %d", r.StatusCode)
		}
		r = b.decide(b.get(b.URL+r.Header.Get("Location")), "approve")
		if r.StatusCode != http.StatusSeeOther || r.param("code") == "" {
			t.Errorf("consent: status %d", r.StatusCode)
		}
	})
}

// R32, R33, R34: state comes back as it was sent, from the sign-in to the answer.
func TestAuthorizeState(t *testing.T) {
	t.Parallel()
	i := start(t)
	alice := i.as("alice")
	const odd = "a b+c%2B&d=e#f?g/h\"i'j<k>l;m~n\\o:*)(|{}[]^`@!$,"
	for name, state := range map[string]string{
		"4.1.2 R32 all sorts of characters": odd,
		"4.1.2 R32 9a:* <&)":                "9a:* <&)",
		"4.1.2 R32 blanks around":           "  x  ",
		"4.1.2 R32 a plus":                  "+",
		"4.1.2 R32 encoded already":         "%41%2541",
		"4.1.2 R32 an entity":               "&amp;&lt;&#39;",
		"4.1.2 R32 placeholders":            "${error} ${state} ${description?} ${nothing} $${status}",
		"4.1.2 R32 2 KB of them":            strings.Repeat(odd, 2<<10/len(odd)),
		"4.1.2 R33 beyond ASCII":            "é\u2028\U0001f600\ufffd\u0085",
		"4.1.2 R34 1 KB":                    strings.Repeat("s", 1<<10),
		"4.1.2 R34 4 KB":                    strings.Repeat("s", 4<<10),
		"4.1.2 R34 8 KB":                    strings.Repeat("s", 8<<10),
		"4.1.2 R34 8 KB of percent signs":   strings.Repeat("%", 8<<10),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			want := func(r *reply) {
				t.Helper()
				if got := r.param("state"); got != state {
					t.Errorf("state is %q, want %q", got, state)
				}
			}
			b := alice.in(t)
			want(b.authorize(authorization("web", "state", state, "scope", "bogus")))
			want(b.decide(b.authorize(authorization("native", "state", state)), "deny"))
			want(b.decide(b.authorize(authorization("legacy", "state", state, "response_type", "token", "prompt", "consent")), "approve"))
			anonymous := i.browser()
			page := anonymous.authorize(authorization("web", "state", state))
			want(anonymous.approveAt(anonymous.continueAs("alice", "wonderland", page)))
		})
	}
	for name, state := range map[string]string{"no UTF-8": "\xff\xfe", "LF": "\n", "NUL": "\x00", "CRLF": "a\r\nSet-Cookie: x=1", "DEL": "\x7f", "a surrogate": "\xed\xa0\x80"} {
		t.Run("A.5 R33 "+name, func(t *testing.T) {
			t.Parallel()
			alice.in(t).authorize(authorization("web", "state", state)).wantRedirect("invalid_request", "")
		})
	}
	t.Run("4.1.2 R32 characters that browsers do not encode", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).browser()
		const state = "a\\b|c^d`e{f}[g]'(h)*!"
		page := b.authorizeRaw(authorization("web", "state", absent).Encode() + "&state=" + state)
		if got := b.approveAt(b.continueAs("alice", "wonderland", page)).param("state"); got != state {
			t.Errorf("state is %q, want %q", got, state)
		}
	})
}

// approveAt approves at a consent page; another answer is returned as it is.
func (b *browser) approveAt(page *reply) *reply {
	b.Helper()
	if !strings.Contains(page.body, `name="decision"`) {
		return page
	}
	return b.decide(page, "approve")
}

// R35: a denied request leaves nothing that could be redeemed.
func TestAuthorizeDenied(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	page := b.authorize(authorization("web"))
	r := b.decide(page, "deny")
	r.wantRedirect("access_denied", "xyz")
	b.authorize(authorization("web", "prompt", "none")).wantRedirect("consent_required", "xyz")
}

// R39: codes are random behind their id, and none comes twice.
func TestAuthorizeCodesAreRandom(t *testing.T) {
	t.Parallel()
	t.Run("10.10 R39 codes are random and none comes twice", func(t *testing.T) {
		i := start(t, func(s *server) { s.autoApprove = "alice" })
		b := i.browser()
		const n = 2000
		seen := make(map[string]bool)
		var counts [32][16]int // of nibbles, by position behind the id
		for range n {
			code := b.authorize(authorization("web")).param("code")
			raw, err := base64.RawURLEncoding.DecodeString(code)
			if err != nil || len(raw) != 32 || seen[code] {
				t.Fatalf("code %q, seen before: %t", code, seen[code])
			}
			seen[code] = true
			for at, x := range raw[16:] {
				counts[2*at][x>>4]++
				counts[2*at+1][x&15]++
			}
		}
		for at, count := range counts {
			var chi2 float64
			for _, k := range count {
				d := float64(k) - n/16.0
				chi2 += d * d / (n / 16.0)
			}
			// With 15 degrees of freedom one position in 10^12 is above 90.
			if chi2 > 90 {
				t.Errorf("position %d: chi-square %.0f, counts %v", at, chi2, count)
			}
		}
	})
}

// R40: iss is the metadata's issuer wherever the browser goes back, and nowhere else.
func TestAuthorizeIssuer(t *testing.T) {
	t.Parallel()
	t.Run("9207 2 R40 iss is the metadata's issuer", func(t *testing.T) {
		i := start(t)
		issuer := i.get(i.endpoint("metadata")).json["issuer"]
		alice := i.as("alice")
		for name, r := range map[string]*reply{
			"code":         alice.approve(authorization("web")),
			"token":        alice.approve(authorization("legacy", "response_type", "token")),
			"denial":       alice.decide(alice.authorize(authorization("native")), "deny"),
			"scope":        alice.authorize(authorization("web", "scope", "bogus")),
			"prompt":       i.browser().authorize(authorization("web", "prompt", "none")),
			"token, scope": alice.authorize(authorization("legacy", "response_type", "token", "scope", "bogus")),
		} {
			if got := r.param("iss"); got != issuer || issuer == nil {
				t.Errorf("%s: iss %q, want %q", name, got, issuer)
			}
		}
		r := i.post(i.endpoint("token"), exchangeOf("web", "nonsense"))
		r.wantError(http.StatusBadRequest, "invalid_grant")
		if _, found := r.json["iss"]; found {
			t.Errorf("the token endpoint's error has iss: %s", r.body)
		}
	})
}

// R41: no value that comes back makes a header.
func TestAuthorizeHeaderInjection(t *testing.T) {
	t.Parallel()
	t.Run("10.14 R41 no value makes a header", func(t *testing.T) {
		i := start(t)
		b := i.as("alice")
		const injection = "a%0d%0aSet-Cookie:%20x=1%0d%0aLocation:%20https://evil.example/"
		for name, request := range map[string]string{
			"state":         authorization("web", "state", absent).Encode() + "&state=" + injection,
			"scope":         authorization("web", "scope", absent).Encode() + "&scope=" + injection,
			"response_type": authorization("web", "response_type", absent).Encode() + "&response_type=" + injection,
			"redirect_uri":  authorization("web", "redirect_uri", absent).Encode() + "&redirect_uri=" + injection,
			"prompt":        authorization("web").Encode() + "&prompt=" + injection,
			"unknown":       authorization("web").Encode() + "&error_description=" + injection,
		} {
			for _, answer := range []string{
				b.wire("GET", b.path("authorize")+"?"+request, ""),
				b.wire("POST", b.path("authorize"), request),
				b.wire("POST", b.path("authorize"), strings.NewReplacer("%0d", "\r", "%0a", "\n", "%20", " ").Replace(request)),
				i.browser().wire("GET", i.path("authorize")+"?"+request, ""),
			} {
				header, _, _ := strings.Cut(answer, "\r\n\r\n")
				locations := 0
				for line := range strings.SplitSeq(header, "\r\n") {
					field, value, _ := strings.Cut(line, ": ")
					switch {
					case field == "Set-Cookie" && strings.HasPrefix(value, "x="):
						t.Errorf("%s: %s", name, line)
					case field == "Location":
						// A blank would be what the line break became.
						if locations++; locations > 1 || strings.Contains(value, " ") || strings.HasPrefix(value, "https://evil.example") {
							t.Errorf("%s: %s", name, header)
						}
					}
				}
			}
		}
	})
}
