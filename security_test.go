package main

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// securityRows are what every profile must keep, whatever it says. Each row
// uses the server that the rows before it have used; those that move the clock
// or use up tries come last.
var securityRows = []struct {
	name  string
	grant string // only where the profile has this grant
	test  func(i *instance)
}{
	{"3.1.2.4 an unregistered redirect_uri leads nowhere", "", func(i *instance) {
		b := i.as("alice")
		for n, redirectURI := range []string{
			"https://evil.example/", "https://cb.example/cb/", "https://cb.example/cb?x=1", "https://cb.example/", "https://cb.example:444/cb", "https://CB.example/cb",
			"https://cb.example.evil.example/cb", "https://cb.example@evil.example/cb", "http://cb.example/cb", "//cb.example/cb", "javascript:alert(1)",
		} {
			wrong := []string{"state", "response_type", "scope"}[n%3] // whatever else is wrong
			b.authorize(plain("web", "redirect_uri", redirectURI, wrong, "wrong")).wantStays()
		}
	}},
	{"4.1.2.1 an unknown client leads nowhere", "", func(i *instance) {
		i.as("alice").authorize(plain("web", "client_id", "nobody")).wantStays()
	}},
	{"4.1.2 state comes back", "authorization_code", func(i *instance) {
		if r := i.as("alice").approve(plain("web", "state", "a&b=c #%")); r.param("state") != "a&b=c #%" {
			i.Errorf("state is %q", r.param("state"))
		}
	}},
	{"4.2 the implicit grant is for clients that are registered for it", "implicit", func(i *instance) {
		i.as("alice").approve(plain("web", "response_type", "token")).wantNothing()
	}},
	{"7636 4.3 a challenge that is no hash", "authorization_code", func(i *instance) {
		i.as("alice").approve(plain("native", "code_challenge", verifier, "code_challenge_method", "plain")).wantNothing()
	}},
	{"10.12 a decision needs the page it is made on", "authorization_code", func(i *instance) {
		b := i.as("bob")
		page := b.authorize(plain("legacy"))
		form := page.form(url.Values{"decision": {"approve"}})
		forged := i.as("alice").authorize(plain("legacy")).form(url.Values{"decision": {"approve"}})
		b.post(page.action(), forged).wantNothing()
		form.Del("mac")
		b.post(page.action(), form).wantNothing()
	}},
	{"10.12 nobody is signed in from another site", "", func(i *instance) {
		b := i.browser()
		form := b.get("/login").form(credentials("alice", "wonderland"))
		b.post("/login", form, "Origin", "https://evil.example")
		if page := b.authorize(plain("web")); page.action() != "/login" {
			i.Errorf("signed in: %s", page.body)
		}
	}},
	{"2.3.1 a secret is needed", "authorization_code", func(i *instance) {
		code := i.plainCode("web")
		for _, secret := range []string{"", "guess", "other-secret", "web-secret ", "WEB-SECRET"} {
			i.token(plainExchange("web", code, "client_secret", secret)).wantNothing()
			i.token(plainExchange("web", code, "client_id", absent, "client_secret", absent), "Authorization", basicHeader("web", secret)).wantNothing()
		}
		i.token(plainExchange("web", code, "client_secret", "guess"), "Authorization", basicHeader("web", "web-secret")).wantNothing()
		i.token(plainExchange("web", code)).wantToken()
	}},
	{"4.1.2 a code is good once, and a second use ends what came of it", "authorization_code", func(i *instance) {
		form := plainExchange("web", i.plainCode("web"))
		access, refresh := i.token(form).wantToken()
		i.wantOpens(access, true)
		i.token(form).wantNothing()
		i.wantOpens(access, false)
		if refresh != "" {
			i.refresh("web", refresh).wantNothing()
		}
	}},
	{"4.1.3 a code is its client's", "authorization_code", func(i *instance) {
		for owner, thief := range map[string]string{"web": "other", "native": "native2"} {
			code := i.code(owner, "scope", absent)
			form := exchangeOf(owner, code)
			form.Del("client_secret")
			i.token(withClient(thief, form)).wantNothing()
			i.token(exchangeOf(owner, code)).wantToken()
		}
	}},
	{"4.1.3 redirect_uri is compared whole", "authorization_code", func(i *instance) {
		code := i.plainCode("web")
		for _, redirectURI := range []string{"https://cb.example/cb/", "https://cb.example/cb?x=1", "https://CB.example/cb", "https://other.example/cb"} {
			i.token(plainExchange("web", code, "redirect_uri", redirectURI)).wantNothing()
		}
		i.token(plainExchange("web", code)).wantToken()
	}},
	{"7636 4.6 the verifier is checked", "authorization_code", func(i *instance) {
		code := i.code("native", "scope", absent)
		for _, guess := range []string{absent, "", strings.Repeat("a", 43), challengeOf(verifier), verifier + "a"} {
			form := exchangeOf("native", code)
			form.Set("code_verifier", guess)
			if guess == absent {
				form.Del("code_verifier")
			}
			i.token(form).wantNothing()
		}
		i.token(exchangeOf("native", code)).wantToken()
	}},
	{"9700 4.8.2 a verifier without a challenge", "authorization_code", func(i *instance) {
		code := i.plainCode("web")
		i.token(exchangeOf("web", code)).wantNothing()
		i.token(plainExchange("web", code)).wantToken()
	}},
	{"5.1 tokens are not cached", "authorization_code", func(i *instance) {
		r := i.token(plainExchange("web", i.plainCode("web")))
		if got := r.Header.Get("Cache-Control"); got != "no-store" {
			i.Errorf("Cache-Control: %q", got)
		}
	}},
	{"6 a refresh token is its client's", "refresh_token", func(i *instance) {
		_, refresh := i.plainTokens("web")
		if refresh == "" {
			return // the profile's answer does not show it
		}
		i.refresh("other", refresh).wantNothing()
		i.refresh("web", refresh, "client_secret", "guess").wantNothing()
		i.refresh("web", refresh).wantToken()
	}},
	{"9700 4.14.2 a refresh token that is used again ends its family", "refresh_token", func(i *instance) {
		_, first := i.plainTokens("web")
		if first == "" {
			return
		}
		access, second := i.refresh("web", first).wantToken()
		i.wantOpens(access, true)
		i.refresh("web", first).wantNothing()
		i.refresh("web", second).wantNothing()
		i.wantOpens(access, false)
	}},
	{"4.3 passwords are for clients that are registered for them", "password", func(i *instance) {
		i.token(passwordOf("web", "alice", "wonderland")).wantNothing()
		i.token(passwordOf("legacy", "alice", "guess")).wantNothing()
		i.token(passwordOf("legacy", "alice", "wonderland")).wantToken()
	}},
	{"4.4 a public client has no token of its own", "client_credentials", func(i *instance) {
		i.token(clientCredentialsOf("native")).wantNothing()
		i.token(with(clientCredentialsOf("web"), "client_secret", absent)).wantNothing()
		i.token(clientCredentialsOf("web")).wantToken()
	}},
	{"6750 2 a token is no code, and no refresh token", "authorization_code", func(i *instance) {
		access, refresh := i.plainTokens("web")
		i.token(plainExchange("web", access)).wantNothing()
		i.refresh("web", access).wantNothing()
		if refresh != "" {
			i.wantOpens(refresh, false)
			i.token(plainExchange("web", refresh)).wantNothing()
		}
		i.wantOpens(access[:len(access)-1], false)
		i.wantOpens(access, true)
	}},
	{"7009 2.1 only a token's client revokes it", "authorization_code", func(i *instance) {
		if len(i.server.profile.paths("revoke")) == 0 {
			return
		}
		access, _ := i.plainTokens("web")
		i.revoke("other", access)
		i.wantOpens(access, true)
		i.revoke("web", access)
		i.wantOpens(access, false)
	}},
	{"10.2 what a user or the operator ends is over", "authorization_code", func(i *instance) {
		access, refresh := i.plainTokens("web")
		form := plainExchange("web", i.plainCode("web"))
		i.must(i.server.store.revokeGrants(i.ids("web")))
		i.token(form).wantNothing()
		i.wantOpens(access, false)
		if refresh != "" {
			i.refresh("web", refresh).wantNothing()
		}
	}},
	{"4.1.2 a code is good for ten minutes at most", "authorization_code", func(i *instance) {
		form := plainExchange("web", i.plainCode("web"))
		i.advance(10*time.Minute + time.Second)
		i.token(form).wantNothing()
	}},
	{"4.2.2 an access token ends in time", "authorization_code", func(i *instance) {
		lifetime := i.server.profile.AccessTokenLifetime
		access, _ := i.plainTokens("web")
		i.advance(time.Duration(lifetime) * time.Second)
		i.wantOpens(access, lifetime == 0)
	}},
	{"10.10 who guesses a secret has to wait", "authorization_code", func(i *instance) {
		form := plainExchange("other", i.plainCode("other"))
		for range secretTries + 1 {
			i.token(plainExchange("other", "x", "client_secret", "guess")).wantNothing()
		}
		i.token(form).wantNothing()
		i.advance(time.Minute + time.Second)
		i.token(form).wantToken()
	}},
	{"10.10 who guesses a password has to wait", "", func(i *instance) {
		for range passwordTries + 1 {
			i.browser().signIn("bob", "guess")
		}
		b := i.browser()
		b.signIn("bob", "builder")
		if page := b.authorize(plain("web")); page.action() != "/login" {
			i.Errorf("signed in: %s", page.body)
		}
	}},
}

// wantNothing wants an answer without code or token, also not in a redirect.
func (r *reply) wantNothing() {
	r.i.Helper()
	location := r.Header.Get("Location")
	if _, found := r.json["access_token"]; found || strings.Contains(location, "code=") || strings.Contains(location, "access_token=") {
		r.i.Errorf("got status %d, Location %q, %s, want neither code nor token", r.StatusCode, location, r.body)
	}
}

// wantStays wants an answer with nothing in it that leads to a client.
func (r *reply) wantStays() {
	r.i.Helper()
	if location := r.Header.Get("Location"); location != "" || r.StatusCode < 400 {
		r.i.Errorf("%s: got status %d, Location %q, want a refusal here", r.Request.URL, r.StatusCode, location)
	}
}

// wantOpens wants an access token to be good for the user's data, or not.
func (i *instance) wantOpens(access string, want bool) {
	i.Helper()
	r := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
	if got := r.StatusCode == http.StatusOK; got != want {
		i.Errorf("with the token the user's data are answered with %d, %s", r.StatusCode, r.body)
	}
}

// TestSecurity asks for all of it in each profile, and in rfc6749 with each
// field alone as each service has it, or turned around.
func TestSecurity(t *testing.T) {
	t.Parallel()
	run := func(name, profile string, change ...func(*server)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, profile, change...)
			for _, row := range securityRows {
				if row.grant == "" || slices.Contains(i.server.profile.Grants, row.grant) {
					t.Run(row.name, func(t *testing.T) { row.test(i.in(t)) })
				}
			}
		})
	}
	fields := map[string][]any{} // by field, the values that have had their turn
	strict := loadedProfile(t, "rfc6749")
	for n := range reflect.TypeFor[profile]().NumField() {
		if field := reflect.TypeFor[profile]().Field(n); field.IsExported() && field.Name != "Name" && field.Name != "Title" {
			fields[field.Name] = []any{reflect.ValueOf(*strict).Field(n).Interface()}
		}
	}
	alone := func(field, how string, value any, with ...func(*profile)) {
		for _, had := range fields[field] {
			if reflect.DeepEqual(had, value) {
				return
			}
		}
		fields[field] = append(fields[field], value)
		run(field+" "+how, "rfc6749", func(s *server) {
			reflect.ValueOf(s.profile).Elem().FieldByName(field).Set(reflect.ValueOf(value))
			for _, change := range with {
				change(s.profile)
			}
			s.routes = s.newRoutes()
		})
	}
	run("rfc6749", "rfc6749")
	for _, service := range []string{"figshare", "mastodon", "trackmania", "sharesight"} {
		run(service, service)
		p := loadedProfile(t, service)
		scopes := func(own *profile) { own.Scopes = p.Scopes }
		for field := range fields {
			value := reflect.ValueOf(*p).FieldByName(field).Interface()
			if field == "DefaultScope" { // which is one of the scopes
				alone(field, "of "+service, value, scopes)
			} else {
				alone(field, "of "+service, value)
			}
		}
	}
	for field, values := range fields {
		if value, ok := values[0].(bool); ok {
			alone(field, "turned around", !value)
		}
	}
}

// loadedProfile is a built-in profile.
func loadedProfile(t *testing.T, name string) *profile {
	t.Helper()
	p, err := loadProfile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
