package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestTrackmania walks through what is known of Trackmania's OAuth endpoints.
// The texts are those of league/oauth2-server 8.5.5, which it seems to run.
func TestTrackmania(t *testing.T) {
	t.Parallel()
	i := startProfile(t, "trackmania")
	i.furnish(`{"clients": [{"client_id": "two", "client_secret": "two-secret", "redirect_uris": ["https://cb.example/cb", "https://cb.example/two"]}]}`)
	const (
		endpoint     = "/api/access_token"
		def50200     = "def50200<hex64>"
		tokenAnswer  = `{"token_type":"bearer","expires_in":3600,"access_token":"<jwt>","refresh_token":"` + def50200 + `"}`
		clientAnswer = `{"token_type":"bearer","expires_in":3600,"access_token":"<jwt>"}`
		invalid      = "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed."
		grantType    = "The authorization grant type is not supported by the authorization server."
		badScope     = "The requested scope is invalid, unknown, or malformed"
		denied       = "The resource owner or authorization server denied the request."
	)
	refusal := func(code, description, hint string) string {
		if hint != "" {
			hint = `"hint":"` + hint + `",`
		}
		return `{"error":"` + code + `","error_description":"` + description + `",` + hint + `"message":"` + description + `"}`
	}
	tokenHeaders := []string{"Content-Type", "application/json; charset=UTF-8", "Cache-Control", "no-store", "Pragma", "no-cache"}
	errorHeaders := []string{"Content-Type", "application/json", "WWW-Authenticate", ""}
	unauthenticated := refusal("invalid_client", "Client authentication failed", "")
	unsupported := refusal("unsupported_grant_type", grantType, "Check that all required parameters have been provided")
	send := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			return i.post(endpoint, plainExchange("web", i.plainCode("web"), change...))
		}
	}
	refresh := func(token string, change ...string) url.Values {
		return with(withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}), change...)
	}
	refreshed := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			_, token := i.plainTokens("web")
			return i.post(endpoint, refresh(token, change...))
		}
	}
	credentials := func(change ...string) url.Values {
		return with(withClient("web", url.Values{"grant_type": {"client_credentials"}}), change...)
	}
	register := func(i *instance, clientID, scope string) {
		i.furnish(`{"clients": [{"client_id": "` + clientID + `", "client_secret": "` + clientID + `-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "` + scope + `"}]}`)
	}
	// lessened is an exchange for more than its client is registered for by now.
	lessened := func(i *instance, clientID string) url.Values {
		register(i, clientID, "clubs read_favorite")
		code := i.plainCode(clientID, "redirect_uri", "https://cb.example/cb", "scope", "clubs read_favorite")
		register(i, clientID, "clubs")
		return plainExchange(clientID, code, "redirect_uri", "https://cb.example/cb")
	}
	access := func(i *instance) string { token, _ := i.plainTokens("web"); return token }
	user := func(token func(*instance) string) func(*instance) *reply {
		return func(i *instance) *reply { return i.get("/api/user", "Authorization", "Bearer "+token(i)) }
	}
	testAnswers(t, i, []answerCase{
		{"token/code", send(), 200, tokenAnswer, tokenHeaders},
		{"token/code, Basic", func(i *instance) *reply {
			form, name, value := withBasic(plainExchange("web", i.plainCode("web")))
			return i.post(endpoint, form, name, value)
		}, 200, tokenAnswer, tokenHeaders},
		{"token/code, multipart [A]", func(i *instance) *reply {
			return i.postMultipart(endpoint, plainExchange("web", i.plainCode("web")))
		}, 200, tokenAnswer, tokenHeaders},
		{"token/code with PKCE [A]", func(i *instance) *reply {
			return i.post(endpoint, exchangeOf("web", i.code("web", "scope", "clubs")))
		}, 200, tokenAnswer, nil},
		{"token/refresh", refreshed(), 200, tokenAnswer, tokenHeaders},
		{"token/client credentials", func(i *instance) *reply { return i.post(endpoint, credentials()) }, 200, clientAnswer, tokenHeaders},
		{"token/client credentials with scopes", func(i *instance) *reply {
			return i.post(endpoint, credentials("scope", "clubs read_favorite"))
		}, 200, clientAnswer, nil},

		{"token/no grant_type", send("grant_type", absent), 400, unsupported, errorHeaders},
		{"token/unknown grant_type", send("grant_type", "magic"), 400, unsupported, errorHeaders},
		{"token/implicit", send("grant_type", "implicit"), 400, unsupported, errorHeaders},
		{"token/password", send("grant_type", "password"), 400, unsupported, errorHeaders},
		{"token/no body", func(i *instance) *reply { return i.browser().do("POST", endpoint, "") }, 400, unsupported, errorHeaders},
		{"token/JSON [A]", func(i *instance) *reply { return i.postJSON(endpoint, plainExchange("web", "any")) }, 400, unsupported, errorHeaders},
		{"token/no client_id", send("client_id", absent, "client_secret", absent), 400, refusal("invalid_request", invalid, "Check the `client_id` parameter"), errorHeaders},
		{"token/unknown client", send("client_id", "nobody"), 401, unauthenticated, errorHeaders},
		{"token/wrong secret", send("client_secret", "guess"), 401, unauthenticated, errorHeaders},
		{"token/no secret", send("client_secret", absent), 401, unauthenticated, errorHeaders},
		{"token/wrong secret by Basic", func(i *instance) *reply {
			form, name, value := withBasic(plainExchange("web", "any", "client_secret", "guess"))
			return i.post(endpoint, form, name, value)
		}, 401, unauthenticated, []string{"Content-Type", "application/json", "WWW-Authenticate", `Basic realm="OAuth"`}},
		{"token/redirect_uri not registered", send("redirect_uri", "https://cb.example/other"), 401, unauthenticated, errorHeaders},
		{"token/no code", send("code", absent), 400, refusal("invalid_request", invalid, "Check the `code` parameter"), errorHeaders},
		{"token/garbage code", send("code", "garbage"), 400, refusal("invalid_request", invalid, "Cannot decrypt the authorization code"), errorHeaders},
		{"token/used code", func(i *instance) *reply {
			form := plainExchange("web", i.plainCode("web"))
			i.post(endpoint, form)
			return i.post(endpoint, form)
		}, 400, refusal("invalid_request", invalid, "Authorization code has been revoked"), errorHeaders},
		{"token/code of another client", send("client_id", "other", "client_secret", "other-secret"), 400, refusal("invalid_request", invalid, "Authorization code was not issued to this client"), errorHeaders},
		{"token/no redirect_uri", send("redirect_uri", absent), 400, refusal("invalid_request", invalid, "Check the `redirect_uri` parameter"), errorHeaders},
		{"token/redirect_uri differs", func(i *instance) *reply {
			return i.post(endpoint, plainExchange("two", i.plainCode("two", "redirect_uri", "https://cb.example/cb"), "redirect_uri", "https://cb.example/two"))
		}, 400, refusal("invalid_request", invalid, "Invalid redirect URI"), errorHeaders},
		{"token/wrong verifier [A]", func(i *instance) *reply {
			return i.post(endpoint, with(exchangeOf("web", i.code("web", "scope", "clubs")), "code_verifier", strings.Repeat("x", 43)))
		}, 400, refusal("invalid_grant", "Failed to verify `code_verifier`.", ""), errorHeaders},
		{"token/bad scope", func(i *instance) *reply {
			return i.post(endpoint, credentials("scope", "clubs everything"))
		}, 400, refusal("invalid_scope", badScope, "Check the `everything` scope"), errorHeaders},
		{"token/malformed scope", func(i *instance) *reply {
			return i.post(endpoint, credentials("scope", `clubs "`))
		}, 400, refusal("invalid_scope", badScope, ""), errorHeaders},
		{"token/refresh with too wide a scope", func(i *instance) *reply {
			_, token := i.plainTokens("web", "scope", "clubs")
			return i.post(endpoint, refresh(token, "scope", "clubs read_favorite write_favorite"))
		}, 400, refusal("invalid_scope", badScope, "Check the `read_favorite` scope"), errorHeaders},
		{"token/refresh with a malformed scope", refreshed("scope", `<b> "`), 400, refusal("invalid_scope", badScope, ""), errorHeaders},
		{"token/code of a scope that is no longer registered [A]", func(i *instance) *reply {
			return i.post(endpoint, lessened(i, "first"))
		}, 400, refusal("invalid_scope", badScope, "Check the `read_favorite` scope"), errorHeaders},
		{"token/refresh of a scope that is no longer registered [A]", func(i *instance) *reply {
			form := lessened(i, "second")
			register(i, "second", "clubs read_favorite")
			token, _ := i.post(endpoint, form).json["refresh_token"].(string)
			register(i, "second", "clubs")
			return i.post(endpoint, withClient("second", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}))
		}, 400, refusal("invalid_scope", badScope, "Check the `read_favorite` scope"), errorHeaders},
		{"token/no refresh_token", refreshed("refresh_token", absent), 400, refusal("invalid_request", invalid, "Check the `refresh_token` parameter"), errorHeaders},
		{"token/garbage refresh token", refreshed("refresh_token", "garbage"), 401, refusal("invalid_request", "The refresh token is invalid.", "Cannot decrypt the refresh token"), errorHeaders},
		{"token/refresh token of another client", refreshed("client_id", "other", "client_secret", "other-secret"), 401, refusal("invalid_request", "The refresh token is invalid.", "Token is not linked to client"), errorHeaders},
		{"token/used refresh token", func(i *instance) *reply {
			_, token := i.plainTokens("web")
			i.post(endpoint, refresh(token))
			return i.post(endpoint, refresh(token))
		}, 401, refusal("invalid_request", "The refresh token is invalid.", "Token has been revoked"), errorHeaders},

		{"user", user(access), 200, `{"accountId":"<uuid>","displayName":"Alice Liddell"}`, nil},
		{"user/none", func(i *instance) *reply { return i.get("/api/user") }, 401, refusal("access_denied", denied, `Missing \"Authorization\" header`), errorHeaders},
		{"user/another", user(func(*instance) string { return "another" }), 401, refusal("access_denied", denied, "Access token could not be verified"), errorHeaders},
		{"user/refreshed since", user(func(i *instance) string {
			access, token := i.plainTokens("web")
			i.post(endpoint, refresh(token))
			return access
		}), 401, refusal("access_denied", denied, "Access token has been revoked"), errorHeaders},
		{"user/client credentials", user(func(i *instance) string {
			token, _ := i.post(endpoint, credentials()).json["access_token"].(string)
			return token
		}), 401, refusal("access_denied", denied, "Access token could not be verified"), errorHeaders},

		// The authorization endpoint refuses as JSON where it cannot redirect.
		{"authorize/response_type token", func(i *instance) *reply {
			return i.as("bob").authorize(plain("web", "response_type", "token"))
		}, 400, unsupported, []string{"Location", ""}},
		{"authorize/no response_type", func(i *instance) *reply {
			return i.as("bob").authorize(plain("web", "response_type", absent))
		}, 400, unsupported, []string{"Location", ""}},
		{"authorize/no client_id", func(i *instance) *reply {
			return i.as("bob").authorize(plain("web", "client_id", absent))
		}, 400, unsupported, []string{"Location", ""}},
		{"authorize/unknown client", func(i *instance) *reply {
			return i.as("bob").authorize(plain("web", "client_id", "nobody"))
		}, 401, unauthenticated, []string{"Location", ""}},
		{"authorize/redirect_uri not registered", func(i *instance) *reply {
			return i.as("bob").authorize(plain("web", "redirect_uri", "https://cb.example/other"))
		}, 401, unauthenticated, []string{"Location", ""}},
	})

	// What redirects carry.
	text := func(description string) string { return strings.ReplaceAll(url.QueryEscape(description), "%60", "`") }
	for _, c := range []struct {
		name, decision, location string
		request                  url.Values
	}{
		{"approve", "approve", "https://cb.example/cb?code=" + def50200 + "&state=xyz", plain("web")},
		{"approve without state", "approve", "https://cb.example/cb?code=" + def50200, plain("web", "state", absent)},
		{"approve with scopes", "approve", "https://cb.example/cb?code=" + def50200 + "&state=xyz", plain("web", "scope", "clubs read_favorite write_favorite")},
		{"approve with an unknown parameter", "approve", "https://cb.example/cb?code=" + def50200 + "&state=xyz", plain("web", "display", "touch")},
		{"deny", "deny", "https://other.example/cb?state=xyz&error=access_denied&error_description=" + text(denied) + "&hint=The+user+denied+the+request&message=" + text(denied), plain("other")},
		{"bad scope", "", "https://cb.example/cb?error=invalid_scope&error_description=" + url.QueryEscape(badScope) + "&hint=" + url.QueryEscape("Check the `everything` scope") + "&message=" + url.QueryEscape(badScope), plain("web", "scope", "clubs everything")},
	} {
		t.Run("authorize "+c.name, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).as("bob")
			if c.decision == "deny" {
				b.decide(b.authorize(c.request), c.decision).wantLocation(c.location)
			} else {
				b.approve(c.request).wantLocation(c.location)
			}
		})
	}

	t.Run("token/claims", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		token, _ := i.plainTokens("web", "scope", "clubs")
		const pattern = `\A{"typ":"JWT","alg":"RS256"}\.{"aud":"web","jti":"[0-9a-f]{80}","iat":[0-9]+,"nbf":[0-9]+,"exp":[0-9]+,"sub":"[0-9a-f-]{36}","scopes":\["clubs"\]}\z`
		parts := strings.Split(token, ".")
		text := string(must(base64.RawURLEncoding.DecodeString(parts[0]))) + "." + string(must(base64.RawURLEncoding.DecodeString(parts[1])))
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("the token says %s, want %s", text, pattern)
		}
		own, _ := i.post(endpoint, credentials()).json["access_token"].(string)
		if _, claims := claimsOf(t, own); claims["sub"] != "" || len(claims["scopes"].([]any)) != 0 {
			t.Errorf("claims of the client's own token: %v", claims)
		}
		header, payload := claimsOf(t, token)
		if header["typ"] != "JWT" || header["alg"] != "RS256" {
			t.Errorf("header %v", header)
		}
		id := i.get("/api/user", "Authorization", "Bearer "+token).json["accountId"]
		scopes, _ := payload["scopes"].([]any)
		if payload["aud"] != "web" || payload["sub"] != id || len(scopes) != 1 || scopes[0] != "clubs" {
			t.Errorf("claims %v, account %v", payload, id)
		}
		if jti, _ := payload["jti"].(string); !regexp.MustCompile(`\A[0-9a-f]{80}\z`).MatchString(jti) {
			t.Errorf("jti %v", payload["jti"])
		}
		now := float64(time.Now().Unix())
		iat, _ := payload["iat"].(float64)
		nbf, _ := payload["nbf"].(float64)
		exp, _ := payload["exp"].(float64)
		if iat > now || iat < now-60 || nbf != iat || exp != iat+3600 {
			t.Errorf("iat %v, nbf %v, exp %v", iat, nbf, exp)
		}
	})
	t.Run("token/claims without scope", func(t *testing.T) {
		t.Parallel()
		token, _ := i.in(t).plainTokens("web")
		_, payload := claimsOf(t, token)
		if scopes, ok := payload["scopes"].([]any); !ok || len(scopes) != 0 {
			t.Errorf("claims %v", payload)
		}
	})
	t.Run("token/claims by client credentials", func(t *testing.T) {
		t.Parallel()
		token, _ := i.in(t).post(endpoint, credentials("scope", "clubs")).json["access_token"].(string)
		_, payload := claimsOf(t, token)
		if scopes, ok := payload["scopes"].([]any); payload["aud"] != "web" || payload["sub"] != "" || !ok || len(scopes) != 0 {
			t.Errorf("claims %v", payload) // the scopes have no effect
		}
	})
	t.Run("what it does not have", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, path := range []string{"/oauth/access_token", "/oauth/token", "/oauth/revoke", "/api/revoke", "/.well-known/oauth-authorization-server"} { // [A]
			if r := i.get(path); r.StatusCode != http.StatusNotFound {
				t.Errorf("%s: status %d", path, r.StatusCode)
			}
		}
	})
	t.Run("lifetimes", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "trackmania")
		access, token := i.plainTokens("web")
		form := plainExchange("web", i.plainCode("web"))
		i.advance(10*time.Minute + time.Second) // [A]
		i.post(endpoint, form).wantAnswer(400, refusal("invalid_request", invalid, "Authorization code has expired"), errorHeaders...)
		i.advance(50 * time.Minute)
		i.get("/api/user", "Authorization", "Bearer "+access).wantAnswer(401, refusal("access_denied", denied, "Access token could not be verified"), errorHeaders...)
		fresh := i.post(endpoint, refresh(token))
		fresh.wantAnswer(200, tokenAnswer)
		i.advance(31 * 24 * time.Hour)
		last, _ := fresh.json["refresh_token"].(string)
		i.post(endpoint, refresh(last)).wantAnswer(401, refusal("invalid_request", "The refresh token is invalid.", "Token has expired"), errorHeaders...)
	})
}

// TestSignedTokens is about JSON Web Tokens, for as long as they may live.
func TestSignedTokens(t *testing.T) {
	t.Parallel()

	t.Run("R201 tokens that never expire have no exp", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "trackmania", func(s *server) { s.profile.AccessTokenLifetime = 0 })
		r := i.post(i.endpoint("token"), plainExchange("web", i.plainCode("web")))
		if _, found := r.json["expires_in"]; found {
			t.Errorf("the answer has expires_in: %s", r.body)
		}
		token, _ := r.json["access_token"].(string)
		_, payload := claimsOf(t, token)
		if exp, found := payload["exp"]; found || payload["iat"] == nil {
			t.Errorf("exp %v in %v", exp, payload)
		}
		i.advance(50 * 365 * 24 * time.Hour)
		if r := i.get("/api/user", "Authorization", "Bearer "+token); r.StatusCode != http.StatusOK {
			t.Errorf("after 50 years: status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R201 nor have their descriptions", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.profile.AccessTokenLifetime = 0 })
		token, _ := i.ownToken("web").json["access_token"].(string)
		for name, r := range map[string]*reply{"introspection": i.introspect(token), "token info": i.get("/oauth/token/info", "Authorization", "Bearer "+token)} {
			if _, found := r.json["exp"]; found || r.json["client_id"] != "web" {
				t.Errorf("%s: %s", name, r.body)
			}
		}
	})
	t.Run("R201 the key that signs them outlives the process", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		writeFile(t, folder, "fixtures.json", strings.ReplaceAll(instanceFixtures, `, "scope": "read write"`, ""))
		run := func(db string) (token string, key *rsa.PublicKey) {
			p := launch(t, folder, "-db", db, "-profile", "trackmania", "-fixtures", "fixtures.json")
			token, _ = p.post("/api/access_token", withClient("web", url.Values{"grant_type": {"client_credentials"}})).json["access_token"].(string)
			p.stop()
			if db == memory {
				return token, nil
			}
			st, err := openStore(filepath.Join(folder, db))
			if err != nil {
				t.Fatal(err)
			}
			defer st.close()
			keys, err := st.signingKeys("RS256", false, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			return token, keys[0].signer.Public().(*rsa.PublicKey)
		}
		signed := func(token string, key *rsa.PublicKey) bool {
			signed, signature, _ := strings.Cut(token[strings.IndexByte(token, '.')+1:], ".")
			raw, err := base64.RawURLEncoding.DecodeString(signature)
			sum := sha256.Sum256([]byte(token[:strings.IndexByte(token, '.')+1] + signed))
			return err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw) == nil
		}
		first, key := run("grantling.db")
		second, again := run("grantling.db")
		if !key.Equal(again) || !signed(first, again) || !signed(second, key) {
			t.Errorf("one of %q and %q is not signed by the key of the other", first, second)
		}
		if token, _ := run(memory); token == "" || signed(token, key) {
			t.Errorf("in memory there is the key of a file, or no token: %q", token)
		}
	})
}

// claimsOf are the header and the claims of a JSON Web Token.
func claimsOf(t *testing.T, token string) (header, payload map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	for n, into := range []*map[string]any{&header, &payload} {
		data, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, payload
}
