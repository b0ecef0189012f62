package main

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// section cites the rule behind a refusal: "RFC 6749 §4.1.3". Request log,
// pages and tests read it.
type section string

func rfc6749(number string) section        { return section("RFC 6749 §" + number) }
func rfc6750(number string) section        { return section("RFC 6750 §" + number) }
func rfc7009(number string) section        { return section("RFC 7009 §" + number) }
func rfc7591(number string) section        { return section("RFC 7591 §" + number) }
func rfc7636(number string) section        { return section("RFC 7636 §" + number) }
func rfc7662(number string) section        { return section("RFC 7662 §" + number) }
func rfc8414(number string) section        { return section("RFC 8414 §" + number) }
func rfc8628(number string) section        { return section("RFC 8628 §" + number) }
func rfc8707(number string) section        { return section("RFC 8707 §" + number) }
func rfc9110(number string) section        { return section("RFC 9110 §" + number) }
func rfc9700(number string) section        { return section("RFC 9700 §" + number) }
func openID(number string) section         { return section("OpenID Connect Core §" + number) } // for prompt
func clientDocument(number string) section { return section("Client ID Metadata Document §" + number) }

// rfc6749Appendix cites the grammar of parameters (A) or their encoding (B).
func rfc6749Appendix(letter string) section { return section("RFC 6749 Appendix " + letter) }

// oauthError is what the client is told, and which rule it broke. Each endpoint
// writes it in its own way, and a profile can change the words.
type oauthError struct {
	Code        string // error, RFC 6749 §4.1.2.1, §5.2; RFC 6750 §3.1; "": not said
	Description string // error_description: for the client's author; never echoes input
	Section     section
	Status      int    // of the answer, unless that is a redirect
	RetryAfter  int    // seconds; 0: not said
	Reason      reason // what exactly is wrong
	Parameter   string // that it is about, or member of a registration; "": none
	Detail      string // the scope token or the grant type that it is about; "": none
}

func (e *oauthError) Error() string {
	return fmt.Sprintf("%s: %s (%s)", e.Code, e.Description, e.Section)
}

// about adds the parameter that the error is about, and what of it: a scope
// token, or the grant type that lacks it.
func (e *oauthError) about(parameter string, detail ...string) *oauthError {
	e.Parameter, e.Detail = parameter, strings.Join(detail, "")
	return e
}

// with gives the error another status than its code has.
func (e *oauthError) with(status int) *oauthError {
	e.Status = status
	return e
}

// The constructors of errors, one for each code.
var (
	// RFC 6749 §4.1.2.1, §5.2.
	invalidRequest          = code("invalid_request", http.StatusBadRequest)
	invalidClient           = code("invalid_client", http.StatusUnauthorized)
	invalidGrant            = code("invalid_grant", http.StatusBadRequest)
	invalidTarget           = code("invalid_target", http.StatusBadRequest) // RFC 8707 §2
	invalidScope            = code("invalid_scope", http.StatusBadRequest)
	unauthorizedClient      = code("unauthorized_client", http.StatusBadRequest)
	unsupportedGrantType    = code("unsupported_grant_type", http.StatusBadRequest)
	unsupportedResponseType = code("unsupported_response_type", http.StatusBadRequest)
	accessDenied            = code("access_denied", http.StatusForbidden)
	serverError             = code("server_error", http.StatusInternalServerError)
	unavailable             = code("temporarily_unavailable", http.StatusServiceUnavailable)

	// OpenID Connect Core §3.1.2.6, for prompt=none.
	loginRequired   = code("login_required", http.StatusBadRequest)
	consentRequired = code("consent_required", http.StatusBadRequest)

	// RFC 8628 §3.5.
	authorizationPending = code("authorization_pending", http.StatusBadRequest)
	slowDown             = code("slow_down", http.StatusBadRequest)
	expiredToken         = code("expired_token", http.StatusBadRequest)

	// RFC 6750 §3.1. Without a token the challenge has no code.
	noToken           = code("", http.StatusUnauthorized)
	invalidToken      = code("invalid_token", http.StatusUnauthorized)
	insufficientScope = code("insufficient_scope", http.StatusForbidden)

	// RFC 7591 §3.2.2.
	invalidClientMetadata = code("invalid_client_metadata", http.StatusBadRequest)
	invalidRedirectURI    = code("invalid_redirect_uri", http.StatusBadRequest)

	notFound           = code("not_found", http.StatusNotFound)
	misdirectedRequest = code("misdirected_request", http.StatusMisdirectedRequest)
)

// constructor makes an error of one code. The description is for the client's
// author and never echoes input.
type constructor func(s section, why reason, description string) *oauthError

// statusOf has the status of each code.
var statusOf = make(map[string]int)

// code returns the constructor of a code, and notes its status.
func code(name string, status int) constructor {
	statusOf[name] = status
	return func(s section, why reason, description string) *oauthError {
		return &oauthError{Code: name, Description: description, Section: s, Status: status, Reason: why}
	}
}

// missing refuses a request that lacks a required parameter.
func missing(s section, parameter string) *oauthError {
	return invalidRequest(s, parameterMissing, parameter+" is missing").about(parameter)
}

// tooManyGuesses refuses somebody who has tried too often. wait is in seconds.
func tooManyGuesses(refuse constructor, s section, wait int) *oauthError {
	e := refuse(s, guessedTooOften, "too many tries; try again in "+strconv.Itoa(wait)+" seconds").with(http.StatusTooManyRequests)
	e.RetryAfter = wait
	return e
}

// temporarilyUnavailable is a failure of the server that the client may retry.
//
// Choice: a full disk is answered with it, status 503 and Retry-After. A redirect
// has neither, so there every failure of the server is server_error.
func temporarilyUnavailable(why reason, description string) *oauthError {
	e := unavailable(rfc6749("4.1.2.1"), why, description)
	e.RetryAfter = 5
	return e
}

// asOAuthError returns the OAuth error in err. Any other is a failure of the
// server, whose details are for the log only.
func asOAuthError(err error) *oauthError {
	var e *oauthError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, errStorage):
		return temporarilyUnavailable(storageFailed, "the database cannot be read or written at the moment")
	default:
		return serverError(rfc6749("4.1.2.1"), serverFailed, "the server failed; its log says why")
	}
}

// refusals are what a client is told, by why the store refuses its credential.
type refusals map[error]*oauthError

// of returns the refusal for an error of the store, or any other error unchanged.
func (r refusals) of(err error) error {
	for why, refusal := range r {
		if errors.Is(err, why) {
			return refusal
		}
	}
	return err
}

// noting notes what the store checks under the reason of the refusal. A verb begins
// with errUnknown, also when it runs again: what it noted before counts no more.
func (r refusals) noting(x *exchange) noting {
	before := len(x.checks)
	return func(why error, ok bool) bool {
		if why == errUnknown {
			x.checks = x.checks[:before]
		}
		return x.holds(r[why].Reason, ok)
	}
}

func setRetryAfter(w http.ResponseWriter, e *oauthError) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
}

// The members of an error answer, unless the profile has its own: in a JSON body
// (RFC 6749 §5.2) and in a redirect (RFC 6749 §4.1.2.1).
var (
	bodyMembers     = newShape(object{{"error", "${error?}"}, {"error_description", "${description}"}, {"error_uri", "${error_uri?}"}})
	redirectMembers = newShape(object{{"error", "${error}"}, {"error_description", "${description}"}, {"error_uri", "${error_uri?}"}, {"state", "${state?}"}})
)

// writeError writes an error as a JSON body (RFC 6749 §5.2).
func (s *server) writeError(w http.ResponseWriter, x *exchange, err error) {
	t := s.tell(x.Endpoint, x, err)
	if t.Status == http.StatusUnauthorized && len(x.header["Authorization"]) > 0 { // RFC 6749 §5.2: MUST
		w.Header().Set("WWW-Authenticate", s.profile.BasicChallenge)
	}
	s.writeTold(w, x, t)
}

// writeBearerError writes an error as a WWW-Authenticate challenge (RFC 6750
// §3), and in a JSON body too.
func (s *server) writeBearerError(w http.ResponseWriter, x *exchange, err error) {
	t := s.tell(x.Endpoint, x, err)
	challenge := `Bearer realm="grantling"`
	if t.Code != "" {
		challenge += fmt.Sprintf(`, error="%s"`, t.Code)
		if isErrorText(t.Description) { // a profile's may have other characters
			challenge += fmt.Sprintf(`, error_description="%s"`, t.Description)
		}
		if t.uri != "" {
			challenge += fmt.Sprintf(`, error_uri="%s"`, t.uri)
		}
	}
	switch t.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		w.Header().Set("WWW-Authenticate", challenge)
	}
	s.writeTold(w, x, t)
}

// tell words an error as the profile does at an endpoint, and notes it.
func (s *server) tell(endpoint string, x *exchange, err error) told {
	t := s.profile.tell(endpoint, x.refused(err))
	if t.Reason != "" && s.profile.Explains {
		t.uri = s.url("/explain/" + t.Reason.slug())
	}
	x.Error, x.ErrorDescription = t.Code, t.Description
	return t
}

// noteSaid notes error and error_description as sent. A service may put both into
// one of them, or have other members.
func (x *exchange) noteSaid(members *shape, f facts) {
	said, _ := members.value.(object)
	for name, noted := range map[string]*string{"error": &x.Error, "error_description": &x.ErrorDescription} {
		if members.has(name) {
			*noted = fillText(said.text(name), f)
		}
	}
	if strings.Contains(x.Error, x.ErrorDescription) {
		x.ErrorDescription = ""
	}
}

// writeTold writes an error in the profile's words as a JSON body.
func (s *server) writeTold(w http.ResponseWriter, x *exchange, t told) {
	setRetryAfter(w, t.oauthError)
	f := toldFacts.of(t)
	for name, value := range t.headers {
		w.Header().Set(name, fillText(value, f))
		if value == "" {
			w.Header().Del(name)
		}
	}
	members := cmp.Or(t.body, &bodyMembers)
	x.noteSaid(members, f)
	s.writeJSON(w, t.Status, members.fill(f))
}

// writeErrorPage writes an error on a page.
func (s *server) writeErrorPage(w http.ResponseWriter, x *exchange, err error) {
	s.writeToldPage(w, x, s.tell(x.Endpoint, x, err))
}

// writeToldPage writes an error on a page, or in JSON if the profile says so.
func (s *server) writeToldPage(w http.ResponseWriter, x *exchange, t told) {
	if t.by == "json" {
		s.writeTold(w, x, t)
		return
	}
	setRetryAfter(w, t.oauthError)
	if err := s.writePage(w, x, t.Status, "error.html", t.oauthError); err != nil {
		panic(err) // the server's own template
	}
}

// writeAuthorizationError writes an error of the authorization endpoint on a page
// or in a redirect to the client (RFC 6749 §4.1.2.1, §4.2.2.1).
func (s *server) writeAuthorizationError(w http.ResponseWriter, x *exchange, err error) {
	if back := (sentBack{}); errors.As(err, &back) {
		s.redirectError(w, x, back.request, back.error)
		return
	}
	s.writeErrorPage(w, x, err)
}

// writeNowhere writes the error of a request without a route: a page for a
// browser, JSON for a program.
func (s *server) writeNowhere(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	for accepted := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if mediaType, parameters, malformed := mime.ParseMediaType(accepted); malformed == nil && mediaType == "text/html" && parameters["q"] != "0" {
			s.writeErrorPage(w, x, err)
			return
		}
	}
	s.writeError(w, x, err)
}

// redirectError sends the error back to the client (RFC 6749 §4.1.2.1, §4.2.2.1).
// The user sees it instead if the profile says so, or without a redirect URI.
func (s *server) redirectError(w http.ResponseWriter, x *exchange, request *authorizationRequest, err error) {
	endpoint := "authorize"
	if request.redirectURI == outOfBand {
		endpoint = "oob"
	}
	t := s.tell(endpoint, x, err)
	t.state = request.state
	if t.body == nil || !t.ownBody && t.by != "json" {
		t.body = &redirectMembers // a body for all endpoints has no state, which a redirect needs
	}
	if t.by == "json" || t.by == "page" || endpoint == "oob" {
		s.writeToldPage(w, x, t)
		return
	}
	if t.Status >= 500 {
		t.Code = "server_error" // RFC 6749 §4.1.2.1
	}
	f := toldFacts.of(t)
	x.noteSaid(t.body, f)
	s.redirect(w, x, request, t.body.parameters(f))
}

// isErrorText is the grammar of error and error_description (RFC 6749 §5.2).
func isErrorText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '"' || r == '\\' })
}

// must returns a value that cannot fail to be made, for the reason that the caller
// gives.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
