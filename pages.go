package main

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed templates
var templateFiles embed.FS

// pages are the HTML templates by file name, each in the frame of base.html. Each is
// parsed when it is first shown, so that the start is quick.
var pages = func() map[string]func() *template.Template {
	all := make(map[string]func() *template.Template)
	for _, name := range must(fs.Glob(templateFiles, "templates/*.html")) { // the pattern is good
		all[path.Base(name)] = sync.OnceValue(func() *template.Template {
			return template.Must(template.New("base.html").Option("missingkey=error").Funcs(inPages).ParseFS(templateFiles, "templates/base.html", name))
		})
	}
	return all
}()

// inPages are the functions of the templates.
var inPages = template.FuncMap{
	"has": slices.Contains[[]string], "name": (*client).displayName, "public": (*client).public, "host": redirectHost, "covers": covers, "slug": reason.slug, "marked": marked,
	"pair": func(first, second any) struct{ First, Second any } { return struct{ First, Second any }{first, second} },
}

// assets are the files that pages refer to, with their media types.
var assets = map[string]string{
	"style.css":     "text/css; charset=utf-8",
	"inspect.css":   "text/css; charset=utf-8",
	"script.js":     "text/javascript; charset=utf-8",
	"icon.svg":      "image/svg+xml",
	"inspect.js":    "text/javascript; charset=utf-8",
	"playground.js": "text/javascript; charset=utf-8",
}

// assetVersion is in the URL of every asset, so that browsers may keep them
// and still get new ones. Each start has its own.
var assetVersion = rand.Text()

func (s *server) handleAsset(w http.ResponseWriter, r *http.Request, x *exchange) error {
	name := path.Base(r.URL.Path)
	w.Header().Del("Pragma")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", assets[name])
	http.ServeFileFS(w, r, templateFiles, "templates/"+name)
	return nil
}

// page is what every template gets.
type page struct {
	s    *server
	x    *exchange
	Data any // the template's own: a map by name, or a struct
}

// pageData is what one page shows besides what all do.
type pageData map[string]any

func (p page) Base() string      { return p.s.base } // path of the issuer
func (p page) Issuer() string    { return p.s.issuer() }
func (p page) Endpoint() string  { return p.x.Endpoint } // that it is part of, or ""
func (p page) Profile() *profile { return p.s.profile }

// User is who is signed in, or nil.
func (p page) User() *user { return p.x.visitor.user }

// Token guards the page's forms.
func (p page) Token() string { return p.x.visitor.formToken() }

// Asset returns the URL of an asset.
func (p page) Asset(name string) string { return p.s.base + "/" + name + "?" + assetVersion }

// Current is the aria-current of a link to a page: page where this is that
// page, and true where this is one of those below it.
func (p page) Current(path string) string {
	switch path = p.s.base + path; {
	case p.x.Path == path:
		return "page"
	case strings.HasPrefix(p.x.Path, strings.TrimSuffix(path, "/")+"/"):
		return "true"
	default:
		return ""
	}
}

// Rooms are the pages that show how the protocol works, by path: those that this
// server has.
func (p page) Rooms() map[string]string {
	rooms := map[string]string{"/explain/": "Refusals", "/inspect": "Inspector", "/playground": "Playground"}
	maps.DeleteFunc(rooms, func(path, _ string) bool { _, _, ok := p.s.findRoute("GET", p.s.base+path); return !ok })
	return rooms
}

// Describe is what people are told that a scope token allows, or "".
func (p page) Describe(token string) string {
	found, _ := p.s.profile.findScope(token)
	return found.Description
}

func (s *server) writePage(w http.ResponseWriter, x *exchange, status int, name string, shown any) error {
	x.page = name
	var b bytes.Buffer
	if err := pages[name]().ExecuteTemplate(&b, "base.html", page{s, x, shown}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
	return nil
}

// endpointRow is an endpoint on the start page. Name is that of the endpoint, or
// "Resource" with the end of its path.
type endpointRow struct{ Name, Methods, URL string }

// endpointRows are the endpoints of the profile, each at its first path. Several
// resources of one name have a row each, but of open ones only the first has.
func (s *server) endpointRows() (rows []endpointRow) {
	add := func(name, at string) {
		_, methods, _ := s.findRoute("", strings.TrimPrefix(at, s.origin()))
		rows = append(rows, endpointRow{name, methods, at})
	}
	for _, name := range []string{"authorize", "token", "userinfo", "tokeninfo", "revoke", "introspect", "device_authorization", "registration", "instance", "metadata"} {
		first := s.advertised(name)
		if first != "" {
			add(name, first)
		}
		for _, r := range s.profile.Resources {
			if at := s.url(r.Paths[0]); r.Endpoint == name && r.Needs != "nothing" && at != first {
				add("Resource "+path.Base(at), at)
			}
		}
	}
	return rows
}

// handleStart shows what runs here and how to try it.
func (s *server) handleStart(w http.ResponseWriter, r *http.Request, x *exchange) error {
	clients, err := s.clientsToTry(x.visitor)
	if err != nil {
		return err
	}
	shown, err := s.passwordShown()
	if err != nil {
		return err
	}
	s.keepCookie(w, x.visitor)
	var first *example // the way to the first token; nil: no client can use codes
	examples := s.examples(x.visitor, clients, "")
	if len(examples) > 0 && examples[0].Grant == "authorization_code" && examples[0].ClientID != "" {
		first, examples = &examples[0], examples[1:]
	}
	return s.writePage(w, x, http.StatusOK, "start.html", pageData{
		"Endpoints":     s.endpointRows(),
		"First":         first,
		"Examples":      examples,
		"UserInfo":      s.advertised("userinfo"),
		"PasswordShown": shown,
	})
}

// passwordShown reports whether the banner of this start has a password that is
// still alice's.
func (s *server) passwordShown() (bool, error) {
	if s.firstPassword == nil {
		return false, nil
	}
	alice, err := s.store.userNamed("alice")
	return alice != nil && bytes.Equal(alice.Password.Salt, s.firstPassword), err
}

// writeConsent asks the user.
func (s *server) writeConsent(w http.ResponseWriter, x *exchange, pending pendingConsent) error {
	return s.writePage(w, x, http.StatusOK, "consent.html", pageData{
		"Client":    x.request.client,
		"Host":      redirectHost(x.request.redirectURI),
		"IsLocal":   isLoopback(hostOf(redirectHost(x.request.redirectURI))),
		"Scope":     strings.Fields(x.request.scope),
		"Resources": x.resources,
		"ID":        pending.id,
		"Asked":     pending.asked,
		"Expires":   pending.expires,
		"Request":   pending.query,
		"MAC":       pending.mac(x.visitor),
	})
}

// What templates show of a client.

// Unverified reports whether it is not certain that the client is who it says.
//
// Choice: the operator's clients are certain, if they have a secret to prove
// it. Users, and clients that register themselves, may choose any name and
// website.
func (c *client) Unverified() bool { return c.public() || c.RegisteredBy != operator }

// Document is the host that describes a client, and "" for one of another kind.
func (c *client) Document() string {
	if at, isURL := strings.CutPrefix(c.ClientID, "http"); isURL && c.RegisteredBy == itself && strings.Contains(at, "://") {
		return redirectHost(c.ClientID)
	}
	return ""
}

// redirectHost is the host of a URI for people, or the scheme of one that opens
// an app. It is empty for a code that is shown, and where there is no URI.
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

// handleOutOfBand shows a code to the user, who copies it to the client. It
// shows only a good code, and only to the user that it was issued for: a link
// to this page cannot talk anyone into another user's code.
func (s *server) handleOutOfBand(w http.ResponseWriter, r *http.Request, x *exchange) error {
	presented, _ := s.profile.CodeFormat.parse(x.query.values.Get("code"))
	b, err := s.store.unused(bucketCodes, presented, x.now, unnoted)
	switch {
	case errors.Is(err, errStorage):
		return err
	case !x.holds(noCodeToShow, err == nil && (s.autoApprove != "" || x.visitor.user != nil && x.visitor.user.ID == b.user.ID)):
		return invalidRequest(rfc6749("4.1.2"), noCodeToShow, "there is no code here that is good and yours: it may have been used or have expired")
	}
	x.ClientID, x.Username = b.client.ClientID, b.user.Username
	return s.writePage(w, x, http.StatusOK, "code.html", pageData{
		"Code":    presented.String(),
		"Client":  b.client,
		"Minutes": (b.expires - x.now + 59) / 60,
	})
}
