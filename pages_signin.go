package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// visitor is the browser behind a request. Each has a cookie. Before the sign-in
// it is a random value that the server does not store.
type visitor struct {
	cookie  credential
	new     bool // the browser does not have the cookie yet
	session *session
	user    *user // nil: not signed in
}

// cookieName is the name of the session cookie. It has port and path in it,
// because browsers send cookies to all ports of a host, and __Host- cookies to all
// paths: so two servers on one host do not sign out each other's users.
func (s *server) cookieName() string {
	u, _ := url.Parse(s.issuer()) // checkIssuer found no error
	name := "grantling-" + url.QueryEscape(u.Port()+s.base)
	if s.https() {
		return "__Host-" + name // RFC 6265bis §4.1.3.2
	}
	return name
}

// visitor returns who sends the request, and notes it on the exchange. Without a
// live session nobody is signed in.
func (s *server) visitor(r *http.Request, x *exchange) (v *visitor, err error) {
	v = &visitor{new: true}
	if cookies := r.CookiesNamed(s.cookieName()); len(cookies) == 1 {
		if c, ok := cookieFormat.parse(cookies[0].Value); ok {
			v = &visitor{cookie: c}
			v.session, v.user, err = s.store.session(c, x.now)
		}
	}
	if v.new {
		v.cookie = cookieFormat.newCredential(nil)
	}
	x.visitor = v
	return v, err
}

// visited finds the visitor of a page before it is handled.
func (s *server) visited(handle handler) handler {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		if _, err := s.visitor(r, x); err != nil {
			return err
		}
		return handle(w, r, x)
	}
}

// account guards an account page: a visitor who is not signed in gets the
// sign-in page, and a form counts only with its token (RFC 6749 §10.12).
func (s *server) account(handle handler) handler {
	return s.visited(func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		posted := r.Method == http.MethodPost
		if x.visitor.user == nil {
			status := http.StatusOK
			if posted {
				status = http.StatusForbidden
			}
			return s.writeSignIn(w, x, status, signInPage{Continue: s.localTarget(r.URL.RequestURI())})
		}
		x.Username = x.visitor.user.Username
		if posted {
			if x.wrong != nil {
				return x.wrong
			}
			if err := x.checkFormToken(x.form.Get("form_token")); err != nil {
				return err
			}
		}
		return handle(w, r, x)
	})
}

// setCookie gives the browser another cookie, or takes it away if value is empty.
func (s *server) setCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{
		Name:     s.cookieName(),
		Value:    value,
		Path:     "/",
		Secure:   s.https(),
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// keepCookie gives a browser that has no cookie the one that its forms are bound to.
func (s *server) keepCookie(w http.ResponseWriter, v *visitor) {
	if v.new {
		s.setCookie(w, v.cookie.String())
	}
}

// mac is a MAC with the visitor's cookie as key, which only that browser knows.
func (v *visitor) mac(parts ...string) string {
	m := hmac.New(sha256.New, []byte(v.cookie.text))
	for _, part := range parts {
		m.Write([]byte(part))
		m.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func sameMAC(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// formToken proves that a form comes from a page of this server in this browser
// (RFC 6749 §10.12).
func (v *visitor) formToken() string { return v.mac("form") }

func (x *exchange) checkFormToken(token string) error {
	if !x.holds(formOfAnotherSignIn, sameMAC(x.visitor.formToken(), token)) {
		return accessDenied(rfc6749("10.12"), formOfAnotherSignIn, "this form is from another sign-in, or the browser does not keep cookies")
	}
	return nil
}

// signInPage is what the sign-in page shows.
type signInPage struct {
	Username string      // filled in
	Continue string      // local target once signed in
	Refused  *oauthError // why the form did not sign anybody in, or nil

	// Set by writeSignIn.
	Client *client // who asks, or nil
	Host   string  // where the browser goes then
}

func (s *server) writeSignIn(w http.ResponseWriter, x *exchange, status int, shown signInPage) error {
	s.keepCookie(w, x.visitor)
	path, query, _ := strings.Cut(shown.Continue, "?")
	if found, _, ok := s.findRoute("GET", path); ok && found.endpoint == "authorize" {
		if request, err := s.parseClientAndRedirectURI(parseQuery(query), nil); err == nil {
			shown.Client, shown.Host = request.client, redirectHost(request.redirectURI)
		}
	}
	return s.writePage(w, x, status, "login.html", shown)
}

// handleLogin is the sign-in page and its form.
func (s *server) handleLogin(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if r.Method != http.MethodPost {
		return s.writeSignIn(w, x, http.StatusOK, signInPage{Continue: s.localTarget(x.query.values.Get("continue"))})
	}
	form, err := x.body()
	if err != nil {
		return err
	}
	next := s.localTarget(form["continue"])
	u, err := s.checkSignIn(form, r, x)
	var refused *oauthError
	switch {
	case err == nil:
		x.Username = u.Username
		if err := s.startSession(w, x.visitor, u, x.now); err != nil {
			return err
		}
		seeOther(w, next)
		return nil
	case errors.As(err, &refused) && refused.Status < 500:
		x.refused(refused)
		setRetryAfter(w, refused)
		return s.writeSignIn(w, x, refused.Status, signInPage{Username: form["username"], Continue: next, Refused: refused})
	default:
		return err
	}
}

// checkSignIn returns the user who signs in with a form. The form may be forged,
// or from before the user signed in elsewhere.
func (s *server) checkSignIn(form values, r *http.Request, x *exchange) (*user, error) {
	if err := x.checkFormToken(form["form_token"]); err != nil {
		return nil, err
	}
	u, wait, err := s.checkPassword(r.Context(), form["username"], form["password"], source(r), x.now)
	switch {
	case !x.holds(guessedTooOften, wait == 0):
		return nil, tooManyGuesses(accessDenied, rfc6749("10.10"), wait)
	case err == nil && !x.holds(passwordWrong, u != nil):
		return nil, accessDenied(rfc6749("3.1"), passwordWrong, "the username or the password is wrong").with(http.StatusUnprocessableEntity)
	}
	return u, err
}

// sessionLifetime is how long a sign-in lasts.
const sessionLifetime seconds = 12 * 60 * 60

// startSession signs the user in and gives the browser a new cookie. Forms that
// were made with the old one stop working.
func (s *server) startSession(w http.ResponseWriter, v *visitor, u *user, now unixTime) error {
	c := cookieFormat.newCredential(nil)
	live := &session{
		stored:       c.stored(now),
		User:         u.ID,
		Username:     u.Username,
		PasswordMark: u.Password.Salt,
		Expires:      now.after(sessionLifetime),
	}
	if err := s.store.replaceSession(v.session, live); err != nil {
		return err
	}
	s.setCookie(w, c.String())
	return nil
}

// localTarget returns target if it is a page of this server to which a
// sign-in may lead, and the start page otherwise.
func (s *server) localTarget(target string) string {
	u, err := url.ParseRequestURI(target)
	if err == nil && u.Scheme == "" && u.Host == "" {
		if found, _, ok := s.findRoute("GET", u.Path); ok && u.EscapedPath() == u.Path && (found.form || found.endpoint == "authorize") {
			return target
		}
	}
	return s.base + "/"
}

// handleLogout ends the session, here and not only in the browser. From a page that
// asks the user to decide it leads back to the question, for another user.
func (s *server) handleLogout(w http.ResponseWriter, r *http.Request, x *exchange) error {
	form, err := x.body()
	if err != nil {
		return err
	}
	if err := x.checkFormToken(form["form_token"]); err != nil {
		return err
	}
	if x.visitor.session != nil {
		x.Username = x.visitor.user.Username
		if err := s.store.replaceSession(x.visitor.session, nil); err != nil {
			return err
		}
	}
	s.setCookie(w, "")
	next := s.localTarget(form["continue"])
	if request := form["request"]; request != "" {
		next = s.base + s.profile.Endpoints["authorize"][0] + "?" + request
	}
	seeOther(w, next)
	return nil
}
