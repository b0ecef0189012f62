package main

import "strings"

// reason is what exactly is wrong, in a few words that profiles and tests refer
// to. Every error of the protocol has one.
type reason string

// slug is the reason in a URL and in the logs.
func (r reason) slug() string {
	return strings.NewReplacer(" -", "-", " ", "-").Replace(strings.ToLower(string(r)))
}

var reasons []reason // all of them, in this order

func newReason(text string) reason {
	reasons = append(reasons, reason(text))
	return reason(text)
}

var (
	// Requests.
	parameterMissing     = newReason("missing")
	parameterTwice       = newReason("parameter twice")
	parameterNotText     = newReason("parameter not text")
	parameterNotString   = newReason("parameter not a string")
	queryMalformed       = newReason("query malformed")
	requestTooLong       = newReason("request too long")
	bodyMalformed        = newReason("body malformed")
	bodyIncomplete       = newReason("body incomplete")
	bodyTooLarge         = newReason("body too large")
	bodyCompressed       = newReason("body compressed")
	mediaTypeUnsupported = newReason("media type not supported")
	methodUnsupported    = newReason("method not supported")
	hostUnknown          = newReason("unknown host")
	noSuchPage           = newReason("unknown page")
	noOpenIDProvider     = newReason("no OpenID Provider")

	// Clients.
	clientMissing          = newReason("client missing")
	unknownClient          = newReason("unknown client")
	clientSecretMissing    = newReason("client secret missing")
	clientSecretWrong      = newReason("client secret wrong")
	clientSecretNotEncoded = newReason("client secret not encoded")
	secretOfPublicClient   = newReason("secret of a public client")
	publicClient           = newReason("public client")
	anotherScheme          = newReason("another authentication scheme")
	basicMalformed         = newReason("Basic credentials malformed")
	credentialsDiffer      = newReason("credentials differ")
	twoAuthentications     = newReason("two authentications")
	guessedTooOften        = newReason("too many tries")
	grantTypeUnsupported   = newReason("grant type not supported")
	grantTypeNotRegistered = newReason("grant type not registered")
	clientWithoutOwner     = newReason("client without owner")

	documentURLMalformed = newReason("client document URL malformed")
	documentUnreachable  = newReason("client document unreachable")
	documentInvalid      = newReason("client document invalid")

	// The authorization endpoint.
	redirectURINotRegistered      = newReason("redirect URI not registered")
	redirectURINoLongerRegistered = newReason("redirect URI no longer registered")
	redirectURINeeded             = newReason("redirect URI needed")
	noRedirectURI                 = newReason("client without redirect URI")
	responseTypeUnsupported       = newReason("response type not supported")
	responseModeWrong             = newReason("response mode wrong")
	tokenOutOfBand                = newReason("access token out of band")
	promptNoneNotAlone            = newReason("prompt none not alone")
	loginNeeded                   = newReason("sign-in needed")
	consentNeeded                 = newReason("consent needed")
	consentExpired                = newReason("consent page expired")
	clientChanged                 = newReason("client changed")
	decisionMissing               = newReason("decision missing")
	answeredAlready               = newReason("answered already")
	userDenied                    = newReason("denied by the user")
	approverGone                  = newReason("unknown user of -auto-approve")
	formOfAnotherSite             = newReason("form of another site")
	formOfAnotherSignIn           = newReason("form of another sign-in")
	noCodeToShow                  = newReason("no code to show")
	noSuchApplication             = newReason("unknown application")

	// Scope.
	scopeMalformed          = newReason("scope malformed")
	scopeTooLong            = newReason("scope too long")
	scopeSeparator          = newReason("scope separator wrong")
	unknownScope            = newReason("unknown scope")
	scopeNotRegistered      = newReason("scope not registered")
	scopeNoLongerRegistered = newReason("scope no longer registered")
	scopeNotGranted         = newReason("scope not granted")
	noDefaultScope          = newReason("no default scope")

	// Resources.
	resourceMalformed  = newReason("resource malformed")
	resourceNotGranted = newReason("resource not granted")

	// PKCE.
	pkceMissing              = newReason("PKCE missing")
	challengeMalformed       = newReason("code challenge malformed")
	methodWithoutChallenge   = newReason("code challenge method without challenge")
	methodNotS256            = newReason("code challenge method not S256")
	verifierMalformed        = newReason("code verifier malformed")
	verifierWithoutChallenge = newReason("code verifier without challenge")
	verifierWrong            = newReason("code verifier wrong")

	// Grants.
	unknownCode                 = newReason("unknown code")
	codeUsed                    = newReason("code used")
	codeExpired                 = newReason("code expired")
	codeRevoked                 = newReason("code revoked")
	codeOfAnotherClient         = newReason("code of another client")
	redirectURIDiffers          = newReason("redirect URI differs")
	passwordWrong               = newReason("password wrong")
	unknownRefreshToken         = newReason("unknown refresh token")
	refreshTokenUsed            = newReason("refresh token used")
	refreshTokenExpired         = newReason("refresh token expired")
	refreshTokenRevoked         = newReason("refresh token revoked")
	refreshTokenOfAnotherClient = newReason("refresh token of another client")

	// Device codes.
	unknownUserCode           = newReason("unknown user code")
	decisionPending           = newReason("decision pending")
	pollTooSoon               = newReason("poll too soon")
	unknownDeviceCode         = newReason("unknown device code")
	deviceCodeUsed            = newReason("device code used")
	deviceCodeExpired         = newReason("device code expired")
	deviceCodeRevoked         = newReason("device code revoked")
	deviceCodeOfAnotherClient = newReason("device code of another client")

	// Access tokens.
	tokenMissing         = newReason("token missing")
	twoAccessTokens      = newReason("two access tokens")
	unknownToken         = newReason("unknown token")
	tokenExpired         = newReason("token expired")
	tokenRevoked         = newReason("token revoked")
	tokenOfAnotherClient = newReason("token of another client")
	tokenWithoutUser     = newReason("token without user")
	tokenForAnother      = newReason("token for another resource")
	scopeInsufficient    = newReason("scope insufficient")

	// Registration.
	metadataInvalid          = newReason("metadata invalid")
	metadataTooLong          = newReason("metadata too long")
	redirectURIMalformed     = newReason("redirect URI malformed")
	redirectURIRelative      = newReason("redirect URI relative")
	redirectURIFragment      = newReason("redirect URI with fragment")
	redirectURIParameter     = newReason("redirect URI with a parameter of the answer")
	redirectURIWithoutScheme = newReason("redirect URI without scheme")
	redirectURIScheme        = newReason("redirect URI scheme")
	redirectURIInsecure      = newReason("redirect URI insecure")

	// The server's own failures.
	serverBusy    = newReason("server busy")
	storageFailed = newReason("storage failed")
	serverFailed  = newReason("server failed")
)
