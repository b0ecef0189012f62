package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

//go:embed templates
var templateFiles embed.FS

// pages are the HTML templates by file name, each in the frame of base.html.
var pages = parsePages()

func parsePages() map[string]*template.Template {
	base := template.Must(template.ParseFS(templateFiles, "templates/base.html"))
	all := make(map[string]*template.Template)
	for _, name := range []string{"start.html", "login.html", "consent.html", "code.html", "error.html"} {
		all[name] = template.Must(template.Must(base.Clone()).ParseFS(templateFiles, "templates/"+name))
	}
	return all
}

var (
	style, _  = templateFiles.ReadFile("templates/style.css")
	styleHash = func() string { sum := sha256.Sum256(style); return hex.EncodeToString(sum[:6]) }()
)

// contentSecurityPolicy has no form-action: browsers apply it to the redirect
// that answers a form as well, and that one goes to the client.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"

// page is what every template gets.
type page struct {
	Base  string // path of the issuer
	Title string // of the service
	Style string // version of the stylesheet
	Data  any
}

func (s *server) writePage(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "base.html", page{s.base, s.profile.Title, styleHash, data}); err != nil {
		panic(err) // the server's own template
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// handleStyle serves the one stylesheet, under a name that changes with it.
func (s *server) handleStyle(w http.ResponseWriter, r *http.Request, x *exchange) {
	w.Header().Del("Pragma")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Write(style)
}

func (s *server) handleHealth(w http.ResponseWriter, r *http.Request, x *exchange) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}

// handleStart shows what runs here.
func (s *server) handleStart(w http.ResponseWriter, r *http.Request, x *exchange) {
	v, err := s.visitor(r, x.now)
	if err != nil {
		s.writeErrorPage(w, x, err)
		return
	}
	s.keepCookie(w, v)
	type row struct{ Method, URL, What string }
	var rows []row
	add := func(method, what string, paths []string) {
		for _, path := range paths {
			rows = append(rows, row{method, s.issuer + path, what})
		}
	}
	endpoints := s.profile.Endpoints
	add("GET", "authorization endpoint", endpoints["authorize"])
	add("POST", "token endpoint", endpoints["token"])
	add("POST", "revocation", endpoints["revoke"])
	add("POST", "introspection", endpoints["introspect"])
	add("POST", "registers an application", endpoints["registration"])
	for _, r := range s.profile.Resources {
		add("GET", map[string]string{"tokeninfo": "about the token presented", "userinfo": "who the token stands for", "instance": "about this server"}[r.Endpoint], r.Paths)
	}
	add("GET", "metadata", endpoints["metadata"])
	s.writePage(w, http.StatusOK, "start.html", struct {
		Issuer, Profile string
		Endpoints       []row
		Commands        []string
		User            *user
		Token           string
	}{s.issuer, s.profile.Name, rows, s.commands(), v.user, v.formToken()})
}

// commands are what one can paste into a shell.
func (s *server) commands() []string {
	var commands []string
	if paths := s.profile.Endpoints["metadata"]; len(paths) > 0 {
		commands = append(commands, "curl "+s.issuer+paths[0])
	}
	if paths := s.profile.Endpoints["token"]; len(paths) > 0 {
		commands = append(commands, "curl -u CLIENT_ID:CLIENT_SECRET -d grant_type=client_credentials "+s.issuer+paths[0])
	}
	if paths := s.profile.resourcePaths("userinfo"); len(paths) > 0 {
		commands = append(commands, "curl -H 'Authorization: Bearer ACCESS_TOKEN' "+s.issuer+paths[0])
	}
	return commands
}

// signIn is what the sign-in page shows.
type signIn struct {
	Client   *client // who asks, or nil
	Username string  // filled in
	Continue string  // local target once signed in
	Problem  string
	Token    string
}

func (s *server) writeSignIn(w http.ResponseWriter, v *visitor, status int, data signIn) {
	s.keepCookie(w, v)
	data.Token = v.formToken()
	s.writePage(w, status, "login.html", data)
}

// keepCookie gives a browser that has no cookie the one that its forms are bound to.
func (s *server) keepCookie(w http.ResponseWriter, v *visitor) {
	if v.new {
		s.setCookie(w, v.cookie.String())
	}
}

// handleLogin is the sign-in page and its form.
func (s *server) handleLogin(w http.ResponseWriter, r *http.Request, x *exchange) {
	v, err := s.visitor(r, x.now)
	if err != nil {
		s.writeErrorPage(w, x, err)
		return
	}
	if r.Method != http.MethodPost {
		s.writeSignIn(w, v, http.StatusOK, signIn{Continue: s.localTarget(r.URL.Query().Get("continue"))})
		return
	}
	form, err := s.formValues(r)
	if err == nil {
		err = v.checkFormToken(form)
	}
	if err != nil {
		s.writeErrorPage(w, x, err)
		return
	}
	u, err := s.checkPassword(r.Context(), form["username"], form["password"], source(r), x.now)
	again := signIn{Username: form["username"], Continue: s.localTarget(form["continue"])}
	wait := tooManyTries(0)
	switch {
	case errors.As(err, &wait):
		refused := x.refused(tooManyGuesses("access_denied", rfc6749("10.10"), int(wait)))
		again.Problem = "Too many failed tries. Wait a minute and try again."
		setRetryAfter(w, refused)
		s.writeSignIn(w, v, refused.Status, again)
	case errors.Is(err, errWrongPassword):
		refused := x.refused(refuse(http.StatusUnprocessableEntity, "access_denied", rfc6749("3.1"), "the username or the password is wrong"))
		again.Problem = "The username or the password is wrong."
		s.writeSignIn(w, v, refused.Status, again)
	case err != nil:
		s.writeErrorPage(w, x, err)
	default:
		x.username = u.Username
		if err := s.signIn(w, v, u, x.now); err != nil {
			s.writeErrorPage(w, x, err)
			return
		}
		seeOther(w, again.Continue)
	}
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

// handleLogout ends the session, here and not only in the browser.
func (s *server) handleLogout(w http.ResponseWriter, r *http.Request, x *exchange) {
	v, err := s.visitor(r, x.now)
	var form values
	if err == nil {
		form, err = s.formValues(r)
	}
	if err == nil {
		err = v.checkFormToken(form)
	}
	if err == nil && v.session != nil {
		x.username = v.user.Username
		err = s.store.deleteSession(v.session)
	}
	if err != nil {
		s.writeErrorPage(w, x, err)
		return
	}
	s.setCookie(w, "")
	seeOther(w, s.localTarget(form["continue"]))
}

// writeConsent asks the user.
func (s *server) writeConsent(w http.ResponseWriter, v *visitor, request *authorizationRequest, pending pendingConsent) {
	type asked struct{ Scope, Description string }
	var scope []asked
	for token := range strings.FieldsSeq(request.scope) {
		scope = append(scope, asked{token, s.profile.describeScope(token)})
	}
	s.writePage(w, http.StatusOK, "consent.html", struct {
		Client           *client
		Name             string
		Public, Implied  bool
		RedirectHost     string
		User             *user
		Scope            []asked
		ID, Registration string
		Expires          unixTime
		Request, MAC     string
		Token            string
		Continue         string
	}{
		Client:       request.client,
		Name:         request.client.displayName(),
		Public:       request.client.public(),
		RedirectHost: redirectHost(request.redirectURI),
		User:         v.user,
		Scope:        scope,
		ID:           pending.id.String(),
		Registration: pending.client.String(),
		Expires:      pending.expires,
		Request:      pending.query,
		MAC:          pending.mac(v),
		Token:        v.formToken(),
		Continue:     s.base + s.profile.Endpoints["authorize"][0] + "?" + pending.query,
	})
}

// redirectHost is where the browser goes next, for people; empty for a code
// that is shown.
func redirectHost(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || uri == outOfBand:
		return ""
	case u.Host == "":
		return u.Scheme + ":"
	default:
		return u.Host
	}
}

// handleOutOfBand shows a code to the user who is to carry it to the client.
// It shows only a code that is good, to the user that it was issued for: a
// link to this page cannot talk anybody into another's code.
func (s *server) handleOutOfBand(w http.ResponseWriter, r *http.Request, x *exchange) {
	v, err := s.visitor(r, x.now)
	if err != nil {
		s.writeErrorPage(w, x, err)
		return
	}
	presented, _ := s.profile.CodeFormat.parse(r.URL.Query().Get("code"))
	b, expires, err := s.store.liveCode(presented, x.now)
	if err == nil && (b == nil || s.autoApprove == "" && (v.user == nil || v.user.ID != b.user.ID)) {
		err = invalidRequest(rfc6749("4.1.2"), "there is no code here that is good and yours: it may have been used or have expired")
	}
	if err != nil {
		s.writeErrorPage(w, x, err)
		return
	}
	x.clientID, x.username = b.client.ClientID, b.user.Username
	s.writePage(w, http.StatusOK, "code.html", struct {
		Code, Name string
		Minutes    unixTime
	}{presented.String(), b.client.displayName(), (expires - x.now + 59) / 60})
}
