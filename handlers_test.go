package main

import "testing"

// Each grant as a conversation, request by request, in the order of the RFC.

// TestAuthorizationCodeFlow is RFC 6749 §4.1 with PKCE (RFC 7636), from the
// sign-in to the use and the revocation of what was issued.
func TestAuthorizationCodeFlow(t *testing.T) {
	t.Parallel()
	transcript(t, start(t), `
		> GET /oauth/authorize
		      ?response_type=code
		      &client_id=web
		      &redirect_uri=https%3A%2F%2Fcb.example%2Fcb
		      &scope=read+write
		      &state=xyz
		      &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM
		      &code_challenge_method=S256
		< 200 OK
		< Content-Type: text/html; charset=utf-8
		< Cache-Control: no-store
		< X-Frame-Options: DENY
		<
		< …<h1>Sign in</h1>…
		> POST /login
		>
		> username=alice&password=wonderland&{page}
		< 303 See Other
		< Location: {authorization_request}
		> GET {authorization_request}
		< 200 OK
		< Cache-Control: no-store
		<
		< …<bdi>Web app</bdi> asks for access…<code>read</code>…<code>write</code>…
		> POST /consent
		>
		> decision=approve&{page}
		< 303 See Other
		< Location: https://cb.example/cb?code={code}&state=xyz&iss={iss}
		< Cache-Control: no-store

		> POST /oauth/token
		> Authorization: Basic d2ViOndlYi1zZWNyZXQ=
		>
		> grant_type=authorization_code
		      &code={code}
		      &redirect_uri=https%3A%2F%2Fcb.example%2Fcb
		      &code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk
		< 200 OK
		< Content-Type: application/json
		< Cache-Control: no-store
		< Pragma: no-cache
		<
		< {"access_token":"{access_token}","token_type":"Bearer","expires_in":3600,
		      "refresh_token":"{refresh_token}","scope":"read write"}

		> GET /userinfo
		> Authorization: Bearer {access_token}
		< 200 OK
		<
		< {"sub":"alice","preferred_username":"alice","name":"Alice Liddell","email":"alice@example.com"}
		> POST /oauth/introspect
		> Authorization: Basic cnM6cnMtc2VjcmV0
		>
		> token={access_token}
		< 200 OK
		<
		< {"active":true,"scope":"read write","client_id":"web","username":"alice","sub":"alice",
		      "token_type":"Bearer","iat":{iat},"exp":{exp},"iss":"{issuer}"}

		> POST /oauth/token
		> Authorization: Basic d2ViOndlYi1zZWNyZXQ=
		>
		> grant_type=authorization_code
		      &code={code}
		      &redirect_uri=https%3A%2F%2Fcb.example%2Fcb
		      &code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk
		< 400 Bad Request
		<
		< {"error":"invalid_grant",…
		> GET /userinfo
		> Authorization: Bearer {access_token}
		< 401 Unauthorized
		< WWW-Authenticate: Bearer realm="grantling", error="invalid_token", error_description="the access token has been revoked", error_uri="{issuer}/explain/token-revoked"
	`)
}

// TestDeniedFlow is RFC 6749 §4.1.2.1: the user says no.
func TestDeniedFlow(t *testing.T) {
	t.Parallel()
	transcript(t, start(t), `
		> GET /oauth/authorize?response_type=code&client_id=web&state=xyz
		< 200 OK
		> POST /login
		>
		> username=alice&password=wonderland&{page}
		< 303 See Other
		< Location: {authorization_request}
		> GET {authorization_request}
		< 200 OK
		> POST /consent
		>
		> decision=deny&{page}
		< 303 See Other
		< Location: https://cb.example/cb?error=access_denied&error_description=…&state=xyz&iss={iss}
	`)
}

// TestImplicitFlow is RFC 6749 §4.2: the token is in the fragment.
func TestImplicitFlow(t *testing.T) {
	t.Parallel()
	transcript(t, start(t), `
		> GET /oauth/authorize
		      ?response_type=token
		      &client_id=legacy
		      &redirect_uri=https%3A%2F%2Flegacy.example%2Fcb
		      &scope=read
		      &state=xyz
		< 200 OK
		> POST /login
		>
		> username=alice&password=wonderland&{page}
		< 303 See Other
		< Location: {authorization_request}
		> GET {authorization_request}
		< 200 OK
		> POST /consent
		>
		> decision=approve&{page}
		< 303 See Other
		< Location: https://legacy.example/cb#access_token={access_token}&token_type=Bearer&expires_in=3600&scope=read&state=xyz&iss={iss}
		> GET /userinfo
		> Authorization: Bearer {access_token}
		< 200 OK
		<
		< {"sub":"alice",…
	`)
}

// TestPasswordFlow is RFC 6749 §4.3: the client knows the user's password.
func TestPasswordFlow(t *testing.T) {
	t.Parallel()
	transcript(t, start(t), `
		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=password&username=alice&password=wonderland&scope=read
		< 200 OK
		<
		< {"access_token":"{access_token}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh_token}","scope":"read"}
		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=password&username=alice&password=guess
		< 400 Bad Request
		<
		< {"error":"invalid_grant",…
	`)
}

// TestClientCredentialsFlow is RFC 6749 §4.4: the client asks for itself, and
// gets no refresh token.
func TestClientCredentialsFlow(t *testing.T) {
	t.Parallel()
	transcript(t, start(t), `
		> POST /oauth/token
		> Authorization: Basic d2ViOndlYi1zZWNyZXQ=
		>
		> grant_type=client_credentials&scope=read
		< 200 OK
		<
		< {"access_token":"{access_token}","token_type":"Bearer","expires_in":3600,"scope":"read"}
		> GET /oauth/token/info
		> Authorization: Bearer {access_token}
		< 200 OK
		<
		< {"active":true,"scope":"read","client_id":"web",…
		> GET /userinfo
		> Authorization: Bearer {access_token}
		< 403 Forbidden
	`)
}

// TestRefreshTokenFlow is RFC 6749 §6 and RFC 9700 §4.14.2: a refresh token is
// good for one use, and a second one ends all that came of it. What is left is
// revoked (RFC 7009 §2).
func TestRefreshTokenFlow(t *testing.T) {
	t.Parallel()
	transcript(t, start(t), `
		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=password&username=alice&password=wonderland
		< 200 OK
		<
		< {"access_token":"{first_access}","token_type":"Bearer","expires_in":3600,"refresh_token":"{first_refresh}","scope":"read write"}
		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=refresh_token&refresh_token={first_refresh}&scope=read
		< 200 OK
		<
		< {"access_token":"{second_access}","token_type":"Bearer","expires_in":3600,"refresh_token":"{second_refresh}","scope":"read"}
		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=refresh_token&refresh_token={first_refresh}
		< 400 Bad Request
		<
		< {"error":"invalid_grant",…
		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=refresh_token&refresh_token={second_refresh}
		< 400 Bad Request
		<
		< {"error":"invalid_grant",…

		> POST /oauth/token
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> grant_type=password&username=alice&password=wonderland
		< 200 OK
		<
		< {"access_token":"{third_access}",…"refresh_token":"{third_refresh}",…
		> POST /oauth/revoke
		> Authorization: Basic bGVnYWN5OmxlZ2FjeS1zZWNyZXQ=
		>
		> token={third_refresh}
		< 200 OK
		<
		< {}
		> POST /oauth/introspect
		> Authorization: Basic cnM6cnMtc2VjcmV0
		>
		> token={third_access}
		< 200 OK
		<
		< {"active":false}
	`)
}
