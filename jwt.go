package main

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

// jwtHeader is the header of an access token (RFC 9068 §2.1), unless the profile has
// another.
var jwtHeader = newShape(object{{"typ", "at+jwt"}, {"alg", "${alg}"}, {"kid", "${kid}"}})

// jwtClaims are its claims (RFC 9068 §2.2).
//
// Choice: without a resource the audience is the issuer, whose /userinfo takes the
// token (RFC 9068 §3).
var jwtClaims = newShape(object{{"iss", "${issuer}"}, {"sub", "${sub}"}, {"aud", "${aud}"}, {"client_id", "${client_id}"},
	{"iat", "${iat}"}, {"exp", "${exp?}"}, {"jti", "${jti}"}, {"scope", "${scope?}"}})

// jwt is an access token that is about to be signed.
type jwt struct {
	*accessToken
	key    *signingKey
	jti    string
	issued unixTime
	issuer string
	client *client
	grant  *grant // nil: the client's own token
}

// jwtFacts are the placeholders of header and claims.
var jwtFacts = factsOf[jwt]{
	"alg":    func(j jwt) fact { return text(j.key.alg()) },
	"kid":    func(j jwt) fact { return text(j.key.kid) },
	"issuer": func(j jwt) fact { return text(j.issuer) },
	"aud": func(j jwt) fact {
		if len(j.Resources) == 0 {
			return text(j.issuer)
		}
		return audience(j.Resources)
	},
	"client_id": func(j jwt) fact { return text(j.client.ClientID) },
	"iat":       func(j jwt) fact { return number(j.issued) },
	"exp": func(j jwt) fact {
		if j.Expires == 0 {
			return fact{}
		}
		return number(j.Expires)
	},
	"jti":    func(j jwt) fact { return text(j.jti) },
	"scope":  func(j jwt) fact { return text(j.Scope) },
	"scopes": func(j jwt) fact { return list(strings.Fields(j.Scope)) },
	"sub": func(j jwt) fact { // RFC 9068 §2.2
		if j.grant == nil {
			return text(j.client.ClientID)
		}
		return text(j.grant.Username)
	},
	"account_uuid": func(j jwt) fact { // empty in a client's own token
		if j.grant == nil {
			return fact{kind: aText}
		}
		return text(accountUUID(j.grant.Username).String())
	},
}

// sign writes the token out (RFC 7515 §3.1).
func (f format) sign(j jwt) string {
	facts := jwtFacts.of(j)
	header, claims := cmp.Or(f.Header, &jwtHeader).fill(facts), cmp.Or(f.Claims, &jwtClaims).fill(facts)
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(j.key.sign(signed))
}

// jwtID decodes the jti of a JSON Web Token. The server reads nothing else: it
// knows the token by its hash, and keeps what the claims say in its own records.
func jwtID(text string) ([]byte, error) {
	_, rest, _ := strings.Cut(text, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, err
	}
	var claims struct {
		ID string `json:"jti"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return nil, err
	}
	return hex.DecodeString(claims.ID)
}

// algorithms make a key for each value of alg (RFC 7518 §3.1).
var algorithms = map[string]func() (crypto.Signer, error){
	"RS256": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"ES256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
}

// signingKey signs access tokens. The file has it in PKCS #8.
type signingKey struct {
	PKCS8   []byte   `json:"pkcs8"`
	Expires unixTime `json:"exp,omitempty"` // of an old key: when the last token that it signed does

	signer crypto.Signer
	kid    string
}

func newSigningKey(alg string) (*signingKey, error) {
	signer, err := algorithms[alg]()
	if err != nil {
		return nil, err
	}
	k := &signingKey{PKCS8: must(x509.MarshalPKCS8PrivateKey(signer))} // it is of a kind that can be written
	return k, k.open()
}

// open makes a key of its record. The kid is the thumbprint of RFC 7638 §3.
func (k *signingKey) open() error {
	private, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return cmp.Or(err, errors.New("a signing key that cannot sign"))
	}
	k.signer = signer
	k.kid = base64.RawURLEncoding.EncodeToString(hashSecret(string(must(marshalJSON(k.public()))))) // text
	return nil
}

func (k *signingKey) alg() string {
	if _, isRSA := k.signer.(*rsa.PrivateKey); isRSA {
		return "RS256"
	}
	return "ES256"
}

// public has the members that make the key, in the order of RFC 7638 §3.2.
func (k *signingKey) public() object {
	encode := base64.RawURLEncoding.EncodeToString
	switch public := k.signer.Public().(type) {
	case *rsa.PublicKey: // RFC 7518 §6.3.1
		return object{{"e", encode(big.NewInt(int64(public.E)).Bytes())}, {"kty", "RSA"}, {"n", encode(public.N.Bytes())}}
	case *ecdsa.PublicKey: // RFC 7518 §6.2.1
		point := must(public.Bytes()) // 4, x, y
		return object{{"crv", "P-256"}, {"kty", "EC"}, {"x", encode(point[1:33])}, {"y", encode(point[33:])}}
	}
	return nil
}

// sign signs with RS256 or ES256 (RFC 7518 §3.3, §3.4).
func (k *signingKey) sign(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	if private, isEC := k.signer.(*ecdsa.PrivateKey); isEC {
		r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
		must(r, err) // the key is on its curve
		var signature [64]byte
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signature[:]
	}
	return must(k.signer.Sign(nil, sum[:], crypto.SHA256)) // the key is long enough for SHA-256
}

// makesJWT reports whether access tokens are JSON Web Tokens.
func (p *profile) makesJWT() bool { return p.AccessTokenFormat.Encoding == "jwt" }

// openKeys reads the signing keys, and makes the first one or, to rotate, a new one.
func (s *server) openKeys(rotate bool, now unixTime) error {
	if !s.profile.makesJWT() {
		return nil
	}
	keys, err := s.store.signingKeys(cmp.Or(s.profile.AccessTokenFormat.Alg, "RS256"), rotate, now, s.profile.AccessTokenLifetime)
	if err == nil {
		s.keys.Store(&keys)
	}
	return err
}

// signingKeys returns the keys, the newest first, which signs. It makes one if there
// is none, or none of this algorithm, or to rotate. An old key stays until all tokens
// have expired that were issued so far, or are being issued now.
//
// Choice: keys are kept in the database, so that tokens outlive a restart.
func (s *store) signingKeys(alg string, rotate bool, now unixTime, lifetime seconds) (keys []*signingKey, err error) {
	good := func() bool { return !rotate && len(keys) > 0 && keys[0].alg() == alg }
	if keys, err = view(s, (*tx).signingKeys); err != nil || good() {
		return keys, err
	}
	last, err := view(s, func(t *tx) (unixTime, error) {
		last := now.after(lifetime)
		for key, value := range t.scan(bucketAccess, nil, nil) {
			if token, err := decode[accessToken](bucketAccess, key, value); err == nil {
				last = later(last, token.Expires)
			}
		}
		return last, nil
	})
	if err != nil {
		return nil, err
	}
	made, err := newSigningKey(alg)
	if err != nil {
		return nil, err
	}
	err = s.update(func(t *tx) error {
		if keys, err = t.signingKeys(); err != nil || good() { // another server may have made one
			return err
		}
		if len(keys) > 0 {
			keys[0].Expires = last
		}
		keys = append([]*signingKey{made}, slices.DeleteFunc(keys, func(k *signingKey) bool { return k.Expires.expired(now) })...)
		t.put(bucketMeta, metaKeys, keys)
		return nil
	})
	return keys, err
}

func (t *tx) signingKeys() ([]*signingKey, error) {
	stored, err := read[[]*signingKey](t, bucketMeta, metaKeys)
	if stored == nil {
		return nil, err
	}
	for _, k := range *stored {
		if err := k.open(); err != nil {
			return nil, err
		}
	}
	return *stored, nil
}

// handleKeys lists the keys that tokens are verified with (RFC 7517 §5).
func (s *server) handleKeys(w http.ResponseWriter, _ *http.Request, x *exchange) error {
	listed := []object{}
	if keys := s.keys.Load(); keys != nil {
		for _, k := range *keys {
			if !k.Expires.expired(x.now) {
				listed = append(listed, append(k.public(), object{{"use", "sig"}, {"alg", k.alg()}, {"kid", k.kid}}...))
			}
		}
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Del("Pragma")
	return s.writeJSON(w, http.StatusOK, object{{"keys", listed}})
}

// rotateKeys is the verb of the control API that makes a new signing key.
func (s *server) rotateKeys(_ *http.Request, x *exchange) (any, error) {
	if !s.profile.makesJWT() {
		return nil, errors.New("this profile's access tokens are not signed: access_token_format.encoding is not jwt")
	}
	if err := s.openKeys(true, x.now); err != nil {
		return nil, err
	}
	return object{{"kid", (*s.keys.Load())[0].kid}}, nil
}
