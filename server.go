package main

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// server is the authorization server of one issuer.
type server struct {
	profile     *profile
	store       *store
	documents   *clientDocuments
	base        string // path of the issuer, "" or "/tenant"
	autoApprove string // the user who approves everything, or ""
	hashRounds  int    // of PBKDF2, for new passwords
	clock       clock
	log         *slog.Logger
	control     *control    // nil: off
	eras        eras        // what is recorded
	playground  *playground // nil: off
	inspector   *inspector  // nil: off
	loopback    bool        // it listens on this machine only: Host must name it
	hosts       []string    // its names besides the loopback ones

	told        atomic.Pointer[string] // the issuer, see setIssuer
	routes      map[string][]*route    // by path
	crossOrigin atomic.Pointer[http.CrossOriginProtection]
	hashing     chan struct{}             // one value for each password that is being hashed
	stopping    atomic.Bool               // balancers should ask other servers
	afterStart  func(ctx context.Context) // what takes too long for the start, or nil
	passwords   limiter                   // by user and source
	secrets     limiter                   // by client and source
	userCodes   limiter                   // by user

	firstPassword []byte                        // salt of the one that the banner shows, or nil
	registrations limiter                       // by source
	logged        limiter                       // by line, see logHourly
	keys          atomic.Pointer[[]*signingKey] // of JSON Web Tokens; see openKeys
}

// newServer makes the server of an issuer, a URL without query and fragment.
func newServer(p *profile, st *store, issuer string, log *slog.Logger) (*server, error) {
	u, err := checkIssuer(issuer)
	if err != nil {
		return nil, err
	}
	s := &server{
		profile:    p,
		store:      st,
		documents:  newClientDocuments(),
		base:       strings.TrimSuffix(u.Path, "/"),
		hashRounds: durableRounds,
		logged:     limiter{window: 60 * 60},
		log:        log,
		// At most passwordTries: correct passwords that arrive together count as
		// tries until they are checked, and one server must refuse none of them.
		hashing: make(chan struct{}, min(runtime.GOMAXPROCS(0), passwordTries)),
	}
	if err := s.setIssuer(issuer); err != nil {
		return nil, err
	}
	s.routes = s.newRoutes()
	s.shareGuesses()
	return s, nil
}

// handler answers a request, or returns what is wrong with it.
type handler func(http.ResponseWriter, *http.Request, *exchange) error

// route is what answers at a path.
type route struct {
	endpoint string // the name of the protocol endpoint that it is part of, or "" for a page
	methods  string // as in the Allow header
	handle   handler
	fail     func(http.ResponseWriter, *exchange, error) // writes the errors of handle, and those before it
	anyone   bool                                        // browsers may call it from any origin
	bodies   []string                                    // kinds of body that it takes; nil: forms
	form     bool                                        // its POSTs come from this server's own pages
}

// newRoutes returns the one table of routes, by path.
func (s *server) newRoutes() map[string][]*route {
	routes := make(map[string][]*route)
	add := func(r route, base string, paths ...string) {
		for _, path := range paths {
			routes[base+path] = append(routes[base+path], &r)
		}
	}
	bodies := s.profile.Bodies
	for _, r := range []route{
		{endpoint: "authorize", methods: "GET, POST", handle: s.handleAuthorize, fail: s.writeAuthorizationError},
		{endpoint: "oob", methods: "GET", handle: s.visited(s.handleOutOfBand), fail: s.writeErrorPage},
		{endpoint: "token", methods: "POST", handle: s.handleToken, fail: s.writeError, bodies: bodies, anyone: true},
		{endpoint: "revoke", methods: "POST", handle: s.handleRevoke, fail: s.writeError, bodies: bodies, anyone: true},
		{endpoint: "device_authorization", methods: "POST", handle: s.handleDeviceAuthorization, fail: s.writeError, bodies: bodies},
		{endpoint: "introspect", methods: "POST", handle: s.handleIntrospect, fail: s.writeError, bodies: bodies},
		{endpoint: "registration", methods: "POST", handle: s.handleRegistration, fail: s.writeError, bodies: s.profile.Registration.bodies(), anyone: true},
		{endpoint: "jwks", methods: "GET", handle: s.handleKeys, fail: s.writeError, anyone: true},
	} {
		add(r, s.base, s.profile.Endpoints[r.endpoint]...)
	}
	for i := range s.profile.Resources {
		resource := &s.profile.Resources[i]
		add(route{endpoint: resource.Endpoint, methods: "GET", handle: s.handleResource(resource), fail: s.writeBearerError, anyone: true}, s.base, resource.Paths...)
	}
	for _, path := range s.profile.Endpoints["metadata"] {
		// RFC 8414 §3.1: the issuer's path comes after the well-known one. Some
		// clients look for it before.
		metadata := route{endpoint: "metadata", methods: "GET", handle: s.handleMetadata, fail: s.writeError, anyone: true}
		add(metadata, path, s.base)
		if s.base != "" {
			add(metadata, s.base, path)
		}
	}
	page := func(path, methods string, handle handler) {
		add(route{methods: methods, handle: handle, fail: s.writeErrorPage, form: true}, s.base, path)
	}
	page("/", "GET", s.visited(s.handleStart))
	if s.base != "" {
		page("", "GET", s.visited(s.handleStart)) // the URL that the command prints
	}
	page("/login", "GET, POST", s.visited(s.handleLogin))
	page("/logout", "POST", s.visited(s.handleLogout))
	add(route{endpoint: "authorize", methods: "POST", handle: s.visited(s.handleConsent), fail: s.writeAuthorizationError, form: true}, s.base, "/consent") // the second half of the endpoint
	s.accountPages(page)
	s.addExplanations(page)
	if s.inspector != nil {
		s.inspectorPages(page)
	}
	if s.playground != nil {
		s.playgroundPages(page)
	}
	if len(s.profile.Endpoints["device_authorization"]) > 0 {
		page(devicePath, "GET, POST", s.account(s.handleDevice))
	}
	for name := range assets {
		page("/"+name, "GET", s.handleAsset)
	}
	page("/healthz", "GET", s.handleHealth)
	if s.base != "" {
		add(route{methods: "GET", handle: s.handleHealth, fail: s.writeErrorPage}, "", "/healthz") // of whoever knows only host and port
	}
	return routes
}

// findRoute returns the route of a method and a path. If there is none, ok is
// false, found is a route of another method there or nil, and methods are all
// that the path takes.
func (s *server) findRoute(method, path string) (found *route, methods string, ok bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	there, ok := s.routes[path]
	if !ok {
		there = s.routes[path[:strings.LastIndex(path, "/")+1]+"*"] // whatever the name
	}
	for _, r := range there {
		for taken := range strings.SplitSeq(r.methods, ", ") {
			if taken == method {
				return r, r.methods, true
			}
		}
		if found == nil {
			found, methods = r, r.methods
		} else {
			methods += ", " + r.methods
		}
	}
	return found, methods, false
}

// exchange is one request and its answer. Handlers note in it what they find
// out; logs and faults read it.
type exchange struct {
	time time.Time
	now  unixTime
	notes

	header http.Header
	sent
	request   *authorizationRequest // that it is part of
	visitor   *visitor              // the browser that it shows a page
	resources []string              // that it asks for
	refusal   *oauthError           // before a profile words it
	failure   error                 // behind a refusal that tells no details

	// What only the control API and the inspector need.
	era     *era        // in which it began; nil: it is not recorded
	kept                // as sent
	checks  []check     // in the order in which they ran
	decided *decision   // by the user beforehand, or nil
	ids     []uuid.UUID // of the grant, the code and the tokens that it is about
}

// notes are what the logs show of an exchange.
type notes struct {
	Endpoint         string         `json:"endpoint"`
	Method           string         `json:"method"`
	Path             string         `json:"path"`
	Params           map[string]any `json:"params"`    // each a string or a list, without secrets; only in the request log
	ClientID         string         `json:"client_id"` // of a client that exists
	GrantType        string         `json:"grant_type"`
	Username         string         `json:"username"` // of a user that exists
	Status           int            `json:"status"`
	Error            string         `json:"error"` // as sent, in the profile's words, like the description
	ErrorDescription string         `json:"error_description"`
	Reason           string         `json:"reason"`  // the slug of the refusal's reason
	Section          section        `json:"section"` // the rule behind the refusal
	Fault            string         `json:"fault"`   // id of the fault that changed the answer
}

func newExchange(r *http.Request, now time.Time) *exchange {
	return &exchange{time: now, now: unixTime(now.Unix()), notes: notes{Method: r.Method, Path: r.URL.EscapedPath()},
		header: r.Header, sent: sent{query: parseQuery(r.URL.RawQuery)}}
}

// about notes the public ids of what an exchange issued or used.
func (x *exchange) about(ids ...uuid.UUID) {
	if x.era != nil {
		x.ids = append(x.ids, ids...)
	}
}

// check is a duty that the server looked at, named by the reason to refuse.
type check struct {
	Reason reason
	OK     bool
}

// holds notes a check, and returns ok. One that comes again counts anew: a
// transaction may run twice, and every refusal is noted once more at the end.
func (x *exchange) holds(why reason, ok bool) bool {
	if x != nil && x.era != nil {
		x.checks = append(slices.DeleteFunc(x.checks, func(c check) bool { return c.Reason == why }), check{why, ok})
	}
	return ok
}

// refused notes an error that is about to be written.
func (x *exchange) refused(err error) *oauthError {
	x.refusal = asOAuthError(err)
	x.Section, x.Reason = x.refusal.Section, x.refusal.Reason.slug()
	if x.refusal.Status >= 500 {
		x.failure = err
	}
	x.holds(x.refusal.Reason, false)
	return x.refusal
}

// ServeHTTP answers a request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, newExchange(r, s.clock.now()))
}

// serve does what every request needs before its route is known.
func (s *server) serve(rw http.ResponseWriter, r *http.Request, x *exchange) {
	w := &recorder{rw, x}
	began := realTime()
	defer func() { s.record(w, r, realTime().Sub(began)) }()
	defer s.survive(w)
	maps.Copy(w.Header(), defaultHeader)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if s.loopback && !x.holds(hostUnknown, isAddressed(r.Host, s.hosts...) || isAddressed(r.Host, s.issuerHost())) {
		s.writeNowhere(w, r, x, s.misdirected())
		return
	}
	if s.control != nil {
		w.Header().Set("Date", x.time.UTC().Format(http.TimeFormat)) // by the clock, which can be moved
		if strings.HasPrefix(r.URL.Path, s.base+controlPath) {
			s.handleControl(w, r)
			return
		}
	}
	x.era = cmp.Or(s.eras.now(), x.era)
	s.dispatch(w, r, x)
}

// survive recovers from a panic in one request, so that the server runs on.
func (s *server) survive(w *recorder) {
	p := recover()
	switch {
	case p == nil:
	case p == http.ErrAbortHandler:
		panic(p)
	default:
		s.log.Error("panic", "value", p, "stack", string(debug.Stack()))
		if w.x.Status != 0 {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
		http.Error(w, "the server failed; its log says why", http.StatusInternalServerError)
	}
}

// dispatch finds the route of a request, checks that the request may use it,
// reads the body, and answers, with a fault if one is staged. Paths must match
// exactly: a redirect to a clean path would carry a form along.
func (s *server) dispatch(w http.ResponseWriter, r *http.Request, x *exchange) {
	found, methods, ok := s.findRoute(r.Method, r.URL.Path)
	if found == nil || found.anyone {
		if isPreflight := s.allowAnyOrigin(w, r, found, methods); isPreflight {
			return
		}
	}
	if !x.holds(noSuchPage, found != nil) {
		s.handleNotFound(w, r, x)
		return
	}
	x.Endpoint = found.endpoint
	if !x.holds(methodUnsupported, ok) {
		w.Header().Set("Allow", methods)
		found.fail(w, x, invalidRequest(rfc9110("15.5.6"), methodUnsupported, "this endpoint takes "+methods+" only").with(http.StatusMethodNotAllowed))
		return
	}
	if found.form {
		if !x.holds(formOfAnotherSite, s.crossOrigin.Load().Check(r) == nil) {
			found.fail(w, x, accessDenied(rfc6749("10.12"), formOfAnotherSite, "this form was sent from another site"))
			return
		}
	}
	s.read(r, x, found)
	if s.control != nil {
		if f := s.takeFault(x); f != nil {
			s.stage(f, found, w, r, x)
			return
		}
	}
	found.answer(w, r, x)
}

// answer handles a request, or writes what is wrong with it.
func (r *route) answer(w http.ResponseWriter, request *http.Request, x *exchange) {
	if err := r.handle(w, request, x); err != nil {
		r.fail(w, x, err)
	}
}

// maxBody is the largest request body, in bytes.
const maxBody = 64 << 10

// writeJSON writes a value as JSON, or a filled shape as it is. It returns nil, as
// a handler does that has answered.
func (s *server) writeJSON(w http.ResponseWriter, status int, body any) error {
	data, isFilled := body.(json.RawMessage)
	if !isFilled {
		data = must(marshalJSON(body)) // texts and numbers
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", s.profile.JSONType)
	}
	w.WriteHeader(status)
	w.Write(append(data, '\n'))
	return nil
}
