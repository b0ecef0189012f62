package main

import (
	"reflect"
	"strings"
	"testing"
)

// TestProfileExtends: a profile has what it says, and the rest of the one that it extends.
func TestProfileExtends(t *testing.T) {
	t.Parallel()
	t.Run("R222 three members make a profile with JSON Web Tokens", func(t *testing.T) {
		t.Parallel()
		got, err := parseProfile("mine.json", []byte("{\n\"extends\": \"rfc6749\", \"name\": \"mine\",\n\"access_token_format\": {\"encoding\": \"jwt\"}\n}"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := loadProfile("rfc6749")
		if err != nil {
			t.Fatal(err)
		}
		want.Extends, want.Name, want.AccessTokenFormat = "rfc6749", "mine", format{Encoding: "jwt"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
	t.Run("R222 lists and answers are replaced, tables are added to", func(t *testing.T) {
		t.Parallel()
		p, err := parseProfile("mine.json", []byte(`{"extends": "mastodon", "endpoints": {"revoke": ["/end"], "introspect": ["/ask"]},
			"scopes": [{"name": "read"}], "default_scope": "read", "registration": {"answer": {"id": "${client_id}"}},
			"introspection_answer": {"active": true}, "resources": [{"endpoint": "userinfo", "paths": ["/me"], "needs": "user", "answer": {}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join([]string{p.Endpoints["revoke"][0], p.Endpoints["introspect"][0], p.Endpoints["token"][0]}, " "); got != "/end /ask /oauth/token" {
			t.Errorf("endpoints: %s", got)
		}
		if len(p.Scopes) != 1 || p.Scopes[0] != (scope{Name: "read"}) {
			t.Errorf("scopes: %+v", p.Scopes)
		}
		if len(p.Registration.Required) != 0 {
			t.Errorf("registration: %+v", p.Registration)
		}
		if len(p.Resources) != 1 || p.Resources[0].Schemes != nil || p.Resources[0].Query != nil {
			t.Errorf("resources: %+v", p.Resources)
		}
	})
	t.Run("R222 null counts as absent, and takes away what may be absent", func(t *testing.T) {
		t.Parallel()
		p, err := parseProfile("mine.json", []byte(`{"extends": "rfc6749", "iss": null, "access_token_lifetime": null, "title": null, "token_type": "null",
			"endpoints": {"registration": null}, "registration": null}`))
		if err != nil {
			t.Fatal(err)
		}
		if !p.Iss || p.AccessTokenLifetime != 3600 || p.Title == "" || p.TokenType != "null" || p.Registration != nil {
			t.Errorf("%+v", p)
		}
	})
	for _, row := range []struct{ name, file, want string }{
		{"R222 unknown profile", "{\n\"extends\": \"rfc6750\"}", `mine.json:2: extends: "rfc6750" is unknown; expected one of figshare, mastodon, rfc6749, sharesight, trackmania`},
		{"R222 not a name", "{\n\n\"extends\": [\"rfc6749\"]}", `mine.json:3: extends: must be a string`},
		{"R222 unknown key", "{\"extends\": \"rfc6749\",\n\"titel\": \"x\"}", `mine.json:2: titel: unknown key`},
		{"R222 a value out of range", "{\"extends\": \"rfc6749\",\n\n\"code_lifetime\": 601}", `mine.json:3: code_lifetime: must be 1 to 600`},
		{"R222 a contradiction with the other", "{\"extends\": \"mastodon\",\n\"scopes\": [{\"name\": \"write\"}]}", `mine.json:1: default_scope: "read" is not in the list of scopes`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseProfile("mine.json", []byte(row.file)); err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}
