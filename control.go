package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// controlPath is where the control API stands, behind the issuer's path.
const controlPath = "/_control/"

// control is what a test suite bends a server with, and sees of it.
type control struct {
	users    []*user // as they were after the start, as are the clients
	clients  []*client
	faults   faults
	requests requests

	mu  sync.Mutex
	era context.Context // from the start or a reset to the next one, or to the end
	end context.CancelFunc
}

// openControl serves the control API from now on. What the server has now is
// what a reset goes back to.
func (s *server) openControl() error {
	users, clients, err := s.store.registrations()
	if err != nil {
		return err
	}
	s.control = &control{users: users, clients: clients}
	s.control.beginEra()
	return nil
}

// beginEra ends what hangs on the era before: delays, and the records of what
// began in it.
func (c *control) beginEra() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		c.end()
	}
	c.era, c.end = context.WithCancel(context.Background())
}

// currentEra is done when it is over.
func (c *control) currentEra() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.era
}

// close lets go all who wait: the server stops.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}

// verb is one request that the control API understands. Its do returns what is
// answered as JSON, or an error that names the member at fault.
type verb struct {
	method string
	path   string // may end in a {name}
	what   string
	do     func(s *server, r *http.Request, x *exchange) (any, error)
}

func verbs() []verb {
	return []verb{
		{"GET", "", "lists these verbs, the named faults and the URLs of the endpoints", (*server).listVerbs},
		{"GET", "clock", `tells the time: {"now","offset"}`, (*server).readClock},
		{"POST", "clock", `moves it: {"advance":"31m"}, {"set":"2030-01-01T00:00:00Z"} or {"reset":true}`, (*server).moveClock},
		{"POST", "users", "creates or replaces a user, as in a fixtures file", (*server).putUser},
		{"DELETE", "users/{username}", "removes a user and all that was issued for it", (*server).removeUser},
		{"POST", "clients", "creates or replaces a client, as in a fixtures file; the answer has its client_secret", (*server).putClient},
		{"DELETE", "clients/{client_id}", "removes a client and all that was issued to it", (*server).removeClient},
		{"POST", "authorize", `decides an authorization request without a browser: {"url","username","decision":"approve"}`, (*server).decideRequest},
		{"POST", "tokens", `mints tokens: {"client_id","username","scope","expires_in"}; without username for the client itself`, (*server).mintTokens},
		{"GET", "faults", "lists the faults that are staged", (*server).listFaults},
		{"POST", "faults", `stages a fault: {"endpoint":"token","status":503} or {"name":"missing_expires_in"}`, (*server).addFault},
		{"DELETE", "faults", "clears all faults", (*server).clearFaults},
		{"GET", "requests", "tells what was asked and answered: ?endpoint=, ?client_id=, ?after=ID, ?wait=5s", (*server).listRequests},
		{"GET", "requests/latest", "tells the last of these", (*server).latestRequest},
		{"DELETE", "requests", "forgets them", (*server).forgetRequests},
		{"POST", "issuer", `tells the base URL that others reach this server by, once it is known: {"issuer":"http://localhost:49153"}`, (*server).moveIssuer},
		{"POST", "reset", "makes everything as it was after the start", (*server).reset},
	}
}

// handleControl is the control API.
func (s *server) handleControl(w http.ResponseWriter, r *http.Request, x *exchange) {
	http.NewResponseController(w).SetWriteDeadline(time.Time{}) // what is asked for may wait or be delayed
	w.Header().Set("Content-Type", "application/json")          // whatever the profile's is
	var answer any
	err := s.guardControl(r)
	if err == nil {
		answer, err = s.controlled(r, x)
	}
	if x.fault != "" {
		w.Header().Set("Grantling-Fault", x.fault)
	}
	if err == nil {
		err = s.writeJSON(w, http.StatusOK, answer)
	}
	if err == nil {
		return
	}
	status := http.StatusBadRequest
	problem := err.Error()
	var told *oauthError
	switch {
	case errors.As(err, &told):
		status, problem = told.Status, told.Description
	case errors.Is(err, errStorage):
		status, x.failure = http.StatusServiceUnavailable, err
	}
	s.writeJSON(w, status, object{{"error", problem}})
}

// guardControl lets through what comes from this machine or names a host that it is
// served under, and never what a web page elsewhere makes a browser send: that
// includes reading, as the log is nobody else's business.
func (s *server) guardControl(r *http.Request) error {
	if !isAddressed(r.Host, s.hosts...) {
		return &oauthError{Status: http.StatusForbidden, Description: "the control API does not answer under this Host: see -control-host"}
	}
	writing := *r
	writing.Method = http.MethodPost // CrossOriginProtection takes reading for harmless
	if err := s.crossOrigin.Check(&writing); err != nil {
		return &oauthError{Status: http.StatusForbidden, Description: "the control API is not for pages of other origins"}
	}
	return nil
}

// controlled finds the verb of a request and does it.
func (s *server) controlled(r *http.Request, x *exchange) (any, error) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), s.base+controlPath)
	for _, v := range verbs() {
		if v.method == r.Method && v.matches(path, r) {
			return v.do(s, r, x)
		}
	}
	return nil, &oauthError{Status: http.StatusNotFound, Description: "there is no such request here; GET " + controlPath + " lists those that there are"}
}

// matches reports whether a path, as it was sent, is the verb's, and notes the
// value of its {name}.
func (v verb) matches(path string, r *http.Request) bool {
	fixed, name, _ := strings.Cut(v.path, "{")
	if name == "" {
		return path == fixed
	}
	value, found := strings.CutPrefix(path, fixed)
	value, err := url.PathUnescape(value)
	if !found || value == "" || err != nil {
		return false
	}
	r.SetPathValue(strings.TrimSuffix(name, "}"), value)
	return true
}

// parseControl reads a request's JSON into a pointer to a struct.
func parseControl(r *http.Request, into any) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if strings.TrimSpace(body) == "" {
		return errors.New("the body is empty: it must be a JSON object")
	}
	_, err = parseDocument("body", []byte(body), into)
	return err
}

// done is the answer of verbs that have nothing to tell.
var done = object{}

func (s *server) listVerbs(*http.Request, *exchange) (any, error) {
	var requests, names, endpoints object
	for _, v := range verbs() {
		requests.add(v.method+" "+controlPath+v.path, v.what)
	}
	for _, n := range namedFaults {
		names.add(n.name, n.what+" ("+n.endpoint+")")
	}
	for _, name := range s.profile.having(slices.Concat(endpointNames, resourceNames)) {
		at := s.url(s.profile.paths(name)[0])
		if name == "metadata" {
			at = s.origin() + s.profile.paths(name)[0] + s.base // RFC 8414 §3.1
		}
		endpoints.add(name, at)
	}
	return object{{"requests", requests}, {"faults", names}, {"endpoints", endpoints}}, nil
}

func (s *server) readClock(*http.Request, *exchange) (any, error) {
	now, offset := s.clock.read()
	return object{{"now", now.UTC().Format(time.RFC3339)}, {"offset", offset.String()}}, nil
}

func (s *server) moveClock(r *http.Request, x *exchange) (any, error) {
	var move struct {
		Advance *string `json:"advance"`
		Set     *string `json:"set"`
		Reset   *bool   `json:"reset"`
	}
	if err := parseControl(r, &move); err != nil {
		return nil, err
	}
	switch {
	case move.Advance != nil && move.Set == nil && move.Reset == nil:
		d, err := time.ParseDuration(*move.Advance)
		if err != nil {
			return nil, wrong("advance", `must be a duration as "31m" or "-1h30m", at most 290 years long`)
		}
		if !s.clock.advance(d) {
			return nil, wrong("advance", "leads out of the years 1980 to 2200")
		}
	case move.Set != nil && move.Advance == nil && move.Reset == nil:
		t, err := time.Parse(time.RFC3339, *move.Set)
		if err != nil {
			return nil, wrong("set", `must be a time as "2030-01-01T00:00:00Z"`)
		}
		if !s.clock.set(t) {
			return nil, wrong("set", "must be in the years 1980 to 2200")
		}
	case move.Reset != nil && move.Advance == nil && move.Set == nil:
		if !*move.Reset {
			return nil, wrong("reset", "must be true")
		}
		s.clock.reset()
	default:
		return nil, errors.New("one of advance, set and reset must be there, and no more")
	}
	return s.readClock(r, x)
}

// advance moves the clock. It reports whether the time stays one that all that
// is dated by it can be told in.
func (c *clock) advance(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.move(c.offset + d)
}

// set moves the clock to t, likewise.
func (c *clock) set(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.move(t.Sub(realTime()))
}

func (c *clock) move(offset time.Duration) bool {
	if year := realTime().Add(offset).UTC().Year(); year < 1980 || year >= 2200 {
		return false
	}
	c.offset = offset
	return true
}

func (c *clock) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = 0
}

// moveIssuer is for a server behind a port that is known only when it runs.
//
// Choice: a reset leaves it. It is where the server is, and no test's doing.
func (s *server) moveIssuer(r *http.Request, _ *exchange) (any, error) {
	var asked struct {
		Issuer string `json:"issuer"`
	}
	if err := parseControl(r, &asked); err != nil {
		return nil, err
	}
	if asked.Issuer == "" {
		return nil, wrong("issuer", "is missing")
	}
	if err := s.setIssuer(asked.Issuer); err != nil {
		return nil, err
	}
	return object{{"issuer", s.issuer()}}, nil
}

func (s *server) putUser(r *http.Request, _ *exchange) (any, error) {
	var u userFixture
	if err := parseControl(r, &u); err != nil {
		return nil, err
	}
	if err := u.check(); err != nil {
		return nil, err
	}
	if _, err := s.applyFixtures(&fixtures{Users: []userFixture{u}}); err != nil {
		return nil, err
	}
	return object{{"username", u.Username}, {"name", u.Name}, {"email", u.Email}}, nil
}

func (s *server) removeUser(r *http.Request, _ *exchange) (any, error) {
	username := r.PathValue("username")
	if u, err := s.store.userNamed(username); u == nil {
		return nil, cmp.Or(err, wrong("username", "names no user"))
	}
	return done, s.store.deleteUser(username)
}

// putClient always knows the secret that it answers with: who sends none gets
// a new one.
func (s *server) putClient(r *http.Request, _ *exchange) (any, error) {
	var c clientFixture
	if err := parseControl(r, &c); err != nil {
		return nil, err
	}
	if err := c.check(s.profile); err != nil {
		return nil, err
	}
	if !c.public() && c.ClientSecret == "" {
		c.ClientSecret = newClientSecret()
	}
	if _, err := s.applyFixtures(&fixtures{Clients: []clientFixture{c}}); err != nil {
		return nil, err
	}
	o := object{{"client_id", c.ClientID}}
	add := func(name string, value any, there bool) {
		if there {
			o.add(name, value)
		}
	}
	add("client_secret", c.ClientSecret, !c.public())
	add("client_name", c.ClientName, c.ClientName != "")
	add("client_uri", c.ClientURI, c.ClientURI != "")
	add("redirect_uris", c.RedirectURIs, c.RedirectURIs != nil)
	add("grant_types", c.GrantTypes, c.GrantTypes != nil)
	add("scope", c.Scope, c.Scope != "")
	add("token_endpoint_auth_method", cmp.Or(c.TokenEndpointAuthMethod, "client_secret_basic"), true)
	add("owner", c.Owner, c.Owner != "")
	return o, nil
}

func (s *server) removeClient(r *http.Request, _ *exchange) (any, error) {
	clientID := r.PathValue("client_id")
	if c, err := s.store.clientNamed(clientID); c == nil {
		return nil, cmp.Or(err, wrong("client_id", "names no client"))
	}
	return done, s.store.deleteClient(clientID)
}

// decideRequest sends an authorization request through the authorization
// endpoint with the user's decision beside it: with its checks, its faults and
// its place in the log.
func (s *server) decideRequest(r *http.Request, x *exchange) (any, error) {
	var asked struct {
		URL      string `json:"url"`
		Username string `json:"username"`
		Decision string `json:"decision"`
	}
	if err := parseControl(r, &asked); err != nil {
		return nil, err
	}
	if asked.URL == "" {
		return nil, wrong("url", "is missing")
	}
	target, err := url.Parse(asked.URL)
	if err != nil {
		return nil, wrong("url", "is not a URL")
	}
	if found, _, ok := s.findRoute(http.MethodGet, target.Path); !ok || found.endpoint != "authorize" || !s.reachedBy(target, r) {
		return nil, wrong("url", "is not at the authorization endpoint of this server, "+s.url(s.profile.Endpoints["authorize"][0]))
	}
	if asked.Username == "" {
		return nil, wrong("username", "is missing")
	}
	u, err := s.store.userNamed(asked.Username)
	if u == nil {
		return nil, cmp.Or(err, wrong("username", "names no user"))
	}
	if asked.Decision != "approve" && asked.Decision != "deny" {
		return nil, wrong("decision", "must be approve or deny")
	}
	request := (&http.Request{
		Method:     http.MethodGet,
		URL:        &url.URL{Path: target.Path, RawPath: target.RawPath, RawQuery: target.RawQuery},
		Header:     http.Header{},
		Body:       http.NoBody,
		Host:       r.Host,
		RemoteAddr: r.RemoteAddr,
	}).WithContext(r.Context())
	decided := newExchange(request, x.time)
	decided.decided = &decision{u, asked.Decision == "deny"}
	answer := s.serveWithin(request, decided)
	x.fault = decided.fault
	location := answer.header.Get("Location")
	switch {
	case decided.fault != "" && answer.status == 0:
		return nil, wrong("url", "was not answered: fault "+decided.fault+" dropped the answer")
	case strings.HasPrefix(location, "/"): // a page of this server
		return object{{"redirect_to", s.origin() + location}}, nil
	case location != "":
		return object{{"redirect_to", location}}, nil
	case decided.fault != "":
		return nil, wrong("url", fmt.Sprintf("was answered by fault %s with status %d and no redirect", decided.fault, answer.status))
	case decided.refusal != nil:
		return nil, wrong("url", decided.refusal.Error())
	default:
		return nil, wrong("url", fmt.Sprintf("was answered with status %d and no redirect", answer.status))
	}
}

// serveWithin serves a request that has no connection of its own: what a fault
// drops is just not in the answer.
func (s *server) serveWithin(r *http.Request, x *exchange) (a *stagedAnswer) {
	a = &stagedAnswer{header: http.Header{}}
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	s.serve(a, r, x)
	return a
}

// reachedBy reports whether a URL leads to this server: by the issuer, or by
// a name under which the control API answers and the port that r came to.
func (s *server) reachedBy(target *url.URL, r *http.Request) bool {
	origin := target.Scheme + "://" + target.Host
	if origin == "://" || strings.HasPrefix(s.issuer()+"/", origin+"/") {
		return true
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	_, port, _ := net.SplitHostPort(r.Host)
	return target.Scheme == scheme && target.Port() == port && isAddressed(target.Hostname(), s.hosts...)
}

// mintTokens issues what the token endpoint would after a user's consent or by
// client credentials.
func (s *server) mintTokens(r *http.Request, x *exchange) (any, error) {
	var asked struct {
		ClientID  string   `json:"client_id"`
		Username  string   `json:"username"`
		Scope     string   `json:"scope"`
		ExpiresIn *seconds `json:"expires_in"`
	}
	if err := parseControl(r, &asked); err != nil {
		return nil, err
	}
	if asked.ClientID == "" {
		return nil, wrong("client_id", "is missing")
	}
	c, err := s.store.clientNamed(asked.ClientID)
	if c == nil {
		return nil, cmp.Or(err, wrong("client_id", "names no client"))
	}
	if n := asked.ExpiresIn; n != nil && (*n == 0 || *n < -maxLifetime || *n > maxLifetime) {
		return nil, wrong("expires_in", "must be between -100 and 100 years and not 0: negative for a token that has expired")
	}
	scope, err := c.grantableScope(asked.Scope, s.profile)
	if err != nil {
		return nil, wrong("scope", asOAuthError(err).Description)
	}
	lifetime := s.profile.AccessTokenLifetime
	if asked.ExpiresIn != nil {
		lifetime = *asked.ExpiresIn
	}
	var answer *tokenAnswer
	if asked.Username != "" {
		var u *user
		if u, err = s.store.userNamed(asked.Username); u == nil {
			return nil, cmp.Or(err, wrong("username", "names no user"))
		}
		answer, err = s.issueForUser(u, c, scope, x, lifetime)
	} else {
		if !c.mayUse("client_credentials", s.profile) {
			return nil, wrong("username", "is missing: this client cannot have tokens of its own")
		}
		answer, err = s.issueForClient(c, scope, x, lifetime)
	}
	if told := new(oauthError); errors.As(err, &told) {
		return nil, wrong("client_id", told.Description)
	}
	if err != nil {
		return nil, err
	}
	return s.profile.TokenAnswer.fill(answer.facts(s.profile.TokenType, x.now)), nil
}

func (s *server) listFaults(*http.Request, *exchange) (any, error) {
	return s.control.faults.list(), nil
}

func (s *server) addFault(r *http.Request, _ *exchange) (any, error) {
	var asked fault
	if err := parseControl(r, &asked); err != nil {
		return nil, err
	}
	f, err := newStagedFault(asked, s.profile)
	if err != nil {
		return nil, err
	}
	return s.control.faults.add(f), nil
}

func (s *server) clearFaults(*http.Request, *exchange) (any, error) {
	s.control.faults.clear()
	return done, nil
}

func (s *server) listRequests(r *http.Request, _ *exchange) (any, error) {
	return s.pickRequests(r)
}

func (s *server) latestRequest(r *http.Request, _ *exchange) (any, error) {
	records, err := s.pickRequests(r)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, &oauthError{Status: http.StatusNotFound, Description: "no request matches"}
	}
	return records[len(records)-1], nil
}

// maxWait is how long an answer may be held: clients have a patience too.
const maxWait = 30 * time.Second

func (s *server) pickRequests(r *http.Request) ([]*loggedRequest, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("the query is malformed")
	}
	var f requestFilter
	var wait time.Duration
	for name := range query {
		value := query.Get(name)
		switch name {
		case "endpoint":
			if f.endpoint = value; value != "" && len(s.profile.paths(value)) == 0 {
				return nil, wrong("endpoint", "must be one of "+strings.Join(s.profile.having(slices.Concat(endpointNames, resourceNames)), ", "))
			}
		case "client_id":
			f.clientID = value
		case "after":
			if f.after, err = strconv.Atoi(value); err != nil {
				return nil, wrong("after", "must be the id of a request")
			}
		case "wait":
			if wait, err = time.ParseDuration(value); err != nil || wait < 0 || wait > maxWait {
				return nil, wrong("wait", `must be a duration as "5s", at most 30s`)
			}
		default:
			return nil, wrong(name, "is unknown; there are endpoint, client_id, after and wait")
		}
	}
	return s.control.requests.pick(r.Context(), s.control.currentEra(), f, wait), nil
}

func (s *server) forgetRequests(*http.Request, *exchange) (any, error) {
	s.control.requests.forget()
	return done, nil
}

// reset makes everything as it was after the start.
func (s *server) reset(*http.Request, *exchange) (any, error) {
	if err := s.store.reset(s.control.users, s.control.clients); err != nil {
		return nil, err
	}
	s.control.beginEra()
	s.clock.reset()
	s.control.faults.reset()
	s.control.requests.reset()
	s.passwords.clear()
	s.registrations.clear()
	s.secrets.clear()
	return done, nil
}
