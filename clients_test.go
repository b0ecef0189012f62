package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// basicHeader is an Authorization header as RFC 6749 §2.3.1 wants it.
func basicHeader(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// rawBasicHeader leaves out the form-urlencoding before base64.
func rawBasicHeader(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

// clientRequest is a request that needs a client, whole but for that.
type clientRequest struct {
	endpoint string
	form     url.Values
}

// clientRequests are those of the three endpoints where clients authenticate,
// about a token.
func clientRequests(token string) []clientRequest {
	return []clientRequest{
		{"token", url.Values{"grant_type": {"client_credentials"}}},
		{"introspect", url.Values{"token": {token}}},
		{"revoke", url.Values{"token": {token}}},
	}
}

// wantUnauthenticated wants a request refused because of its client.
func (r *reply) wantUnauthenticated() {
	r.i.Helper()
	switch r.StatusCode {
	case http.StatusUnauthorized:
		r.wantError(http.StatusUnauthorized, "invalid_client")
	default:
		r.wantError(http.StatusBadRequest, "invalid_request")
	}
}

// wantBasicChallenge wants WWW-Authenticate to name the scheme, if the client tried it.
func (r *reply) wantBasicChallenge(want bool) {
	r.i.Helper()
	if got := r.Header.Get("WWW-Authenticate"); strings.HasPrefix(got, "Basic ") != want {
		r.i.Errorf("WWW-Authenticate: %q, want Basic: %t", got, want)
	}
}

// TestClientAuthentication is RFC 6749 §2.3 and §3.2.1, alike at the token,
// introspection and revocation endpoints.
func TestClientAuthentication(t *testing.T) {
	t.Parallel()

	t.Run("2.3.1 R82 Basic", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(`{"clients": [{"client_id": "an:id", "client_secret": "a b+c%&:/é", "redirect_uris": []}]}`)
		encoded := strings.TrimPrefix(basicHeader("an:id", "a b+c%&:/é"), "Basic ")
		for name, header := range map[string]string{
			"form-urlencoded":    "Basic " + encoded,
			"blank as %20":       rawBasicHeader("an%3Aid:a%20b%2Bc%25%26%3A%2F%C3%A9"),
			"colon in secret":    rawBasicHeader("an%3Aid:a+b%2Bc%25%26:/%c3%a9"),
			"scheme basic":       "basic " + encoded,
			"scheme BASIC":       "BASIC " + encoded,
			"two blanks between": "Basic  " + encoded,
		} {
			for _, request := range clientRequests("unknown") {
				t.Run(request.endpoint+"/"+name, func(t *testing.T) {
					i := i.in(t)
					if r := i.post(i.endpoint(request.endpoint), request.form, "Authorization", header); r.StatusCode != http.StatusOK {
						t.Errorf("status %d: %s", r.StatusCode, r.body)
					}
				})
			}
		}
	})

	t.Run("2.3.1 R83 malformed Basic", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(`{"clients": [{"client_id": "pad", "client_secret": "secret", "redirect_uris": []}]}`)
		padded := basicHeader("pad", "secret") // ends in ==
		i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}}, "Authorization", padded).wantToken()
		unpadded := strings.TrimSuffix(padded, "==")
		sibling := unpadded[:len(unpadded)-1] + string(unpadded[len(unpadded)-1]+1) + "==" // the same bytes, were the last bits not looked at
		access, _ := i.tokens("native")
		for name, headers := range map[string][]string{
			"scheme alone":               {"Basic"},
			"scheme and blank":           {"Basic "},
			"no base64":                  {"Basic !!!"},
			"no colon":                   {rawBasicHeader("web")},
			"behind the base64":          {padded + "!"},
			"blank behind the base64":    {padded + " x"},
			"padding cut":                {unpadded},
			"padding bits":               {sibling},
			"base64url":                  {"Basic " + base64.URLEncoding.EncodeToString([]byte("web:\xff\xff\xfe"))},
			"percent in the id":          {rawBasicHeader("%%%:web-secret")},
			"percent in the secret":      {rawBasicHeader("web:%%%")},
			"no id and no secret":        {rawBasicHeader(":")},
			"no id":                      {rawBasicHeader(":web-secret")},
			"id in other case":           {basicHeader("WEB", "web-secret")},
			"id and a blank":             {basicHeader("web ", "web-secret")},
			"Digest":                     {strings.Replace(padded, "Basic", "Digest", 1)},
			"Bearer":                     {"Bearer " + access},
			"no scheme":                  {strings.TrimPrefix(padded, "Basic ")},
			"empty":                      {""},
			"two headers":                {padded, basicHeader("other", "other-secret")},
			"two headers alike":          {padded, padded},
			"two credentials in one":     {padded + ", " + padded},
			"secret of another client":   {basicHeader("web", "other-secret")},
			"secret and a byte":          {basicHeader("web", "web-secretx")},
			"secret in other case":       {basicHeader("web", "WEB-SECRET")},
			"secret without its last":    {basicHeader("web", "web-secre")},
			"hash in place of a secret":  {basicHeader("web", string(hashSecret("web-secret")))},
			"client that does not exist": {basicHeader("nobody", "web-secret")},
		} {
			for _, request := range clientRequests(access) {
				t.Run(request.endpoint+"/"+name, func(t *testing.T) {
					i := i.in(t)
					var header []string
					for _, value := range headers {
						header = append(header, "Authorization", value)
					}
					r := i.post(i.endpoint(request.endpoint), request.form, header...)
					r.wantUnauthenticated()
					r.wantBasicChallenge(r.StatusCode == http.StatusUnauthorized)
				})
			}
		}
		i.wantAlive(access)
	})

	t.Run("5.2 R84 failed authentication", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for _, request := range clientRequests("unknown") {
			t.Run(request.endpoint, func(t *testing.T) {
				i := i.in(t)
				r := i.post(i.endpoint(request.endpoint), request.form, "Authorization", basicHeader("web", "wrong"))
				r.wantError(http.StatusUnauthorized, "invalid_client")
				r.wantBasicChallenge(true)
				r = i.post(i.endpoint(request.endpoint), with(request.form, "client_id", "web", "client_secret", "wrong"))
				r.wantError(http.StatusUnauthorized, "invalid_client")
				r.wantBasicChallenge(false)
				r = i.post(i.endpoint(request.endpoint), request.form)
				r.wantError(http.StatusUnauthorized, "invalid_client")
				r.wantBasicChallenge(false)
			})
		}
	})

	t.Run("2.3 R85 R86 header and body", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		web := basicHeader("web", "web-secret")
		access, _ := i.tokens("web")
		for _, test := range []struct {
			name, header string
			body         []string
			status       int
			code         string // empty: it works
		}{
			{"header alone", web, nil, 200, ""},
			{"body alone", "", []string{"client_id", "web", "client_secret", "web-secret"}, 200, ""},
			{"equal client_id", web, []string{"client_id", "web"}, 200, ""},
			{"empty client_id", web, []string{"client_id", ""}, 200, ""},
			{"empty client_secret", web, []string{"client_id", "web", "client_secret", ""}, 200, ""},
			{"equal secrets", web, []string{"client_secret", "web-secret"}, 400, "invalid_request"},
			{"equal secrets and client_id", web, []string{"client_id", "web", "client_secret", "web-secret"}, 400, "invalid_request"},
			{"wrong secret in body", web, []string{"client_secret", "wrong"}, 400, "invalid_request"},
			{"wrong secret in header", basicHeader("web", "wrong"), []string{"client_id", "web", "client_secret", "web-secret"}, 400, "invalid_request"},
			{"two clients, both right", web, []string{"client_id", "other", "client_secret", "other-secret"}, 400, "invalid_request"},
			{"another client_id", web, []string{"client_id", "other"}, 400, "invalid_request"},
			{"a public client_id", web, []string{"client_id", "native"}, 400, "invalid_request"},
			{"no such client_id", web, []string{"client_id", "nobody"}, 400, "invalid_request"},
			{"a public client in the header", basicHeader("native", ""), []string{"client_id", "web"}, 400, "invalid_request"},
		} {
			for _, request := range clientRequests(access) {
				if test.code == "" && request.endpoint == "revoke" {
					request.form = url.Values{"token": {"unknown"}}
				}
				t.Run(request.endpoint+"/"+test.name, func(t *testing.T) {
					i := i.in(t)
					var header []string
					if test.header != "" {
						header = []string{"Authorization", test.header}
					}
					r := i.post(i.endpoint(request.endpoint), with(request.form, test.body...), header...)
					switch {
					case test.code != "":
						r.wantError(test.status, test.code)
					case r.StatusCode != http.StatusOK:
						t.Errorf("status %d: %s", r.StatusCode, r.body)
					}
				})
			}
		}
		i.wantAlive(access) // nothing was revoked
	})

	t.Run("3.2.1 R87 R88 without proof", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		code := i.code("web")
		access, refresh := i.tokens("web")
		requests := append(clientRequests(access),
			clientRequest{"token", with(exchangeOf("web", code), "client_id", absent, "client_secret", absent)},
			clientRequest{"token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}},
			clientRequest{"token", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}})
		for _, request := range requests {
			clientID := "web"
			if request.form.Get("grant_type") == "password" {
				clientID = "legacy"
			}
			for name, test := range map[string]struct {
				header string
				body   []string
			}{
				"nothing":                 {"", nil},
				"client_id alone":         {"", []string{"client_id", clientID}},
				"empty client_secret":     {"", []string{"client_id", clientID, "client_secret", ""}},
				"Basic, empty secret":     {rawBasicHeader(clientID + ":"), nil},
				"Basic, empty everywhere": {rawBasicHeader(clientID + ":"), []string{"client_id", clientID, "client_secret", ""}},
			} {
				t.Run(request.endpoint+request.form.Get("grant_type")+"/"+name, func(t *testing.T) {
					i := i.in(t)
					var header []string
					if test.header != "" {
						header = []string{"Authorization", test.header}
					}
					i.post(i.endpoint(request.endpoint), with(request.form, test.body...), header...).wantError(http.StatusUnauthorized, "invalid_client")
				})
			}
		}
		// What they were about is still there.
		i.wantAlive(access)
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		i.refresh("web", refresh).wantToken()
	})

	t.Run("2.3 R88 R89 public client", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		// A record without a hash, or with an empty one, has no secret to match.
		for id, hash := range map[string][]byte{"nohash": nil, "emptyhash": {}} {
			bare := &client{metadata: metadata{ClientID: id}, ID: uuid.New(), SecretHash: hash}
			if err := i.server.store.register(nil, []*client{bare}); err != nil {
				t.Fatal(err)
			}
		}
		access, refresh := i.tokens("native")
		for _, clientID := range []string{"native", "nohash", "emptyhash"} {
			for name, test := range map[string]struct {
				header string
				body   []string
				secret bool
			}{
				"client_id":           {"", []string{"client_id", clientID}, false},
				"empty client_secret": {"", []string{"client_id", clientID, "client_secret", ""}, false},
				"Basic without":       {basicHeader(clientID, ""), nil, false},
				"client_secret":       {"", []string{"client_id", clientID, "client_secret", "x"}, true},
				"Basic":               {basicHeader(clientID, "x"), nil, true},
				"Basic, blank":        {basicHeader(clientID, " "), nil, true},
				"Basic, hash of none": {basicHeader(clientID, string(hashSecret(""))), nil, true},
			} {
				for _, request := range clientRequests(access) {
					t.Run(request.endpoint+"/"+clientID+"/"+name, func(t *testing.T) {
						i := i.in(t)
						var header []string
						if test.header != "" {
							header = []string{"Authorization", test.header}
						}
						if !test.secret && request.endpoint == "revoke" {
							request.form = url.Values{"token": {"unknown"}}
						}
						r := i.post(i.endpoint(request.endpoint), with(request.form, test.body...), header...)
						switch {
						case test.secret || request.endpoint == "introspect":
							r.wantError(http.StatusUnauthorized, "invalid_client")
						case request.endpoint == "token":
							r.wantError(http.StatusBadRequest, "unauthorized_client") // R117
						case r.StatusCode != http.StatusOK:
							t.Errorf("status %d: %s", r.StatusCode, r.body)
						}
					})
				}
			}
		}
		i.wantAlive(access)

		// A public client has to say its name, and must not send a secret.
		code := i.code("native")
		for name, form := range map[string]url.Values{
			"code without client_id": with(exchangeOf("native", code), "client_id", absent),
			"code with a secret":     with(exchangeOf("native", code), "client_secret", "x"),
			"refresh without client": {"grant_type": {"refresh_token"}, "refresh_token": {refresh}},
			"refresh with a secret":  withClient("native", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_secret": {"x"}}),
		} {
			t.Run("token/"+name, func(t *testing.T) {
				i := i.in(t)
				i.post(i.endpoint("token"), form).wantError(http.StatusUnauthorized, "invalid_client")
			})
		}
		form := with(exchangeOf("native", code), "client_id", absent)
		i.post(i.endpoint("token"), form, "Authorization", basicHeader("native", "")).wantToken()
		i.refresh("native", refresh).wantToken()
	})

	t.Run("2.3.1 R90 another secret", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		access, refresh := i.tokens("web")
		authenticate := func(secret string) []*reply {
			var replies []*reply
			for _, request := range clientRequests("unknown") {
				replies = append(replies, i.post(i.endpoint(request.endpoint), request.form, "Authorization", basicHeader("web", secret)))
			}
			return append(replies, i.refresh("web", "unknown", "client_secret", secret))
		}
		want := func(secret string, refused bool) {
			t.Helper()
			for _, r := range authenticate(secret) {
				if got := r.StatusCode == http.StatusUnauthorized; got != refused {
					t.Errorf("secret %s: status %d, want it refused: %t", secret, r.StatusCode, refused)
				}
			}
		}
		want("web-secret", false)
		i.furnish(`{"clients": [{"client_id": "web", "client_secret": "regenerated", "redirect_uris": ["https://cb.example/cb"], "scope": "read write"}]}`)
		want("web-secret", true)
		want("regenerated", false)
		i.wantAlive(access, refresh)

		if err := i.server.store.deleteClient("web"); err != nil {
			t.Fatal(err)
		}
		want("regenerated", true)
		i.refresh("web", refresh, "client_secret", "regenerated").wantError(http.StatusUnauthorized, "invalid_client")
		i.wantDead(access, refresh)

		// Another client of that name inherits nothing.
		i.furnish(`{"clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read write"}]}`)
		want("regenerated", true)
		i.refresh("web", refresh).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(access, refresh)
	})

	t.Run("2.3.1 R91 guessing", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		// At once, and spread over the endpoints: a try is a try.
		statuses := make(chan int, 102)
		var group sync.WaitGroup
		for n := range 34 {
			group.Go(func() {
				for _, request := range clientRequests("unknown") {
					r := i.post(i.endpoint(request.endpoint), request.form, "Authorization", basicHeader("web", fmt.Sprint(n)))
					statuses <- r.StatusCode
				}
			})
		}
		group.Wait()
		close(statuses)
		count := make(map[int]int)
		for status := range statuses {
			count[status]++
		}
		if count[401] != secretTries || count[429] != 102-secretTries {
			t.Errorf("answers by status: %v, want 401 for %d and 429 for the rest", count, secretTries)
		}
		credentials := url.Values{"grant_type": {"client_credentials"}}
		right := i.post(i.endpoint("token"), credentials, "Authorization", basicHeader("web", "web-secret"))
		right.wantError(http.StatusTooManyRequests, "invalid_client") // or the answer would tell which guess is right
		if wait, err := time.ParseDuration(right.Header.Get("Retry-After") + "s"); err != nil || wait <= 0 || wait > time.Minute {
			t.Errorf("Retry-After: %q", right.Header.Get("Retry-After"))
		}
		i.post(i.endpoint("token"), withClient("other", with(credentials))).wantToken()
		i.advance(time.Minute)
		i.post(i.endpoint("token"), withClient("web", with(credentials))).wantToken()
	})

	t.Run("2.3.1 R91 the right secret ends the count", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for range 2 {
			for range secretTries - 1 {
				i.token(with(clientCredentialsOf("web"), "client_secret", "guess")).wantError(http.StatusUnauthorized, "invalid_client")
			}
			i.token(clientCredentialsOf("web")).wantToken()
		}
	})
}

// TestSource: what tries are counted by. R53: nothing that a request claims.
func TestSource(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"127.0.0.1:1":               "loopback",
		"127.8.9.10:65535":          "loopback",
		"[::1]:1":                   "loopback",
		"[::ffff:127.0.0.1]:1":      "loopback",
		"192.0.2.1:1":               "192.0.2.1",
		"[::ffff:192.0.2.1]:1":      "192.0.2.1",
		"192.0.2.2:1":               "192.0.2.2",
		"[2001:db8:0:1::1]:1":       "2001:db8:0:1::/64",
		"[2001:db8:0:1:2:3:4:5]:99": "2001:db8:0:1::/64",
		"[2001:db8:0:2::1]:1":       "2001:db8:0:2::/64",
		"[fe80::1%eth0]:1":          "fe80::/64",
		"[fe80::2%eth1]:1":          "fe80::/64",
		"@":                         "@", // a socket without an address
	} {
		r := &http.Request{RemoteAddr: from, Header: http.Header{"X-Forwarded-For": {"203.0.113.1"}, "Forwarded": {"for=203.0.113.1"}, "X-Real-Ip": {"203.0.113.1"}}}
		if got := source(r); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
}

// Refusals name the mistake where it can be told.
func TestMistakes(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [
	  {"client_id": "odd", "client_secret": "p+w%20/&", "redirect_uris": ["https://odd.example/cb"], "scope": "read write"},
	  {"client_id": "uris", "client_secret": "s", "redirect_uris": ["https://App.example/cb", "https://app.example:8443/dir/", "http://127.0.0.1/native", "com.example.app:/cb"]}
	]}`)
	token := i.endpoint("token")
	basic := func(id, secret string) []string {
		return []string{"Authorization", rawBasicHeader(id + ":" + secret)}
	}
	own := url.Values{"grant_type": {"client_credentials"}}
	scope := func(scope string) func() *reply {
		return func() *reply {
			return i.post(token, withClient("web", url.Values{"grant_type": {"client_credentials"}, "scope": {scope}}))
		}
	}
	body := func(mediaType, body string) func() *reply {
		return func() *reply { return i.browser().do("POST", token, body, "Content-Type", mediaType) }
	}
	exchange := func(sent string) func() *reply {
		return func() *reply { return i.post(token, with(exchangeOf("web", i.code("web")), "redirect_uri", sent)) }
	}
	const asForm, asJSON = "grant_type=client_credentials", `{"grant_type":"client_credentials","client_id":"web"}`
	for _, row := range []struct {
		name string
		do   func() *reply
		want string
	}{
		{"secret not form-urlencoded", func() *reply { return i.post(token, own, basic("odd", "p+w%20/&")...) },
			"the client secret is right, but in the Basic credentials it must be form-urlencoded before base64"},
		{"secret not form-urlencoded, and wrong", func() *reply { return i.post(token, own, basic("odd", "p+w%20/&x")...) }, "the client secret is wrong"},
		{"secret wrong in the body", func() *reply {
			return i.post(token, url.Values{"grant_type": {"client_credentials"}, "client_id": {"odd"}, "client_secret": {"p w /&"}})
		}, "the client secret is wrong"},
		{"commas between scopes", scope("read,write"), "the scope has commas between its tokens: separate them with spaces"},
		{"commas and spaces between scopes", scope("read, write"), "the scope has commas between its tokens: separate them with spaces"},
		{"plus signs between scopes", scope("read+write"), "the scope has plus signs between its tokens: encode a space as + or %20, not as %2B"},
		{"comma in an unknown scope", scope("read,steal"), "the scope asks for more than the client is registered for"},
		{"a comma alone", scope(","), "the scope asks for more than the client is registered for"},
		{"commas between scopes of a refresh", func() *reply {
			_, refresh := i.tokens("web")
			return i.refresh("web", refresh, "scope", "read,write")
		}, "the scope has commas between its tokens: separate them with spaces"},
		{"JSON under JSON", body("application/json", asJSON), "the body must be application/x-www-form-urlencoded, not application/json"},
		{"JSON under form", body("application/x-www-form-urlencoded", asJSON), "the body is JSON, but Content-Type is application/x-www-form-urlencoded"},
		{"form under text", body("text/plain; charset=utf-8", asForm), "the body must be application/x-www-form-urlencoded, and Content-Type must say so"},
		{"form under a malformed type", body("application/x-www-form-urlencoded; x", asForm), "the body must be application/x-www-form-urlencoded, and Content-Type must say so"},
		{"form under nothing", body("", asForm), "the body must be application/x-www-form-urlencoded, but Content-Type is missing or malformed"},
		{"exchange with a slash", exchange("https://cb.example/cb/"), "redirect_uri differs from the one in the authorization request only by the slash at its end; this client has not registered it"},
		{"exchange with a port", exchange("https://cb.example:443/cb"), "redirect_uri differs from the one in the authorization request only by its port; this client has not registered it"},
		{"grant type", func() *reply { return i.post(token, withClient("web", url.Values{"grant_type": {"code"}})) },
			"grant_type must be one of authorization_code, password, client_credentials, refresh_token, urn:ietf:params:oauth:grant-type:device_code"},
	} {
		t.Run("R195 "+row.name, func(t *testing.T) {
			if r := row.do(); r.json["error_description"] != row.want {
				t.Errorf("%s\nwant %s", r.body, row.want)
			}
		})
	}
	for _, row := range []struct{ requested, by string }{
		{"https://App.example/cb/", "the slash at its end"},
		{"https://app.example:8443/dir", "the slash at its end"},
		{"https://app.example/cb", "upper and lower case"},
		{"https://App.example/CB", "upper and lower case"},
		{"http://App.example/cb", "its scheme, http or https"},
		{"https://127.0.0.1/native", "its scheme, http or https"},
		{"https://App.example:8443/cb", "its port"},
		{"https://App.example:443/cb", "its port"},
		{"https://app.example/dir/", "its port"},
		{"http://localhost/native", "the loopback host (localhost, 127.0.0.1 and [::1] are not the same)"},
		{"http://[::1]:4711/native", "the loopback host (localhost, 127.0.0.1 and [::1] are not the same)"},
		{"http://127.0.0.1:4711/native/", "the slash at its end"},
		{"com.example.app:/cb/", "the slash at its end"},
		{"https://app.example/cb/", ""},
		{"https://App.example/cb?x=1", ""},
		{"https://evil.example/cb", ""},
	} {
		t.Run("R195 redirect_uri "+row.requested, func(t *testing.T) {
			want := "redirect_uri is not one that this client registered; redirect URIs are compared character by character"
			if row.by != "" {
				want = "redirect_uri differs from a registered one only by " + row.by + "; redirect URIs are compared character by character"
			}
			r := i.get(i.endpoint("authorize") + "?" + url.Values{"response_type": {"code"}, "client_id": {"uris"}, "redirect_uri": {row.requested}}.Encode())
			r.wantPage(http.StatusBadRequest)
			if !strings.Contains(r.body, `<dd id="error-description">`+want+`</dd>`) {
				t.Errorf("%s\nwant %s", r.body, want)
			}
		})
	}
	for _, row := range []struct{ name, value, want string }{
		{"response_type", "id_token", "response_type must be code, or token for clients of the implicit grant"},
		{"code_challenge_method", "plain", "code_challenge_method must be exactly S256"},
		{"scope", "read,write", "the scope has commas between its tokens: separate them with spaces"},
	} {
		t.Run("R195 "+row.name, func(t *testing.T) {
			if r := i.as("alice").authorize(with(authorization("web"), row.name, row.value)); r.param("error_description") != row.want {
				t.Errorf("%s\nwant %s", r.Header.Get("Location"), row.want)
			}
		})
	}
	t.Run("R195 a profile's own scopes", func(t *testing.T) {
		t.Parallel()
		p, err := loadProfile("mastodon")
		if err != nil {
			t.Fatal(err)
		}
		_, err = (&client{}).grantableScope("read,write:statuses", p, nil)
		if r := asOAuthError(err); r.Description != "the scope has commas between its tokens: separate them with spaces" || r.Code != "invalid_scope" {
			t.Errorf("%v", err)
		}
	})
	t.Run("R195 a service's other content types", func(t *testing.T) {
		t.Parallel()
		figshare := startProfile(t, "figshare")
		post := func(i *instance, mediaType, body string) any {
			return i.browser().do("POST", i.endpoint("token"), body, "Content-Type", mediaType).json["error_description"]
		}
		if got := post(figshare, "application/json", asForm); got != "the body is a form, but Content-Type is application/json" {
			t.Error(got)
		}
		if got := post(figshare, "application/x-www-form-urlencoded", asJSON); got != "the body is JSON, but Content-Type is application/x-www-form-urlencoded" {
			t.Error(got)
		}
		if got := post(startProfile(t, "sharesight"), "application/x-www-form-urlencoded", asJSON); got != "Missing required parameter: grant_type." {
			t.Error(got)
		}
	})
}
