package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const (
	apiA = "https://a.example/mcp"
	apiB = "https://b.example/"
	apiC = "urn:example:c"
)

// forResources adds resource parameters to a request.
func forResources(form url.Values, resources ...string) url.Values {
	form["resource"] = resources
	return form
}

// wantAudience wants introspection of a token to say this JSON of aud, "" for none.
func (i *instance) wantAudience(token, want string) {
	i.Helper()
	r := i.introspect(token)
	got, _ := json.Marshal(r.json["aud"])
	if want == "" {
		want = "null"
	}
	if active, _ := r.json["active"].(bool); !active || string(got) != want {
		i.Errorf("introspection says %s, want aud %s", r.body, want)
	}
}

// codeFor is a code for resources that alice agreed to.
func (i *instance) codeFor(clientID string, resources ...string) string {
	i.Helper()
	return i.as("alice").approve(forResources(authorization(clientID), resources...)).param("code")
}

// TestResources: where a token is for (RFC 8707).
func TestResources(t *testing.T) {
	t.Parallel()
	i := start(t)
	token := func(i *instance, form url.Values) *reply { return i.post(i.endpoint("token"), form) }
	t.Run("R213 what was granted stands in aud", func(t *testing.T) {
		t.Parallel()
		for want, resources := range map[string][]string{
			``:                                       nil,
			`"https://a.example/mcp"`:                {apiA},
			`"https://b.example/"`:                   {apiB, "", apiB},
			`["https://b.example/","urn:example:c"]`: {apiB, apiC},
		} {
			i := i.in(t)
			access, refresh := token(i, exchangeOf("web", i.codeFor("web", resources...))).wantToken()
			i.wantAudience(access, want)
			i.wantAudience(refresh, want)
			access, refresh = i.refresh("web", refresh).wantToken()
			i.wantAudience(access, want)
			i.wantAudience(refresh, want)
			own, _ := token(i, forResources(withClient("web", url.Values{"grant_type": {"client_credentials"}}), resources...)).wantToken()
			i.wantAudience(own, want)
			byPassword, _ := token(i, forResources(withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}), resources...)).wantToken()
			i.wantAudience(byPassword, want)
		}
	})
	t.Run("R213 implicit grant", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		r := i.as("alice").approve(forResources(authorization("legacy", "response_type", "token", "code_challenge", absent, "code_challenge_method", absent), apiA))
		fragment, _ := url.ParseQuery(r.location().Fragment)
		i.wantAudience(fragment.Get("access_token"), `"https://a.example/mcp"`)
	})
	t.Run("R213 the exchange of a code narrows", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		access, refresh := token(i, forResources(exchangeOf("web", i.codeFor("web", apiA, apiB)), apiB)).wantToken()
		i.wantAudience(access, `"https://b.example/"`)
		i.wantAudience(refresh, `["https://a.example/mcp","https://b.example/"]`)
	})
	t.Run("R213 a refresh may narrow, never widen", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		_, refresh := token(i, exchangeOf("web", i.codeFor("web", apiA, apiB))).wantToken()
		for _, asked := range [][]string{{apiC}, {apiA, apiC}, {"https://a.example/"}, {"https://A.example/mcp"}, {"https://a.example/mcp/"}, {i.URL}} {
			token(i, forResources(refreshOf("web", refresh), asked...)).wantError(http.StatusBadRequest, "invalid_target")
		}
		access, refresh := token(i, forResources(refreshOf("web", refresh), apiA)).wantToken()
		i.wantAudience(access, `"https://a.example/mcp"`)
		access, _ = token(i, forResources(refreshOf("web", refresh), apiB, apiA)).wantToken()
		i.wantAudience(access, `["https://b.example/","https://a.example/mcp"]`)
	})
	t.Run("R213 nothing was granted", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		form := exchangeOf("web", i.code("web"))
		token(i, forResources(form, apiA)).wantError(http.StatusBadRequest, "invalid_target")
		access, refresh := token(i, forResources(form)).wantToken() // the code is still good
		i.wantAudience(access, "")
		token(i, forResources(refreshOf("web", refresh), apiA)).wantError(http.StatusBadRequest, "invalid_target")
		i.refresh("web", refresh).wantToken()
	})
	malformed := map[string][]string{
		"no scheme": {"a.example/mcp"}, "path": {"/mcp"}, "fragment": {apiA + "#x"}, "empty fragment": {apiA + "#"}, "no host": {"https://"},
		"two in one": {apiA + " " + apiB}, "space in front": {" " + apiA}, "line": {apiA + "\n"}, "not ASCII": {"https://a.example/é"}, "bad escape": {"https://a.example/%zz"}, "bad escape in a URN": {"urn:example:%zz"}, "quote": {apiA + `"`},
		"not UTF-8": {"https://a.example/\xff"}, "one of two": {apiA, "b"}, "too long": {"https://a.example/" + strings.Repeat("x", 983)},
		"too long together": {"https://a.example/" + strings.Repeat("x", 482), "https://b.example/" + strings.Repeat("x", 483)},
	}
	for name, resources := range malformed {
		t.Run("R213 malformed, "+name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			i.as("alice").authorize(forResources(authorization("web"), resources...)).wantRedirect("invalid_target", "xyz")
			token(i, forResources(withClient("web", url.Values{"grant_type": {"client_credentials"}}), resources...)).wantError(http.StatusBadRequest, "invalid_target")
		})
	}
	t.Run("R213 as long as may be", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		i.furnish(`{"clients": [{"client_id": "any", "client_secret": "any-secret", "redirect_uris": ["https://cb.example/cb"]}]}`)
		resource := "https://a.example/" + strings.Repeat("x", maxResources-18)
		own, _ := token(i, forResources(withClient("any", url.Values{"grant_type": {"client_credentials"}, "scope": {strings.Repeat("x", maxScopeSize)}}), resource)).wantToken()
		i.wantAudience(own, `"`+resource+`"`)
	})
	t.Run("R213 aud of a JSON Web Token", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		for want, resources := range map[string][]string{
			`"` + i.URL + `"`:                        nil,
			`"https://a.example/mcp"`:                {apiA},
			`["https://b.example/","urn:example:c"]`: {apiB, apiC},
		} {
			access, _ := token(i, exchangeOf("web", i.codeFor("web", resources...))).wantToken()
			_, claims := claimsOf(t, access)
			if got, _ := json.Marshal(claims["aud"]); string(got) != want {
				t.Errorf("aud %s, want %s", got, want)
			}
		}
	})
	t.Run("R213 where a token may be used", func(t *testing.T) {
		t.Parallel()
		const issuer = "https://as.example/tenant"
		i := start(t).in(t).behind(issuer)
		for _, row := range []struct {
			resources []string
			status    int
		}{
			{nil, 200}, {[]string{issuer}, 200}, {[]string{issuer + "/"}, 200}, {[]string{apiA, issuer + "/userinfo"}, 200},
			{[]string{apiA}, 401}, {[]string{"https://as.example/userinfo"}, 401}, {[]string{issuer + "/userinfo/"}, 401},
		} {
			access, _ := i.post("/tenant/oauth/token", forResources(withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}), row.resources...)).wantToken()
			r := i.get("/tenant/userinfo", "Authorization", "Bearer "+access)
			if r.StatusCode != row.status || row.status == 401 && !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token", error_description="the access token is for other resources`) {
				t.Errorf("%q: status %d: %s", row.resources, r.StatusCode, r.Header)
			}
			if r := i.get("/tenant/oauth/token/info", "Authorization", "Bearer "+access); r.StatusCode != 200 { // its holder may learn what it is
				t.Errorf("%q at token info: status %d", row.resources, r.StatusCode)
			}
		}
	})
	t.Run("R213 consent", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		if page := b.authorize(forResources(authorization("web"), apiA, apiB)); !strings.Contains(page.body, apiA) || !strings.Contains(page.body, apiB) {
			t.Errorf("the page does not name the resources: %s", page.body)
		}
		token(i, exchangeOf("web", b.approve(forResources(authorization("web"), apiA, apiB)).param("code"))).wantToken()
		for _, row := range []struct {
			resources []string
			asked     bool
		}{{[]string{apiA}, false}, {[]string{apiB, apiA}, false}, {[]string{apiC}, true}, {[]string{apiA, apiC}, true}, {nil, true}} {
			if r := b.authorize(forResources(authorization("web"), row.resources...)); (r.StatusCode == http.StatusOK) != row.asked {
				t.Errorf("%v: status %d, want the user to be asked: %t", row.resources, r.StatusCode, row.asked)
			}
		}
	})
	t.Run("R213 a profile that ignores it, and one that takes JSON", func(t *testing.T) {
		t.Parallel()
		services := startProfile(t, "sharesight")
		token(services, forResources(withClient("web", url.Values{"grant_type": {"client_credentials"}}), "no URI", "nor this")).wantToken()
		i := startExtended(t, `"bodies": ["form", "json"]`)
		for body, want := range map[string]string{
			`"https://a.example/mcp"`:              `"https://a.example/mcp"`,
			`["https://a.example/mcp"]`:            `"https://a.example/mcp"`,
			`["https://a.example/mcp", "urn:a:b"]`: `["https://a.example/mcp","urn:a:b"]`,
			`{"uri": "https://a.example/mcp"}`:     "invalid_target",
		} {
			r := i.browser().do("POST", i.endpoint("token"), `{"grant_type":"client_credentials","client_id":"web","client_secret":"web-secret","resource":`+body+`}`, "Content-Type", "application/json")
			if want == "invalid_target" {
				r.wantError(http.StatusBadRequest, want)
			} else {
				access, _ := r.wantToken()
				i.wantAudience(access, want)
			}
		}
	})
}
