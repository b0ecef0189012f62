package main

import (
	"cmp"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// client is a registered client (RFC 6749 §2).
type client struct {
	ID uuid.UUID `json:"id"` // of this registration; a later client of the same client_id has another
	metadata
	SecretHash   []byte    `json:"client_secret_hash,omitempty"` // SHA-256; none: a public client
	Description  string    `json:"description,omitempty"`        // in its owner's words
	RegisteredBy registrar `json:"registered_by"`
}

// metadata is what a client is registered with, by the names of RFC 7591 §2.
type metadata struct {
	ClientID     string   `json:"client_id" required:"true"`
	Name         string   `json:"client_name,omitempty" text:"255"`
	URI          string   `json:"client_uri,omitempty"`
	RedirectURIs []string `json:"redirect_uris,omitzero"`
	GrantTypes   []string `json:"grant_types,omitzero" one:"$client grants"` // absent: see mayUse
	Scope        string   `json:"scope,omitempty"`                           // empty: whatever the profile has
	Owner        string   `json:"owner,omitempty"`                           // username
}

// registrar is who last set the name and the website of a client.
type registrar string

const (
	operator registrar = "operator" // of this server: fixtures, the control API, the first start
	aUser    registrar = "user"     // on the pages
	itself   registrar = "itself"   // anybody, see registration
)

// public reports whether the client cannot keep a secret (RFC 6749 §2.1).
func (c *client) public() bool { return c.SecretHash == nil }

// displayName is what people are shown.
func (c *client) displayName() string { return cmp.Or(c.Name, c.ClientID) }

// mayUse reports whether the client may use a grant type (RFC 6749 §2,
// RFC 7591 §2). The profile must have it too.
//
// Choice: a client registered without grant types may use all that suit it except
// password and implicit. RFC 9700 §2.1.2 and §2.4 advise against these two, so a
// client must name them.
func (c *client) mayUse(grantType string, p *profile) bool {
	switch {
	case !slices.Contains(p.Grants, grantType):
		return false
	case grantType == "client_credentials" && c.public():
		return false // RFC 6749 §4.4
	case c.GrantTypes == nil:
		return grantType != "password" && grantType != "implicit"
	default:
		return slices.Contains(c.GrantTypes, grantType)
	}
}

// resourceServer reports whether the client only introspects tokens: it is
// registered with an empty list of grant types.
func (c *client) resourceServer() bool { return c.GrantTypes != nil && len(c.GrantTypes) == 0 }

// grantableScope returns the scope that the client gets for the scope
// parameter of a request, without repeats (RFC 6749 §3.3).
//
// Choice: a client that asks for no scope gets all that it is registered for or,
// in a profile with a default scope, the part of it that it is registered for.
func (c *client) grantableScope(requested string, p *profile, x *exchange) (string, error) {
	unregistered := func(token string) bool { return c.Scope != "" && !covers(c.Scope, token) }
	switch {
	case requested != "":
	case p.DefaultScope == nil:
		return cmp.Or(c.Scope, joinScope(p.scopeNames())), nil
	default:
		tokens := slices.DeleteFunc(strings.Fields(*p.DefaultScope), unregistered)
		if !x.holds(noDefaultScope, len(tokens) > 0 || *p.DefaultScope == "") {
			return "", invalidScope(rfc6749("3.3"), noDefaultScope, "scope is missing, and the client is not registered for any of the default scope").about("scope")
		}
		return joinScope(tokens), nil
	}
	tokens, err := parseScope(requested, x)
	if err != nil {
		return "", err
	}
	tokens, unknown := p.canonicalScope(tokens)
	if !x.holds(unknownScope, unknown == "") {
		return "", tooMuch(rfc6749("3.3"), unknownScope, unknown, p.hasScope, "the scope asks for something that this server does not have")
	}
	if i := slices.IndexFunc(tokens, unregistered); !x.holds(scopeNotRegistered, i < 0) {
		registered := func(token string) bool { return !unregistered(token) }
		return "", tooMuch(rfc6749("3.3"), scopeNotRegistered, tokens[i], registered, "the scope asks for more than the client is registered for")
	}
	return joinScope(tokens), nil
}

// tooMuch refuses a scope because of one token. If the token is several good ones
// with another separator than RFC 6749 §3.3's space, the error says so.
func tooMuch(rule section, why reason, token string, has func(token string) bool, description string) error {
	for separator, mistake := range map[rune]string{
		',': "the scope has commas between its tokens: separate them with spaces",
		'+': "the scope has plus signs between its tokens: encode a space as + or %20, not as %2B",
	} {
		parts := strings.FieldsFunc(token, func(r rune) bool { return r == separator })
		if len(parts) > 0 && parts[0] != token && !slices.ContainsFunc(parts, func(part string) bool { return !has(part) }) {
			why, description = scopeSeparator, mistake
		}
	}
	return invalidScope(rule, why, description).about("scope", token)
}

func joinScope(tokens []string) string { return strings.Join(tokens, " ") }

// The most tokens and characters of a scope. They keep comparing two scopes cheap.
const (
	maxScope     = 100
	maxScopeSize = 2000
)

// parseScope splits a scope into its tokens, each once, by RFC 6749 §3.3's grammar.
func parseScope(scope string, x *exchange) ([]string, error) {
	if !x.holds(scopeTooLong, len(scope) <= maxScopeSize && strings.Count(scope, " ") < maxScope) {
		return nil, invalidScope(rfc6749("3.3"), scopeTooLong, "the scope is too long: it may have 100 tokens and 2000 characters").about("scope")
	}
	var tokens []string
	for token := range strings.SplitSeq(scope, " ") {
		if !x.holds(scopeMalformed, token != "" && isErrorText(token)) { // the same characters
			return nil, invalidScope(rfc6749("3.3"), scopeMalformed, "the scope is malformed: scope tokens are printable ASCII, with one space between them").about("scope")
		}
		if !slices.Contains(tokens, token) {
			tokens = append(tokens, token)
		}
	}
	return tokens, nil
}

// covers reports whether every token of scope is in granted.
func covers(granted, scope string) bool { return uncovered(granted, scope) == "" }

// uncovered returns the first token of scope that is not in granted, or "".
func uncovered(granted, scope string) string {
	has := strings.Fields(granted)
	for token := range strings.FieldsSeq(scope) {
		if !slices.Contains(has, token) {
			return token
		}
	}
	return ""
}

// checkRegistered refuses a granted scope that the client is no longer registered
// for.
func (c *client) checkRegistered(rule section, scope string, x *exchange) error {
	token := uncovered(c.Scope, scope)
	if x.holds(scopeNoLongerRegistered, c.Scope == "" || token == "") {
		return nil
	}
	return invalidScope(rule, scopeNoLongerRegistered, "the scope has something that this client is no longer registered for").about("scope", token)
}

// outOfBand is the redirect URI of a client that cannot be redirected to: the user
// copies the code from a page.
const outOfBand = "urn:ietf:wg:oauth:2.0:oob"

// matchRedirectURI compares the redirect_uri of a request with a registered
// one, as strings (RFC 3986 §6.2.1, RFC 9700 §2.1). For http on a loopback
// host the port may differ (RFC 8252 §7.3).
//
// Choice: localhost is a loopback host too. The three are not interchangeable.
func matchRedirectURI(registered, requested string) bool {
	if registered == requested {
		return true
	}
	r, isLoopback := withoutLoopbackPort(registered)
	q, areLoopback := withoutLoopbackPort(requested)
	return isLoopback && areLoopback && r == q
}

// loopbackURI matches an http URI on a loopback host: up to the host, port, rest.
var loopbackURI = regexp.MustCompile(`^(http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::([0-9]{1,5}))?((?s:[/?].*)?)$`)

// withoutLoopbackPort cuts the port out of an http URI on a loopback host.
// ok is false for any other URI.
func withoutLoopbackPort(uri string) (rest string, ok bool) {
	match := loopbackURI.FindStringSubmatch(uri)
	if match == nil {
		return "", false
	}
	port, _ := strconv.Atoi(match[2])
	return match[1] + match[3], port <= 65535
}

// isLoopbackURI reports whether the port of a redirect URI is free (RFC 8252 §7.3).
func isLoopbackURI(uri string) bool {
	_, ok := withoutLoopbackPort(uri)
	return ok
}

// redirectURIFor returns where the answer to an authorization request goes:
// the request's redirect_uri if it is registered, or, if the request has none,
// the client's only one (RFC 6749 §3.1.2.3).
func (c *client) redirectURIFor(requested string, x *exchange) (string, error) {
	switch {
	case requested != "":
		if x.holds(redirectURINotRegistered, slices.ContainsFunc(c.RedirectURIs, func(registered string) bool { return matchRedirectURI(registered, requested) })) {
			return requested, nil
		}
		is := "is not one that this client registered"
		for _, registered := range c.RedirectURIs {
			a, isLoopback := withoutLoopbackPort(registered)
			b, areLoopback := withoutLoopbackPort(requested)
			if !isLoopback || !areLoopback {
				a, b = registered, requested
			}
			if only := onlyBy(a, b); only != "" {
				is = "differs from a registered one" + only
				break
			}
		}
		return "", invalidRequest(rfc6749("3.1.2.3"), redirectURINotRegistered, "redirect_uri "+is+"; redirect URIs are compared character by character").about("redirect_uri")
	case !x.holds(noRedirectURI, len(c.RedirectURIs) > 0):
		return "", invalidRequest(rfc6749("3.1.2.2"), noRedirectURI, "this client has no redirect URI registered")
	case !x.holds(redirectURINeeded, len(c.RedirectURIs) == 1):
		return "", invalidRequest(rfc6749("3.1.2.3"), redirectURINeeded, "redirect_uri is missing, and this client has several to choose from").about("redirect_uri")
	default:
		return c.RedirectURIs[0], nil
	}
}

// clientCredentials is how a request says which client sends it (RFC 6749 §2.3.1).
type clientCredentials struct {
	id        string
	secret    string // empty: none was sent
	undecoded string // the secret as it stands in the Basic credentials
}

// parseClientCredentials takes them from the Authorization header or from the
// body, and not from both (RFC 6749 §2.3).
//
// Deviation: a profile can accept both if they agree, as its service does.
func (x *exchange) parseClientCredentials(body values, p *profile) (clientCredentials, error) {
	authorization := x.header["Authorization"]
	if p.OtherSchemesIgnored {
		authorization = slices.DeleteFunc(slices.Clone(authorization), func(a string) bool { return !isBasic(a) })
	}
	if len(authorization) == 0 {
		if !x.holds(clientMissing, body["client_id"] != "") {
			return clientCredentials{}, invalidClient(rfc6749("3.2.1"), clientMissing, "the request does not say which client sends it: use HTTP Basic or client_id").about("client_id", body["grant_type"])
		}
		return clientCredentials{id: body["client_id"], secret: body["client_secret"]}, nil
	}
	if !x.holds(twoAuthentications, len(authorization) == 1) {
		return clientCredentials{}, invalidRequest(rfc6749("2.3"), twoAuthentications, "there is more than one Authorization header")
	}
	c, err := parseBasic(authorization[0], x)
	if err != nil {
		return clientCredentials{}, err
	}
	id, secret := body["client_id"], body["client_secret"]
	switch {
	case !x.holds(credentialsDiffer, !p.BasicAndBody || (id == "" || id == c.id) && (secret == "" || secret == c.secret)):
		return clientCredentials{}, invalidClient(rfc6749("2.3"), credentialsDiffer, "the credentials of HTTP Basic and those in the body differ")
	case !x.holds(twoAuthentications, secret == "" || p.BasicAndBody):
		return clientCredentials{}, invalidRequest(rfc6749("2.3"), twoAuthentications, "the client authenticates twice: by HTTP Basic and by client_secret in the body")
	case !x.holds(credentialsDiffer, id == "" || id == c.id):
		return clientCredentials{}, invalidRequest(rfc6749("2.3"), credentialsDiffer, "client_id in the body is not the client of the Authorization header")
	}
	return c, nil
}

// parseBasic reads the Basic scheme (RFC 7617), in which client_id and secret are
// form-urlencoded (RFC 6749 §2.3.1).
func parseBasic(authorization string, x *exchange) (clientCredentials, error) {
	refused := func(description string) (clientCredentials, error) {
		return clientCredentials{}, invalidClient(rfc6749("2.3.1"), basicMalformed, description)
	}
	_, encoded, _ := strings.Cut(authorization, " ")
	if !x.holds(anotherScheme, isBasic(authorization)) {
		return clientCredentials{}, invalidClient(rfc6749("2.3.1"), anotherScheme, "clients authenticate by HTTP Basic or in the body, not by this Authorization scheme")
	}
	encoded = strings.TrimLeft(encoded, " ")
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return refused("the Basic credentials are not base64")
	}
	id, secret, found := strings.Cut(string(decoded), ":")
	if !found {
		return refused("the Basic credentials have no colon")
	}
	if id, err = url.QueryUnescape(id); err != nil {
		return refused("the client_id in the Basic credentials is not form-urlencoded, which comes before base64")
	}
	undecoded := secret
	if secret, err = url.QueryUnescape(undecoded); err != nil {
		return refused("the client_secret in the Basic credentials is not form-urlencoded, which comes before base64")
	}
	x.holds(basicMalformed, true)
	return clientCredentials{id, secret, undecoded}, nil
}

func isBasic(authorization string) bool {
	scheme, _, _ := strings.Cut(authorization, " ")
	return strings.EqualFold(scheme, "Basic")
}

// clientRequest returns the parameters of a request and the client that sends it.
func (s *server) clientRequest(r *http.Request, x *exchange) (values, *client, error) {
	body, err := x.body()
	if err != nil {
		return nil, nil, err
	}
	c, err := s.authenticateClient(r, body, x)
	return body, c, err
}

// authenticateClient returns the client that sends a request (RFC 6749 §3.2.1). A
// confidential client must send its secret, a public one has none.
func (s *server) authenticateClient(r *http.Request, body values, x *exchange) (*client, error) {
	credentials, err := x.parseClientCredentials(body, s.profile)
	if err != nil {
		return nil, err
	}
	c, err := s.clientNamed(credentials.id, x)
	if err != nil {
		return nil, err
	}
	if !x.holds(unknownClient, c != nil) {
		return nil, invalidClient(rfc6749("5.2"), unknownClient, "this server has no client with this client_id")
	}
	x.ClientID = c.ClientID
	switch {
	case c.public() && credentials.secret == "":
		return c, nil
	case !x.holds(secretOfPublicClient, !c.public()):
		return nil, invalidClient(rfc6749("2.3"), secretOfPublicClient, "this is a public client: it has no secret and must not send one")
	case !x.holds(clientSecretMissing, credentials.secret != ""):
		return nil, invalidClient(rfc6749("3.2.1"), clientSecretMissing, "this is a confidential client: its secret is missing")
	}
	right, wait, err := s.secrets.guess(c.ClientID+"\x00"+source(r), secretTries, secretTries, x.now, func() (bool, error) {
		return subtle.ConstantTimeCompare(c.SecretHash, hashSecret(credentials.secret)) == 1, nil
	})
	switch {
	case err != nil:
		return nil, err
	case !x.holds(guessedTooOften, wait == 0):
		return nil, tooManyGuesses(invalidClient, rfc6749("2.3.1"), wait)
	case x.holds(clientSecretWrong, right):
		return c, nil
	case !x.holds(clientSecretNotEncoded, subtle.ConstantTimeCompare(c.SecretHash, hashSecret(credentials.undecoded)) == 0):
		return nil, invalidClient(rfc6749("2.3.1"), clientSecretNotEncoded, "the client secret is right, but in the Basic credentials it must be form-urlencoded before base64")
	}
	return nil, invalidClient(rfc6749("5.2"), clientSecretWrong, "the client secret is wrong")
}
