package main

import (
	"cmp"
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
	Name             string            `json:"name,omitempty" one:"$faults"`
	Endpoint         string            `json:"endpoint"`
	ClientID         string            `json:"client_id,omitempty"`
	Times            *int              `json:"times,omitempty" from:"0"`            // 0: until cleared; in an answer: how often it will still strike
	Percent          *int              `json:"percent,omitempty" from:"1" to:"100"` // of the requests that it could strike
	Seed             *uint64           `json:"seed,omitempty"`                      // of the random numbers for percent
	Delay            string            `json:"delay,omitempty"`
	Status           int               `json:"status,omitempty" from:"200" to:"599"`
	Error            string            `json:"error,omitempty"`
	ErrorDescription string            `json:"error_description,omitempty"`
	Headers          map[string]string `json:"headers,omitempty" headers:"true"`
	Body             *string           `json:"body,omitempty"`
	Drop             bool              `json:"drop,omitempty"`
}

// namedFault is an answer that real clients are known to handle badly. It is
// either the members of a fault, a refused code, or a change to a real answer.
type namedFault struct {
	fault
	What      string `json:"what"`
	Member    string `json:"member"`    // of a good answer; the fault changes it, and strikes only at this endpoint
	Becomes   string `json:"becomes"`   // the new value of the member, with a placeholder for the old one; "": none
	Truncated bool   `json:"truncated"` // half of a good JSON answer is missing
	Slow      bool   `json:"slow"`      // the body is sent slowly
	Reason    reason `json:"reason"`    // why the code is refused; only token requests with a code are struck
}

// namedFaults are all named faults, in the order in which they are listed.
var namedFaults, faultNames = func() (faults []namedFault, names []string) {
	if err := json.Unmarshal(must(templateFiles.ReadFile("templates/faults.json")), &faults); err != nil {
		panic(err)
	}
	for _, f := range faults {
		names = append(names, f.Name)
	}
	return faults, names
}()

// faultEndpoints are the endpoints where a fault can strike.
var faultEndpoints = []string{"authorize", "token", "revoke", "introspect", "device_authorization", "tokeninfo", "userinfo", "metadata"}

// maxDelay keeps a typo from hanging a test suite.
const maxDelay = 10 * time.Minute

// stagedFault is a fault in the queue. Times counts down; 0 means until it is cleared.
type stagedFault struct {
	ID    string `json:"id"`
	fault        // as it was posted, with the members of the named fault
	named namedFault
	delay time.Duration
	taken int // requests that took it and are not settled
	dice  *rand.Rand
}

// addFault checks the members of a fault against each other and the profile, and
// stages it.
func (s *server) addFault(f *fault, _ *http.Request, _ *exchange) (any, error) {
	p := s.profile
	var named namedFault
	if f.Name != "" {
		named = namedFaults[slices.Index(faultNames, f.Name)]
	}
	f.Endpoint = cmp.Or(f.Endpoint, named.Endpoint)
	var all memberErrors
	all.add(f.Endpoint == "", "endpoint", "is missing")
	all.oneOf("endpoint", f.Endpoint, p.having(faultEndpoints))
	all.add((named.Member != "" || named.Reason != "") && f.Endpoint != named.Endpoint, "endpoint", "must be "+named.Endpoint+" with this name")
	all.add(named.Truncated && f.Endpoint == "authorize", "endpoint", "cannot be authorize with this name: its answers are not JSON")
	all.add(f.Endpoint == "token" && named.Member != "" && !p.TokenAnswer.has(named.Member) || named.Member == "iss" && !p.Iss,
		"name", "changes "+named.Member+", which no answer of this profile has")
	all.add(f.Percent == nil && f.Seed != nil, "seed", "does nothing without percent")
	all.add(f.Name != "" && f.Error != "", "error", "cannot go with name, which already sets the answer")
	all.add(f.Name != "" && f.Body != nil, "body", "cannot go with name, which already sets the answer")
	all.add(f.Error != "" && f.Body != nil, "body", "cannot go with error: both are the answer")
	all.add(!isErrorText(f.Error), "error", "has characters that RFC 6749 §5.2 does not allow")
	all.add(!isErrorText(f.ErrorDescription), "error_description", "has characters that RFC 6749 §5.2 does not allow")
	all.add(f.ErrorDescription != "" && f.Error == "" && named.Error == "", "error_description", "needs error")
	delay, err := time.ParseDuration(cmp.Or(f.Delay, "0s"))
	all.add(err != nil || delay < 0 || delay > maxDelay, "delay", `must be a duration such as "2s" or "300ms", at most 10m`)
	if err := all.first(); err != nil {
		return nil, err
	}
	var dice *rand.Rand
	if f.Percent != nil {
		f.Times = cmp.Or(f.Times, new(0))
		f.Seed = cmp.Or(f.Seed, new(uint64))
		dice = rand.New(rand.NewPCG(*f.Seed, 0))
	}
	f.Times = cmp.Or(f.Times, new(1))
	f.Status = cmp.Or(f.Status, named.Status)
	f.Error = cmp.Or(f.Error, named.Error)
	f.Body = cmp.Or(f.Body, named.Body)
	f.Drop = f.Drop || named.Drop
	headers := make(map[string]string)
	maps.Copy(headers, named.Headers)
	for name, value := range f.Headers {
		headers[http.CanonicalHeaderKey(name)] = value
	}
	f.Headers = headers
	q := &s.eras.now().faults
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	staged := &stagedFault{ID: strconv.Itoa(q.last), fault: *f, named: named, delay: delay, dice: dice}
	q.queue = append(q.queue, staged)
	return *staged, nil // as list has it
}

// faults is the queue of staged faults. Its zero value is empty.
type faults struct {
	mu    sync.Mutex
	queue []*stagedFault
	last  int // id of the newest
}

// takeFault returns the first fault in the queue that strikes an exchange, or nil.
// The caller must settle it.
func (s *server) takeFault(x *exchange) *stagedFault {
	q := &x.era.faults
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.queue {
		switch {
		case f.Endpoint != x.Endpoint,
			f.ClientID != "" && f.ClientID != s.claimedClient(x),
			f.named.Reason != "" && x.form.Get("grant_type") != "authorization_code",
			*f.Times > 0 && f.taken == *f.Times,
			f.dice != nil && f.dice.IntN(100) >= *f.Percent:
			continue
		}
		f.taken++
		return f
	}
	return nil
}

// settle says whether a fault that was taken struck; if not, it waits for
// another request.
func (q *faults) settle(taken *stagedFault, struck bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken.taken--
	if !struck || *taken.Times == 0 {
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
		x.GrantType = grantType
	}
	switch {
	case f.named.Reason != "":
		for _, refusal := range codeRefusals {
			if refusal.Reason == f.named.Reason {
				found.fail(a, x, refusal)
			}
		}
	case f.Error != "":
		s.stageError(f, found, a, x)
	case f.Body != nil:
		a.header.Set("Content-Type", http.DetectContentType([]byte(*f.Body)))
		if json.Valid([]byte(*f.Body)) {
			a.header.Set("Content-Type", s.profile.JSONType)
		}
		a.Write([]byte(*f.Body))
	case f.Name != "":
		found.answer(a, r, x)
		whole := *a
		if !f.named.change(a) && !s.changeFormPost(f.named, a, x) {
			x.era.faults.settle(f, false)
			a.send(w)
			return
		}
		if a.status == 0 {
			x.unsent = &whole
		}
	case f.Status != 0:
		a.header.Set("Content-Type", "text/plain; charset=utf-8")
		a.Write([]byte(http.StatusText(f.Status) + "\n"))
	case f.Drop:
		// No answer at all.
	default:
		found.answer(a, r, x)
	}
	x.era.faults.settle(f, true)
	x.Fault, x.fault = f.ID, f
	a.status = cmp.Or(f.Status, a.status)
	for name, value := range f.Headers {
		a.header.Set(name, value)
	}
	a.header.Set("Grantling-Fault", f.ID)

	// A delay may be longer than the server's timeouts.
	connection := http.NewResponseController(w)
	connection.SetReadDeadline(time.Time{})
	connection.SetWriteDeadline(time.Time{})
	if f.named.Slow {
		a.sendSlowly(w, func(over time.Duration) { x.era.pause(r.Context(), over) }, cmp.Or(f.delay, 5*time.Second))
	} else {
		x.era.pause(r.Context(), f.delay)
		a.send(w)
	}
	if f.Drop && x.decided == nil { // otherwise there is no connection
		if a.status != 0 {
			connection.Flush()
		}
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
}

// stageError writes a fault's error as the endpoint writes its errors. At the
// authorization endpoint that is a redirect, unless the fault has the status of
// a page.
func (s *server) stageError(f *stagedFault, found *route, w http.ResponseWriter, x *exchange) {
	staged := &oauthError{
		Code:        f.Error,
		Description: cmp.Or(f.ErrorDescription, "staged by fault "+f.ID),
		Status:      cmp.Or(f.Status, statusOf[f.Error], http.StatusBadRequest),
	}
	if found.endpoint == "authorize" && (f.Status == 0 || f.Status/100 == 3) {
		query := x.authorizationQuery()
		if x.form.Has("request") { // from the consent page
			query = parseQuery(x.form.Get("request"))
		}
		if request, err := s.parseClientAndRedirectURI(query, nil); err == nil {
			x.request, x.ClientID = request, request.client.ClientID
			request.parseParameters(s.profile, new(exchange)) // errors there no longer matter
			staged.Status = http.StatusBadRequest
			found.fail(w, x, sentBack{staged, request})
			return
		}
	}
	found.fail(w, x, staged)
	x.failure, x.checks = nil, nil // nothing failed that the log should explain
}

// words say what a fault does, and to whom.
func (f *stagedFault) words() string {
	what := "the answer is staged"
	if f.Name != "" {
		what = f.named.What
	} else if f.Drop {
		what = "the connection is dropped"
	} else if f.Status != 0 || f.Error != "" {
		what = strings.TrimSpace(fmt.Sprintf("the answer is %d %s", f.Status, f.Error))
	} else if f.delay > 0 {
		what = "the answer is delayed by " + f.delay.String()
	}
	if f.ClientID != "" {
		what += ", for client " + f.ClientID
	}
	return what
}

// claimedClient is the client_id that a request names, unchecked: in the
// Authorization header, as a parameter, in the authorization request that a form
// carries, or through its access token.
func (s *server) claimedClient(x *exchange) string {
	authorization := x.header.Get("Authorization")
	if c, err := parseBasic(authorization, nil); err == nil {
		return c.id
	}
	for _, form := range []url.Values{x.form, x.query.values, parseQuery(x.form.Get("request")).values} {
		if form.Has("client_id") {
			return form.Get("client_id")
		}
	}
	_, token, _ := strings.Cut(authorization, " ")
	if b, err := s.findToken(strings.TrimLeft(token, " "), &exchange{now: x.now}); err == nil {
		return b.client.ClientID
	}
	return ""
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

// sendSlowly sends the body in ten pieces, with a pause before each.
func (a *stagedAnswer) sendSlowly(w http.ResponseWriter, pause func(time.Duration), over time.Duration) {
	body := a.body
	a.body = nil
	a.send(w)
	for piece := range slices.Chunk(body, len(body)/10+1) {
		http.NewResponseController(w).Flush()
		pause(over / 10)
		w.Write(piece)
	}
}

// change makes the fault's change to a real answer, and reports whether it could:
// some can only change good answers.
func (f *namedFault) change(a *stagedAnswer) bool {
	switch isJSON := a.status == http.StatusOK && json.Valid(a.body); {
	case f.Drop:
		*a = stagedAnswer{header: a.header}
	case f.Member != "" && f.Endpoint == "authorize":
		return a.changeRedirect(f.Member, f.Becomes)
	case f.Member != "":
		return isJSON && a.changeMember(f.Member, f.Becomes)
	case f.Truncated:
		if isJSON {
			a.body = a.body[:len(a.body)/2]
		}
		return isJSON
	}
	return true
}

// changeMember changes a member of a JSON answer, or removes it.
func (a *stagedAnswer) changeMember(name, becomes string) bool {
	answer, _ := parseOrdered(a.body)
	o, _ := answer.(object)
	i := o.index(name)
	switch {
	case i < 0:
		return false
	case becomes == "":
		o = slices.Delete(o, i, i+1)
	default:
		o[i].value = strings.ReplaceAll(becomes, "${"+name+"}", fmt.Sprint(o[i].value))
	}
	a.body = append(must(marshalJSON(o)), '\n') // it was JSON before
	return true
}

// changeRedirect replaces a parameter of a redirect back to a client.
func (a *stagedAnswer) changeRedirect(name, becomes string) bool {
	location := a.header.Get("Location")
	separator := "?"
	if strings.Contains(location, "#") {
		separator = "#"
	}
	before, encoded, _ := strings.Cut(location, separator)
	answer, err := url.ParseQuery(encoded)
	if err != nil || !answer.Has(name) || !answer.Has("code") && !answer.Has("access_token") && !answer.Has("error") {
		return false // a page, or on the way to one
	}
	answer.Set(name, becomes)
	a.header.Set("Location", before+separator+answer.Encode())
	return true
}

// changeFormPost replaces a parameter of an answer that a form sends to a client,
// and reports whether it could.
func (s *server) changeFormPost(f namedFault, a *stagedAnswer, x *exchange) bool {
	if f.Member == "" || x.request == nil || x.request.posted.get(f.Member) == "" {
		return false
	}
	x.request.posted.set(f.Member, f.Becomes)
	*a = stagedAnswer{header: a.header}
	s.writeFormPost(a, x, x.request, x.request.posted)
	return true
}
