package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestFigshare walks through what is known of figshare's OAuth endpoints.
// Error texts are not public: they are grantling's own.
func TestFigshare(t *testing.T) {
	t.Parallel()
	i := startProfile(t, "figshare")
	i.furnish(`{"clients": [{"client_id": "shouting", "client_secret": "shouting-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "ALL"}]}`)
	const tokenAnswer = `{"access_token":"<hex64>","token":"<hex64>","token_type":"bearer","expires_in":3600,"refresh_token":"<hex64>"}`
	const unauthenticated = `{"error":"invalid_client","error_description":"<text>"}`
	token := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			return i.post("/v2/token", plainExchange("web", i.plainCode("web"), change...))
		}
	}
	password := func(change ...string) url.Values {
		return with(withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}), change...)
	}
	refresh := func(token string, change ...string) url.Values {
		return with(withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}), change...)
	}
	access := func(i *instance) string { access, _ := i.plainTokens("web"); return access }
	info := `{"access_token":"<hex64>","token":"<hex64>","token_type":"bearer","expires_in":<number>}`
	account := func(first, last, email string) string {
		return `{"id":<number>,"first_name":` + first + `,"last_name":` + last + `,"email":` + email + `,"active":1,"created_date":null,"modified_date":null,` +
			`"group_id":0,"institution_id":0,"institution_user_id":null,"quota":0,"used_quota":0,"used_quota_private":0,"used_quota_public":0,` +
			`"pending_quota_request":false,"maximum_file_size":0,"user_id":<number>,"orcid_id":null,"symplectic_user_id":null}`
	}
	jsonHeaders := []string{"Content-Type", "application/json", "Cache-Control", "no-store", "Pragma", "no-cache", "WWW-Authenticate", "", "Access-Control-Allow-Origin", "*"}
	testAnswers(t, i, []answerCase{
		// Success: always 200, without scope.
		{"token/code, form", token(), 200, tokenAnswer, jsonHeaders},
		{"token/code, JSON", func(i *instance) *reply {
			return i.postJSON("/v2/token", plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer, jsonHeaders},
		{"token/code, Basic [A]", func(i *instance) *reply {
			form, name, value := withBasic(plainExchange("web", i.plainCode("web")))
			return i.post("/v2/token", form, name, value)
		}, 200, tokenAnswer, nil},
		{"token/code without redirect_uri", token("redirect_uri", absent), 200, tokenAnswer, nil},
		{"token/scope does nothing [A]", token("scope", "nonsense"), 200, tokenAnswer, nil},
		{"token/password", func(i *instance) *reply { return i.post("/v2/token", password()) }, 200, tokenAnswer, nil},
		{"token/password, JSON", func(i *instance) *reply { return i.postJSON("/v2/token", password()) }, 200, tokenAnswer, nil},
		{"token/refresh", func(i *instance) *reply {
			_, token := i.plainTokens("web")
			return i.post("/v2/token", refresh(token))
		}, 200, tokenAnswer, nil},

		// Errors: always 400, and never a challenge.
		{"token/unknown client", token("client_id", "nobody"), 400, unauthenticated, jsonHeaders},
		{"token/wrong secret", token("client_secret", "guess"), 400, unauthenticated, jsonHeaders},
		{"token/no secret", token("client_secret", absent), 400, unauthenticated, jsonHeaders},
		{"token/no client", token("client_id", absent, "client_secret", absent), 400, unauthenticated, jsonHeaders},
		{"token/wrong secret by Basic", func(i *instance) *reply {
			form, name, value := withBasic(plainExchange("web", "any", "client_secret", "guess"))
			return i.post("/v2/token", form, name, value)
		}, 400, unauthenticated, jsonHeaders},
		{"token/no grant_type", token("grant_type", absent), 400, `{"error":"invalid_request","error_description":"grant_type is missing"}`, jsonHeaders},
		{"token/no code", token("code", absent), 400, `{"error":"invalid_request","error_description":"code is missing"}`, jsonHeaders},
		{"token/malformed JSON", func(i *instance) *reply {
			return i.browser().do("POST", "/v2/token", `{"grant_type":`, "Content-Type", "application/json")
		}, 400, `{"error":"invalid_request","error_description":"the body is not well-formed application/json"}`, jsonHeaders},
		{"token/multipart", func(i *instance) *reply {
			return i.postMultipart("/v2/token", plainExchange("web", "any"))
		}, 400, `{"error":"invalid_request","error_description":"<text>"}`, jsonHeaders},
		{"token/unknown grant_type", token("grant_type", "magic"), 400, `{"error":"unsupported_grant_type","error_description":"<text>"}`, jsonHeaders},
		{"token/client_credentials", token("grant_type", "client_credentials"), 400, `{"error":"unsupported_grant_type","error_description":"<text>"}`, jsonHeaders},
		{"token/implicit", token("grant_type", "implicit"), 400, `{"error":"unsupported_grant_type","error_description":"<text>"}`, jsonHeaders},
		{"token/another code", token("code", "another"), 400, `{"error":"invalid_grant","error_description":"<text>"}`, jsonHeaders},
		{"token/used code", func(i *instance) *reply {
			form := plainExchange("web", i.plainCode("web"))
			i.post("/v2/token", form)
			return i.post("/v2/token", form)
		}, 400, `{"error":"invalid_grant","error_description":"<text>"}`, jsonHeaders},
		{"token/another redirect_uri [A]", token("redirect_uri", "https://cb.example/other"), 400, `{"error":"invalid_grant","error_description":"<text>"}`, jsonHeaders},
		{"token/code of another client", token("client_id", "other", "client_secret", "other-secret"), 400, `{"error":"invalid_grant","error_description":"<text>"}`, jsonHeaders},
		{"token/another refresh token", func(i *instance) *reply {
			return i.post("/v2/token", refresh("another"))
		}, 400, `{"error":"invalid_grant","error_description":"<text>"}`, jsonHeaders},
		{"token/used refresh token [A]", func(i *instance) *reply {
			_, token := i.plainTokens("web")
			i.post("/v2/token", refresh(token))
			return i.post("/v2/token", refresh(token))
		}, 400, `{"error":"invalid_grant","error_description":"<text>"}`, jsonHeaders},
		{"token/wrong password", func(i *instance) *reply {
			return i.post("/v2/token", password("password", "guess"))
		}, 400, `{"error":"invalid_grant","error_description":"the username or the password is wrong"}`, jsonHeaders},
		{"token/PUT", func(i *instance) *reply {
			return i.browser().do("PUT", "/v2/token", "")
		}, 400, `{"error":"invalid_request","error_description":"<text>"}`, []string{"Allow", "POST, GET"}},

		// Token info: the usual means of presenting a token.
		{"token info/token", func(i *instance) *reply {
			return i.get("/v2/token", "Authorization", "token "+access(i))
		}, 200, info, jsonHeaders},
		{"token info/query", func(i *instance) *reply { return i.get("/v2/token?access_token=" + access(i)) }, 200, info, nil},
		{"token info/Bearer [A]", func(i *instance) *reply {
			return i.get("/v2/token", "Authorization", "Bearer "+access(i))
		}, 200, info, nil},
		{"token info/with a JSON body", func(i *instance) *reply {
			return i.browser().do("GET", "/v2/token", `{"client_id":"web","client_secret":"web-secret","grant_type":"refresh_token","refresh_token":"x"}`,
				"Content-Type", "application/json", "Authorization", "token "+access(i))
		}, 200, info, nil},
		{"token info/none", func(i *instance) *reply { return i.get("/v2/token") }, 400, `{"error":"invalid_request","error_description":"this resource needs an access token: Authorization: token TOKEN"}`, jsonHeaders},
		{"token info/another", func(i *instance) *reply {
			return i.get("/v2/token", "Authorization", "token another")
		}, 400, `{"error":"invalid_token","error_description":"<text>"}`, jsonHeaders},
		{"token info/two", func(i *instance) *reply {
			token := access(i)
			return i.get("/v2/token?access_token="+token, "Authorization", "token "+token)
		}, 400, `{"error":"invalid_request","error_description":"<text>"}`, jsonHeaders},

		// The account. Blank fields are null, and not left out.
		{"account/token", func(i *instance) *reply {
			return i.get("/v2/account", "Authorization", "token "+access(i))
		}, 200, account(`"Alice"`, `"Liddell"`, `"alice@example.com"`), []string{"Content-Type", "application/json", "Access-Control-Allow-Origin", "*"}},
		{"account/blank fields", func(i *instance) *reply {
			r := i.post("/v2/token", password("username", "bob", "password", "builder"))
			token, _ := r.json["access_token"].(string)
			return i.get("/v2/account?access_token=" + token)
		}, 200, account(`"bob"`, `null`, `null`), nil},
		{"account/none", func(i *instance) *reply { return i.get("/v2/account") }, 403, `{"code":403,"message":"<text>"}`, []string{"WWW-Authenticate", ""}},
		{"account/another", func(i *instance) *reply {
			return i.get("/v2/account", "Authorization", "token another")
		}, 403, `{"code":403,"message":"<text>"}`, []string{"WWW-Authenticate", ""}},
	})

	for _, c := range []struct {
		name, decision, location string
		request                  url.Values
	}{
		{"code", "approve", "https://cb.example/cb?code=<hex64>&state=xyz", plain("web")},
		{"code, no state", "approve", "https://cb.example/cb?code=<hex64>", plain("web", "state", absent)},
		{"scope all", "approve", "https://cb.example/cb?code=<hex64>&state=xyz", plain("web", "scope", "all")},
		{"scope ALL [A]", "approve", "https://cb.example/cb?code=<hex64>&state=xyz", plain("web", "scope", "ALL")},
		{"scope all, registered as ALL", "approve", "https://cb.example/cb?code=<hex64>&state=xyz", plain("shouting", "scope", "all", "redirect_uri", "https://cb.example/cb")},
		{"no redirect_uri [A]", "approve", "https://cb.example/cb?code=<hex64>&state=xyz", plain("web", "redirect_uri", absent)},
		{"implicit", "approve", `https://legacy.example/cb?access_token=<hex64>&token_type=bearer&expires_in=3600&state=xyz`, plain("legacy", "response_type", "token")},
		{"denied", "deny", "https://cb.example/cb?error=access_denied&error_description=the+user+denied+the+request&state=xyz", plain("web")},
		{"implicit denied", "deny", "https://legacy.example/cb?error=access_denied&error_description=the+user+denied+the+request&state=xyz", plain("legacy", "response_type", "token")},
		{"another scope", "", "https://cb.example/cb?error=invalid_scope&error_description=the+scope+asks+for+something+that+this+server+does+not+have&state=xyz", plain("web", "scope", "some")},
	} {
		t.Run("authorize "+c.name, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).as("alice")
			r := b.authorize(c.request)
			if c.decision != "" {
				r = b.decide(r, c.decision)
			}
			r.wantLocation(c.location)
		})
	}
	t.Run("authorize/asks each time [A]", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		i.plainTokens("web")
		i.as("alice").authorize(plain("web")).wantConsent()
	})
	t.Run("token info/token is access_token", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		token := access(i)
		if r := i.get("/v2/token?access_token=" + token); r.json["token"] != token || r.json["access_token"] != token {
			t.Error(r.body)
		}
	})
	t.Run("what it does not have", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, path := range []string{"/oauth/revoke", "/oauth/introspect", "/.well-known/oauth-authorization-server", "/v2/revoke"} {
			if r := i.get(path); r.StatusCode != http.StatusNotFound {
				t.Errorf("%s: status %d", path, r.StatusCode)
			}
		}
	})
	t.Run("lifetimes", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "figshare")
		token, _ := i.plainTokens("web")
		form := plainExchange("web", i.plainCode("web"))
		i.advance(10*time.Minute + time.Second) // [A]
		i.post("/v2/token", form).wantAnswer(400, `{"error":"invalid_grant","error_description":"the code has expired"}`)
		if left, _ := i.get("/v2/token?access_token=" + token).json["expires_in"].(float64); left < 2990 || left > 2999 {
			t.Errorf("expires_in %v ten minutes after 3600", left)
		}
		i.advance(50 * time.Minute)
		i.get("/v2/token?access_token="+token).wantAnswer(400, `{"error":"invalid_token","error_description":"the access token has expired"}`, "WWW-Authenticate", "")
		i.get("/v2/account?access_token="+token).wantAnswer(403, `{"code":403,"message":"the access token has expired"}`)
	})
}
