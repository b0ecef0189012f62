package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// eras is what the server records of exchanges, for the control API and the
// inspector. Before the first era begins, it records nothing.
type eras struct{ current atomic.Pointer[era] }

// era is the time between two resets, with its faults and its log. When it ends,
// delayed answers are sent at once.
type era struct {
	context.Context
	end      context.CancelFunc
	faults   faults
	requests requests
}

// now returns the current era, or nil if nothing is recorded.
func (e *eras) now() *era { return e.current.Load() }

// begin begins an era and ends the one before.
func (e *eras) begin() {
	next := &era{requests: requests{changed: make(chan struct{})}}
	next.Context, next.end = context.WithCancel(context.Background())
	if before := e.current.Swap(next); before != nil {
		before.end()
	}
}

// end ends all that waits, because the server stops.
func (e *eras) end() {
	if last := e.now(); last != nil {
		last.end()
	}
}

// until returns a context that ends after a time, with ctx, or with the era.
func (e *era) until(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(e, cancel)
	return ctx, func() { stop(); cancel() }
}

// pause waits in real time; moving the clock does not end it.
func (e *era) pause(ctx context.Context, d time.Duration) {
	ctx, cancel := e.until(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// kept is what an exchange keeps of its messages until they are recorded.
type kept struct {
	text    string         // the body of the request, once it is read
	page    string         // the template of the page that was shown, or ""
	answer  []byte         // the beginning of the body of the answer
	written int            // bytes of it in all
	unsent  *stagedAnswer  // an answer that a fault kept from being sent, or nil
	logged  *loggedRequest // the record, once there is one
	fault   *stagedFault   // that changed the answer, or nil
	watched *era           // whose exchanges the page shows
}

// keepAnswer keeps what is written of an answer.
func (k *kept) keepAnswer(b []byte) {
	k.written += len(b)
	if k.page == "" && k.written <= maxKeptBody {
		k.answer = append(k.answer, b...)
	}
}

// requests is the log of the last maxRequests requests, fewer if they are large,
// with the oldest first.
type requests struct {
	mu      sync.Mutex
	kept    []*loggedRequest
	latest  map[string]*loggedRequest // the newest with this key
	size    int                       // in bytes
	last    int                       // id of the newest
	changed chan struct{}             // closed by the next request
}

// What the log keeps, to bound its memory.
const (
	maxRequests  = 1000
	maxLog       = 16 << 20 // bytes
	maxShown     = 100      // parameters of a request
	maxShownText = 2048     // bytes of each
	maxKeptBody  = 8 << 10  // bytes; of a larger body only the size
)

// loggedRequest is what the log keeps of an exchange. Its texts are copies, so
// that the request can be freed.
type loggedRequest struct {
	ID   int    `json:"id"`
	Time string `json:"time"`
	notes
	Milliseconds float64  `json:"duration_ms"`
	Flow         string   `json:"flow"` // shared by everything that belongs to one authorization
	Warnings     []string `json:"warnings"`

	// What the inspector shows besides.
	at        time.Time
	checks    []check
	request   message
	answer    message // Start is empty if nothing was sent
	unsent    message // what a fault kept from being sent
	page      string
	staged    string // what the fault does
	decided   bool   // by the control API
	presented []seen
	given     []seen // also in an answer that was not sent

	issued []uuid.UUID   // what it was about that it did not present
	offset time.Duration // of the clock

	ids     []uuid.UUID // of its grant, codes and tokens
	asked   string      // hash of its authorization request, without the demand for a sign-in
	granted bool        // the server issued something
	size    int         // roughly, in bytes
}

// seen is the public id of a code or a token, and the parameter or member that
// had it.
type seen struct {
	name string
	id   uuid.UUID
}

// logRequest logs a finished exchange.
func (s *server) logRequest(x *exchange, r *http.Request, header http.Header, took time.Duration) {
	if _, isAsset := assets[strings.TrimPrefix(x.Path, s.base+"/")]; isAsset || slices.Contains([]string{"/healthz", s.base + "/healthz"}, x.Path) || strings.HasPrefix(x.Path, s.base+playgroundPath) {
		return // not about a client, or from the playground to itself
	}
	l := &loggedRequest{
		Time:         x.time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		notes:        x.notes,
		Milliseconds: float64(took.Microseconds()) / 1000,
		at:           x.time.UTC(),
		checks:       x.checks,
		page:         x.page,
		decided:      x.decided != nil,
		ids:          x.ids,
		granted:      len(x.ids) > 0,
		issued:       x.ids,
	}
	_, l.offset = s.clock.read()
	if x.fault != nil {
		l.staged = x.fault.words()
	}
	m := masker{profile: s.profile}
	l.request = m.request(r, x)
	l.Params = m.parameters(x.query.values, x.form)
	l.presented, m.found = m.found, nil
	m.own = x.fault == nil
	l.answer = m.answer(x.Status, header, x.answer, x.written)
	if x.unsent != nil {
		l.unsent = m.answer(x.unsent.status, x.unsent.header, x.unsent.body, len(x.unsent.body))
	}
	l.given = m.found
	for _, text := range []*string{&l.Method, &l.ClientID, &l.GrantType, &l.Username, &l.Error, &l.ErrorDescription} {
		*text = shorten(scrub(*text))
	}
	l.Path = shorten(m.path(x.Path))
	l.ids = slices.Clip(l.ids)
	for _, p := range l.presented {
		l.ids = append(l.ids, p.id)
	}
	if asked := s.askedIn(x); asked != "" {
		l.asked = string(hashSecret(s.profile.withoutSignIn(asked)))
	}
	l.size = 1024 + m.size + 256*(len(l.ids)+len(l.given)) + len(l.Method) + len(l.Path) + len(l.ClientID) + len(l.Username) + len(l.ErrorDescription)
	x.era.requests.add(l, x, s.profile)
	x.logged = l
}

// askedIn is the authorization request that an exchange is part of, or "": also of
// a sign-in that goes on to it.
func (s *server) askedIn(x *exchange) string {
	if x.request != nil {
		return x.request.query
	}
	if x.Endpoint != "" {
		return ""
	}
	next := cmp.Or(x.form.Get("continue"), x.query.values.Get("continue"))
	path, query, _ := strings.Cut(next, "?")
	if found, _, ok := s.findRoute(http.MethodGet, path); ok && found.endpoint == "authorize" {
		return escapeBytes(query)
	}
	return ""
}

func (q *requests) add(l *loggedRequest, x *exchange, p *profile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	l.ID = q.last
	q.link(l)
	l.Warnings = q.warnings(l, x, p)
	q.keep(l)
	close(q.changed)
	q.changed = make(chan struct{})
}

// keep adds a request to the log, and drops the oldest to stay in bounds.
func (q *requests) keep(l *loggedRequest) {
	q.kept = append(q.kept, l)
	q.size += l.size
	over := 0
	for ; len(q.kept)-over > maxRequests || q.size > maxLog; over++ {
		dropped := q.kept[over]
		q.size -= dropped.size
		for _, key := range dropped.keys() {
			if q.latest[key] == dropped {
				delete(q.latest, key)
			}
		}
	}
	clear(q.kept[:over]) // append makes a new list in time
	q.kept = q.kept[over:]
	if q.latest == nil {
		q.latest = make(map[string]*loggedRequest)
	}
	for _, key := range l.keys() {
		q.latest[key] = l
	}
}

// keys are what a request can share with a later one.
func (l *loggedRequest) keys() (keys []string) {
	for _, id := range l.ids {
		keys = append(keys, keyOfID(id))
	}
	if l.asked != "" {
		keys = append(keys, keyOfAsked(l.asked), l.keyOfState())
	}
	return keys
}

func keyOfID(id uuid.UUID) string    { return "id " + string(id[:]) }
func keyOfAsked(asked string) string { return "asked " + asked }
func (l *loggedRequest) keyOfState() string {
	return fmt.Sprint("state ", l.Params["state"], " of ", l.ClientID)
}

// link gives a request the flow of the latest request with the same grant, code,
// token or authorization request. If there is none, or the request asks once more
// after the decision, it begins a new flow.
func (q *requests) link(l *loggedRequest) {
	var latest *loggedRequest
	for _, id := range l.ids {
		if e := q.latest[keyOfID(id)]; e != nil && (latest == nil || e.ID > latest.ID) {
			latest = e
		}
	}
	if e := q.latest[keyOfAsked(l.asked)]; l.asked != "" && e != nil && (latest == nil || e.ID > latest.ID) {
		if latest = e; e.granted || e.Endpoint != "" && e.Section != "" {
			latest = nil
		}
	}
	switch {
	case latest != nil:
		l.Flow = latest.Flow
		l.ClientID = cmp.Or(l.ClientID, latest.ClientID)
	case l.granted:
		l.Flow = l.ids[0].String()
	case l.asked != "":
		l.Flow = uuid.Must(uuid.NewV7()).String()
	}
}

// warnings lists what works here but not on a strict server. It leaves out what
// the documentation of the profile's service asks for.
func (q *requests) warnings(l *loggedRequest, x *exchange, p *profile) []string {
	found := []string{}
	add := func(condition bool, warning string) {
		if condition {
			found = append(found, warning)
		}
	}
	switch {
	case x.refusal != nil: // it did not work
	case x.Endpoint == "authorize" && x.request != nil && x.Method == http.MethodGet:
		state := x.request.values["state"]
		add(state == "", "no state")
		earlier := q.latest[l.keyOfState()]
		add(state != "" && earlier != nil && (earlier.Flow != l.Flow || slices.Contains(earlier.Warnings, "same state twice")), "same state twice")
		add(x.request.responseType == "token", "implicit grant")
		add(x.request.responseType == "code" && x.request.codeChallenge == "" && (x.request.client.public() || !p.PKCEOptional), "PKCE missing")
		loopback := isLoopbackURI(x.request.redirectURI)
		add(loopback && strings.HasPrefix(x.request.redirectURI, "http://localhost"), "redirect_uri on localhost instead of 127.0.0.1")
		add(!loopback && strings.HasPrefix(x.request.redirectURI, "http://"), "redirect_uri is http on a host that is not loopback")
	case slices.Contains([]string{"token", "revoke", "introspect"}, x.Endpoint):
		authorization, secret := x.header.Get("Authorization"), x.form.Get("client_secret") != ""
		add(secret && isBasic(authorization), "client authenticates twice, by HTTP Basic and in the body")
		add(secret && !isBasic(authorization) && !p.SecretInBody, "secret in the body although Basic is available")
		add(authorization != "" && !isBasic(authorization), "Authorization header that is not Basic beside the client's credentials")
		add(x.GrantType == "password", "password grant")
	}
	return found
}

// pick returns the requests after an id that match; an empty endpoint or clientID
// matches all. If there are none, it waits for one until ctx ends.
func (q *requests) pick(ctx context.Context, endpoint, clientID string, after int) []*loggedRequest {
	for {
		picked := []*loggedRequest{} // not null in JSON
		q.mu.Lock()
		for _, l := range q.kept {
			if l.ID > after && (endpoint == "" || endpoint == l.Endpoint) && (clientID == "" || clientID == l.ClientID) {
				picked = append(picked, l)
			}
		}
		changed := q.changed
		q.mu.Unlock()
		if len(picked) > 0 {
			return picked
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return picked
		}
	}
}

// clear empties the log. Ids continue.
func (q *requests) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kept, q.latest, q.size = nil, nil, 0
}
