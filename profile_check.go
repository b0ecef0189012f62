package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
)

// isHeader reports whether an answer may have such a header field (RFC 9110 §5.1, §5.5).
func isHeader(name, value string) bool { return isToken(name) && isText(value) }

// framingHeaders are the server's own to set: they say where an answer ends, and
// how it travels (RFC 9112 §6).
var framingHeaders = []string{"Connection", "Content-Encoding", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// checkHeaders refuses what is no header field, one that is there twice, and
// one that would break the framing of the answer.
func checkHeaders(member string, headers map[string]string) error {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		key := http.CanonicalHeaderKey(name)
		if !isHeader(name, headers[name]) {
			return wrong(member+"."+name, "is no header (RFC 9110 §5)")
		}
		if seen[key] {
			return wrong(member+"."+name, "is there twice")
		}
		if slices.Contains(framingHeaders, key) {
			return wrong(member+"."+name, "is the server's own to set, as are all of "+strings.Join(framingHeaders, ", ")+" (RFC 9112 §6)")
		}
		seen[key] = true
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
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
	for i := range p.Errors {
		if err := p.Errors[i].check(fmt.Sprintf("errors[%d]", i)); err != nil {
			return err
		}
	}
	return nil
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
