package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/google/uuid"
)

// nextToken is what the record of a used refresh token keeps of the token after it, so
// that the same can be answered again. Its secret follows from the salt and the text
// of the used token, which the file does not have.
type nextToken struct {
	ID    uuid.UUID `json:"id"`
	Salt  []byte    `json:"salt"`
	Until unixTime  `json:"until"`
}

// refreshTokenAfter returns the refresh token of the answer: a new one (RFC 6749 §6);
// during the grace, the one that was already sent, in case that answer was lost; or,
// with keep, the same as before.
//
// Choice: a public client gets a new one in any profile, because it has nothing but the
// token (RFC 9700 §2.2.2).
func (p *profile) refreshTokenAfter(used *oneTime, presented credential, c *client, now unixTime) credential {
	switch {
	case p.RefreshTokenUse == "keep" && !c.public():
		return presented // its record is written again
	case p.RefreshTokenGrace == 0:
		return p.newRefreshToken()
	case used.Next == nil:
		used.Next = &nextToken{uuid.Must(uuid.NewV7()), make([]byte, 16), now.after(p.RefreshTokenGrace)}
		rand.Read(used.Next.Salt)
	}
	mac := hmac.New(sha256.New, []byte(presented.text))
	mac.Write(used.Next.Salt)
	return p.RefreshTokenFormat.credentialOf(used.Next.ID, mac.Sum(nil), nil)
}

// maySpend reports whether a code or refresh token may be used: if it was not used yet
// or, where the profile has a grace, if the answer to its use may have been lost.
//
// Choice: the grace ends when the token after it is used. Then the client has it, and
// somebody else presents the old one.
func (t *tx) maySpend(o *oneTime, now unixTime) (bool, error) {
	if !o.Used || o.Next == nil || o.Next.Until.expired(now) {
		return !o.Used, nil
	}
	next, err := read[oneTime](t, bucketRefresh, o.Next.ID[:])
	return next != nil && !next.Used, err
}
