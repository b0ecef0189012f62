package client

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/grantling/grantling/grantlingtest"
)

const api = "https://api.example/"

// verify is the API under test. It checks an access token with the keys that the
// server lists (RFC 9068 §4), and returns whom the token stands for.
func verify(issuer, keysURL, token string, now time.Time) (subject string, err error) {
	response, err := http.Get(keysURL)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var set struct{ Keys []struct{ Kid, N string } }
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		return "", err
	}
	var parts [3][]byte
	for i, part := range strings.SplitN(token, ".", 3) {
		if parts[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return "", err
		}
	}
	var header struct{ Typ, Alg, Kid string }
	var claims struct {
		Iss, Aud, Sub string
		Exp           int64
	}
	if err := errors.Join(json.Unmarshal(parts[0], &header), json.Unmarshal(parts[1], &claims)); err != nil {
		return "", err
	}
	if header.Typ != "at+jwt" || header.Alg != "RS256" || claims.Iss != issuer || claims.Aud != api || claims.Exp <= now.Unix() {
		return "", errors.New("not an access token for this API, or an old one")
	}
	sum := sha256.Sum256([]byte(token[:strings.LastIndex(token, ".")]))
	for _, key := range set.Keys {
		if key.Kid == header.Kid {
			n, _ := base64.RawURLEncoding.DecodeString(key.N)
			return claims.Sub, rsa.VerifyPKCS1v15(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, crypto.SHA256, sum[:], parts[2])
		}
	}
	return "", errors.New("signed with an unknown key")
}

// TestNewKey: the two members of the profile jwt.json make a server that signs its
// access tokens. The API takes them before and after a new key.
func TestNewKey(t *testing.T) {
	t.Parallel()
	srv := grantlingtest.Start(t, grantlingtest.Options{Args: []string{"-fixtures", "../fixtures.json", "-profile", "../jwt.json"}})
	newToken := func() string {
		answer, err := token(srv.Endpoint("token"), url.Values{"grant_type": {"client_credentials"}, "resource": {api}})
		if err != nil {
			t.Fatal(err)
		}
		return answer.AccessToken
	}
	check := func(token string) error {
		subject, err := verify(srv.URL, srv.Endpoint("jwks"), token, srv.Now())
		if err == nil && subject != "web" {
			t.Errorf("the token stands for %q", subject)
		}
		return err
	}
	first := newToken()
	srv.Control("POST", "keys", nil, nil)
	second := newToken()
	if err := errors.Join(check(first), check(second)); err != nil {
		t.Error(err)
	}
	if check(first[:strings.LastIndex(first, ".")]+second[strings.LastIndex(second, "."):]) == nil {
		t.Error("the API takes a token with the signature of another")
	}
	srv.Advance(2 * time.Hour)
	if check(second) == nil {
		t.Error("the API takes a token that has expired")
	}
}
