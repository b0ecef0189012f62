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
	crossOrigin := http.NewCrossOriginProtection()
	if err := crossOrigin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
		return err
	}
	s.told.Store(&issuer)
	s.crossOrigin.Store(crossOrigin)
	return nil
}

// checkIssuer parses an issuer (RFC 8414 §2).
//
// Deviation: it may be http on any host. A service on a laptop has no certificate.
func checkIssuer(issuer string) (*url.URL, error) {
	var all memberErrors
	refuse := func(isWrong bool, problem string) { all.add(isWrong, fmt.Sprintf("issuer %q", issuer), problem) }
	refuse(strings.ContainsFunc(issuer, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), "has spaces or control characters")
	u, err := url.Parse(issuer)
	if err != nil {
		u = new(url.URL)
	}
	refuse(u.Host == "" || u.Scheme != "https" && u.Scheme != "http", "is not a URL with https:// or http://")
	refuse(strings.Contains(issuer+"/", "/.well-known/"), "is the URL of a metadata document; the issuer has no /.well-known/ (RFC 8414 §3)")
	refuse(u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"), "has a query or a fragment (RFC 8414 §2)")
	refuse(u.User != nil, "contains a user name")
	refuse(strings.Contains(u.Host, "%"), "has a host with a zone, which means something on this machine only")
	refuse(!isASCII(u.Host), "has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)")
	isClean := isPath(u.Path) && u.RawPath == "" && !strings.ContainsAny(u.Path, "{}")
	refuse(u.Path != "" && u.Path != "/" && !isClean, "has a path with //, dots or characters that must be encoded")
	port, err := strconv.Atoi(cmp.Or(u.Port(), "0"))
	refuse(err != nil || port > 65535, "has a port above 65535")
	return u, all.first()
}

// url is the URL of a path of this server. A slash at the end of the issuer
// does not count.
func (s *server) url(path string) string { return strings.TrimSuffix(s.issuer(), "/") + path }

// origin is the issuer without its path.
func (s *server) origin() string { return strings.TrimSuffix(s.url(""), s.base) }

// advertised is the URL of an endpoint at its first path, or "" if the profile has
// none. In that of the metadata the issuer's path comes last (RFC 8414 §3.1).
func (s *server) advertised(endpoint string) string {
	switch paths := s.profile.paths(endpoint); {
	case len(paths) == 0:
		return ""
	case endpoint == "metadata":
		return s.origin() + paths[0] + s.base
	default:
		return s.url(paths[0])
	}
}

func (s *server) issuerHost() string {
	_, host, _ := strings.Cut(s.origin(), "://")
	return hostOf(host)
}

func (s *server) https() bool { return strings.HasPrefix(s.issuer(), "https://") }

// handleMetadata describes the server (RFC 8414 §2). It leaves out what neither
// the profile nor any client uses.
func (s *server) handleMetadata(w http.ResponseWriter, r *http.Request, x *exchange) error {
	grantTypes, responseTypes, responseModes := []string{}, []string{}, []string{}
	for _, grantType := range s.profile.Grants {
		if grantType == "password" || grantType == "implicit" { // a client must name these; see mayUse
			if named, err := s.store.anyNames(grantType); err != nil {
				return err
			} else if !named {
				continue
			}
		}
		grantTypes = append(grantTypes, grantType)
		switch grantType {
		case "authorization_code":
			responseTypes = append(responseTypes, "code")
		case "implicit":
			responseTypes = append(responseTypes, "token")
		}
	}
	for _, responseType := range responseTypes {
		for _, mode := range s.profile.responseModes(responseType) {
			if !slices.Contains(responseModes, mode) {
				responseModes = append(responseModes, mode)
			}
		}
	}
	o := object{{"issuer", s.issuer()}}
	add := func(name, endpoint string, authentication ...string) {
		if at := s.advertised(endpoint); at != "" {
			o.add(name, at)
			if authentication != nil {
				o.add(name+"_auth_methods_supported", authentication)
			}
		}
	}
	add("authorization_endpoint", "authorize")
	add("token_endpoint", "token", "client_secret_basic", "client_secret_post", "none")
	add("revocation_endpoint", "revoke", "client_secret_basic", "client_secret_post", "none")
	add("introspection_endpoint", "introspect", "client_secret_basic", "client_secret_post")
	add("device_authorization_endpoint", "device_authorization")
	add("userinfo_endpoint", "userinfo")
	add("registration_endpoint", "registration")
	if s.profile.ClientDocuments {
		o.add("client_id_metadata_document_supported", true)
	}
	if s.profile.makesJWT() {
		add("jwks_uri", "jwks")
	}
	if scopes := s.profile.scopeNames(); len(scopes) > 0 {
		o.add("scopes_supported", scopes)
	}
	o.add("response_types_supported", responseTypes)
	o.add("response_modes_supported", responseModes)
	o.add("grant_types_supported", grantTypes)
	o.add("code_challenge_methods_supported", []string{"S256"})
	o.add("authorization_response_iss_parameter_supported", s.profile.Iss)
	o.add("prompt_values_supported", []string{"none", "login", "consent", "select_account"})
	return s.writeJSON(w, http.StatusOK, o)
}

// handleHealth says that the server answers.
func (s *server) handleHealth(w http.ResponseWriter, r *http.Request, x *exchange) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.stopping.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("stopping\n"))
		return nil
	}
	w.Write([]byte(healthy))
	return nil
}

// healthy is the answer of /healthz.
const healthy = "ok\n"

// handleNotFound answers a request for an unknown path.
func (s *server) handleNotFound(w http.ResponseWriter, r *http.Request, x *exchange) {
	if x.holds(noOpenIDProvider, !strings.Contains(r.URL.Path, "/.well-known/openid-configuration")) {
		description := "there is no such page"
		if strings.HasPrefix(r.URL.Path+"/", s.base+controlPath) {
			description += "; the control API is at " + controlPath + " if grantling was started with -control"
		}
		s.writeNowhere(w, r, x, notFound(rfc9110("15.5.5"), noSuchPage, description))
		return
	}
	description := "this is an OAuth 2.0 server, not an OpenID Provider"
	if at := s.advertised("metadata"); at != "" {
		description += "; its metadata is at " + at
	}
	s.writeError(w, x, notFound(rfc8414("3"), noOpenIDProvider, description))
}
