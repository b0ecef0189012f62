package main

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"maps"
	"mime"
	"os"
	"path"
	"slices"
	"strings"
)

//go:embed profiles
var profileFiles embed.FS

// profile is what differs between the services that grantling stands in for,
// as data: where things are, what is offered and how answers look. What is
// checked is the same for all. README.md has an example of the file.
type profile struct {
	Name  string `json:"name"`
	Title string `json:"title"` // what pages call the service

	// Endpoints has the paths of the protocol endpoints, by the names of the
	// control API; the first path is the one that is told.
	Endpoints map[string][]string `json:"endpoints"`
	// Resources are what an access token gives access to, and open documents.
	Resources []resource `json:"resources"`

	Bodies           []string `json:"bodies"`             // of POST requests: form, json, multipart
	OtherBodiesEmpty bool     `json:"other_bodies_empty"` // bodies of another type count as empty, instead of being refused

	Grants            []string `json:"grants"`        // grant types, and implicit
	Scopes            []scope  `json:"scopes"`        // none: any scope token will do
	DefaultScope      *string  `json:"default_scope"` // of who asks for none; absent: all that the client is registered for
	ScopesIgnoreCase  bool     `json:"scopes_ignore_case"`
	TokenScopeIgnored bool     `json:"token_scope_ignored"` // the token endpoint does not look at scope
	// RequiredParameters of token requests, by grant type, besides those that
	// RFC 6749 requires.
	RequiredParameters    map[string][]string `json:"required_parameters"`
	ParametersFirst       bool                `json:"parameters_first"`          // required parameters are looked at before the client is
	RedirectURINotNeeded  bool                `json:"redirect_uri_not_needed"`   // at the token endpoint; what is sent is still compared (RFC 6749 §4.1.3)
	OtherSchemesIgnored   bool                `json:"other_schemes_ignored"`     // an Authorization header that is not Basic is no client authentication
	BasicAndBody          bool                `json:"basic_and_body"`            // a client may authenticate in both ways at once, by the same credentials
	SecretInBody          bool                `json:"secret_in_body"`            // the service's page puts it there: no reason to warn
	PKCEOptional          bool                `json:"pkce_optional"`             // public clients may do without; confidential ones are not warned
	RevokesNothing        bool                `json:"revokes_nothing"`           // a revocation without a token is answered like one of an unknown token
	ClientActsForOwner    bool                `json:"client_acts_for_owner"`     // tokens by client credentials stand for the client's owner
	ClientScopeHasNoForce bool                `json:"client_scope_has_no_force"` // tokens by client credentials have no scope, whatever is asked for
	AnyScheme             bool                `json:"any_scheme"`                // redirect URIs may be myapp://, without a dot (RFC 8252 §7.1)

	redirectHosts []string // of http redirect URIs besides loopback ones: not of the file, but the operator's

	// Lifetimes in seconds, each to be said; 0 is for ever, but for codes. The
	// last two are of no matter where there is no refresh_token grant.
	CodeLifetime         seconds `json:"code_lifetime"` // at most 600
	AccessTokenLifetime  seconds `json:"access_token_lifetime"`
	RefreshTokenLifetime seconds `json:"refresh_token_lifetime"` // from one use to the next
	GrantLifetime        seconds `json:"grant_lifetime"`         // of all refreshing together

	CodeFormat             format `json:"code_format"`
	AccessTokenFormat      format `json:"access_token_format"`
	RefreshTokenFormat     format `json:"refresh_token_format"`
	TokenType              string `json:"token_type"`
	RefreshEndsAccessToken bool   `json:"refresh_ends_access_token"` // the one issued before

	// The authorization endpoint.
	Iss              bool              `json:"iss"`               // answers carry iss (RFC 9207)
	ImplicitInQuery  bool              `json:"implicit_in_query"` // instead of the fragment (RFC 6749 §4.2.2)
	PromptParameters map[string]string `json:"prompt_parameters"` // of the service's own, with the prompt value that each stands for when it is true
	ConsentMemory    string            `json:"consent_memory"`    // when the user is not asked again: covered, equal, never

	// Answers.
	JSONType            string            `json:"json_type"` // Content-Type of JSON
	TokenAnswer         shape             `json:"token_answer"`
	ImplicitAnswer      shape             `json:"implicit_answer"` // each member a parameter of the redirect (RFC 6749 §4.2.2)
	TokenHeaders        map[string]string `json:"token_headers"`
	IntrospectionAnswer shape             `json:"introspection_answer"`
	RevocationAnswer    *shape            `json:"revocation_answer"` // absent: {}
	Registration        *registration     `json:"registration"`
	BasicChallenge      string            `json:"basic_challenge"` // WWW-Authenticate where HTTP Basic failed (RFC 6749 §5.2)

	// Errors says how refusals are told, by what they are about, from the
	// general to the particular: "*", "invalid_grant", "code expired",
	// "token *", "token invalid_grant", "token code expired". Each adds to
	// what those before it say.
	Errors map[string]errorForm `json:"errors"`
}

// scope is a scope token with what people are told it allows.
type scope struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// resource is a GET endpoint whose answer is filled from what the token stands for.
type resource struct {
	Endpoint string   `json:"endpoint"` // userinfo, tokeninfo, or instance for what needs no token
	Paths    []string `json:"paths"`
	Needs    string   `json:"needs"`   // user, token or nothing
	Scopes   []string `json:"scopes"`  // one of them is needed; none: any token will do
	Schemes  []string `json:"schemes"` // of the Authorization header; default Bearer (RFC 6750 §2.1)
	Query    []string `json:"query"`   // parameters that may carry the token instead (RFC 6750 §2.3)
	Answer   shape    `json:"answer"`
}

// errorForm is how a refusal is told. What is absent stays as it is.
type errorForm struct {
	Status      int               `json:"status"`
	Error       string            `json:"error"`
	Description string            `json:"description"`
	Hint        string            `json:"hint"`
	Body        *shape            `json:"body"`
	Headers     map[string]string `json:"headers"` // an empty one is not sent
	By          string            `json:"by"`      // at the authorization endpoint: page, json or redirect
}

// loadProfile reads an embedded profile by its name, or a file. Errors name
// file, line and key.
func loadProfile(name string) (*profile, error) {
	file := "profiles/" + name + ".json"
	data, err := profileFiles.ReadFile(file)
	if err != nil {
		file = name
		if data, err = os.ReadFile(name); err != nil {
			if !strings.ContainsAny(name, "./\\") {
				return nil, fmt.Errorf("profile %s: there is none of that name; there are %s", name, strings.Join(profileNames(), ", "))
			}
			return nil, fmt.Errorf("profile: %w", err)
		}
	}
	return parseProfile(file, data)
}

func parseProfile(file string, data []byte) (*profile, error) {
	p := &profile{TokenType: "Bearer", Iss: true, Bodies: []string{"form"}, ConsentMemory: "covered",
		JSONType: "application/json", BasicChallenge: `Basic realm="grantling", charset="UTF-8"`,
		AccessTokenLifetime: unsaid, RefreshTokenLifetime: unsaid, GrantLifetime: unsaid}
	d, err := parseDocument(file, data, p)
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, d.problem("", err)
	}
	return p, nil
}

// unsaid is the lifetime that a profile does not have.
const unsaid seconds = -1

// paths returns where an endpoint answers, resources included.
func (p *profile) paths(endpoint string) []string {
	paths := slices.Clone(p.Endpoints[endpoint])
	for _, r := range p.Resources {
		if r.Endpoint == endpoint {
			paths = append(paths, r.Paths...)
		}
	}
	return paths
}

// having returns those of some endpoints that the profile has.
func (p *profile) having(endpoints []string) []string {
	return slices.DeleteFunc(slices.Clone(endpoints), func(name string) bool { return len(p.paths(name)) == 0 })
}

func profileNames() []string {
	var names []string
	entries, err := profileFiles.ReadDir("profiles")
	if err != nil {
		panic(err) // embedded
	}
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), ".json"))
	}
	return names
}

// The words that a profile may use.
var (
	endpointNames = []string{"authorize", "oob", "token", "revoke", "introspect", "metadata", "registration"}
	resourceNames = []string{"userinfo", "tokeninfo", "instance"}
	grantNames    = []string{"authorization_code", "implicit", "password", "client_credentials", "refresh_token"}
	// foreignGrants exist, but in no profile.
	foreignGrants = []string{
		"urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer",
		"urn:ietf:params:oauth:grant-type:saml2-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
		"urn:openid:params:grant-type:ciba",
	}
	// errorCodes and errorReasons are what a refusal may be about.
	errorCodes = []string{
		"access_denied", "consent_required", "insufficient_scope", "invalid_client", "invalid_client_metadata", "invalid_grant", "invalid_request",
		"invalid_scope", "invalid_token", "login_required", "server_error", "temporarily_unavailable", "unauthorized_client",
		"unsupported_grant_type", "unsupported_response_type",
	}
	errorReasons = []string{
		"code expired", "code of another client", "code revoked", "code used", "code_challenge_method", "code_verifier", "fragment", "insecure",
		"invalid", "malformed", "malformed body", "missing", "missing client", "no scheme", "no token", "no user", "parameter", "public client",
		"redirect_uri", "redirect_uri differs", "redirect_uri not registered", "refresh token expired", "refresh token of another client",
		"refresh token revoked", "refresh token used", "relative", "scheme", "token expired", "token of another client", "token revoked",
		"too long", "two authentications", "unknown client", "unknown code", "unknown refresh token",
	}
)

// isErrorKey reports whether a key of errors may say something: *, a code, or a
// reason, perhaps with the parameter that it is about, or the grant type that
// has one; each perhaps at an endpoint.
func isErrorKey(key string) bool {
	is := func(key string) bool {
		return key == "*" || slices.Contains(errorCodes, key) || slices.ContainsFunc(errorReasons, func(reason string) bool {
			parameter, found := strings.CutPrefix(key, reason+" ")
			return key == reason || found && (isParameter[parameter] || slices.Contains(registrationMembers, parameter) || slices.Contains(grantNames, parameter))
		})
	}
	endpoint, rest, _ := strings.Cut(key, " ")
	return is(key) || is(rest) && slices.Contains(slices.Concat(endpointNames, resourceNames), endpoint)
}

// check refuses a profile that contradicts itself.
func (p *profile) check() error {
	for _, check := range []func() error{p.checkPaths, p.checkResources, p.checkGrants, p.checkScopes, p.checkCredentials, p.checkAnswers, p.checkErrors} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(member, value string, known ...string) error {
	if !slices.Contains(known, value) {
		return wrong(member, fmt.Sprintf("%q is not one of %s", value, strings.Join(known, ", ")))
	}
	return nil
}

// checkPaths refuses what the server cannot have a route for.
func (p *profile) checkPaths() error {
	for _, required := range []string{"authorize", "token", "oob"} {
		if len(p.Endpoints[required]) == 0 {
			return wrong("endpoints."+required, "has no path")
		}
	}
	taken := make(map[string]string) // method and path
	take := func(member, at string, methods ...string) error {
		if !isPath(at) {
			return wrong(member, fmt.Sprintf("%q is not a path", at))
		}
		if slices.Contains(ownPaths, at) || strings.HasPrefix(at, controlPath) {
			return wrong(member, at+" is the server's own")
		}
		for _, method := range methods {
			if other := taken[method+at]; other != "" {
				return wrong(member, at+" is the path of "+other+" already")
			}
			taken[method+at] = member
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.Endpoints)) {
		if err := oneOf("endpoints."+name, name, endpointNames...); err != nil {
			return err
		}
		methods := []string{"POST"}
		switch name {
		case "authorize":
			methods = []string{"GET", "POST"}
		case "metadata", "oob":
			methods = []string{"GET"}
		}
		for i, at := range p.Endpoints[name] {
			if err := take(fmt.Sprintf("endpoints.%s[%d]", name, i), at, methods...); err != nil {
				return err
			}
		}
	}
	for i, r := range p.Resources {
		for j, at := range r.Paths {
			if err := take(fmt.Sprintf("resources[%d].paths[%d]", i, j), at, "GET"); err != nil {
				return err
			}
		}
	}
	return nil
}

// isPath reports whether requests can come to a path, so written.
func isPath(at string) bool {
	return strings.HasPrefix(at, "/") && strings.TrimSuffix(at, "/") == strings.TrimSuffix(path.Clean(at), "/") &&
		!strings.ContainsFunc(at, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?#%", r) })
}

func (p *profile) checkResources() error {
	for i, r := range p.Resources {
		member := fmt.Sprintf("resources[%d]", i)
		known := resourceFacts
		if r.Needs == "nothing" {
			known = openFacts
		}
		err := errors.Join(
			oneOf(member+".endpoint", r.Endpoint, resourceNames...),
			oneOf(member+".needs", r.Needs, "user", "token", "nothing"),
			checkShape(member+".answer", r.Answer, known))
		if len(r.Paths) == 0 {
			err = errors.Join(err, wrong(member+".paths", "has no path"))
		}
		if r.Schemes != nil && len(r.Schemes) == 0 {
			err = errors.Join(err, wrong(member+".schemes", "has none"))
		}
		for j, scheme := range r.Schemes {
			if !isToken(scheme) {
				err = errors.Join(err, wrong(fmt.Sprintf("%s.schemes[%d]", member, j), "is no scheme (RFC 9110 §11.1)"))
			}
		}
		for j, scope := range r.Scopes {
			if !p.hasScope(scope) {
				err = errors.Join(err, wrong(fmt.Sprintf("%s.scopes[%d]", member, j), "is not in the list of scopes"))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkGrants checks what the two endpoints take.
func (p *profile) checkGrants() error {
	switch {
	case p.Name == "":
		return wrong("name", "is missing")
	case p.Title == "":
		return wrong("title", "is missing")
	case len(p.Bodies) == 0:
		return wrong("bodies", "has none")
	case len(p.Grants) == 0:
		return wrong("grants", "has none")
	case p.RedirectURINotNeeded && slices.Contains(p.RequiredParameters["authorization_code"], "redirect_uri"):
		return wrong("redirect_uri_not_needed", "contradicts required_parameters.authorization_code")
	}
	for i, body := range p.Bodies {
		if err := oneOf(fmt.Sprintf("bodies[%d]", i), body, slices.Sorted(maps.Values(bodyTypes))...); err != nil {
			return err
		}
	}
	for i, grant := range p.Grants {
		if err := oneOf(fmt.Sprintf("grants[%d]", i), grant, grantNames...); err != nil {
			return err
		}
	}
	for name, parameters := range p.RequiredParameters {
		member := "required_parameters." + name
		if err := oneOf(member, name, p.Grants...); err != nil {
			return err
		}
		for i, parameter := range parameters {
			if !isParameter[parameter] {
				return wrong(fmt.Sprintf("%s[%d]", member, i), fmt.Sprintf("%q is no parameter; there are %s", parameter, strings.Join(slices.Sorted(maps.Keys(isParameter)), ", ")))
			}
		}
	}
	for name, prompt := range p.PromptParameters {
		if err := oneOf("prompt_parameters."+name, prompt, "login", "consent"); err != nil {
			return err
		}
	}
	return oneOf("consent_memory", p.ConsentMemory, "covered", "equal", "never")
}

func (p *profile) checkScopes() error {
	for i, s := range p.Scopes {
		member := fmt.Sprintf("scopes[%d].name", i)
		if tokens, err := parseScope(s.Name); err != nil || len(tokens) != 1 {
			return wrong(member, fmt.Sprintf("%q is not a scope token (RFC 6749 §3.3)", s.Name))
		}
		if slices.Index(p.scopeNames(), s.Name) != i {
			return wrong(member, s.Name+" is in the list already")
		}
	}
	for token := range strings.FieldsSeq(p.defaultScope()) {
		if !p.hasScope(token) {
			return wrong("default_scope", fmt.Sprintf("%q is not in the list of scopes", token))
		}
	}
	return nil
}

// checkCredentials checks how codes and tokens look and how long they live.
func (p *profile) checkCredentials() error {
	lifetimes := map[string]seconds{"access_token_lifetime": p.AccessTokenLifetime}
	if slices.Contains(p.Grants, "refresh_token") {
		lifetimes["refresh_token_lifetime"], lifetimes["grant_lifetime"] = p.RefreshTokenLifetime, p.GrantLifetime
	}
	for member, lifetime := range lifetimes {
		if lifetime < 0 {
			return wrong(member, "is missing or negative; 0 is for ever")
		}
		if lifetime > maxLifetime {
			return wrong(member, "is longer than a hundred years; 0 is for ever")
		}
	}
	if p.CodeLifetime < 1 || p.CodeLifetime > 600 {
		return wrong("code_lifetime", "must be 1 to 600 seconds (RFC 6749 §4.1.2)")
	}
	for member, f := range map[string]format{"code_format": p.CodeFormat, "access_token_format": p.AccessTokenFormat, "refresh_token_format": p.RefreshTokenFormat} {
		known := []string{"base64url", "hex"}
		if member == "access_token_format" {
			known = append(known, "jwt")
		}
		if f.Encoding != "" {
			if err := oneOf(member+".encoding", f.Encoding, known...); err != nil {
				return err
			}
		}
		if f.Prefix != "" && (f.Encoding == "jwt" || !isUnreserved(f.Prefix)) {
			return wrong(member+".prefix", "cannot begin such a token")
		}
	}
	return nil
}

func (p *profile) checkAnswers() error {
	for _, answer := range []struct {
		member string
		shape  shape
		needed bool
		known  []string
		has    string // what it is for, or ""
	}{
		{"token_answer", p.TokenAnswer, true, tokenFacts, "access_token"},
		{"implicit_answer", p.ImplicitAnswer, slices.Contains(p.Grants, "implicit"), tokenFacts, "access_token"},
		{"introspection_answer", p.IntrospectionAnswer, len(p.Endpoints["introspect"]) > 0, resourceFacts, ""},
	} {
		if _, ok := answer.shape.value.(object); !ok && (answer.needed || answer.shape.value != nil) {
			return wrong(answer.member, "must be an object: something answers with it")
		}
		if err := checkShape(answer.member, answer.shape, answer.known); err != nil {
			return err
		}
		if answer.needed && answer.has != "" && !answer.shape.mentions(answer.has) {
			return wrong(answer.member, "has no ${"+answer.has+"}")
		}
	}
	if !isText(p.BasicChallenge) {
		return wrong("basic_challenge", "is no header (RFC 9110 §5)")
	}
	if mediaType, _, err := mime.ParseMediaType(p.JSONType); err != nil || mediaType != "application/json" {
		return wrong("json_type", "must be application/json, perhaps with a charset")
	}
	if err := checkHeaderShapes("token_headers", p.TokenHeaders, nil); err != nil {
		return err
	}
	if p.RevocationAnswer != nil {
		if err := checkShape("revocation_answer", *p.RevocationAnswer, nil); err != nil {
			return err
		}
	}
	if (p.Registration != nil) != (len(p.Endpoints["registration"]) > 0) {
		return wrong("registration", "goes with endpoints.registration: both or none")
	}
	if p.Registration != nil {
		return p.Registration.check(p)
	}
	return nil
}

func (p *profile) checkErrors() error {
	for _, key := range slices.Sorted(maps.Keys(p.Errors)) {
		if err := p.Errors[key].check("errors." + key); err != nil {
			return err
		}
		if !isErrorKey(key) {
			return wrong("errors."+key, "is nothing that a refusal may be about; there are *, "+strings.Join(slices.Concat(errorCodes, errorReasons), ", ")+"; a reason may have a parameter or a grant type behind it, and each an endpoint before it")
		}
	}
	return nil
}

// check refuses a form that cannot be told.
func (e errorForm) check(member string) error {
	if e.Status != 0 && (e.Status < 400 || e.Status > 499) {
		return wrong(member+".status", "must be one of 400 to 499: the client is to blame (RFC 9110 §15.5)")
	}
	if !isErrorText(e.Error) {
		return wrong(member+".error", "has characters that RFC 6749 §5.2 does not allow")
	}
	if e.By != "" && !slices.Contains([]string{"page", "json", "redirect"}, e.By) {
		return wrong(member+".by", fmt.Sprintf("%q is not one of page, json, redirect", e.By))
	}
	var err error
	if e.Body != nil {
		err = checkShape(member+".body", *e.Body, errorFacts)
	}
	return errors.Join(err,
		checkHeaderShapes(member+".headers", e.Headers, errorFacts),
		checkShape(member+".description", shape{e.Description}, []string{"parameter"}),
		checkShape(member+".hint", shape{e.Hint}, []string{"parameter", "description"}))
}

// checkShape refuses placeholders that nothing stands behind, and what looks
// like one and is none.
func checkShape(member string, s shape, known []string) error {
	return s.placeholders(func(text string) error {
		switch match := placeholder.FindStringSubmatch(text); {
		case match == nil || match[0] != text:
			return wrong(member, text+" is no placeholder: those are ${name} and ${name?}, in small letters")
		case !slices.Contains(known, match[1]):
			return wrong(member, fmt.Sprintf("${%s} is not known here; there are %s", match[1], cmp.Or(strings.Join(known, ", "), "none")))
		}
		return nil
	})
}

// checkHeaderShapes refuses what an answer cannot have in its header.
func checkHeaderShapes(member string, headers map[string]string, known []string) error {
	if err := checkHeaders(member, headers); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if err := checkShape(member+"."+name, shape{headers[name]}, known); err != nil {
			return err
		}
	}
	return nil
}

// tokenParameters are what a token may come in besides the Authorization
// header, in this profile or by RFC 6750 §2.3.
func (p *profile) tokenParameters() []string {
	names := []string{"access_token"}
	for _, r := range p.Resources {
		for _, name := range r.Query {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// tokenGrants are the grants of the token endpoint: the implicit grant is the
// authorization endpoint's (RFC 6749 §4.2).
func (p *profile) tokenGrants() []string {
	return slices.DeleteFunc(slices.Clone(p.Grants), func(grant string) bool { return grant == "implicit" })
}

// canonicalScope returns scope tokens in the profile's spelling, each once.
// unknown is the first that the profile does not have, or "".
func (p *profile) canonicalScope(tokens []string) (canonical []string, unknown string) {
	for _, token := range tokens {
		for _, s := range p.Scopes {
			if p.ScopesIgnoreCase && strings.EqualFold(s.Name, token) {
				token = s.Name
			}
		}
		if unknown == "" && !p.hasScope(token) {
			unknown = token
		}
		if !slices.Contains(canonical, token) {
			canonical = append(canonical, token)
		}
	}
	return canonical, unknown
}

// hasScope reports whether the profile has a scope token, so spelt.
func (p *profile) hasScope(token string) bool {
	return len(p.Scopes) == 0 || slices.Contains(p.scopeNames(), token)
}

func (p *profile) scopeNames() []string {
	var names []string
	for _, s := range p.Scopes {
		names = append(names, s.Name)
	}
	return names
}

// defaultScope is what the profile gives who asks for no scope; see grantableScope.
func (p *profile) defaultScope() string {
	if p.DefaultScope == nil {
		return ""
	}
	return *p.DefaultScope
}

// describeScope is what people are told that a scope token allows.
func (p *profile) describeScope(token string) string {
	for _, s := range p.Scopes {
		if s.Name == token {
			return s.Description
		}
	}
	return ""
}

// told is a refusal in the profile's words.
type told struct {
	*refusal
	hint    string
	state   string // of the authorization request
	body    *shape
	ownBody bool // body is said for this endpoint in particular
	headers map[string]string
	by      string
}

// tell words a refusal as the profile's errors say for this endpoint.
func (p *profile) tell(endpoint string, r *refusal) told {
	words := *r
	t := told{refusal: &words, headers: make(map[string]string)}
	keys := []string{"*", r.Code, r.Reason, r.Reason + " " + r.Parameter}
	for _, key := range slices.Clone(keys) {
		keys = append(keys, endpoint+" "+key)
	}
	for i, key := range keys {
		form, ok := p.Errors[key]
		if !ok {
			continue
		}
		if form.Body != nil {
			t.body, t.ownBody = form.Body, i >= len(keys)/2
		}
		if form.By != "" {
			t.by = form.By
		}
		maps.Copy(t.headers, form.Headers)
		if r.Status >= 500 {
			continue // the server's own failure is never told as another's
		}
		if form.Status != 0 {
			words.Status = form.Status
		}
		if form.Error != "" {
			words.Code = form.Error
		}
		if form.Description != "" {
			words.Description = form.Description
		}
		if form.Hint != "" {
			t.hint = form.Hint
		}
	}
	f := t.facts()
	words.Description = fillText(words.Description, f)
	if r.Parameter == "" && strings.Contains(t.hint, "${parameter") {
		t.hint = "" // there is nothing to name
	}
	t.hint = fillText(t.hint, f)
	return t
}

// errorFacts are the placeholders of error answers; descriptions and hints
// know ${parameter}.
var errorFacts = []string{"error", "description", "hint", "status", "parameter", "state"}

func (t told) facts() facts {
	f := facts{"description": t.Description, "status": t.Status}
	for name, value := range map[string]string{"error": t.Code, "hint": t.hint, "parameter": t.Parameter, "state": t.state} {
		if value != "" {
			f[name] = value
		}
	}
	return f
}

// remembers reports whether a grant is reason enough not to ask the user
// about a scope again.
func (p *profile) remembers(g *grant, scope string) bool {
	switch {
	case !g.Consented:
		return false
	case p.ConsentMemory == "covered":
		return covers(g.Scope, scope)
	case p.ConsentMemory == "equal":
		return g.Used != 0 && covers(g.Scope, scope) && covers(scope, g.Scope)
	}
	return false
}
