package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// registerItself registers a client with members in JSON, as RFC 7591 §3.1 has it.
func (i *instance) registerItself(metadata string) *reply {
	i.Helper()
	return i.browser().do("POST", i.path("registration"), metadata, "Content-Type", "application/json")
}

// withMembers is the one valid registration with some members changed.
func withMembers(t *testing.T, change string) string {
	t.Helper()
	members := map[string]any{"redirect_uris": []string{"https://app.example/cb"}, "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "client_name": "App",
		"client_uri": "https://app.example/", "scope": "read write"}
	if err := json.Unmarshal([]byte(change), &members); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRegistration is RFC 7591: a client says what it is, and is told what it got.
func TestRegistration(t *testing.T) {
	t.Parallel()
	i := start(t)
	const public = `{"client_id":"<base64url43>","client_id_issued_at":<number>,"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"none",` +
		`"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"App","client_uri":"https://app.example/","scope":"read write"}`
	const secret = `"client_id":"<base64url43>","client_id_issued_at":<number>,"client_secret":"<base64url43>","client_secret_expires_at":0,`
	confidential := func(rest string) string { return "{" + secret + rest + "}" }

	for _, row := range []struct{ name, change, want string }{
		{"R210 3.2.1 a public client", `{}`, public},
		{"R210 3.2.1 a confidential client", `{"token_endpoint_auth_method":"client_secret_post"}`, confidential(`"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"client_secret_post",` +
			`"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"App","client_uri":"https://app.example/","scope":"read write"`)},
		{"R210 2 the least", `{"token_endpoint_auth_method":null,"grant_types":null,"response_types":null,"client_name":null,"client_uri":null,"scope":null}`,
			confidential(`"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"client_secret_basic","grant_types":["authorization_code"],"response_types":["code"]`)},
		{"R210 2 a client that acts for itself", `{"token_endpoint_auth_method":"client_secret_basic","grant_types":["client_credentials"],"response_types":[],"redirect_uris":[],"client_name":null,"client_uri":null}`,
			confidential(`"redirect_uris":[],"token_endpoint_auth_method":"client_secret_basic","grant_types":["client_credentials"],"response_types":[],"scope":"read write"`)},
		{"R211 2 members that it does not know", `{"logo_uri":"https://app.example/logo.png","contacts":["a@app.example"],"software_statement":"x","client_id":"mine","client_secret":"mine","application_type":"native","client_name#de":"Äpp","":"x","[]":["x"],"client_name[]":"x"}`, public},
		{"R211 2.1 grant types that it cannot have", `{"grant_types":["authorization_code","password","implicit","client_credentials","urn:ietf:params:oauth:grant-type:jwt-bearer","refresh_token","refresh_token"]}`, public},
		{"R211 2.1 response types that it cannot have", `{"response_types":["token","code","code id_token"]}`, public},
		{"R211 2.1 response types left out", `{"response_types":null}`, public},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			i.in(t).registerItself(withMembers(t, row.change)).wantAnswer(201, row.want, "Content-Type", "application/json", "Cache-Control", "no-store", "Access-Control-Allow-Origin", "*")
		})
	}
	for _, row := range []struct{ name, change, code, description, reason string }{
		{"no redirect URI", `{"redirect_uris":null}`, "invalid_redirect_uri", "redirect_uris is missing", "missing"},
		{"an empty list of redirect URIs", `{"redirect_uris":[]}`, "invalid_redirect_uri", "redirect_uris is missing", "missing"},
		{"a redirect URI that is no list", `{"redirect_uris":"https://app.example/cb"}`, "invalid_redirect_uri", "redirect_uris must be an array of strings", "metadata-invalid"},
		{"http on another host", `{"redirect_uris":["https://app.example/cb","http://app.example/cb"]}`, "invalid_redirect_uri",
			"redirect_uris[1] is http on a host other than 127.0.0.1, [::1] and localhost: use https (RFC 9700 §2.6), or allow the host with -redirect-host", "redirect-uri-insecure"},
		{"a fragment", `{"redirect_uris":["https://app.example/cb#x"]}`, "invalid_redirect_uri", "redirect_uris[0] has a fragment (RFC 6749 §3.1.2)", "redirect-uri-with-fragment"},
		{"a blank between two URIs", `{"redirect_uris":["https://app.example/cb https://evil.example/"]}`, "invalid_redirect_uri", "redirect_uris[0] has characters that a URI cannot have", "redirect-uri-malformed"},
		{"8,000 characters of redirect URIs", `{"redirect_uris":["https://app.example/` + strings.Repeat("x", 8000) + `"]}`, "invalid_redirect_uri", "redirect_uris is longer than 8000 characters", "metadata-too-long"},
		{"a list of other things", `{"redirect_uris":["https://app.example/cb",1]}`, "invalid_redirect_uri", "redirect_uris must be an array of strings", "metadata-invalid"},
		{"grant types that are no list", `{"grant_types":"authorization_code"}`, "invalid_client_metadata", "grant_types must be an array of strings", "metadata-invalid"},
		{"a name that is a list", `{"client_name":["App"]}`, "invalid_client_metadata", "client_name must be a string", "metadata-invalid"},
		{"a scope that is a list", `{"scope":["read"]}`, "invalid_client_metadata", "scope must be a string", "metadata-invalid"},
		{"a malformed scope", `{"scope":"read\nwrite"}`, "invalid_client_metadata", "scope must be at most 100 scope tokens of printable ASCII, 2000 characters in all, with one space between them", "metadata-invalid"},
		{"a name that misleads", `{"client_name":"App\u202eppA"}`, "invalid_client_metadata", "client_name has invisible characters, or characters that reverse the text", "metadata-invalid"},
		{"a website that is a script", `{"client_uri":"javascript:alert(1)"}`, "invalid_client_metadata", "client_uri must be a URL with https:// or http://, of at most 2048 characters", "metadata-invalid"},
		{"another authentication", `{"token_endpoint_auth_method":"private_key_jwt"}`, "invalid_client_metadata", `token_endpoint_auth_method "private_key_jwt" is unknown; expected one of none, client_secret_basic, client_secret_post`, "metadata-invalid"},
		{"no grant type", `{"grant_types":[]}`, "invalid_client_metadata", "", "metadata-invalid"},
		{"only grant types that the operator gives", `{"grant_types":["password","implicit"],"response_types":["token"]}`, "invalid_client_metadata", "", "metadata-invalid"},
		{"client credentials of a public client", `{"grant_types":["client_credentials"]}`, "invalid_client_metadata", "", "metadata-invalid"},
		{"refresh tokens alone", `{"grant_types":["refresh_token"]}`, "invalid_client_metadata", "", "metadata-invalid"},
		{"response types of the implicit grant alone", `{"response_types":["token"]}`, "invalid_client_metadata", "response_types does not have code, which goes with the grant type authorization_code", "metadata-invalid"},
	} {
		t.Run("R211 3.2.2 "+row.name, func(t *testing.T) {
			t.Parallel()
			r := i.in(t).registerItself(withMembers(t, row.change))
			if row.description == "" {
				row.description = "grant_types has none that this client can get a token by: this server has authorization_code, implicit, password, client_credentials, refresh_token, urn:ietf:params:oauth:grant-type:device_code; password and implicit are not for clients that register themselves, client_credentials not for public ones"
			}
			if r.StatusCode != 400 || r.json["error"] != row.code || r.json["error_description"] != row.description || r.json["error_uri"] != i.URL+"/explain/"+row.reason {
				t.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		})
	}
	t.Run("R211 3.1 not JSON", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		if r := i.post(i.endpoint("registration"), url.Values{"redirect_uris": {"https://app.example/cb"}}); r.StatusCode != 415 || r.json["error"] != "invalid_request" {
			t.Errorf("a form: status %d: %s", r.StatusCode, r.body)
		}
		for _, body := range []string{"", "[]", `"x"`, `{"redirect_uris":`, `{"a":` + strings.Repeat("[", 100)} {
			if r := i.registerItself(body); r.StatusCode != 400 || r.json["error"] != "invalid_request" {
				t.Errorf("%q: status %d: %s", body, r.StatusCode, r.body)
			}
		}
	})
	t.Run("R210 a public client's whole way", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		id, _ := i.registerItself(withMembers(t, `{}`)).json["client_id"].(string)
		b := i.as("alice")
		without := authorization("web", "client_id", id, "redirect_uri", "https://app.example/cb", "code_challenge", absent, "code_challenge_method", absent)
		if back := b.authorize(without); back.StatusCode != 400 || back.Header.Get("Location") != "" || !strings.Contains(back.body, "code_challenge") { // nothing is sent to a client that nobody has approved
			t.Errorf("without PKCE: status %d: %s", back.StatusCode, back.body)
		}
		page := b.authorize(authorization("web", "client_id", id, "redirect_uri", "https://app.example/cb"))
		if page.wantConsent(); !strings.Contains(page.body, "Unverified") {
			t.Errorf("the consent page does not say that nobody answers for it: %s", page.body)
		}
		exchange := with(exchangeOf("native", b.decide(page, "approve").param("code")), "client_id", id, "redirect_uri", "https://app.example/cb")
		_, refresh := i.token(exchange).wantToken()
		i.token(with(refreshOf("native", refresh), "client_id", id)).wantToken()
	})
	t.Run("R210 a confidential client's secret and grants", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		registered := i.registerItself(withMembers(t, `{"token_endpoint_auth_method":"client_secret_post","grant_types":["client_credentials"],"response_types":[]}`)).json
		id, _ := registered["client_id"].(string)
		secret, _ := registered["client_secret"].(string)
		i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}).wantToken()
		if r := i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {"x"}}); r.StatusCode != 401 {
			t.Errorf("another secret: status %d: %s", r.StatusCode, r.body)
		}
		// It introspects its own tokens alone.
		other, _ := i.token(clientCredentialsOf("web")).wantToken()
		if r := i.post(i.endpoint("introspect"), url.Values{"client_id": {id}, "client_secret": {secret}, "token": {other}}); r.json["active"] != false {
			t.Errorf("another client's token: %s", r.body)
		}
	})
	t.Run("R210 in a browser of any origin", func(t *testing.T) {
		t.Parallel()
		r := i.in(t).browser().do("OPTIONS", "/oauth/register", "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		if r.StatusCode != 204 || !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
			t.Errorf("status %d: %v", r.StatusCode, r.Header)
		}
	})
	t.Run("R180 members of another type", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon", plainErrors)
		for body, want := range map[string]string{
			`{"client_name":["a"],"redirect_uris":"https://a.example/"}`:                                     "client_name must be a string",
			`{"client_name":{"a":"b"},"redirect_uris":"https://a.example/"}`:                                 "client_name must be a string",
			`{"client_name":"a","website":[],"redirect_uris":"https://a.example/"}`:                          "website must be a string",
			`{"client_name":"a","redirect_uris":{"a":"https://a.example/"}}`:                                 "redirect_uris must be a string",
			`{"client_name":"a","redirect_uris":[["https://a.example/"]]}`:                                   "redirect_uris must be a string",
			`{"client_name":"a","redirect_uris":["https://a.example/"],"contacts":["a"]}`:                    "",
			`{"client_name":"a","redirect_uris":["https://a.example/","https://b.example/"],"scopes":[]}`:    "",
			`{"client_name":"a","redirect_uris":["https://a.example/"],"redirect_uris":"https://b.example"}`: "redirect_uris occurs more than once",
		} {
			r := i.browser().do("POST", "/api/v1/apps", body, "Content-Type", "application/json")
			if want == "" && r.StatusCode != 200 || want != "" && r.json["error_description"] != want {
				t.Errorf("%s: status %d, %s", body, r.StatusCode, r.body)
			}
		}
	})
}

// TestListed: the metadata has what works, and nothing else.
func TestListed(t *testing.T) {
	t.Parallel()
	t.Run("R212 each listed endpoint is there", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		listed := i.get("/.well-known/oauth-authorization-server").json
		for name, at := range listed {
			at, isURL := at.(string)
			if !isURL || name == "issuer" {
				continue
			}
			if r := i.browser().do("OPTIONS", strings.TrimPrefix(at, i.URL), ""); r.StatusCode == http.StatusNotFound {
				t.Errorf("%s: status %d at %s", name, r.StatusCode, at)
			}
		}
		if listed["registration_endpoint"] != i.URL+"/oauth/register" {
			t.Errorf("registration_endpoint: %v", listed["registration_endpoint"])
		}
	})
	t.Run("R212 nothing of what a profile does not have", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) {
			for _, name := range []string{"revoke", "introspect", "registration"} {
				delete(s.profile.Endpoints, name)
			}
			s.profile.Resources = nil
			s.routes = s.newRoutes()
		})
		for name := range i.get("/.well-known/oauth-authorization-server").json {
			if slices.Contains([]string{"revocation_endpoint", "introspection_endpoint", "registration_endpoint", "userinfo_endpoint"}, name) {
				t.Errorf("the metadata has %s", name)
			}
		}
	})
	t.Run("R212 8414 3.1 the issuer's path before and behind the well-known one", func(t *testing.T) {
		t.Parallel()
		i := start(t).behind("https://as.example/tenant")
		const well = "/.well-known/oauth-authorization-server"
		behind, before := i.get(well+"/tenant"), i.get("/tenant"+well)
		if behind.StatusCode != 200 || behind.json["issuer"] != "https://as.example/tenant" || behind.json["registration_endpoint"] != "https://as.example/tenant/oauth/register" || behind.body != before.body {
			t.Errorf("behind: status %d: %s\nbefore: status %d: %s", behind.StatusCode, behind.body, before.StatusCode, before.body)
		}
	})
}
