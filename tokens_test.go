package main

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// revoke asks for the end of a token.
func (i *instance) revoke(clientID, token string, change ...string) *reply {
	i.Helper()
	return i.post(i.endpoint("revoke"), with(withClient(clientID, url.Values{"token": {token}}), change...))
}

// wantRevoked wants the answer of RFC 7009 §2.2, as JSON.
func (r *reply) wantRevoked() {
	r.i.Helper()
	if r.StatusCode != http.StatusOK || r.body != "{}\n" {
		r.i.Errorf("got status %d, %q, want 200 {}", r.StatusCode, r.body)
	}
}

// bearer presents a token to a protected resource.
func (i *instance) bearer(endpoint, token string) *reply {
	i.Helper()
	return i.get(i.endpoint(endpoint), "Authorization", "Bearer "+token)
}

// protected are the endpoints that take a bearer token.
var protected = []string{"userinfo", "tokeninfo"}

// clientToken returns an access token by client credentials, which no user is behind.
func (i *instance) clientToken(clientID string) string {
	i.Helper()
	access, _ := i.post(i.endpoint("token"), withClient(clientID, url.Values{"grant_type": {"client_credentials"}})).wantToken()
	return access
}

// passwordTokens returns tokens of alice's by her password.
func (i *instance) passwordTokens() (access, refresh string) {
	i.Helper()
	return i.post(i.endpoint("token"), withClient("legacy", url.Values{
		"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"},
	})).wantToken()
}

// implicitToken returns an access token of alice's from a redirect.
func (i *instance) implicitToken() string {
	i.Helper()
	request := authorization("legacy")
	request.Set("response_type", "token")
	request.Del("code_challenge")
	request.Del("code_challenge_method")
	access := i.as("alice").approve(request).param("access_token")
	if access == "" {
		i.Fatal("no access_token in the redirect")
	}
	return access
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	i := start(t)

	for _, clientID := range []string{"web", "native"} {
		t.Run("7009 2 R123 access token of "+clientID, func(t *testing.T) {
			i := i.in(t)
			access, refresh := i.tokens(clientID)
			i.revoke(clientID, access).wantRevoked()
			i.wantDead(access)
			for _, endpoint := range protected {
				i.bearer(endpoint, access).wantChallenge(http.StatusUnauthorized, "invalid_token")
			}
			i.wantAlive(refresh)
		})
		t.Run("7009 2 R123 refresh token of "+clientID, func(t *testing.T) {
			i := i.in(t)
			_, refresh := i.tokens(clientID)
			i.revoke(clientID, refresh).wantRevoked()
			i.wantDead(refresh)
			i.refresh(clientID, refresh).wantError(http.StatusBadRequest, "invalid_grant")
		})
	}

	t.Run("7009 2.2 R124", func(t *testing.T) {
		i := i.in(t)
		live, _ := i.tokens("web")
		for name, token := range map[string]string{
			"unknown":       newCredential().String(),
			"malformed":     "foo",
			"40 KB":         strings.Repeat("a", 40<<10),
			"NUL":           "\x00",
			"NUL behind it": live + "\x00",
			"not UTF-8":     "\xff\xfe",
			"wrong secret":  live[:42] + string(live[42]^1),
			"a code":        i.code("web"),
		} {
			t.Run(name, func(t *testing.T) { i.in(t).revoke("web", token).wantRevoked() })
		}
		i.wantAlive(live)
		for range 2 { // the second time it is revoked already
			i.revoke("web", live).wantRevoked()
		}
	})
	t.Run("7009 2.2 R124 expired", func(t *testing.T) {
		i := start(t)
		access, refresh := i.tokens("web")
		i.advance(31 * 24 * time.Hour)
		i.revoke("web", access).wantRevoked()
		i.revoke("web", refresh).wantRevoked()
	})

	t.Run("7009 2.1 R125", func(t *testing.T) {
		for _, hint := range []string{"access_token", "refresh_token", "foo", ""} {
			for kind := range 2 {
				i := i.in(t)
				access, refresh := i.tokens("web")
				token := []string{access, refresh}[kind]
				i.revoke("web", token, "token_type_hint", hint).wantRevoked()
				i.wantDead(token)
			}
		}
	})

	t.Run("7009 2.1 R126", func(t *testing.T) {
		access, refresh := i.in(t).tokens("web")
		for _, token := range []string{access, refresh} {
			valid := withClient("web", url.Values{"token": {token}})
			for _, row := range []struct {
				name   string
				change []string
				header []string
				status int
				code   string
			}{
				{"no client", []string{"client_id", absent, "client_secret", absent}, nil, 401, "invalid_client"},
				{"no secret", []string{"client_secret", absent}, nil, 401, "invalid_client"},
				{"wrong secret", []string{"client_secret", "other-secret"}, nil, 401, "invalid_client"},
				{"unknown client", []string{"client_id", "nobody"}, nil, 401, "invalid_client"},
				{"wrong Basic", []string{"client_id", absent, "client_secret", absent}, []string{"Authorization", basicHeader("web", "wrong")}, 401, "invalid_client"},
				{"bearer token", []string{"client_id", absent, "client_secret", absent}, []string{"Authorization", "Bearer " + access}, 401, "invalid_client"},
				{"bearer token and client_id", []string{"client_secret", absent}, []string{"Authorization", "Bearer " + access}, 401, "invalid_client"},
				{"no token", []string{"token", absent}, nil, 400, "invalid_request"},
				{"empty token", []string{"token", ""}, nil, 400, "invalid_request"},
				{"token twice", []string{"token", token, "token", token}, nil, 400, "invalid_request"},
			} {
				t.Run(row.name, func(t *testing.T) {
					i.in(t).post(i.endpoint("revoke"), with(valid, row.change...), row.header...).wantError(row.status, row.code)
				})
			}
			i.in(t).wantAlive(access, refresh)
		}
		i.in(t).post(i.endpoint("revoke"), url.Values{"token": {access}}, "Authorization", basicHeader("web", "web-secret")).wantRevoked()
		i.in(t).wantDead(access)
	})

	for _, row := range []struct{ owner, other string }{
		{"web", "other"}, {"web", "native"}, {"web", "rs"}, {"native", "native2"}, {"native", "web"},
	} {
		t.Run("7009 2.1 R127 "+row.other+" revokes a token of "+row.owner, func(t *testing.T) {
			i := i.in(t)
			access, refresh := i.tokens(row.owner)
			for _, token := range []string{access, refresh} {
				i.revoke(row.other, token).wantError(http.StatusBadRequest, "unauthorized_client")
			}
			i.wantAlive(access, refresh)
			i.revoke(row.owner, refresh).wantRevoked()
			i.wantDead(access, refresh)
		})
	}
	t.Run("7009 2.1 R127 a token without a user", func(t *testing.T) {
		i := i.in(t)
		access := i.clientToken("web")
		i.revoke("other", access).wantError(http.StatusBadRequest, "unauthorized_client")
		i.wantAlive(access)
		i.revoke("web", access).wantRevoked()
		i.wantDead(access)
	})

	t.Run("7009 2.1 R128 refresh token with all of its grant", func(t *testing.T) {
		i := i.in(t)
		unrelated, unrelatedRefresh := i.tokens("web")
		first, refresh := i.tokens("web")
		second, refresh := i.refresh("web", refresh).wantToken()
		third, last := i.refresh("web", refresh).wantToken()
		i.revoke("web", last).wantRevoked()
		i.wantDead(first, second, third, last)
		i.wantAlive(unrelated, unrelatedRefresh)
	})
	t.Run("7009 2.1 R128 refresh token that was used", func(t *testing.T) {
		i := i.in(t)
		_, used := i.tokens("web")
		access, refresh := i.refresh("web", used).wantToken()
		i.revoke("web", used).wantRevoked()
		i.wantDead(access, refresh)
	})
	t.Run("7009 2.1 R128 refresh token after its access token", func(t *testing.T) {
		i := start(t)
		access, refresh := i.tokens("web")
		i.advance(2 * time.Hour)
		i.wantDead(access)
		i.wantAlive(refresh)
		i.revoke("web", refresh).wantRevoked()
		i.refresh("web", refresh).wantError(http.StatusBadRequest, "invalid_grant")
	})

	t.Run("7009 2.2.1 R129 storage failure", func(t *testing.T) {
		i := start(t)
		access, refresh := i.tokens("web")
		alone := i.clientToken("web")
		all := []string{access, refresh, alone}
		i.server.store.fault = func() error { return errors.New("no space left on device") }
		for _, token := range all {
			i.failing("revoke", withClient("web", url.Values{"token": {token}})).wantUnavailable()
		}
		i.wantAlive(all...)
		i.server.store.fault = nil
		i.wantAlive(all...)
		for _, token := range all {
			i.revoke("web", token).wantRevoked()
		}
		i.wantDead(all...)
	})

	t.Run("7009 2.1 R130", func(t *testing.T) {
		i := i.in(t)
		access, _ := i.tokens("web")
		form := withClient("web", url.Values{"token": {access}, "callback": {"package.callback"}})
		b := i.browser()
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			r := b.do(method, i.endpoint("revoke")+"?"+form.Encode(), "")
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "POST" {
				t.Errorf("%s: status %d, Allow %q", method, r.StatusCode, r.Header.Get("Allow"))
			}
		}
		if r := i.get(i.endpoint("revoke") + "?" + form.Encode()); strings.Contains(r.body, "package.callback") {
			t.Errorf("JSONP: %s", r.body)
		}
		b.do("POST", i.endpoint("revoke"), `{"token":"`+access+`","client_id":"web","client_secret":"web-secret"}`,
			"Content-Type", "application/json").wantError(http.StatusUnsupportedMediaType, "invalid_request")
		delete(form, "token")
		i.post(i.endpoint("revoke")+"?token="+access, form).wantError(http.StatusBadRequest, "invalid_request")
		i.wantAlive(access)
	})
}

// failing sends a form to an endpoint that is expected to fail.
func (i *instance) failing(endpoint string, form url.Values) *reply {
	i.Helper()
	b := i.browser()
	b.mayFail = true
	return b.post(i.endpoint(endpoint), form)
}

// wantUnavailable wants the answer of a server whose disk is full.
func (r *reply) wantUnavailable() {
	r.i.Helper()
	r.wantError(http.StatusServiceUnavailable, "temporarily_unavailable")
	if r.Header.Get("Retry-After") == "" {
		r.i.Error("no Retry-After")
	}
}

func TestIntrospect(t *testing.T) {
	t.Parallel()
	i := start(t)
	access, refresh := i.tokens("web")

	t.Run("7662 2.1 R131", func(t *testing.T) {
		none := []string{"client_id", absent, "client_secret", absent}
		for _, row := range []struct {
			name      string
			change    []string
			header    []string
			challenge bool
		}{
			{"no client", none, nil, false},
			{"no secret", []string{"client_secret", absent}, nil, false},
			{"wrong secret", []string{"client_secret", "wrong"}, nil, false},
			{"unknown client", []string{"client_id", "nobody"}, nil, false},
			{"public client", []string{"client_id", "native", "client_secret", absent}, nil, false},
			{"wrong Basic", none, []string{"Authorization", basicHeader("rs", "wrong")}, true},
			{"bearer token", none, []string{"Authorization", "Bearer " + access}, true},
		} {
			t.Run(row.name, func(t *testing.T) {
				r := i.in(t).post(i.endpoint("introspect"), with(withClient("rs", url.Values{"token": {access}}), row.change...), row.header...)
				r.wantError(http.StatusUnauthorized, "invalid_client")
				if got := strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic "); got != row.challenge {
					t.Errorf("WWW-Authenticate: %q", r.Header.Get("WWW-Authenticate"))
				}
				if strings.Contains(r.body, "active") {
					t.Errorf("the answer tells about the token: %s", r.body)
				}
			})
		}
	})

	t.Run("7662 2.2 R132", func(t *testing.T) {
		i := start(t)
		old, oldRefresh := i.tokens("web")
		i.advance(31 * 24 * time.Hour)
		access, refresh := i.tokens("web")
		_, used := i.tokens("native")
		i.refresh("native", used).wantToken()
		revoked, revokedRefresh := i.tokens("native")
		i.revoke("native", revokedRefresh).wantRevoked()
		redeemed := i.code("native")
		i.post(i.endpoint("token"), exchangeOf("native", redeemed)).wantToken()
		alice := i.as("alice")
		server, _ := url.Parse(i.URL)
		for _, row := range []struct{ name, token string }{
			{"expired", old},
			{"expired refresh token", oldRefresh},
			{"revoked", revoked},
			{"revoked refresh token", revokedRefresh},
			{"used refresh token", used},
			{"code", i.code("native")},
			{"redeemed code", redeemed},
			{"random", newCredential().String()},
			{"foo", "foo"},
			{"cut", access[:42]},
			{"extended", access + "A"},
			{"padded", access + "="},
			{"a blank behind", access + " "},
			{"NUL behind", access + "\x00"},
			{"a line break in it", access[:20] + "\n" + access[20:]},
			{"in other letters", strings.ToUpper(access)},
			{"secret of another", access[:22] + refresh[22:]},
			{"40 KB", strings.Repeat("a", 40<<10)},
			{"client secret", "web-secret"},
			{"session", alice.client.Jar.Cookies(server)[0].Value},
		} {
			t.Run(row.name, func(t *testing.T) {
				for _, hint := range []string{"", "access_token", "refresh_token", "foo"} {
					r := i.in(t).post(i.endpoint("introspect"), withClient("rs", url.Values{"token": {row.token}, "token_type_hint": {hint}}))
					if r.StatusCode != http.StatusOK || strings.TrimSpace(r.body) != `{"active":false}` {
						t.Errorf("hint %q: status %d, %s", hint, r.StatusCode, r.body)
					}
				}
			})
		}
		i.wantAlive(access, refresh)
	})

	t.Run("7662 2.2 R133", func(t *testing.T) {
		refreshed, _ := i.in(t).refresh("native", second(i.in(t).tokens("native")), "scope", "read").wantToken()
		password, _ := i.in(t).passwordTokens()
		for _, row := range []struct{ name, token, client, user, scope string }{
			{"code", access, "web", "alice", "read write"},
			{"refresh", refreshed, "native", "alice", "read"},
			{"implicit", i.in(t).implicitToken(), "legacy", "alice", "read write"},
			{"password", password, "legacy", "alice", "read write"},
			{"client credentials", i.in(t).clientToken("web"), "web", "", "read write"},
		} {
			t.Run(row.name, func(t *testing.T) {
				r := i.in(t).introspect(row.token)
				wantIntrospection(t, r, row.client, row.user, row.scope, "Bearer", 3600)
				// The holder is told the same.
				if info := i.in(t).bearer("tokeninfo", row.token); info.StatusCode != http.StatusOK || info.body != r.body {
					t.Errorf("token info: status %d, %s, introspection: %s", info.StatusCode, info.body, r.body)
				}
			})
		}
		for _, hint := range []string{"", "access_token", "refresh_token", "foo"} {
			r := i.in(t).post(i.endpoint("introspect"), withClient("rs", url.Values{"token": {refresh}, "token_type_hint": {hint}}))
			wantIntrospection(t, r, "web", "alice", "read write", "", 2592000)
		}
	})
	t.Run("7662 2.2 R133 for ever", func(t *testing.T) {
		i := start(t, func(s *server) { s.profile.AccessTokenLifetime = 0 })
		access, _ := i.tokens("web")
		i.advance(100 * 365 * 24 * time.Hour)
		wantIntrospection(t, i.introspect(access), "web", "alice", "read write", "Bearer", 0)
	})

	t.Run("7662 2 R134", func(t *testing.T) {
		i := i.in(t)
		code := i.code("web")
		old, used := i.tokens("web")
		access, refresh := i.refresh("web", used).wantToken()
		all := []string{old, used, access, refresh, code}
		var before []string
		for _, token := range all {
			before = append(before, i.introspect(token).body)
		}
		for n, token := range slices.Concat(all, all) {
			if after := i.introspect(token).body; after != before[n%len(all)] {
				t.Errorf("token %d: %s, before %s", n, after, before[n%len(all)])
			}
		}
		i.refresh("web", refresh).wantToken()
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
	})

	t.Run("7662 4 R135", func(t *testing.T) {
		for _, token := range []string{access, refresh, i.in(t).clientToken("web")} {
			for clientID, want := range map[string]bool{"web": true, "rs": true, "other": false, "legacy": false} {
				r := i.in(t).post(i.endpoint("introspect"), withClient(clientID, url.Values{"token": {token}}))
				if r.json["active"] != want || !want && len(r.json) != 1 {
					t.Errorf("%s is told %s", clientID, r.body)
				}
			}
		}
	})

	t.Run("7662 2.1 R136", func(t *testing.T) {
		i := i.in(t)
		valid := withClient("rs", url.Values{"token": {access}})
		r := i.get(i.endpoint("introspect") + "?" + valid.Encode())
		r.wantError(http.StatusMethodNotAllowed, "invalid_request")
		if r.Header.Get("Allow") != "POST" {
			t.Errorf("Allow: %q", r.Header.Get("Allow"))
		}
		for _, change := range [][]string{{"token", absent}, {"token", ""}, {"token", access, "token", access}} {
			i.post(i.endpoint("introspect"), with(valid, change...)).wantError(http.StatusBadRequest, "invalid_request")
		}
		i.post(i.endpoint("introspect")+"?token="+access, with(valid, "token", absent)).wantError(http.StatusBadRequest, "invalid_request")
		i.browser().do("POST", i.endpoint("introspect"), valid.Encode(), "Content-Type", "text/plain").wantError(http.StatusUnsupportedMediaType, "invalid_request")
		i.post(i.endpoint("introspect"), valid).wantTokenHeaders()
		i.introspect("foo").wantTokenHeaders()
	})
}

func second(_, b string) string { return b }

// wantIntrospection wants RFC 7662 §2.2's members, these and no others.
// lifetime 0 is for ever.
func wantIntrospection(t *testing.T, r *reply, clientID, username, scope, tokenType string, lifetime float64) {
	t.Helper()
	want := map[string]any{"active": true, "scope": scope, "client_id": clientID, "iss": r.i.server.issuer()}
	if username != "" {
		want["username"], want["sub"] = username, username
	}
	if tokenType != "" {
		want["token_type"] = tokenType
	}
	issued, _ := r.json["iat"].(float64)
	now := float64(time.Now().Unix())
	if want["iat"] = issued; issued != float64(int64(issued)) || issued > now+1 || issued < now-60 {
		t.Errorf("iat %v", r.json["iat"])
	}
	if lifetime != 0 {
		want["exp"] = issued + lifetime
	}
	if r.StatusCode != http.StatusOK || !maps.Equal(r.json, want) {
		t.Errorf("got status %d, %s, want %v", r.StatusCode, r.body, want)
	}
	if regexp.MustCompile(`"(iat|exp)":[^0-9]|"(iat|exp)":[0-9]*[.e]`).MatchString(r.body) {
		t.Errorf("iat and exp are not integers: %s", r.body)
	}
}

var challenge = regexp.MustCompile(`^Bearer realm="[^"\\]*"(?:, error="([^"\\]*)", error_description="([^"\\]*)"(?:, error_uri="http://[^"\\]*/explain/[a-zA-Z0-9-]+")?)?$`)

// wantChallenge wants the error of a protected resource (RFC 6750 §3). code ""
// is a challenge without one.
func (r *reply) wantChallenge(status int, code string) {
	r.i.Helper()
	headers := r.Header["Www-Authenticate"]
	if r.StatusCode != status || len(headers) != 1 {
		r.i.Errorf("got status %d, WWW-Authenticate %q, %s, want %d and one challenge", r.StatusCode, headers, r.body, status)
		return
	}
	match := challenge.FindStringSubmatch(headers[0])
	if match == nil || match[1] != code {
		r.i.Errorf("WWW-Authenticate: %s, want error %q", headers[0], code)
	}
	if got, _ := r.json["error"].(string); got != code {
		r.i.Errorf("body has error %q, want %q", got, code)
	}
	if r.Header.Get("Cache-Control") != "no-store" {
		r.i.Errorf("Cache-Control: %q", r.Header.Get("Cache-Control"))
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	i := start(t)
	access, refresh := i.tokens("web")

	for _, endpoint := range protected {
		target := i.endpoint(endpoint)

		t.Run("6750 2.1 R137 "+endpoint, func(t *testing.T) {
			for _, scheme := range []string{"Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer    "} {
				if r := i.in(t).get(target, "Authorization", scheme+access); r.StatusCode != http.StatusOK || r.json == nil {
					t.Errorf("%q: status %d, %s", scheme, r.StatusCode, r.body)
				}
			}
		})

		t.Run("6750 3 R138 "+endpoint, func(t *testing.T) {
			i := start(t)
			expired, _ := i.tokens("web")
			i.advance(2 * time.Hour)
			revoked, _ := i.tokens("web")
			i.revoke("web", revoked).wantRevoked()
			i.get(i.endpoint(endpoint)).wantChallenge(http.StatusUnauthorized, "")
			for name, token := range map[string]string{
				"expired": expired, "revoked": revoked, "unknown": newCredential().String(), "quotes": `"x,y`,
				"script": `<script>alert(1)</script>`, "backslash": `reflected\"`,
			} {
				t.Run(name, func(t *testing.T) {
					r := i.in(t).bearer(endpoint, token)
					r.wantChallenge(http.StatusUnauthorized, "invalid_token")
					if strings.Contains(r.body+r.Header.Get("WWW-Authenticate"), token) {
						t.Errorf("the token is in the answer: %s %s", r.Header.Get("WWW-Authenticate"), r.body)
					}
				})
			}
		})

		t.Run("9700 4.3.2 R139 "+endpoint, func(t *testing.T) {
			i.in(t).get(target+"?access_token="+access).wantChallenge(http.StatusUnauthorized, "")
		})

		form := "access_token=" + access
		for _, row := range []struct {
			name   string
			query  string
			body   string
			header []string
			alone  bool // without the valid header
		}{
			{"header and query", "?" + form, "", nil, false},
			{"header and body", "", form, nil, false},
			{"header and body twice", "", form + "&" + form, nil, false},
			{"header and malformed body", "", form + "&x=%zz", nil, false},
			{"two headers", "", "", []string{"Authorization", "Bearer " + access}, false},
			{"Bearer and Basic", "", "", []string{"Authorization", basicHeader("web", "web-secret")}, false},
			{"query and body", "?" + form, form, nil, true},
			{"query twice", "?" + form + "&" + form, "", nil, true},
			{"body twice", "", form + "&" + form, nil, true},
		} {
			t.Run("6750 2 R140 "+endpoint+" "+row.name, func(t *testing.T) {
				header := row.header
				if !row.alone {
					header = append([]string{"Authorization", "Bearer " + access}, header...)
				}
				i.in(t).browser().do("GET", target+row.query, row.body, header...).wantChallenge(http.StatusBadRequest, "invalid_request")
			})
		}

		t.Run("6750 2.1 R141 "+endpoint, func(t *testing.T) {
			for code, headers := range map[string][]string{
				"": {"", access, "Bearer" + access, "Bearer=" + access, "Bearer\t" + access, "Basic " + access, "Token " + access,
					"Basic QTpC, Bearer " + access},
				"invalid_token": {"Bearer", "Bearer ", "Bearer a b", "Bearer " + access + " b", "Bearer " + access + "," + newCredential().String(),
					"Bearer " + access + "=", `Bearer "` + access + `"`, "Bearer token=" + access, "Bearer " + strings.Repeat("a", 40<<10)},
			} {
				for _, header := range headers {
					i.in(t).get(target, "Authorization", header).wantChallenge(http.StatusUnauthorized, code)
				}
			}
		})
	}

	t.Run("6750 5.2 R142", func(t *testing.T) {
		i := i.in(t)
		alice := i.as("alice")
		server, _ := url.Parse(i.URL)
		cookie := alice.client.Jar.Cookies(server)[0]
		request := authorization("web")
		request.Set("prompt", "consent")
		consent := alice.authorize(request).form(nil)
		code := i.code("web")
		all := map[string]string{
			"refresh token": refresh, "code": code, "client secret": "web-secret", "session": cookie.Value, "consent form's mac": consent.Get("mac"),
			"consent form's id": consent.Get("id"), "password": "wonderland", "id of the token": access[:22], "verifier": verifier,
		}
		for name, value := range all {
			if value == "" {
				t.Errorf("%s is empty", name)
			}
			for _, endpoint := range protected {
				t.Run(name+" at "+endpoint, func(t *testing.T) {
					i.in(t).bearer(endpoint, value).wantChallenge(http.StatusUnauthorized, "invalid_token")
				})
			}
		}
		for name, value := range map[string]string{"access token": access, "code": code, "session": cookie.Value} {
			i.refresh("web", value).wantError(http.StatusBadRequest, "invalid_grant")
			if name != "code" {
				i.post(i.endpoint("token"), exchangeOf("web", value)).wantError(http.StatusBadRequest, "invalid_grant")
			}
		}
		i.post(i.endpoint("token"), exchangeOf("web", refresh)).wantError(http.StatusBadRequest, "invalid_grant")
		for _, value := range []string{access, refresh, code, cookie.Value} {
			for _, endpoint := range []string{"token", "revoke", "introspect"} {
				form := url.Values{"grant_type": {"client_credentials"}, "token": {access}}
				i.post(i.endpoint(endpoint), form, "Authorization", basicHeader("web", value)).wantError(http.StatusUnauthorized, "invalid_client")
			}
			for _, endpoint := range protected {
				i.get(i.endpoint(endpoint), "Authorization", basicHeader("alice", value)).wantChallenge(http.StatusUnauthorized, "")
				i.get(i.endpoint(endpoint), "Cookie", "access_token="+value+"; "+cookie.Name+"="+value).wantChallenge(http.StatusUnauthorized, "")
			}
			if value != cookie.Value {
				page := i.get(i.endpoint("authorize")+"?"+authorization("web").Encode(), "Cookie", cookie.Name+"="+value)
				if page.action() != "/login" {
					t.Errorf("a token as session cookie is not asked to sign in: %s", page.body)
				}
			}
		}
		i.wantAlive(access, refresh)
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
	})

	t.Run("6750 3.1 R143", func(t *testing.T) {
		i := i.in(t)
		token := i.clientToken("web")
		for _, method := range []string{"GET", "HEAD"} {
			r := i.browser().do(method, i.endpoint("userinfo"), "", "Authorization", "Bearer "+token)
			if r.StatusCode != http.StatusForbidden || !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
				t.Errorf("%s: status %d, %q", method, r.StatusCode, r.Header.Get("WWW-Authenticate"))
			}
		}
		i.bearer("userinfo", token).wantChallenge(http.StatusForbidden, "insufficient_scope")
	})

	for name, remove := range map[string]func(*store) error{
		"client": func(st *store) error { return st.deleteClient("web") },
		"user":   func(st *store) error { return st.deleteUser("alice") },
	} {
		t.Run("R144 without its "+name, func(t *testing.T) {
			i := start(t)
			code := i.code("web")
			access, refresh := i.tokens("web")
			alice := i.as("alice")
			wantGone := func() {
				t.Helper()
				i.wantDead(access, refresh)
				for _, endpoint := range protected {
					i.bearer(endpoint, access).wantChallenge(http.StatusUnauthorized, "invalid_token")
				}
			}
			if err := remove(i.server.store); err != nil {
				t.Fatal(err)
			}
			wantGone()
			if name == "client" {
				i.refresh("web", refresh).wantError(http.StatusUnauthorized, "invalid_client")
				alice.authorize(authorization("web")).wantPage(http.StatusBadRequest)
			} else if page := alice.authorize(authorization("web")); page.action() != "/login" {
				t.Errorf("the session of a deleted user is alive: %s", page.body)
			}
			// Another of the same name inherits nothing.
			i.furnish(instanceFixtures)
			wantGone()
			i.refresh("web", refresh).wantError(http.StatusBadRequest, "invalid_grant")
			i.post(i.endpoint("token"), exchangeOf("web", code)).wantError(http.StatusBadRequest, "invalid_grant")
			if page := i.as("alice").authorize(authorization("web")); page.StatusCode != http.StatusOK {
				t.Errorf("consent outlived the %s: status %d", name, page.StatusCode)
			}
		})
	}
}
