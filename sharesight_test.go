package main

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSharesightOwner: client credentials of a client without an owner act for
// the only user.
func TestSharesightOwner(t *testing.T) {
	t.Parallel()
	const web = `"clients": [{"client_id": "web", "client_secret": "web-secret"}]`
	const one, two = `{"users": [{"username": "carol", "password": "p"}],`, `{"users": [{"username": "carol", "password": "p"}, {"username": "dora", "password": "p"}],` + "\n"
	serve := func(t *testing.T, fixtures string, args ...string) *process {
		folder := t.TempDir()
		writeFile(t, folder, "fixtures.json", fixtures)
		return launch(t, folder, append([]string{"-db", memory, "-profile", "sharesight", "-fixtures", "fixtures.json"}, args...)...)
	}
	ask := func(p *process) *reply {
		return p.post("/oauth2/token", withClient("web", url.Values{"grant_type": {"client_credentials"}}))
	}
	actsFor := func(p *process) string {
		token, _ := ask(p).json["access_token"].(string)
		return p.get("/api/v2/my_user.json", "Authorization", "Bearer "+token).body
	}
	t.Run("R199 one user", func(t *testing.T) {
		t.Parallel()
		p := serve(t, one+web+"}", "-control")
		if who := actsFor(p); !strings.Contains(who, `"name":"carol"`) {
			t.Errorf("it acts for %s", who)
		}
		if p.stop(); strings.Contains(p.said(), "level=WARN") {
			t.Errorf("the log warns: %s", p.said())
		}
	})
	t.Run("R199 several users", func(t *testing.T) {
		t.Parallel()
		p := serve(t, two+web+"}")
		ask(p).wantError(http.StatusBadRequest, "unauthorized_client")
		p.stop()
		const want = `level=WARN msg="fixtures.json:2: clients[0].owner: is missing: client credentials act for a user, and there is not exactly one"`
		if strings.Count(p.said(), "level=WARN") != 1 || !strings.Contains(p.said(), want) {
			t.Errorf("the log has not %s: %s", want, p.said())
		}
	})
	t.Run("R199 several users, and clients that it is not about", func(t *testing.T) {
		t.Parallel()
		p := serve(t, two+`"clients": [{"client_id": "web", "client_secret": "web-secret", "owner": "dora"},
			{"client_id": "code", "client_secret": "s", "grant_types": ["authorization_code"]},
			{"client_id": "native", "token_endpoint_auth_method": "none"}]}`)
		if who := actsFor(p); !strings.Contains(who, `"name":"dora"`) {
			t.Errorf("it acts for %s", who)
		}
		if p.stop(); strings.Contains(p.said(), "level=WARN") {
			t.Errorf("the log warns: %s", p.said())
		}
	})
	t.Run("R199 the fixtures of the README", func(t *testing.T) {
		t.Parallel()
		p := serve(t, regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(readme(t))[1])
		if r := ask(p); r.StatusCode != http.StatusOK {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
}

// TestSharesight walks through what is known of Sharesight's OAuth endpoints.
// Its page says nothing of errors: they are those of Doorkeeper.
func TestSharesight(t *testing.T) {
	t.Parallel()
	i := startProfile(t, "sharesight")
	i.furnish(doorkeeperFixtures)
	i.furnish(`{"clients": [
		{"client_id": "personal", "client_secret": "personal-secret", "redirect_uris": ["urn:ietf:wg:oauth:2.0:oob"], "owner": "bob"},
		{"client_id": "native", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb"], "owner": "alice"}]}`)
	const tokenAnswer = `{"access_token":"<hex64>","token_type":"bearer","expires_in":1800,"refresh_token":"<hex64>","created_at":<number>}`
	const clientAnswer = `{"access_token":"<hex64>","token_type":"bearer","expires_in":1800,"created_at":<number>}`
	tokenHeaders := []string{"Content-Type", "application/json; charset=utf-8", "Cache-Control", "no-store", "Pragma", "no-cache"}
	refresh := func(token string, change ...string) url.Values {
		return with(withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}), change...)
	}
	refreshed := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			_, token := i.plainTokens("web")
			return i.post("/oauth2/token", refresh(token, change...))
		}
	}
	credentials := func(clientID string) url.Values {
		return withClient(clientID, url.Values{"grant_type": {"client_credentials"}})
	}

	testAnswers(t, i, doorkeeperTokenErrors(i))
	testAnswers(t, i, doorkeeperRevocations("/oauth2/revoke"))
	testAnswers(t, i, []answerCase{{"R198 revoke/no token", func(i *instance) *reply { return i.post("/oauth2/revoke", withClient("web", url.Values{})) }, 200,
		`{}`, []string{"Content-Type", "application/json; charset=utf-8", "WWW-Authenticate", ""}}})
	testDoorkeeperAuthorize(t, i, "<hex64>")
	testDoorkeeperStagedRevocation(t, "sharesight")
	testDoorkeeperJSON(t, i)
	testAnswers(t, i, []answerCase{
		{"token/code, multipart", func(i *instance) *reply {
			return i.postMultipart("/oauth2/token", plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer, tokenHeaders},
		{"token/code, form", func(i *instance) *reply {
			return i.post("/oauth2/token", plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer, tokenHeaders},
		{"token/code, JSON", func(i *instance) *reply {
			return i.postJSON("/oauth2/token", plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer, tokenHeaders},
		{"token/code, Basic", func(i *instance) *reply {
			form, name, value := withBasic(plainExchange("web", i.plainCode("web")))
			return i.post("/oauth2/token", form, name, value)
		}, 200, tokenAnswer, nil},
		{"token/code, any scope [A]", func(i *instance) *reply {
			return i.post("/oauth2/token", plainExchange("personal", i.plainCode("personal", "redirect_uri", outOfBand, "scope", "read_portfolios"), "redirect_uri", outOfBand))
		}, 200, tokenAnswer, nil},
		{"token/refresh, multipart", func(i *instance) *reply {
			_, token := i.plainTokens("web")
			return i.postMultipart("/oauth2/token", refresh(token))
		}, 200, tokenAnswer, tokenHeaders},
		{"token/refresh, form", refreshed(), 200, tokenAnswer, nil},
		{"token/client credentials, multipart", func(i *instance) *reply {
			return i.postMultipart("/oauth2/token", credentials("web"))
		}, 200, clientAnswer, tokenHeaders},
		{"token/client credentials, JSON with a redirect_uri", func(i *instance) *reply {
			return i.postJSON("/oauth2/token", with(credentials("web"), "redirect_uri", outOfBand))
		}, 200, clientAnswer, nil},
		// Applications that are not confidential need not send a secret, and
		// should not. Client credentials always take it.
		{"token/not confidential, code", func(i *instance) *reply {
			return i.post("/oauth2/token", exchangeOf("native", i.code("native")))
		}, 200, tokenAnswer, nil},
		{"token/not confidential, refresh", func(i *instance) *reply {
			_, token := i.tokens("native")
			return i.post("/oauth2/token", withClient("native", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}))
		}, 200, tokenAnswer, nil},
		doorkeeperError("token/not confidential, client credentials", 401, "invalid_client", doorkeeperInvalidClient, func(i *instance) *reply {
			return i.post("/oauth2/token", credentials("native"))
		}),
		doorkeeperError("token/not confidential, wrong secret", 401, "invalid_client", doorkeeperInvalidClient, func(i *instance) *reply {
			return i.post("/oauth2/token", with(exchangeOf("native", i.code("native")), "client_secret", "guess"))
		}),
		doorkeeperError("token/client credentials, no secret", 401, "invalid_client", doorkeeperInvalidClient, func(i *instance) *reply {
			return i.post("/oauth2/token", with(credentials("web"), "client_secret", absent))
		}),
		doorkeeperError("token/client credentials without an owner [A]", 400, "unauthorized_client", "The client is not authorized to perform this request using this method.", func(i *instance) *reply {
			return i.post("/oauth2/token", credentials("other"))
		}),
		doorkeeperError("token/another refresh token", 400, "invalid_grant", doorkeeperInvalidGrant, refreshed("refresh_token", "another")),
		doorkeeperError("token/refresh token of another client", 400, "invalid_grant", doorkeeperInvalidGrant, refreshed("client_id", "other", "client_secret", "other-secret")),
		doorkeeperError("token/refresh without client", 400, "invalid_grant", doorkeeperInvalidGrant, refreshed("client_id", absent, "client_secret", absent)),
		doorkeeperError("token/refresh with a wrong secret", 401, "invalid_client", doorkeeperInvalidClient, refreshed("client_secret", "guess")),
		doorkeeperError("token/no refresh_token", 400, "invalid_request", "Missing required parameter: refresh_token.", refreshed("refresh_token", absent)),
		doorkeeperError("token/used refresh token [A]", 400, "invalid_grant", doorkeeperInvalidGrant, func(i *instance) *reply {
			_, token := i.plainTokens("web")
			i.post("/oauth2/token", refresh(token))
			return i.post("/oauth2/token", refresh(token))
		}),
	})

	const infoPath, userPath = "/oauth2/token/info", "/api/v2/my_user.json"
	user := func(name, first, last, email string) string {
		return `{"user":{"id":<number>,"name":"` + name + `","first_name":` + first + `,"last_name":` + last + `,"email":` + email + `,"plan_code":null,"is_activated":true,` +
			`"is_free":false,"is_beta":false,"is_guest":false,"is_staff":false,"is_professional":false,"is_cancelled":false,"is_expired":false,"signed_up_at":null,"signup_via_your_integration":false}}`
	}
	alice := user("Alice Liddell", `"Alice"`, `"Liddell"`, `"alice@example.com"`)
	bearer := func(path string, token func(*instance) string) func(*instance) *reply {
		return func(i *instance) *reply { return i.get(path, "Authorization", "Bearer "+token(i)) }
	}
	access := func(i *instance) string { token, _ := i.plainTokens("web"); return token }
	revoked := func(i *instance) string {
		token := access(i)
		i.post("/oauth2/revoke", withClient("web", url.Values{"token": {token}}))
		return token
	}
	another := func(*instance) string { return "another" }
	own := func(clientID string) func(*instance) string {
		return func(i *instance) string {
			token, _ := i.post("/oauth2/token", credentials(clientID)).json["access_token"].(string)
			return token
		}
	}
	info := func(clientID, scope string) string {
		return `{"resource_owner_id":<number>,"scope":` + scope + `,"expires_in":<number>,"application":{"uid":"` + clientID + `"},"created_at":<number>}`
	}
	invalid := func(description string) string {
		return `{"error":"invalid_token","error_description":"` + description + `","state":"unauthorized"}`
	}
	testAnswers(t, i, []answerCase{
		{"token info", bearer(infoPath, access), 200, info("web", `["read","write"]`), nil},
		{"token info/by client credentials", bearer(infoPath, own("personal")), 200, info("personal", `[]`), nil},
		{"token info/none", func(i *instance) *reply { return i.get(infoPath) }, 401, invalid("The access token is invalid"), nil},
		{"token info/another", bearer(infoPath, another), 401, invalid("The access token is invalid"), nil},
		{"R198 token info/revoked", bearer(infoPath, revoked), 401, invalid("The access token is invalid"), nil},
		{"R198 token info/access_token", func(i *instance) *reply { return i.get(infoPath + "?access_token=" + access(i)) }, 200, info("web", `["read","write"]`), nil},
		{"R198 user/access_token", func(i *instance) *reply { return i.get(userPath + "?access_token=" + access(i)) }, 200, alice, nil},
		{"R198 portfolios/access_token", func(i *instance) *reply { return i.get("/api/v3/portfolios?access_token=" + access(i)) }, 200, `{"portfolios":[],"api_transaction":{"id":0,` +
			`"version":3,"action":"api/v3/portfolios/index","timestamp":null},"links":{"self":"` + i.URL + `/api/v3/portfolios"}}`, nil},
		{"user", bearer(userPath, access), 200, alice, nil},
		{"user/without .json", bearer("/api/v2/my_user", access), 200, alice, nil},
		{"user/client credentials stand for the owner", bearer(userPath, own("personal")), 200, user("bob", `"bob"`, "null", "null"), nil},
		{"user/none", func(i *instance) *reply { return i.get(userPath) }, 401, `{"error":"invalid_token","transaction_id":0,"reason":"The OAuth signature can't be verified."}`, nil},
		{"user/another", bearer(userPath, another), 401, `{"error":"invalid_token","transaction_id":0,"reason":"The OAuth signature can't be verified."}`, nil},
		{"user/revoked", bearer(userPath, revoked), 403, `{"error":"invalid_token","transaction_id":0,"reason":"The OAuth access token has been revoked."}`, nil},
		{"portfolios", bearer("/api/v3/portfolios", access), 200,
			`{"portfolios":[],"api_transaction":{"id":0,"version":3,"action":"api/v3/portfolios/index","timestamp":null},"links":{"self":"` + i.URL + `/api/v3/portfolios"}}`, nil},
	})

	t.Run("token/refreshing ends both old tokens at once [A]", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		access, token := i.plainTokens("web")
		fresh := i.post("/oauth2/token", refresh(token)).json
		if fresh["access_token"] == access || fresh["refresh_token"] == token {
			t.Errorf("an old token in %v", fresh)
		}
		i.get(userPath, "Authorization", "Bearer "+access).wantAnswer(403, `{"error":"invalid_token","transaction_id":0,"reason":"The OAuth access token has been revoked."}`)
	})
	t.Run("lifetimes", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "sharesight")
		access, token := i.plainTokens("web")
		form := plainExchange("web", i.plainCode("other"))
		i.advance(10*time.Minute + time.Second) // [A]
		i.post("/oauth2/token", form).wantAnswer(400, `{"error":"invalid_grant","error_description":"`+doorkeeperInvalidGrant+`"}`)
		if left, _ := i.get(infoPath, "Authorization", "Bearer "+access).json["expires_in"].(float64); left < 1190 || left > 1199 {
			t.Errorf("expires_in %v ten minutes after 1800", left)
		}
		i.advance(20 * time.Minute)
		i.get(userPath, "Authorization", "Bearer "+access).wantAnswer(401, `{"error":"invalid_token","transaction_id":0,"reason":"The OAuth signature can't be verified."}`)
		i.get(infoPath, "Authorization", "Bearer "+access).wantAnswer(401, invalid("The access token is invalid")) // R198
		i.post("/oauth2/token", refresh(token)).wantAnswer(200, tokenAnswer)                                       // an expired access token can still be refreshed
	})
	t.Run("authorize/prompt_login", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		page := b.authorize(plain("web", "prompt_login", "true"))
		if page.action() != "/login" {
			t.Fatalf("no sign-in: %s", page.body)
		}
		signedIn := b.post(page.action(), page.form(url.Values{"username": {"bob"}, "password": {"builder"}}))
		b.get(signedIn.location().String()).wantConsent()
	})
	t.Run("R198 token info of an expired token", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "sharesight")
		token := access(i)
		i.advance(30*time.Minute + time.Second)
		i.get(infoPath, "Authorization", "Bearer "+token).wantAnswer(401, invalid("The access token is invalid"))
		i.get(infoPath+"?access_token="+token).wantAnswer(401, invalid("The access token is invalid"))
	})
	t.Run("R199 a client without owner acts for the only user", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "sharesight")
		ask := func() *reply { return i.post("/oauth2/token", credentials("other")) }
		ask().wantAnswer(400, `{"error":"unauthorized_client","error_description":"The client is not authorized to perform this request using this method."}`) // alice's or bob's?
		i.must(i.server.store.deleteUser("bob"))
		ask().wantAnswer(200, clientAnswer)
		i.get(userPath, "Authorization", "Bearer "+own("other")(i)).wantAnswer(200, alice)
		for by, status := range map[registrar]int{operator: 200, aUser: 400} { // a user's client is left alone when its owner goes
			orphan := &client{metadata: metadata{ClientID: "orphan"}, SecretHash: hashSecret("orphan-secret"), RegisteredBy: by}
			i.must(i.server.store.register(nil, []*client{orphan}))
			if r := i.post("/oauth2/token", credentials("orphan")); r.StatusCode != status {
				t.Errorf("registered by %s: %d %s", by, r.StatusCode, r.body)
			}
		}
		i.must(i.server.store.deleteUser("alice"))
		ask().wantAnswer(400, `{"error":"unauthorized_client","error_description":"The client is not authorized to perform this request using this method."}`)
	})
	t.Run("R199 the examples' fixtures", func(t *testing.T) {
		t.Parallel()
		data, err := os.ReadFile("examples/fixtures.json")
		if err != nil {
			t.Fatal(err)
		}
		i := startProfile(t, "sharesight")
		i.must(i.server.store.reset(nil, nil))
		i.furnish(string(data))
		i.post("/oauth2/token", credentials("web")).wantAnswer(200, clientAnswer)
		i.get(userPath, "Authorization", "Bearer "+own("web")(i)).wantAnswer(200, user("alice", `"alice"`, "null", "null"))
	})
	t.Run("R64 client credentials for the owner are no consent", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		i.post("/oauth2/token", credentials("personal")).wantAnswer(200, clientAnswer)
		i.as("bob").authorize(plain("personal", "redirect_uri", outOfBand)).wantConsent()
	})
	t.Run("what it does not have", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, path := range []string{"/oauth/token", "/oauth2/introspect", "/.well-known/oauth-authorization-server"} {
			if r := i.get(path); r.StatusCode != http.StatusNotFound {
				t.Errorf("%s: status %d", path, r.StatusCode)
			}
		}
	})
}
