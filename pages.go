package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
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

// grantType is a grant type as people choose it.
type grantType struct {
	Name, Title, Hint string
	Old               bool // RFC 9700 advises against it
}

// grantTypes are those of the profile.
func (p *profile) grantTypes() []grantType {
	var offered []grantType
	for _, g := range []grantType{
		{"authorization_code", "Authorization code", "people sign in here and approve", false},
		{"refresh_token", "Refresh token", "new access tokens without asking again", false},
		{"client_credentials", "Client credentials", "the application acts for itself; not for public ones", false},
		{"implicit", "Implicit", "the token travels in the redirect", true},
		{"password", "Password", "the application sees the password", true},
	} {
		if slices.Contains(p.Grants, g.Name) {
			offered = append(offered, g)
		}
	}
	return offered
}

// example is how to try a grant: a URL to open in the browser, or a command
// for the shell, or first the one and then the other. Words in capitals are
// for the reader to replace.
type example struct {
	grantType
	URL, Command string
	Link         string // URL as seen from here
	ClientID     string // "": no client may use the grant, and Link leads to where one is registered
	Host         string // where the browser goes on to with the code or token; "": this server shows the code
	Loopback     string // the client's redirect URI on this machine, where the example uses another
}

// examples show the visitor the grants that a client may use. secret may be
// empty.
func (s *server) examples(v *visitor, c *client, secret string) []example {
	var all []example
	for _, g := range s.profile.grantTypes() {
		if s.canTry(c, g.Name) {
			all = append(all, s.example(v, g, c, secret))
		}
	}
	return all
}

// canTry reports whether a client may use a grant, has a redirect URI where
// that needs one, and a scope that this profile grants it.
func (s *server) canTry(c *client, grantType string) bool {
	redirects := grantType == "authorization_code" || grantType == "implicit"
	_, err := c.grantableScope(s.exampleScope(c), s.profile)
	return err == nil && c.mayUse(grantType, s.profile) && (!redirects || c.exampleURI(grantType) != "")
}

// exampleURI is a redirect URI for an example of a grant, or "": out of band if
// it can be, where nothing has to run.
func (c *client) exampleURI(grantType string) string {
	if slices.Contains(c.RedirectURIs, outOfBand) && grantType != "implicit" {
		return outOfBand
	}
	for _, uri := range c.RedirectURIs {
		if uri != outOfBand {
			return uri
		}
	}
	return ""
}

// startExamples show the visitor all grants of the profile, each with a client
// that may use it and that the visitor may know of: the demo client, the
// visitor's own, or one that fixtures brought without an owner.
//
// It does not look at very many: the page is for anybody to ask for.
func (s *server) startExamples(v *visitor) ([]example, error) {
	var known []*client
	demo, err := s.store.clientNamed("demo")
	if err != nil {
		return nil, err
	}
	if demo != nil {
		known = append(known, demo)
	}
	owners := []string{""}
	if v.user != nil {
		owners = []string{v.user.Username, ""}
	}
	for _, owner := range owners {
		owned, err := s.store.clientsOf(owner, maxLooked)
		if err != nil {
			return nil, err
		}
		for _, c := range owned {
			if owner != "" || c.RegisteredBy == operator {
				known = append(known, c)
			}
		}
	}
	var all []example
	for _, g := range s.profile.grantTypes() {
		n := slices.IndexFunc(known, func(c *client) bool { return s.canTry(c, g.Name) })
		if n < 0 {
			all = append(all, example{grantType: g, Link: s.base + "/account/applications/new"})
		} else {
			all = append(all, s.example(v, g, known[n], ""))
		}
	}
	return all, nil
}

const maxLooked = 200

// example shows the visitor how a client uses a grant.
func (s *server) example(v *visitor, g grantType, c *client, secret string) example {
	redirectURI := c.exampleURI(g.Name)
	e := example{grantType: g, ClientID: c.ClientID, Host: redirectHost(redirectURI)}
	var scope parameters // none where there is nothing to ask for
	if text := s.exampleScope(c); text != "" {
		scope = parameters{{"scope", text}}
	}
	if n := slices.IndexFunc(c.RedirectURIs, isLoopbackURI); n >= 0 && redirectURI == outOfBand {
		e.Loopback = c.RedirectURIs[n]
	}
	request := append(parameters{{"client_id", c.ClientID}, {"redirect_uri", redirectURI}}, scope...)
	command := func(body parameters) string { return s.tokenCommand(c, g.Name, secret, body) }
	ask := func(request parameters) {
		e.URL = s.advertised("authorize") + "?" + request.encode()
		e.Link = strings.TrimPrefix(e.URL, s.origin())
	}
	switch g.Name {
	case "authorization_code":
		// 43 characters that only this browser can know (RFC 7636 §4.1), and
		// the same when the page is reloaded between the two steps.
		verifier := v.mac("code_verifier", c.ClientID)
		challenge := sha256.Sum256([]byte(verifier))
		ask(append(append(parameters{{"response_type", "code"}}, request...), parameters{
			{"code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:])},
			{"code_challenge_method", "S256"},
		}...))
		e.Command = command(parameters{{"redirect_uri", redirectURI}, {"code_verifier", verifier}, {"code", "CODE"}})
	case "implicit":
		ask(append(parameters{{"response_type", "token"}}, request...))
	case "password":
		username := "USERNAME"
		if v.user != nil {
			username = v.user.Username
		}
		e.Command = command(slices.Concat(parameters{{"username", username}}, scope, parameters{{"password", "PASSWORD"}}))
	case "client_credentials":
		e.Command = command(scope)
	case "refresh_token":
		e.Command = command(parameters{{"refresh_token", "REFRESH_TOKEN"}})
	}
	return e
}

// exampleScope is a scope that a client may ask for, or "" where there is none
// and in a profile that says nothing of scopes.
func (s *server) exampleScope(c *client) string {
	scopes := append([]string{c.Scope, s.profile.defaultScope()}, s.profile.scopeNames()...)
	if s.profile.TokenAnswer.has("scope") {
		scopes = append(scopes, "read")
	}
	for _, scope := range scopes {
		if _, err := c.grantableScope(scope, s.profile); scope != "" && err == nil {
			return scope
		}
	}
	return ""
}

// tokenCommand is a token request for the shell, with a body that the profile
// takes.
func (s *server) tokenCommand(c *client, grantType, secret string, body parameters) string {
	line := "curl"
	if c.public() {
		body = append(parameters{{"client_id", c.ClientID}}, body...)
	} else {
		if secret == "" {
			secret = "CLIENT_SECRET"
		}
		line += " -u " + url.QueryEscape(c.ClientID) + ":" + url.QueryEscape(secret) // RFC 6749 §2.3.1
	}
	body = append(parameters{{"grant_type", grantType}}, body...)
	switch bodies := s.profile.Bodies; {
	case slices.Contains(bodies, "form"):
		for _, p := range body {
			line += " -d " + p.name + "=" + url.QueryEscape(p.value)
		}
	case slices.Contains(bodies, "json"):
		o := object{}
		for _, p := range body {
			o.add(p.name, p.value)
		}
		data, err := o.MarshalJSON()
		if err != nil {
			panic(err) // texts
		}
		line += " -H 'Content-Type: application/json' -d " + shellQuote(string(data))
	default:
		for _, p := range body {
			line += " -F " + shellQuote(p.name+`="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.value)+`"`)
		}
	}
	return line + " " + s.advertised("token")
}

// shellQuote returns a text as one word of a command.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

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
		refused := x.refused(tooManyGuesses("access_denied", rfc6749("10.10"), int(wait)))
		again.Problem = "Too many failed tries. Wait a minute and try again."
		setRetryAfter(w, refused)
		return s.writeSignIn(w, v, refused.Status, again)
	case errors.Is(err, errWrongPassword):
		refused := x.refused(refuse(http.StatusUnprocessableEntity, "access_denied", rfc6749("3.1"), "the username or the password is wrong"))
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
	b, expires, err := s.store.liveCode(presented, x.now)
	if err == nil && (b == nil || s.autoApprove == "" && (v.user == nil || v.user.ID != b.user.ID)) {
		err = helped(help{Heading: "There is no code here", Text: "It may have been used or have expired. Go back to the application and start again."},
			invalidRequest(rfc6749("4.1.2"), "there is no code here that is good and yours: it may have been used or have expired"))
	}
	if err != nil {
		return err
	}
	x.clientID, x.username = b.client.ClientID, b.user.Username
	return s.writePage(w, http.StatusOK, "code.html", struct {
		Code, Name string
		Minutes    unixTime
	}{presented.String(), b.client.displayName(), (expires - x.now + 59) / 60})
}

// What the error page shows of a refusal.

// Heading tells a person in a few words.
func (r *refusal) Heading() string {
	switch {
	case r.Help.Heading != "":
		return r.Help.Heading
	case r.Status == http.StatusTooManyRequests:
		return "Too many tries"
	case r.Status >= 500:
		return "This server has a problem"
	case r.Code == "access_denied":
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

// About is the parameter that the refusal is about, or "".
func (r *refusal) About() string {
	for word := range strings.FieldsFuncSeq(r.Description, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') }) {
		if expectations[word] != "" {
			return word
		}
	}
	if isParameter[r.Parameter] { // and not a token of the scope
		return r.Parameter
	}
	return ""
}

// Expected is what the parameter must be in a profile, or "".
func (r *refusal) Expected(p *profile) string {
	implicit := slices.Contains(p.Grants, "implicit")
	switch {
	case strings.HasSuffix(r.Description, occursTwice):
		return "once at the most"
	case strings.HasSuffix(r.Description, isNoText):
		return "text in UTF-8 without control characters"
	case r.Code == "unauthorized_client":
		return "one that goes with a grant which the application is registered for"
	case r.About() == "response_type" && !implicit:
		return "code"
	case r.About() == "response_mode" && (!implicit || p.ImplicitInQuery):
		return "query; or nothing"
	default:
		return expectations[r.About()]
	}
}
