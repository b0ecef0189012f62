// Package grantlingtest runs grantling, an OAuth 2.0 authorization server, for
// Go tests of OAuth clients.
//
// # A server for one test
//
//	func TestLogin(t *testing.T) {
//		srv := grantlingtest.Start(t, grantlingtest.Options{
//			Users:   []grantlingtest.User{{Username: "alice", Password: "wonderland"}},
//			Clients: []grantlingtest.Client{{ClientID: "web", ClientSecret: "web-secret", RedirectURIs: []string{"http://127.0.0.1/cb"}}},
//		})
//		app := newApp(srv.Endpoint("authorize"), srv.Endpoint("token"), "web", "web-secret")
//		app.HandleCallback(srv.Approve(app.AuthorizationURL(), "alice")) // no browser needed
//
//		srv.Advance(2 * time.Hour) // the access token expires
//		srv.Fail(grantlingtest.Fault{Endpoint: "token", Status: 503})
//		app.FetchData() // does it try again?
//
//		t.Run("logout", func(t *testing.T) {
//			srv := srv.In(t) // failures are now the subtest's
//			app.Logout()
//			srv.WaitRequest(grantlingtest.Filter{Endpoint: "revoke"})
//		})
//	}
//
// # A server for all tests of a package
//
//	var shared grantlingtest.Server
//
//	func TestMain(m *testing.M) {
//		os.Exit(grantlingtest.Run(m, &shared, grantlingtest.Options{}))
//	}
//
//	func TestLogin(t *testing.T) {
//		srv := shared.In(t)
//		t.Cleanup(srv.Reset)
//		...
//	}
//
// A server starts in well under a second, so a server for each test is usually
// best: such tests can run in parallel, move the clock and stage faults.
//
// # What runs
//
// Each server is a process of its own on a free port of 127.0.0.1. It keeps
// everything in memory, and stops with its test, or with the test binary,
// however that ends.
//
// The first test builds the server, from the version of the module that the
// tests are built with. This needs the go command and the source of the module,
// so with a vendor directory, set Options.Binary. The binary is kept in the
// user's cache directory, and tests build another only for another version, or
// when the source in a work tree has changed.
//
// When a test fails, it logs what the server wrote to standard error.
package grantlingtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Options say how to start a server. The zero value gives a server of the
// profile rfc6749 with the user alice, whose password is random, and the public
// client demo. GRANTLING_ variables in the environment are ignored. With -issuer or
// -tls-cert the methods may not reach the server.
type Options struct {
	Users   []User   // exist from the start and after each Reset
	Clients []Client // likewise
	Args    []string // more flags, such as "-profile", "figshare" or "-fixtures", "testdata/fixtures.json"
	Binary  string   // the path of a grantling binary to run; empty: build it

	patience time.Duration // for the start, each answer and the stop; 0: a minute
}

// User is a user of the server, a resource owner in the words of RFC 6749.
type User struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Name     string `json:"name,omitempty"`
	Email    string `json:"email,omitempty"`
}

// Client is a registered client, with the metadata of RFC 7591 §2.
type Client struct {
	ClientID                string   `json:"client_id"`
	ClientSecret            string   `json:"client_secret,omitempty"` // empty: the server makes one, unless the client is public
	ClientName              string   `json:"client_name,omitempty"`
	ClientURI               string   `json:"client_uri,omitempty"`
	RedirectURIs            []string `json:"redirect_uris,omitempty"`
	GrantTypes              []string `json:"grant_types,omitzero"`                 // nil: all that suit the client but password and implicit; empty: a resource server
	Scope                   string   `json:"scope,omitempty"`                      // what it may ask for, separated by spaces; empty: any
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method,omitempty"` // "none": a public client
	Owner                   string   `json:"owner,omitempty"`                      // username of the user who registered it
}

// Server is a running server, as seen from one test. When a method fails it
// ends that test, so call it from the test's own goroutine.
type Server struct {
	URL string // the issuer: the base URL of the server

	t testing.TB
	p *process
}

// Start runs a server until the end of the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	p, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("grantling's log:\n%s", p.log.since(0))
		}
	})
	return &Server{p.url, t, p}
}

// Run is for TestMain. It starts a server, makes s that server, runs the tests
// and stops the server. It returns the exit code for os.Exit. Tests get their
// view of the server by s.In(t); outside of tests, as in examples, a method
// that fails panics.
func Run(m interface{ Run() int }, s *Server, o Options) (code int) {
	p, err := start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*s = Server{p.url, noTest{}, p}
	code = m.Run()
	if err := p.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// noTest stands in for the test where there is none.
type noTest struct{ testing.TB }

func (noTest) Helper() {}

func (noTest) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (noTest) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// In returns the server as seen from another test: what fails there ends that
// test. For a server of Run, that test logs what the server writes meanwhile.
func (s *Server) In(t testing.TB) *Server {
	t.Helper()
	if s.p == nil {
		t.Fatal("grantlingtest: the server does not run; TestMain must call Run")
	}
	if s.t == (noTest{}) {
		from := len(s.p.log.since(0))
		t.Cleanup(func() {
			if t.Failed() {
				time.Sleep(50 * time.Millisecond) // the log comes shortly after the answer
				t.Logf("grantling's log since the start of the test:\n%s", s.p.log.since(from))
			}
		})
	}
	return &Server{s.URL, t, s.p}
}

// Endpoint returns the URL of an endpoint, wherever the profile has it:
// authorize, token, revoke, introspect, device_authorization, metadata, jwks,
// userinfo, tokeninfo, registration, instance, or oob, the page that shows a code
// to copy.
func (s *Server) Endpoint(name string) string {
	s.t.Helper()
	var answer struct{ Endpoints map[string]string }
	s.Control("GET", "", nil, &answer)
	if answer.Endpoints[name] == "" {
		s.t.Fatalf("the profile has no endpoint %q, only %s", name, strings.Join(slices.Sorted(maps.Keys(answer.Endpoints)), ", "))
	}
	return answer.Endpoints[name]
}

// Approve sends an authorization request as if the user had signed in and
// allowed it. It returns the URL that the browser is sent to: the client's
// redirect URI with a code, or with an error. With response_mode=form_post those
// are in a form, which Control has.
func (s *Server) Approve(authorizationURL, username string) (callbackURL string) {
	s.t.Helper()
	return s.decide(authorizationURL, username, "approve")
}

// Deny is like Approve, for a user who does not allow it.
func (s *Server) Deny(authorizationURL, username string) (callbackURL string) {
	s.t.Helper()
	return s.decide(authorizationURL, username, "deny")
}

func (s *Server) decide(authorizationURL, username, decision string) string {
	s.t.Helper()
	var answer struct {
		RedirectTo string `json:"redirect_to"`
	}
	s.Control("POST", "authorize", map[string]string{"url": authorizationURL, "username": username, "decision": decision}, &answer)
	return answer.RedirectTo
}

// ApproveDevice answers for the user of a device that shows a user code
// (RFC 8628 §3.3): the user allows it.
func (s *Server) ApproveDevice(userCode, username string) {
	s.t.Helper()
	s.decideDevice(userCode, username, "approve")
}

// DenyDevice is like ApproveDevice, for a user who does not allow it.
func (s *Server) DenyDevice(userCode, username string) {
	s.t.Helper()
	s.decideDevice(userCode, username, "deny")
}

func (s *Server) decideDevice(userCode, username, decision string) {
	s.t.Helper()
	s.Control("POST", "device", map[string]string{"user_code": userCode, "username": username, "decision": decision}, nil)
}

// Token is the answer of the token endpoint (RFC 6749 §5.1).
type Token struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"` // seconds; 0: absent
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}

// Token issues tokens to a client: for a user or, if username is empty, for the
// client itself. An empty scope means the client's default.
func (s *Server) Token(clientID, username, scope string) Token {
	s.t.Helper()
	return s.token(map[string]any{"client_id": clientID, "username": username, "scope": scope})
}

// TokenFor is like Token, with an access token that expires after the lifetime,
// rounded to seconds. If it is negative, the token has expired already.
func (s *Server) TokenFor(lifetime time.Duration, clientID, username, scope string) Token {
	s.t.Helper()
	seconds := int(lifetime.Round(time.Second) / time.Second)
	return s.token(map[string]any{"client_id": clientID, "username": username, "scope": scope, "expires_in": seconds})
}

func (s *Server) token(request map[string]any) (token Token) {
	s.t.Helper()
	s.Control("POST", "tokens", request, &token)
	return token
}

// AddUser creates a user, or replaces the one of that name.
func (s *Server) AddUser(u User) {
	s.t.Helper()
	s.Control("POST", "users", u, nil)
}

// RemoveUser removes a user and everything issued for it.
func (s *Server) RemoveUser(username string) {
	s.t.Helper()
	s.Control("DELETE", "users/"+url.PathEscape(username), nil, nil)
}

// AddClient creates a client, or replaces the one with that client_id. It
// returns the client with its secret.
func (s *Server) AddClient(c Client) Client {
	s.t.Helper()
	var added Client
	s.Control("POST", "clients", c, &added)
	return added
}

// RemoveClient removes a client and everything issued to it.
func (s *Server) RemoveClient(clientID string) {
	s.t.Helper()
	s.Control("DELETE", "clients/"+url.PathEscape(clientID), nil, nil)
}

// Reset puts everything back to how it was after the start: users, clients, clock,
// faults and requests. Tests that share the server cannot run in parallel with
// it.
func (s *Server) Reset() {
	s.t.Helper()
	s.Control("POST", "reset", nil, nil)
}

// Now returns the time of the server's clock, in whole seconds.
func (s *Server) Now() time.Time {
	s.t.Helper()
	var clock struct{ Now time.Time }
	s.Control("GET", "clock", nil, &clock)
	return clock.Now
}

// Advance moves the server's clock by a duration, back if it is negative.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.Control("POST", "clock", map[string]string{"advance": d.String()}, nil)
}

// SetTime sets the server's clock, which goes on from there.
func (s *Server) SetTime(now time.Time) {
	s.t.Helper()
	s.Control("POST", "clock", map[string]string{"set": now.Format(time.RFC3339Nano)}, nil)
}

// Forever is a value for Fault.Times.
const Forever = -1

// Fault is a failure to stage. Fields that are zero change nothing.
type Fault struct {
	Name             string            `json:"name,omitempty"`              // a fault known by name; GET /_control/ lists them
	Endpoint         string            `json:"endpoint,omitempty"`          // authorize, token, revoke, introspect, device_authorization, tokeninfo, userinfo or metadata
	ClientID         string            `json:"client_id,omitempty"`         // only requests of this client
	Times            int               `json:"-"`                           // how often; 0: once, or Forever if Percent is set
	Percent          int               `json:"percent,omitempty"`           // of the requests, chosen at random
	Seed             uint64            `json:"seed,omitempty"`              // of the random choice
	Delay            time.Duration     `json:"-"`                           // before the answer
	Status           int               `json:"status,omitempty"`            // of the answer
	Error            string            `json:"error,omitempty"`             // an OAuth error, in the form of the endpoint
	ErrorDescription string            `json:"error_description,omitempty"` // goes with Error
	Headers          map[string]string `json:"headers,omitempty"`           // more headers of the answer
	Body             string            `json:"body,omitempty"`              // replaces the body
	Drop             bool              `json:"drop,omitempty"`              // cut the connection without an answer
}

// MarshalJSON gives the form of the control API.
func (f Fault) MarshalJSON() ([]byte, error) {
	type tagged Fault
	wire := struct {
		tagged
		Times *int   `json:"times,omitempty"` // 0: until cleared
		Delay string `json:"delay,omitempty"`
	}{tagged: tagged(f)}
	if f.Times != 0 {
		times := max(f.Times, 0)
		wire.Times = &times
	}
	if f.Delay != 0 {
		wire.Delay = f.Delay.String()
	}
	return json.Marshal(wire)
}

// Fail stages a fault and returns its id. The answer that it changes carries
// the id in the header Grantling-Fault.
func (s *Server) Fail(f Fault) (id string) {
	s.t.Helper()
	var staged struct{ ID string }
	s.Control("POST", "faults", f, &staged)
	return staged.ID
}

// ClearFaults removes all staged faults.
func (s *Server) ClearFaults() {
	s.t.Helper()
	s.Control("DELETE", "faults", nil, nil)
}

// Filter picks requests. Fields that are zero pick all.
type Filter struct {
	Endpoint string
	ClientID string
	After    int           // only requests with a greater ID
	Wait     time.Duration // how long WaitRequest waits, at most 30 s; 0: 5 s
}

// Request is a request that the server received, and its answer.
type Request struct {
	ID               int       `json:"id"`
	Time             time.Time `json:"time"`
	Endpoint         string    `json:"endpoint"` // empty: a page
	Method           string    `json:"method"`
	Path             string    `json:"path"`
	Params           Params    `json:"params"`
	ClientID         string    `json:"client_id"`
	GrantType        string    `json:"grant_type"`
	Username         string    `json:"username"`
	Status           int       `json:"status"` // 0: the connection was cut
	Error            string    `json:"error"`
	ErrorDescription string    `json:"error_description"`
	Section          string    `json:"section"` // of the RFC that the request was refused by
	Reason           string    `json:"reason"`  // what exactly is wrong, as in "code-used"; /explain/ has a page about it
	Fault            string    `json:"fault"`   // id of the fault that changed the answer
	DurationMS       float64   `json:"duration_ms"`
	Flow             string    `json:"flow"`     // the same for an authorization request, its code, its tokens and their refreshes
	Warnings         []string  `json:"warnings"` // what works here, but not on every server
}

// Params are the parameters of a request. Secrets are replaced by "…", codes
// and tokens are cut to their public id and "…".
type Params map[string][]string

// Get returns the first value of a parameter, or "".
func (p Params) Get(name string) string { return url.Values(p).Get(name) }

// UnmarshalJSON takes a string for each parameter, or a list of strings for one
// that was sent more than once.
func (p *Params) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*p = make(Params)
	for name, value := range raw {
		if !bytes.HasPrefix(value, []byte("[")) {
			value = slices.Concat([]byte("["), value, []byte("]"))
		}
		var values []string
		if err := json.Unmarshal(value, &values); err != nil {
			return err
		}
		(*p)[name] = values
	}
	return nil
}

// Requests returns the requests that the filter picks, oldest first. Requests
// of the control API are not among them.
func (s *Server) Requests(f Filter) []Request {
	s.t.Helper()
	f.Wait = 0
	return s.requests(f)
}

// WaitRequest waits for a request that the filter picks and returns the first.
func (s *Server) WaitRequest(f Filter) Request {
	s.t.Helper()
	if f.Wait == 0 {
		f.Wait = 5 * time.Second
	}
	found := s.requests(f)
	if len(found) == 0 {
		s.t.Fatalf("no request within %v that matches %+v", f.Wait, f)
	}
	return found[0]
}

func (s *Server) requests(f Filter) (found []Request) {
	s.t.Helper()
	query := url.Values{"wait": {f.Wait.String()}, "after": {strconv.Itoa(f.After)}}
	if f.Endpoint != "" {
		query.Set("endpoint", f.Endpoint)
	}
	if f.ClientID != "" {
		query.Set("client_id", f.ClientID)
	}
	s.Control("GET", "requests?"+query.Encode(), nil, &found)
	return found
}

// ForgetRequests empties the list of requests. Their IDs go on.
func (s *Server) ForgetRequests() {
	s.t.Helper()
	s.Control("DELETE", "requests", nil, nil)
}

// httpClient has a transport of its own: test suites replace the default one.
var httpClient = &http.Client{Transport: new(http.Transport)}

// Control sends a request of the control API, for what has no method here. path
// is what follows /_control/. If in is not nil, it is sent as JSON; if out is
// not nil, the answer is decoded into it.
func (s *Server) Control(method, path string, in, out any) {
	s.t.Helper()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			s.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	ctx, cancel := s.p.patient()
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.URL+"/_control/"+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	var data []byte
	response, err := httpClient.Do(request)
	if err == nil {
		defer response.Body.Close()
		data, err = io.ReadAll(response.Body)
	}
	if err != nil {
		s.t.Fatalf("%v\n%v", err, s.p.lastWords())
	}
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s /_control/%s: %s: %s", method, path, response.Status, bytes.TrimSpace(data))
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			s.t.Fatalf("%s /_control/%s: %v in %s", method, path, err, data)
		}
	}
}
