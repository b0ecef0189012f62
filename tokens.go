package main

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// bearerToken returns what the access token of a request stands for (RFC 6750
// §2.1; the profile may add the query of RFC 6750 §2.3).
//
// Choice: a token in the body (RFC 6750 §2.2) is not accepted, nor, in most
// profiles, in the query. A request with two tokens is refused (RFC 6750 §2).
func (s *server) bearerToken(r *http.Request, x *exchange, into *resource) (*bearer, error) {
	ways := len(r.Header["Authorization"]) + len(x.form["access_token"])
	for _, name := range s.profile.tokenParameters {
		ways += len(x.query.values[name])
	}
	if !x.holds(twoAccessTokens, ways <= 1) {
		return nil, invalidRequest(rfc6750("2"), twoAccessTokens, "the request carries more than one access token, or one in two ways")
	}
	scheme, presented, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	presented = strings.TrimLeft(presented, " ")
	schemes := into.Schemes
	if schemes == nil {
		schemes = []string{"Bearer"}
	}
	if !slices.ContainsFunc(schemes, func(s string) bool { return strings.EqualFold(s, scheme) }) {
		presented = ""
		for _, name := range into.Query {
			presented = cmp.Or(presented, x.query.values.Get(name))
		}
		if !x.holds(tokenMissing, presented != "") {
			return nil, noToken(rfc6750("3.1"), tokenMissing, "this resource needs an access token: Authorization: "+schemes[0]+" TOKEN")
		}
	}
	b, err := s.findToken(presented, x)
	if err != nil {
		return nil, err
	}
	x.ClientID = b.client.ClientID
	if b.user != nil {
		x.Username = b.user.Username
		x.about(b.grant.key.id())
	}
	return b, nil
}

// findToken returns what an access token stands for, or why it does not work.
func (s *server) findToken(text string, x *exchange) (*bearer, error) {
	c, _ := s.profile.AccessTokenFormat.parse(text)
	b, err := s.store.accessToken(c, x.now, accessTokenRefusals.noting(x))
	return b, accessTokenRefusals.of(err)
}

var accessTokenRefusals = refusals{
	errUnknown: invalidToken(rfc6750("3.1"), unknownToken, "this server does not know the access token"),
	errExpired: invalidToken(rfc6750("3.1"), tokenExpired, "the access token has expired"),
	errRevoked: invalidToken(rfc6750("3.1"), tokenRevoked, "the access token has been revoked"),
}

// handleResource answers with data of the token's user, its client or the server,
// as the profile says.
func (s *server) handleResource(into *resource) handler {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		if into.Needs == "nothing" {
			return s.writeJSON(w, http.StatusOK, into.Answer.fill(serverFacts.of(s)))
		}
		b, err := s.bearerToken(r, x, into)
		switch {
		case err != nil:
			return err
		case into.Needs == "user" && !x.holds(tokenWithoutUser, b.user != nil):
			return insufficientScope(rfc6750("3.1"), tokenWithoutUser, "this token stands for a client, not for a user")
		case into.Needs == "user" && !x.holds(tokenForAnother, s.isFor(b, s.origin()+r.URL.Path)):
			return invalidToken(section("RFC 9068 §4"), tokenForAnother, "the access token is for other resources than this server's; ask for one without resource")
		case !x.holds(scopeInsufficient, len(into.Scopes) == 0 || slices.ContainsFunc(into.Scopes, func(scope string) bool { return covers(b.scope, scope) })):
			return insufficientScope(rfc6750("3.1"), scopeInsufficient, "the token does not have the scope that this resource needs")
		}
		return s.writeJSON(w, http.StatusOK, into.Answer.fill(resourceFacts.of(described{b, s, s.profile.TokenType, x.now})))
	}
}

// handleIntrospect tells a client what a token is good for (RFC 7662 §2).
//
// Choice: a client sees the tokens issued to it; one registered with an empty
// list of grant types is a resource server and sees all. A refresh token is
// described without token_type.
func (s *server) handleIntrospect(w http.ResponseWriter, r *http.Request, x *exchange) error {
	body, c, err := s.clientRequest(r, x)
	switch {
	case err != nil:
		return err
	case !x.holds(publicClient, !c.public()):
		return invalidClient(rfc7662("2.1"), publicClient, "introspection is for clients that authenticate; this one is public")
	case !x.holds(parameterMissing, body["token"] != ""):
		return missing(rfc7662("2.1"), "token")
	}
	access, _ := s.profile.AccessTokenFormat.parse(body["token"])
	b, err := s.store.accessToken(access, x.now, unnoted)
	tokenType := s.profile.TokenType
	if err != nil && !errors.Is(err, errStorage) {
		refresh, _ := s.profile.RefreshTokenFormat.parse(body["token"])
		b, err = s.store.unused(bucketRefresh, refresh, x.now, unnoted)
		tokenType = ""
	}
	switch {
	case errors.Is(err, errStorage):
		return err
	case err != nil, b.client.ID != c.ID && !c.resourceServer():
		return s.writeJSON(w, http.StatusOK, object{{"active", false}})
	}
	b.text = body["token"]
	return s.writeJSON(w, http.StatusOK, s.profile.IntrospectionAnswer.fill(resourceFacts.of(described{b, s, tokenType, x.now})))
}

// handleRevoke revokes a token (RFC 7009 §2). An unknown token is no error
// (RFC 7009 §2.2). token_type_hint is ignored: both kinds are searched (RFC 7009 §2.1).
func (s *server) handleRevoke(w http.ResponseWriter, r *http.Request, x *exchange) error {
	body, c, err := s.clientRequest(r, x)
	if err != nil {
		return err
	}
	if !x.holds(parameterMissing, body["token"] != "" || s.profile.RevokesNothing) {
		return missing(rfc7009("2.1"), "token")
	}
	access, _ := s.profile.AccessTokenFormat.parse(body["token"])
	refresh, _ := s.profile.RefreshTokenFormat.parse(body["token"])
	switch err := s.store.revokeToken(access, refresh, c.ID); {
	case !x.holds(tokenOfAnotherClient, !errors.Is(err, errOfAnother)):
		return unauthorizedClient(rfc7009("2.1"), tokenOfAnotherClient, "the token was issued to another client")
	case err != nil:
		return err
	}
	answer := any(object{}) // RFC 7009 §2.2: the body means nothing, but some clients parse it
	if s.profile.RevocationAnswer != nil {
		answer = s.profile.RevocationAnswer.fill(nil)
	}
	return s.writeJSON(w, http.StatusOK, answer)
}
