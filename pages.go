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
	"path"
	"slices"
	"strings"
)

//go:embed templates
var templateFiles embed.FS

// pages are the HTML templates by file name, each in the frame of base.html.
var pages = parsePages()

func parsePages() map[string]*template.Template {
	base := template.Must(template.ParseFS(templateFiles, "templates/base.html"))
	all := make(map[string]*template.Template)
	for _, name := range []string{"start.html", "login.html", "consent.html", "code.html", "error.html",
		"applications.html", "application.html", "registered.html", "authorized.html"} {
		all[name] = template.Must(template.Must(base.Clone()).ParseFS(templateFiles, "templates/"+name))
	}
	return all
}

// asset is a file that pages refer to. Browsers may keep it: its URL changes
// with it.
type asset struct {
	mediaType string
	data      []byte
	version   string
}

var assets = map[string]asset{
	"style.css": newAsset("style.css", "text/css; charset=utf-8"),
	"script.js": newAsset("script.js", "text/javascript; charset=utf-8"),
	"icon.svg":  newAsset("icon.svg", "image/svg+xml"),
}

func newAsset(name, mediaType string) asset {
	data, err := templateFiles.ReadFile("templates/" + name)
	if err != nil {
		panic(err) // embedded
	}
	sum := sha256.Sum256(data)
	return asset{mediaType, data, hex.EncodeToString(sum[:6])}
}

func (a asset) handle(w http.ResponseWriter, r *http.Request, x *exchange) error {
	w.Header().Del("Pragma")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", a.mediaType)
	w.Write(a.data)
	return nil
}

// contentSecurityPolicy has no form-action: browsers apply it to the redirect
// that answers a form as well, and that one goes to the client. The one script
// adds buttons that copy and ignores a second press; every page works without.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"

// page is what every template gets.
type page struct {
	Base    string // path of the issuer
	Profile *profile
	Data    any
}

// Title is that of the service.
func (p page) Title() string { return p.Profile.Title }

// Asset returns the URL of an asset as it is now.
func (p page) Asset(name string) string { return p.Base + "/" + name + "?" + assets[name].version }

func (s *server) writePage(w http.ResponseWriter, status int, name string, data any) error {
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "base.html", page{s.base, s.profile, data}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
	return nil
}

func (s *server) handleHealth(w http.ResponseWriter, r *http.Request, x *exchange) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
	return nil
}

// endpointRow is an endpoint on the start page.
type endpointRow struct{ What, Methods, URL string }

// endpointRows are the endpoints of the profile, in the order in which one
// meets them, each at its first path. Of several resources of one name the
// others are called by the end of theirs; of documents that are open the first
// is enough.
func (s *server) endpointRows() []endpointRow {
	described := []struct{ name, what string }{
		{"authorize", "Authorization"},
		{"token", "Token"},
		{"userinfo", "User info"},
		{"tokeninfo", "Token info"},
		{"revoke", "Revocation"},
		{"introspect", "Introspection"},
		{"registration", "Registration"},
		{"instance", "About the server"},
		{"metadata", "Metadata"},
	}
	var rows []endpointRow
	for _, endpoint := range described {
		var first []string
		if paths := s.profile.Endpoints[endpoint.name]; len(paths) > 0 {
			first = append(first, paths[0])
		}
		for _, r := range s.profile.Resources {
			if r.Endpoint == endpoint.name && (r.Needs != "nothing" || first == nil) {
				first = append(first, r.Paths[0])
			}
		}
		for n, at := range first {
			what := endpoint.what
			if n > 0 {
				what = "Resource " + path.Base(at)
			}
			if endpoint.name == "metadata" {
				at += s.base // RFC 8414 §3.1
			} else {
				at = s.base + at
			}
			for _, r := range s.routes[at] {
				if r.endpoint == endpoint.name {
					rows = append(rows, endpointRow{what, r.methods, s.origin() + at})
				}
			}
		}
	}
	return rows
}

// handleStart shows what runs here and how to try it.
func (s *server) handleStart(w http.ResponseWriter, r *http.Request, x *exchange) error {
	v, err := s.visitor(r, x.now)
	var examples []example
	if err == nil {
		examples, err = s.startExamples(v)
	}
	if err != nil {
		return err
	}
	s.keepCookie(w, v)
	return s.writePage(w, http.StatusOK, "start.html", struct {
		accountPage
		Issuer, Profile string
		Endpoints       []endpointRow
		Examples        []example
		UserInfo        string
		Nobody          bool // there are tokens that stand for no user
	}{s.accountPage(v, r), s.issuer(), s.profile.Name, s.endpointRows(), examples, s.advertised("userinfo"),
		slices.Contains(s.profile.Grants, "client_credentials") && !s.profile.ClientActsForOwner})
}

// advertised is the URL of an endpoint, or "" if the profile has none.
func (s *server) advertised(endpoint string) string {
	if paths := s.profile.paths(endpoint); len(paths) > 0 {
		return s.url(paths[0])
	}
	return ""
}

// signIn is what the sign-in page shows.
type signIn struct {
	Username string // filled in
	Continue string // local target once signed in
	Problem  string
	User     *user // who is signed in already, if the page was out of date

	// Set by writeSignIn.
	Client *client // who asks, or nil
	Host   string  // where the browser goes on to then
	Token  string
}

func (s *server) writeSignIn(w http.ResponseWriter, v *visitor, status int, data signIn) error {
	s.keepCookie(w, v)
	data.Token = v.formToken()
	path, query, _ := strings.Cut(data.Continue, "?")
	if found, _, ok := s.findRoute("GET", path); ok && found.endpoint == "authorize" {
		if request, err := s.parseClientAndRedirectURI(parseQuery(query)); err == nil {
			data.Client, data.Host = request.client, redirectHost(request.redirectURI)
		}
	}
	return s.writePage(w, status, "login.html", data)
}

// keepCookie gives a browser that has no cookie the one that its forms are bound to.
func (s *server) keepCookie(w http.ResponseWriter, v *visitor) {
	if v.new {
		s.setCookie(w, v.cookie.String())
	}
}

// handleLogin is the sign-in page and its form.
func (s *server) handleLogin(w http.ResponseWriter, r *http.Request, x *exchange) error {
	v, err := s.visitor(r, x.now)
	if err != nil {
		return err
	}
	if r.Method != http.MethodPost {
		return s.writeSignIn(w, v, http.StatusOK, signIn{Continue: s.localTarget(x.query.values.Get("continue"))})
	}
	form, err := x.body()
	if err != nil {
		return err
	}
	again := signIn{Username: form["username"], Continue: s.localTarget(form["continue"])}
	if err := v.checkFormToken(form["form_token"]); err != nil {
		// Besides a forged form it may be one that was open while the user
		// signed in elsewhere.
		if again.User = v.user; v.user == nil {
			again.Problem = "This page was out of date, or your browser keeps no cookies. Sign in again."
		}
		return s.writeSignIn(w, v, x.refused(err).Status, again)
	}
	u, err := s.checkPassword(r.Context(), form["username"], form["password"], source(r), x.now)
	wait := tooManyTries(0)
	switch {
	case errors.As(err, &wait):
		refused := x.refused(tooManyGuesses(accessDenied, rfc6749("10.10"), int(wait)))
		again.Problem = "Too many failed tries. Wait a minute and try again."
		setRetryAfter(w, refused)
		return s.writeSignIn(w, v, refused.Status, again)
	case errors.Is(err, errWrongPassword):
		refused := x.refused(accessDenied(rfc6749("3.1"), passwordWrong, "the username or the password is wrong").with(http.StatusUnprocessableEntity))
		again.Problem = "The username or the password is wrong."
		return s.writeSignIn(w, v, refused.Status, again)
	case err != nil:
		return err
	}
	x.username = u.Username
	if err := s.signIn(w, v, u, x.now); err != nil {
		return err
	}
	seeOther(w, again.Continue)
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

// handleLogout ends the session, here and not only in the browser. From the
// consent page another user goes on with its request.
func (s *server) handleLogout(w http.ResponseWriter, r *http.Request, x *exchange) error {
	v, err := s.visitor(r, x.now)
	var form values
	if err == nil {
		form, err = x.body()
	}
	if err == nil {
		err = v.checkFormToken(form["form_token"])
	}
	if err == nil && v.session != nil {
		x.username = v.user.Username
		err = s.store.deleteSession(v.session)
	}
	if err != nil {
		return err
	}
	s.setCookie(w, "")
	next := s.base + "/"
	if request := form["request"]; request != "" {
		next = s.base + s.profile.Endpoints["authorize"][0] + "?" + request
	}
	seeOther(w, next)
	return nil
}

// writeConsent asks the user.
func (s *server) writeConsent(w http.ResponseWriter, v *visitor, request *authorizationRequest, pending pendingConsent) error {
	return s.writePage(w, http.StatusOK, "consent.html", struct {
		Client       *client
		RedirectHost string
		User         *user
		Scope        []scope
		ID, Asked    string
		Expires      unixTime
		Request, MAC string
		Token        string
	}{
		Client:       request.client,
		RedirectHost: redirectHost(request.redirectURI),
		User:         v.user,
		Scope:        s.profile.described(strings.Fields(request.scope)),
		ID:           pending.id.String(),
		Asked:        pending.asked,
		Expires:      pending.expires,
		Request:      pending.query,
		MAC:          pending.mac(v),
		Token:        v.formToken(),
	})
}

// described are scope tokens with what people are told they allow.
func (p *profile) described(tokens []string) []scope {
	var all []scope
	for _, token := range tokens {
		all = append(all, scope{token, p.describeScope(token)})
	}
	return all
}

// What templates show of a client.

func (c *client) DisplayName() string { return c.displayName() }
func (c *client) Public() bool        { return c.public() }

// Host is that of the website which the client says is its own.
func (c *client) Host() string { return redirectHost(c.URI) }

// Unverified reports whether it is not certain that the client is who it says.
//
// Choice: the operator's clients are taken for it, if they have a secret to
// prove it by. A user may register any name and website, and so may anybody.
func (c *client) Unverified() bool { return c.public() || c.RegisteredBy != operator }

// redirectHost is the host of a URI for people, or the scheme of one that opens
// an app, whatever host it has; empty for a code that is shown, and where there
// is no URI.
func redirectHost(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || uri == "" || uri == outOfBand:
		return ""
	case u.Scheme == "https" || u.Scheme == "http":
		return u.Host
	default:
		return u.Scheme + ":"
	}
}

// handleOutOfBand shows a code to the user who is to carry it to the client.
// It shows only a code that is good, to the user that it was issued for: a
// link to this page cannot talk anybody into another's code.
func (s *server) handleOutOfBand(w http.ResponseWriter, r *http.Request, x *exchange) error {
	v, err := s.visitor(r, x.now)
	if err != nil {
		return err
	}
	presented, _ := s.profile.CodeFormat.parse(x.query.values.Get("code"))
	b, err := s.store.liveCode(presented, x.now)
	if err == nil && (b == nil || s.autoApprove == "" && (v.user == nil || v.user.ID != b.user.ID)) {
		err = invalidRequest(rfc6749("4.1.2"), noCodeToShow, "there is no code here that is good and yours: it may have been used or have expired").
			helped(help{Heading: "There is no code here", Text: "It may have been used or have expired. Go back to the application and start again."})
	}
	if err != nil {
		return err
	}
	x.clientID, x.username = b.client.ClientID, b.user.Username
	return s.writePage(w, http.StatusOK, "code.html", struct {
		Code, Name string
		Minutes    unixTime
	}{presented.String(), b.client.displayName(), (b.expires - x.now + 59) / 60})
}

// What the error page shows of an error.

// Heading tells a person in a few words.
func (e *oauthError) Heading() string {
	switch {
	case e.Help.Heading != "":
		return e.Help.Heading
	case e.Status == http.StatusTooManyRequests:
		return "Too many tries"
	case e.Status >= 500:
		return "This server has a problem"
	case e.Code == "access_denied":
		return "Access denied"
	default:
		return "This request cannot be answered"
	}
}

// expectations are what the parameters of an authorization request must be.
var expectations = map[string]string{
	"client_id":             "the client_id of an application that is registered here",
	"redirect_uri":          "one of the redirect URIs that the application registered, character by character; only the port of http on a loopback host may differ",
	"response_type":         "code, or token where the application is registered for the implicit grant and the redirect URI is not out of band",
	"scope":                 "scope tokens that this server has and the application is registered for, with one blank between them; or nothing, for the default",
	"code_challenge":        "the base64url encoding, without padding, of the SHA-256 hash of the code_verifier: 43 characters",
	"code_challenge_method": "S256",
	"response_mode":         "query for response_type code, fragment for token; or nothing",
	"prompt":                "none, login, consent or select_account; or nothing",
}

// Expected is what the parameter must be in a profile, or "".
func (e *oauthError) Expected(p *profile) string {
	implicit := slices.Contains(p.Grants, "implicit")
	switch {
	case e.Reason == parameterTwice:
		return "once at the most"
	case e.Reason == parameterNotText:
		return "text in UTF-8 without control characters"
	case e.Reason == grantTypeNotRegistered:
		return "one that goes with a grant which the application is registered for"
	case e.Parameter == "response_type" && !implicit:
		return "code"
	case e.Parameter == "response_mode" && (!implicit || p.ImplicitInQuery):
		return "query; or nothing"
	default:
		return expectations[e.Parameter]
	}
}
