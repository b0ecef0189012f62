package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// requests is the log of what clients asked and were answered: the last
// maxRequests exchanges, or fewer if they are large, oldest first. Its zero
// value is empty.
type requests struct {
	mu      sync.Mutex
	kept    []*exchange
	size    int           // of what is kept, in bytes
	last    int           // id of the newest
	changed chan struct{} // closed when the log changes; nil: nobody waits
}

// How much the log keeps: exchanges, and bytes in all.
const (
	maxRequests = 1000
	maxLog      = 16 << 20
)

// noted is what the request log knows of an exchange besides what the server
// itself goes by.
type noted struct {
	era      context.Context // in which it began
	id       int
	params   url.Values // secrets cut
	flow     string     // shared by all exchanges about one grant
	warnings []string
	took     time.Duration
	size     int // about, in bytes
}

// note keeps what a request says, for the log and the faults, and leaves it to
// be read again.
func (s *server) note(r *http.Request, x *exchange) {
	if _, isAsset := assets[strings.TrimPrefix(x.path, s.base+"/")]; isAsset || x.path == s.base+"/healthz" {
		return // they tell nothing about a client
	}
	// What is malformed is left out here, and refused elsewhere.
	params, _ := url.ParseQuery(r.URL.RawQuery)
	body, _ := io.ReadAll(r.Body) // an error comes again to who reads on
	unread := io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	if form, _, err := s.parseBody(r, append([]string{"form"}, s.profile.Bodies...)); err == nil { // pages send forms in every profile
		for name, values := range form {
			params[name] = append(params[name], values...)
		}
	}
	r.Body = unread
	x.noted = &noted{era: s.control.currentEra(), params: s.profile.cut(params)}

	clientID := claimedClient(r, params)
	for _, presented := range s.profile.presentedCredentials(r, params) {
		origin, owner, err := s.store.origin(presented.id)
		if err != nil || origin == uuid.Nil {
			continue // a broken store is noticed by who needs it
		}
		x.grant = origin
		if clientID == "" {
			clientID = owner
		}
	}
	if c, err := s.store.clientNamed(clientID); c != nil && err == nil {
		x.clientID = c.ClientID
	}
}

// claimedClient is the client_id that a request names: in the Authorization
// header, as a parameter, or in the authorization request that a consent page
// carries.
func claimedClient(r *http.Request, params url.Values) string {
	if c, err := parseBasic(r.Header.Get("Authorization")); err == nil {
		return c.id
	}
	if params.Has("client_id") {
		return params.Get("client_id")
	}
	request, _ := url.ParseQuery(params.Get("request"))
	return request.Get("client_id")
}

// presentedCredentials are the codes and tokens of a request.
func (p *profile) presentedCredentials(r *http.Request, params url.Values) []credential {
	var found []credential
	for _, name := range p.credentialParams() {
		for _, value := range params[name] {
			if c, ok := p.findID(value); ok {
				found = append(found, c)
			}
		}
	}
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		if c, ok := p.findID(strings.TrimLeft(token, " ")); ok {
			found = append(found, c)
		}
	}
	return found
}

// findID finds the id in what may be a code or a token.
func (p *profile) findID(text string) (credential, bool) {
	for _, f := range []format{p.CodeFormat, p.AccessTokenFormat, p.RefreshTokenFormat} {
		if c, ok := f.parse(text); ok {
			return c, true
		}
	}
	return credential{}, false
}

// credentialParams carry codes and tokens, of which the log shows the public id.
func (p *profile) credentialParams() []string {
	return append(p.tokenParameters(), "code", "refresh_token", "token")
}

// isSecret reports whether the log shows nothing of a parameter, by its name
// in small letters.
func isSecret(name string) bool {
	return strings.Contains(name, "secret") || strings.Contains(name, "password") ||
		slices.Contains([]string{"code_verifier", "client_assertion", "assertion", "mac", "form_token"}, name)
}

// What the log keeps of one request's parameters: who sends many, or long
// ones, does not fill the memory.
const (
	maxShown     = 100  // parameters
	maxShownText = 2048 // bytes of each
)

// cut returns the parameters without their secrets, and not all of very many.
func (p *profile) cut(params url.Values) url.Values {
	shown := make(url.Values)
	n := 0
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range params[name] {
			if n++; n > maxShown {
				return shown
			}
			shown[shorten(name)] = append(shown[shorten(name)], shorten(p.cutValue(name, value)))
		}
	}
	return shown
}

func (p *profile) cutValue(name, value string) string {
	name = strings.ToLower(name)
	switch {
	case value == "":
		return "" // it carries nothing
	case isSecret(name):
		return "…"
	case slices.Contains(p.credentialParams(), name):
		if c, ok := p.findID(value); ok && c.id.Version() == 7 { // not half of something else
			return c.id.String() + "…"
		}
		return "…"
	case name == "request" || name == "continue": // carries an authorization request
		path, query, found := strings.Cut(shorten(value), "?")
		if !found {
			path, query = "", path
		}
		if !strings.Contains(query, "=") {
			return value
		}
		inner, _ := url.ParseQuery(query) // what is malformed is left out here too
		if found {
			path += "?"
		}
		return path + p.cut(inner).Encode()
	}
	return value
}

// shorten copies the beginning of a text: what is kept of a request holds
// nothing else of it in memory.
func shorten(text string) string {
	if len(text) <= maxShownText {
		return strings.Clone(text)
	}
	return strings.ToValidUTF8(text[:maxShownText], "") + "…"
}

// keep puts an exchange that is over into the log.
func (s *server) keep(x *exchange, took time.Duration) {
	if x.grant == uuid.Nil && x.token != uuid.Nil {
		x.grant, _, _ = s.store.origin(x.token)
	}
	x.noted.took = took
	s.control.requests.add(x.kept(), s.profile)
}

// kept is a copy of the exchange for the log.
func (x *exchange) kept() *exchange {
	kept := *x
	kept.decided, kept.failure = nil, nil
	if x.refusal != nil {
		kept.refusal = &refusal{Section: x.refusal.Section}
	}
	texts := []*string{&kept.clientID, &kept.grantType, &kept.username, &kept.redirectURI, &kept.error, &kept.errorDescription}
	kept.noted.size = 1024 // for all that is not text
	for _, text := range texts {
		*text = shorten(*text)
		kept.noted.size += len(*text)
	}
	kept.noted.size += len(x.path)
	for name, values := range x.noted.params {
		kept.noted.size += 64 + len(name)
		for _, value := range values {
			kept.noted.size += 16 + len(value)
		}
	}
	return &kept
}

func (q *requests) add(x *exchange, p *profile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if x.noted.era.Err() != nil {
		return // a reset has been meanwhile
	}
	q.last++
	x.noted.id = q.last
	x.noted.flow = q.flow(x)
	x.noted.warnings = q.warnings(x, p)
	q.kept = append(q.kept, x)
	q.size += x.noted.size
	over := 0
	for ; len(q.kept)-over > maxRequests || q.size > maxLog; over++ {
		q.size -= q.kept[over].noted.size
	}
	q.kept = slices.Delete(q.kept, 0, over)
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// flow returns the id that an exchange shares with the authorization request
// that it goes back to, or else with the first exchange about its grant; or
// none, if it is about no grant.
func (q *requests) flow(x *exchange) string {
	if x.grant == uuid.Nil && x.request == "" {
		return ""
	}
	for _, earlier := range slices.Backward(q.kept) {
		switch {
		case x.grant != uuid.Nil && x.grant == earlier.grant:
			return earlier.noted.flow
		case x.request != "" && x.request == earlier.request:
			// The same request: on its way to a decision, or made anew after one.
			if earlier.grant == uuid.Nil && earlier.refusal == nil {
				return earlier.noted.flow
			}
			return newFlow(x)
		}
	}
	return newFlow(x)
}

func newFlow(x *exchange) string {
	if x.grant != uuid.Nil {
		return x.grant.String()
	}
	return uuid.Must(uuid.NewV7()).String()
}

// warnings tells what a client did that works but should not be relied on: a
// strict server refuses it. What the page of the profile's service tells clients
// to do is left out.
func (q *requests) warnings(x *exchange, p *profile) []string {
	found := []string{}
	add := func(condition bool, warning string) {
		if condition {
			found = append(found, warning)
		}
	}
	params := x.noted.params
	switch {
	case x.refusal != nil:
	case x.endpoint == "authorize" && x.request != "" && x.method == http.MethodGet:
		state := params.Get("state")
		add(state == "", "no state")
		add(state != "" && q.hasState(state, x), "same state twice")
		add(params.Get("response_type") == "token", "implicit grant")
		add(params.Get("response_type") == "code" && params.Get("code_challenge") == "" && (x.public || !p.PKCEOptional), "PKCE missing")
		loopback := isLoopbackURI(x.redirectURI)
		add(loopback && strings.HasPrefix(x.redirectURI, "http://localhost"), "redirect_uri on localhost instead of 127.0.0.1")
		add(!loopback && strings.HasPrefix(x.redirectURI, "http://"), "redirect_uri is http on a host that is not loopback")
	case slices.Contains([]string{"token", "revoke", "introspect"}, x.endpoint):
		secret := params.Get("client_secret") != ""
		add(secret && x.basic, "client authenticates twice, by HTTP Basic and in the body")
		add(secret && !x.basic && !p.SecretInBody, "secret in the body although Basic is available")
		add(x.authorization && !x.basic, "Authorization header that is not Basic beside the client's credentials")
		add(x.grantType == "password", "password grant")
	}
	return found
}

// hasState reports whether the client used a state in another flow.
func (q *requests) hasState(state string, x *exchange) bool {
	return slices.ContainsFunc(q.kept, func(earlier *exchange) bool {
		return earlier.request != "" && earlier.clientID == x.clientID && earlier.noted.flow != x.noted.flow &&
			earlier.noted.params.Get("state") == state
	})
}

// requestFilter picks exchanges; what is empty picks all.
type requestFilter struct {
	endpoint, clientID string
	after              int
}

func (f requestFilter) picks(x *exchange) bool {
	return x.noted.id > f.after && (f.endpoint == "" || f.endpoint == x.endpoint) && (f.clientID == "" || f.clientID == x.clientID)
}

// pick returns the records of all exchanges that the filter picks. While there
// are none, it waits for the given time, or until the era is over.
func (q *requests) pick(ctx, era context.Context, f requestFilter, wait time.Duration) []object {
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for over := wait == 0; ; {
		records, changed := q.look(f)
		if len(records) > 0 || over {
			return records
		}
		select {
		case <-changed:
		case <-patience.C:
			over = true
		case <-ctx.Done():
			over = true
		case <-era.Done():
			over = true
		}
	}
}

// look is one look at the log. changed is closed when it is worth another.
func (q *requests) look(f requestFilter) (records []object, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	records = []object{}
	for _, x := range q.kept {
		if f.picks(x) {
			records = append(records, x.object())
		}
	}
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	return records, q.changed
}

// forget empties the log. Ids go on.
func (q *requests) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kept, q.size = nil, 0
}

// reset makes the log what it was after the start.
func (q *requests) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.kept, q.size, q.last = nil, 0, 0
}

// object is the record of an exchange.
func (x *exchange) object() object {
	params := make(map[string]any)
	for name, values := range x.noted.params {
		if params[name] = values; len(values) == 1 {
			params[name] = values[0]
		}
	}
	return object{
		{"id", x.noted.id},
		{"time", x.time.UTC().Format("2006-01-02T15:04:05.000Z07:00")},
		{"endpoint", x.endpoint},
		{"method", x.method},
		{"path", x.path},
		{"params", params},
		{"client_id", x.clientID},
		{"grant_type", x.grantType},
		{"username", x.username},
		{"status", x.status},
		{"error", x.error},
		{"error_description", x.errorDescription},
		{"section", x.section()},
		{"fault", x.fault},
		{"duration_ms", float64(x.noted.took.Microseconds()) / 1000},
		{"flow", x.noted.flow},
		{"warnings", x.noted.warnings},
	}
}
