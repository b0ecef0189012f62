package main

// reason is what exactly is wrong, in a few words that profiles and tests refer
// to. Every error of the protocol has one.
type reason string

const (
	// Requests.
	parameterMissing     reason = "missing"
	parameterTwice       reason = "parameter twice"
	parameterNotText     reason = "parameter not text"
	parameterNotString   reason = "parameter not a string"
	queryMalformed       reason = "query malformed"
	requestTooLong       reason = "request too long"
	bodyMalformed        reason = "body malformed"
	bodyIncomplete       reason = "body incomplete"
	bodyTooLarge         reason = "body too large"
	bodyCompressed       reason = "body compressed"
	mediaTypeUnsupported reason = "media type not supported"
	methodUnsupported    reason = "method not supported"
	hostUnknown          reason = "unknown host"
	noSuchPage           reason = "unknown page"
	noOpenIDProvider     reason = "no OpenID Provider"

	// Clients.
	clientMissing          reason = "client missing"
	unknownClient          reason = "unknown client"
	clientSecretMissing    reason = "client secret missing"
	clientSecretWrong      reason = "client secret wrong"
	clientSecretNotEncoded reason = "client secret not encoded"
	secretOfPublicClient   reason = "secret of a public client"
	publicClient           reason = "public client"
	anotherScheme          reason = "another authentication scheme"
	basicMalformed         reason = "Basic credentials malformed"
	credentialsDiffer      reason = "credentials differ"
	twoAuthentications     reason = "two authentications"
	guessedTooOften        reason = "too many tries"
	grantTypeUnsupported   reason = "grant type not supported"
	grantTypeNotRegistered reason = "grant type not registered"
	clientWithoutOwner     reason = "client without owner"

	// The authorization endpoint.
	redirectURINotRegistered      reason = "redirect URI not registered"
	redirectURINoLongerRegistered reason = "redirect URI no longer registered"
	redirectURINeeded             reason = "redirect URI needed"
	noRedirectURI                 reason = "client without redirect URI"
	responseTypeUnsupported       reason = "response type not supported"
	responseModeWrong             reason = "response mode wrong"
	tokenOutOfBand                reason = "access token out of band"
	promptNoneNotAlone            reason = "prompt none not alone"
	loginNeeded                   reason = "sign-in needed"
	consentNeeded                 reason = "consent needed"
	consentExpired                reason = "consent page expired"
	clientChanged                 reason = "client changed"
	decisionMissing               reason = "decision missing"
	answeredAlready               reason = "answered already"
	userDenied                    reason = "denied by the user"
	approverGone                  reason = "unknown user of -auto-approve"
	formOfAnotherSite             reason = "form of another site"
	formOfAnotherSignIn           reason = "form of another sign-in"
	noCodeToShow                  reason = "no code to show"
	noSuchApplication             reason = "unknown application"

	// Scope.
	scopeMalformed          reason = "scope malformed"
	scopeTooLong            reason = "scope too long"
	scopeSeparator          reason = "scope separator wrong"
	unknownScope            reason = "unknown scope"
	scopeNotRegistered      reason = "scope not registered"
	scopeNoLongerRegistered reason = "scope no longer registered"
	scopeNotGranted         reason = "scope not granted"
	noDefaultScope          reason = "no default scope"

	// PKCE.
	pkceMissing              reason = "PKCE missing"
	challengeMalformed       reason = "code challenge malformed"
	methodWithoutChallenge   reason = "code challenge method without challenge"
	methodNotS256            reason = "code challenge method not S256"
	verifierMalformed        reason = "code verifier malformed"
	verifierWithoutChallenge reason = "code verifier without challenge"
	verifierWrong            reason = "code verifier wrong"

	// Grants.
	unknownCode                 reason = "unknown code"
	codeUsed                    reason = "code used"
	codeExpired                 reason = "code expired"
	codeRevoked                 reason = "code revoked"
	codeOfAnotherClient         reason = "code of another client"
	redirectURIDiffers          reason = "redirect URI differs"
	passwordWrong               reason = "password wrong"
	unknownRefreshToken         reason = "unknown refresh token"
	refreshTokenUsed            reason = "refresh token used"
	refreshTokenExpired         reason = "refresh token expired"
	refreshTokenRevoked         reason = "refresh token revoked"
	refreshTokenOfAnotherClient reason = "refresh token of another client"

	// Access tokens.
	tokenMissing         reason = "token missing"
	twoAccessTokens      reason = "two access tokens"
	unknownToken         reason = "unknown token"
	tokenExpired         reason = "token expired"
	tokenRevoked         reason = "token revoked"
	tokenOfAnotherClient reason = "token of another client"
	tokenWithoutUser     reason = "token without user"
	scopeInsufficient    reason = "scope insufficient"

	// Registration.
	metadataInvalid          reason = "metadata invalid"
	metadataTooLong          reason = "metadata too long"
	redirectURIMalformed     reason = "redirect URI malformed"
	redirectURIRelative      reason = "redirect URI relative"
	redirectURIFragment      reason = "redirect URI with fragment"
	redirectURIParameter     reason = "redirect URI with a parameter of the answer"
	redirectURIWithoutScheme reason = "redirect URI without scheme"
	redirectURIScheme        reason = "redirect URI scheme"
	redirectURIInsecure      reason = "redirect URI insecure"

	// The server's own failures.
	serverBusy    reason = "server busy"
	storageFailed reason = "storage failed"
	serverFailed  reason = "server failed"
)

// reasons are all reasons, in this order.
var reasons = []reason{
	parameterMissing, parameterTwice, parameterNotText, parameterNotString, queryMalformed, requestTooLong, bodyMalformed, bodyIncomplete, bodyTooLarge,
	bodyCompressed, mediaTypeUnsupported, methodUnsupported, hostUnknown, noSuchPage, noOpenIDProvider, clientMissing, unknownClient, clientSecretMissing,
	clientSecretWrong, clientSecretNotEncoded, secretOfPublicClient, publicClient, anotherScheme, basicMalformed, credentialsDiffer, twoAuthentications,
	guessedTooOften, grantTypeUnsupported, grantTypeNotRegistered, clientWithoutOwner, redirectURINotRegistered, redirectURINoLongerRegistered,
	redirectURINeeded, noRedirectURI, responseTypeUnsupported, responseModeWrong, tokenOutOfBand, promptNoneNotAlone, loginNeeded, consentNeeded,
	consentExpired, clientChanged, decisionMissing, answeredAlready, userDenied, approverGone, formOfAnotherSite, formOfAnotherSignIn, noCodeToShow,
	noSuchApplication, scopeMalformed, scopeTooLong, scopeSeparator, unknownScope, scopeNotRegistered, scopeNoLongerRegistered, scopeNotGranted,
	noDefaultScope, pkceMissing, challengeMalformed, methodWithoutChallenge, methodNotS256, verifierMalformed, verifierWithoutChallenge, verifierWrong,
	unknownCode, codeUsed, codeExpired, codeRevoked, codeOfAnotherClient, redirectURIDiffers, passwordWrong, unknownRefreshToken, refreshTokenUsed,
	refreshTokenExpired, refreshTokenRevoked, refreshTokenOfAnotherClient, tokenMissing, twoAccessTokens, unknownToken, tokenExpired, tokenRevoked,
	tokenOfAnotherClient, tokenWithoutUser, scopeInsufficient, metadataInvalid, metadataTooLong, redirectURIMalformed, redirectURIRelative, redirectURIFragment,
	redirectURIParameter, redirectURIWithoutScheme, redirectURIScheme, redirectURIInsecure, serverBusy, storageFailed, serverFailed,
}
