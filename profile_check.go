package main

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
)

// problems returns what is wrong with a profile: what the tags of its fields
// find, and what needs more than a tag.
func (p *profile) problems() (all memberErrors) {
	all = tagProblems(p)
	p.checkPaths(&all)
	p.checkResources(&all)
	p.checkGrants(&all)
	p.checkScopes(&all)
	p.checkCredentials(&all)
	p.checkAnswers(&all)
	for i := range p.Errors {
		p.Errors[i].check(index("errors", i), &all)
	}
	return all
}

// checkPaths refuses paths that the server cannot route.
func (p *profile) checkPaths(all *memberErrors) {
	for _, required := range []string{"authorize", "token", "oob"} {
		all.add(len(p.Endpoints[required]) == 0, "endpoints."+required, "has no path")
	}
	taken := make(map[string]string) // by method and path
	take := func(member, at string, methods ...string) {
		all.add(!isPath(at), member, fmt.Sprintf("%q is not a path", at))
		all.add(slices.Contains(ownPaths, at) || strings.HasPrefix(at, controlPath), member, at+" is a path of the server itself")
		for _, method := range methods {
			other := taken[method+at]
			all.add(other != "", member, at+" is already the path of "+other)
			taken[method+at] = member
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Endpoints)) {
		methods := []string{"POST"}
		switch name {
		case "authorize":
			methods = []string{"GET", "POST"}
		case "metadata", "oob":
			methods = []string{"GET"}
		}
		for i, at := range p.Endpoints[name] {
			take(index("endpoints."+name, i), at, methods...)
		}
	}
	for i, r := range p.Resources {
		for j, at := range r.Paths {
			take(index(index("resources", i)+".paths", j), at, "GET")
		}
	}
}

// isPath reports whether a request can have this path, in this spelling.
func isPath(at string) bool {
	return strings.HasPrefix(at, "/") && strings.TrimSuffix(at, "/") == strings.TrimSuffix(path.Clean(at), "/") &&
		!strings.ContainsFunc(at, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?#%", r) })
}

func (p *profile) checkResources(all *memberErrors) {
	for i, r := range p.Resources {
		member := index("resources", i)
		known := resourceFacts.names()
		if r.Needs == "nothing" {
			known = serverFacts.names()
		}
		all.checkShape(member+".answer", r.Answer.value, known)
		all.add(r.Schemes != nil && len(r.Schemes) == 0, member+".schemes", "is empty")
		for j, scheme := range r.Schemes {
			all.add(!isToken(scheme), index(member+".schemes", j), "is not a scheme (RFC 9110 §11.1)")
		}
		for j, scope := range r.Scopes {
			all.add(!p.hasScope(scope), index(member+".scopes", j), "is not in the list of scopes")
		}
	}
}

func (p *profile) checkGrants(all *memberErrors) {
	all.add(p.RedirectURINotNeeded && slices.Contains(p.RequiredParameters["authorization_code"], "redirect_uri"),
		"redirect_uri_not_needed", "contradicts required_parameters.authorization_code")
	for grant, parameters := range p.RequiredParameters {
		member := "required_parameters." + grant
		all.oneOf(member, grant, p.Grants)
		for i, parameter := range parameters {
			all.oneOf(index(member, i), parameter, slices.Sorted(maps.Keys(isParameter)))
		}
	}
}

func (p *profile) checkScopes(all *memberErrors) {
	for i, s := range p.Scopes {
		member := index("scopes", i) + ".name"
		tokens, err := parseScope(s.Name)
		all.add(err != nil || len(tokens) != 1, member, fmt.Sprintf("%q is not a scope token (RFC 6749 §3.3)", s.Name))
		all.add(slices.Index(p.scopeNames(), s.Name) != i, member, s.Name+" is already in the list")
	}
	listed := func(member, scope string) {
		for token := range strings.FieldsSeq(scope) {
			all.add(!p.hasScope(token), member, fmt.Sprintf("%q is not in the list of scopes", token))
		}
	}
	listed("default_scope", p.defaultScope())
	if p.Registration != nil {
		listed("registration.scope", p.Registration.Scope)
	}
}

// maxLifetime is the longest lifetime of a token, in seconds: a hundred years.
const maxLifetime seconds = 100 * 365 * 24 * 60 * 60

// checkCredentials checks how codes and tokens look and how long they live.
func (p *profile) checkCredentials(all *memberErrors) {
	refreshes := slices.Contains(p.Grants, "refresh_token")
	lifetime := func(member string, lifetime seconds, needed bool) {
		all.add(needed && lifetime < 0, member, "is missing or negative; 0 means forever")
		all.add(lifetime > maxLifetime, member, "is longer than a hundred years; 0 means forever")
	}
	lifetime("access_token_lifetime", p.AccessTokenLifetime, true)
	lifetime("refresh_token_lifetime", p.RefreshTokenLifetime, refreshes)
	lifetime("grant_lifetime", p.GrantLifetime, refreshes)
	for member, f := range map[string]format{"code_format": p.CodeFormat, "access_token_format": p.AccessTokenFormat, "refresh_token_format": p.RefreshTokenFormat} {
		all.add(f.Encoding == "jwt" && member != "access_token_format", member+".encoding", "cannot be jwt: only access tokens can")
		all.add(f.Prefix != "" && (f.Encoding == "jwt" || !isUnreserved(f.Prefix)), member+".prefix", "is not a valid prefix of this token")
	}
}

func (p *profile) checkAnswers(all *memberErrors) {
	answer := func(member string, s shape, known []string, needed bool, has string) {
		_, isObject := s.value.(object)
		all.add(!isObject && (needed || s.value != nil), member, "must be an object, because the server answers with it")
		all.checkShape(member, s.value, known)
		mentions := func(text string) bool { return strings.Trim(text, "${?}") == has }
		all.add(isObject && needed && has != "" && !slices.ContainsFunc(placeholders(s.value), mentions), member, "has no ${"+has+"}")
	}
	answer("token_answer", p.TokenAnswer, tokenFacts.names(), true, "access_token")
	answer("implicit_answer", p.ImplicitAnswer, tokenFacts.names(), slices.Contains(p.Grants, "implicit"), "access_token")
	answer("introspection_answer", p.IntrospectionAnswer, resourceFacts.names(), len(p.Endpoints["introspect"]) > 0, "")
	all.add(!isText(p.BasicChallenge), "basic_challenge", "is not a valid header (RFC 9110 §5)")
	mediaType, _, err := mime.ParseMediaType(p.JSONType)
	all.add(err != nil || mediaType != "application/json", "json_type", "must be application/json, perhaps with a charset")
	all.checkHeaderShapes("token_headers", p.TokenHeaders, nil)
	if p.RevocationAnswer != nil {
		all.checkShape("revocation_answer", p.RevocationAnswer.value, nil)
	}
	all.add((p.Registration != nil) != (len(p.Endpoints["registration"]) > 0), "registration", "and endpoints.registration go together: set both or neither")
	if p.Registration != nil {
		all.checkShape("registration.answer", p.Registration.Answer.value, registrationFacts.names())
	}
}

// checkShape refuses unknown placeholders, and what only looks like a placeholder.
func (e *memberErrors) checkShape(member string, value any, known []string) {
	for _, text := range placeholders(value) {
		match := placeholder.FindStringSubmatch(text)
		if match == nil || match[0] != text {
			e.add(true, member, text+" is not a placeholder: write ${name} or ${name?}, in lower case")
			continue
		}
		e.add(known == nil, member, "cannot have placeholders such as "+text)
		e.add(known != nil && !slices.Contains(known, match[1]), member, fmt.Sprintf("${%s} is unknown here; expected one of %s", match[1], strings.Join(known, ", ")))
	}
}

// framingHeaders say where an answer ends and how it is sent. Only the server
// may set them (RFC 9112 §6).
var framingHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// checkHeaderShapes is checkHeaders for values with placeholders.
func (e *memberErrors) checkHeaderShapes(member string, headers map[string]string, known []string) {
	e.checkHeaders(member, headers)
	for name, value := range headers {
		e.checkShape(member+"."+name, value, known)
	}
}

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
