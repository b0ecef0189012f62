package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// section cites the rule behind a refusal: "RFC 6749 §4.1.3". Request log,
// pages and tests read it.
type section string

func rfc6749(number string) section { return section("RFC 6749 §" + number) }
func rfc6750(number string) section { return section("RFC 6750 §" + number) }
func rfc7009(number string) section { return section("RFC 7009 §" + number) }
func rfc7636(number string) section { return section("RFC 7636 §" + number) }
func rfc7662(number string) section { return section("RFC 7662 §" + number) }
func rfc8414(number string) section { return section("RFC 8414 §" + number) }
func rfc9110(number string) section { return section("RFC 9110 §" + number) }
func rfc9700(number string) section { return section("RFC 9700 §" + number) }

// rfc6749Appendix cites the grammar of parameters (A) or their encoding (B).
func rfc6749Appendix(letter string) section { return section("RFC 6749 Appendix " + letter) }

// openID cites OpenID Connect Core 1.0, whose prompt values are understood.
func openID(number string) section { return section("OpenID Connect Core §" + number) }

// refusal is an OAuth error: what the client is told, and which rule it broke.
// Each endpoint has its own way of writing one, and a profile its own words.
type refusal struct {
	Code        string // error, RFC 6749 §4.1.2.1, §5.2; RFC 6750 §3.1
	Description string // error_description: for the client's author; never echoes input
	Section     section
	Status      int    // where the answer's status tells: not in a redirect
	RetryAfter  int    // seconds; 0: not said
	Reason      string // what exactly is wrong, where profiles have words for it
	Parameter   string // what of the request it is about, if one thing is: a parameter, a grant type, a scope token or a member of a registration
	Help        help   // for the person at the browser; zero: there is nothing to do
}

// help tells a person what has happened and what to do about it.
type help struct {
	Heading, Text string
	Path, Link    string // of a page of this server to go on to, and the words of the link
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: %s (%s)", r.Code, r.Description, r.Section)
}

func refuse(status int, code string, s section, description string) error {
	return &refusal{Code: code, Description: description, Section: s, Status: status}
}

func invalidRequest(s section, description string) error {
	return refuse(http.StatusBadRequest, "invalid_request", s, description)
}

// missing refuses a request that lacks a required parameter.
func missing(s section, parameter string) error {
	return about(parameter, because("missing", invalidRequest(s, parameter+" is missing")))
}

// because adds the reason by which profiles know a refusal.
func because(reason string, err error) error {
	err.(*refusal).Reason = reason
	return err
}

// about adds the parameter that a refusal is about.
func about(parameter string, err error) error {
	err.(*refusal).Parameter = parameter
	return err
}

// helped adds what the person at the browser can do about a refusal.
func helped(h help, err error) error {
	err.(*refusal).Help = h
	return err
}

// The errors of RFC 6749 §5.2.

func invalidClient(s section, description string) error {
	return refuse(http.StatusUnauthorized, "invalid_client", s, description)
}

func invalidGrant(s section, description string) error {
	return refuse(http.StatusBadRequest, "invalid_grant", s, description)
}

func unauthorizedClient(s section, description string) error {
	return refuse(http.StatusBadRequest, "unauthorized_client", s, description)
}

func unsupportedGrantType(s section, description string) error {
	return refuse(http.StatusBadRequest, "unsupported_grant_type", s, description)
}

func invalidScope(s section, description string) error {
	return refuse(http.StatusBadRequest, "invalid_scope", s, description)
}

// The errors of RFC 6749 §4.1.2.1 that §5.2 does not have.

func accessDenied(s section, description string) error {
	return refuse(http.StatusForbidden, "access_denied", s, description)
}

func unsupportedResponseType(s section, description string) error {
	return refuse(http.StatusBadRequest, "unsupported_response_type", s, description)
}

// The errors of OpenID Connect Core §3.1.2.6 for prompt=none.

func loginRequired(description string) error {
	return refuse(http.StatusBadRequest, "login_required", openID("3.1.2.6"), description)
}

func consentRequired(description string) error {
	return refuse(http.StatusBadRequest, "consent_required", openID("3.1.2.6"), description)
}

// The errors of RFC 6750 §3.1.

// noToken is answered with a bare challenge, without an error code. It tells the
// scheme of the Authorization header that the resource would have.
func noToken(scheme string) error {
	return because("no token", refuse(http.StatusUnauthorized, "", rfc6750("3.1"), "this resource needs an access token: Authorization: "+scheme+", a blank, the token"))
}

func invalidToken(description string) error {
	return refuse(http.StatusUnauthorized, "invalid_token", rfc6750("3.1"), description)
}

// methodNotAllowed and payloadTooLarge are invalid_request where that is the
// endpoint's way of speaking.

func methodNotAllowed(allow string) error {
	return refuse(http.StatusMethodNotAllowed, "invalid_request", rfc9110("15.5.6"), "this endpoint takes "+allow+" only")
}

func payloadTooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, "invalid_request", rfc9110("15.5.14"), "the body is larger than 64 KB")
}

func unsupportedMediaType(s section, description string) error {
	return refuse(http.StatusUnsupportedMediaType, "invalid_request", s, description)
}

// tooManyGuesses answers for a while in the place of the code that a wrong
// password or secret has.
func tooManyGuesses(code string, s section, seconds int) error {
	return &refusal{Code: code, Section: s, Status: http.StatusTooManyRequests, RetryAfter: seconds,
		Description: "too many tries; try again in " + strconv.Itoa(seconds) + " seconds"}
}

// Failures of the server's own.

// temporarilyUnavailable is for what is worth another try.
//
// Choice: a full disk is answered with it, by status 503 and Retry-After; in a
// redirect, which has neither, every failure of the server's is server_error.
func temporarilyUnavailable(description string) error {
	return &refusal{Code: "temporarily_unavailable", Section: rfc6749("4.1.2.1"), Status: http.StatusServiceUnavailable,
		RetryAfter: 5, Description: description}
}

// asRefusal makes any error one that can be told. What is not an OAuth error
// is the server's own failure; its details are for the log only.
func asRefusal(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, errStorage):
		return temporarilyUnavailable("the database cannot be read or written at the moment").(*refusal)
	default:
		return &refusal{Code: "server_error", Section: rfc6749("4.1.2.1"), Status: http.StatusInternalServerError,
			Description: "the server failed; its log says why"}
	}
}

func setRetryAfter(w http.ResponseWriter, r *refusal) {
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
}

// The members of an error answer where the profile does not have its own: in
// a JSON body (RFC 6749 §5.2) and in a redirect (§4.1.2.1).
var (
	bodyMembers     = &shape{object{{"error", "${error?}"}, {"error_description", "${description}"}}}
	redirectMembers = &shape{object{{"error", "${error}"}, {"error_description", "${description}"}, {"state", "${state?}"}}}
)

// writeError writes an error as a JSON body (RFC 6749 §5.2).
func (s *server) writeError(w http.ResponseWriter, x *exchange, err error) {
	t := s.tell(x.endpoint, x, err)
	if t.Status == http.StatusUnauthorized && len(x.header["Authorization"]) > 0 {
		w.Header().Set("WWW-Authenticate", s.profile.BasicChallenge)
	}
	s.writeTold(w, x, t)
}

// writeBearerError writes an error as a WWW-Authenticate challenge (RFC 6750
// §3), with the same in a JSON body for whoever looks there.
func (s *server) writeBearerError(w http.ResponseWriter, x *exchange, err error) {
	t := s.tell(x.endpoint, x, err)
	challenge := `Bearer realm="grantling"`
	if t.Code != "" {
		challenge += fmt.Sprintf(`, error="%s"`, t.Code)
	}
	if t.Code != "" && isErrorText(t.Description) { // a profile's may be in any letters
		challenge += fmt.Sprintf(`, error_description="%s"`, t.Description)
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
	x.error, x.errorDescription = t.Code, t.Description
	return t
}

// fill returns the members of an error answer. What is said in error and
// error_description is noted; a service may say the whole in one of them, or
// both elsewhere.
func (x *exchange) fill(members *shape, f facts) any {
	filled := members.fill(f)
	said, _ := filled.(object)
	for name, noted := range map[string]*string{"error": &x.error, "error_description": &x.errorDescription} {
		if members.has(name) {
			*noted = said.text(name)
		}
	}
	if strings.Contains(x.error, x.errorDescription) {
		x.errorDescription = ""
	}
	return filled
}

// writeTold writes an error in the profile's words as a JSON body.
func (s *server) writeTold(w http.ResponseWriter, x *exchange, t told) {
	setRetryAfter(w, t.refusal)
	body := bodyMembers
	if t.body != nil {
		body = t.body
	}
	f := t.facts()
	for name, value := range t.headers {
		w.Header().Set(name, fillText(value, f))
		if value == "" {
			w.Header().Del(name)
		}
	}
	if err := s.writeJSON(w, t.Status, x.fill(body, f)); err != nil {
		panic(err) // texts and numbers
	}
}

// writeErrorPage tells a person what is wrong with a request that leads
// nowhere, and its author why.
func (s *server) writeErrorPage(w http.ResponseWriter, x *exchange, err error) {
	t := s.tell(x.endpoint, x, err)
	if t.by == "json" {
		s.writeTold(w, x, t)
		return
	}
	s.writeToldPage(w, t)
}

func (s *server) writeToldPage(w http.ResponseWriter, t told) {
	setRetryAfter(w, t.refusal)
	if err := s.writePage(w, t.Status, "error.html", t.refusal); err != nil {
		panic(err) // the server's own template
	}
}

// writeAuthorizationError tells an error of the authorization endpoint: on a
// page, or to the client (RFC 6749 §4.1.2.1, §4.2.2.1).
func (s *server) writeAuthorizationError(w http.ResponseWriter, x *exchange, err error) {
	if back := (sentBack{}); errors.As(err, &back) {
		s.redirectError(w, x, back.request, back.error)
		return
	}
	s.writeErrorPage(w, x, err)
}

// writeNowhere tells that a request leads to nothing here: a person on a page,
// a program in JSON.
func (s *server) writeNowhere(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		s.writeErrorPage(w, x, err)
		return
	}
	s.writeError(w, x, err)
}

// redirectError sends the error back to the client (RFC 6749 §4.1.2.1,
// §4.2.2.1), unless the profile tells it on a page, or the client has no URI
// to redirect to.
func (s *server) redirectError(w http.ResponseWriter, x *exchange, request *authorizationRequest, err error) {
	endpoint := "authorize"
	if request.redirectURI == outOfBand {
		endpoint = "oob"
	}
	t := s.tell(endpoint, x, err)
	members := redirectMembers
	if t.body != nil && (t.ownBody || t.by == "json") {
		members = t.body // one for all endpoints knows nothing of state, which a redirect has
	}
	t.state = request.state
	f := t.facts()
	switch {
	case t.by == "json":
		t.body = members
		s.writeTold(w, x, t)
	case t.by == "page" || endpoint == "oob":
		s.writeToldPage(w, t)
	default:
		if t.Status >= 500 {
			f["error"] = "server_error" // RFC 6749 §4.1.2.1
		}
		x.fill(members, f)
		s.redirect(w, request, members.parameters(f))
	}
}

// isErrorText is the grammar of error and error_description (RFC 6749 §5.2).
func isErrorText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '"' || r == '\\' })
}
