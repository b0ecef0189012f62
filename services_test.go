package main

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestServices runs the black-box tests again as each service. A profile says
// how a server speaks; what it checks holds in all of them.
func TestServices(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"figshare", "mastodon", "trackmania", "sharesight"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			for name, test := range map[string]func(*testing.T){
				"TestAuthorize":                      TestAuthorize,
				"TestAuthorizeMethods":               TestAuthorizeMethods,
				"TestAuthorizeRedirectURIComesFirst": TestAuthorizeRedirectURIComesFirst,
				"TestAuthorizeScope":                 TestAuthorizeScope,
				"TestAuthorizeAnonymous":             TestAuthorizeAnonymous,
				"TestAuthorizeAnswer":                TestAuthorizeAnswer,
				"TestAuthorizeState":                 TestAuthorizeState,
				"TestAuthorizeDenied":                TestAuthorizeDenied,
				"TestAuthorizeHeaderInjection":       TestAuthorizeHeaderInjection,
				"TestRedirectURI":                    TestRedirectURI,
				"TestConsentForgery":                 TestConsentForgery,
				"TestConsentOnce":                    TestConsentOnce,
				"TestConsentChecksAnew":              TestConsentChecksAnew,
				"TestConsentRemembered":              TestConsentRemembered,
				"TestPrompt":                         TestPrompt,
				"TestAutoApprove":                    TestAutoApprove,
				"TestOutOfBand":                      TestOutOfBand,
				"TestClientAuthentication":           TestClientAuthentication,
				"TestTokenRequest":                   TestTokenRequest,
				"TestAuthorizationCodeGrant":         TestAuthorizationCodeGrant,
				"TestPasswordGrant":                  TestPasswordGrant,
				"TestClientCredentialsGrant":         TestClientCredentialsGrant,
				"TestTokenAnswer":                    TestTokenAnswer,
				"TestRefreshTokenGrant":              TestRefreshTokenGrant,
				"TestRevoke":                         TestRevoke,
				"TestIntrospect":                     TestIntrospect,
				"TestBearer":                         TestBearer,
				"TestExpiry":                         TestExpiry,
				"TestCredentialsAreExact":            TestCredentialsAreExact,
				"TestDataAtRest":                     TestDataAtRest,
				"TestLog":                            TestLog,
				"TestErrorText":                      TestErrorText,
				"TestPassword":                       TestPassword,
			} {
				t.Run(name, test)
			}
		})
	}
}

// serviceOf is the profile that a test runs in: that of TestServices above it.
func serviceOf(t *testing.T) string {
	parts := strings.Split(t.Name(), "/")
	if parts[0] == "TestServices" && len(parts) > 1 {
		return parts[1]
	}
	return "rfc6749"
}

// lend gives a service's profile what the tests ask by: endpoints, grants,
// scopes, lifetimes, the members of answers, and how the authorization endpoint
// and resources tell errors. Bodies, formats, required parameters, the order of
// checks and how the other endpoints tell errors remain its own. What is lent
// is tested as the service has it in the test of that service.
func (p *profile) lend(t *testing.T) {
	t.Helper()
	lender, err := loadProfile("rfc6749")
	if err != nil {
		t.Fatal(err)
	}
	for name := range lender.Endpoints {
		if len(p.Endpoints[name]) == 0 {
			p.Endpoints[name] = []string{"/lent/" + name}
		}
	}
	p.Resources = lender.Resources
	for i := range p.Resources {
		p.Resources[i].Paths = []string{"/lent/" + p.Resources[i].Endpoint}
	}
	p.Grants = lender.Grants
	p.Scopes, p.DefaultScope, p.TokenScopeIgnored, p.ClientScopeHasNoForce, p.ClientActsForOwner = nil, nil, false, false, false
	p.BasicAndBody, p.PKCEOptional, p.RevokesNothing = false, false, false
	p.CodeLifetime, p.AccessTokenLifetime = lender.CodeLifetime, lender.AccessTokenLifetime
	p.RefreshTokenLifetime, p.GrantLifetime = lender.RefreshTokenLifetime, lender.GrantLifetime
	p.TokenAnswer, p.ImplicitAnswer, p.IntrospectionAnswer, p.RevocationAnswer = lender.TokenAnswer, lender.ImplicitAnswer, lender.IntrospectionAnswer, lender.RevocationAnswer
	p.TokenType, p.Iss, p.ImplicitInQuery, p.ConsentMemory, p.RefreshEndsAccessToken = lender.TokenType, lender.Iss, false, lender.ConsentMemory, false
	for i := range p.Errors {
		rule := &p.Errors[i]
		rule.At = slices.DeleteFunc(rule.At, func(endpoint string) bool {
			return slices.Contains([]string{"authorize", "oob", "userinfo", "tokeninfo"}, endpoint)
		}) // nil stays nil; what is empty now matches nowhere
	}
}

// refusals keeps what a server refused before the profile worded it, by the
// number that a request of the tests carries: answers can be compared with
// what they stand for.
type refusals struct{ sync.Map }

// tagged is an answer to the request of a number.
type tagged struct {
	http.ResponseWriter
	number string
}

func (w tagged) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// watch makes a server note its refusals.
func (n *refusals) watch(s *server) http.Handler {
	note := func(w http.ResponseWriter, x *exchange) {
		rec, ok := w.(*recorder)
		if !ok || x.refusal == nil {
			return // an answer that a fault changes is not compared
		}
		if to, ok := rec.ResponseWriter.(tagged); ok { // and not to the control API
			n.Store(to.number, x.refusal)
		}
	}
	for _, routes := range s.routes {
		for _, r := range routes {
			handle, fail := r.handle, r.fail
			r.handle = func(w http.ResponseWriter, r *http.Request, x *exchange) error {
				defer note(w, x)
				return handle(w, r, x)
			}
			r.fail = func(w http.ResponseWriter, x *exchange, err error) {
				defer note(w, x)
				fail(w, x, err)
			}
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(tagged{w, r.Header.Get("Test-Request")}, r)
	})
}

var numbers atomic.Int64

func number(r *http.Request) { r.Header.Set("Test-Request", strconv.FormatInt(numbers.Add(1), 10)) }

// noteRefusal finds what the answer refuses.
func (r *reply) noteRefusal() {
	if r.i.refused == nil {
		return // the server is another process
	}
	if refused, ok := r.i.refused.Load(r.Request.Header.Get("Test-Request")); ok {
		r.refusal = refused.(*oauthError)
	}
}

// told wants a refusal of this status and code beneath the profile's words,
// and returns how the profile tells it at an endpoint.
func (r *reply) told(endpoint string, status int, code string) told {
	r.i.Helper()
	if r.refusal == nil {
		r.i.Fatalf("got status %d, %s, want the refusal %d %s", r.StatusCode, r.body, status, code)
	}
	if status != 0 && r.refusal.Status != status || r.refusal.Code != code {
		r.i.Errorf("got the refusal %d %v, want %d %s", r.refusal.Status, r.refusal, status, code)
	}
	return r.i.server.profile.tell(endpoint, r.refusal)
}

// status is that of the answer beneath the profile's words.
func (r *reply) status() int {
	if r.refusal != nil {
		return r.refusal.Status
	}
	return r.StatusCode
}

// endpointOf is the name of the endpoint that answered.
func (r *reply) endpointOf() string {
	found, _, _ := r.i.server.findRoute(r.Request.Method, r.Request.URL.Path)
	return found.endpoint
}

// serviceExceptions are the tests that do not hold in a service, by the end of
// their names, with what services do instead.
var serviceExceptions = []struct{ services, test, because string }{
	{"figshare mastodon trackmania sharesight", "R74 media types", "bodies of other types are taken, or count as empty"},
	{"figshare mastodon trackmania sharesight", "7009 2.1 R130", "bodies of other types are taken, or count as empty"},
	{"mastodon trackmania sharesight", "7662 2.1 R136", "bodies of other types count as empty"},
	{"trackmania", "7662 2.1 R131/bearer token", "another scheme is ignored, and a request without client_id is invalid"},
	{"figshare", "R80 bodies", "a body that is too large is refused with 400, as all is"},
	{"figshare", "R94 redirect_uri missing", "redirect_uri is not needed"},
	{"figshare", "R94 redirect_uri left out", "redirect_uri is not needed"},
	{"figshare", "R94 redirect_uri missing where only one is registered", "redirect_uri is not needed"},
	{"figshare", "R97 faulty replay ends nothing", "one of the faults is that redirect_uri is missing"},
	{"mastodon sharesight", "R94 redirect_uri by default", "redirect_uri is always needed"},
	{"mastodon sharesight", "R94 foreign redirect_uri, none in the authorization request", "redirect_uri is always needed"},
	{"mastodon sharesight", "R94 redirect_uri missing", "without redirect_uri the request is invalid, and not the grant"},
	{"mastodon sharesight", "R94 redirect_uri left out", "without redirect_uri the request is invalid, and not the grant"},
	{"mastodon sharesight", "R94 redirect_uri missing where only one is registered", "without redirect_uri the request is invalid, and not the grant"},
}

// skipException leaves a test out that does not hold in its service.
func skipException(t *testing.T) {
	t.Helper()
	for _, e := range serviceExceptions {
		if strings.Contains(e.services, serviceOf(t)) && strings.Contains(t.Name()+"/", "/"+strings.ReplaceAll(e.test, " ", "_")+"/") {
			t.Skip(e.because)
		}
	}
}

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
			if _, warnings := exchange(i, "web", basicHeader("web", "web-secret"), "client_id", "", "client_secret", ""); len(warnings) > 0 {
				t.Errorf("Basic alone: warnings %q", warnings)
			}
			for name, change := range map[string][]string{
				"another secret":             {"client_secret", "guess"},
				"another client":             {"client_id", "other", "client_secret", "other-secret"},
				"another client, no secret":  {"client_id", "other", "client_secret", ""},
				"another client's secret":    {"client_id", "", "client_secret", "other-secret"},
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
			code := i.code("native", url.Values{"scope": nil})
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
		r.wantAnswer(400, ambiguous)
		r, _ = exchange(i, "web", "Bearer OLD")
		r.wantAnswer(401, invalid)
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
			i.post(i.endpoint("token"), with(plainExchange("native", i.code("native", url.Values{"scope": nil})), url.Values{"client_secret": {""}, "code_verifier": {verifier}})).wantToken()
			for _, r := range i.records("") {
				if len(r.Warnings) > 0 || r.Endpoint == "token" && r.Status != 200 {
					t.Errorf("%s %d: warnings %q", r.Endpoint, r.Status, r.Warnings)
				}
			}
		})
	}
}
