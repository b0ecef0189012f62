package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// clientMetadata is what clients can register about themselves (RFC 7591 §2).
var clientMetadata = []string{"client_name", "client_uri", "redirect_uris", "scope", "token_endpoint_auth_method", "grant_types", "response_types"}

// isListed has the members that are arrays in JSON.
var isListed = map[string]bool{"redirect_uris": true, "grant_types": true, "response_types": true}

// registration is how clients register themselves (RFC 7591). The members of a
// client have their RFC 7591 names here; the service may call them otherwise.
type registration struct {
	Bodies     []string          `json:"bodies" one:"form json multipart"` // absent: JSON alone (RFC 7591 §3.1)
	Parameters map[string]string `json:"parameters" keys:"$metadata"`      // what the service calls each member
	TextLists  bool              `json:"text_lists"`                       // a list may be text with one element a line, and the scope a list
	Required   []string          `json:"required" one:"$metadata"`
	Scope      string            `json:"scope"`                       // of a client that asks for none
	MaxLength  map[string]int    `json:"max_length" keys:"$metadata"` // in characters; absent: no limit
	Status     int               `json:"status" from:"200" to:"201"`  // of the answer; absent: 201 (RFC 7591 §3.2.1)
	Answer     shape             `json:"answer" facts:"$registration facts"`
}

func (g *registration) bodies() []string {
	if g == nil || g.Bodies == nil {
		return []string{"json"}
	}
	return g.Bodies
}

// parseClientMetadata reads what a client says about itself (RFC 7591 §2), and
// ignores members that it does not know.
func (p *profile) parseClientMetadata(g *registration, x *exchange) (*clientFixture, error) {
	value := func(name string) string { return strings.Join(g.values(name, x), "\n") }
	for _, name := range slices.Sorted(maps.Keys(g.Parameters)) {
		if err := g.checkType(name, x); err != nil {
			return nil, err
		}
	}
	for _, name := range g.Required {
		if !x.holds(parameterMissing, strings.TrimSpace(value(name)) != "") {
			return nil, g.refused(name, parameterMissing, "is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.MaxLength)) {
		if !x.holds(metadataTooLong, utf8.RuneCountInString(value(name)) <= g.MaxLength[name]) {
			return nil, g.refused(name, metadataTooLong, fmt.Sprintf("is longer than %d characters", g.MaxLength[name]))
		}
	}
	f := &clientFixture{
		metadata: metadata{
			ClientID:     newClientSecret(), // as hard to guess as those of the services
			Name:         value("client_name"),
			URI:          value("client_uri"),
			RedirectURIs: g.values("redirect_uris", x),
			Scope:        value("scope"),
		},
		TokenEndpointAuthMethod: cmp.Or(value("token_endpoint_auth_method"), "client_secret_basic"),
	}
	if g.TextLists {
		f.RedirectURIs, f.Scope = strings.Fields(value("redirect_uris")), strings.ReplaceAll(f.Scope, "\n", " ")
	}
	f.Scope = cmp.Or(f.Scope, g.Scope)
	if wrong := f.problems(p); len(wrong) > 0 {
		problem := uriProblem{wrong[0].error, metadataInvalid}
		errors.As(wrong[0].error, &problem)
		return nil, g.refused(wrong[0].member, problem.why, problem.Error())
	}
	if g.Parameters["grant_types"] == "" {
		return f, nil // all that suit it
	}
	return f, p.grantTypesOf(g, f, x)
}

// grantTypesOf sets the grant types of a client that registers itself: what it
// asks for, without what does not suit it (RFC 7591 §2.1).
//
// Choice: the rest is left out, and the answer says what is left (RFC 7591 §3.2.1).
// Clients name whatever they can do. password and implicit are left out too: only
// the operator gives them. A client is refused if nothing is left.
func (p *profile) grantTypesOf(g *registration, f *clientFixture, x *exchange) error {
	requested := g.values("grant_types", x)
	if _, isSent := x.lists[g.Parameters["grant_types"]]; !isSent {
		requested = []string{"authorization_code"} // RFC 7591 §2
	}
	c, _ := newClient(f, p, nil) // it may use all that suit it
	f.GrantTypes = []string{}
	for _, grantType := range requested {
		if c.mayUse(grantType, p) && !slices.Contains(f.GrantTypes, grantType) {
			f.GrantTypes = append(f.GrantTypes, grantType)
		}
	}
	begins := func(grantType string) bool { return grantType != "refresh_token" }
	if !x.holds(metadataInvalid, slices.ContainsFunc(f.GrantTypes, begins)) {
		return g.refused("grant_types", metadataInvalid, "has none that this client can get a token by: this server has "+strings.Join(p.Grants, ", ")+
			"; password and implicit are not for clients that register themselves, client_credentials not for public ones")
	}
	responseTypes, sent := responseTypesOf(f.GrantTypes), g.values("response_types", x)
	if !x.holds(metadataInvalid, len(sent) == 0 || len(responseTypes) == 0 || slices.Contains(sent, responseTypes[0])) {
		return g.refused("response_types", metadataInvalid, "does not have code, which goes with the grant type authorization_code")
	}
	if !x.holds(parameterMissing, len(responseTypes) == 0 || len(f.RedirectURIs) > 0) {
		return g.refused("redirect_uris", parameterMissing, "is missing")
	}
	return nil
}

// responseTypesOf are the response types that go with grant types (RFC 7591 §2.1).
func responseTypesOf(grantTypes []string) []string {
	if slices.Contains(grantTypes, "authorization_code") {
		return []string{"code"}
	}
	return nil
}

// values are a member's texts: the elements of a list, or one. As in Ruby on
// Rails, several parameters whose names end in [] are a list too.
func (g *registration) values(name string, x *exchange) []string {
	parameter := g.Parameters[name]
	_, isList := x.lists[parameter]
	switch {
	case parameter == "":
		return nil // the service does not have it
	case isList || g.TextLists:
		return slices.Concat(x.form[parameter], x.form[parameter+"[]"])
	default:
		return x.form[parameter]
	}
}

// checkType refuses a member that is sent twice, or in JSON as another type than
// it has (RFC 7591 §2).
func (g *registration) checkType(name string, x *exchange) error {
	parameter := g.Parameters[name]
	ofTexts, isList := x.lists[parameter]
	switch {
	case isListed[name] && !g.TextLists:
		if !x.holds(metadataInvalid, !x.form.Has(parameter) && (!isList || ofTexts)) {
			return g.refused(name, metadataInvalid, "must be an array of strings")
		}
		return nil
	case !x.holds(metadataInvalid, !isList || g.TextLists && ofTexts && (name == "redirect_uris" || name == "scope")):
		return g.refused(name, metadataInvalid, "must be a string")
	}
	n := len(x.form[parameter])
	if !x.holds(parameterTwice, n == 0 || n == 1 && !(g.TextLists && x.form.Has(parameter+"[]"))) {
		return g.refused(name, parameterTwice, "occurs more than once")
	}
	return nil
}

// refused says what is wrong with a member, or with an element such as
// "redirect_uris[1]", by the name that the service has for it (RFC 7591 §3.2.2).
func (g *registration) refused(member string, why reason, problem string) error {
	name, _, _ := strings.Cut(member, "[")
	refuse := invalidClientMetadata
	if name == "redirect_uris" {
		refuse = invalidRedirectURI
	}
	return refuse(rfc7591("3.2.2"), why, g.Parameters[name]+strings.TrimPrefix(member, name)+" "+problem).about(name)
}
