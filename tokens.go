package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// bearerToken returns what the access token of a request stands for (RFC 6750
// §2.1: the Authorization header).
//
// Choice: the body (§2.2) and the query (§2.3) are no way in. A token that
// comes there as well as in the header is refused (§2).
func (s *server) bearerToken(r *http.Request, x *exchange) (*bearer, error) {
	ways := len(r.Header["Authorization"]) + len(r.URL.Query()["access_token"])
	if body, err := formBody(r); err == nil {
		form, _ := url.ParseQuery(body) // a token in a malformed body is one too many as well
		ways += len(form["access_token"])
	}
	if ways > 1 {
		return nil, invalidRequest(rfc6750("2"), "the request carries more than one access token, or one in two ways")
	}
	scheme, presented, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, noToken()
	}
	c, ok := parseCredential(strings.TrimLeft(presented, " "))
	if !ok {
		return nil, invalidToken("the access token is not one of this server's")
	}
	b, err := s.store.accessToken(c, x.now)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, invalidToken("the access token is unknown, expired or revoked")
	}
	x.clientID = b.client.ClientID
	if b.user != nil {
		x.username = b.user.Username
	}
	return b, nil
}

// handleUserInfo is a protected resource: who the token stands for.
func (s *server) handleUserInfo(w http.ResponseWriter, r *http.Request, x *exchange) {
	b, err := s.bearerToken(r, x)
	if err == nil && b.user == nil {
		err = refuse(http.StatusForbidden, "insufficient_scope", rfc6750("3.1"), "this token stands for a client, not for a user")
	}
	if err != nil {
		s.writeBearerError(w, x, err)
		return
	}
	var o object
	o.add("sub", b.user.Username)
	o.add("preferred_username", b.user.Username)
	if b.user.Name != "" {
		o.add("name", b.user.Name)
	}
	if b.user.Email != "" {
		o.add("email", b.user.Email)
	}
	writeJSON(w, http.StatusOK, o)
}

// handleTokenInfo tells the holder of an access token what it is good for.
func (s *server) handleTokenInfo(w http.ResponseWriter, r *http.Request, x *exchange) {
	b, err := s.bearerToken(r, x)
	if err != nil {
		s.writeBearerError(w, x, err)
		return
	}
	writeJSON(w, http.StatusOK, s.introspection(b, s.profile.TokenType))
}

// handleIntrospect tells a client what a token is good for (RFC 7662 §2).
//
// Choice: a client sees the tokens issued to it; one registered with an empty
// list of grant types is a resource server and sees all. A refresh token is
// described without token_type.
func (s *server) handleIntrospect(w http.ResponseWriter, r *http.Request, x *exchange) {
	body, err := bodyValues(r)
	if err != nil {
		s.writeError(w, x, err)
		return
	}
	c, err := s.authenticateClient(r, body, x)
	if err == nil && c.public() {
		err = invalidClient(rfc7662("2.1"), "introspection is for clients that authenticate; this one is public")
	}
	if err == nil && body["token"] == "" {
		err = missing(rfc7662("2.1"), "token")
	}
	if err != nil {
		s.writeError(w, x, err)
		return
	}
	var b *bearer
	tokenType := s.profile.TokenType
	if presented, ok := parseCredential(body["token"]); ok {
		b, err = s.store.accessToken(presented, x.now)
		if b == nil && err == nil {
			tokenType = ""
			b, err = s.store.refreshToken(presented, x.now)
		}
	}
	switch {
	case err != nil:
		s.writeError(w, x, err)
	case b == nil || b.client.ID != c.ID && !c.resourceServer():
		writeJSON(w, http.StatusOK, object{{"active", false}})
	default:
		writeJSON(w, http.StatusOK, s.introspection(b, tokenType))
	}
}

// introspection is RFC 7662 §2.2's answer about a live token.
func (s *server) introspection(b *bearer, tokenType string) object {
	o := object{{"active", true}}
	if b.scope != "" {
		o.add("scope", b.scope)
	}
	o.add("client_id", b.client.ClientID)
	if b.user != nil {
		o.add("username", b.user.Username)
		o.add("sub", b.user.Username)
	}
	if tokenType != "" {
		o.add("token_type", tokenType)
	}
	o.add("iat", b.issued)
	if b.expires != 0 {
		o.add("exp", b.expires)
	}
	o.add("iss", s.issuer)
	return o
}

// handleRevoke ends a token (RFC 7009 §2). One that is unknown is gone
// already, which is what the client wants. token_type_hint is not needed: all
// kinds are looked through (§2.1).
func (s *server) handleRevoke(w http.ResponseWriter, r *http.Request, x *exchange) {
	body, err := bodyValues(r)
	if err != nil {
		s.writeError(w, x, err)
		return
	}
	c, err := s.authenticateClient(r, body, x)
	if err != nil {
		s.writeError(w, x, err)
		return
	}
	if body["token"] == "" {
		s.writeError(w, x, missing(rfc7009("2.1"), "token"))
		return
	}
	if presented, ok := parseCredential(body["token"]); ok {
		err = s.store.revokeToken(presented, func(owner uuid.UUID) error {
			if owner != c.ID {
				return unauthorizedClient(rfc7009("2.1"), "the token was issued to another client")
			}
			return nil
		})
		if err != nil {
			s.writeError(w, x, err)
			return
		}
	}
	w.WriteHeader(http.StatusOK)
}

// handleMetadata describes the server (RFC 8414 §2). What the profile, or
// every client, does without is left out.
func (s *server) handleMetadata(w http.ResponseWriter, r *http.Request, x *exchange) {
	offered := func(grantType string) (bool, error) {
		if !slices.Contains(s.profile.Grants, grantType) {
			return false, nil
		}
		if grantType != "password" && grantType != "implicit" {
			return true, nil
		}
		return s.store.anyClient(func(c *client) bool { return c.mayUse(grantType, s.profile) })
	}
	var grantTypes []string
	for _, grantType := range s.profile.Grants {
		ok, err := offered(grantType)
		if err != nil {
			s.writeError(w, x, err)
			return
		}
		if ok {
			grantTypes = append(grantTypes, grantType)
		}
	}
	var responseTypes, responseModes []string
	if slices.Contains(grantTypes, "authorization_code") {
		responseTypes, responseModes = append(responseTypes, "code"), append(responseModes, "query")
	}
	if slices.Contains(grantTypes, "implicit") {
		responseTypes, responseModes = append(responseTypes, "token"), append(responseModes, "fragment")
	}
	confidential := []string{"client_secret_basic", "client_secret_post"}
	all := append(confidential[:2:2], "none")

	o := object{{"issuer", s.issuer}}
	add := func(name, endpoint string) {
		if paths := s.profile.Endpoints[endpoint]; len(paths) > 0 {
			o.add(name, s.issuer+paths[0])
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
	o.add("authorization_response_iss_parameter_supported", true)
	o.add("prompt_values_supported", []string{"none", "login", "consent", "select_account"})
	writeJSON(w, http.StatusOK, o)
}
