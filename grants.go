package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// handleToken is the token endpoint (RFC 6749 §3.2).
func (s *server) handleToken(w http.ResponseWriter, r *http.Request, x *exchange) error {
	answer, err := s.grantToken(r, x)
	if err != nil {
		return err
	}
	for name, value := range s.profile.TokenHeaders {
		w.Header().Set(name, value)
	}
	return s.writeJSON(w, http.StatusOK, s.profile.TokenAnswer.fill(tokenFacts.of(answer)))
}

// grantToken checks the grant type and the client, then runs the grant.
func (s *server) grantToken(r *http.Request, x *exchange) (*tokenAnswer, error) {
	body, err := x.body()
	if err != nil {
		return nil, err
	}
	grantType := body["grant_type"]
	switch {
	case !x.holds(parameterMissing, grantType != ""):
		return nil, missing(rfc6749("5.2"), "grant_type")
	case !x.holds(grantTypeUnsupported, slices.Contains(s.profile.tokenGrants(), grantType)):
		return nil, unsupportedGrantType(rfc6749("5.2"), grantTypeUnsupported, "grant_type must be one of "+strings.Join(s.profile.tokenGrants(), ", ")).about("grant_type")
	}
	x.GrantType = grantType
	if err := s.checkRequired(grantType, body, x); err != nil && s.profile.ParametersFirst {
		return nil, err
	}
	c, err := s.authenticateClient(r, body, x)
	if err != nil {
		return nil, err
	}
	switch {
	case grantType == "client_credentials" && !x.holds(publicClient, !c.public()):
		return nil, unauthorizedClient(rfc6749("4.4"), publicClient, "this is a public client: only a client with a secret can use this grant")
	case !x.holds(grantTypeNotRegistered, c.mayUse(grantType, s.profile)):
		return nil, unauthorizedClient(rfc6749("5.2"), grantTypeNotRegistered, "this client is not registered for this grant type")
	}
	if err := s.checkRequired(grantType, body, x); err != nil {
		return nil, err
	}
	if s.profile.TokenScopeIgnored {
		delete(body, "scope")
	}
	if err := x.parseResources(x.tokenResources(), s.profile); err != nil {
		return nil, err
	}
	switch grantType {
	case "authorization_code":
		return s.authorizationCodeGrant(c, body, x)
	case "password":
		return s.passwordGrant(c, body, r, x)
	case "client_credentials":
		return s.clientCredentialsGrant(c, body, x)
	case deviceGrant:
		return s.deviceCodeGrant(c, body, x)
	default:
		return s.refreshTokenGrant(c, body, x)
	}
}

// tokenGrants are the grants of the token endpoint: all but implicit (RFC 6749 §4.2).
func (p *profile) tokenGrants() []string {
	return slices.DeleteFunc(slices.Clone(p.Grants), func(grant string) bool { return grant == "implicit" })
}

// requiredParameters are what each grant needs, by the section that says so.
var requiredParameters = map[string]struct {
	rule  section
	names []string
}{
	"authorization_code": {rfc6749("4.1.3"), []string{"code"}},
	"password":           {rfc6749("4.3.2"), []string{"username", "password"}},
	"refresh_token":      {rfc6749("6"), []string{"refresh_token"}},
	deviceGrant:          {rfc8628("3.4"), []string{"device_code"}},
}

// checkRequired refuses a token request without a parameter that its grant needs.
func (s *server) checkRequired(grantType string, body values, x *exchange) error {
	required := requiredParameters[grantType]
	for _, name := range slices.Concat(required.names, s.profile.RequiredParameters[grantType]) {
		if !x.holds(parameterMissing, body[name] != "") {
			return missing(required.rule, name)
		}
	}
	return nil
}

// tokenAnswer is a successful answer (RFC 6749 §5.1). The profile says how it looks.
type tokenAnswer struct {
	accessToken  string
	tokenType    string
	created      unixTime
	expiresIn    seconds // 0: never expires
	refreshToken string  // empty: none
	scope        string
}

// tokenFacts are the placeholders of the profile's token_answer.
var tokenFacts = factsOf[*tokenAnswer]{
	"access_token": func(a *tokenAnswer) fact { return text(a.accessToken) },
	"token_type":   func(a *tokenAnswer) fact { return text(a.tokenType) },
	"expires_in": func(a *tokenAnswer) fact {
		if a.expiresIn == 0 {
			return fact{}
		}
		return number(a.expiresIn)
	},
	"refresh_token": func(a *tokenAnswer) fact { return text(a.refreshToken) },
	"scope":         func(a *tokenAnswer) fact { return text(a.scope) },
	"created_at":    func(a *tokenAnswer) fact { return number(a.created) },
}

// authorizationCodeGrant exchanges a code (RFC 6749 §4.1.3).
//
// Choice: a request that is refused before the code is spent leaves the code good
// and revokes nothing.
func (s *server) authorizationCodeGrant(c *client, body values, x *exchange) (*tokenAnswer, error) {
	presented, _ := s.profile.CodeFormat.parse(body["code"])
	var answer *tokenAnswer
	err := s.store.redeem(bucketCodes, presented, x.now, codeRefusals.noting(x), func(code *oneTime, spend func() (*grant, error)) (issued issuance, err error) {
		x.about(code.Grant.id())
		// The code was issued to this client.
		if !x.holds(codeOfAnotherClient, code.Grant.client() == c.ID) {
			return issued, invalidGrant(rfc6749("4.1.3"), codeOfAnotherClient, "the code was issued to another client")
		}
		// redirect_uri is that of the authorization request, if it had one.
		if err := s.checkSentRedirectURI(c, code.RedirectURI, body["redirect_uri"], x); err != nil {
			return issued, err
		}
		if err := x.checkCodeVerifier(code.CodeChallenge, body["code_verifier"]); err != nil {
			return issued, err
		}
		// The code works once, and for ten minutes at most (RFC 6749 §4.1.2).
		g, err := x.withResources(spend())
		if err != nil {
			return issued, err
		}
		if err := c.checkRegistered(rfc6749("5.2"), g.Scope, x); err != nil {
			return issued, err
		}
		x.Username = g.Username
		issued, answer = s.newTokens(g, c, g.Scope, x, s.profile.AccessTokenLifetime, s.profile.newRefreshToken)
		return issued, nil
	})
	return answer, codeRefusals.of(err)
}

// checkSentRedirectURI compares the redirect_uri of a token request with that of
// the authorization request; either may be empty (RFC 6749 §4.1.3).
func (s *server) checkSentRedirectURI(c *client, asked, sent string, x *exchange) error {
	differs := func(description string) error {
		return invalidGrant(rfc6749("4.1.3"), redirectURIDiffers, description).about("redirect_uri")
	}
	switch {
	case !x.holds(parameterMissing, sent != "" || asked == "" || s.profile.RedirectURINotNeeded):
		return invalidGrant(rfc6749("4.1.3"), parameterMissing, "redirect_uri is missing: the authorization request had one").about("redirect_uri")
	case sent != "" && asked == "":
		// It may name the default that was used.
		if used, err := c.redirectURIFor("", nil); err != nil || used != sent {
			return differs("redirect_uri is not where the code was sent")
		}
	case sent != "" && sent != asked:
		description := "redirect_uri differs from the one in the authorization request" + onlyBy(asked, sent)
		if _, err := c.redirectURIFor(sent, nil); !x.holds(redirectURINotRegistered, err == nil) {
			return invalidGrant(rfc6749("4.1.3"), redirectURINotRegistered, description+"; this client has not registered it").about("redirect_uri")
		}
		return differs(description)
	}
	x.holds(redirectURIDiffers, true)
	if asked != "" {
		// Choice: a redirect URI that is no longer registered counts as never registered.
		if _, err := c.redirectURIFor(asked, nil); !x.holds(redirectURINoLongerRegistered, err == nil) {
			return invalidGrant(rfc6749("4.1.3"), redirectURINoLongerRegistered, "redirect_uri is no longer registered").about("redirect_uri")
		}
	}
	return nil
}

var codeRefusals = refusals{
	errUnknown: invalidGrant(rfc6749("4.1.3"), unknownCode, "this server does not know the code"),
	errReused:  invalidGrant(rfc6749("4.1.2"), codeUsed, "the code was used before; the tokens issued for it are now revoked"),
	errExpired: invalidGrant(rfc6749("4.1.2"), codeExpired, "the code has expired"),
	errRevoked: invalidGrant(rfc6749("5.2"), codeRevoked, "the authorization behind the code has been revoked"),
}

// checkCodeVerifier is PKCE's part of the exchange (RFC 7636 §4.6). A verifier
// without a challenge is refused too: an attacker may have removed the challenge
// from the authorization request (RFC 9700 §4.8.2).
func (x *exchange) checkCodeVerifier(challenge, verifier string) error {
	switch {
	case challenge == "" && verifier == "":
		return nil
	case !x.holds(verifierWithoutChallenge, challenge != ""):
		return invalidGrant(rfc9700("4.8.2"), verifierWithoutChallenge, "code_verifier is sent, but the authorization request had no code_challenge").about("code_verifier")
	case !x.holds(parameterMissing, verifier != ""):
		return invalidGrant(rfc7636("4.6"), parameterMissing, "code_verifier is missing: the authorization request had a code_challenge").about("code_verifier")
	case !x.holds(verifierMalformed, len(verifier) >= 43 && len(verifier) <= 128 && isUnreserved(verifier)):
		return invalidGrant(rfc7636("4.1"), verifierMalformed, "code_verifier must be 43 to 128 letters, digits, hyphens, dots, underscores or tildes").about("code_verifier")
	}
	sum := sha256.Sum256([]byte(verifier)) // S256, the one method that is taken
	if !x.holds(verifierWrong, subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1) {
		return invalidGrant(rfc7636("4.6"), verifierWrong, "code_verifier does not match the code_challenge of the authorization request").about("code_verifier")
	}
	return nil
}

// implicitGrant makes an access token, never a refresh token, and the parameters
// of the redirect (RFC 6749 §4.2.2).
//
// Deviation: RFC 9700 §2.1.2 advises against it; a client must register it by name.
func (s *server) implicitGrant(request *authorizationRequest, g *grant, x *exchange) (issuance, parameters) {
	issued, answer := s.newAccessToken(g, request.client, request.scope, x, s.profile.AccessTokenLifetime)
	return issued, s.profile.ImplicitAnswer.parameters(tokenFacts.of(answer))
}

// passwordGrant takes the user's password from the client (RFC 6749 §4.3).
//
// Deviation: RFC 9700 §2.4 forbids it; a client must register it by name.
func (s *server) passwordGrant(c *client, body values, r *http.Request, x *exchange) (*tokenAnswer, error) {
	scope, err := c.grantableScope(body["scope"], s.profile, x)
	if err != nil {
		return nil, err
	}
	u, wait, err := s.checkPassword(r.Context(), body["username"], body["password"], source(r), x.now)
	switch {
	case err != nil:
		return nil, err
	case !x.holds(guessedTooOften, wait == 0):
		return nil, tooManyGuesses(invalidGrant, rfc6749("4.3.2"), wait)
	case !x.holds(passwordWrong, u != nil):
		return nil, invalidGrant(rfc6749("5.2"), passwordWrong, "the username or the password is wrong")
	}
	x.Username = u.Username
	return s.issueForUser(u, c, scope, x, s.profile.AccessTokenLifetime)
}

// issueForUser issues tokens to a client on a new grant of a user.
func (s *server) issueForUser(u *user, c *client, scope string, x *exchange, lifetime seconds) (*tokenAnswer, error) {
	issued, answer := s.newTokens(s.newGrant(u, c, scope, x), c, scope, x, lifetime, s.profile.newRefreshToken)
	return answer, s.store.issue(issued)
}

// clientCredentialsGrant gives a confidential client a token of its own
// (RFC 6749 §4.4), without a refresh token (RFC 6749 §4.4.3).
func (s *server) clientCredentialsGrant(c *client, body values, x *exchange) (*tokenAnswer, error) {
	scope, err := c.grantableScope(body["scope"], s.profile, x)
	if err != nil {
		return nil, err
	}
	return s.issueForClient(c, scope, x, s.profile.AccessTokenLifetime)
}

// issueForClient issues an access token to a client for itself. In some profiles
// the token is for the user who owns the client.
func (s *server) issueForClient(c *client, scope string, x *exchange, lifetime seconds) (*tokenAnswer, error) {
	if s.profile.ClientScopeHasNoForce {
		scope = ""
	}
	var g *grant
	if s.profile.ClientActsForOwner {
		owner, err := s.store.ownerOf(c)
		if err != nil {
			return nil, err
		}
		if !x.holds(clientWithoutOwner, owner != nil) {
			return nil, unauthorizedClient(rfc6749("5.2"), clientWithoutOwner, "this client has no owner to act for, and the server does not have exactly one user")
		}
		g = s.newGrant(owner, c, scope, x)
	}
	issued, answer := s.newAccessToken(g, c, scope, x, lifetime)
	return answer, s.store.issue(issued)
}

// refreshTokenGrant exchanges a refresh token for new tokens (RFC 6749 §6).
// Each refresh token works once, unless the profile says otherwise. A second use means
// that somebody has a copy, so it revokes the grant and all its tokens (RFC 9700 §4.14.2).
//
// Choice: a narrower scope narrows the access token; the new refresh token keeps
// the scope of the old one. The access token issued before works until it expires.
func (s *server) refreshTokenGrant(c *client, body values, x *exchange) (*tokenAnswer, error) {
	presented, _ := s.profile.RefreshTokenFormat.parse(body["refresh_token"])
	var answer *tokenAnswer
	err := s.store.redeem(bucketRefresh, presented, x.now, refreshTokenRefusals.noting(x), func(token *oneTime, spend func() (*grant, error)) (issued issuance, err error) {
		x.about(token.Grant.id())
		// The token was issued to this client.
		if !x.holds(refreshTokenOfAnotherClient, token.Grant.client() == c.ID) {
			return issued, invalidGrant(rfc6749("6"), refreshTokenOfAnotherClient, "the refresh token was issued to another client")
		}
		g, err := x.withResources(spend())
		if err != nil {
			return issued, err
		}
		// The scope asks for no more than was granted.
		scope := g.Scope
		if body["scope"] != "" {
			requested, err := parseScope(body["scope"], x)
			if err != nil {
				return issued, err
			}
			known, _ := s.profile.canonicalScope(requested)
			scope = joinScope(known)
		}
		if token := uncovered(g.Scope, scope); !x.holds(scopeNotGranted, token == "") {
			granted := func(token string) bool { return covers(g.Scope, token) }
			return issued, tooMuch(rfc6749("6"), scopeNotGranted, token, granted, "the scope asks for more than was granted")
		}
		if err := c.checkRegistered(rfc6749("6"), scope, x); err != nil {
			return issued, err
		}
		x.Username = g.Username
		issued, answer = s.newTokens(g, c, scope, x, s.profile.AccessTokenLifetime, func() credential { return s.profile.refreshTokenAfter(token, presented, c, x.now) })
		if s.profile.RefreshEndsAccessToken {
			ends := token.Access
			issued.ends, token.Access = &ends, issued.access.id // the next to end, if this is repeated
		}
		return issued, nil
	})
	return answer, refreshTokenRefusals.of(err)
}

var refreshTokenRefusals = refusals{
	errUnknown: invalidGrant(rfc6749("6"), unknownRefreshToken, "this server does not know the refresh token"),
	errReused:  invalidGrant(rfc9700("4.14.2"), refreshTokenUsed, "the refresh token was used before; all tokens of its grant are now revoked"),
	errExpired: invalidGrant(rfc6749("6"), refreshTokenExpired, "the refresh token has expired"),
	errRevoked: invalidGrant(rfc6749("6"), refreshTokenRevoked, "the refresh token has been revoked"),
}

// deviceCodeGrant exchanges a device code, once the user has approved (RFC 8628 §3.4).
//
// Choice: slow_down is for devices that wait. After the decision the first request
// is answered, however soon it comes.
func (s *server) deviceCodeGrant(c *client, body values, x *exchange) (*tokenAnswer, error) {
	presented, _ := s.profile.CodeFormat.parse(body["device_code"])
	var answer *tokenAnswer
	err := s.store.redeem(bucketDevices, presented, x.now, deviceCodeRefusals.noting(x), func(code *oneTime, spend func() (*grant, error)) (issued issuance, err error) {
		// The code was issued to this client.
		if !x.holds(deviceCodeOfAnotherClient, code.Device.Client == refTo(c)) {
			return issued, invalidGrant(rfc8628("3.4"), deviceCodeOfAnotherClient, "the device code was issued to another client")
		}
		// The user has approved (RFC 8628 §3.5).
		if !code.Expires.expired(x.now) {
			if err := code.Device.poll(code.decided(), x); err != nil {
				return issued, err
			}
		}
		g, err := x.withResources(spend())
		if err != nil {
			return issued, err
		}
		if err := c.checkRegistered(rfc6749("5.2"), g.Scope, x); err != nil {
			return issued, err
		}
		x.about(g.key.id())
		x.Username = g.Username
		issued, answer = s.newTokens(g, c, g.Scope, x, s.profile.AccessTokenLifetime, s.profile.newRefreshToken)
		return issued, nil
	})
	return answer, deviceCodeRefusals.of(err)
}

var deviceCodeRefusals = refusals{
	errUnknown: invalidGrant(rfc8628("3.4"), unknownDeviceCode, "this server does not know the device code"),
	errReused:  invalidGrant(rfc8628("3.5"), deviceCodeUsed, "the device code was used before; the tokens issued for it are now revoked"),
	errExpired: expiredToken(rfc8628("3.5"), deviceCodeExpired, "the device code has expired"),
	errRevoked: invalidGrant(rfc6749("5.2"), deviceCodeRevoked, "the authorization behind the device code has been revoked"),
}

// newGrant returns a new grant of a user to a client.
func (s *server) newGrant(u *user, c *client, scope string, x *exchange) *grant {
	id := uuid.Must(uuid.NewV7())
	x.about(id)
	return &grant{
		key:       newGrantKey(u.ID, c.ID, id),
		ClientID:  c.ClientID,
		Username:  u.Username,
		Scope:     scope,
		Resources: x.resources,
		Issued:    x.now,
		Expires:   x.now, // until something is issued on it
	}
}

// newTokens makes an access token on a grant and, for a client that may use it, a
// refresh token. The grant lasts as long as they do.
func (s *server) newTokens(g *grant, c *client, scope string, x *exchange, lifetime seconds, newRefreshToken func() credential) (issuance, *tokenAnswer) {
	issued, answer := s.newAccessToken(g, c, scope, x, lifetime)
	if c.mayUse("refresh_token", s.profile) {
		presented := newRefreshToken()
		x.about(presented.id)
		expires := earlier(x.now.after(s.profile.RefreshTokenLifetime), g.Issued.after(s.profile.GrantLifetime))
		issued.refresh = &oneTime{stored: presented.stored(x.now), Grant: g.key, Expires: expires, Access: issued.access.id}
		g.Refreshable = true
		answer.refreshToken = presented.String()
		g.Expires = later(g.Expires, expires)
	}
	return issued, answer
}

// newAccessToken makes an access token on a grant or, if g is nil, for the client
// itself. The grant lasts as long as the token. With a negative lifetime the
// token has expired already.
func (s *server) newAccessToken(g *grant, c *client, scope string, x *exchange, lifetime seconds) (issuance, *tokenAnswer) {
	token := &accessToken{Scope: scope, Resources: g.resourcesFor(x.resources), Expires: x.now.after(lifetime)}
	issued := x.now + unixTime(min(lifetime, 0))
	if g != nil {
		token.Grant = &g.key
		g.Used = x.now
		g.Expires = later(g.Expires, token.Expires)
	} else {
		token.Client = refTo(c)
	}
	f := s.profile.AccessTokenFormat
	presented := f.newCredential(func(jti string) string {
		return f.sign(jwt{token, (*s.keys.Load())[0], jti, issued, s.issuer(), c, g})
	})
	x.about(presented.id)
	token.stored = presented.stored(issued)
	return issuance{grant: g, access: token}, &tokenAnswer{accessToken: presented.String(), tokenType: s.profile.TokenType, created: x.now, expiresIn: lifetime, scope: scope}
}
