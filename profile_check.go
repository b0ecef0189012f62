package main

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"
)

// problems returns what is wrong with a profile: what the tags of its fields
// find, and what takes more than a tag.
func (p *profile) problems() memberErrors {
	all := tagProblems(p)
	p.checkPaths(&all)
	p.checkLists(&all)
	p.checkCredentials(&all)
	p.checkAnswers(&all)
	for i, rule := range p.Errors {
		for j, when := range rule.When {
			member, spaced := index(index("errors", i)+".when", j), strings.ReplaceAll(when, "-", " ")
			all.add(!isErrorSubject(when) && isErrorSubject(spaced), member, fmt.Sprintf("must be %q, with spaces", spaced))
			all.add(!isErrorSubject(when), member, fmt.Sprintf("%q is not a code, a reason, or a reason followed by a parameter or grant type; codes: %q; reasons: %q", when, slices.Sorted(maps.Keys(statusOf))[1:], reasons))
		}
		all.add(!isErrorText(rule.Error), index("errors", i)+".error", "has characters that RFC 6749 §5.2 does not allow")
	}
	return all
}

// wordLists are the lists that tags can name; see tagProblems.
var wordLists = map[string][]string{
	"endpoints":  endpointNames,
	"parameters": slices.Sorted(maps.Keys(isParameter)),
	"metadata":   clientMetadata,
	"grants":     grantNames,
	"faults":     faultNames,
	"client grants": append(slices.Clone(grantNames), // and registered ones that no profile has
		"urn:ietf:params:oauth:grant-type:jwt-bearer",
		"urn:ietf:params:oauth:grant-type:saml2-bearer", "urn:ietf:params:oauth:grant-type:token-exchange",
		"urn:openid:params:grant-type:ciba"),

	// Placeholders.
	"server facts":       serverFacts.names(),
	"token facts":        tokenFacts.names(),
	"jwt facts":          jwtFacts.names(),
	"resource facts":     resourceFacts.names(),
	"registration facts": registrationFacts.names(),
	"error facts":        toldFacts.names(),
}

// endpointNames are the endpoints of the protocol, and the resources.
var endpointNames = []string{"authorize", "oob", "token", "revoke", "introspect", "device_authorization", "metadata", "jwks", "registration", "userinfo", "tokeninfo", "instance"}

// grantNames are the grants that a profile may have.
var grantNames = []string{"authorization_code", "implicit", "password", "client_credentials", "refresh_token", deviceGrant}

// checkPaths refuses paths that the server cannot route. It asks the route table
// for the methods of each endpoint, and for the paths of the server's own pages.
func (p *profile) checkPaths(all *memberErrors) {
	for _, required := range []string{"authorize", "token", "oob"} {
		all.add(len(p.Endpoints[required]) == 0, "endpoints."+required, "has no path")
	}
	methods, isOwn := make(map[string]string), make(map[string]bool)
	for at, routes := range (&server{profile: p}).newRoutes() {
		for _, r := range routes {
			if r.form {
				isOwn[at] = true
			} else {
				methods[r.endpoint] = r.methods
			}
		}
	}
	taken := make(map[string]string) // by method and path
	take := func(member, endpoint, at string) {
		all.add(!isPath(at), member, fmt.Sprintf("%q is not a path", at))
		all.add(isOwn[at] || strings.HasPrefix(at, controlPath), member, at+" is a path of the server itself")
		for method := range strings.SplitSeq(methods[endpoint], ", ") {
			other := taken[method+at]
			all.add(other != "", member, at+" is already the path of "+other)
			taken[method+at] = member
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Endpoints)) {
		for i, at := range p.Endpoints[name] {
			take(index("endpoints."+name, i), name, at)
		}
	}
	for i, r := range p.Resources {
		for j, at := range r.Paths {
			take(index(index("resources", i)+".paths", j), r.Endpoint, at)
		}
	}
}

// isPath reports whether a request can have this path, in this spelling.
func isPath(at string) bool {
	return strings.HasPrefix(at, "/") && strings.TrimSuffix(at, "/") == strings.TrimSuffix(path.Clean(at), "/") &&
		!strings.ContainsFunc(at, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?#%", r) })
}

// checkLists refuses scopes and grants that are not in the profile's own lists.
func (p *profile) checkLists(all *memberErrors) {
	for i, s := range p.Scopes {
		member := index("scopes", i) + ".name"
		tokens, err := parseScope(s.Name, nil)
		all.add(err != nil || len(tokens) != 1, member, fmt.Sprintf("%q is not a scope token (RFC 6749 §3.3)", s.Name))
		all.add(slices.Index(p.scopeNames(), s.Name) != i, member, s.Name+" is already in the list")
	}
	listed := func(member string, tokens ...string) {
		for _, token := range tokens {
			all.add(!p.hasScope(token), member, fmt.Sprintf("%q is not in the list of scopes", token))
		}
	}
	listed("default_scope", strings.Fields(p.defaultScope())...)
	if p.Registration != nil {
		listed("registration.scope", strings.Fields(p.Registration.Scope)...)
	}
	for i, r := range p.Resources {
		for j, scope := range r.Scopes {
			listed(index(index("resources", i)+".scopes", j), scope)
		}
	}
	all.add(p.ResponseModes != nil && (len(p.ResponseModes) == 0 || p.ResponseModes[0] != "query"), "response_modes", "must begin with query, which is for requests without response_mode (RFC 6749 §4.1.2)")
	all.add(slices.Contains(p.Grants, deviceGrant) != (len(p.Endpoints["device_authorization"]) > 0), "grants", "must name the device grant if there is a path in endpoints.device_authorization, and only then (RFC 8628 §3.1); to do without, set the path to []")
	for grant, parameters := range p.RequiredParameters {
		all.oneOf("required_parameters."+grant, grant, p.Grants)
		all.add(p.RedirectURINotNeeded && grant == "authorization_code" && slices.Contains(parameters, "redirect_uri"),
			"redirect_uri_not_needed", "contradicts required_parameters.authorization_code")
	}
}

// checkCredentials checks how codes and tokens look.
func (p *profile) checkCredentials(all *memberErrors) {
	for member, f := range map[string]format{"code_format": p.CodeFormat, "access_token_format": p.AccessTokenFormat, "refresh_token_format": p.RefreshTokenFormat} {
		all.add(f.Encoding == "jwt" && member != "access_token_format", member+".encoding", "cannot be jwt: only access tokens can")
		all.add(f.Prefix != "" && (f.Encoding == "jwt" || !isUnreserved(f.Prefix)), member+".prefix", "is not a valid prefix of this token: jwt has none, and others have characters of RFC 3986 §2.3")
		all.add(f.Encoding != "jwt" && (f.Alg != "" || f.Header != nil || f.Claims != nil), member, "has alg, header or claims, which only jwt has")
		if f.Header != nil {
			header, _ := f.Header.value.(object)
			all.add(header.text("alg") != "${alg}", member+".header", `has no "alg": "${alg}" (RFC 7515 §4.1.1)`)
		}
		if f.Claims != nil {
			claims, _ := f.Claims.value.(object)
			all.add(claims.text("jti") != "${jti}", member+".claims", `has no "jti": "${jti}", by which the server finds the token`)
		}
	}
}

func (p *profile) checkAnswers(all *memberErrors) {
	for i, r := range p.Resources {
		member := index("resources", i)
		if r.Needs == "nothing" {
			all.checkFacts(member+".answer", r.Answer.value, `facts:"$server facts"`)
		}
		for j, scheme := range r.Schemes {
			all.add(!isToken(scheme), index(member+".schemes", j), "is not a scheme (RFC 9110 §11.1)")
		}
	}
	answer := func(member string, s shape, needed bool, has string) {
		_, isObject := s.value.(object)
		all.add(!isObject && (needed || s.value != nil), member, "must be an object, because the server answers with it")
		mentions := func(text string) bool { return strings.Trim(text, "${?}") == has }
		all.add(isObject && needed && has != "" && !slices.ContainsFunc(placeholders(s.value), mentions), member, "has no ${"+has+"}")
	}
	answer("token_answer", p.TokenAnswer, true, "access_token")
	answer("implicit_answer", p.ImplicitAnswer, slices.Contains(p.Grants, "implicit"), "access_token")
	all.add(p.RefreshTokenUse == "keep" && p.RefreshTokenGrace > 0, "refresh_token_grace", "has no meaning with refresh_token_use keep")
	answer("introspection_answer", p.IntrospectionAnswer, len(p.Endpoints["introspect"]) > 0, "")
	all.add(!isText(p.BasicChallenge), "basic_challenge", "is not a valid header (RFC 9110 §5)")
	mediaType, _, err := mime.ParseMediaType(p.JSONType)
	all.add(err != nil || mediaType != "application/json", "json_type", "must be application/json, perhaps with a charset")
	all.add((p.Registration != nil) != (len(p.Endpoints["registration"]) > 0), "registration", "goes with endpoints.registration: set both or neither")
}

// checkFacts refuses unknown placeholders in the value of a shape, and what only
// looks like a placeholder. The tag of the field lists those that are known.
func (e *memberErrors) checkFacts(member string, value any, tag reflect.StructTag) {
	names, isChecked := tag.Lookup("facts")
	if !isChecked {
		return
	}
	known := words(names)
	for _, text := range placeholders(value) {
		match := placeholder.FindStringSubmatch(text)
		switch {
		case match == nil || match[0] != text:
			e.add(true, member, text+" is not a placeholder: write ${name} or ${name?}, in lower case")
		case len(known) == 0:
			e.add(true, member, "cannot have placeholders such as "+text)
		case !slices.Contains(known, match[1]):
			e.add(true, member, fmt.Sprintf("${%s} is unknown here; expected one of %s", match[1], strings.Join(known, ", ")))
		}
	}
}

// framingHeaders say where an answer ends and how it is sent. Only the server
// may set them (RFC 9112 §6).
var framingHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// checkHeaders refuses malformed, repeated and framing header fields.
func (e *memberErrors) checkHeaders(member string, headers map[string]string) {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		at, key := member+"."+name, http.CanonicalHeaderKey(name)
		e.add(!isToken(name) || !isText(headers[name]), at, "is not a valid header (RFC 9110 §5)")
		e.add(seen[key], at, "occurs twice")
		e.add(slices.Contains(framingHeaders, key), at, "can only be set by the server, as can all of "+strings.Join(framingHeaders, ", ")+" (RFC 9112 §6)")
		seen[key] = true
	}
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
}
