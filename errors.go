package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// section cites the rule behind a refusal: "RFC 6749 §4.1.3". Request log,
// pages and tests read it.
type section string

func rfc6749(number string) section { return section("RFC 6749 §" + number) }
func rfc6750(number string) section { return section("RFC 6750 §" + number) }
func rfc7009(number string) section { return section("RFC 7009 §" + number) }
func rfc7636(number string) section { return section("RFC 7636 §" + number) }
func rfc7662(number string) section { return section("RFC 7662 §" + number) }
func rfc8252(number string) section { return section("RFC 8252 §" + number) }
func rfc9110(number string) section { return section("RFC 9110 §" + number) }
func rfc9700(number string) section { return section("RFC 9700 §" + number) }

// openID cites OpenID Connect Core 1.0, whose prompt values are understood.
func openID(number string) section { return section("OpenID Connect Core §" + number) }

// refusal is an OAuth error: what the client is told, and which rule it broke.
// Each endpoint has its own way of writing one.
type refusal struct {
	Code        string // error, RFC 6749 §4.1.2.1, §5.2; RFC 6750 §3.1
	Description string // error_description: for the client's author; never echoes input
	Section     section
	Status      int // where the answer's status tells: not in a redirect
	RetryAfter  int // seconds; 0: not said
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
	return invalidRequest(s, parameter+" is missing")
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

// noToken is answered with a bare challenge, without an error code.
func noToken() error {
	return refuse(http.StatusUnauthorized, "", rfc6750("3.1"), "this resource needs an access token: Authorization: Bearer, a blank, the token")
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
		Description: "too many failed tries; try again in " + strconv.Itoa(seconds) + " seconds"}
}

// Failures of the server's own.

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
		errors.As(temporarilyUnavailable("the database cannot be read or written at the moment"), &r)
		return r
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

// writeError writes an error as a JSON body (RFC 6749 §5.2).
func (s *server) writeError(w http.ResponseWriter, x *exchange, err error) {
	r := x.refused(err)
	setRetryAfter(w, r)
	if r.Code == "invalid_client" && x.authorization {
		w.Header().Set("WWW-Authenticate", `Basic realm="grantling", charset="UTF-8"`)
	}
	var body object
	body.add("error", r.Code)
	body.add("error_description", r.Description)
	writeJSON(w, r.Status, body)
}

// writeBearerError writes an error as a WWW-Authenticate challenge (RFC 6750
// §3), with the same in a JSON body for whoever looks there.
func (s *server) writeBearerError(w http.ResponseWriter, x *exchange, err error) {
	r := x.refused(err)
	setRetryAfter(w, r)
	var body object
	challenge := `Bearer realm="grantling"`
	if r.Code != "" {
		body.add("error", r.Code)
		challenge += fmt.Sprintf(`, error="%s", error_description="%s"`, r.Code, r.Description)
	}
	body.add("error_description", r.Description)
	if r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden || r.Status == http.StatusBadRequest {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	writeJSON(w, r.Status, body)
}

// writeErrorPage tells a person what is wrong with a request that leads
// nowhere, and its author why.
func (s *server) writeErrorPage(w http.ResponseWriter, x *exchange, err error) {
	r := x.refused(err)
	setRetryAfter(w, r)
	s.writePage(w, r.Status, "error.html", r)
}

// redirectError sends the error back to the client (RFC 6749 §4.1.2.1, §4.2.2.1).
func (s *server) redirectError(w http.ResponseWriter, x *exchange, request *authorizationRequest, err error) {
	r := x.refused(err)
	if request.redirectURI == outOfBand {
		s.writePage(w, r.Status, "error.html", r)
		return
	}
	code := r.Code
	if r.Status >= 500 {
		code = "server_error"
	}
	s.redirect(w, request, parameters{{"error", code}, {"error_description", r.Description}})
}
