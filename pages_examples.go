package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

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
