package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answerCase is one thing that a service answers: whole, with all its members
// in their order. Its name ends in [A] where nobody has seen the service do
// so, and the answer is only likely.
type answerCase struct {
	name   string
	ask    func(i *instance) *reply
	status int
	body   string   // see wantAnswer
	header []string // name, value, name, value; an empty value: the header is not there
}

// testAnswers asks one running server for all of them.
func testAnswers(t *testing.T, i *instance, cases []answerCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			c.ask(i).wantAnswer(c.status, c.body, c.header...)
		})
	}
}

// answerPatterns may stand in the body of a wanted answer.
var answerPatterns = strings.NewReplacer(
	"<hex64>", "[0-9a-f]{64}",
	"<base64url43>", "[A-Za-z0-9_-]{43}",
	"<jwt>", `[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`,
	"<number>", "[0-9]+",
	"<uuid>", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
	"<text>", `[^"]+`,
)

// wantAnswer wants a JSON answer with exactly these bytes. Where the value
// cannot be known, the body has one of answerPatterns.
func (r *reply) wantAnswer(status int, body string, header ...string) {
	r.i.Helper()
	want := answerPatterns.Replace(regexp.QuoteMeta(body))
	if got := strings.TrimSuffix(r.body, "\n"); r.StatusCode != status || !regexp.MustCompile(`\A(?:`+want+`)\z`).MatchString(got) {
		r.i.Errorf("got  %d %s\nwant %d %s", r.StatusCode, got, status, body)
	}
	for n := 0; n < len(header); n += 2 {
		if got := r.Header.Get(header[n]); got != header[n+1] {
			r.i.Errorf("%s: %q, want %q", header[n], got, header[n+1])
		}
	}
}

// wantLocation wants a redirect to this URI, to the letter but for answerPatterns.
func (r *reply) wantLocation(location string) {
	r.i.Helper()
	want := answerPatterns.Replace(regexp.QuoteMeta(location))
	if got := r.Header.Get("Location"); r.StatusCode != 303 || !regexp.MustCompile(`\A(?:`+want+`)\z`).MatchString(got) {
		r.i.Errorf("got  %d %s: %s\nwant 303 %s", r.StatusCode, got, r.body, location)
	}
}

// wantErrorPage wants an error page with this text.
func (r *reply) wantErrorPage(status int, code, description string) {
	r.i.Helper()
	if r.StatusCode != status || r.Header.Get("Location") != "" {
		r.i.Errorf("got status %d, Location %q, want an error page with status %d", r.StatusCode, r.Header.Get("Location"), status)
	}
	if got := r.text("error"); got != code {
		r.i.Errorf("the page has error %q, want %q", got, code)
	}
	if got := r.text("error-description"); got != description {
		r.i.Errorf("the page says %q, want %q", got, description)
	}
}

// plain is the authorization request of a client that knows neither scope nor PKCE.
func plain(clientID string, change ...string) url.Values {
	request := authorization(clientID, "scope", absent, "code_challenge", absent, "code_challenge_method", absent)
	return with(request, change...)
}

// plainCode returns a fresh code of alice's for a plain request.
func (i *instance) plainCode(clientID string, change ...string) string {
	i.Helper()
	r := i.as("alice").approve(plain(clientID, change...))
	code := r.param("code")
	if code == "" {
		i.Fatalf("no code in %s", r.location())
	}
	return code
}

// plainExchange is the one valid token request for it.
func plainExchange(clientID, code string, change ...string) url.Values {
	return with(with(exchangeOf(clientID, code), "code_verifier", absent), change...)
}

// plainTokens returns a fresh access and refresh token of alice's.
func (i *instance) plainTokens(clientID string, change ...string) (access, refresh string) {
	i.Helper()
	r := i.post(i.endpoint("token"), plainExchange(clientID, i.plainCode(clientID, change...)))
	access, _ = r.json["access_token"].(string)
	refresh, _ = r.json["refresh_token"].(string)
	if access == "" {
		i.Fatalf("no token: status %d, %s", r.StatusCode, r.body)
	}
	return access, refresh
}

// postJSON sends a form as a JSON object.
func (i *instance) postJSON(target string, form url.Values, header ...string) *reply {
	i.Helper()
	members := object{}
	for name := range form {
		members.add(name, form.Get(name))
	}
	data, err := members.MarshalJSON()
	if err != nil {
		i.Fatal(err)
	}
	return i.browser().do("POST", target, string(data), append([]string{"Content-Type", "application/json"}, header...)...)
}

// postMultipart sends a form as curl -F does.
func (i *instance) postMultipart(target string, form url.Values, header ...string) *reply {
	i.Helper()
	var b strings.Builder
	for name, values := range form {
		for _, value := range values {
			b.WriteString("--a-boundary\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n")
		}
	}
	b.WriteString("--a-boundary--\r\n")
	return i.browser().do("POST", target, b.String(), append([]string{"Content-Type", "multipart/form-data; boundary=a-boundary"}, header...)...)
}

// withBasic moves the client's authentication from a form to the header.
func withBasic(form url.Values) (url.Values, string, string) {
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(form.Get("client_id"))+":"+url.QueryEscape(form.Get("client_secret"))))
	return with(form, "client_id", absent, "client_secret", absent), "Authorization", header
}

// TestProfileFile runs a service that does not exist: other paths, JSON bodies
// only, and names of its own for fields, statuses and texts.
func TestProfileFile(t *testing.T) {
	t.Parallel()
	i := startProfile(t, "testdata/parcels.json")
	problem := func(name, text, number, hint string) string {
		if hint != "" {
			hint = `,"hint":"` + hint + `"`
		}
		return `{"problem":{"name":"` + name + `","text":"` + text + `","number":` + number + hint + `}}`
	}
	const answer = `{"session":{"token":"parcel_<hex64>","kind":"Parcel","seconds":60,"again":"<base64url43>"},"rights":"You may track.","access_token":"parcel_<hex64>"}`
	send := func(change ...string) func(*instance) *reply {
		return func(i *instance) *reply {
			return i.postJSON("/v9/session", plainExchange("web", i.plainCode("web"), change...))
		}
	}
	session := func(i *instance) map[string]any {
		session, _ := send()(i).json["session"].(map[string]any)
		return session
	}
	testAnswers(t, i, []answerCase{
		{"token", send(), 200, answer, []string{"Content-Type", "application/vnd.parcels+json"}},
		{"token/form", func(i *instance) *reply {
			return i.post("/v9/session", plainExchange("web", i.plainCode("web")))
		}, 415, problem("invalid_request", "the body must be application/json, not application/x-www-form-urlencoded", "415", ""), nil},
		{"token/refresh", func(i *instance) *reply {
			again, _ := session(i)["again"].(string)
			return i.postJSON("/v9/session", withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {again}}))
		}, 200, answer, nil},
		{"token/wrong secret", send("client_secret", "guess"), 403, problem("who_are_you", "Nobody knows this sender.", "403", ""), nil},
		{"token/no code", send("code", absent), 422, problem("incomplete", "There is no code.", "422", "Send code"), nil},
		{"token/another code", send("code", "another"), 410, problem("gone", "That is over.", "410", ""), nil},
		{"token/grant that it does not have", send("grant_type", "password"), 400, problem("unsupported_grant_type", "<text>", "400", ""), nil},
		{"revoke", func(i *instance) *reply {
			token, _ := session(i)["token"].(string)
			return i.postJSON("/v9/session/end", withClient("web", url.Values{"token": {token}}))
		}, 200, `{"ended":true}`, nil},
		{"userinfo", func(i *instance) *reply {
			token, _ := session(i)["token"].(string)
			return i.get("/v9/sender", "Authorization", "Parcel "+token)
		}, 200, `{"sender":{"number":<number>,"called":"Alice Liddell","mail":"alice@example.com"},"links":["` + i.URL + `/v9/sender"]}`, nil},
		{"userinfo/another scheme", func(i *instance) *reply {
			token, _ := session(i)["token"].(string)
			return i.get("/v9/sender", "Authorization", "Bearer "+token)
		}, 401, `{"problem":{"text":"<text>","number":401}}`, nil},
		{"userinfo/another token", func(i *instance) *reply {
			return i.get("/v9/sender", "Authorization", "Parcel another")
		}, 407, problem("gone", "<text>", "407", ""), []string{"WWW-Authenticate", `Parcel problem="gone"`}},
	})
	t.Run("userinfo/a description in other letters", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "testdata/parcels.json", func(s *server) {
			s.profile.Errors = errorRules{{When: []string{"invalid_token"}, Description: `Zu "spät"`}}
		})
		r := i.get("/v9/sender", "Authorization", "Parcel another")
		if got := r.Header.Get("WWW-Authenticate"); got != `Bearer realm="grantling", error="invalid_token"` || r.json["error_description"] != `Zu "spät"` {
			t.Errorf("WWW-Authenticate %s, %s", got, r.body)
		}
	})
	t.Run("denied", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		b.decide(b.authorize(plain("web")), "deny").wantLocation("https://cb.example/cb?problem=returned_to_sender&for=xyz")
	})
	t.Run("code expired", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "testdata/parcels.json")
		form := plainExchange("web", i.plainCode("web"))
		i.advance(31 * time.Second)
		i.postJSON("/v9/session", form).wantAnswer(410, problem("gone", "That is over.", "410", "Be quicker"))
	})
	t.Run("the forms of pages are in the log", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "testdata/parcels.json")
		if err := i.server.openControl(); err != nil {
			t.Fatal(err)
		}
		i.browser().signIn("alice", "wonderland")
		if last := i.latest(); last.Params["username"] != "alice" {
			t.Errorf("the log has %+v", last)
		}
	})
	t.Run("other paths", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, path := range []string{"/oauth/authorize", "/oauth/token", "/userinfo"} {
			if r := i.get(path); r.StatusCode != 404 {
				t.Errorf("%s: status %d", path, r.StatusCode)
			}
		}
	})
}

// TestProfileCheck begins from the one valid file; each row changes one thing.
func TestProfileCheck(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/parcels.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := string(data)
	for _, row := range []struct{ name, old, new, key, problem string }{
		{"unknown key", `"title"`, `"titel"`, "titel", "unknown key"},
		{"unknown key in a resource", `"needs"`, `"need"`, "resources[0].need", "unknown key"},
		{"unknown key in an error", `"hint": "Be quicker"`, `"tip": "Be quicker"`, "errors[6].tip", "unknown key"},
		{"key in other case", `"grants"`, `"Grants"`, "Grants", "unknown key"},
		{"key twice", `"iss": false`, `"iss": false, "iss": true`, "iss", "occurs twice"},
		{"text for a number", `"code_lifetime": 30`, `"code_lifetime": "30"`, "code_lifetime", "must be a whole number"},
		{"fraction", `"code_lifetime": 30`, `"code_lifetime": 30.5`, "code_lifetime", "must be a whole number"},
		{"number that is too large", `"code_lifetime": 30`, `"code_lifetime": 30000000000000000000`, "code_lifetime", "must be a whole number"},
		{"text for a truth", `"iss": false`, `"iss": "false"`, "iss", "must be true or false"},
		{"text for a number in an error", `"status": 410`, `"status": "410"`, "errors[2].status", "must be a whole number"},
		{"text for a list in a resource", `["Parcel"]`, `"Parcel"`, "resources[0].schemes", "must be an array"},
		{"text for a list of paths", `["/connect"]`, `"/connect"`, "endpoints.authorize", "must be an array"},
		{"number for a list", `"bodies": ["json"]`, `"bodies": 1`, "bodies", "must be an array"},
		{"not JSON", `"bodies": ["json"]`, `"bodies": ["json"`, "", "invalid character"},
		{"no name", `"name": "parcels",`, ``, "name", "is missing"},
		{"no title", `"title": "Parcels"`, `"title": ""`, "title", "is missing"},
		{"no path", `["/connect"]`, `[]`, "endpoints.authorize", "has no path"},
		{"unknown endpoint", `"revoke":`, `"logout":`, "endpoints.logout", "unknown key; expected one of authorize, oob, token, revoke, introspect, device_authorization, metadata, jwks, registration"},
		{"relative path", `"/connect"`, `"connect"`, "endpoints.authorize[0]", "is not a path"},
		{"path with a query", `"/connect"`, `"/connect?x"`, "endpoints.authorize[0]", "is not a path"},
		{"path with a blank", `"/connect"`, `"/con nect"`, "endpoints.authorize[0]", "is not a path"},
		{"path with two slashes", `"/connect"`, `"//connect"`, "endpoints.authorize[0]", "is not a path"},
		{"path that goes up", `"/connect"`, `"/a/../connect"`, "endpoints.authorize[0]", "is not a path"},
		{"the server's own path", `"/connect"`, `"/login"`, "endpoints.authorize[0]", "a path of the server itself"},
		{"the second half of the authorization endpoint", `"/connect"`, `"/consent"`, "endpoints.authorize[0]", "a path of the server itself"},
		{"a path of the control API", `"/connect"`, `"/_control/x"`, "endpoints.authorize[0]", "a path of the server itself"},
		{"two endpoints on one path", `"/v9/session/end"`, `"/v9/session"`, "endpoints.token[0]", "is already the path of endpoints.revoke[0]"},
		{"the two endpoints on one path", `"/connect"`, `"/v9/session"`, "endpoints.token[0]", "is already the path of endpoints.authorize[0]"},
		{"resource and endpoint on one path", `["/v9/sender"]`, `["/connect"]`, "resources[0].paths[0]", "is already the path of endpoints.authorize[0]"},
		{"resource without path", `["/v9/sender"]`, `[]`, "resources[0].paths", "is empty"},
		{"resource of another kind", `"endpoint": "userinfo"`, `"endpoint": "friends"`, "resources[0].endpoint", "is unknown; expected one of"},
		{"resource that needs another thing", `"needs": "user"`, `"needs": "luck"`, "resources[0].needs", "is unknown; expected one of"},
		{"resource with an unknown scope", `"scopes": ["track"]`, `"scopes": ["see"]`, "resources[0].scopes[0]", "not in the list of scopes"},
		{"resource without schemes", `["Parcel"]`, `[]`, "resources[0].schemes", "is empty"},
		{"scheme that is none", `["Parcel"]`, `["Parcel \""]`, "resources[0].schemes[0]", "is not a scheme"},
		{"unknown placeholder in a resource", `${display_name}`, `${nickname}`, "resources[0].answer", "${nickname} is unknown here"},
		{"registration without its endpoint", `"iss": false,`, `"iss": false, "registration": {"answer": {}},`, "registration", "set both or neither"},
		{"registration parameter that is none", `"endpoints": {`, `"registration": {"parameters": {"client_nam": "name"}, "answer": {}}, "endpoints": {"registration": ["/register"],`, "registration.parameters.client_nam", "unknown key; expected one of client_name, client_uri, redirect_uris, scope"},
		{"required registration parameter that is none", `"endpoints": {`, `"registration": {"required": ["name"], "answer": {}}, "endpoints": {"registration": ["/register"],`, "registration.required[0]", `"name" is unknown; expected one of client_name, client_uri, redirect_uris, scope`},
		{"length of a registration parameter that is none", `"endpoints": {`, `"registration": {"max_length": {"name": 3}, "answer": {}}, "endpoints": {"registration": ["/register"],`, "registration.max_length.name", "unknown key; expected one of client_name"},
		{"registration scope outside the list", `"endpoints": {`, `"registration": {"scope": "track steal", "answer": {}}, "endpoints": {"registration": ["/register"],`, "registration.scope", `"steal" is not in the list of scopes`},
		{"unknown placeholder in the registration answer", `"endpoints": {`, `"registration": {"answer": {"id": "${id}"}}, "endpoints": {"registration": ["/register"],`, "registration.answer", "${id} is unknown here; expected one of base_url, client_id, client_id_issued_at, client_name"},
		{"registration endpoint without registration", `"revoke":`, `"registration": ["/register"], "revoke":`, "registration", "set both or neither"},
		{"introspection endpoint without answer", `"revoke":`, `"introspect": ["/look"], "revoke":`, "introspection_answer", "must be an object"},
		{"implicit grant without answer", `"refresh_token"],`, `"refresh_token", "implicit"],`, "implicit_answer", "must be an object"},
		{"unknown body", `["json"]`, `["xml"]`, "bodies[0]", "is unknown; expected one of"},
		{"no body", `["json"]`, `[]`, "bodies", "is empty"},
		{"no grants", `"grants": ["authorization_code", "refresh_token"],`, ``, "grants", "is missing"},
		{"empty grants", `["authorization_code", "refresh_token"]`, `[]`, "grants", "is empty"},
		{"unknown grant", `"refresh_token"],`, `"magic"],`, "grants[1]", "is unknown; expected one of"},
		{"required parameter of another grant", `"iss": false,`, `"iss": false, "required_parameters": {"password": ["scope"]},`, "required_parameters.password", "is unknown; expected one of"},
		{"required parameter that is none", `"iss": false,`, `"iss": false, "required_parameters": {"authorization_code": ["redirect_url"]},`, "required_parameters.authorization_code[0]", "is unknown; expected one of access_token, client_id"},
		{"required parameter that is not needed", `"iss": false,`, `"iss": false, "redirect_uri_not_needed": true, "required_parameters": {"authorization_code": ["redirect_uri"]},`, "redirect_uri_not_needed", "contradicts required_parameters.authorization_code"},
		{"scope that is none", `"name": "send"`, `"name": "send it"`, "scopes[1].name", "is not a scope token"},
		{"scope twice", `"name": "send"`, `"name": "track"`, "scopes[1].name", "already in the list"},
		{"default scope outside the list", `"default_scope": "track"`, `"default_scope": "track steal"`, "default_scope", `"steal" is not in the list of scopes`},
		{"negative lifetime", `"access_token_lifetime": 60`, `"access_token_lifetime": -60`, "access_token_lifetime", "must be 0 to 3153600000 (0 means forever)"},
		{"lifetime beyond all bounds", `"access_token_lifetime": 60`, `"access_token_lifetime": 9223372036854775807`, "access_token_lifetime", "must be 0 to 3153600000 (0 means forever)"},
		{"no access_token_lifetime", `"access_token_lifetime": 60,`, ``, "access_token_lifetime", "must be 0 to 3153600000 (0 means forever)"},
		{"access_token_lifetime null", `"access_token_lifetime": 60,`, `"access_token_lifetime": null,`, "access_token_lifetime", "must be 0 to 3153600000 (0 means forever)"},
		{"no refresh_token_lifetime", `"refresh_token_lifetime": 3600,`, ``, "refresh_token_lifetime", "must be 0 to 3153600000 (0 means forever)"},
		{"no grant_lifetime", `"grant_lifetime": 7200,`, ``, "grant_lifetime", "must be 0 to 3153600000 (0 means forever)"},
		{"codes for ever", `"code_lifetime": 30`, `"code_lifetime": 0`, "code_lifetime", "must be 1 to 600 (RFC 6749 §4.1.2)"},
		{"codes that live too long", `"code_lifetime": 30`, `"code_lifetime": 601`, "code_lifetime", "must be 1 to 600 (RFC 6749 §4.1.2)"},
		{"unknown encoding", `"encoding": "hex"`, `"encoding": "rot13"`, "access_token_format.encoding", `"rot13" is unknown; expected one of base64url, hex, jwt`},
		{"codes that are JSON Web Tokens", `"iss": false,`, `"iss": false, "code_format": {"encoding": "jwt"},`, "code_format.encoding", "cannot be jwt"},
		{"prefix of a JSON Web Token", `"encoding": "hex"`, `"encoding": "jwt"`, "access_token_format.prefix", "is not a valid prefix"},
		{"prefix with a blank", `"parcel_"`, `"parcel "`, "access_token_format.prefix", "is not a valid prefix"},
		{"unknown prompt", `"iss": false,`, `"iss": false, "prompt_parameters": {"again": "dance"},`, "prompt_parameters.again", "is unknown; expected one of"},
		{"unknown memory", `"iss": false,`, `"iss": false, "consent_memory": "sometimes",`, "consent_memory", "is unknown; expected one of"},
		{"unknown placeholder in the token answer", `${scope}.`, `${scopes}.`, "token_answer", "${scopes} is unknown here"},
		{"no access token in the token answer", `${access_token}", "kind": "${token_type}", "seconds": "${expires_in}", "again": "${refresh_token?}"},
    "rights": "You may ${scope}.",
    "access_token": "${access_token}"`, `", "again": "${refresh_token?}"}`, "token_answer", "has no ${access_token}"},
		{"placeholder with a hyphen", `${account_number}`, `${account-number}`, "resources[0].answer", "${account-number} is not a placeholder"},
		{"placeholder in capitals", `${email?}`, `${Email}`, "resources[0].answer", "${Email} is not a placeholder"},
		{"placeholder without an end", `${display_name}`, `${display_name`, "resources[0].answer", "${display_name is not a placeholder"},
		{"placeholder within another", `There is no ${parameter}`, `There is no ${no${parameter}`, "errors[3].description", "${no${parameter} is not a placeholder"},
		{"placeholder that needs a user", `"needs": "user"`, `"needs": "nothing"`, "resources[0].answer", "${account_number} is unknown here; expected one of base_url, host, issuer"},
		{"placeholder in a token header", `vnd.parcels+json`, `${scope}`, "token_headers.Content-Type", "cannot have placeholders such as ${scope}"},
		{"R200 type of JSON that is none", `"token_answer":`, `"json_type": "text/html", "token_answer":`, "json_type", "must be application/json, perhaps with a charset"},
		{"header that has no name", `"Content-Type":`, `"":`, "token_headers.", "is not a valid header"},
		{"header with a blank in its name", `"Content-Type":`, `"Content Type":`, "token_headers.Content Type", "is not a valid header"},
		{"header with a line break", `vnd.parcels+json`, `\nX: y`, "token_headers.Content-Type", "is not a valid header"},
		{"header twice", `"Content-Type":`, `"content-type": "x/y", "Content-Type":`, "token_headers.content-type", "occurs twice"},
		{"header that frames the answer", `"Content-Type":`, `"content-length":`, "token_headers.content-length", "can only be set by the server"},
		{"header of an error that frames the answer", `"WWW-Authenticate":`, `"Transfer-Encoding":`, "errors[4].headers.Transfer-Encoding", "can only be set by the server"},
		{"header of an error with a line break", `Parcel problem=`, `Parcel\nproblem=`, "errors[4].headers.WWW-Authenticate", "is not a valid header"},
		{"unknown placeholder in the revocation answer", `{"ended": true}`, `{"ended": "${error}"}`, "revocation_answer", "cannot have placeholders such as ${error}"},
		{"errors in the old form", `"errors": [`, `"errors": {"token *": {"status": 400}}, "x": [`, "errors", `must be an array of rules, such as [{"at": ["token"], "when": ["invalid_client", "missing redirect_uri"], "status": 400}]`},
		{"unknown subject of an error", `"code expired"`, `"code too old"`, "errors[6].when[0]", `"code too old" is not a code, a reason`},
		{"unknown endpoint of an error", `"at": ["token"]`, `"at": ["tokens"]`, "errors[6].at[0]", "is unknown; expected one of"},
		{"no endpoint of an error", `"at": ["token"]`, `"at": []`, "errors[6].at", "is empty"},
		{"no subject of an error", `"when": ["invalid_grant"]`, `"when": []`, "errors[2].when", "is empty"},
		{"reason as the log has it", `"code expired"`, `"code-expired"`, "errors[6].when[0]", `must be "code expired", with spaces`},
		{"something behind a reason", `"code expired"`, `"code expired soon"`, "errors[6].when[0]", "is not a code, a reason"},
		{"something behind a code", `["invalid_grant"]`, `["invalid_grant soon"]`, "errors[2].when[0]", "is not a code, a reason"},
		{"parameter behind a code", `["invalid_grant"]`, `["invalid_grant code"]`, "errors[2].when[0]", "is not a code, a reason"},
		{"unknown parameter", `["missing"]`, `["missing cod"]`, "errors[3].when[0]", "is not a code, a reason"},
		{"error that is none", `"status": 410`, `"status": 200`, "errors[2].status", "must be 400 to 499 (RFC 9110 §15.5)"},
		{"error with a quotation mark", `"error": "gone"`, `"error": "go\"ne"`, "errors[2].error", "has characters"},
		{"told in another way", `"hint": "Be quicker"`, `"by": "pigeon"`, "errors[6].by", "is unknown; expected one of"},
		{"unknown placeholder in an error", `"number": "${status}"`, `"number": "${code}"`, "errors[0].body", "${code} is unknown here"},
		{"unknown placeholder in a description", `There is no ${parameter}`, `There is no ${name}`, "errors[3].description", "${name} is unknown here"},
		{"unknown placeholder in a hint", `Be quicker`, `Be quicker than ${time}`, "errors[6].hint", "${time} is unknown here"},
		{"unknown placeholder in a header", `problem=\"${error}\"`, `problem=\"${number}\"`, "errors[4].headers.WWW-Authenticate", "${number} is unknown here"},
		{"a second JSON object", "\n}\n", "\n}\n{}\n", "", "invalid character '{' after top-level value"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			before, after, found := strings.Cut(valid, row.old)
			if !found {
				t.Fatalf("the valid file has no %s", row.old)
			}
			file := filepath.Join(t.TempDir(), "service.json")
			if err := os.WriteFile(file, []byte(before+row.new+after), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadProfile(file)
			if err == nil {
				t.Fatal("the profile was accepted")
			}
			where := regexp.QuoteMeta(file) + `:[0-9]+: ` + regexp.QuoteMeta(row.key)
			if !regexp.MustCompile(`\A`+where).MatchString(err.Error()) || !strings.Contains(err.Error(), row.problem) {
				t.Errorf("got %v, want %s:LINE: %s: %s", err, file, row.key, row.problem)
			}
		})
	}
	t.Run("line", func(t *testing.T) {
		t.Parallel()
		for old, row := range map[string]struct{ new, place string }{
			`"default_scope": "track"`: {`"default_scope": "steal"`, "23: default_scope: "},
			`"title"`:                  {`"titel"`, "3: titel: "},
			`"status": 410`:            {`"status": 99`, "41: errors[2].status: "},
			`"code_lifetime": 30`:      {`"code_lifetime": "x"`, "24: code_lifetime: "},
		} {
			_, err := parseProfile("service.json", []byte(strings.Replace(valid, old, row.new, 1)))
			if err == nil || !strings.HasPrefix(err.Error(), "service.json:"+row.place) {
				t.Errorf("got %v, want service.json:%s", err, row.place)
			}
		}
	})
	t.Run("no such profile", func(t *testing.T) {
		t.Parallel()
		if _, err := loadProfile("myspace"); err == nil || !strings.Contains(err.Error(), "figshare, mastodon, rfc6749, sharesight, trackmania") {
			t.Errorf("got %v", err)
		}
		if _, err := loadProfile("./myspace.json"); err == nil || !strings.Contains(err.Error(), "myspace.json") {
			t.Errorf("got %v", err)
		}
	})
}

// TestErrorReasons reads the source: reasons has all that the server gives, and
// nothing else.
func TestErrorReasons(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var declared []reason
	uses := make(map[string]int) // of names
	inspect := func(file string, n ast.Node) {
		switch n := n.(type) {
		case *ast.Ident:
			uses[n.Name]++
		case *ast.ValueSpec:
			if len(n.Values) != 1 {
				return
			}
			made, _ := n.Values[0].(*ast.CallExpr)
			if made == nil || len(made.Args) != 1 {
				return
			}
			if maker, ok := made.Fun.(*ast.Ident); ok && maker.Name == "newReason" {
				text, _ := strconv.Unquote(made.Args[0].(*ast.BasicLit).Value)
				names, declared = append(names, n.Names[0].Name), append(declared, reason(text))
			}
		case *ast.CompositeLit:
			if named, ok := n.Type.(*ast.Ident); ok && named.Name == "oauthError" && file != "errors.go" && !strings.HasPrefix(file, "control") {
				t.Errorf("%s makes an error without a reason", file)
			}
		}
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(source, func(n ast.Node) bool { inspect(file, n); return true })
	}
	if !slices.Equal(reasons, declared) {
		t.Errorf("the list has %q, declared are %q", reasons, declared)
	}
	for i, name := range names {
		if uses[name] < 2 { // where it is declared
			t.Errorf("no error has the reason %s", name)
		}
		if slices.Index(declared, declared[i]) != i {
			t.Errorf("two reasons are %q", declared[i])
		}
	}
}

// TestProfileRules is about the order of rules: the last one that matches and
// has a member decides it.
func TestProfileRules(t *testing.T) {
	t.Parallel()
	problem := new(newShape(object{{"problem", "${error}"}}))
	i := startProfile(t, "rfc6749", func(s *server) {
		s.profile.Errors = errorRules{
			{Status: 402, Description: "Something is wrong.", Body: problem, Headers: map[string]string{"X-One": "1", "X-Two": "2", "X-Three": "3"}},
			{At: []string{"token", "revoke"}, When: []string{"client secret wrong", "invalid_grant"}, Description: "It is the grant.", Headers: map[string]string{"x-two": "two"}},
			{When: []string{"unknown code"}, Error: "unknown_code", Headers: map[string]string{"x-three": ""}},
			{At: []string{"revoke"}, Status: 409},
			{At: []string{"token"}, When: []string{"missing code", "missing redirect_uri"}, Description: "There is no ${parameter}."},
			{At: []string{"token"}, Body: new(newShape(object{{"error", "${error}"}, {"text", "${description}"}}))},
		}
	})
	testAnswers(t, i, []answerCase{
		{"code and reason", func(i *instance) *reply {
			return i.post(i.endpoint("token"), plainExchange("web", "unknown"))
		}, 402, `{"error":"unknown_code","text":"It is the grant."}`, []string{"X-One", "1", "X-Two", "two", "X-Three", ""}},
		{"reason with a parameter", func(i *instance) *reply {
			return i.post(i.endpoint("token"), plainExchange("web", ""))
		}, 402, `{"error":"invalid_request","text":"There is no code."}`, []string{"X-Two", "2"}},
		{"reason with another parameter", func(i *instance) *reply {
			return i.post(i.endpoint("token"), plainExchange("web", "unknown", "grant_type", ""))
		}, 402, `{"error":"invalid_request","text":"Something is wrong."}`, nil},
		{"another endpoint", func(i *instance) *reply {
			return i.post(i.endpoint("revoke"), url.Values{"client_id": {"web"}, "client_secret": {"guess"}})
		}, 409, `{"problem":"invalid_client"}`, []string{"X-Two", "two"}},
	})
	t.Run("a redirect keeps state unless the body is the endpoint's own", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		b := i.as("bob")
		b.decide(b.authorize(plain("web")), "deny").wantLocation("https://cb.example/cb?error=access_denied&error_description=Something+is+wrong.&error_uri=" + url.QueryEscape(i.URL+"/explain/denied-by-the-user") + "&state=xyz&iss=" + url.QueryEscape(i.URL))
	})
}

// TestServerFailures is about the server's own failures: no rule of a profile
// tells them as the client's, not even one for every error.
func TestServerFailures(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ profile, body string }{
		{"rfc6749", `{"error":"temporarily_unavailable","error_description":"the database cannot be read or written at the moment","error_uri":"<text>"}`},
		{"figshare", `{"error":"temporarily_unavailable","error_description":"the database cannot be read or written at the moment"}`},
		{"mastodon", `{"error":"temporarily_unavailable","error_description":"the database cannot be read or written at the moment"}`},
		{"trackmania", `{"error":"temporarily_unavailable","error_description":"the database cannot be read or written at the moment","message":"the database cannot be read or written at the moment"}`},
		{"sharesight", `{"error":"temporarily_unavailable","error_description":"the database cannot be read or written at the moment"}`},
	} {
		t.Run(row.profile, func(t *testing.T) {
			t.Parallel()
			blame := errorRule{Status: 400, Error: "invalid_request", Description: "It is your fault.", Hint: "Go away"}
			i := startProfile(t, row.profile, inMemory(t), func(s *server) { s.profile.Errors = append(s.profile.Errors, blame) })
			form := plainExchange("web", i.plainCode("web"))
			i.server.store.close()
			i.failing("token", form).wantAnswer(503, row.body, "Retry-After", "5")
			for _, endpoint := range append([]string{""}, endpointNames...) {
				for status, err := range map[int]error{503: errStorage, 500: errors.New("a bug")} {
					if told := i.server.profile.tell(endpoint, asOAuthError(err)); told.Status != status || told.Code == "invalid_request" || told.hint != "" {
						t.Errorf("%s: %v is told as %d %s, %s", endpoint, err, told.Status, told.Code, told.Description)
					}
				}
			}
		})
	}
}

// TestShape fills answers; every value that a placeholder can have is a row.
func TestShape(t *testing.T) {
	t.Parallel()
	f := func(name string) fact {
		return map[string]fact{
			"word": text("a"), "quoted": text("\"\\\n<&>\u2028é\xff"), "empty": text(""), "number": number(-7),
			"list": list([]string{"a", "b\""}), "nobody": list(nil),
		}[name]
	}
	for _, c := range []struct{ name, shape, want string }{
		{"literals", `{"a": [1, 2.50, true, null, {}], "b<&>": "\u00e9\""}`, `{"a":[1,2.50,true,null,{}],"b<&>":"é\""}`},
		{"values", `{"a": "${word}", "b": "${number}", "c": "${list}", "d": "${nobody}"}`, `{"a":"a","b":-7,"c":["a","b\""],"d":[]}`},
		{"escapes", `["${quoted}", "a ${quoted}"]`, `["\"\\\n<&>\u2028é\ufffd","a \"\\\n<&>\u2028é\ufffd"]`},
		{"no value", `{"a": "${empty}", "b": "${unknown}"}`, `{"a":null,"b":null}`},
		{"the first member is left out", `{"a": "${empty?}", "b": "${word?}", "c": 1}`, `{"b":"a","c":1}`},
		{"all members are left out", `{"a": {"b": "${empty?}", "c": "${unknown?}"}, "d": "${empty?}"}`, `{"a":{}}`},
		{"an element is never left out", `["${empty?}", "${word?}"]`, `[null,"a"]`},
		{"within a text", `["${word}${number}", "a ${list} {", "${empty?}."]`, `["a-7","a [a b\"] {","."]`},
		{"a text alone", `"${word}"`, `"a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s shape
			if err := json.Unmarshal([]byte(c.shape), &s); err != nil {
				t.Fatal(err)
			}
			if got := string(s.fill(f)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
