package main

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestServicesTake is R197: what a service takes although a strict server
// refuses it works against its profile, and the request log warns of it.
func TestServicesTake(t *testing.T) {
	t.Parallel()
	const (
		twice     = "client authenticates twice, by HTTP Basic and in the body"
		ignored   = "Authorization header that is not Basic beside the client's credentials"
		invalid   = `{"error":"invalid_client","error_description":"<text>"}`
		league    = `{"error":"invalid_client","error_description":"Client authentication failed","message":"Client authentication failed"}`
		ambiguous = `{"error":"invalid_request","error_description":"the client authenticates twice: by HTTP Basic and by client_secret in the body"}`
	)
	// exchange sends a plain exchange of a fresh code, and returns the warnings.
	exchange := func(i *instance, clientID string, header string, change ...string) (*reply, []string) {
		i.Helper()
		form := plainExchange(clientID, i.plainCode(clientID), change...)
		r := i.post(i.endpoint("token"), form, "Authorization", header)
		return r, i.latest().Warnings
	}
	run := func(t *testing.T, service string) *instance {
		t.Parallel()
		i := startProfile(t, service)
		i.must(i.server.openControl())
		return i
	}
	for _, service := range []struct {
		name    string
		status  int
		refused string
	}{
		{"figshare", 400, invalid}, // all its failures are 400
		{"mastodon", 401, `{"error":"invalid_client","error_description":"` + doorkeeperInvalidClient + `"}`},
		{"trackmania", 401, league},
		{"sharesight", 401, `{"error":"invalid_client","error_description":"` + doorkeeperInvalidClient + `"}`},
	} {
		t.Run("R197 Basic and the same in the body, "+service.name, func(t *testing.T) {
			i := run(t, service.name)
			r, warnings := exchange(i, "web", basicHeader("web", "web-secret"))
			r.wantToken()
			if !slices.Equal(warnings, []string{twice}) {
				t.Errorf("warnings %q", warnings)
			}
			if _, warnings := exchange(i, "web", basicHeader("web", "web-secret"), "client_id", absent, "client_secret", absent); len(warnings) > 0 {
				t.Errorf("Basic alone: warnings %q", warnings)
			}
			for name, change := range map[string][]string{
				"another secret":             {"client_secret", "guess"},
				"another client":             {"client_id", "other", "client_secret", "other-secret"},
				"another client, no secret":  {"client_id", "other", "client_secret", absent},
				"another client's secret":    {"client_id", absent, "client_secret", "other-secret"},
				"the same secret of another": {"client_id", "other"},
			} {
				r, _ := exchange(i, "web", basicHeader("web", "web-secret"), change...)
				if r.StatusCode != service.status {
					t.Errorf("%s:", name)
				}
				r.wantAnswer(service.status, service.refused)
			}
			r, _ = exchange(i, "web", basicHeader("web", "guess"))
			r.wantAnswer(service.status, service.refused)
		})
		t.Run("R197 a public client without PKCE, "+service.name, func(t *testing.T) {
			i := run(t, service.name)
			form := plainExchange("native", i.plainCode("native"))
			if form.Has("client_secret") || form.Has("code_verifier") {
				t.Fatalf("the exchange is %v", form)
			}
			i.post(i.endpoint("token"), form).wantToken()
			var warnings []string
			for _, r := range i.records("client_id=native") {
				warnings = append(warnings, r.Warnings...)
			}
			if slices.Sort(warnings); !slices.Equal(slices.Compact(warnings), []string{"PKCE missing"}) {
				t.Errorf("warnings %q", warnings)
			}
			// Who begins with PKCE is held to it.
			code := i.code("native", "scope", absent)
			if r := i.post(i.endpoint("token"), plainExchange("native", code)); r.StatusCode != 400 {
				t.Errorf("without the verifier: %d %s", r.StatusCode, r.body)
			}
			i.post(i.endpoint("token"), exchangeOf("native", code)).wantToken()
		})
		if service.name == "figshare" {
			continue // nothing is known of other schemes there
		}
		t.Run("R197 another scheme beside the body, "+service.name, func(t *testing.T) {
			i := run(t, service.name)
			r, warnings := exchange(i, "web", "Bearer OLD")
			r.wantToken()
			if !slices.Equal(warnings, []string{ignored}) {
				t.Errorf("warnings %q", warnings)
			}
			r, _ = exchange(i, "web", "Bearer OLD", "client_secret", "guess")
			r.wantAnswer(service.status, service.refused)
		})
	}
	t.Run("R197 rfc6749 takes nothing of it", func(t *testing.T) {
		i := run(t, "rfc6749")
		r, _ := exchange(i, "web", basicHeader("web", "web-secret"))
		r.wantAnswer(400, explained(ambiguous))
		r, _ = exchange(i, "web", "Bearer OLD")
		r.wantAnswer(401, explained(invalid))
		i.as("alice").authorize(plain("native")).wantRedirect("invalid_request", "xyz")
	})
	// What a service's page tells its clients to do is no reason to warn.
	for _, service := range []string{"figshare", "mastodon", "trackmania", "sharesight"} {
		t.Run("R197 no warnings for a usual client, "+service, func(t *testing.T) {
			i := run(t, service)
			access, refresh := i.plainTokens("web")
			i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
			if refresh != "" {
				i.refresh("web", refresh).wantToken()
			}
			if slices.Contains(i.server.profile.Grants, "client_credentials") {
				i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
			}
			if len(i.server.profile.paths("revoke")) > 0 {
				i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {access}})).wantAnswer(200, `{}`)
			}
			// An empty secret is none.
			i.post(i.endpoint("token"), with(plainExchange("native", i.code("native", "scope", absent)), "client_secret", "", "code_verifier", verifier)).wantToken()
			for _, r := range i.records("") {
				if len(r.Warnings) > 0 || r.Endpoint == "token" && r.Status != 200 {
					t.Errorf("%s %d: warnings %q", r.Endpoint, r.Status, r.Warnings)
				}
			}
		})
	}
}

// explained is an error answer of a profile whose errors say where they are explained.
func explained(body string) string {
	return strings.TrimSuffix(body, "}") + `,"error_uri":"<text>"}`
}
