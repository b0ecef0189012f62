package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The texts of Doorkeeper, which Mastodon and Sharesight are built on.
const (
	doorkeeperInvalidClient = "Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method."
	doorkeeperInvalidGrant  = "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client."
	doorkeeperInvalidScope  = "The requested scope is invalid, unknown, or malformed."
	doorkeeperGrantType     = "The authorization grant type is not supported by the authorization server."
	doorkeeperResponseType  = "The authorization server does not support this response type."
	doorkeeperRedirectURI   = "The requested redirect uri is malformed or doesn't match client redirect URI."
	doorkeeperDenied        = "error=access_denied&error_description=The+resource+owner+or+authorization+server+denied+the+request."
)

// doorkeeperError is a refusal of its token endpoint, with all its headers.
func doorkeeperError(name string, status int, code, description string, ask func(*instance) *reply) answerCase {
	return answerCase{name, ask, status, `{"error":"` + code + `","error_description":"` + description + `"}`, []string{
		"Content-Type", "application/json; charset=utf-8", "Cache-Control", "no-store", "Pragma", "no-cache",
		"WWW-Authenticate", `Bearer realm="Doorkeeper", error="` + code + `", error_description="` + description + `"`}}
}

// doorkeeperTokenErrors are those of the authorization code grant. A failed
// exchange does not spend the code: they all share one.
func doorkeeperTokenErrors(i *instance) []answerCase {
	form := func() url.Values { return plainExchange("web", "") }
	endpoint := i.endpoint("token")
	code := i.plainCode("web")
	withVerifier := i.code("web", "scope", "read")
	send := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			return i.post(endpoint, with(with(form(), "code", code), change...))
		}
	}
	missing := "Missing required parameter: "
	return []answerCase{
		doorkeeperError("token/unknown client", 401, "invalid_client", doorkeeperInvalidClient, send("client_id", "nobody")),
		doorkeeperError("token/wrong secret", 401, "invalid_client", doorkeeperInvalidClient, send("client_secret", "guess")),
		doorkeeperError("token/no client", 401, "invalid_client", doorkeeperInvalidClient, send("client_id", absent, "client_secret", absent)),
		doorkeeperError("token/confidential without secret", 401, "invalid_client", doorkeeperInvalidClient, send("client_secret", absent)),
		doorkeeperError("token/wrong Basic with the right body", 401, "invalid_client", doorkeeperInvalidClient, func(i *instance) *reply {
			return i.post(endpoint, with(form(), "code", code), "Authorization", "Basic d2ViOmd1ZXNz")
		}),
		doorkeeperError("token/another code", 400, "invalid_grant", doorkeeperInvalidGrant, send("code", "another")),
		doorkeeperError("token/another redirect_uri", 400, "invalid_grant", doorkeeperInvalidGrant, send("redirect_uri", "https://other.example/cb")),
		doorkeeperError("token/code of another client", 400, "invalid_grant", doorkeeperInvalidGrant, send("client_id", "other", "client_secret", "other-secret")),
		doorkeeperError("token/used code", 400, "invalid_grant", doorkeeperInvalidGrant, func(i *instance) *reply {
			form := with(form(), "code", i.plainCode("web"))
			i.post(endpoint, form)
			return i.post(endpoint, form)
		}),
		doorkeeperError("token/verifier without challenge", 400, "invalid_grant", doorkeeperInvalidGrant, send("code_verifier", verifier)),
		doorkeeperError("token/another verifier", 400, "invalid_grant", doorkeeperInvalidGrant, send("code", withVerifier, "code_verifier", strings.Repeat("x", 43))),
		doorkeeperError("token/no verifier", 400, "invalid_request", missing+"code_verifier.", send("code", withVerifier)),
		doorkeeperError("token/no grant_type", 400, "invalid_request", missing+"grant_type.", send("grant_type", absent)),
		doorkeeperError("token/no code", 400, "invalid_request", missing+"code.", send("code", absent)),
		doorkeeperError("token/no redirect_uri", 400, "invalid_request", missing+"redirect_uri.", send("redirect_uri", absent)),
		doorkeeperError("token/no body", 400, "invalid_request", missing+"grant_type.", func(i *instance) *reply {
			return i.browser().do("POST", endpoint, "")
		}),
		doorkeeperError("token/text", 400, "invalid_request", missing+"grant_type.", func(i *instance) *reply {
			return i.browser().do("POST", endpoint, with(form(), "code", code).Encode(), "Content-Type", "text/plain")
		}),
		doorkeeperError("token/malformed JSON [A]", 400, "invalid_request", missing+"grant_type.", func(i *instance) *reply {
			return i.browser().do("POST", endpoint, `{"grant_type":`, "Content-Type", "application/json")
		}),
		doorkeeperError("token/unknown grant_type", 400, "unsupported_grant_type", doorkeeperGrantType, send("grant_type", "magic")),
		doorkeeperError("token/implicit", 400, "unsupported_grant_type", doorkeeperGrantType, send("grant_type", "implicit")),
		doorkeeperError("token/password", 400, "unsupported_grant_type", doorkeeperGrantType, send("grant_type", "password", "username", "alice", "password", "wonderland")),
		// What is looked at first: grant_type, then the code's presence, then the client.
		doorkeeperError("token/order, grant_type before client", 400, "unsupported_grant_type", doorkeeperGrantType, send("grant_type", "magic", "client_id", "nobody")),
		doorkeeperError("token/order, code before client", 400, "invalid_request", missing+"code.", send("code", absent, "client_id", "nobody")),
		doorkeeperError("token/order, client before redirect_uri", 401, "invalid_client", doorkeeperInvalidClient, send("redirect_uri", "https://other.example/cb", "client_id", "nobody")),
	}
}

// doorkeeperRevocations are the answers of its revocation endpoint.
func doorkeeperRevocations(endpoint string) []answerCase {
	const refused = `{"error":"unauthorized_client","error_description":"You are not authorized to revoke this token"}`
	headers := []string{"Content-Type", "application/json; charset=utf-8", "WWW-Authenticate", ""}
	revoke := func(clientID string, change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			token, _ := i.plainTokens("web")
			return i.post(endpoint, with(withClient(clientID, url.Values{"token": {token}}), change...))
		}
	}
	return []answerCase{
		{"revoke/own", revoke("web"), 200, `{}`, nil},
		{"revoke/own, again", func(i *instance) *reply {
			token, _ := i.plainTokens("web")
			i.post(endpoint, withClient("web", url.Values{"token": {token}}))
			return i.post(endpoint, withClient("web", url.Values{"token": {token}}))
		}, 200, `{}`, nil},
		{"revoke/own, with the token as bearer", func(i *instance) *reply {
			token, _ := i.plainTokens("web")
			return i.postMultipart(endpoint, withClient("web", url.Values{"token": {token}}), "Authorization", "Bearer "+token)
		}, 200, `{}`, nil},
		{"revoke/unknown", revoke("web", "token", "another"), 200, `{}`, nil},
		{"revoke/of another client", revoke("other"), 403, refused, headers},
		{"revoke/no client", revoke("web", "client_id", absent, "client_secret", absent), 403, refused, headers},
		{"revoke/wrong secret", revoke("web", "client_secret", "guess"), 403, refused, headers},
		{"R198 revoke/no token, wrong secret", revoke("web", "token", absent, "client_secret", "guess"), 403, refused, headers},
	}
}

// testDoorkeeperStagedRevocation stages a refusal at the revocation endpoint,
// which has words of its own for it.
func testDoorkeeperStagedRevocation(t *testing.T, service string) {
	t.Run("revoke/a staged unauthorized_client", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, service)
		i.must(i.server.openControl())
		i.mustControl("POST", "faults", `{"endpoint":"revoke","error":"unauthorized_client"}`)
		i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {"any"}})).wantAnswer(403,
			`{"error":"unauthorized_client","error_description":"You are not authorized to revoke this token"}`, "WWW-Authenticate", "")
	})
}

// testDoorkeeperJSON wants the charset in the type of all JSON.
func testDoorkeeperJSON(t *testing.T, i *instance) {
	t.Run("R200 every JSON answer has a charset", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		token, _ := i.plainTokens("web")
		var replies []*reply
		for _, r := range i.server.profile.Resources {
			for _, at := range r.Paths {
				replies = append(replies, i.get(at), i.get(at, "Authorization", "Bearer "+token), i.get(at, "Authorization", "Bearer another"), i.browser().do("PUT", at, ""))
			}
		}
		for _, endpoint := range []string{"token", "revoke", "registration"} {
			if len(i.server.profile.paths(endpoint)) > 0 {
				replies = append(replies, i.post(i.endpoint(endpoint), nil), i.post(i.endpoint(endpoint), withClient("web", url.Values{"grant_type": {"client_credentials"}, "token": {token},
					"client_name": {"Web app"}, "redirect_uris": {"https://cb.example/cb"}})))
			}
		}
		staged := startProfile(t, i.server.profile.Name)
		staged.must(staged.server.openControl())
		for _, fault := range []string{`{"endpoint":"token","body":"{}"}`, `{"endpoint":"token","error":"invalid_grant"}`} {
			staged.mustControl("POST", "faults", fault)
			form := withClient("web", url.Values{"grant_type": {"client_credentials"}})
			replies = append(replies, staged.post(staged.endpoint("token"), form))
		}
		for _, r := range replies {
			if got := r.Header.Get("Content-Type"); got != "application/json; charset=utf-8" || r.json == nil {
				t.Errorf("%s %s: %q: %s", r.Request.Method, r.Request.URL, got, r.body)
			}
		}
	})
}

// testDoorkeeperAuthorize walks through the authorization endpoint. code is
// how its codes look.
func testDoorkeeperAuthorize(t *testing.T, i *instance, code string) {
	for _, c := range []struct {
		name, decision, location string
		request                  url.Values
	}{
		{"approve", "approve", "https://cb.example/cb?code=" + code + "&state=xyz", plain("web")},
		{"approve without state", "approve", "https://cb.example/cb?code=" + code, plain("web", "state", absent)},
		{"approve with an empty state", "approve", "https://cb.example/cb?code=" + code, plain("web", "state", "")},
		{"approve with PKCE", "approve", "https://cb.example/cb?code=" + code + "&state=xyz", plain("web", "code_challenge", challengeOf(verifier), "code_challenge_method", "S256")},
		{"approve out of band", "approve", i.server.profile.Endpoints["oob"][0] + "?code=" + code, plain("desktop", "redirect_uri", outOfBand)},
		{"deny", "deny", "https://cb.example/cb?" + doorkeeperDenied + "&state=xyz", plain("web")},
		{"deny, placeholders in state", "deny", "https://cb.example/cb?" + doorkeeperDenied + "&state=%24%7Berror%7D+%24%7Bstate%3F%7D", plain("web", "state", "${error} ${state?}")},
		{"deny without state", "deny", "https://cb.example/cb?" + doorkeeperDenied, plain("web", "state", absent)},
	} {
		t.Run("authorize "+c.name, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).as("bob")
			b.decide(b.authorize(c.request), c.decision).wantLocation(c.location)
		})
	}
	t.Run("authorize/deny out of band", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		b.decide(b.authorize(plain("desktop", "redirect_uri", outOfBand)), "deny").wantAnswer(400,
			`{"error":"access_denied","error_description":"The resource owner or authorization server denied the request.","state":"xyz"}`,
			"Content-Type", "application/json; charset=utf-8")
	})
	t.Run("authorize R32 deny out of band, placeholders in state", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		const state = "${description} ${state?} ${nothing}"
		if r := b.decide(b.authorize(plain("desktop", "redirect_uri", outOfBand, "state", state)), "deny"); r.json["state"] != state {
			t.Errorf("state is not %q: %s", state, r.body)
		}
	})
	// Whatever is wrong is told on a page, never in a redirect.
	for _, c := range []struct {
		name, code, description string
		status                  int
		request                 url.Values
	}{
		{"no client_id", "invalid_request", "Missing required parameter: client_id.", 400, plain("web", "client_id", absent)},
		{"no response_type", "invalid_request", "Missing required parameter: response_type.", 400, plain("web", "response_type", absent)},
		{"unknown client", "invalid_client", doorkeeperInvalidClient, 401, plain("web", "client_id", "nobody")},
		{"another redirect_uri", "invalid_request", doorkeeperRedirectURI, 400, plain("web", "redirect_uri", "https://cb.example/other")},
		{"no redirect_uri", "invalid_request", doorkeeperRedirectURI, 400, plain("desktop", "redirect_uri", absent)},
		{"localhost is no loopback IP", "invalid_request", doorkeeperRedirectURI, 400, plain("desktop", "redirect_uri", "http://localhost/cb")},
		{"response_type token", "unsupported_response_type", doorkeeperResponseType, 400, plain("web", "response_type", "token")},
		{"response_type magic", "unsupported_response_type", doorkeeperResponseType, 400, plain("web", "response_type", "magic")},
		{"bad scope", "invalid_scope", doorkeeperInvalidScope, 400, plain("web", "scope", "push")},
		{"code_challenge_method plain", "invalid_request", "The code_challenge_method must be S256.", 400, plain("web", "code_challenge", challengeOf(verifier), "code_challenge_method", "plain")},
	} {
		t.Run("authorize "+c.name, func(t *testing.T) {
			t.Parallel()
			i.in(t).as("alice").authorize(c.request).wantErrorPage(c.status, c.code, c.description)
		})
	}
	t.Run("authorize/another port of a loopback IP", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		b.decide(b.authorize(plain("desktop", "redirect_uri", "http://127.0.0.1:51234/cb")), "approve").wantLocation("http://127.0.0.1:51234/cb?code=" + code + "&state=xyz")
	})
	t.Run("authorize/asks once for the same scopes", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		b := i.as("alice")
		request := plain("repeated", "redirect_uri", "https://cb.example/cb", "scope", "read")
		form := plainExchange("repeated", b.approve(request).param("code"), "redirect_uri", "https://cb.example/cb")
		b.authorize(request).wantConsent() // the code is no token yet
		answer := i.post(i.endpoint("token"), form).json
		token, ok := answer["refresh_token"].(string)
		if !ok {
			token, _ = answer["access_token"].(string)
		}
		b.authorize(request).wantLocation("https://cb.example/cb?code=" + code + "&state=xyz")
		b.authorize(with(request, "scope", "read write")).wantConsent()
		i.post(i.endpoint("revoke"), withClient("repeated", url.Values{"token": {token}}))
		b.authorize(with(request, "scope", "read")).wantConsent()
	})
}

// doorkeeperFixtures are clients that the tests of both services need.
const doorkeeperFixtures = `{"clients": [
	{"client_id": "desktop", "client_secret": "desktop-secret", "redirect_uris": ["urn:ietf:wg:oauth:2.0:oob", "http://127.0.0.1/cb"], "scope": "read write"},
	{"client_id": "repeated", "client_secret": "repeated-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read write"}]}`

// TestMastodon walks through what is known of Mastodon's OAuth endpoints.
func TestMastodon(t *testing.T) {
	t.Parallel()
	i := startProfile(t, "mastodon")
	i.furnish(doorkeeperFixtures)
	i.furnish(`{"clients": [{"client_id": "everything", "client_secret": "everything-secret", "redirect_uris": ["https://cb.example/cb"]},
		{"client_id": "writer", "client_secret": "writer-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "write follow"}]}`)
	tokenAnswer := func(scope string) string {
		return `{"access_token":"<base64url43>","token_type":"Bearer","scope":"` + scope + `","created_at":<number>}`
	}
	tokenHeaders := []string{"Content-Type", "application/json; charset=utf-8", "Cache-Control", "no-store", "Pragma", "no-cache"}
	exchange := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			return i.post("/oauth/token", plainExchange("web", i.plainCode("web"), change...))
		}
	}
	credentials := func(change ...string) url.Values {
		return with(withClient("web", url.Values{"grant_type": {"client_credentials"}}), change...)
	}
	appToken := func(i *instance, change ...string) string {
		token, _ := i.post("/oauth/token", credentials(change...)).json["access_token"].(string)
		return token
	}
	userToken := func(i *instance, change ...string) string { token, _ := i.plainTokens("web", change...); return token }

	testAnswers(t, i, doorkeeperTokenErrors(i))
	testAnswers(t, i, doorkeeperRevocations("/oauth/revoke"))
	testAnswers(t, i, []answerCase{{"revoke/no token", func(i *instance) *reply { return i.post("/oauth/revoke", withClient("web", url.Values{})) }, 403,
		`{"error":"unauthorized_client","error_description":"You are not authorized to revoke this token"}`, []string{"WWW-Authenticate", ""}}})
	testDoorkeeperAuthorize(t, i, "<base64url43>")
	testDoorkeeperStagedRevocation(t, "mastodon")
	testDoorkeeperJSON(t, i)
	testAnswers(t, i, []answerCase{
		{"token/code, form", exchange(), 200, tokenAnswer("read"), tokenHeaders},
		{"token/code, JSON", func(i *instance) *reply {
			return i.postJSON("/oauth/token", plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer("read"), tokenHeaders},
		{"token/code, multipart", func(i *instance) *reply {
			return i.postMultipart("/oauth/token", plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer("read"), tokenHeaders},
		{"token/code, Basic", func(i *instance) *reply {
			form, name, value := withBasic(plainExchange("web", i.plainCode("web")))
			return i.post("/oauth/token", form, name, value)
		}, 200, tokenAnswer("read"), tokenHeaders},
		{"token/code, with a bearer header", func(i *instance) *reply {
			return i.post("/oauth/token", plainExchange("web", i.plainCode("web")), "Authorization", "Bearer another")
		}, 200, tokenAnswer("read"), tokenHeaders},
		{"token/code, scope does nothing", exchange("scope", "admin:write nonsense"), 200, tokenAnswer("read"), nil},
		{"token/code, its scopes", func(i *instance) *reply {
			return i.post("/oauth/token", plainExchange("everything", i.plainCode("everything", "redirect_uri", "https://cb.example/cb", "scope", "read write follow push"), "redirect_uri", "https://cb.example/cb"))
		}, 200, tokenAnswer("read write follow push"), nil},
		{"token/client credentials", func(i *instance) *reply { return i.post("/oauth/token", credentials()) }, 200, tokenAnswer("read"), tokenHeaders},
		{"token/client credentials, subset", func(i *instance) *reply {
			return i.post("/oauth/token", credentials("scope", "write"))
		}, 200, tokenAnswer("write"), nil},
		doorkeeperError("token/client credentials, beyond the app's scopes", 400, "invalid_scope", doorkeeperInvalidScope, func(i *instance) *reply {
			return i.post("/oauth/token", credentials("scope", "read push"))
		}),
		doorkeeperError("token/client credentials, nothing of the default scope", 400, "invalid_scope", doorkeeperInvalidScope, func(i *instance) *reply {
			return i.post("/oauth/token", withClient("writer", url.Values{"grant_type": {"client_credentials"}}))
		}),
		doorkeeperError("token/client credentials, read:accounts is not in read [A]", 400, "invalid_scope", doorkeeperInvalidScope, func(i *instance) *reply {
			return i.post("/oauth/token", credentials("scope", "read:accounts"))
		}),
		doorkeeperError("token/refresh_token", 400, "unsupported_grant_type", doorkeeperGrantType, func(i *instance) *reply {
			return i.post("/oauth/token", credentials("grant_type", "refresh_token", "refresh_token", "any"))
		}),
	})

	// The token of the app, and that of the user.
	const application = `{"id":"<number>","name":"Web app","website":"https://cb.example/","scopes":["read","write"],"redirect_uri":"https://cb.example/cb","redirect_uris":["https://cb.example/cb"],"vapid_key":""}`
	account := func(username, name string) string {
		return `{"id":"<number>","username":"` + username + `","acct":"` + username + `","display_name":"` + name + `","locked":false,"bot":false,"created_at":"1970-01-01T00:00:00.000Z","note":"",` +
			`"url":"` + i.URL + `/@` + username + `","avatar":"<text>","avatar_static":"<text>","header":"<text>","header_static":"<text>",` +
			`"followers_count":0,"following_count":0,"statuses_count":0,"last_status_at":null,"emojis":[],"fields":[],` +
			`"source":{"privacy":"public","sensitive":false,"language":null,"note":"","fields":[],"follow_requests_count":0}}`
	}
	const accountPath, appPath = "/api/v1/accounts/verify_credentials", "/api/v1/apps/verify_credentials"
	refused := func(name string, status int, description string, ask func(*instance) *reply) answerCase {
		return answerCase{name, ask, status, `{"error":"` + description + `"}`, []string{"WWW-Authenticate", `Bearer realm="Doorkeeper", error="invalid_token", error_description="` + description + `"`}}
	}
	outside := func(name string, ask func(*instance) *reply) answerCase {
		return answerCase{name, ask, 403, `{"error":"This action is outside the authorized scopes"}`, []string{"WWW-Authenticate", "", "Content-Type", "application/json; charset=utf-8"}}
	}
	bearer := func(path string, token func(*instance) string) func(*instance) *reply {
		return func(i *instance) *reply { return i.get(path, "Authorization", "Bearer "+token(i)) }
	}
	twice := func(name string, ask func(i *instance, token string) *reply) answerCase {
		const description = "the request carries more than one access token, or one in two ways"
		return refused(name, 400, description, func(i *instance) *reply { return ask(i, userToken(i)) })
	}
	revoked := func(i *instance) string {
		token := userToken(i)
		i.post("/oauth/revoke", withClient("web", url.Values{"token": {token}}))
		return token
	}
	writeOnly := func(i *instance) string { return userToken(i, "scope", "write") }
	another := func(*instance) string { return "another" }
	testAnswers(t, i, []answerCase{
		{"accounts/user", bearer(accountPath, func(i *instance) string { return userToken(i) }), 200, account("alice", "Alice Liddell"), nil},
		{"accounts/scheme without case", func(i *instance) *reply { return i.get(accountPath, "Authorization", "bearer "+userToken(i)) }, 200, account("alice", "Alice Liddell"), nil},
		{"accounts/access_token", func(i *instance) *reply { return i.get(accountPath + "?access_token=" + userToken(i)) }, 200, account("alice", "Alice Liddell"), nil},
		{"accounts/bearer_token", func(i *instance) *reply { return i.get(accountPath + "?bearer_token=" + userToken(i)) }, 200, account("alice", "Alice Liddell"), nil},
		{"accounts/app", bearer(accountPath, func(i *instance) string { return appToken(i) }), 422, `{"error":"This method requires an authenticated user"}`, []string{"WWW-Authenticate", ""}},
		twice("accounts R140 two parameters", func(i *instance, token string) *reply {
			return i.get(accountPath + "?access_token=" + token + "&bearer_token=" + token)
		}),
		twice("accounts R140 bearer_token twice", func(i *instance, token string) *reply {
			return i.get(accountPath + "?bearer_token=" + token + "&bearer_token=" + token)
		}),
		twice("accounts R140 header and bearer_token", func(i *instance, token string) *reply {
			return i.get(accountPath+"?bearer_token="+token, "Authorization", "Bearer "+token)
		}),
		twice("accounts R140 bearer_token and body", func(i *instance, token string) *reply {
			return i.browser().do("GET", accountPath+"?bearer_token="+token, "access_token="+token)
		}),
		refused("accounts/none", 401, "The access token is invalid", func(i *instance) *reply { return i.get(accountPath) }),
		refused("accounts/another", 401, "The access token is invalid", bearer(accountPath, another)),
		refused("accounts/revoked", 401, "The access token was revoked", bearer(accountPath, revoked)),
		outside("R200 accounts, without the scope", bearer(accountPath, writeOnly)),
		{"apps/app", bearer(appPath, func(i *instance) string { return appToken(i) }), 200, application, nil},
		{"apps/user", bearer(appPath, func(i *instance) string { return userToken(i) }), 200, application, nil},
		refused("apps/none", 401, "The access token is invalid", func(i *instance) *reply { return i.get(appPath) }),
		refused("apps/another", 401, "The access token is invalid", bearer(appPath, another)),
		refused("apps/revoked", 401, "The access token was revoked", bearer(appPath, revoked)),
		outside("R200 apps, without the scope", bearer(appPath, writeOnly)),
		{"nodeinfo, where it is", func(i *instance) *reply { return i.get("/.well-known/nodeinfo") }, 200,
			`{"links":[{"rel":"http://nodeinfo.diaspora.software/ns/schema/2.0","href":"` + i.URL + `/nodeinfo/2.0"}]}`, nil},
		{"nodeinfo", func(i *instance) *reply { return i.get("/nodeinfo/2.0") }, 200,
			`{"version":"2.0","software":{"name":"mastodon","version":"3.4.1"},"protocols":["activitypub"],"services":{"outbound":[],"inbound":[]},` +
				`"usage":{"users":{"total":0,"activeMonth":0,"activeHalfyear":0},"localPosts":0},"openRegistrations":false,"metadata":{}}`, nil},
		{"instance, version 2", func(i *instance) *reply { return i.get("/api/v2/instance") }, 200, `{"domain":"` + strings.TrimPrefix(i.URL, "http://") + `","title":"Mastodon","version":"3.4.1",` +
			`"source_url":"https://github.com/mastodon/mastodon","description":"","usage":{"users":{"active_month":0}},"thumbnail":{"url":"` + i.URL + `/packs/media/images/preview.png"},"languages":["en"],` +
			`"configuration":{"urls":{"streaming":"wss://` + strings.TrimPrefix(i.URL, "http://") + `"},"accounts":{"max_featured_tags":10},"statuses":{"max_characters":500,"max_media_attachments":4,"characters_reserved_per_url":23},` +
			`"media_attachments":{"supported_mime_types":[]},"polls":{"max_options":4,"max_characters_per_option":50,"min_expiration":300,"max_expiration":2629746},"translation":{"enabled":false}},` +
			`"registrations":{"enabled":false,"approval_required":false,"message":null},"contact":{"email":"","account":null},"rules":[]}`, nil},
		{"instance", func(i *instance) *reply { return i.get("/api/v1/instance") }, 200, `{"uri":"` + strings.TrimPrefix(i.URL, "http://") + `","title":"Mastodon","short_description":"","description":"","email":"","version":"3.4.1",` +
			`"urls":{"streaming_api":"wss://` + strings.TrimPrefix(i.URL, "http://") + `"},"stats":{"user_count":0,"status_count":0,"domain_count":0},"thumbnail":null,"languages":["en"],"registrations":false,"approval_required":false,"invites_enabled":false,` +
			`"configuration":{"statuses":{"max_characters":500,"max_media_attachments":4,"characters_reserved_per_url":23}},"contact_account":null,"rules":[]}`, nil},
	})

	app := func(change ...string) url.Values {
		return with(url.Values{"client_name": {"Test"}, "redirect_uris": {"https://a.example/cb"}, "scopes": {"read write"}, "website": {"https://a.example"}}, change...)
	}
	registered := func(website, scopes, redirectURI, redirectURIs string) string {
		return `{"id":"<number>","name":"Test","website":` + website + `,"scopes":` + scopes + `,"redirect_uri":"` + redirectURI + `","redirect_uris":` + redirectURIs +
			`,"client_id":"<base64url43>","client_secret":"<base64url43>","client_secret_expires_at":0,"vapid_key":""}`
	}
	whole := registered(`"https://a.example"`, `["read","write"]`, "https://a.example/cb", `["https://a.example/cb"]`)
	register := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply { return i.post("/api/v1/apps", app(change...)) }
	}
	invalid := func(name, description string, change ...string) answerCase {
		return answerCase{"apps/register/" + name, register(change...), 422, `{"error":"Validation failed: ` + description + `"}`, []string{"Content-Type", "application/json; charset=utf-8", "WWW-Authenticate", ""}}
	}
	twoURIs := registered(`"https://a.example"`, `["read","write"]`, `https://a.example/cb\nhttps://b.example/cb`, `["https://a.example/cb","https://b.example/cb"]`)
	listed := func() url.Values { // as Rails reads lists
		form := app("redirect_uris", absent, "scopes", absent)
		form["redirect_uris[]"], form["scopes[]"] = []string{"https://a.example/cb", "https://b.example/cb"}, []string{"read", "write"}
		return form
	}
	again := func(name, value string) answerCase {
		return answerCase{"apps/register/" + name + " again", func(i *instance) *reply {
			form := app()
			form.Add(name, value)
			return i.post("/api/v1/apps", form)
		}, 422, `{"error":"Validation failed: ` + strings.TrimSuffix(name, "[]") + ` occurs more than once"}`, nil}
	}
	testAnswers(t, i, []answerCase{
		{"apps/register/form", register(), 200, whole, nil},
		{"apps/register/JSON", func(i *instance) *reply { return i.postJSON("/api/v1/apps", app()) }, 200, whole, nil},
		{"apps/register/multipart", func(i *instance) *reply { return i.postMultipart("/api/v1/apps", app()) }, 200, whole, nil},
		{"apps/register/the least", register("scopes", absent, "website", absent), 200, registered(`null`, `["read"]`, "https://a.example/cb", `["https://a.example/cb"]`), nil},
		{"apps/register/lines", register("redirect_uris", "https://a.example/cb\nurn:ietf:wg:oauth:2.0:oob"), 200,
			registered(`"https://a.example"`, `["read","write"]`, `https://a.example/cb\nurn:ietf:wg:oauth:2.0:oob`, `["https://a.example/cb","urn:ietf:wg:oauth:2.0:oob"]`), nil},
		{"apps/register/array", func(i *instance) *reply {
			return i.browser().do("POST", "/api/v1/apps", `{"client_name":"Test","website":"https://a.example","redirect_uris":["https://a.example/cb","https://b.example/cb"],"scopes":["read","write"]}`, "Content-Type", "application/json")
		}, 200, twoURIs, nil},
		{"apps/register/list, form [A]", func(i *instance) *reply { return i.post("/api/v1/apps", listed()) }, 200, twoURIs, nil},
		{"apps/register/list, multipart [A]", func(i *instance) *reply { return i.postMultipart("/api/v1/apps", listed()) }, 200, twoURIs, nil},
		again("client_name", "Test"),
		again("website", "https://a.example"),
		again("scopes", "follow"),
		again("redirect_uris", "https://b.example/cb"),
		again("redirect_uris[]", "https://b.example/cb"),
		{"apps/register/JSON member again", func(i *instance) *reply {
			return i.browser().do("POST", "/api/v1/apps", `{"client_name":"Test","client_name":"Test","redirect_uris":"https://a.example/cb"}`, "Content-Type", "application/json")
		}, 422, `{"error":"Validation failed: client_name occurs more than once"}`, nil},
		{"apps/register/malformed JSON", func(i *instance) *reply {
			return i.browser().do("POST", "/api/v1/apps", `{"client_name":`, "Content-Type", "application/json")
		}, 400, `{"error":"the body is not well-formed application/json"}`, nil},
		{"apps/register/blank redirect URI", register("redirect_uris", " \n "), 422, `{"error":"Validation failed: Redirect URI can't be blank"}`, nil},
		{"apps/register/blank name", register("client_name", " "), 422, `{"error":"Validation failed: Application name can't be blank"}`, nil},
		{"apps/register/invisible name", register("client_name", "\u200b"), 422, `{"error":"Validation failed: <text>"}`, nil},
		{"apps/register/GET [A]", func(i *instance) *reply { return i.get("/api/v1/apps") }, 405, `{"error":"this endpoint takes POST only"}`, []string{"Allow", "POST"}},
		invalid("name of two lines", "client_name must be text of at most 255 characters", "client_name", "a\nb"),
		{"apps/register/scheme of an app", register("redirect_uris", "myapp://cb", "website", absent), 200, registered(`null`, `["read","write"]`, "myapp://cb", `["myapp://cb"]`), nil},
		invalid("relative", "Redirect URI must be an absolute URI.", "redirect_uris", "/cb"),
		invalid("fragment", "Redirect URI cannot contain a fragment.", "redirect_uris", "https://a.example/cb#x"),
		invalid("javascript as a host's scheme", "Redirect URI is forbidden by the server.", "redirect_uris", "javascript://cb.example/%0aalert(1)"),
		invalid("no scheme", "Redirect URI must specify a scheme.", "redirect_uris", "localhost:8080/cb"),
		invalid("javascript [A]", "Redirect URI must specify a scheme.", "redirect_uris", "javascript:alert(1)"),
		invalid("scope", "Scopes doesn't match configured on the server.", "scopes", "everything"),
		invalid("R177 long scope", "Scopes doesn't match configured on the server.", "scopes", repeated("read", 101)),
		invalid("no name [A]", "Application name can't be blank", "client_name", absent),
		invalid("long name [A]", "Application name is too long (maximum is 60 characters)", "client_name", strings.Repeat("x", 61)),
		invalid("no redirect_uris [A]", "Redirect URI can't be blank", "redirect_uris", absent),
		invalid("long redirect_uris [A]", "Redirect URI is too long (maximum is 2000 characters)", "redirect_uris", "https://a.example/"+strings.Repeat("x", 1983)),
		invalid("long website [A]", "Website is too long (maximum is 2000 characters)", "website", "https://a.example/"+strings.Repeat("x", 1983)),
	})
	t.Run("apps/register, then use", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		r := i.postMultipart("/api/v1/apps", app())
		i.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}, "redirect_uri": {"https://a.example/cb"},
			"client_id": {r.json["client_id"].(string)}, "client_secret": {r.json["client_secret"].(string)}}).wantAnswer(200, tokenAnswer("read"))
	})
	t.Run("apps/register, by anybody", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon")
		for _, clientID := range []string{"other", "native", "native2", "legacy", "rs"} {
			i.must(i.server.store.deleteClient(clientID)) // they too could be an example
		}
		clientID, _ := i.post("/api/v1/apps", app()).json["client_id"].(string)
		if page := i.get("/"); clientID == "" || strings.Contains(page.body, clientID) || !strings.Contains(page.body, "Register one") {
			t.Errorf("the start page has the example %q: %s", clientID, page.body)
		}
		// R15: nor does it bounce a browser whose user has never heard of it.
		silent := plain(clientID, "redirect_uri", "https://a.example/cb", "prompt", "none")
		for _, b := range []*browser{i.browser(), i.as("bob")} {
			b.authorize(silent).wantPage(http.StatusBadRequest)
		}
	})
	t.Run("apps/register, too often", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon")
		i.must(i.server.openControl())
		for range registrationTries {
			i.post("/api/v1/apps", nil)
		}
		r := i.post("/api/v1/apps", app())
		r.wantAnswer(429, `{"error":"too many tries; try again in <number> seconds"}`, "WWW-Authenticate", "")
		if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 || wait > guessWindow {
			t.Errorf("Retry-After: %q", r.Header.Get("Retry-After"))
		}
		i.mustControl("POST", "reset", "")
		i.post("/api/v1/apps", app()).wantAnswer(200, whole)
	})
	t.Run("token/created_at is now", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		before := time.Now().Unix()
		created, _ := i.post("/oauth/token", credentials()).json["created_at"].(float64)
		if int64(created) < before || int64(created) > time.Now().Unix() {
			t.Errorf("created_at %v", created)
		}
	})
	t.Run("lifetimes", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon")
		token, form := userToken(i), plainExchange("web", i.plainCode("other"))
		i.advance(10*time.Minute + time.Second)
		i.post("/oauth/token", form).wantAnswer(400, `{"error":"invalid_grant","error_description":"`+doorkeeperInvalidGrant+`"}`)
		i.advance(50 * 365 * 24 * time.Hour)
		if r := i.get(accountPath, "Authorization", "Bearer "+token); r.StatusCode != 200 {
			t.Errorf("after 50 years: %d %s", r.StatusCode, r.body)
		}
	})

	authorize := func(b *browser, change ...string) *reply { return b.authorize(plain("web", change...)) }
	t.Run("authorize/trailing slash", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		b.get("/oauth/authorize/?" + plain("web").Encode()).wantConsent()
	})
	t.Run("authorize/default scope", func(t *testing.T) {
		t.Parallel()
		page := authorize(i.in(t).as("bob"))
		if !strings.Contains(page.body, "<code>read</code>") || strings.Contains(page.body, "<code>write</code>") {
			t.Error(page.body)
		}
	})
	t.Run("authorize/force_login", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		userToken(i)
		b := i.as("alice")
		for _, value := range []string{"", "false", "0", "f", "F", "FALSE", "off", "OFF"} {
			authorize(b, "force_login", value, "lang", "de").wantLocation("https://cb.example/cb?code=<base64url43>&state=xyz")
		}
		for _, value := range []string{"true", "1", "t", "on", "False", "no"} {
			authorize(b, "force_login", value).wantConsent()
		}
	})
	t.Run("authorize/native", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		b := i.as("alice")
		answer := b.decide(b.authorize(plain("desktop", "redirect_uri", outOfBand)), "approve")
		page := b.get(answer.Header.Get("Location"))
		if page.StatusCode != http.StatusOK || page.text("code") != answer.param("code") || !regexp.MustCompile(`\A[A-Za-z0-9_-]{43}\z`).MatchString(page.text("code")) {
			t.Errorf("status %d: %s", page.StatusCode, page.body)
		}
		i.post("/oauth/token", plainExchange("desktop", page.text("code"), "redirect_uri", outOfBand)).wantAnswer(200, tokenAnswer("read"))
	})
	t.Run("what it does not have", func(t *testing.T) {
		t.Parallel()
		if r := i.in(t).get("/.well-known/oauth-authorization-server"); r.StatusCode != http.StatusNotFound {
			t.Errorf("metadata: status %d", r.StatusCode)
		}
	})
	t.Run("scopes", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		all := "read write follow push admin:read admin:write read:accounts read:blocks read:bookmarks read:favourites read:filters read:follows read:lists read:mutes read:notifications read:search read:statuses " +
			"write:accounts write:blocks write:bookmarks write:conversations write:favourites write:filters write:follows write:lists write:media write:mutes write:notifications write:reports write:statuses " +
			"admin:read:accounts admin:read:reports admin:write:accounts admin:write:reports profile"
		i.post("/oauth/token", withClient("everything", url.Values{"grant_type": {"client_credentials"}, "scope": {all}})).wantAnswer(200, tokenAnswer(all))
	})
}
