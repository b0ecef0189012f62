package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"runtime"
	"slices"
	"strings"
)

// shownGrants are the grants of the profile as pages list them: those that
// RFC 9700 advises against come last.
func (p *profile) shownGrants() []string {
	return slices.DeleteFunc([]string{"authorization_code", "refresh_token", "client_credentials", deviceGrant, "implicit", "password"},
		func(grant string) bool { return !slices.Contains(p.Grants, grant) })
}

// example is how to try a grant: a URL to open in the browser, a command for
// the shell, or first one and then the other. Words in capitals are for the
// reader to replace.
type example struct {
	Grant    string
	URL      string
	Link     string // URL as seen from here
	ClientID string // "": no client may use the grant, and Link leads to where one is registered
	Host     string // where the browser goes with the code or token; "": this server shows the code
	Public   bool   // the client has no secret
	Loopback string // a redirect URI of the client on this machine, where the example uses another

	command []string // curl with the URL, and its options
}

// Command is the command in one line, which every shell takes.
func (e example) Command() string { return strings.Join(e.command, " ") }

// Lines is the command with a line for each option, for the terminal of this
// machine.
func (e example) Lines() string {
	if runtime.GOOS == "windows" { // whose shells have no backslash
		return e.Command()
	}
	return strings.Join(e.command, " \\\n     ")
}

// examples show the visitor all grants of the profile, each with the first of the
// clients that can use it. secret may be empty.
func (s *server) examples(v *visitor, clients []*client, secret string) (all []example) {
	for _, grant := range s.profile.shownGrants() {
		if grant == deviceGrant {
			continue // it takes two commands and a page
		}
		e, ok := example{}, false
		for i := 0; i < len(clients) && !ok; i++ {
			e, ok = s.example(v, grant, clients[i], secret)
		}
		if !ok {
			e = example{Grant: grant, Link: s.base + "/account/applications/new"}
		}
		all = append(all, e)
	}
	return all
}

// examplesOf show the visitor the grants that one client can use.
func (s *server) examplesOf(v *visitor, c *client, secret string) []example {
	return slices.DeleteFunc(s.examples(v, []*client{c}, secret), func(e example) bool { return e.ClientID == "" })
}

// maxLooked is how many clients of one owner the start page looks at: anyone
// may ask for it.
const maxLooked = 200

// clientsToTry are the clients that the start page tells a visitor of: the demo
// client, the visitor's own, and those that fixtures brought without an owner.
func (s *server) clientsToTry(v *visitor) ([]*client, error) {
	owners := []string{""}
	if v.user != nil {
		owners = []string{v.user.Username, ""}
	}
	demo, err := s.store.clientNamed("demo")
	known := []*client{demo}
	for _, owner := range owners {
		owned, failed := s.store.clientsOf(owner, maxLooked)
		known, err = append(known, owned...), cmp.Or(err, failed)
	}
	return slices.DeleteFunc(known, func(c *client) bool { return c == nil || c.Owner == "" && c.RegisteredBy != operator }), err
}

// example shows the visitor how a client uses a grant. ok is false if it may not,
// has no redirect URI where that needs one, or no scope that this profile grants it.
func (s *server) example(v *visitor, grant string, c *client, secret string) (e example, ok bool) {
	redirectURI := "" // out of band if it can be, so that nothing has to run there
	uris := slices.DeleteFunc(slices.Clone(c.RedirectURIs), func(uri string) bool { return uri == outOfBand })
	if len(uris) < len(c.RedirectURIs) && grant != "implicit" {
		redirectURI = outOfBand
	} else if len(uris) > 0 {
		redirectURI = uris[0]
	}
	needsURI := grant == "authorization_code" || grant == "implicit"
	asked := s.exampleScope(c)
	if _, err := c.grantableScope(asked, s.profile, nil); err != nil || !c.mayUse(grant, s.profile) || needsURI && redirectURI == "" {
		return e, false
	}
	e = example{Grant: grant, ClientID: c.ClientID, Public: c.public(), Host: redirectHost(redirectURI)}
	var scope parameters // none where there is nothing to ask for
	if asked != "" {
		scope = parameters{{"scope", asked}}
	}
	if n := slices.IndexFunc(c.RedirectURIs, isLoopbackURI); n >= 0 && redirectURI == outOfBand {
		e.Loopback = c.RedirectURIs[n]
	}
	ask := func(responseType string, pkce parameters) {
		request := parameters{{"response_type", responseType}, {"client_id", c.ClientID}, {"redirect_uri", redirectURI}}
		e.URL = s.advertised("authorize") + "?" + slices.Concat(request, scope, pkce).encode()
		e.Link = strings.TrimPrefix(e.URL, s.origin())
	}
	run := func(body ...parameters) { e.command = s.tokenCommand(c, grant, secret, slices.Concat(body...)) }
	switch grant {
	case "authorization_code":
		// 43 characters that only this browser can know (RFC 7636 §4.1), and
		// the same when the page is reloaded between the two steps.
		verifier := v.mac("code_verifier", c.ClientID)
		challenge := sha256.Sum256([]byte(verifier))
		ask("code", parameters{{"code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:])}, {"code_challenge_method", "S256"}})
		run(parameters{{"redirect_uri", redirectURI}, {"code_verifier", verifier}, {"code", "CODE"}})
	case "implicit":
		ask("token", nil)
	case "password":
		username := "USERNAME"
		if v.user != nil {
			username = v.user.Username
		}
		run(parameters{{"username", username}}, scope, parameters{{"password", "PASSWORD"}})
	case "client_credentials":
		run(scope)
	case "refresh_token":
		run(parameters{{"refresh_token", "REFRESH_TOKEN"}})
	}
	return e, true
}

// exampleScope is a scope that a client may ask for, or "" where there is none
// and in a profile that says nothing of scopes.
func (s *server) exampleScope(c *client) string {
	scopes := append([]string{c.Scope, s.profile.defaultScope()}, s.profile.scopeNames()...)
	if s.profile.TokenAnswer.has("scope") {
		scopes = append(scopes, "read")
	}
	for _, scope := range scopes {
		if _, err := c.grantableScope(scope, s.profile, nil); scope != "" && err == nil {
			return scope
		}
	}
	return ""
}

// tokenCommand is a token request for the shell, with a body that the profile
// takes: curl with the URL, and its options.
func (s *server) tokenCommand(c *client, grantType, secret string, body parameters) []string {
	command := []string{"curl " + s.advertised("token")}
	body = append(parameters{{"grant_type", grantType}}, body...)
	if c.public() {
		body = slices.Insert(body, 1, parameters{{"client_id", c.ClientID}}...)
	} else {
		credentials := url.QueryEscape(c.ClientID) + ":" + url.QueryEscape(cmp.Or(secret, "CLIENT_SECRET"))
		command = append(command, "-u "+credentials) // RFC 6749 §2.3.1
	}
	switch bodies := s.profile.Bodies; {
	case slices.Contains(bodies, "form"):
		for _, p := range body {
			command = append(command, "-d "+p.name+"="+url.QueryEscape(p.value))
		}
	case slices.Contains(bodies, "json"):
		o := object{}
		for _, p := range body {
			o.add(p.name, p.value)
		}
		data := must(o.MarshalJSON()) // texts
		command = append(command, "-H 'Content-Type: application/json'", "-d "+shellQuote(string(data)))
	default:
		for _, p := range body {
			command = append(command, "-F "+shellQuote(p.name+`="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.value)+`"`))
		}
	}
	return command
}

// shellQuote returns a text as one word of a command.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
