package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// issuer is the base URL of this server, as it was given.
func (s *server) issuer() string { return *s.told.Load() }

// setIssuer changes the issuer to another URL with the same path.
func (s *server) setIssuer(issuer string) error {
	u, err := checkIssuer(issuer)
	if err != nil {
		return err
	}
	if strings.TrimSuffix(u.Path, "/") != s.base {
		return wrong("issuer", "must have the same path as before: "+cmp.Or(s.base, "none"))
	}
	s.told.Store(&issuer)
	return s.crossOrigin.AddTrustedOrigin(u.Scheme + "://" + u.Host)
}

// checkIssuer parses an issuer (RFC 8414 §2).
//
// Deviation: it may be http on any host. A service on a laptop has no certificate.
func checkIssuer(issuer string) (*url.URL, error) {
	u, err := url.Parse(issuer)
	switch {
	case strings.ContainsFunc(issuer, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return nil, fmt.Errorf("issuer %q has spaces or control characters", issuer)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("issuer %q is not a URL with https:// or http://", issuer)
	case strings.Contains(issuer+"/", "/.well-known/"):
		return nil, fmt.Errorf("issuer %q is the URL of a metadata document; the issuer has no /.well-known/ (RFC 8414 §3)", issuer)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return nil, fmt.Errorf("issuer %q has a query or a fragment (RFC 8414 §2)", issuer)
	case u.User != nil:
		return nil, fmt.Errorf("issuer %q contains a user name", issuer)
	case !isASCII(u.Host):
		return nil, fmt.Errorf("issuer %q has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)", issuer)
	case u.Path != "" && u.Path != "/" && (!isPath(u.Path) || u.RawPath != "" || strings.ContainsAny(u.Path, "{}")):
		return nil, fmt.Errorf("issuer %q has a path with //, dots or characters that must be encoded", issuer)
	}
	if port, err := strconv.Atoi(u.Port()); u.Port() != "" && (err != nil || port > 65535) {
		return nil, fmt.Errorf("issuer %q has a port above 65535", issuer)
	}
	return u, nil
}

// url is the URL of a path of this server. A slash at the end of the issuer
// does not count.
func (s *server) url(path string) string { return strings.TrimSuffix(s.issuer(), "/") + path }

// origin is the issuer without its path.
func (s *server) origin() string { return strings.TrimSuffix(s.url(""), s.base) }

func (s *server) issuerHost() string {
	_, host, _ := strings.Cut(s.origin(), "://")
	return hostOf(host)
}

func (s *server) https() bool { return strings.HasPrefix(s.issuer(), "https://") }

// handleMetadata describes the server (RFC 8414 §2). It leaves out what neither
// the profile nor any client uses.
func (s *server) handleMetadata(w http.ResponseWriter, r *http.Request, x *exchange) error {
	grantTypes := []string{}
	for _, grantType := range s.profile.Grants {
		if grantType == "password" || grantType == "implicit" { // a client must name these; see mayUse
			if named, err := s.store.anyNames(grantType); err != nil {
				return err
			} else if !named {
				continue
			}
		}
		grantTypes = append(grantTypes, grantType)
	}
	responseTypes, responseModes := []string{}, []string{}
	if slices.Contains(grantTypes, "authorization_code") {
		responseTypes, responseModes = append(responseTypes, "code"), append(responseModes, "query")
	}
	if slices.Contains(grantTypes, "implicit") {
		responseTypes = append(responseTypes, "token")
		if !s.profile.ImplicitInQuery {
			responseModes = append(responseModes, "fragment")
		}
	}
	confidential := []string{"client_secret_basic", "client_secret_post"}
	all := append(confidential[:2:2], "none")

	o := object{{"issuer", s.issuer()}}
	add := func(name, endpoint string) {
		if paths := s.profile.paths(endpoint); len(paths) > 0 {
			o.add(name, s.url(paths[0]))
		}
	}
	add("authorization_endpoint", "authorize")
	add("token_endpoint", "token")
	if scopes := s.profile.scopeNames(); len(scopes) > 0 {
		o.add("scopes_supported", scopes)
	}
	o.add("response_types_supported", responseTypes)
	o.add("response_modes_supported", responseModes)
	o.add("grant_types_supported", grantTypes)
	o.add("token_endpoint_auth_methods_supported", all)
	if add("revocation_endpoint", "revoke"); len(s.profile.Endpoints["revoke"]) > 0 {
		o.add("revocation_endpoint_auth_methods_supported", all)
	}
	if add("introspection_endpoint", "introspect"); len(s.profile.Endpoints["introspect"]) > 0 {
		o.add("introspection_endpoint_auth_methods_supported", confidential)
	}
	add("userinfo_endpoint", "userinfo")
	o.add("code_challenge_methods_supported", []string{"S256"})
	o.add("authorization_response_iss_parameter_supported", s.profile.Iss)
	o.add("prompt_values_supported", []string{"none", "login", "consent", "select_account"})
	return s.writeJSON(w, http.StatusOK, o)
}

// handleNotFound answers a request for an unknown path.
func (s *server) handleNotFound(w http.ResponseWriter, r *http.Request, x *exchange) {
	if !strings.Contains(r.URL.Path, "/.well-known/openid-configuration") {
		s.writeNowhere(w, r, x, notFound(rfc9110("15.5.5"), noSuchPage, "there is no such page"))
		return
	}
	description := "this is an OAuth 2.0 server, not an OpenID Provider"
	if paths := s.profile.Endpoints["metadata"]; len(paths) > 0 {
		description += "; its metadata is at " + s.origin() + paths[0] + s.base
	}
	s.writeError(w, x, notFound(rfc8414("3"), noOpenIDProvider, description))
}
