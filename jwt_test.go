package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testKey signs the tokens of all servers of the tests: to make one takes a while.
var testKey = sync.OnceValue(func() *signingKey {
	key, err := newSigningKey("RS256")
	if err != nil {
		panic(err)
	}
	return key
})

const es256 = `"access_token_format": {"encoding": "jwt", "alg": "ES256"}`

// withKeys gives the server keys from its database, and the control API.
func withKeys(s *server) {
	if err := s.openKeys(false, unixTime(s.clock.now().Unix())); err != nil {
		panic(err)
	}
	if err := s.openControl(); err != nil {
		panic(err)
	}
}

// keys are the keys that the server lists, by kid.
func (i *instance) keys() map[string]map[string]any {
	i.Helper()
	listed := make(map[string]map[string]any)
	for _, key := range i.get(i.endpoint("jwks")).json["keys"].([]any) {
		key := key.(map[string]any)
		listed[key["kid"].(string)] = key
	}
	return listed
}

// verifies reports whether one of the listed keys signed a token, as a client
// finds out: by kid and alg, from the members of the JWK.
func (i *instance) verifies(token string) bool {
	i.Helper()
	header, _ := claimsOf(i.T, token)
	kid, _ := header["kid"].(string)
	key := i.keys()[kid]
	if key == nil {
		return false
	}
	signed, encoded := token[:strings.LastIndexByte(token, '.')], token[strings.LastIndexByte(token, '.')+1:]
	bytesOf := func(text any) []byte {
		raw, err := base64.RawURLEncoding.DecodeString(text.(string))
		if err != nil {
			i.Fatal(err)
		}
		return raw
	}
	numberOf := func(member string) *big.Int { return new(big.Int).SetBytes(bytesOf(key[member])) }
	signature, sum := bytesOf(encoded), sha256.Sum256([]byte(signed))
	switch {
	case key["alg"] != header["alg"] || key["use"] != "sig":
		return false
	case key["kty"] == "RSA" && key["alg"] == "RS256":
		public := &rsa.PublicKey{N: numberOf("n"), E: int(numberOf("e").Int64())}
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	case key["kty"] == "EC" && key["alg"] == "ES256" && key["crv"] == "P-256" && len(signature) == 64:
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, bytesOf(key["x"]), bytesOf(key["y"])))
		return err == nil && ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	return false
}

// TestJWT: access tokens as JSON Web Tokens (RFC 9068).
func TestJWT(t *testing.T) {
	t.Parallel()
	for alg, format := range map[string]string{"RS256": `"access_token_format": {"encoding": "jwt"}`, "ES256": es256} {
		t.Run("R217 header, claims and signature with "+alg, func(t *testing.T) {
			t.Parallel()
			i := startExtended(t, format)
			if alg == "ES256" {
				withKeys(i.server)
			}
			token, refresh := i.tokens("web")
			if len(refresh) != 43 {
				t.Errorf("the refresh token is %q", refresh)
			}
			header, claims := claimsOf(t, token)
			if header["typ"] != "at+jwt" || header["alg"] != alg || len(header) != 3 {
				t.Errorf("header %v", header)
			}
			iat, _ := claims["iat"].(float64)
			if jti, _ := claims["jti"].(string); len(jti) != 80 || iat == 0 || claims["exp"] != iat+3600 {
				t.Errorf("claims %v", claims)
			}
			for _, name := range []string{"jti", "iat", "exp"} {
				delete(claims, name)
			}
			if want := map[string]any{"iss": i.URL, "sub": "alice", "aud": i.URL, "client_id": "web", "scope": "read write"}; !maps.Equal(claims, want) {
				t.Errorf("claims %v, want %v", claims, want)
			}
			own := i.ownToken("web").json["access_token"].(string)
			if _, claims := claimsOf(t, own); claims["sub"] != "web" || claims["client_id"] != "web" {
				t.Errorf("claims of the client's own token: %v", claims)
			}
			if !i.verifies(token) || !i.verifies(own) {
				t.Errorf("%s or %s is not signed by one of %v", token, own, i.keys())
			}
		})
	}
	t.Run("R217 keys and metadata", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		r := i.get("/.well-known/jwks.json", "Origin", "https://app.example")
		if r.StatusCode != 200 || r.Header.Get("Cache-Control") != "public, max-age=300" || r.Header.Get("Pragma") != "" || r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("status %d, header %v", r.StatusCode, r.Header)
		}
		for kid, key := range i.keys() {
			if members := slices.Sorted(maps.Keys(key)); strings.Join(members, " ") != "alg crv kid kty use x y" || len(kid) != 43 {
				t.Errorf("key %v", key)
			}
		}
		if got := i.get(i.endpoint("metadata")).json["jwks_uri"]; got != i.URL+"/.well-known/jwks.json" {
			t.Errorf("jwks_uri %v", got)
		}
		opaque := start(t, func(s *server) { s.keys.Store(nil) })
		if got, listed := opaque.get(opaque.endpoint("metadata")).json["jwks_uri"]; listed {
			t.Errorf("a profile without JSON Web Tokens lists the jwks_uri %v", got)
		}
		if r := opaque.get("/.well-known/jwks.json"); r.StatusCode != 200 || r.body != `{"keys":[]}`+"\n" {
			t.Errorf("status %d, %s", r.StatusCode, r.body)
		}
	})
	t.Run("R217 alike in introspection, revocation and use", func(t *testing.T) {
		t.Parallel()
		jwt, opaque := startExtended(t, es256, withKeys), start(t)
		said := func(i *instance) (all []string) {
			token, _ := i.tokens("web")
			r := i.introspect(token)
			r.json["iat"], r.json["exp"], r.json["iss"] = nil, nil, nil
			all = append(all, string(must(json.Marshal(r.json))), i.bearer("userinfo", token).body)
			all = append(all, i.post(i.endpoint("revoke"), withClient("other", url.Values{"token": {token}})).body)
			i.wantAlive(token)
			i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {token}}))
			i.wantDead(token)
			all = append(all, i.bearer("userinfo", token).body)
			token, refresh := i.tokens("web")
			i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {refresh}}))
			i.wantDead(token)
			token, _ = i.tokens("web")
			i.advance(time.Hour)
			all = append(all, i.bearer("userinfo", token).body)
			for n := range all {
				all[n] = strings.ReplaceAll(all[n], i.URL, "")
			}
			return all
		}
		if got, want := said(jwt), said(opaque); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
	t.Run("R217 forged tokens", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, `"access_token_format": {"encoding": "jwt"}`)
		token, _ := i.tokens("web")
		header, rest, _ := strings.Cut(token, ".")
		payload, signature, _ := strings.Cut(rest, ".")
		encode := base64.RawURLEncoding.EncodeToString
		public := must(x509.MarshalPKIXPublicKey(testKey().signer.Public()))
		hmacOf := func(key []byte) string {
			signed := encode([]byte(`{"typ":"at+jwt","alg":"HS256","kid":"`+testKey().kid+`"}`)) + "." + payload
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(signed))
			return signed + "." + encode(mac.Sum(nil))
		}
		for name, forged := range map[string]string{
			"alg none":             encode([]byte(`{"typ":"at+jwt","alg":"none"}`)) + "." + payload + ".",
			"no signature":         header + "." + payload + ".",
			"no third part":        header + "." + payload,
			"HS256 of the PEM":     hmacOf(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
			"HS256 of the DER":     hmacOf(public),
			"other claims":         header + "." + strings.Replace(payload, payload[:8], encode([]byte(`{"iss":`))[:8], 1) + "." + signature[:len(signature)-4] + "AAAA",
			"another scope":        header + "." + encode([]byte(strings.Replace(string(must(base64.RawURLEncoding.DecodeString(payload))), "read write", "read admin", 1))) + "." + signature,
			"other last bits":      token[:len(token)-1] + string("AQgw"[strings.IndexByte("QgwA", token[len(token)-1])]),
			"the id of a token":    encode([]byte(`{}`)) + "." + encode(fmtID(token, t)) + ".",
			"only the jti":         string(fmtID(token, t)),
			"another key's":        must(newSigningKey("RS256")).forge(header, payload),
			"a signature too many": token + "." + signature,
		} {
			if i.alive(forged) || i.bearer("userinfo", forged).StatusCode != 401 {
				t.Errorf("%s is taken: %s", name, forged)
			}
		}
		i.wantAlive(token)
	})
	t.Run("R217 errors of a profile", func(t *testing.T) {
		t.Parallel()
		for _, row := range []struct{ format, want string }{
			{`{"encoding": "jwt", "alg": "none"}`, `access_token_format.alg: "none" is unknown; expected one of RS256, ES256`},
			{`{"encoding": "hex", "alg": "ES256"}`, `access_token_format: has alg, header or claims, which only jwt has`},
			{`{"encoding": "jwt", "claims": {"jti": "${id}"}}`, "access_token_format.claims: ${id} is unknown here"},
			{`{"encoding": "jwt", "header": {}}`, `access_token_format.header: has no "alg": "${alg}"`},
			{`{"encoding": "jwt", "header": {"alg": "none"}}`, `access_token_format.header: has no "alg": "${alg}"`},
			{`{"encoding": "jwt", "claims": {"sub": "${sub}"}}`, `access_token_format.claims: has no "jti": "${jti}", by which`},
		} {
			_, err := parseProfile("own.json", []byte(`{"extends": "rfc6749", "access_token_format": `+row.format+`}`))
			if err == nil || !strings.HasPrefix(err.Error(), "own.json:1: "+row.want) {
				t.Errorf("%s: got %v, want %s", row.format, err, row.want)
			}
		}
	})
}

// fmtID is the JSON of a token's jti alone.
func fmtID(token string, t *testing.T) []byte {
	_, claims := claimsOf(t, token)
	return must(json.Marshal(map[string]any{"jti": claims["jti"]}))
}

// forge signs another's header and payload.
func (k *signingKey) forge(header, payload string) string {
	return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(k.sign(header+"."+payload))
}

// TestRotation: a new signing key.
func TestRotation(t *testing.T) {
	t.Parallel()
	// rotate makes a new key, and returns how many are listed.
	rotate := func(i *instance) string {
		kid, _ := i.mustControl("POST", "keys", "").json["kid"].(string)
		if i.keys()[kid] == nil {
			i.Errorf("%q is not listed in %v", kid, i.keys())
		}
		return kid
	}
	t.Run("R218 the old key stays until its tokens have expired", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		old, _ := i.tokens("web")
		kid := rotate(i)
		token, _ := i.tokens("web")
		if header, _ := claimsOf(t, token); header["kid"] != kid || !i.verifies(token) || !i.verifies(old) || len(i.keys()) != 2 {
			t.Errorf("header %v, keys %v, want the new key %s beside the old", header, i.keys(), kid)
		}
		i.wantAlive(old, token)
		i.advance(time.Hour - 5*time.Second)
		if !i.verifies(old) {
			t.Error("the old key is gone, and its token lives")
		}
		i.advance(10 * time.Second)
		if i.verifies(old) || len(i.keys()) != 1 || i.keys()[kid] == nil {
			t.Errorf("keys %v, want %s alone", i.keys(), kid)
		}
	})
	t.Run("R218 a token that lives longer than the profile says", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		long, _ := i.mustControl("POST", "tokens", `{"client_id":"web","expires_in":7200}`).json["access_token"].(string)
		rotate(i)
		i.advance(time.Hour + time.Minute)
		rotate(i)
		if !i.verifies(long) {
			t.Error("the key is gone, and its token lives")
		}
		i.advance(time.Hour)
		if i.verifies(long) {
			t.Error("the key is listed, and its token has expired")
		}
	})
	t.Run("R218 tokens without end keep their key", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, `"access_token_lifetime": 0, `+es256, withKeys)
		token, _ := i.tokens("web")
		rotate(i)
		i.advance(1000 * time.Hour)
		if !i.verifies(token) {
			t.Error("the key is gone, and its token lives")
		}
	})
	t.Run("R218 the keys outlive the process, and a reset", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		old, _ := i.tokens("web")
		rotate(i)
		token, _ := i.tokens("web")
		i.mustControl("POST", "reset", "")
		i.server.keys.Store(nil)
		if err := i.server.openKeys(false, unixTime(i.server.clock.now().Unix())); err != nil {
			t.Fatal(err)
		}
		if !i.verifies(old) || !i.verifies(token) {
			t.Errorf("keys %v", i.keys())
		}
	})
	t.Run("R218 another alg makes another key", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, es256, withKeys)
		token, _ := i.tokens("web")
		i.server.profile.AccessTokenFormat.Alg = "RS256"
		if err := i.server.openKeys(false, unixTime(i.server.clock.now().Unix())); err != nil {
			t.Fatal(err)
		}
		other, _ := i.tokens("web")
		if header, _ := claimsOf(t, other); header["alg"] != "RS256" || !i.verifies(other) || !i.verifies(token) {
			t.Errorf("header %v, keys %v", header, i.keys())
		}
	})
	t.Run("R218 without signed tokens", func(t *testing.T) {
		t.Parallel()
		startControlled(t).control("POST", "keys", "").wantProblem("access_token_format.encoding is not jwt")
	})
}

// TestCredentialsAreShort: what is longer than a credential can be is not looked into.
func TestCredentialsAreShort(t *testing.T) {
	t.Parallel()
	f := format{Encoding: "jwt"}
	for _, row := range []struct {
		scopes int
		want   bool
	}{{1, true}, {2000, false}} {
		c := f.newCredential(func(jti string) string {
			return f.sign(jwt{&accessToken{Scope: strings.Repeat("read ", row.scopes)}, testKey(), jti, 0, "http://127.0.0.1", new(client), nil})
		})
		if _, ok := f.parse(c.text); ok != row.want {
			t.Errorf("%d bytes: parsed %t, want %t", len(c.text), ok, row.want)
		}
	}
}
