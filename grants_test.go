package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// token sends a token request.
func (i *instance) token(form url.Values, header ...string) *reply {
	i.Helper()
	return i.post(i.endpoint("token"), form, header...)
}

func clientCredentialsOf(clientID string) url.Values {
	return withClient(clientID, url.Values{"grant_type": {"client_credentials"}})
}

func passwordOf(clientID, username, password string) url.Values {
	return withClient(clientID, url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}})
}

func refreshOf(clientID, token string) url.Values {
	return withClient(clientID, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// wantScope wants a token answer with this scope, in the answer and for the
// access token, and returns its tokens.
func (r *reply) wantScope(scope string) (access, refresh string) {
	r.i.Helper()
	access, refresh = r.wantToken()
	if got := r.json["scope"]; got != scope {
		r.i.Errorf("the answer has scope %v, want %q", got, scope)
	}
	if got := r.i.introspect(access).json["scope"]; got != scope {
		r.i.Errorf("the access token has scope %v, want %q", got, scope)
	}
	return access, refresh
}

// wantUseless wants access tokens that no resource takes and refresh tokens
// that their client cannot use.
func (i *instance) wantUseless(clientID string, access, refresh []string) {
	i.Helper()
	i.wantDead(access...)
	i.wantDead(refresh...)
	for _, token := range access {
		for _, resource := range []string{"userinfo", "tokeninfo"} {
			if r := i.get(i.endpoint(resource), "Authorization", "Bearer "+token); r.StatusCode != http.StatusUnauthorized {
				i.Errorf("%s of a dead token: status %d, %s", resource, r.StatusCode, r.body)
			}
		}
	}
	for _, token := range refresh {
		i.refresh(clientID, token).wantError(http.StatusBadRequest, "invalid_grant")
	}
}

func TestTokenRequest(t *testing.T) {
	t.Parallel()
	i := start(t)

	t.Run("3.2 R72 POST only", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("web")
		form := exchangeOf("web", code).Encode()
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"} {
			body := form
			if method == "TRACE" {
				body = "" // has none
			}
			r := i.browser().do(method, i.endpoint("token")+"?"+form, body)
			if r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "POST" {
				t.Errorf("%s: status %d, Allow %q", method, r.StatusCode, r.Header.Get("Allow"))
			}
			if method != "HEAD" {
				r.wantError(http.StatusMethodNotAllowed, "invalid_request")
			}
		}
		i.token(exchangeOf("web", code)).wantToken()
	})

	t.Run("3.2 R73 parameters in the URL", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("web")
		form := exchangeOf("web", code)
		const formType = "application/x-www-form-urlencoded"
		whole := i.browser().do("POST", i.endpoint("token")+"?"+form.Encode(), "", "Content-Type", formType)
		whole.wantError(http.StatusBadRequest, "invalid_request")
		credentials := url.Values{"client_id": {"web"}, "client_secret": {"web-secret"}}
		rest := with(form, "client_id", absent, "client_secret", absent)
		i.post(i.endpoint("token")+"?"+credentials.Encode(), rest).wantError(http.StatusUnauthorized, "invalid_client")
		secret := url.Values{"client_secret": {"web-secret"}}
		i.post(i.endpoint("token")+"?"+secret.Encode(), with(form, "client_secret", absent)).wantError(http.StatusUnauthorized, "invalid_client")
		i.post(i.endpoint("token")+"?code="+code, with(form, "code", absent)).wantError(http.StatusBadRequest, "invalid_request")
		for _, endpoint := range []string{"introspect", "revoke"} {
			i.post(i.endpoint(endpoint)+"?"+credentials.Encode(), url.Values{"token": {code}}).wantError(http.StatusUnauthorized, "invalid_client")
			i.post(i.endpoint(endpoint)+"?token="+code, with(credentials)).wantError(http.StatusBadRequest, "invalid_request")
		}
		// What the URL says is no duplicate of the body either.
		access, _ := i.post(i.endpoint("token")+"?"+url.Values{"code": {"x"}, "grant_type": {"password"}}.Encode(), form).wantToken()
		for _, secret := range []string{"web-secret", code, access, verifier} {
			if strings.Contains(i.log.String(), secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})

	t.Run("3.2 R74 media types", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		form := clientCredentialsOf("web")
		var parts bytes.Buffer
		w := multipart.NewWriter(&parts)
		for name := range form {
			if err := w.WriteField(name, form.Get(name)); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		for _, test := range []struct{ contentType, body string }{
			{"application/json", `{"grant_type":"client_credentials","client_id":"web","client_secret":"web-secret"}`},
			{w.FormDataContentType(), parts.String()},
			{"text/plain", form.Encode()},
			{"application/octet-stream", form.Encode()},
			{"application/x-www-form-urlencoded2", form.Encode()},
			{"application/x-www-form-urlencoded; charset", form.Encode()},
			{"", form.Encode()},
		} {
			r := i.browser().do("POST", i.endpoint("token"), test.body, "Content-Type", test.contentType)
			r.wantError(http.StatusUnsupportedMediaType, "invalid_request")
		}
		for _, contentType := range []string{
			"application/x-www-form-urlencoded",
			"application/x-www-form-urlencoded;charset=UTF-8",
			"application/x-www-form-urlencoded; charset=utf-8",
			"Application/X-WWW-Form-Urlencoded",
		} {
			i.browser().do("POST", i.endpoint("token"), form.Encode(), "Content-Type", contentType).wantToken()
		}
	})

	t.Run("3.2 R75 duplicates", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		_, refresh := i.tokens("web")
		for _, test := range []struct {
			form  url.Values
			twice []string
		}{
			{with(exchangeOf("web", i.code("web")), "scope", "read"),
				[]string{"grant_type", "code", "redirect_uri", "client_id", "client_secret", "code_verifier", "scope"}},
			{with(refreshOf("web", refresh), "scope", "read"),
				[]string{"grant_type", "refresh_token", "client_id", "client_secret", "scope"}},
			{passwordOf("legacy", "alice", "wonderland"),
				[]string{"grant_type", "username", "password", "client_id", "client_secret"}},
		} {
			for _, name := range test.twice {
				for _, second := range []string{test.form.Get(name), "x", ""} {
					form := with(test.form, name, test.form.Get(name), name, second)
					r := i.token(form)
					r.wantError(http.StatusBadRequest, "invalid_request")
					if r.json["access_token"] != nil || r.json["error_description"] != name+" occurs more than once" {
						t.Errorf("%s twice: %s", name, r.body)
					}
				}
			}
			// Also of a name that this grant does not know, but another one does.
			i.token(with(test.form, "state", "a", "state", "a")).wantError(http.StatusBadRequest, "invalid_request")
			i.token(test.form).wantToken() // nothing was spent
		}
	})

	t.Run("3.2 R76 unknown and empty parameters", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("web")
		form := exchangeOf("web", code)
		for _, name := range []string{"code", "grant_type"} {
			i.token(with(form, name, "")).wantError(http.StatusBadRequest, "invalid_request")
			i.token(with(form, name, absent)).wantError(http.StatusBadRequest, "invalid_request")
		}
		_, refresh := i.token(with(form, "foo", "bar", "Code", "x", "baz", "1", "baz", "2", "scope", "")).wantToken()
		i.refresh("web", "").wantError(http.StatusBadRequest, "invalid_request")
		i.refresh("web", refresh, "scope", "", "foo", "bar").wantScope("read write")
	})

	t.Run("3.2 R77 grant_type", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		form := clientCredentialsOf("legacy")
		i.token(with(form, "grant_type", absent)).wantError(http.StatusBadRequest, "invalid_request")
		for _, grantType := range []string{"Client_Credentials", "Authorization_Code", "ああ", "urn:x", "implicit", "client_credentials ",
			"urn:ietf:params:oauth:grant-type:token-exchange", "authorization_code refresh_token"} {
			i.token(with(form, "grant_type", grantType)).wantError(http.StatusBadRequest, "unsupported_grant_type")
		}
		i.token(form).wantToken()
	})

	t.Run("3.2 R77 grant that is switched off", func(t *testing.T) {
		t.Parallel()
		for name, form := range map[string]url.Values{
			"authorization_code": exchangeOf("legacy", newCredential().String()),
			"refresh_token":      refreshOf("legacy", newCredential().String()),
			"client_credentials": clientCredentialsOf("legacy"),
			"password":           passwordOf("legacy", "alice", "wonderland"),
		} {
			i := start(t, func(s *server) {
				s.profile.Grants = slices.DeleteFunc(s.profile.Grants, func(grantType string) bool { return grantType == name })
			})
			i.token(form).wantError(http.StatusBadRequest, "unsupported_grant_type")
		}
	})

	t.Run("3.2 R78 grant not registered", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		code := i.code("web")
		_, refresh := i.tokens("web")
		i.token(passwordOf("web", "alice", "wonderland")).wantError(http.StatusBadRequest, "unauthorized_client")
		i.token(clientCredentialsOf("rs")).wantError(http.StatusBadRequest, "unauthorized_client")
		web := `{"clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read write", "grant_types": [%s]}]}`
		i.furnish(strings.Replace(web, "%s", `"password"`, 1))
		for _, form := range []url.Values{exchangeOf("web", code), refreshOf("web", refresh), clientCredentialsOf("web")} {
			i.token(form).wantError(http.StatusBadRequest, "unauthorized_client")
		}
		if _, refresh := i.token(passwordOf("web", "alice", "wonderland")).wantToken(); refresh != "" {
			t.Error("a client that may not refresh got a refresh token")
		}
		i.furnish(strings.Replace(web, "%s", `"authorization_code", "refresh_token"`, 1))
		i.token(exchangeOf("web", code)).wantToken()
		i.token(refreshOf("web", refresh)).wantToken()
	})

	t.Run("3.2 R79 malformed", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("web")
		good := exchangeOf("web", code).Encode()
		legacy := withClient("legacy", url.Values{"grant_type": {"password"}, "password": {"wonderland"}}).Encode()
		long := strings.Repeat("a", 40<<10)
		for _, test := range []struct {
			body, authorization string
			code                string
		}{
			{body: good + "&x=%zz", code: "invalid_request"},
			{body: good + "&x=%", code: "invalid_request"},
			{body: good + "&a;b", code: "invalid_request"},
			{body: strings.ReplaceAll(good, "&", ";"), code: "invalid_request"},
			{body: strings.Replace(good, "code=", "code=%zz", 1), code: "invalid_request"},
			{body: strings.Replace(good, "code=", "code=%00", 1), code: "invalid_grant"},
			{body: strings.Replace(good, "code=", "code=%ff", 1), code: "invalid_grant"},
			{body: strings.Replace(good, "code=", "code[]=", 1), code: "invalid_request"},
			{body: strings.Replace(good, "client_id=", "client_id=%00", 1), code: "invalid_request"},
			{body: strings.Replace(good, "client_id=", "client_id[0]=", 1), code: "invalid_client"},
			{body: strings.Replace(good, "client_id=", "client_id="+long, 1), code: "invalid_client"},
			{body: strings.Replace(good, "client_secret=", "client_secret="+long, 1), code: "invalid_client"},
			{body: strings.Replace(good, "code=", "code="+long, 1), code: "invalid_grant"},
			{body: strings.Replace(good, "redirect_uri=", "redirect_uri="+long, 1), code: "invalid_grant"},
			{body: strings.Replace(good, "code_verifier=", "code_verifier="+long, 1), code: "invalid_grant"},
			{body: legacy + "&username=%00", code: "invalid_request"},
			{body: legacy + "&username=alice%00", code: "invalid_request"},
			{body: legacy + "&username=%ff", code: "invalid_request"},
			{body: legacy + "&username=a%0d%0ab", code: "invalid_request"},
			{body: legacy + "&username=" + long, code: "invalid_grant"},
			{body: strings.Replace(legacy, "password=", "password="+long, 1) + "&username=alice", code: "invalid_grant"},
			{body: strings.Replace(legacy, "password=wonderland", "password=wonderland%00", 1) + "&username=alice", code: "invalid_grant"},
			{body: withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {long}}).Encode(), code: "invalid_grant"},
			{body: clientCredentialsOf("web").Encode() + "&scope=" + long, code: "invalid_scope"},
			{body: clientCredentialsOf("web").Encode() + "&scope=read%00", code: "invalid_request"},
			{body: clientCredentialsOf("web").Encode() + "&scope=%ff", code: "invalid_request"},
			{body: "grant_type=client_credentials&client_id=", authorization: rawBasicHeader(":"), code: "invalid_client"},
			{body: "grant_type=client_credentials", authorization: rawBasicHeader("web:web-secret\x00"), code: "invalid_client"},
			{body: "grant_type=client_credentials", authorization: rawBasicHeader("\xff\xfe:x"), code: "invalid_client"},
			{body: "grant_type=client_credentials", authorization: rawBasicHeader(long[:30<<10] + ":x"), code: "invalid_client"},
			{body: "&&&", code: "invalid_request"},
			{body: "=", code: "invalid_request"},
		} {
			var header []string
			if test.authorization != "" {
				header = []string{"Authorization", test.authorization}
			}
			status := http.StatusBadRequest
			if test.code == "invalid_client" {
				status = http.StatusUnauthorized
			}
			i.browser().do("POST", i.endpoint("token"), test.body, header...).wantError(status, test.code)
		}
		i.token(with(exchangeOf("web", code), "scope[a]", "b", "code[]", "x")).wantScope("read write")
	})

	t.Run("3.2 R80 bodies", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		const formType = "application/x-www-form-urlencoded"
		form := clientCredentialsOf("web").Encode()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		send := func(body io.Reader) (*http.Response, []byte) {
			req, err := http.NewRequestWithContext(ctx, "POST", i.endpoint("token"), body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", formType)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			answer, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return res, answer
		}
		// Of unknown length, hence chunked.
		if res, answer := send(io.MultiReader(strings.NewReader(form))); res.StatusCode != http.StatusOK {
			t.Errorf("chunked: status %d, %s", res.StatusCode, answer)
		}
		// A body without end is answered all the same: the rest is not read.
		endless := &endless{prefix: strings.NewReader(form + "&x=")}
		if res, answer := send(endless); res.StatusCode != http.StatusRequestEntityTooLarge || !bytes.Contains(answer, []byte("invalid_request")) {
			t.Errorf("endless: status %d, %s", res.StatusCode, answer)
		}
		big := form + "&x=" + strings.Repeat("x", maxBody-len(form)-3)
		i.browser().do("POST", i.endpoint("token"), big).wantToken()
		i.browser().do("POST", i.endpoint("token"), big+"x").wantError(http.StatusRequestEntityTooLarge, "invalid_request")

		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		io.WriteString(z, form)
		z.Close()
		i.browser().do("POST", i.endpoint("token"), packed.String(), "Content-Encoding", "gzip").wantError(http.StatusUnsupportedMediaType, "invalid_request")
		i.browser().do("POST", i.endpoint("token"), form, "Content-Encoding", "deflate").wantError(http.StatusUnsupportedMediaType, "invalid_request")
	})

	t.Run("3.2 R81 every answer", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		form := clientCredentialsOf("web")
		wrong := with(form, "client_secret", "wrong")
		answers := []*reply{
			i.token(form),
			i.token(exchangeOf("web", i.code("web"))),
			i.token(with(form, "scope", "admin")),
			i.token(wrong),
			i.get(i.endpoint("token")),
			i.browser().do("POST", i.endpoint("token"), strings.Repeat("x", maxBody+1)),
			i.browser().do("POST", i.endpoint("token"), form.Encode(), "Content-Type", "text/plain"),
		}
		for range secretTries {
			answers = append(answers, i.token(wrong))
		}
		seen := make(map[int]bool)
		for _, r := range answers {
			seen[r.StatusCode] = true
			r.wantTokenHeaders()
			if r.json == nil {
				t.Errorf("status %d: no JSON: %s", r.StatusCode, r.body)
			}
			for name, value := range r.json {
				if value == nil || value == "" {
					t.Errorf("status %d: %s has no value: %s", r.StatusCode, name, r.body)
				}
			}
		}
		for _, status := range []int{200, 400, 401, 405, 413, 415, 429} {
			if !seen[status] {
				t.Errorf("no answer with status %d", status)
			}
		}
	})
}

// endless is a request body that does not end.
type endless struct{ prefix io.Reader }

func (e *endless) Read(p []byte) (int, error) {
	if n, err := e.prefix.Read(p); err == nil {
		return n, nil
	}
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}

func TestAuthorizationCodeGrant(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb", "https://cb.example/second"], "scope": "read write"},
	                        {"client_id": "twin", "client_secret": "twin-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read write"}]}`)

	as := func(clientID string) []string {
		if strings.HasPrefix(clientID, "native") {
			return []string{"client_id", clientID, "client_secret", absent}
		}
		return []string{"client_id", clientID, "client_secret", clientID + "-secret"}
	}
	withoutChallenge := []string{"code_challenge", absent, "code_challenge_method", absent}
	uri := func(s string) []string { return []string{"redirect_uri", s} }

	// Each row: one thing is wrong with the exchange of a code, it is refused,
	// and then the right exchange of the same code works.
	for _, test := range []struct {
		name   string
		client string   // to which the code is issued
		asked  []string // differs in the authorization request
		sent   []string // differs in the token request
		right  []string // and in the one that works
		code   string
	}{
		{name: "4.1.3 R93 code of another client", client: "web", sent: as("other"), code: "invalid_grant"},
		{name: "4.1.3 R93 code of another client, with its own redirect_uri", client: "web", sent: append(as("other"), uri("https://other.example/cb")...), code: "invalid_grant"},
		{name: "4.1.3 R93 code of another client with the same redirect_uri", client: "web", sent: as("twin"), code: "invalid_grant"},
		{name: "4.1.3 R93 code of a confidential client for a public one", client: "web", sent: as("native"), code: "invalid_grant"},
		{name: "4.1.3 R93 code of a confidential client for a second public one", client: "web", sent: as("native2"), code: "invalid_grant"},
		{name: "4.1.3 R93 code of a public client for another with the same redirect_uri", client: "native", sent: as("native2"), code: "invalid_grant"},
		{name: "4.1.3 R93 code of a public client for a confidential one", client: "native", sent: as("web"), code: "invalid_grant"},
		{name: "4.1.3 wrong secret", client: "web", sent: []string{"client_secret", "wrong"}, code: "invalid_client"},

		{name: "4.1.3 R94 another registered redirect_uri", client: "web", sent: uri("https://cb.example/second"), code: "invalid_grant"},
		{name: "4.1.3 R94 redirect_uri and a query", client: "web", sent: uri("https://cb.example/cb?x=1"), code: "invalid_grant"},
		{name: "4.1.3 R94 redirect_uri and a slash", client: "web", sent: uri("https://cb.example/cb/"), code: "invalid_grant"},
		{name: "4.1.3 R94 redirect_uri in other case", client: "web", sent: uri("https://CB.example/cb"), code: "invalid_grant"},
		{name: "4.1.3 R94 redirect_uri left out", client: "web", sent: uri(""), code: "invalid_grant"},
		{name: "4.1.3 R94 redirect_uri missing", client: "web", sent: []string{"redirect_uri", absent}, code: "invalid_grant"},
		{name: "4.1.3 R94 redirect_uri missing where only one is registered", client: "other", sent: []string{"redirect_uri", absent}, code: "invalid_grant"},
		{name: "4.1.3 R94 another loopback port", client: "native", asked: uri("http://127.0.0.1:4001/cb"), sent: uri("http://127.0.0.1:4002/cb"), right: uri("http://127.0.0.1:4001/cb"), code: "invalid_grant"},
		{name: "4.1.3 R94 loopback port left out", client: "native", asked: uri("http://127.0.0.1:4001/cb"), right: uri("http://127.0.0.1:4001/cb"), code: "invalid_grant"},
		{name: "4.1.3 R94 foreign redirect_uri, none in the authorization request", client: "other", asked: []string{"redirect_uri", absent}, sent: uri("https://evil.example/cb"), right: []string{"redirect_uri", absent}, code: "invalid_grant"},
		{name: "4.1.3 R94 another client's redirect_uri, none in the authorization request", client: "other", asked: []string{"redirect_uri", absent}, sent: uri("https://cb.example/cb"), right: uri("https://other.example/cb"), code: "invalid_grant"},

		{name: "4.1.3 R103 wrong code_verifier", client: "web", sent: []string{"code_verifier", strings.Repeat("a", 43)}, code: "invalid_grant"},
		{name: "4.1.3 R103 wrong code_verifier of a public client", client: "native", sent: []string{"code_verifier", strings.Repeat("a", 43)}, code: "invalid_grant"},
		{name: "4.1.3 R103 code_verifier in other case", client: "web", sent: []string{"code_verifier", strings.ToUpper(verifier)}, code: "invalid_grant"},
		{name: "4.1.3 R103 code_verifier and a character", client: "web", sent: []string{"code_verifier", verifier + "a"}, code: "invalid_grant"},
		{name: "4.1.3 R103 code_verifier cut", client: "web", sent: []string{"code_verifier", verifier[:42]}, code: "invalid_grant"},
		{name: "4.1.3 R103 code_verifier is the challenge", client: "web", sent: []string{"code_verifier", challengeOf(verifier)}, code: "invalid_grant"},
		{name: "4.1.3 R103 empty code_verifier", client: "web", sent: []string{"code_verifier", ""}, code: "invalid_grant"},
		{name: "4.1.3 R103 empty code_verifier of a public client", client: "native", sent: []string{"code_verifier", ""}, code: "invalid_grant"},
		{name: "4.1.3 R104 no code_verifier after a challenge", client: "web", sent: []string{"code_verifier", absent}, code: "invalid_grant"},
		{name: "4.1.3 R104 no code_verifier after a challenge of a public client", client: "native", sent: []string{"code_verifier", absent}, code: "invalid_grant"},
		{name: "4.1.3 R104 code_verifier without a challenge", client: "web", asked: withoutChallenge, right: []string{"code_verifier", absent}, code: "invalid_grant"},
		{name: "4.1.3 R105 code_challenge_method at the token endpoint", client: "web", sent: []string{"code_verifier", challengeOf(verifier), "code_challenge_method", "plain"}, code: "invalid_grant"},
		{name: "4.1.3 R105 code_challenge and its method at the token endpoint", client: "native",
			sent:  []string{"code_verifier", challengeOf(verifier), "code_challenge", challengeOf(verifier), "code_challenge_method", "plain"},
			right: []string{"code_challenge_method", "plain"}, code: "invalid_grant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			code := i.code(test.client, test.asked...)
			valid := exchangeOf(test.client, code)
			status := http.StatusBadRequest
			if test.code == "invalid_client" {
				status = http.StatusUnauthorized
			}
			i.token(with(valid, test.sent...)).wantError(status, test.code)
			i.token(with(valid, test.right...)).wantToken()
		})
	}

	t.Run("4.1.3 R95 second redemption", func(t *testing.T) {
		t.Parallel()
		for _, clientID := range []string{"web", "native"} {
			i := i.in(t)
			form := exchangeOf(clientID, i.code(clientID))
			i.token(form).wantToken()
			i.token(form).wantError(http.StatusBadRequest, "invalid_grant")
			i.token(form).wantError(http.StatusBadRequest, "invalid_grant")
		}
	})

	t.Run("4.1.3 R96 replay ends everything", func(t *testing.T) {
		t.Parallel()
		for name, between := range map[string]func(*instance){
			"at once":                  func(i *instance) {},
			"when the code is expired": func(i *instance) { i.advance(time.Duration(i.server.profile.CodeLifetime+1) * time.Second) },
			"when it has been swept": func(i *instance) {
				i.advance(time.Duration(i.server.profile.CodeLifetime+1) * time.Second)
				if _, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix())); err != nil {
					i.Fatal(err)
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				i := start(t)
				form := exchangeOf("web", i.code("web"))
				access1, refresh1 := i.token(form).wantToken()
				access2, refresh2 := i.refresh("web", refresh1).wantToken()
				bystander, bystanderRefresh := i.tokens("web")
				i.wantAlive(access1, access2, refresh2)
				between(i)
				i.wantAlive(access1, access2, refresh2)
				i.token(form).wantError(http.StatusBadRequest, "invalid_grant")
				i.wantUseless("web", []string{access1, access2}, []string{refresh2, refresh1})
				i.wantAlive(bystander, bystanderRefresh)
			})
		}
	})

	t.Run("4.1.3 R97 faulty replay ends nothing", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		form := exchangeOf("web", i.code("web"))
		access, refresh := i.token(form).wantToken()
		for _, change := range [][]string{
			{"code_verifier", strings.Repeat("a", 43)},
			{"code_verifier", absent},
			{"redirect_uri", "https://cb.example/second"},
			{"redirect_uri", absent},
			{"client_secret", "wrong"},
			{"client_secret", absent},
			as("other"),
			as("native"),
			{"grant_type", "refresh_token", "refresh_token", form.Get("code")},
			{"code", form.Get("code")[:42]},
		} {
			if r := i.token(with(form, change...)); r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusUnauthorized {
				t.Errorf("%v: status %d, %s", change, r.StatusCode, r.body)
			}
			i.wantAlive(access, refresh)
		}
		i.refresh("web", refresh).wantToken()
	})

	t.Run("4.1.3 R98 lifetime", func(t *testing.T) {
		t.Parallel()
		if i.server.profile.CodeLifetime > 600 {
			t.Errorf("codes live for %d seconds", i.server.profile.CodeLifetime)
		}
		i := start(t, func(s *server) { s.profile.CodeLifetime = 60 })
		early, late := exchangeOf("web", i.code("web")), exchangeOf("web", i.code("web"))
		i.advance(50 * time.Second)
		i.token(early).wantToken()
		i.advance(10 * time.Second)
		i.token(late).wantError(http.StatusBadRequest, "invalid_grant")
		i.advance(-30 * time.Second) // it is the server's clock that counts
		i.token(late).wantToken()
	})

	t.Run("4.1.3 R99 scope", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("web", "scope", "read")
		_, refresh := i.token(with(exchangeOf("web", code), "scope", "read write admin")).wantScope("read")
		i.refresh("web", refresh).wantScope("read")
	})

	t.Run("4.1.3 R100 not a code", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		access, refresh := i.tokens("web")
		code := i.code("web")
		last := "A"
		if strings.HasSuffix(code, last) {
			last = "Q"
		}
		for _, value := range []string{
			refresh, access, code + "A", code[:42], code[:42] + last, code[1:], strings.ToUpper(code), strings.ToLower(code),
			" " + code, code + " ", code + "=", code[:22] + newCredential().String()[22:], newCredential().String(), "x",
			base64.StdEncoding.EncodeToString([]byte(code)), code + code,
		} {
			if value == code {
				continue // in lower case already
			}
			i.token(exchangeOf("web", value)).wantError(http.StatusBadRequest, "invalid_grant")
		}
		i.token(exchangeOf("web", code)).wantToken()
		i.wantAlive(access, refresh)
	})

	// The checks of the authorization request that PKCE relies on.
	for _, test := range []struct {
		name    string
		clients []string
		change  []string
	}{
		{"4.1.3 R101 public client without PKCE", []string{"native"}, withoutChallenge},
		{"4.1.3 R101 public client with an empty challenge", []string{"native"}, []string{"code_challenge", "", "code_challenge_method", absent}},
		{"4.1.3 R102 challenge of 42 characters", []string{"native", "web"}, []string{"code_challenge", challengeOf(verifier)[:42]}},
		{"4.1.3 R102 challenge of 129 characters", []string{"native", "web"}, []string{"code_challenge", strings.Repeat("a", 129)}},
		{"4.1.3 R102 challenge with a plus", []string{"native", "web"}, []string{"code_challenge", "+" + challengeOf(verifier)[1:]}},
		{"4.1.3 R102 challenge with a slash", []string{"native", "web"}, []string{"code_challenge", "/" + challengeOf(verifier)[1:]}},
		{"4.1.3 R102 challenge with a blank", []string{"native", "web"}, []string{"code_challenge", " " + challengeOf(verifier)[1:]}},
		{"4.1.3 R102 challenge with padding", []string{"native", "web"}, []string{"code_challenge", challengeOf(verifier) + "="}},
		{"4.1.3 R102 method s256", []string{"native", "web"}, []string{"code_challenge_method", "s256"}},
		{"4.1.3 R102 method S512", []string{"native", "web"}, []string{"code_challenge_method", "S512"}},
		{"4.1.3 R102 method plain", []string{"native", "web"}, []string{"code_challenge_method", "plain"}},
		{"4.1.3 R102 method missing", []string{"native", "web"}, []string{"code_challenge_method", absent}},
		{"4.1.3 R102 method empty", []string{"native", "web"}, []string{"code_challenge_method", ""}},
		{"4.1.3 R102 method alone", []string{"native", "web"}, []string{"code_challenge", absent}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			for _, clientID := range test.clients {
				i.as("alice").authorize(authorization(clientID, test.change...)).wantRedirect("invalid_request", "xyz")
			}
		})
	}

	// Each verifier belongs to the challenge: what is wrong is its form.
	for _, test := range []struct {
		name, verifier string
		valid          bool
	}{
		{"42 characters", strings.Repeat("a", 42), false},
		{"43 characters", strings.Repeat("a", 43), true},
		{"128 characters", strings.Repeat("a", 128), true},
		{"129 characters", strings.Repeat("a", 129), false},
		{"all kinds of characters", "ABCXYZabcxyz0123456789-._~ABCXYZabcxyz0123456789-._~", true},
		{"plus", verifier[:42] + "+", false},
		{"blank", verifier[:42] + " ", false},
		{"padding", verifier + "=", false},
		{"umlaut", strings.Repeat("a", 43) + "ä", false},
		{"one character", "a", false},
	} {
		t.Run("4.1.3 R103 code_verifier: "+test.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			for _, clientID := range []string{"web", "native"} {
				code := i.code(clientID, "code_challenge", challengeOf(test.verifier))
				r := i.token(with(exchangeOf(clientID, code), "code_verifier", test.verifier))
				if test.valid {
					r.wantToken()
				} else {
					r.wantError(http.StatusBadRequest, "invalid_grant")
				}
			}
		})
	}

	t.Run("4.1.3 R103 RFC 7636 Appendix B", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("native", "code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
		i.token(with(exchangeOf("native", code), "code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")).wantToken()
	})

	t.Run("4.1.3 R104 without PKCE", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		code := i.code("web", withoutChallenge...)
		i.token(with(exchangeOf("web", code), "code_verifier", absent)).wantToken()
	})

	t.Run("4.1.3 R94 redirect_uri by default", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, sent := range [][]string{nil, []string{"redirect_uri", absent}, uri("")} {
			code := i.code("other", "redirect_uri", absent)
			i.token(with(exchangeOf("other", code), sent...)).wantToken()
		}
	})

	for name, withdraw := range map[string]func(*instance){
		"client deleted":        func(i *instance) { i.must(i.server.store.deleteClient("web")) },
		"client deleted, anew":  func(i *instance) { i.must(i.server.store.deleteClient("web")); i.furnish(instanceFixtures) },
		"user deleted":          func(i *instance) { i.must(i.server.store.deleteUser("alice")) },
		"user deleted and anew": func(i *instance) { i.must(i.server.store.deleteUser("alice")); i.furnish(instanceFixtures) },
		"consent withdrawn":     (*instance).withdrawConsent,
	} {
		t.Run("4.1.3 R106 "+name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			form := exchangeOf("web", i.code("web"))
			withdraw(i)
			if name == "client deleted" {
				i.token(form).wantError(http.StatusUnauthorized, "invalid_client")
			} else {
				i.token(form).wantError(http.StatusBadRequest, "invalid_grant")
			}
		})
	}
}

func (i *instance) must(err error) {
	i.Helper()
	if err != nil {
		i.Fatal(err)
	}
}

// withdrawConsent ends all that alice granted to web.
func (i *instance) withdrawConsent() {
	i.Helper()
	alice, err := i.server.store.userNamed("alice")
	i.must(err)
	web, err := i.server.store.clientNamed("web")
	i.must(err)
	i.must(i.server.store.revokeGrants(alice.ID, web.ID))
}

func TestRefreshTokenGrant(t *testing.T) {
	t.Parallel()
	i := start(t)
	const onlyRead = `{"clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read"}]}`

	t.Run("6 R107 rotation", func(t *testing.T) {
		t.Parallel()
		for _, clientID := range []string{"native", "web"} {
			i := i.in(t)
			access1, refresh1 := i.tokens(clientID)
			access2, refresh2 := i.refresh(clientID, refresh1).wantToken()
			if refresh2 == "" || refresh2 == refresh1 || access2 == access1 {
				t.Errorf("%s: the answer to a refresh has old tokens, or none", clientID)
			}
			i.wantDead(refresh1)
			i.wantAlive(access2, refresh2)
			i.refresh(clientID, refresh1).wantError(http.StatusBadRequest, "invalid_grant")
		}
	})

	t.Run("6 R108 reuse ends the family", func(t *testing.T) {
		t.Parallel()
		for _, clientID := range []string{"native", "web"} {
			i := i.in(t)
			access1, refresh1 := i.tokens(clientID)
			bystander, bystanderRefresh := i.tokens(clientID)
			access2, refresh2 := i.refresh(clientID, refresh1).wantToken()
			access3, refresh3 := i.refresh(clientID, refresh2).wantToken()
			i.wantAlive(access1, access2, access3, refresh3)
			i.refresh(clientID, refresh1).wantError(http.StatusBadRequest, "invalid_grant")
			i.wantUseless(clientID, []string{access1, access2, access3}, []string{refresh3, refresh2, refresh1})
			i.wantAlive(bystander, bystanderRefresh)
			i.refresh(clientID, bystanderRefresh).wantToken()
		}
	})

	t.Run("6 R108 reuse after expiry and sweeping", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.profile.RefreshTokenLifetime = 100 })
		_, refresh1 := i.tokens("web")
		i.advance(90 * time.Second)
		_, refresh2 := i.refresh("web", refresh1).wantToken()
		i.advance(20 * time.Second) // the used one would have expired by now
		if _, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix())); err != nil {
			t.Fatal(err)
		}
		i.wantAlive(refresh2)
		i.refresh("web", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(refresh2)
	})

	t.Run("6 R109 bound to the client", func(t *testing.T) {
		t.Parallel()
		for _, test := range []struct{ owner, thief string }{{"web", "other"}, {"web", "native"}, {"native", "native2"}, {"native", "web"}} {
			i := i.in(t)
			access, refresh1 := i.tokens(test.owner)
			i.refresh(test.thief, refresh1).wantError(http.StatusBadRequest, "invalid_grant")
			_, refresh2 := i.refresh(test.owner, refresh1).wantToken() // nothing was spent
			i.refresh(test.thief, refresh1).wantError(http.StatusBadRequest, "invalid_grant")
			i.wantAlive(access, refresh2) // nor ended, by showing a used one
		}
	})

	t.Run("6 R110 wider scope", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		_, refresh := i.token(exchangeOf("web", i.code("web", "scope", "read"))).wantScope("read")
		for _, scope := range []string{"read write", "write", "read admin", "READ", "read  read", `read"`, "read\\", "rea", "*", repeated("read", 101), strings.Repeat("r", 2001)} {
			i.refresh("web", refresh, "scope", scope).wantError(http.StatusBadRequest, "invalid_scope")
		}
		i.refresh("web", refresh).wantScope("read")
	})

	t.Run("6 R111 narrower scope", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		_, refresh := i.tokens("web")
		_, refresh = i.refresh("web", refresh, "scope", "read").wantScope("read")
		if got := i.introspect(refresh).json["scope"]; got != "read write" {
			t.Errorf("the new refresh token has scope %v", got)
		}
		_, refresh = i.refresh("web", refresh).wantScope("read write")
		_, refresh = i.refresh("web", refresh, "scope", "write read write").wantScope("write read")
		raw := func(scope string) *reply {
			return i.browser().do("POST", i.endpoint("token"), refreshOf("web", refresh).Encode()+"&scope="+scope)
		}
		raw("read%2Bwrite").wantError(http.StatusBadRequest, "invalid_scope")
		_, refresh = raw("read+write").wantScope("read write")
		_, refresh = raw("read%20write").wantScope("read write")
		i.refresh("web", refresh).wantScope("read write")
	})

	for _, test := range []struct {
		name   string
		change func(*instance)
		status int
		code   string
	}{
		{"scope of the client reduced", func(i *instance) { i.furnish(onlyRead) }, 400, "invalid_scope"},
		{"grant removed from the client", func(i *instance) {
			i.furnish(strings.Replace(onlyRead, `"scope"`, `"grant_types": ["authorization_code"], "scope"`, 1))
		}, 400, "unauthorized_client"},
		{"client deleted", func(i *instance) { i.must(i.server.store.deleteClient("web")) }, 401, "invalid_client"},
		{"client deleted and anew", func(i *instance) { i.must(i.server.store.deleteClient("web")); i.furnish(instanceFixtures) }, 400, "invalid_grant"},
		{"user deleted", func(i *instance) { i.must(i.server.store.deleteUser("alice")) }, 400, "invalid_grant"},
		{"user deleted and anew", func(i *instance) { i.must(i.server.store.deleteUser("alice")); i.furnish(instanceFixtures) }, 400, "invalid_grant"},
		{"consent withdrawn", (*instance).withdrawConsent, 400, "invalid_grant"},
	} {
		t.Run("6 R112 "+test.name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			_, refresh := i.tokens("web")
			test.change(i)
			i.refresh("web", refresh).wantError(test.status, test.code)
			if test.code == "invalid_scope" {
				i.refresh("web", refresh, "scope", "read").wantScope("read") // the rest of it can be had
			}
		})
	}

	t.Run("6 R113 idle lifetime", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.profile.RefreshTokenLifetime = 100 })
		_, refresh := i.tokens("web")
		for range 3 { // each use begins it anew
			i.advance(90 * time.Second)
			_, refresh = i.refresh("web", refresh).wantToken()
		}
		i.advance(100 * time.Second)
		i.refresh("web", refresh).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(refresh)
	})

	t.Run("6 R113 absolute lifetime", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.profile.RefreshTokenLifetime, s.profile.GrantLifetime = 100, 200 })
		_, refresh := i.tokens("web")
		for range 2 {
			i.advance(90 * time.Second)
			_, refresh = i.refresh("web", refresh).wantToken()
		}
		i.advance(20 * time.Second)
		i.refresh("web", refresh).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(refresh)
	})

	t.Run("6 R113 access token of before", func(t *testing.T) {
		t.Parallel()
		for _, ends := range []bool{false, true} {
			i := start(t, func(s *server) { s.profile.RefreshEndsAccessToken = ends })
			access1, refresh := i.tokens("web")
			access2, _ := i.refresh("web", refresh).wantToken()
			if i.alive(access1) == ends {
				t.Errorf("refresh_ends_access_token is %t, and the old access token is alive: %t", ends, !ends)
			}
			i.wantAlive(access2)
		}
	})

	t.Run("6 R114 not a refresh token", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		access, refresh := i.tokens("web")
		code := i.code("web")
		client, _ := i.token(clientCredentialsOf("web")).wantToken()
		_, revoked := i.tokens("web")
		i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {revoked}}))
		for _, value := range []string{
			access, code, client, revoked, newCredential().String(), "random", refresh + "A", refresh[:42], refresh[1:],
			strings.ToUpper(refresh), " " + refresh, refresh + " ", refresh[:22] + newCredential().String()[22:],
		} {
			i.refresh("web", value).wantError(http.StatusBadRequest, "invalid_grant")
		}
		i.wantAlive(access, client)
		i.refresh("web", refresh).wantToken()
		i.token(exchangeOf("web", code)).wantToken()
	})
}

func TestPasswordGrant(t *testing.T) {
	t.Parallel()

	t.Run("4.3.2 R115 off unless registered by name", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for _, clientID := range []string{"web", "native"} {
			i.token(passwordOf(clientID, "alice", "wonderland")).wantError(http.StatusBadRequest, "unauthorized_client")
		}
		advertised := func() bool {
			grantTypes, _ := i.get(i.endpoint("metadata")).json["grant_types_supported"].([]any)
			if !slices.Contains(grantTypes, any("authorization_code")) {
				t.Errorf("grant_types_supported: %v", grantTypes)
			}
			return slices.Contains(grantTypes, any("password"))
		}
		if !advertised() {
			t.Error("a client has the password grant, and the metadata does not say so")
		}
		i.token(passwordOf("legacy", "alice", "wonderland")).wantScope("read write")
		i.must(i.server.store.deleteClient("legacy"))
		if advertised() {
			t.Error("no client has the password grant, and the metadata says that there is one")
		}
	})

	t.Run("4.3.2 R116 refusals", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		form := passwordOf("legacy", "alice", "wonderland")
		for _, change := range [][]string{{"username", absent}, {"username", ""}, {"password", absent}, {"password", ""}} {
			i.token(with(form, change...)).wantError(http.StatusBadRequest, "invalid_request")
		}
		wrong := i.token(passwordOf("legacy", "alice", "wrong"))
		for _, r := range []*reply{
			wrong,
			i.token(passwordOf("legacy", "nobody", "wonderland")),
			i.token(passwordOf("legacy", "ALICE", "wonderland")),
			i.token(passwordOf("legacy", "alice", "builder")),
			i.token(passwordOf("legacy", "alice", "Wonderland")),
			i.token(passwordOf("legacy", "alice", "wonderland ")),
		} {
			r.wantError(http.StatusBadRequest, "invalid_grant")
			if r.body != wrong.body || r.Header.Get("WWW-Authenticate") != wrong.Header.Get("WWW-Authenticate") {
				t.Errorf("wrong password and unknown user can be told apart: %s", r.body)
			}
		}
		for _, scope := range []string{"admin", repeated("read", 101)} {
			i.token(with(form, "scope", scope)).wantError(http.StatusBadRequest, "invalid_scope")
		}
		access, refresh := i.token(with(form, "scope", "read")).wantScope("read")
		if r := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access); r.json["sub"] != "alice" {
			t.Errorf("userinfo: %s", r.body)
		}
		i.refresh("legacy", refresh).wantScope("read")
	})

	t.Run("4.3.2 guessing", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for n := range passwordTries + 1 {
			for _, username := range []string{"alice", "nobody"} {
				r := i.token(passwordOf("legacy", username, "wrong"))
				if n < passwordTries {
					r.wantError(http.StatusBadRequest, "invalid_grant")
				} else {
					r.wantError(http.StatusTooManyRequests, "invalid_grant")
				}
			}
		}
		i.token(passwordOf("legacy", "alice", "wonderland")).wantError(http.StatusTooManyRequests, "invalid_grant")
		i.token(passwordOf("legacy", "bob", "builder")).wantToken()
		i.advance(time.Minute)
		i.token(passwordOf("legacy", "alice", "wonderland")).wantToken()
	})
}

func TestClientCredentialsGrant(t *testing.T) {
	t.Parallel()

	t.Run("4.4.2 R117 confidential clients", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		form := clientCredentialsOf("web")
		for _, clientID := range []string{"native", "native2"} {
			i.token(clientCredentialsOf(clientID)).wantError(http.StatusBadRequest, "unauthorized_client")
		}
		// Also one that names the grant.
		i.furnish(`{"clients": [{"client_id": "native", "token_endpoint_auth_method": "none", "redirect_uris": [], "grant_types": ["client_credentials"]}]}`)
		i.token(clientCredentialsOf("native")).wantError(http.StatusBadRequest, "unauthorized_client")
		for _, test := range []struct{ asked, granted string }{
			{"", "read write"}, {"read", "read"}, {"write read", "write read"}, {"read read", "read"},
		} {
			r := i.token(with(form, "scope", test.asked))
			access, refresh := r.wantScope(test.granted)
			if _, there := r.json["refresh_token"]; there || refresh != "" {
				t.Errorf("a refresh token: %s", r.body)
			}
			i.wantAlive(access)
		}
		for _, scope := range []string{"admin", "read admin", "READ", "read  write", " read", `"read"`, repeated("read", 101)} {
			i.token(with(form, "scope", scope)).wantError(http.StatusBadRequest, "invalid_scope")
		}
	})

	t.Run("4.4.2 R118 token of a client, not of a user", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(`{"users": [{"username": "web", "password": "spider", "name": "Not a client"}]}`)
		access, _ := i.token(clientCredentialsOf("web")).wantToken()
		bearer := []string{"Authorization", "Bearer " + access}
		for name, r := range map[string]*reply{
			"introspection": i.introspect(access),
			"token info":    i.get(i.endpoint("tokeninfo"), bearer...),
		} {
			if r.StatusCode != http.StatusOK || r.json["client_id"] != "web" {
				t.Errorf("%s: status %d, %s", name, r.StatusCode, r.body)
			}
			for _, member := range []string{"username", "sub", "name"} {
				if r.json[member] != nil {
					t.Errorf("%s has %s: %s", name, member, r.body)
				}
			}
		}
		if r := i.get(i.endpoint("userinfo"), bearer...); r.StatusCode != http.StatusForbidden || r.json["error"] != "insufficient_scope" {
			t.Errorf("userinfo: status %d, %s", r.StatusCode, r.body)
		}
		// Neither as a bearer token nor as a cookie does it open a page.
		cookie := []string{"Cookie", i.server.cookieName() + "=" + access}
		for _, header := range [][]string{bearer, cookie} {
			page := i.get(i.endpoint("authorize")+"?"+authorization("web").Encode(), header...)
			if page.StatusCode != http.StatusOK || page.action() != "/login" {
				t.Errorf("%s: status %d, %s", header[0], page.StatusCode, page.body)
			}
		}
	})
}

func TestTokenAnswer(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [{"client_id": "open", "client_secret": "open-secret", "redirect_uris": []}]}`)
	_, refresh := i.tokens("web")
	whole := regexp.MustCompile(`"expires_in":[1-9][0-9]*[,}]`) // an integer, not a string
	for name, r := range map[string]*reply{
		"authorization_code": i.token(exchangeOf("web", i.code("web"))),
		"refresh_token":      i.token(refreshOf("web", refresh)),
		"password":           i.token(passwordOf("legacy", "alice", "wonderland")),
		"client_credentials": i.token(clientCredentialsOf("web")),
		"without scope":      i.token(clientCredentialsOf("open")),
	} {
		t.Run("5.1 R119 "+name, func(t *testing.T) {
			r.i = i.in(t)
			r.wantToken()
			if r.json["token_type"] != "Bearer" || !whole.MatchString(r.body) {
				t.Errorf("token_type or expires_in: %s", r.body)
			}
			members := map[string]bool{"access_token": true, "token_type": true, "expires_in": true, "scope": true,
				"refresh_token": name != "client_credentials" && name != "without scope"}
			if name == "without scope" {
				members["scope"] = false // none was asked for, none granted: no difference
			}
			for member := range r.json {
				if !members[member] {
					t.Errorf("there is %s: %s", member, r.body)
				}
			}
			for member, wanted := range members {
				if wanted && r.json[member] == nil {
					t.Errorf("%s is missing: %s", member, r.body)
				}
			}
		})
	}
	t.Run("5.1 R119 scope that was not asked for", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		i.token(exchangeOf("web", i.code("web", "scope", absent))).wantScope("read write")
		i.token(with(passwordOf("legacy", "alice", "wonderland"), "scope", "read read")).wantScope("read")
	})
}
