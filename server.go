package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// server is the authorization server of one issuer.
type server struct {
	profile     *profile
	store       *store
	issuer      string // base URL, without a slash at its end
	base        string // path of the issuer, "" or "/tenant"
	autoApprove string // the user who approves everything, or ""
	hashRounds  int    // of PBKDF2, for new passwords
	cookieName  string
	clock       clock
	log         *slog.Logger
	control     *control // nil: off

	routes      map[string]*route
	crossOrigin *http.CrossOriginProtection
	hashing     chan struct{} // holds a value for each password being hashed
	passwords   guesses       // by user and source
	secrets     guesses       // by client and source
}

// newServer makes the server of an issuer, a URL without query and fragment.
func newServer(p *profile, st *store, issuer string, log *slog.Logger) (*server, error) {
	u, err := checkIssuer(issuer)
	if err != nil {
		return nil, err
	}
	s := &server{
		profile:     p,
		store:       st,
		issuer:      strings.TrimSuffix(issuer, "/"),
		base:        strings.TrimSuffix(u.Path, "/"),
		hashRounds:  durableRounds,
		log:         log,
		crossOrigin: http.NewCrossOriginProtection(),
		hashing:     make(chan struct{}, runtime.GOMAXPROCS(0)),
		// Browsers send cookies to all ports of a host: with the port in the
		// name two servers on a laptop do not sign each other's users out.
		cookieName: "grantling-" + u.Port(),
	}
	if s.https() {
		s.cookieName = "__Host-grantling"
	}
	if err := s.crossOrigin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
		return nil, err
	}
	s.routes = s.newRoutes()
	return s, nil
}

// checkIssuer parses an issuer (RFC 8414 §2).
func checkIssuer(issuer string) (*url.URL, error) {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("issuer %q is not a URL with https:// or http://", issuer)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return nil, fmt.Errorf("issuer %q has a query or a fragment (RFC 8414 §2)", issuer)
	case u.User != nil || path.Clean("/"+u.Path) != "/"+strings.Trim(u.Path, "/"):
		return nil, fmt.Errorf("issuer %q has a user name or a path that is not clean", issuer)
	}
	return u, nil
}

func (s *server) https() bool { return strings.HasPrefix(s.issuer, "https://") }

// clock is the server's only source of time.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	now, _ := c.read()
	return now
}

// read returns the time, and how far it is from the real one.
func (c *clock) read() (now time.Time, offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return realTime().Add(c.offset), c.offset
}

// realTime is the one place that asks the machine. It tells how long something
// took, also while the clock is moved; everything else goes by the clock.
func realTime() time.Time { return time.Now() }

// route is what answers at a path.
type route struct {
	endpoint string // the name of the protocol endpoint that it is part of, or "" for a page
	methods  string // as in the Allow header
	handle   func(http.ResponseWriter, *http.Request, *exchange)
	fail     func(http.ResponseWriter, *exchange, error) // writes what is wrong before handle is reached
	anyone   bool                                        // browsers may call it from any origin
	form     bool                                        // its POSTs come from this server's own pages
}

// newRoutes is the one table of what this server answers.
func (s *server) newRoutes() map[string]*route {
	routes := make(map[string]*route)
	endpoint := func(name, methods string, anyone bool, handle func(http.ResponseWriter, *http.Request, *exchange), fail func(http.ResponseWriter, *exchange, error)) {
		for _, path := range s.profile.Endpoints[name] {
			routes[s.base+path] = &route{endpoint: name, methods: methods, handle: handle, fail: fail, anyone: anyone}
		}
	}
	endpoint("authorize", "GET, POST", false, s.handleAuthorize, s.writeErrorPage)
	endpoint("oob", "GET", false, s.handleOutOfBand, s.writeErrorPage)
	endpoint("token", "POST", true, s.handleToken, s.writeError)
	endpoint("tokeninfo", "GET", true, s.handleTokenInfo, s.writeBearerError)
	endpoint("revoke", "POST", true, s.handleRevoke, s.writeError)
	endpoint("introspect", "POST", false, s.handleIntrospect, s.writeError)
	endpoint("userinfo", "GET", true, s.handleUserInfo, s.writeBearerError)
	for _, path := range s.profile.Endpoints["metadata"] {
		// RFC 8414 §3.1: the issuer's path stands behind the well-known one.
		routes[path+s.base] = &route{endpoint: "metadata", methods: "GET", handle: s.handleMetadata, fail: s.writeError, anyone: true}
	}
	page := func(path, methods string, handle func(http.ResponseWriter, *http.Request, *exchange)) {
		routes[s.base+path] = &route{methods: methods, handle: handle, fail: s.writeErrorPage, form: true}
	}
	page("/", "GET", s.handleStart)
	page("/login", "GET, POST", s.handleLogin)
	page("/logout", "POST", s.handleLogout)
	page("/consent", "POST", s.handleConsent)
	routes[s.base+"/consent"].endpoint = "authorize" // its second half
	page("/style.css", "GET", s.handleStyle)
	page("/healthz", "GET", s.handleHealth)
	return routes
}

// exchange is one request and its answer, as the log tells it.
type exchange struct {
	time      time.Time
	now       unixTime
	endpoint  string
	method    string
	path      string
	clientID  string // of a client that exists
	grantType string
	username  string // of a user that exists
	status    int
	refusal   *refusal
	failure   error // behind a refusal that tells no details

	authorization bool // the request had an Authorization header

	// What only the control API needs.
	decided *decision // by the user beforehand, or nil
	request string    // the authorization request that it is part of, without a demand for a sign-in
	grant   uuid.UUID // that it is about, see store.origin
	token   uuid.UUID // access token that it issued
	fault   string    // id of the fault that changed the answer
	noted   *noted    // nil: not in the request log
}

func newExchange(r *http.Request, now time.Time) *exchange {
	return &exchange{time: now, now: unixTime(now.Unix()), method: r.Method, path: r.URL.Path,
		authorization: len(r.Header["Authorization"]) > 0}
}

// asks notes the authorization request that an exchange is part of.
func (x *exchange) asks(request *authorizationRequest) {
	x.clientID = request.client.ClientID
	x.request = withoutPrompt(request.query)
}

// refused notes an error that is about to be written.
func (x *exchange) refused(err error) *refusal {
	x.refusal = asRefusal(err)
	if x.refusal.Status >= 500 {
		x.failure = err
	}
	return x.refusal
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	x *exchange
}

func (w *recorder) WriteHeader(status int) {
	if w.x.status == 0 {
		w.x.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.x.status == 0 {
		w.x.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ServeHTTP answers a request.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, newExchange(r, s.clock.now()))
}

// serve is what happens to every request: note it, guard it, find its route,
// fault it, handle it, record it.
func (s *server) serve(rw http.ResponseWriter, r *http.Request, x *exchange) {
	w := &recorder{rw, x}
	began := realTime()
	defer func() { s.record(x, realTime().Sub(began)) }()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("panic", "value", p, "stack", string(debug.Stack()))
			if x.status == 0 {
				http.Error(w, "the server failed; its log says why", http.StatusInternalServerError)
			}
		}
	}()
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "same-origin") // no-referrer would send Origin: null with the forms
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache") // RFC 6749 §5.1

	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if s.control != nil {
		if strings.HasPrefix(r.URL.Path, s.base+controlPath) {
			s.handleControl(w, r, x)
			return
		}
		s.note(r, x)
	}

	// Exact paths: nothing is cleaned up and redirected, which would carry a
	// form with it.
	found, ok := s.routes[r.URL.Path]
	if !ok {
		s.writeErrorPage(w, x, refuse(http.StatusNotFound, "not_found", rfc9110("15.5.5"), "there is no such page here"))
		return
	}
	x.endpoint = found.endpoint
	if found.anyone {
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, Grantling-Fault")
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Allow-Methods", found.methods)
			header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			header.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if !slices.Contains(strings.Split(found.methods, ", "), method) {
		header.Set("Allow", found.methods)
		found.fail(w, x, methodNotAllowed(found.methods))
		return
	}
	if found.form {
		if err := s.crossOrigin.Check(r); err != nil {
			found.fail(w, x, refuse(http.StatusForbidden, "access_denied", rfc6749("10.12"), "this form was sent from another site"))
			return
		}
	}
	if s.control != nil {
		if f := s.control.faults.take(x); f != nil {
			s.stage(f, found, w, r, x)
			return
		}
	}
	found.handle(w, r, x)
}

// maxBody is the largest request body, in bytes.
const maxBody = 64 << 10

// record tells the log of an exchange, and the control API.
func (s *server) record(x *exchange, took time.Duration) {
	if x.noted != nil {
		s.keep(x, took)
	}
	level := slog.LevelInfo
	attributes := []slog.Attr{slog.String("method", x.method), slog.String("path", x.path), slog.Int("status", x.status)}
	add := func(name, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(name, value))
		}
	}
	add("endpoint", x.endpoint)
	add("client_id", x.clientID)
	add("grant_type", x.grantType)
	add("username", x.username)
	add("fault", x.fault)
	if r := x.refusal; r != nil {
		add("error", r.Code)
		add("error_description", r.Description)
		add("section", string(r.Section))
	}
	if x.failure != nil {
		level = slog.LevelError
		add("failure", x.failure.Error())
	}
	attributes = append(attributes, slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	s.log.LogAttrs(context.Background(), level, "request", attributes...)
}

// values are the parameters of a request: each once, none empty.
type values map[string]string

// parseValues reads parameters in the form of RFC 6749 Appendix B. Malformed
// encoding makes all of them unusable. A parameter that occurs twice (§3.1,
// §3.2), or has characters that no parameter may have (Appendix A), is left
// out and named in faulty, with what is wrong with it.
func parseValues(encoded string) (v values, faulty map[string]string, err error) {
	form, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, nil, invalidRequest(rfc6749("B"), "the parameters are not well-formed application/x-www-form-urlencoded")
	}
	v, faulty = values{}, map[string]string{}
	for name, all := range form {
		switch {
		case !isParameter[name] && (len(all) > 1 || !isText(all[0])):
			// Unknown to the server, so nothing to it (RFC 6749 §3.1).
		case len(all) > 1:
			faulty[name] = "occurs more than once"
		case all[0] == "":
			// As if it had not been sent (RFC 6749 §3.1).
		case name != "password" && !isText(all[0]):
			faulty[name] = "has control characters or is not UTF-8"
		default:
			v[name] = all[0]
		}
	}
	return v, faulty, nil
}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// checkFaulty refuses parameters that parseValues found at fault.
func checkFaulty(faulty map[string]string) error {
	if len(faulty) == 0 {
		return nil
	}
	name := slices.Min(slices.Collect(maps.Keys(faulty)))
	return invalidRequest(rfc6749("3.1"), name+" "+faulty[name])
}

// isParameter has the parameters that some endpoint knows.
var isParameter = map[string]bool{
	"access_token": true, "client_id": true, "client_secret": true, "code": true, "code_challenge": true,
	"code_challenge_method": true, "code_verifier": true, "grant_type": true, "login_hint": true, "password": true,
	"prompt": true, "redirect_uri": true, "refresh_token": true, "response_mode": true, "response_type": true,
	"scope": true, "state": true, "token": true, "token_type_hint": true, "username": true,
}

// bodyValues reads the parameters of a POST request from its body alone: what
// the URL says does not count (RFC 6749 §2.3.1, §3.2).
func bodyValues(r *http.Request) (values, error) {
	body, err := formBody(r)
	if err != nil {
		return nil, err
	}
	v, faulty, err := parseValues(body)
	if err != nil {
		return nil, err
	}
	return v, checkFaulty(faulty)
}

// formBody reads a body of the one type that RFC 6749 Appendix B knows.
func formBody(r *http.Request) (string, error) {
	if r.Header.Get("Content-Encoding") != "" {
		return "", unsupportedMediaType(rfc9110("15.5.16"), "the body must not be compressed")
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return "", unsupportedMediaType(rfc6749("B"), "the body must be application/x-www-form-urlencoded")
	}
	return readBody(r)
}

func readBody(r *http.Request) (string, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return "", payloadTooLarge()
	case err != nil:
		return "", invalidRequest(rfc9110("8.6"), "the body ended early")
	}
	return string(body), nil
}

// object is a JSON object whose members keep the order in which they are added.
type object []member

type member struct {
	name  string
	value any
}

func (o *object) add(name string, value any) { *o = append(*o, member{name, value}) }

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := marshalJSON(m.name)
		if err != nil {
			return nil, err
		}
		value, err := marshalJSON(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshalJSON leaves & as it is, so that URLs can be copied out of the JSON.
func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := marshalJSON(body)
	if err != nil {
		panic(err) // the server's own types
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(data, '\n'))
}
