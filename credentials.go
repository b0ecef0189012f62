package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// credential is an authorization code, a token or a session identifier: a
// public id, which is its key in the file, and a secret of at least 128 random
// bits (RFC 6749 §10.10). The file has only a hash of the whole.
type credential struct {
	id   uuid.UUID // version 7: credentials made together lie together in the file
	text string    // as it goes over the wire
}

func (c credential) String() string { return c.text }

// stored is what the file keeps of a credential that is issued now.
func (c credential) stored(now unixTime) stored {
	s := stored{id: c.id, Hash: c.hash()}
	if now != timeOf(c.id) {
		s.At = now
	}
	return s
}

// hash is of the text, so another encoding of the same bytes does not match.
//
// Choice: the first half of SHA-256, 128 bits, as many as the secret has. A file of
// many tokens is an eighth smaller with it.
func (c credential) hash() string {
	return base64.RawURLEncoding.EncodeToString(hashSecret(c.text)[:16])
}

// isOf compares the hash with a credential in constant time.
func (s *stored) isOf(c credential) bool {
	return subtle.ConstantTimeCompare([]byte(s.Hash), []byte(c.hash())) == 1
}

// format is how a credential looks: 43 characters of base64url, 64 of
// hexadecimal, or a JSON Web Token. It is opaque to clients (RFC 6749 §1.4).
type format struct {
	Encoding string `json:"encoding" one:"base64url hex jwt"`
	Prefix   string `json:"prefix"`

	// Of JSON Web Tokens: how they are signed, by default with RS256, and their
	// content, by default that of RFC 9068 §2.
	Alg    string `json:"alg" one:"RS256 ES256"`
	Header *shape `json:"header" facts:"$jwt facts"`
	Claims *shape `json:"claims" facts:"$jwt facts"`
}

// cookieFormat is the format of session identifiers.
var cookieFormat = format{Encoding: "base64url"}

// maxCredential is the longest text that can be one, in bytes.
const maxCredential = 8 << 10

// newCredential returns a random one. sign makes a JSON Web Token with a jti.
func (f format) newCredential(sign func(jti string) string) credential {
	var secret [24]byte
	rand.Read(secret[:]) // never fails: crypto/rand ends the process instead
	return f.credentialOf(uuid.Must(uuid.NewV7()), secret[:], sign)
}

// credentialOf returns the credential of an id and a secret.
func (f format) credentialOf(id uuid.UUID, secret []byte, sign func(jti string) string) credential {
	c := credential{id: id}
	short := append(c.id[:], secret[:16]...)
	switch f.Encoding {
	case "hex":
		c.text = f.Prefix + hex.EncodeToString(short)
	case "jwt":
		c.text = sign(hex.EncodeToString(append(c.id[:], secret...)))
	default:
		c.text = f.Prefix + base64.RawURLEncoding.EncodeToString(short)
	}
	return c
}

// parse finds the id in what looks like a credential. Only the stored hash tells
// whether it is one.
func (f format) parse(text string) (credential, bool) {
	encoded, ok := strings.CutPrefix(text, f.Prefix)
	if !ok || len(text) > maxCredential {
		return credential{}, false
	}
	var raw []byte
	var err error
	switch f.Encoding {
	case "hex":
		raw, err = hex.DecodeString(encoded)
	case "jwt":
		raw, err = jwtID(encoded)
	default:
		raw, err = base64.RawURLEncoding.DecodeString(encoded)
	}
	if err != nil || len(raw) < 32 || len(raw) > 32 && f.Encoding != "jwt" {
		return credential{}, false
	}
	return credential{uuid.UUID(raw[:16]), text}, true
}

// newClientSecret returns a secret of 256 random bits, in 43 characters.
func newClientSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
