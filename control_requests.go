package main

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// requests is the log of the last maxRequests requests, fewer if they are large,
// with the oldest first.
type requests struct {
	mu      sync.Mutex
	kept    []*loggedRequest
	size    int           // in bytes
	last    int           // id of the newest
	changed chan struct{} // closed by the next request
}

// What the log keeps, to bound its memory.
const (
	maxRequests  = 1000
	maxLog       = 16 << 20 // bytes
	maxShown     = 100      // parameters of a request
	maxShownText = 2048     // bytes of each
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

	checks  []check
	ids     []uuid.UUID // of its grant, codes and tokens
	asked   string      // hash of its authorization request, without the demand for a sign-in
	granted bool        // the server issued something
	size    int         // roughly, in bytes
}

// logRequest logs a finished exchange.
func (s *server) logRequest(x *exchange, took time.Duration) {
	if _, isAsset := assets[strings.TrimPrefix(x.Path, s.base+"/")]; isAsset || x.Path == s.base+"/healthz" {
		return // not about a client
	}
	l := &loggedRequest{
		Time:         x.time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		notes:        x.notes,
		Milliseconds: float64(took.Microseconds()) / 1000,
		ids:          x.ids,
		granted:      len(x.ids) > 0,
		checks:       x.checks,
	}
	for _, text := range []*string{&l.Method, &l.Path, &l.ClientID, &l.GrantType, &l.Username, &l.Error, &l.ErrorDescription} {
		*text = shorten(*text)
	}
	shown, presented := s.profile.cut(x.query.values, x.form)
	_, token, _ := strings.Cut(x.header.Get("Authorization"), " ")
	if id := s.profile.findID(strings.TrimLeft(token, " ")); id != uuid.Nil {
		presented = append(presented, id)
	}
	l.ids = append(l.ids, presented...)
	if x.request != nil {
		l.asked = string(hashSecret(s.profile.withoutSignIn(x.request.query)))
	}
	l.Params = make(map[string]any)
	l.size = 1024 + len(l.Method) + len(l.Path) + len(l.ClientID) + len(l.Username) + len(l.ErrorDescription)
	for name, values := range shown {
		if l.Params[name] = values; len(values) == 1 {
			l.Params[name] = values[0]
		}
		l.size += 64 + len(name) + 16*len(values) + len(strings.Join(values, ""))
	}
	x.era.requests.add(l, x, s.profile)
}

// findID returns the public id in text that may be a code or a token, or uuid.Nil.
func (p *profile) findID(text string) uuid.UUID {
	for _, f := range []format{p.CodeFormat, p.AccessTokenFormat, p.RefreshTokenFormat} {
		if c, ok := f.parse(text); ok && c.id.Version() == 7 { // otherwise part of some other text
			return c.id
		}
	}
	return uuid.Nil
}

// cut returns at most maxShown parameters without secrets, and the public ids of
// the codes and tokens among them.
func (p *profile) cut(forms ...url.Values) (shown url.Values, presented []uuid.UUID) {
	shown = make(url.Values)
	n := 0
	for _, form := range forms {
		for _, name := range slices.Sorted(maps.Keys(form)) {
			for _, value := range form[name] {
				if n++; n > maxShown {
					return shown, presented
				}
				value, id := p.cutValue(name, value)
				if id != uuid.Nil {
					presented = append(presented, id)
				}
				shown[shorten(name)] = append(shown[shorten(name)], shorten(value))
			}
		}
	}
	return shown, presented
}

// cutValue returns the value of a parameter without secrets, and the public id of
// the code or token in it, or uuid.Nil.
func (p *profile) cutValue(name, value string) (string, uuid.UUID) {
	name = strings.ToLower(name)
	switch {
	case value == "": // nothing to hide
	case strings.Contains(name, "secret"), strings.Contains(name, "password"),
		slices.Contains([]string{"code_verifier", "client_assertion", "assertion", "mac", "form_token"}, name):
		return "…", uuid.Nil
	case slices.Contains(p.tokenParameters, name), name == "code", name == "refresh_token", name == "token":
		if id := p.findID(value); id != uuid.Nil {
			return id.String() + "…", id
		}
		return "…", uuid.Nil
	case name == "request" || name == "continue": // holds an authorization request
		text := shorten(value)
		query := strings.Index(text, "?") + 1 // 0: there is no path before it
		if strings.Contains(text[query:], "=") {
			inner, _ := url.ParseQuery(text[query:]) // malformed pairs are left out
			shown, _ := p.cut(inner)
			return text[:query] + shown.Encode(), uuid.Nil
		}
	}
	return value, uuid.Nil
}

// shorten copies the beginning of a text, so that the request can be freed.
func shorten(text string) string {
	if len(text) <= maxShownText {
		return strings.Clone(text)
	}
	return strings.ToValidUTF8(text[:maxShownText], "") + "…"
}

func (q *requests) add(l *loggedRequest, x *exchange, p *profile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	l.ID = q.last
	q.link(l)
	l.Warnings = q.warnings(l, x, p)
	q.kept = append(q.kept, l)
	q.size += l.size
	over := 0
	for ; len(q.kept)-over > maxRequests || q.size > maxLog; over++ {
		q.size -= q.kept[over].size
	}
	q.kept = slices.Delete(q.kept, 0, over)
	close(q.changed)
	q.changed = make(chan struct{})
}

// link gives a request the flow of the latest request with the same grant, code,
// token or authorization request. If there is none, it begins a new flow.
func (q *requests) link(l *loggedRequest) {
	for _, earlier := range slices.Backward(q.kept) {
		sharesID := slices.ContainsFunc(l.ids, func(id uuid.UUID) bool { return slices.Contains(earlier.ids, id) })
		sameRequest := l.asked != "" && l.asked == earlier.asked
		undecided := !earlier.granted && earlier.Section == ""
		if sharesID || sameRequest && undecided {
			l.Flow = earlier.Flow
			l.ClientID = cmp.Or(l.ClientID, earlier.ClientID)
			return
		}
		if sameRequest {
			break // asked once more after the decision
		}
	}
	switch {
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
		add(state != "" && slices.ContainsFunc(q.kept, func(earlier *loggedRequest) bool {
			return earlier.asked != "" && earlier.ClientID == l.ClientID && earlier.Flow != l.Flow && earlier.Params["state"] == state
		}), "same state twice")
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
	q.kept, q.size = nil, 0
}
