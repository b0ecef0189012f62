package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// controlPath is the path of the control API, below the issuer's path.
const controlPath = "/_control/"

// control is the state of the control API.
type control struct {
	mux     *http.ServeMux
	users   []*user // users and clients as they were after the start
	clients []*client

	documents map[string]json.RawMessage
}

// openControl starts the control API. A reset returns to the users and clients
// that exist now.
func (s *server) openControl() error {
	users, clients, err := s.store.registrations()
	if err != nil {
		return err
	}
	s.control = &control{mux: http.NewServeMux(), users: users, clients: clients, documents: s.documents.all()}
	unknown := verb{pattern: controlPath, do: func(*http.Request, *exchange) (any, error) {
		return nil, noSuch("unknown request; GET " + controlPath + " lists all")
	}}
	for _, v := range append(s.controlVerbs(), unknown) {
		s.control.mux.HandleFunc(v.pattern, func(w http.ResponseWriter, r *http.Request) {
			x := w.(*recorder).x
			answer, err := v.do(r, x)
			s.writeControl(w, x, answer, err)
		})
	}
	s.eras.begin()
	return nil
}

// verb is a request of the control API.
type verb struct {
	pattern string // of http.ServeMux
	what    string
	do      verbFunc
}

// verbFunc returns the JSON answer (nil for {}), or an error that names the
// wrong member.
type verbFunc func(*http.Request, *exchange) (any, error)

// controlVerbs are all verbs, in the order in which they are listed.
func (s *server) controlVerbs() []verb {
	return []verb{
		{"GET /_control/{$}", "lists these verbs, the named faults and the URLs of the endpoints", s.listVerbs},
		{"GET /_control/clock", `shows the time: {"now","offset"}`, s.readClock},
		{"POST /_control/clock", `sets it: {"advance":"31m"}, {"set":"2030-01-01T00:00:00Z"} or {"reset":true}`, withBody(s.moveClock)},
		{"POST /_control/users", "creates or replaces a user, as in a fixtures file", withBody(s.putUser)},
		{"DELETE /_control/users/{username}", "deletes a user and revokes all that was issued for it", removal("username", "no such user", s.store.userNamed, s.store.deleteUser)},
		{"POST /_control/clients", "creates or replaces a client, as in a fixtures file; the answer has its client_secret", withBody(s.putClient)},
		{"DELETE /_control/clients/{client_id}", "deletes a client and revokes all that was issued to it", removal("client_id", "no such client", s.store.clientNamed, s.store.deleteClient)},
		{"POST /_control/authorize", `decides an authorization request without a browser: {"url","username","decision":"approve"}`, withBody(s.decideRequest)},
		{"GET /_control/device", "lists the devices that wait for their user's decision", s.listDevices},
		{"POST /_control/device", `decides for a device: {"user_code","username","decision":"approve"}`, withBody(s.answerForDevice)},
		{"POST /_control/tokens", `mints tokens: {"client_id","username","scope","expires_in"}; without username for the client itself`, withBody(s.mintTokens)},
		{"GET /_control/faults", "lists the staged faults", func(*http.Request, *exchange) (any, error) { return s.eras.now().faults.list(), nil }},
		{"POST /_control/faults", `stages a fault: {"endpoint":"token","status":503} or {"name":"missing_expires_in"}`, withBody(s.addFault)},
		{"DELETE /_control/faults", "clears all faults", done(func() { s.eras.now().faults.clear() })},
		{"GET /_control/requests", "lists requests and their answers: ?endpoint=, ?client_id=, ?after=ID, ?wait=5s", s.pickRequests},
		{"GET /_control/requests/latest", "shows the latest of them", s.latestRequest},
		{"DELETE /_control/requests", "clears the log of requests", done(func() { s.eras.now().requests.clear() })},
		{"GET /_control/flows/{flow}", "shows one authorization and all that came of it: its requests, and the state of its codes and tokens", s.flowAnswer},
		{"POST /_control/issuer", `sets the base URL, once it is known: {"issuer":"http://localhost:49153"}`, withBody(s.moveIssuer)},
		{"POST /_control/client-documents", `answers a client_id that is a URL instead of fetching it: {"url","document":{…}}`, withBody(s.putDocument)},
		{"POST /_control/keys", "makes a new signing key; the old one stays listed until its tokens have expired", s.rotateKeys},
		{"POST /_control/reset", "puts everything back to how it was after the start", s.reset},
	}
}

// done makes a verb of a function without an answer.
func done(do func()) verbFunc {
	return func(*http.Request, *exchange) (any, error) { do(); return nil, nil }
}

// removal makes a verb that deletes what its path names, with all that was issued for it.
func removal[T any](parameter, problem string, find func(string) (*T, error), remove func(string) error) verbFunc {
	return func(r *http.Request, _ *exchange) (any, error) {
		name := r.PathValue(parameter)
		if found, err := find(name); found == nil {
			return nil, cmp.Or(err, wrong(parameter, problem))
		}
		return nil, remove(name)
	}
}

// withBody makes a verb of a function that takes the members of a JSON object.
func withBody[T any](do func(asked *T, r *http.Request, x *exchange) (any, error)) verbFunc {
	return func(r *http.Request, x *exchange) (any, error) {
		body, err := readBody(r, nil)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(body) == "" {
			return nil, errors.New("the body is empty: it must be a JSON object")
		}
		asked := new(T)
		if _, err := parseDocument("body", []byte(body), asked); err != nil {
			return nil, err
		}
		if err := tagProblems(asked).first(); err != nil {
			return nil, err
		}
		return do(asked, r, x)
	}
}

// handleControl is the control API.
func (s *server) handleControl(w *recorder, r *http.Request) {
	http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the answer may wait or be delayed
	w.Header().Set("Content-Type", "application/json")          // whatever the profile's json_type is
	if err := s.guardPrivate(r); err != nil {
		s.writeControl(w, w.x, nil, err)
		return
	}
	http.StripPrefix(s.base, s.control.mux).ServeHTTP(w, r)
}

// writeControl writes what a verb returned. An error is 400 unless it has a
// status of its own.
func (s *server) writeControl(w http.ResponseWriter, x *exchange, answer any, err error) {
	if x.Fault != "" {
		w.Header().Set("Grantling-Fault", x.Fault)
	}
	status := http.StatusOK
	var told *oauthError
	switch {
	case err == nil && answer == nil:
		answer = object{}
	case err == nil:
	case errors.As(err, &told):
		status, answer = told.Status, object{{"error", told.Description}}
	case errors.Is(err, errStorage):
		status, answer, x.failure = http.StatusServiceUnavailable, object{{"error", err.Error()}}, err
	default:
		status, answer = http.StatusBadRequest, object{{"error", err.Error()}}
	}
	s.writeJSON(w, status, answer)
}

// guardPrivate accepts requests to the control API, the inspector and the playground
// whose Host is loopback or one of -control-host. It refuses all requests of web pages
// from other origins, also those that only read: they are not to see what clients send.
func (s *server) guardPrivate(r *http.Request) error {
	if !isAddressed(r.Host, s.hosts...) {
		return &oauthError{Status: http.StatusForbidden, Description: "this is private: Host must be a loopback name, or one of -control-host"}
	}
	writing := *r
	writing.Method = http.MethodPost // CrossOriginProtection lets all reading pass
	if err := s.crossOrigin.Load().Check(&writing); err != nil {
		return &oauthError{Status: http.StatusForbidden, Description: "this is private: pages of other origins cannot use it"}
	}
	return nil
}

func (s *server) listVerbs(*http.Request, *exchange) (any, error) {
	var requests, names, endpoints object
	for _, v := range s.controlVerbs() {
		requests.add(strings.TrimSuffix(v.pattern, "{$}"), v.what)
	}
	for _, n := range namedFaults {
		names.add(n.Name, n.What+" ("+n.Endpoint+")")
	}
	for _, name := range s.profile.having(endpointNames) {
		endpoints.add(name, s.advertised(name))
	}
	return object{{"requests", requests}, {"faults", names}, {"endpoints", endpoints}}, nil
}

func (s *server) readClock(*http.Request, *exchange) (any, error) {
	now, offset := s.clock.read()
	return object{{"now", now.UTC().Format(time.RFC3339)}, {"offset", offset.String()}}, nil
}

type clockMove struct {
	Advance string `json:"advance"`
	Set     string `json:"set"`
	Reset   bool   `json:"reset"`
}

func (s *server) moveClock(asked *clockMove, r *http.Request, x *exchange) (any, error) {
	var offset time.Duration
	var err error
	member, form := "reset", ""
	switch *asked {
	case clockMove{}:
		return nil, errors.New("expected one of advance, set and reset")
	case clockMove{Advance: asked.Advance}:
		member, form = "advance", `a duration such as "31m" or "-1h30m", at most 290 years long`
		offset, err = time.ParseDuration(asked.Advance)
	case clockMove{Set: asked.Set}:
		var to time.Time
		member, form = "set", `a time such as "2030-01-01T00:00:00Z"`
		to, err = time.Parse(time.RFC3339, asked.Set)
		offset = to.Sub(realTime())
	case clockMove{Reset: true}:
	default:
		return nil, errors.New("expected only one of advance, set and reset")
	}
	switch {
	case err != nil:
		return nil, wrong(member, "must be "+form)
	case !s.clock.move(offset, asked.Advance != ""):
		return nil, wrong(member, "must keep the year between 1980 and 2199")
	}
	return s.readClock(r, x)
}

// move sets how far the clock is from the real time, or adds to it. It refuses to
// leave the years that all date formats can hold.
func (c *clock) move(offset time.Duration, further bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if further {
		offset += c.offset
	}
	year := realTime().Add(offset).UTC().Year()
	if year < 1980 || year >= 2200 {
		return false
	}
	c.offset = offset
	return true
}

type issuerMove struct {
	Issuer string `json:"issuer" required:"true"`
}

// moveIssuer is for a server whose public port is known only when it runs.
//
// Choice: a reset keeps the issuer. It says where the server is, which no test changes.
func (s *server) moveIssuer(asked *issuerMove, _ *http.Request, _ *exchange) (any, error) {
	err := s.setIssuer(asked.Issuer)
	return issuerMove{s.issuer()}, err
}

func (s *server) putUser(u *userFixture, _ *http.Request, _ *exchange) (any, error) {
	if err := u.problems().first(); err != nil {
		return nil, err
	}
	_, err := s.applyFixtures(&fixtures{Users: []userFixture{*u}})
	u.Password = ""
	return u, err
}

// putClient gives a client without a secret a new one, so that the answer always
// has it.
func (s *server) putClient(c *clientFixture, _ *http.Request, _ *exchange) (any, error) {
	if err := c.problems(s.profile).first(); err != nil {
		return nil, err
	}
	if !c.public() && c.ClientSecret == "" {
		c.ClientSecret = newClientSecret()
	}
	_, err := s.applyFixtures(&fixtures{Clients: []clientFixture{*c}})
	c.TokenEndpointAuthMethod = cmp.Or(c.TokenEndpointAuthMethod, "client_secret_basic")
	return c, err
}

type decisionRequest struct {
	URL      string `json:"url" required:"true"`
	Username string `json:"username" required:"true"`
	Decision string `json:"decision" required:"true" one:"approve deny"`
}

// decideRequest sends an authorization request and the user's decision through
// the authorization endpoint, with all checks and faults, and logs it.
func (s *server) decideRequest(asked *decisionRequest, r *http.Request, x *exchange) (any, error) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, asked.URL, http.NoBody)
	if err != nil {
		return nil, wrong("url", "is not a URL")
	}
	if found, _, ok := s.findRoute(request.Method, request.URL.Path); !ok || found.endpoint != "authorize" || !s.reachedBy(request.URL, r) {
		return nil, wrong("url", "is not the authorization endpoint of this server, "+s.url(s.profile.Endpoints["authorize"][0]))
	}
	request.Host, request.RemoteAddr = r.Host, r.RemoteAddr
	u, err := s.store.userNamed(asked.Username)
	if u == nil {
		return nil, cmp.Or(err, wrong("username", "no such user"))
	}
	decided := newExchange(request, x.time)
	decided.decided = &decision{user: u, deny: asked.Decision == "deny"}
	answer := &stagedAnswer{header: http.Header{}}
	s.serve(answer, request, decided)
	x.Fault = decided.Fault
	location := answer.header.Get("Location")
	if strings.HasPrefix(location, "/") { // a page of this server
		location = s.origin() + location
	}
	switch {
	case decided.Fault != "" && answer.status == 0:
		return nil, wrong("url", "was not answered: fault "+decided.Fault+" dropped the answer")
	case location != "":
		return object{{"redirect_to", location}}, nil
	case answer.status != 0 && decided.request != nil && decided.request.posted != nil:
		form := object{}
		for _, parameter := range decided.request.posted {
			form.add(parameter.name, parameter.value)
		}
		return object{{"redirect_to", decided.request.redirectURI}, {"form", form}}, nil
	case decided.Fault != "":
		return nil, wrong("url", fmt.Sprintf("was answered by fault %s with status %d and no redirect", decided.Fault, answer.status))
	case decided.refusal != nil:
		return nil, wrong("url", decided.refusal.Error())
	default:
		return nil, wrong("url", fmt.Sprintf("was answered with status %d and no redirect", answer.status))
	}
}

// reachedBy reports whether a URL leads to this server: through the issuer, or
// through a host of the control API and the port that r came to.
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

type mintRequest struct {
	ClientID  string   `json:"client_id" required:"true"`
	Username  string   `json:"username"`
	Scope     string   `json:"scope"`
	ExpiresIn *seconds `json:"expires_in" from:"-3153600000" to:"3153600000"` // a hundred years; negative: it has expired
}

// mintTokens issues tokens as the token endpoint would, after a user's consent or
// for client credentials.
func (s *server) mintTokens(asked *mintRequest, _ *http.Request, x *exchange) (any, error) {
	c, err := s.store.clientNamed(asked.ClientID)
	if c == nil {
		return nil, cmp.Or(err, wrong("client_id", "no such client"))
	}
	scope, err := c.grantableScope(asked.Scope, s.profile, nil)
	if err != nil {
		return nil, wrong("scope", asOAuthError(err).Description)
	}
	lifetime := *cmp.Or(asked.ExpiresIn, &s.profile.AccessTokenLifetime)
	if asked.ExpiresIn != nil && lifetime == 0 {
		return nil, wrong("expires_in", "must not be 0; a negative number makes a token that has already expired")
	}
	u, err := s.store.userNamed(asked.Username)
	if err != nil {
		return nil, err
	}
	var answer *tokenAnswer
	switch {
	case u != nil:
		answer, err = s.issueForUser(u, c, scope, x, lifetime)
	case asked.Username != "":
		return nil, wrong("username", "no such user")
	case !c.mayUse("client_credentials", s.profile):
		return nil, wrong("username", "is missing: this client may not use client credentials")
	default:
		answer, err = s.issueForClient(c, scope, x, lifetime)
	}
	if told := new(oauthError); errors.As(err, &told) {
		return nil, wrong("client_id", told.Description)
	}
	if err != nil {
		return nil, err
	}
	return s.profile.TokenAnswer.fill(tokenFacts.of(answer)), nil
}

// maxWait is how long an answer may wait. Clients time out too.
const maxWait = 30 * time.Second

func (s *server) pickRequests(r *http.Request, _ *exchange) (any, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("the query is malformed")
	}
	asked := url.Values{"endpoint": {""}, "client_id": {""}, "after": {"0"}, "wait": {"0s"}} // the defaults
	var all memberErrors
	for name, values := range query {
		all.add(!asked.Has(name), name, "unknown parameter; expected one of endpoint, client_id, after, wait")
		asked[name] = values
	}
	if endpoint := asked.Get("endpoint"); endpoint != "" {
		all.oneOf("endpoint", endpoint, s.profile.having(endpointNames))
	}
	after, err := strconv.Atoi(asked.Get("after"))
	all.add(err != nil, "after", "must be the id of a request")
	wait, err := time.ParseDuration(asked.Get("wait"))
	all.add(err != nil || wait < 0 || wait > maxWait, "wait", `must be a duration such as "5s", at most 30s`)
	if err := all.first(); err != nil {
		return nil, err
	}
	era := s.eras.now()
	ctx, cancel := era.until(r.Context(), wait)
	defer cancel()
	return era.requests.pick(ctx, asked.Get("endpoint"), asked.Get("client_id"), after), nil
}

// noSuch is the error about something that the control API does not have.
func noSuch(description string) error {
	return &oauthError{Status: http.StatusNotFound, Description: description}
}

func (s *server) latestRequest(r *http.Request, x *exchange) (any, error) {
	picked, err := s.pickRequests(r, x)
	if err != nil {
		return nil, err
	}
	all := picked.([]*loggedRequest)
	if len(all) == 0 {
		return nil, noSuch("no request matches")
	}
	return all[len(all)-1], nil
}

// reset puts everything back to how it was after the start.
func (s *server) reset(*http.Request, *exchange) (any, error) {
	if err := s.store.reset(s.control.users, s.control.clients); err != nil {
		return nil, err
	}
	s.documents.forget(s.control.documents)
	s.eras.begin()
	s.clock.move(0, false)
	s.passwords.clear()
	s.registrations.clear()
	s.secrets.clear()
	s.userCodes.clear()
	return nil, nil
}
