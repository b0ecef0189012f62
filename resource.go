package main

import (
	"net/url"
	"slices"
	"strings"
)

// maxResources is how many characters the resources of a request may have together,
// so that a token that names them fits into a header.
const maxResources = 1000

// parseResources reads the resource parameters of a request, of which there may be
// several (RFC 8707 §2). Empty ones count as not sent (RFC 6749 §3.1).
func (x *exchange) parseResources(sent []string, p *profile) error {
	x.resources = nil
	if !p.ResourceIndicators {
		return nil
	}
	for _, resource := range sent {
		if resource != "" && !slices.Contains(x.resources, resource) {
			x.resources = append(x.resources, resource)
		}
	}
	areURIs := !slices.ContainsFunc(x.resources, func(resource string) bool { return !isResource(resource) })
	if !x.holds(resourceMalformed, areURIs && len(strings.Join(x.resources, "")) <= maxResources) {
		return invalidTarget(rfc8707("2"), resourceMalformed, "resource must be an absolute URI without a fragment, and all of them together at most 1000 characters").about("resource")
	}
	return nil
}

// isResource reports whether a text is an absolute URI without a fragment (RFC 3986
// §4.3).
func isResource(text string) bool {
	u, err := url.Parse(text)
	if err == nil {
		_, err = url.PathUnescape(u.Opaque)
	}
	return err == nil && u.IsAbs() && (u.Host != "" || u.Scheme != "https" && u.Scheme != "http") &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("#\"<>\\^`{|}", r) })
}

// tokenResources are the resource parameters of a token request. In JSON they may be
// an array.
func (x *exchange) tokenResources() []string {
	sent := x.form["resource"]
	if isTexts, isList := x.lists["resource"]; isTexts {
		sent = x.form["resource[]"]
	} else if isList {
		sent = []string{"{}"} // malformed
	}
	return sent
}

// withResources refuses a token request for a resource that the spent grant does not
// have (RFC 8707 §2.2).
//
// Choice: a grant without resources has none to ask for later. The user agreed to a
// token for this server, not to one for another.
func (x *exchange) withResources(g *grant, err error) (*grant, error) {
	if err != nil {
		return nil, err
	}
	if !x.holds(resourceNotGranted, g.hasResources(x.resources)) {
		return nil, invalidTarget(rfc8707("2.2"), resourceNotGranted, "resource must be one of those in the authorization request; without resource the token is for all of them").about("resource")
	}
	return g, nil
}

// hasResources reports whether the grant is for all of these resources.
func (g *grant) hasResources(asked []string) bool {
	return !slices.ContainsFunc(asked, func(resource string) bool { return !slices.Contains(g.Resources, resource) })
}

// resourcesFor returns the resources of an access token: those that the request asks
// for or, without any, all of the grant. g is nil for the client's own token.
func (g *grant) resourcesFor(asked []string) []string {
	if g == nil || len(asked) > 0 {
		return asked
	}
	return g.Resources
}

// coversResources reports whether a consent to the grant was one to these resources.
// Without any, it is one to a token for this server.
func (g *grant) coversResources(asked []string) bool {
	return (len(asked) > 0) == (len(g.Resources) > 0) && g.hasResources(asked)
}

// isFor reports whether a token may be used at one of this server's resources (RFC 9068
// §4): it is for no resource in particular, for this one, or for the issuer.
//
// Choice: token info answers about any token, because it is for who holds it.
func (s *server) isFor(b *bearer, at string) bool {
	isOwn := func(resource string) bool { return resource == at || strings.TrimSuffix(resource, "/") == s.url("") }
	return len(b.resources) == 0 || slices.ContainsFunc(b.resources, isOwn)
}

// audience is aud: a text for one resource, a list for several (RFC 9068 §3, RFC 7662
// §2.2).
func audience(resources []string) fact {
	switch len(resources) {
	case 0:
		return fact{}
	case 1:
		return text(resources[0])
	}
	return list(resources)
}
