package main

import (
	"cmp"
	"embed"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
)

//go:embed profiles
var profileFiles embed.FS

// profile is what differs between the services that grantling stands in for, as
// data: paths, grants and answers. docs/services.md describes the file.
type profile struct {
	Extends string `json:"extends"` // the built-in profile that has what this one leaves out

	Name  string `json:"name" required:"true"`
	Title string `json:"title" required:"true"` // what pages call the service

	// Endpoints has the paths of the protocol endpoints, by the names of the
	// control API. Metadata and pages show the first path.
	Endpoints map[string][]string `json:"endpoints" keys:"authorize oob token revoke introspect device_authorization metadata jwks registration"`
	// Resources are what an access token gives access to, and open documents.
	Resources []resource `json:"resources"`

	Bodies           []string `json:"bodies" required:"true" one:"form json multipart"` // of POST requests
	OtherBodiesEmpty bool     `json:"other_bodies_empty"`                               // a body of another type counts as empty instead of being refused

	Grants            []string `json:"grants" required:"true" one:"$grants"` // values of grant_type, and implicit
	Scopes            []scope  `json:"scopes"`                               // none: any scope token will do
	DefaultScope      *string  `json:"default_scope"`                        // for a request without scope; absent: all that the client is registered for
	ScopesIgnoreCase  bool     `json:"scopes_ignore_case"`
	TokenScopeIgnored bool     `json:"token_scope_ignored"` // the token endpoint ignores scope
	// RequiredParameters of token requests, by grant type, in addition to those of
	// RFC 6749.
	RequiredParameters    map[string][]string `json:"required_parameters" one:"$parameters"`
	ParametersFirst       bool                `json:"parameters_first"`          // required parameters are checked before the client
	RedirectURINotNeeded  bool                `json:"redirect_uri_not_needed"`   // at the token endpoint; one that is sent is still compared (RFC 6749 §4.1.3)
	OtherSchemesIgnored   bool                `json:"other_schemes_ignored"`     // an Authorization header that is not Basic does not count as client authentication
	BasicAndBody          bool                `json:"basic_and_body"`            // a client may authenticate in both ways at once, with the same credentials
	SecretInBody          bool                `json:"secret_in_body"`            // the service's documentation says so, and the log does not warn
	PKCEOptional          bool                `json:"pkce_optional"`             // public clients may do without, and the log does not warn of confidential ones (RFC 7636)
	RevokesNothing        bool                `json:"revokes_nothing"`           // a revocation without a token is answered like that of an unknown one (RFC 7009 §2.2)
	ClientActsForOwner    bool                `json:"client_acts_for_owner"`     // a client credentials token stands for the client's owner (RFC 6749 §4.4)
	ClientScopeHasNoForce bool                `json:"client_scope_has_no_force"` // a client credentials token has no scope, whatever the request says
	ClientDocuments       bool                `json:"client_documents"`          // a client_id may be the URL of a Client ID Metadata Document
	AnyScheme             bool                `json:"any_scheme"`                // redirect URIs may be myapp://, without a dot (RFC 8252 §7.1)

	ResourceIndicators bool `json:"resource_indicators"` // resource says where a token is for (RFC 8707)

	tokenParameters []string // of a query that may carry a token, as Resources or RFC 6750 §2.3 has it

	redirectHosts []string // hosts of http redirect URIs besides loopback: from a flag, not from the file

	// Lifetimes in seconds. All are required, the last two only with the grant
	// refresh_token. A code lives for ten minutes at most, as RFC 6749 §4.1.2
	// recommends; of the others, 0 means forever, and the most is a hundred years.
	CodeLifetime         seconds `json:"code_lifetime" required:"true" from:"1" to:"600" rule:"RFC 6749 §4.1.2"`
	AccessTokenLifetime  seconds `json:"access_token_lifetime" from:"0" to:"3153600000" rule:"0 means forever"`
	RefreshTokenLifetime seconds `json:"refresh_token_lifetime" from:"0" to:"3153600000" rule:"0 means forever"` // from one use to the next
	GrantLifetime        seconds `json:"grant_lifetime" from:"0" to:"3153600000" rule:"0 means forever"`         // from the first token to the last refresh

	RefreshTokenUse   string  `json:"refresh_token_use" one:"rotate keep"`    // each works once, or, for confidential clients, until it expires; default rotate
	RefreshTokenGrace seconds `json:"refresh_token_grace" from:"0" to:"3600"` // so long one that was used is answered the same again, in case the answer was lost

	CodeFormat             format `json:"code_format"`
	AccessTokenFormat      format `json:"access_token_format"`
	RefreshTokenFormat     format `json:"refresh_token_format"`
	TokenType              string `json:"token_type"`                // RFC 6749 §7.1
	RefreshEndsAccessToken bool   `json:"refresh_ends_access_token"` // a refresh ends the access token issued before

	// The authorization endpoint.
	Iss              bool              `json:"iss"`                                                      // answers carry iss (RFC 9207)
	ResponseModes    []string          `json:"response_modes" one:"query fragment form_post"`            // of codes; absent: query (RFC 6749 §4.1.2)
	ImplicitInQuery  bool              `json:"implicit_in_query"`                                        // instead of the fragment (RFC 6749 §4.2.2)
	PromptParameters map[string]string `json:"prompt_parameters" one:"login consent"`                    // the service's own, with the prompt value that each means when it is true
	ConsentMemory    string            `json:"consent_memory" required:"true" one:"covered equal never"` // when the user is not asked again

	// Answers.
	JSONType            string            `json:"json_type"` // Content-Type of JSON
	TokenAnswer         shape             `json:"token_answer" facts:"$token facts"`
	ImplicitAnswer      shape             `json:"implicit_answer" facts:"$token facts"`  // each member a parameter of the redirect (RFC 6749 §4.2.2)
	TokenHeaders        map[string]string `json:"token_headers" headers:"true" facts:""` // of token answers, besides the usual ones
	IntrospectionAnswer shape             `json:"introspection_answer" facts:"$resource facts"`
	RevocationAnswer    *shape            `json:"revocation_answer" facts:""` // absent: {}
	Registration        *registration     `json:"registration"`               // absent: clients cannot register themselves
	BasicChallenge      string            `json:"basic_challenge"`            // WWW-Authenticate where HTTP Basic failed (RFC 6749 §5.2)

	Errors   errorRules `json:"errors"`
	Explains bool       `json:"explains"` // errors carry error_uri, the page that explains them (RFC 6749 §5.2)
}

// scope is a scope token, and what the consent page says about it.
type scope struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// resource is a GET endpoint that answers with facts about a token or the server.
type resource struct {
	Endpoint string   `json:"endpoint" required:"true" one:"userinfo tokeninfo instance"` // instance needs no token
	Paths    []string `json:"paths" required:"true"`
	Needs    string   `json:"needs" required:"true" one:"user token nothing"` // a token that stands for a user, any token, or none
	Scopes   []string `json:"scopes"`                                         // one of them is needed; none: any token will do
	Schemes  []string `json:"schemes" empty:"false"`                          // of the Authorization header; default Bearer (RFC 6750 §2.1)
	Query    []string `json:"query"`                                          // parameters that may carry the token instead (RFC 6750 §2.3)
	Answer   shape    `json:"answer" facts:"$resource facts"`
}

// loadProfile reads an embedded profile by its name, or a file. Errors name
// file, line and key.
func loadProfile(name string) (*profile, error) {
	embedded := "profiles/" + name + ".json"
	if data, err := profileFiles.ReadFile(embedded); err == nil {
		return parseProfile(embedded, data)
	}
	data, err := os.ReadFile(name)
	switch {
	case err != nil && strings.ContainsAny(name, "./\\"):
		return nil, fmt.Errorf("profile: %w", err)
	case err != nil:
		return nil, fmt.Errorf("profile: expected a file or one of %s: %w", strings.Join(profileNames(), ", "), err)
	}
	return parseProfile(name, data)
}

func parseProfile(file string, data []byte) (*profile, error) {
	p := &profile{TokenType: "Bearer", Iss: true, Bodies: []string{"form"}, ConsentMemory: "covered",
		JSONType: "application/json", BasicChallenge: `Basic realm="grantling", charset="UTF-8"`,
		AccessTokenLifetime: -1, RefreshTokenLifetime: -1, GrantLifetime: -1} // missing
	d, err := parseDocument(file, data, p)
	if err == nil && p.Extends != "" {
		p, err = d.extend(p.Extends)
	}
	if err != nil {
		return nil, err
	}
	p.tokenParameters = []string{"access_token"}
	for _, r := range p.Resources {
		p.tokenParameters = append(p.tokenParameters, r.Query...)
	}
	slices.Sort(p.tokenParameters)
	p.tokenParameters = slices.Compact(p.tokenParameters)
	if !slices.Contains(p.Grants, "refresh_token") {
		p.RefreshTokenLifetime, p.GrantLifetime = 0, 0 // not used
	}
	return p, d.first(p.problems())
}

// paths returns the paths of an endpoint or a resource.
func (p *profile) paths(endpoint string) []string {
	paths := slices.Clone(p.Endpoints[endpoint])
	for _, r := range p.Resources {
		if r.Endpoint == endpoint {
			paths = append(paths, r.Paths...)
		}
	}
	return paths
}

func (p *profile) newRefreshToken() credential { return p.RefreshTokenFormat.newCredential(nil) }

// having returns those endpoints of a list that the profile has.
func (p *profile) having(endpoints []string) []string {
	return slices.DeleteFunc(slices.Clone(endpoints), func(name string) bool { return len(p.paths(name)) == 0 })
}

func profileNames() []string {
	var names []string
	entries, _ := profileFiles.ReadDir("profiles") // embedded, so it is there
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), ".json"))
	}
	return names
}

// findScope returns the scope of a token, or false if the profile does not have
// it. Without a list of scopes it has every token.
func (p *profile) findScope(token string) (found scope, ok bool) {
	for _, s := range p.Scopes {
		if s.Name == token || p.ScopesIgnoreCase && strings.EqualFold(s.Name, token) {
			return s, true
		}
	}
	return scope{Name: token}, len(p.Scopes) == 0
}

// hasScope reports whether the profile has a scope token in this spelling.
func (p *profile) hasScope(token string) bool {
	found, ok := p.findScope(token)
	return ok && found.Name == token
}

// canonicalScope returns scope tokens in the profile's spelling, each once.
// unknown is the first that the profile does not have, or "".
func (p *profile) canonicalScope(tokens []string) (canonical []string, unknown string) {
	for _, token := range tokens {
		found, ok := p.findScope(token)
		if !ok {
			unknown = cmp.Or(unknown, token)
		}
		if !slices.Contains(canonical, found.Name) {
			canonical = append(canonical, found.Name)
		}
	}
	return canonical, unknown
}

func (p *profile) scopeNames() []string {
	var names []string
	for _, s := range p.Scopes {
		names = append(names, s.Name)
	}
	return names
}

// defaultScope is the scope of a request without one; see grantableScope.
func (p *profile) defaultScope() string {
	return *cmp.Or(p.DefaultScope, new(string))
}

// remembers reports whether a grant means that the user need not be asked for a
// scope again.
func (p *profile) remembers(g *grant, scope string) bool {
	if !g.Consented || !covers(g.Scope, scope) {
		return false
	}
	return p.ConsentMemory == "covered" || p.ConsentMemory == "equal" && g.Used != 0 && covers(scope, g.Scope)
}

// isTrue reads a service's own parameter as Ruby on Rails does.
func isTrue(value string) bool {
	return !slices.Contains([]string{"", "0", "f", "F", "false", "FALSE", "off", "OFF"}, value)
}

// withoutSignIn removes the demand for a sign-in from a query, and leaves every
// byte of the other parameters.
func (p *profile) withoutSignIn(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name)
		value, _ = url.QueryUnescape(value)
		switch {
		case p.PromptParameters[name] == "login":
			continue
		case name == "prompt":
			rest := slices.DeleteFunc(strings.Fields(value), func(word string) bool { return word == "login" || word == "select_account" })
			pair = parameters{{name, strings.Join(rest, " ")}}.encode()
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&")
}
