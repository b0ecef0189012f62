package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// validFixtures is a file in which every key has its line.
const validFixtures = `{
  "users": [
    {
      "username": "carol",
      "password": "looking-glass",
      "name": "Carol",
      "email": "carol@example.com"
    }
  ],
  "clients": [
    {
      "client_id": "app",
      "client_secret": "app-secret",
      "client_name": "App",
      "client_uri": "https://app.example",
      "redirect_uris": [
        "http://127.0.0.1:8080/callback",
        "urn:ietf:wg:oauth:2.0:oob"
      ],
      "grant_types": ["authorization_code", "refresh_token"],
      "scope": "read write",
      "token_endpoint_auth_method": "client_secret_basic",
      "owner": "carol"
    }
  ]
}`

// load reads a file of fixtures as the flag does and returns the secrets that were made.
func (i *instance) load(content string) (map[string]string, error) {
	i.Helper()
	folder := i.TempDir()
	writeFile(i.T, folder, "fixtures.json", content)
	f, err := loadFixtures(filepath.Join(folder, "fixtures.json"), i.server.profile)
	if err != nil {
		return nil, err
	}
	return i.server.applyFixtures(f)
}

// scoped gives the profile a list of scopes.
func scoped(defaultScope string, names ...string) func(*server) {
	return func(s *server) {
		p := *s.profile
		if defaultScope != "" {
			p.DefaultScope = &defaultScope
		}
		for _, name := range names {
			p.Scopes = append(p.Scopes, scope{Name: name})
		}
		s.profile = &p
	}
}

// TestFixtures reads one valid file, with one thing changed in each row. Errors
// name the file, the line and the key.
func TestFixtures(t *testing.T) {
	t.Parallel()
	t.Run("valid", func(t *testing.T) {
		t.Parallel()
		for _, change := range [][2]string{
			{"", ""},
			{`"read write"`, `"anything goes"`}, // a profile without a list
			{`"refresh_token"]`, `"refresh_token", "urn:ietf:params:oauth:grant-type:device_code"]`},
			{`"read write"`, `"` + repeated("read", 100) + `"`},
			{`"client_secret_basic"`, `"client_secret_post"`},
			{`"client_secret": "app-secret",`, ``},
			{`"name": "Carol",`, `"name": "キャロル \"C\" <b>",`},
			{`"looking-glass"`, `"` + strings.Repeat("p", 1024) + `"`},
			{`"carol@`, `"` + strings.Repeat("c", 200) + `@`},
		} {
			if _, err := start(t).load(strings.Replace(validFixtures, change[0], change[1], 1)); err != nil {
				t.Errorf("%s: %v", change[1], err)
			}
		}
	})
	for _, row := range []struct {
		name     string
		old, new string
		line     int
		want     string // behind the line: the key
	}{
		{"no object", validFixtures, `[]`, 1, "must be an object"},
		{"null", validFixtures, `null`, 1, "must be an object"},
		{"nothing", validFixtures, ``, 1, "there is nothing in it"},
		{"cut", "\n  ]\n}", "\n", 24, "it ends early: a bracket or a quote is not closed"},
		{"syntax", `"password": `, `"password" `, 5, "invalid character"},
		{"comma behind the last", `"carol@example.com"`, `"carol@example.com",`, 7, "the comma at the end is one too many"},
		{"comma behind the last of a list", "    }\n  ]\n}", "    },\n  ]\n}", 24, "the comma at the end is one too many"},
		{"comma missing", `"carol@example.com"`, "\"carol@example.com\"\n\"name\": \"Carol\"", 7, "a comma is missing at the end"},
		{"curly quotes", `"password": `, `“password”: `, 5, `“ must be a straight double quote, "`},
		{"single quotes", `"password": `, `'password': `, 5, `' must be a straight double quote, "`},
		{"a comment", `"password": `, `// hers
"password": `, 5, "JSON has no comments"},
		{"more behind the end", "\n  ]\n}", "\n  ]\n}\n{}", 27, "invalid character '{' after top-level value"},
		{"unknown key", `"users"`, `"people"`, 2, "people: unknown key"},
		{"unknown key of a user", `"email"`, `"mail"`, 7, "users[0].mail: unknown key"},
		{"unknown key of a client", `"scope"`, `"scopes"`, 21, "clients[0].scopes: unknown key"},
		{"key in capitals", `"client_name"`, `"Client_Name"`, 14, "clients[0].Client_Name: unknown key"},
		{"key twice", `"client_name"`, `"client_id"`, 14, "clients[0].client_id: this key occurs twice"},
		{"key without a name", `"email"`, `""`, 7, "users[0].: unknown key"},
		{"number for a string", `"carol@example.com"`, `3`, 7, "users[0].email: must be a string"},
		{"object for a string", `"carol@example.com"`, `{}`, 7, "users[0].email: must be a string"},
		{"array for a string", `"read write"`, `["read", "write"]`, 21, "clients[0].scope: must be a string"},
		{"string for an array", `["authorization_code", "refresh_token"]`, `"authorization_code"`, 20, "clients[0].grant_types: must be an array"},
		{"array in an array", `"http://127.0.0.1:8080/callback"`, `[[]]`, 17, "clients[0].redirect_uris[0]: must be a string"},
		{"number before an unknown key", `"name": "Carol",`, `"name": 3, "nick": "C",`, 6, "users[0].name: must be a string"},
		{"number behind an unknown key", `"name": "Carol",`, `"nick": "C", "name": 3,`, 6, "users[0].nick: unknown key"},
		{"number in an array", `"http://127.0.0.1:8080/callback"`, `8080`, 17, "clients[0].redirect_uris[0]: must be a string"},
		{"object for an array", `["authorization_code", "refresh_token"]`, `{"authorization_code": {}}`, 20, "clients[0].grant_types: must be an array"},
		{"not UTF-8", `"Carol"`, "\"C\xe4rol\"", 6, "this line is not UTF-8"},

		{"no username", `"username": "carol",`, ``, 3, "users[0].username: is missing"},
		{"empty username", `"username": "carol"`, `"username": ""`, 4, "users[0].username: is missing"},
		{"username with blanks", `"username": "carol"`, `"username": " carol"`, 4, "users[0].username: must not begin or end with a space"},
		{"username with a control character", `"username": "carol"`, `"username": "ca\u0000rol"`, 4, "users[0].username: must be"},
		{"long username", `"username": "carol"`, `"username": "` + strings.Repeat("c", 256) + `"`, 4, "users[0].username: must be"},
		{"no password", `"password": "looking-glass",`, ``, 3, "users[0].password: is missing"},
		{"empty password", `"looking-glass"`, `""`, 5, "users[0].password: is missing"},
		{"long password", `"looking-glass"`, `"` + strings.Repeat("p", 1025) + `"`, 5, "users[0].password: is longer"},
		{"name with a line break", `"Carol"`, `"Car\nol"`, 6, "users[0].name: must be"},
		{"long email", `"carol@`, `"` + strings.Repeat("c", 300) + `@`, 7, "users[0].email: must be"},
		{"user twice", "    }\n  ],\n  \"clients\"", "    },\n{\"username\": \"dora\", \"password\": \"x\"},\n{\n\"username\": \"carol\", \"password\": \"x\"}\n  ],\n  \"clients\"", 11, "users[2].username: occurs twice"},

		{"no client_id", `"client_id": "app",`, ``, 11, "clients[0].client_id: is missing"},
		{"client_id outside ASCII", `"app"`, `"äpp"`, 12, "clients[0].client_id: must be"},
		{"long client_id", `"app"`, `"` + strings.Repeat("a", 256) + `"`, 12, "clients[0].client_id: must be"},
		{"client twice", "    }\n  ]\n}", "    },\n{\n\"client_id\": \"app\"}\n  ]\n}", 26, "clients[1].client_id: occurs twice"},
		{"secret with a control character", `"app-secret"`, `"app\tsecret"`, 13, "clients[0].client_secret: must be"},
		{"client_name with a line break", `"App"`, `"Ap\np"`, 14, "clients[0].client_name: must be"},
		{"client_uri that is a script", `"https://app.example"`, `"javascript:alert(1)"`, 15, "clients[0].client_uri: must be"},
		{"redirect URI with a fragment", `"http://127.0.0.1:8080/callback"`, `"https://app.example/#a"`, 17, "clients[0].redirect_uris[0]: has a fragment"},
		{"second redirect URI", `"urn:ietf:wg:oauth:2.0:oob"`, `"/relative"`, 18, "clients[0].redirect_uris[1]: is not an absolute URI"},
		{"redirect URI null", `"http://127.0.0.1:8080/callback"`, `null`, 17, "clients[0].redirect_uris[0]: "},
		{"scope malformed", `"read write"`, `"read  write"`, 21, "clients[0].scope: must be"},
		{"scope of 101 tokens", `"read write"`, `"` + repeated("read", 101) + `"`, 21, "clients[0].scope: must be at most 100 scope tokens"}, // R177
		{"scope of 2001 characters", `"read write"`, `"` + strings.Repeat("r", 2001) + `"`, 21, "clients[0].scope: must be"},
		{"unknown method", `"client_secret_basic"`, `"private_key_jwt"`, 22, "clients[0].token_endpoint_auth_method: \"private_key_jwt\" is unknown; expected one of none, client_secret_basic, client_secret_post"},
		{"public with a secret", `"client_secret_basic"`, `"none"`, 13, "clients[0].client_secret: cannot go with"},
		{"the first of several", `"name": "Carol",`, `"name": "", "email2": 1,`, 6, "users[0].email2: unknown key; expected one of username, password, name, email"},
		{"the first in the file, not of the struct", "\"name\": \"Carol\",\n      \"email\": \"carol@example.com\"", "\"email\": \"a\\nb\",\n\"name\": \"a\\nb\"", 6, "users[0].email: must be text of at most 255 characters"},
		{"owner is nobody", `"owner": "carol"`, `"owner": "dora"`, 23, "clients[0].owner: no such user"},
	} {
		t.Run("errors "+row.name, func(t *testing.T) {
			t.Parallel()
			if strings.Count(validFixtures, row.old) != 1 {
				t.Fatalf("%q is not there once", row.old)
			}
			i := start(t)
			_, err := i.load(strings.Replace(validFixtures, row.old, row.new, 1))
			if want := fmt.Sprintf("fixtures.json:%d: %s", row.line, row.want); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if told := fmt.Sprint(err); strings.Contains(told, "looking-glass") || strings.Contains(told, "app-secret") {
				t.Errorf("%v tells a secret", err)
			}
			// All or nothing.
			i.ownToken("app").wantError(http.StatusUnauthorized, "invalid_client")
		})
	}
	t.Run("R196 grant types that exist nowhere", func(t *testing.T) {
		t.Parallel()
		const known = "authorization_code, implicit, password, client_credentials, refresh_token, " +
			"urn:ietf:params:oauth:grant-type:device_code, urn:ietf:params:oauth:grant-type:jwt-bearer, " +
			"urn:ietf:params:oauth:grant-type:saml2-bearer, urn:ietf:params:oauth:grant-type:token-exchange, urn:openid:params:grant-type:ciba"
		for bad, want := range map[string]string{
			`["code"]`:                         `fixtures.json:20: clients[0].grant_types[0]: "code" is unknown; expected one of ` + known,
			`["refresh_token", ""]`:            `fixtures.json:20: clients[0].grant_types[1]: "" is unknown; expected one of ` + known,
			"[\n\"refresh_token\",\n\"Code\"]": `fixtures.json:22: clients[0].grant_types[1]: "Code" is unknown; expected one of ` + known,
		} {
			_, err := start(t).load(strings.Replace(validFixtures, `["authorization_code", "refresh_token"]`, bad, 1))
			if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", bad, err, want)
			}
		}
		i := startControlled(t)
		i.control("POST", "clients", `{"client_id": "x", "grant_types": ["code"]}`).wantProblem(`grant_types[0]: "code" is unknown`)
	})
	t.Run("R196 grant types that another profile has do no harm", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"implicit", "password", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:token-exchange"} {
			i := startProfile(t, "mastodon")
			if _, err := i.load(`{"clients": [{"client_id": "app", "grant_types": ["authorization_code", "` + name + `"]}]}`); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("R196 a byte order mark is skipped", func(t *testing.T) {
		t.Parallel()
		if _, err := start(t).load("\ufeff" + validFixtures); err != nil {
			t.Error(err)
		}
		_, err := start(t).load("\ufeff" + strings.Replace(validFixtures, `"users"`, `"people"`, 1))
		if want := "fixtures.json:2: people: unknown key"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := start(t).load("\ufeff\ufeff" + validFixtures); err == nil {
			t.Error("a second one is skipped too")
		}
		parcels, err := os.ReadFile("testdata/parcels.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseProfile("parcels.json", append([]byte("\ufeff"), parcels...)); err != nil {
			t.Errorf("profile: %v", err)
		}
	})
	t.Run("R196 scope outside the profile's list", func(t *testing.T) {
		t.Parallel()
		_, err := start(t, scoped("", "read", "delete")).load(validFixtures)
		if want := `fixtures.json:21: clients[0].scope: has "write", which is not in the profile's list: read, delete`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("owner from before", func(t *testing.T) {
		t.Parallel()
		if _, err := start(t).load(`{"clients": [{"client_id": "app", "owner": "alice"}]}`); err != nil {
			t.Error(err)
		}
	})
}

// TestFixtureDefaults: what a client gets that does not say.
func TestFixtureDefaults(t *testing.T) {
	t.Parallel()
	password := func(clientID string) url.Values {
		return withClient(clientID, url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}})
	}
	t.Run("grant_types", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		// web names none: all that suit it but password and implicit.
		_, refresh := i.tokens("web")
		i.refresh("web", refresh).wantToken()
		i.ownToken("web").wantToken()
		i.post(i.endpoint("token"), password("web")).wantError(http.StatusBadRequest, "unauthorized_client")
		implicit := authorization("web")
		implicit.Set("response_type", "token")
		i.as("alice").authorize(implicit).wantRedirect("unauthorized_client", "xyz")
		// A public client has nothing to prove itself by (RFC 6749 §4.4).
		i.tokens("native")
		i.ownToken("native").wantError(http.StatusBadRequest, "unauthorized_client")
		// legacy names both.
		i.post(i.endpoint("token"), password("legacy")).wantToken()
		implicit = authorization("legacy")
		implicit.Set("response_type", "token")
		if i.as("alice").approve(implicit).param("access_token") == "" {
			t.Error("no access token in the redirect")
		}
		// Who names one has that one only; one that the profile lacks does no good.
		i.furnish(`{"clients": [{"client_id": "app", "client_secret": "app-secret", "grant_types": ["password", "urn:example"]}]}`)
		i.post(i.endpoint("token"), password("app")).wantToken()
		i.ownToken("app").wantError(http.StatusBadRequest, "unauthorized_client")
		i.post(i.endpoint("token"), withClient("app", url.Values{"grant_type": {"urn:example"}})).wantError(http.StatusBadRequest, "unsupported_grant_type")
	})
	t.Run("scope", func(t *testing.T) {
		t.Parallel()
		const clients = `{"clients": [{"client_id": "app", "client_secret": "app-secret"}, {"client_id": "writer", "client_secret": "writer-secret", "scope": "write"},
			{"client_id": "shouter", "client_secret": "shouter-secret", "scope": "WRITE Write"}]}`
		anyCase := func(s *server) {
			scoped("", "read", "write")(s)
			s.profile.ScopesIgnoreCase = true
		}
		for _, row := range []struct {
			profile         func(*server)
			client, request string
			want            string // scope, or error
		}{
			{scoped(""), "app", "", ""},
			{scoped(""), "app", "anything goes", "anything goes"},
			{scoped(""), "writer", "", "write"},
			{scoped(""), "writer", "read", "invalid_scope"},
			{scoped("", "read", "write"), "app", "", "read write"},
			{scoped("", "read", "write"), "app", "write", "write"},
			{scoped("", "read", "write"), "app", "admin", "invalid_scope"},
			{scoped("", "read", "write"), "writer", "", "write"},
			{scoped("read", "read", "write"), "app", "", "read"},
			{scoped("read", "read", "write"), "app", "write", "write"},
			// The profile's default is no more than a client is registered for (R117).
			{scoped("read", "read", "write"), "writer", "", "invalid_scope"},
			{scoped("read write", "read", "write"), "writer", "", "write"},
			{scoped("read", "read", "write"), "writer", "read", "invalid_scope"},
			// What is kept and granted is in the profile's spelling, once.
			{anyCase, "shouter", "", "write"},
			{anyCase, "shouter", "write WRITE", "write"},
			{anyCase, "shouter", "read", "invalid_scope"},
			{anyCase, "writer", "WRITE", "write"},
		} {
			i := start(t, row.profile)
			i.furnish(clients)
			r := i.post(i.endpoint("token"), withClient(row.client, url.Values{"grant_type": {"client_credentials"}, "scope": {row.request}}))
			got, _ := r.json["scope"].(string)
			if r.StatusCode != http.StatusOK {
				got, _ = r.json["error"].(string)
			}
			if got != row.want {
				t.Errorf("%s asks for %q with the scopes %v: got %q, want %q", row.client, row.request, i.server.profile.scopeNames(), got, row.want)
			}
		}
		i := start(t, anyCase)
		_, token := i.tokens("web")
		if r := i.refresh("web", token, "scope", "READ"); r.json["scope"] != "read" {
			t.Errorf("refreshing for READ: %d %s", r.StatusCode, r.body)
		}
	})
	t.Run("token_endpoint_auth_method", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for _, method := range []string{"", "client_secret_basic", "client_secret_post"} {
			i.furnish(fmt.Sprintf(`{"clients": [{"client_id": "app", "client_secret": "app-secret", "token_endpoint_auth_method": %q}]}`, method))
			i.ownToken("app").wantToken()
			i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}}, "Authorization", "Basic YXBwOmFwcC1zZWNyZXQ=").wantToken()
			i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}}).wantError(http.StatusUnauthorized, "invalid_client")
		}
		secrets, err := i.load(`{"clients": [{"client_id": "app", "token_endpoint_auth_method": "none"}]}`)
		if err != nil || len(secrets) > 0 {
			t.Errorf("a public client gets the secrets %v, %v", secrets, err)
		}
		i.ownToken("app").wantError(http.StatusUnauthorized, "invalid_client") // has sent its old secret
	})
}

// TestFixtureSecret: a secret that the server makes is shown once, and not
// lost where a start is refused.
func TestFixtureSecret(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	writeFile(t, folder, "fixtures.json", `{"clients": [{"client_id": "app"}, {"client_id": "native", "token_endpoint_auth_method": "none"}]}`)
	status, _, _ := runToEnd(t, command(t, folder, nil, "-addr", "127.0.0.1:0", "-fixtures", "fixtures.json", "-auto-approve", "nobody"))
	if status != 2 {
		t.Errorf("exit status %d, want 2", status)
	}
	p := launch(t, folder, "-fixtures", "fixtures.json")
	_, shown, _ := strings.Cut(p.said(), "client app has the secret ")
	secret, _, found := strings.Cut(shown, " (shown once)")
	if !found || len(secret) != 43 || strings.Contains(p.said(), "client native") {
		t.Fatalf("banner: %s", p.said())
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}, "client_secret": {secret}}
	p.post(p.endpoint("token"), form).wantToken()
	p.stop()
	if strings.Count(p.said(), secret) != 1 {
		t.Errorf("the secret is in the log: %s", p.said()) // R174
	}
	p = launch(t, folder, "-fixtures", "fixtures.json")
	if strings.Contains(p.said(), "secret") {
		t.Errorf("the second banner: %s", p.said())
	}
	p.post(p.endpoint("token"), form).wantToken()
}

// TestFixtureReplacement: what was issued for a user or a client lives on when
// the file is read again.
func TestFixtureReplacement(t *testing.T) {
	t.Parallel()
	signedIn := func(b *browser) bool { return b.authorize(authorization("native")).action() != "/login" }

	t.Run("the same file", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b, code := i.as("alice"), i.code("web")
		access, refresh := i.tokens("web")
		public, _ := i.tokens("native")
		own, _ := i.ownToken("web").wantToken()
		i.furnish(instanceFixtures)
		i.wantAlive(access, refresh, public, own)
		i.refresh("web", refresh).wantToken()
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		if !signedIn(b) {
			t.Error("alice is signed out")
		}
	})
	t.Run("another name and password", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		alice, bob := i.as("alice"), i.as("bob")
		access, refresh := i.tokens("web")
		i.furnish(`{"users": [{"username": "alice", "password": "through", "name": "Alice"}]}`)
		i.wantAlive(access, refresh)
		if signedIn(alice) {
			t.Error("alice is signed in with the password from before")
		}
		if !signedIn(bob) {
			t.Error("bob is signed out")
		}
		if r := i.browser().signIn("alice", "wonderland"); r.StatusCode == http.StatusSeeOther {
			t.Error("the password from before is good")
		}
		if r := i.browser().signIn("alice", "through"); r.StatusCode != http.StatusSeeOther {
			t.Errorf("the new password: status %d", r.StatusCode)
		}
		who := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
		if who.json["name"] != "Alice" || who.json["email"] != nil {
			t.Errorf("userinfo: %s", who.body)
		}
	})
	t.Run("another name with the same password", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		i.furnish(`{"users": [{"username": "alice", "password": "wonderland", "name": "Alice"}]}`)
		if !signedIn(b) {
			t.Error("alice is signed out")
		}
	})
	t.Run("another secret", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		access, refresh := i.tokens("web")
		i.furnish(`{"clients": [{"client_id": "web", "client_secret": "new", "redirect_uris": ["https://cb.example/new"]}]}`)
		i.wantAlive(access, refresh)
		i.refresh("web", refresh).wantError(http.StatusUnauthorized, "invalid_client")
		i.refresh("web", refresh, "client_secret", "new").wantToken()
		i.as("alice").authorize(authorization("web")).wantPage(http.StatusBadRequest)
	})
	t.Run("no secret keeps the one it has", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		secrets, err := i.load(`{"clients": [{"client_id": "web"}]}`)
		if err != nil || len(secrets) > 0 {
			t.Errorf("got the secrets %v, %v", secrets, err)
		}
		i.ownToken("web").wantToken()
	})
	t.Run("public becomes confidential", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		_, refresh := i.tokens("native")
		secrets, err := i.load(`{"clients": [{"client_id": "native"}]}`)
		if err != nil || secrets["native"] == "" {
			t.Fatalf("got the secrets %v, %v", secrets, err)
		}
		i.refresh("native", refresh).wantError(http.StatusUnauthorized, "invalid_client")
		i.refresh("native", refresh, "client_secret", secrets["native"]).wantToken()
	})
	t.Run("all or nothing", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		if _, err := i.load(`{"users": [{"username": "alice", "password": "through"}], "clients": [{"client_id": "web", "client_secret": "new"}, {"client_id": "app", "owner": "nobody"}]}`); err == nil {
			t.Error("an owner that does not exist is accepted")
		}
		i.ownToken("web").wantToken()
		if !signedIn(b) {
			t.Error("alice is signed out")
		}
	})
}

// TestHashLater starts a server with fixtures and a file: it answers before their
// passwords are hashed, and nobody signs in until then.
func TestHashLater(t *testing.T) {
	t.Parallel()
	i := start(t, onDisk(t, filepath.Join(t.TempDir(), "grantling.db")))
	alice, bob := i.as("alice"), i.as("bob")
	file := &fixtures{Users: []userFixture{
		{Username: "alice", Password: "wonderland"}, {Username: "bob", Password: "changed"}, {Username: "carol", Password: "new"},
	}}
	i.must(i.server.furnish([]*fixtures{file}, &options{fixtures: []string{"fixtures.json"}, db: "grantling.db"}, &outlet{to: io.Discard}))
	password := func(ctx context.Context, username, password string) (bool, error) {
		u, _, err := i.server.checkPassword(ctx, username, password, "192.0.2.1", unixTime(i.server.clock.now().Unix()))
		return u != nil, err
	}
	early, hangUp := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer hangUp()
	for _, username := range []string{"alice", "bob", "carol"} {
		if _, err := password(early, username, "wonderland"); asOAuthError(err).Status != http.StatusServiceUnavailable {
			t.Errorf("%s may sign in already: %v", username, err)
		}
		if u, err := i.server.store.userNamed(username); u == nil {
			t.Errorf("there is no %s: %v", username, err)
		}
	}
	i.server.afterStart(t.Context())
	for _, c := range []struct {
		username, password string
		want               bool
	}{
		{"alice", "wonderland", true}, {"alice", "", false}, {"bob", "changed", true}, {"bob", "builder", false}, {"carol", "new", true}, {"carol", "", false},
	} {
		if got, err := password(t.Context(), c.username, c.password); got != c.want || err != nil {
			t.Errorf("%s with %q: %v, %v", c.username, c.password, got, err)
		}
	}
	asksPassword := func(b *browser) bool { return strings.Contains(b.get("/account/authorized").body, `name="password"`) }
	if asksPassword(alice) || !asksPassword(bob) {
		t.Error("alice, with the same password, must stay signed in, and bob, with another one, must not")
	}
	// A start that is killed before they are hashed, and the next one.
	file.Users[2].Username = "dave"
	for range 2 {
		i.must(i.server.furnish([]*fixtures{file}, &options{fixtures: []string{"fixtures.json"}, db: "grantling.db"}, &outlet{to: io.Discard}))
		for range cap(i.server.hashing) {
			<-i.server.hashing
		}
	}
	if got, err := password(t.Context(), "dave", ""); got || err != nil {
		t.Errorf("a user without a password: %v, %v", got, err)
	}
	for range cap(i.server.hashing) {
		i.server.hashing <- struct{}{}
	}
	i.server.afterStart(t.Context())
	if got, err := password(t.Context(), "dave", "new"); !got {
		t.Errorf("dave cannot sign in: %v", err)
	}
}
