package main

import (
	"net/http"
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
				"TestToken":                          TestToken,
				"TestRevoke":                         TestRevoke,
				"TestIntrospect":                     TestIntrospect,
				"TestBearer":                         TestBearer,
				"TestExpiry":                         TestExpiry,
				"TestCredentialsAreExact":            TestCredentialsAreExact,
				"TestDataAtRest":                     TestDataAtRest,
				"TestLog":                            TestLog,
				"TestErrorText":                      TestErrorText,
				"TestPassword":                       TestPassword,
				"TestFlow":                           TestFlow,
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
	p.CodeLifetime, p.AccessTokenLifetime = lender.CodeLifetime, lender.AccessTokenLifetime
	p.RefreshTokenLifetime, p.GrantLifetime = lender.RefreshTokenLifetime, lender.GrantLifetime
	p.TokenAnswer, p.ImplicitAnswer, p.IntrospectionAnswer, p.RevocationAnswer = lender.TokenAnswer, lender.ImplicitAnswer, lender.IntrospectionAnswer, lender.RevocationAnswer
	p.TokenType, p.Iss, p.ImplicitInQuery, p.ConsentMemory, p.RefreshEndsAccessToken = lender.TokenType, lender.Iss, false, lender.ConsentMemory, false
	for key := range p.Errors {
		endpoint, _, _ := strings.Cut(key, " ")
		if slices.Contains([]string{"authorize", "oob", "userinfo", "tokeninfo"}, endpoint) {
			delete(p.Errors, key)
		}
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
			r.handle = func(w http.ResponseWriter, r *http.Request, x *exchange) {
				defer note(w, x)
				handle(w, r, x)
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
		r.refusal = refused.(*refusal)
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
	{"figshare mastodon trackmania sharesight", "3.2/R74 media types", "bodies of other types are taken, or count as empty"},
	{"figshare mastodon trackmania sharesight", "7009/2.1/R130", "bodies of other types are taken, or count as empty"},
	{"mastodon trackmania sharesight", "7662/2.1/R136", "bodies of other types count as empty"},
	{"figshare", "3.2/R80 bodies", "a body that is too large is refused with 400, as all is"},
	{"figshare", "4.1.3/R94 redirect_uri missing", "redirect_uri is not needed"},
	{"figshare", "4.1.3/R94 redirect_uri left out", "redirect_uri is not needed"},
	{"figshare", "4.1.3/R94 redirect_uri missing where only one is registered", "redirect_uri is not needed"},
	{"figshare", "4.1.3/R97 faulty replay ends nothing", "one of the faults is that redirect_uri is missing"},
	{"mastodon sharesight", "4.1.3/R94 redirect_uri by default", "redirect_uri is always needed"},
	{"mastodon sharesight", "4.1.3/R94 foreign redirect_uri, none in the authorization request", "redirect_uri is always needed"},
	{"mastodon sharesight", "4.1.3/R94 redirect_uri missing", "without redirect_uri the request is invalid, and not the grant"},
	{"mastodon sharesight", "4.1.3/R94 redirect_uri left out", "without redirect_uri the request is invalid, and not the grant"},
	{"mastodon sharesight", "4.1.3/R94 redirect_uri missing where only one is registered", "without redirect_uri the request is invalid, and not the grant"},
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
