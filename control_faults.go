package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fault is a failure on demand, as the control API takes and answers it.
type fault struct {
	Name             string            `json:"name,omitempty"` // one of namedFaults
	Endpoint         string            `json:"endpoint"`
	ClientID         string            `json:"client_id,omitempty"`
	Times            *int              `json:"times,omitempty" from:"0"`            // 0: until cleared; in an answer: how often it will still strike
	Percent          *int              `json:"percent,omitempty" from:"1" to:"100"` // of the requests that it could strike
	Seed             *uint64           `json:"seed,omitempty"`                      // of the random numbers for percent
	Delay            string            `json:"delay,omitempty"`
	Status           int               `json:"status,omitempty" from:"200" to:"599"`
	Error            string            `json:"error,omitempty"`
	ErrorDescription string            `json:"error_description,omitempty"`
	Headers          map[string]string `json:"headers,omitempty"`
	Body             *string           `json:"body,omitempty"`
	Drop             bool              `json:"drop,omitempty"`
}

// namedFault is an answer that real clients are known to handle badly. It is
// either the members of a fault, an error of the endpoint, or a change to a good
// answer.
type namedFault struct {
	name     string
	endpoint string // the default
	only     bool   // it can strike nowhere else
	json     bool   // good answers must be JSON
	what     string

	member    string // of the answer, that alter changes
	answer    fault
	refusal   error
	grantType string                                    // it strikes only requests with this one
	alter     func(a *stagedAnswer, member string) bool // false: this is not a good answer
	slow      bool                                      // the body is sent slowly
}

const page502 = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"

// namedFaults are all named faults, in the order in which they are listed.
var namedFaults = []namedFault{
	{name: "missing_expires_in", endpoint: "token", only: true, what: "the token answer has no expires_in", member: "expires_in", alter: without},
	{name: "expires_in_string", endpoint: "token", only: true, what: `expires_in is a string, such as "3600"`, member: "expires_in", alter: altered(func(seconds any) any { return fmt.Sprint(seconds) })},
	{name: "no_refresh_token", endpoint: "token", only: true, what: "the token answer has no refresh token, on a refresh as well", member: "refresh_token", alter: without},
	{name: "token_type_mac", endpoint: "token", only: true, what: "token_type is mac, which clients do not know", member: "token_type", alter: altered(func(any) any { return "mac" })},
	{name: "truncated_json", endpoint: "token", json: true, what: "half of the JSON is missing", alter: truncate},
	{name: "slow_body", endpoint: "token", what: "the body comes in ten pieces over delay, or 5s", alter: anything, slow: true},
	{name: "lost_answer", endpoint: "token", what: "the request is carried out, and the connection drops without an answer", alter: lose, answer: fault{Drop: true}},
	{name: "error_with_200", endpoint: "token", what: "an error with status 200", answer: fault{Status: 200, Error: "invalid_grant"}},
	{name: "html_error", endpoint: "token", what: "a gateway's HTML page with status 502", answer: fault{Status: 502, Body: new(page502), Headers: map[string]string{"Content-Type": "text/html"}}},
	{name: "rate_limited", endpoint: "token", what: "status 429 with Retry-After: 1", answer: fault{Status: 429, Error: "temporarily_unavailable", Headers: map[string]string{"Retry-After": "1"}}},
	{name: "expired_code", endpoint: "token", only: true, what: "the code has expired", refusal: codeRefusals[errExpired], grantType: "authorization_code"},
	{name: "already_used_code", endpoint: "token", only: true, what: "the code was used before", refusal: codeRefusals[errReused], grantType: "authorization_code"},
	{name: "wrong_state", endpoint: "authorize", only: true, what: "the redirect carries another state", member: "state", alter: redirected("not-the-state-that-was-sent")},
	{name: "wrong_iss", endpoint: "authorize", only: true, what: "the redirect carries another server's iss", member: "iss", alter: redirected("https://not-this-server.example")},
}

// faultEndpoints are the endpoints where a fault can strike.
var faultEndpoints = []string{"authorize", "token", "revoke", "introspect", "tokeninfo", "userinfo", "metadata"}

// maxDelay keeps a typo from hanging a test suite.
const maxDelay = 10 * time.Minute

// stagedFault is a fault in the queue.
type stagedFault struct {
	ID         string `json:"id"`
	fault             // as it was posted
	namedFault        // the zero value if it has no name
	delay      time.Duration
	endless    bool // it strikes until it is cleared
	taken      int  // requests that took it and are not settled
	dice       *rand.Rand
}

// newStagedFault checks the members of a fault against each other and the
// profile. Errors name the member.
func newStagedFault(f fault, p *profile) (*stagedFault, error) {
	staged := &stagedFault{fault: f}
	var all memberErrors
	if f.Name != "" {
		var names []string
		for _, n := range namedFaults {
			names = append(names, n.name)
			if n.name == f.Name {
				staged.namedFault = n
			}
		}
		all.oneOf("name", f.Name, names)
		staged.Endpoint = cmp.Or(f.Endpoint, staged.endpoint)
	}
	all.add(staged.Endpoint == "", "endpoint", "is missing")
	all.oneOf("endpoint", staged.Endpoint, p.having(faultEndpoints))
	all.add(staged.only && staged.Endpoint != staged.endpoint, "endpoint", "must be "+staged.endpoint+" with this name")
	all.add(staged.json && staged.Endpoint == "authorize", "endpoint", "cannot be authorize with this name: its answers are not JSON")
	all.add(staged.Endpoint == "token" && staged.member != "" && !p.TokenAnswer.has(staged.member) || staged.member == "iss" && !p.Iss,
		"name", "changes "+staged.member+", which no answer of this profile has")
	all.add(f.Percent == nil && f.Seed != nil, "seed", "does nothing without percent")
	all.add(f.Name != "" && f.Error != "", "error", "cannot go with name, which already sets the answer")
	all.add(f.Name != "" && f.Body != nil, "body", "cannot go with name, which already sets the answer")
	all.add(f.Error != "" && f.Body != nil, "body", "cannot go with error: both are the answer")
	all.add(!isErrorText(f.Error), "error", "has characters that RFC 6749 §5.2 does not allow")
	all.add(!isErrorText(f.ErrorDescription), "error_description", "has characters that RFC 6749 §5.2 does not allow")
	all.add(f.ErrorDescription != "" && f.Error == "" && staged.answer.Error == "", "error_description", "needs error")
	var err error
	staged.delay, err = time.ParseDuration(cmp.Or(f.Delay, "0s"))
	all.add(err != nil || staged.delay < 0 || staged.delay > maxDelay, "delay", `must be a duration such as "2s" or "300ms", at most 10m`)
	all.checkHeaders("headers", f.Headers)
	if err := all.first(); err != nil {
		return nil, err
	}
	staged.Times = cmp.Or(f.Times, new(1))
	if f.Percent != nil {
		staged.Times = cmp.Or(f.Times, new(0))
		staged.Seed = cmp.Or(f.Seed, new(uint64))
		staged.dice = rand.New(rand.NewPCG(*staged.Seed, 0))
	}
	staged.endless = *staged.Times == 0
	staged.fault.fill(staged.answer)
	return staged, nil
}

// fill adds the members of a named fault. Only status and headers of f win.
func (f *fault) fill(preset fault) {
	f.Status = cmp.Or(f.Status, preset.Status)
	f.Error = cmp.Or(preset.Error, f.Error)
	f.Body = cmp.Or(preset.Body, f.Body)
	f.Drop = f.Drop || preset.Drop
	headers := make(map[string]string)
	for _, h := range []map[string]string{preset.Headers, f.Headers} {
		for name, value := range h {
			headers[http.CanonicalHeaderKey(name)] = value
		}
	}
	f.Headers = headers
}

// faults is the queue of staged faults. Its zero value is empty.
type faults struct {
	mu    sync.Mutex
	queue []*stagedFault
	last  int // id of the newest
}

// add queues a fault and returns it as list would.
func (q *faults) add(f *stagedFault) stagedFault {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	f.ID = strconv.Itoa(q.last)
	q.queue = append(q.queue, f)
	return *f
}

// take returns the first fault in the queue that strikes an exchange, or nil.
// The caller must settle it.
func (q *faults) take(x *exchange, client func() string) *stagedFault {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.queue {
		switch {
		case f.Endpoint != x.endpoint,
			f.ClientID != "" && f.ClientID != client(),
			f.grantType != "" && f.grantType != x.form.Get("grant_type"),
			!f.endless && f.taken >= *f.Times,
			f.dice != nil && f.dice.IntN(100) >= *f.Percent:
			continue
		}
		f.taken++
		return f
	}
	return nil
}

// takeFault returns the fault that strikes an exchange, or nil.
func (s *server) takeFault(x *exchange) *stagedFault {
	return x.era.faults.take(x, sync.OnceValue(func() string { return s.claimedClient(x) }))
}

// settle says whether a fault that was taken struck; if not, it waits for
// another request.
func (q *faults) settle(taken *stagedFault, struck bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken.taken--
	if !struck || taken.endless {
		return
	}
	taken.Times = new(*taken.Times - 1) // copies of the old number may be in an answer
	if *taken.Times == 0 {
		q.queue = slices.DeleteFunc(q.queue, func(f *stagedFault) bool { return f == taken })
	}
}

// list returns the queue as it was posted, with ids.
func (q *faults) list() []stagedFault {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := []stagedFault{} // not null in JSON
	for _, f := range q.queue {
		list = append(list, *f)
	}
	return list
}

func (q *faults) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = nil
}

// stagedAnswer is an answer that a fault can change before it is sent.
type stagedAnswer struct {
	header http.Header
	status int // 0: there is no answer
	body   []byte
}

func (a *stagedAnswer) Header() http.Header { return a.header }

func (a *stagedAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *stagedAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, b...)
	return len(b), nil
}

// stage answers a request as a fault says.
func (s *server) stage(f *stagedFault, found *route, w http.ResponseWriter, r *http.Request, x *exchange) {
	a := &stagedAnswer{header: w.Header().Clone()}
	if grantType := x.form.Get("grant_type"); found.endpoint == "token" && slices.Contains(s.profile.tokenGrants(), grantType) {
		x.grantType = grantType
	}
	switch {
	case f.alter != nil:
		found.answer(a, r, x)
		if !f.alter(a, f.member) {
			x.era.faults.settle(f, false)
			a.send(w)
			return
		}
	case f.refusal != nil:
		found.fail(a, x, f.refusal)
	case f.Error != "":
		s.stageError(f, found, a, r, x)
	case f.Body != nil:
		a.header.Set("Content-Type", s.contentType(*f.Body))
		a.Write([]byte(*f.Body))
	case f.Status != 0:
		a.header.Set("Content-Type", "text/plain; charset=utf-8")
		a.Write([]byte(http.StatusText(f.Status) + "\n"))
	case f.Drop:
		// No answer at all.
	default:
		found.answer(a, r, x)
	}
	x.era.faults.settle(f, true)
	x.fault = f.ID
	if f.Status != 0 {
		a.status = f.Status
	}
	for name, value := range f.Headers {
		a.header.Set(name, value)
	}
	a.header.Set("Grantling-Fault", f.ID)

	// A delay may be longer than the server's timeouts.
	connection := http.NewResponseController(w)
	connection.SetReadDeadline(time.Time{})
	connection.SetWriteDeadline(time.Time{})
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(x.era, cancel)()
	if f.slow {
		a.sendSlowly(ctx, w, f.delay)
	} else {
		pause(ctx, f.delay)
		a.send(w)
	}
	if f.Drop {
		if a.status != 0 {
			connection.Flush()
		}
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
}

// stageError writes a fault's error as the endpoint writes its errors. At the
// authorization endpoint that is a redirect, unless the fault has the status of
// a page.
func (s *server) stageError(f *stagedFault, found *route, w http.ResponseWriter, r *http.Request, x *exchange) {
	staged := &oauthError{Code: f.Error, Description: f.ErrorDescription, Status: f.Status}
	if staged.Description == "" {
		staged.Description = "staged by fault " + f.ID
	}
	if found.endpoint == "authorize" && (f.Status == 0 || f.Status/100 == 3) {
		if request, err := s.parseClientAndRedirectURI(authorizationQuery(x)); err == nil {
			x.asks(request)
			request.parseParameters(s.profile) // errors there no longer matter
			staged.Status = http.StatusBadRequest
			found.fail(w, x, sentBack{staged, request})
			return
		}
	}
	if staged.Status == 0 {
		staged.Status = cmp.Or(statusOf[f.Error], http.StatusBadRequest)
	}
	found.fail(w, x, staged)
	x.failure = nil // nothing failed that the log should explain
}

// authorizationQuery is the authorization request in a request to the
// authorization endpoint or from its consent page.
func authorizationQuery(x *exchange) query {
	if x.form.Has("request") {
		return parseQuery(x.form.Get("request"))
	}
	return x.authorizationQuery()
}

// claimedClient is the client_id that a request names, unchecked: in the
// Authorization header, as a parameter, in the authorization request that a form
// carries, or through its access token.
func (s *server) claimedClient(x *exchange) string {
	authorization := x.header.Get("Authorization")
	if c, err := parseBasic(authorization); err == nil {
		return c.id
	}
	for _, form := range []url.Values{x.form, x.query.values, authorizationQuery(x).values} {
		if form.Has("client_id") {
			return form.Get("client_id")
		}
	}
	_, token, _ := strings.Cut(authorization, " ")
	if b, err := s.findToken(strings.TrimLeft(token, " "), x.now); err == nil {
		return b.client.ClientID
	}
	return ""
}

func (s *server) contentType(body string) string {
	if json.Valid([]byte(body)) {
		return s.profile.JSONType
	}
	return http.DetectContentType([]byte(body))
}

// send sends the answer, if there is one.
func (a *stagedAnswer) send(w http.ResponseWriter) {
	if a.status == 0 {
		return
	}
	clear(w.Header())
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	w.Write(a.body) // fails where the status allows no body
}

// sendSlowly sends the body in ten pieces.
func (a *stagedAnswer) sendSlowly(ctx context.Context, w http.ResponseWriter, over time.Duration) {
	if over == 0 {
		over = 5 * time.Second
	}
	whole := *a
	whole.body = nil
	whole.send(w)
	connection := http.NewResponseController(w)
	for rest := a.body; len(rest) > 0; {
		connection.Flush()
		pause(ctx, over/10)
		n := min(len(rest), len(a.body)/10+1)
		w.Write(rest[:n])
		rest = rest[n:]
	}
}

// pause waits in real time; moving the clock does not end it.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// The functions below are the alter of named faults.

func anything(*stagedAnswer, string) bool { return true }

func lose(a *stagedAnswer, _ string) bool {
	*a = stagedAnswer{header: a.header}
	return true
}

func truncate(a *stagedAnswer, _ string) bool {
	if a.status != http.StatusOK || !json.Valid(a.body) {
		return false
	}
	a.body = a.body[:len(a.body)/2]
	return true
}

// without removes a member of a token answer.
func without(a *stagedAnswer, name string) bool {
	return a.alterMember(name, func(o object, i int) object { return slices.Delete(o, i, i+1) })
}

// altered gives a member of a token answer another value.
func altered(to func(any) any) func(*stagedAnswer, string) bool {
	return func(a *stagedAnswer, name string) bool {
		return a.alterMember(name, func(o object, i int) object {
			o[i].value = to(o[i].value)
			return o
		})
	}
}

// alterMember changes a member of a good token answer, and reports whether there
// is one.
func (a *stagedAnswer) alterMember(name string, alter func(o object, i int) object) bool {
	answer, err := parseOrdered(a.body)
	if a.status != http.StatusOK || err != nil {
		return false
	}
	o, _ := answer.(object)
	i := o.index(name)
	if i < 0 {
		return false
	}
	body, err := marshalJSON(alter(o, i))
	if err != nil {
		panic(err) // it was JSON before
	}
	a.body = append(body, '\n')
	return true
}

// redirected replaces a parameter of a redirect back to a client.
func redirected(value string) func(*stagedAnswer, string) bool {
	return func(a *stagedAnswer, name string) bool {
		location := a.header.Get("Location")
		before, encoded, _ := strings.Cut(location, "?")
		if strings.Contains(location, "#") {
			before, encoded, _ = strings.Cut(location, "#")
		}
		answer, err := url.ParseQuery(encoded)
		if err != nil || !answer.Has(name) || !answer.Has("code") && !answer.Has("access_token") && !answer.Has("error") {
			return false // a page, or on the way to one
		}
		answer.Set(name, value)
		a.header.Set("Location", location[:len(before)+1]+answer.Encode())
		return true
	}
}
