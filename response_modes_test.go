package main

import (
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// answered are the parameters that an answer brings to the client, and the part of
// it that has them: query, fragment or form_post.
func (r *reply) answered() (mode string, answer url.Values) {
	r.i.Helper()
	if r.StatusCode == http.StatusOK && strings.Contains(r.body, " data-submit>") {
		return "form_post", r.form(nil)
	}
	u := r.location()
	if u.RawQuery != "" {
		mode, answer = "query", u.Query()
	}
	if u.Fragment != "" {
		fragment, err := url.ParseQuery(u.EscapedFragment())
		if err != nil || mode != "" {
			r.i.Fatalf("the redirect is %s", u)
		}
		mode, answer = "fragment", fragment
	}
	return mode, answer
}

// TestResponseModes: a code, and every error that the client gets, goes back in
// the way that the request asks for.
func TestResponseModes(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [
		{"client_id": "app", "token_endpoint_auth_method": "none", "redirect_uris": ["com.example.app:/cb"]},
		{"client_id": "paper", "client_secret": "paper-secret", "redirect_uris": ["` + outOfBand + `"]},
		{"client_id": "queried", "client_secret": "queried-secret", "redirect_uris": ["https://q.example/cb?a=b&c=%22"]}]}`)
	redirectURI := map[string]string{"app": "com.example.app:/cb", "paper": outOfBand, "queried": "https://q.example/cb?a=b&c=%22"}
	t.Run("R195 what may stand there", func(t *testing.T) {
		r := i.in(t).as("alice").authorize(authorization("web", "response_mode", "web_message"))
		if got := r.param("error_description"); got != "response_mode must be query or fragment or form_post with this response_type, or be left out" {
			t.Error(got)
		}
	})
	for _, row := range []struct {
		name     string
		client   string
		change   []string
		decision string
		mode     string
		error    string // "": a code
	}{
		{"no response_mode", "web", nil, "approve", "query", ""},
		{"query", "web", []string{"response_mode", "query"}, "approve", "query", ""},
		{"fragment", "web", []string{"response_mode", "fragment"}, "approve", "fragment", ""},
		{"form_post", "web", []string{"response_mode", "form_post"}, "approve", "form_post", ""},
		{"form_post on loopback", "native", []string{"response_mode", "form_post"}, "approve", "form_post", ""},
		{"form_post to a redirect URI with a query", "queried", []string{"response_mode", "form_post"}, "approve", "form_post", ""},
		{"fragment to an app", "app", []string{"response_mode", "fragment"}, "approve", "fragment", ""},

		{"query denied", "web", []string{"response_mode", "query"}, "deny", "query", "access_denied"},
		{"fragment denied", "web", []string{"response_mode", "fragment"}, "deny", "fragment", "access_denied"},
		{"form_post denied", "web", []string{"response_mode", "form_post"}, "deny", "form_post", "access_denied"},
		{"fragment with a wrong scope", "web", []string{"response_mode", "fragment", "scope", "admin"}, "", "fragment", "invalid_scope"},
		{"form_post with a wrong scope", "web", []string{"response_mode", "form_post", "scope", "admin"}, "", "form_post", "invalid_scope"},
		{"form_post without response_type", "web", []string{"response_mode", "form_post", "response_type", absent}, "", "form_post", "invalid_request"},
		{"form_post with prompt none", "other", []string{"response_mode", "form_post", "prompt", "none"}, "", "form_post", "consent_required"},

		{"R38 unknown", "web", []string{"response_mode", "web_message"}, "", "query", "invalid_request"},
		{"in capitals", "web", []string{"response_mode", "FORM_POST"}, "", "query", "invalid_request"},
		{"twice", "web", []string{"response_mode", "form_post", "response_mode", "form_post"}, "", "query", "invalid_request"},
		{"form_post to an app", "app", []string{"response_mode", "form_post"}, "", "query", "invalid_request"},
		{"R38 form_post with token", "legacy", []string{"response_type", "token", "response_mode", "form_post"}, "", "fragment", "invalid_request"},
		{"R38 query with token", "legacy", []string{"response_type", "token", "response_mode", "query"}, "", "fragment", "invalid_request"},
	} {
		t.Run("R221 "+row.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			change := slices.Clone(row.change)
			if uri := redirectURI[row.client]; uri != "" {
				change = append([]string{"redirect_uri", uri}, change...)
			}
			b := i.as("alice")
			if row.decision != "" {
				change = append(change, "prompt", "consent")
			}
			r := b.authorize(authorization(row.client, change...))
			if row.decision != "" {
				r = b.decide(r, row.decision)
			}
			mode, answer := r.answered()
			if mode != row.mode || answer.Get("state") != "xyz" || answer.Get("iss") != i.URL || answer.Get("error") != row.error || answer.Has("code") != (row.error == "") {
				t.Fatalf("%s has %v", mode, answer)
			}
			if mode == "form_post" {
				want := redirectURIs[row.client]
				if row.client == "queried" {
					want = redirectURI["queried"]
				}
				if got := r.action(); got != want {
					t.Errorf("the form goes to %s, want %s", got, want)
				}
				if r.Header.Get("Location") != "" || r.Header.Get("Referrer-Policy") != "origin" || strings.Contains(r.Header.Get("Content-Security-Policy"), "form-action") {
					t.Errorf("the header is %v", r.Header)
				}
			}
			if row.error == "" {
				exchange := with(exchangeOf("web", answer.Get("code")), "client_id", row.client, "client_secret", row.client+"-secret")
				if row.client == "native" || row.client == "app" {
					exchange.Del("client_secret")
				}
				exchange.Set("redirect_uri", authorization(row.client, change...).Get("redirect_uri"))
				i.post(i.endpoint("token"), exchange).wantToken()
			}
		})
	}
	t.Run("R221 form_post out of band", func(t *testing.T) {
		i := i.in(t)
		r := i.as("alice").authorize(authorization("paper", "redirect_uri", outOfBand, "response_mode", "form_post"))
		r.wantErrorPage(http.StatusBadRequest, "invalid_request", "response_mode form_post needs a redirect URI of http or https, which a browser can send a form to")
	})
	t.Run("R221 what a form brings is text", func(t *testing.T) {
		i := i.in(t)
		const state = `"><script>alert(1)</script>&amp;`
		r := i.as("alice").approve(authorization("web", "response_mode", "form_post", "state", state))
		_, answer := r.answered()
		if answer.Get("state") != state || strings.Contains(r.body, state) || !strings.Contains(r.body, html.EscapeString("<script>")) {
			t.Errorf("%s", r.body)
		}
	})
	t.Run("R221 metadata", func(t *testing.T) {
		i := i.in(t)
		if got := i.get("/.well-known/oauth-authorization-server").body; !strings.Contains(got, `"response_modes_supported":["query","fragment","form_post"]`) {
			t.Error(got)
		}
	})
	t.Run("R221 by the control API", func(t *testing.T) {
		i := startControlled(t)
		r := i.decideURL(authorization("web", "response_mode", "form_post"), "alice", "approve")
		form, _ := r.json["form"].(map[string]any)
		if code, _ := form["code"].(string); r.json["redirect_to"] != "https://cb.example/cb" || code == "" || form["state"] != "xyz" || form["iss"] != i.URL || len(form) != 3 {
			t.Errorf("%s", r.body)
		}
		r = i.decideURL(authorization("web", "response_mode", "form_post"), "alice", "deny")
		form, _ = r.json["form"].(map[string]any)
		if form["error"] != "access_denied" || form["state"] != "xyz" || form["iss"] != i.URL {
			t.Errorf("%s", r.body)
		}
	})
	for _, service := range []string{"figshare", "mastodon", "trackmania", "sharesight"} {
		t.Run("R221 not in "+service, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, service)
			r := i.as("alice").authorize(plain("web", "response_mode", "form_post"))
			if strings.Contains(r.body, " data-submit>") || strings.Contains(r.body, `name="decision"`) {
				t.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		})
	}
	for _, row := range []struct{ modes, problem string }{
		{`["fragment"]`, "must begin with query"}, {`[]`, "must begin with query"}, {`["query", "jwt"]`, "jwt"}, {`["query", "form_post"]`, ""},
	} {
		t.Run("R221 profile with "+row.modes, func(t *testing.T) {
			t.Parallel()
			data, err := profileFiles.ReadFile("profiles/rfc6749.json")
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseProfile("p.json", []byte(strings.Replace(string(data), `["query", "fragment", "form_post"]`, row.modes, 1)))
			if row.problem == "" && err != nil || row.problem != "" && (err == nil || !strings.Contains(err.Error(), row.problem)) {
				t.Errorf("%v", err)
			}
		})
	}
}
