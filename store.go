package main

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// store keeps everything. Its verbs are OAuth's, one transaction each.
type store struct {
	engine
	id uuid.UUID // of this process, see maySweep

	sweepAt  int    // the index in mortals where the sweeper continues
	sweepKey []byte // and the key there; nil: the first

	clients cache[client]
	users   cache[user]
	builtIn func(clientID string) *client // clients that are not stored, or nil
	grants  cache[grant]
	tokens  cache[accessToken] // those that are used

	fault func() error // for tests: the error of the next write, or nil
}

// unixTime counts whole seconds since 1970, the NumericDate of RFC 7519 §2. The
// server dates everything in whole seconds, so that expires_in, exp and the moment
// of expiry agree. As an expiry, 0 means never.
type unixTime int64

// seconds is a lifetime; 0 means forever.
type seconds int64

// after returns when something of this lifetime, issued at t, expires.
func (t unixTime) after(lifetime seconds) unixTime {
	if lifetime == 0 {
		return 0
	}
	return t + unixTime(lifetime)
}

func (t unixTime) expired(now unixTime) bool { return t != 0 && t <= now }

// UTC is the time for pages to format.
func (t unixTime) UTC() time.Time { return time.Unix(int64(t), 0).UTC() }

// later returns the later of two expiries.
func later(a, b unixTime) unixTime {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// earlier returns the earlier of two expiries.
func earlier(a, b unixTime) unixTime {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// grantKey names a grant: user, client and the grant's own id, 16 bytes each,
// so that all that a user granted to a client is one run of keys.
type grantKey [48]byte

func newGrantKey(user, client, id uuid.UUID) grantKey {
	return grantKey(slices.Concat(user[:], client[:], id[:]))
}

func (k grantKey) user() uuid.UUID   { return uuid.UUID(k[:16]) }
func (k grantKey) client() uuid.UUID { return uuid.UUID(k[16:32]) }
func (k grantKey) id() uuid.UUID     { return uuid.UUID(k[32:]) }

func (k grantKey) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, k[:]), nil
}

func (k *grantKey) UnmarshalText(text []byte) error {
	raw, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil || len(raw) != len(k) {
		return fmt.Errorf("%q is not a grant key", text)
	}
	copy(k[:], raw)
	return nil
}

// grant is what a user allowed a client to do (RFC 6749 §1.3). Codes and
// tokens hang on it: without their grant they are dead, so deleting this one
// record revokes them all.
type grant struct {
	key       grantKey
	ClientID  string   `json:"client_id"`
	Username  string   `json:"username"`
	Scope     string   `json:"scope,omitempty"`
	Resources []string `json:"resource,omitempty"`
	Issued    unixTime `json:"iat"`
	Used      unixTime `json:"used"`          // when something was last issued on it
	Expires   unixTime `json:"exp,omitempty"` // when the last thing issued on it ends

	Consented   bool `json:"consented,omitempty"`   // the user agreed to it at the authorization endpoint
	Refreshable bool `json:"refreshable,omitempty"` // a refresh token was issued on it
}

// stored is what the record of a credential keeps of it.
type stored struct {
	id   uuid.UUID // of the credential, and the key
	Hash string    `json:"hash"`
	At   unixTime  `json:"iat,omitempty"` // absent: at the time in the id
}

// issued is when the credential was made. The id has the time of the machine; a
// clock that was moved has another.
func (s *stored) issued() unixTime { return cmp.Or(s.At, timeOf(s.id)) }

func timeOf(id uuid.UUID) unixTime {
	seconds, _ := id.Time().UnixTime()
	return unixTime(seconds)
}

// oneTime is a credential that works once: an authorization code (RFC 6749 §4.1.2),
// a refresh token (RFC 6749 §1.5) or a device code (RFC 8628 §3.2). The record of a
// used one stays, so that a second use is noticed.
type oneTime struct {
	stored
	Grant   grantKey `json:"grant"`
	Expires unixTime `json:"exp,omitempty"`
	Used    bool     `json:"used,omitempty"`

	// What a code is bound to.
	RedirectURI   string `json:"redirect_uri,omitempty"` // as in the authorization request; empty if it had none
	CodeChallenge string `json:"code_challenge,omitempty"`

	Access uuid.UUID      `json:"access,omitzero"`  // issued beside a refresh token
	Next   *nextToken     `json:"next,omitempty"`   // issued for a refresh token, where the profile answers it again
	Device *deviceRequest `json:"device,omitempty"` // of a device code
}

// accessToken hangs on a grant. One from the client credentials grant hangs only
// on its client, because no user consented to it.
type accessToken struct {
	stored
	Grant     *grantKey `json:"grant,omitempty"`
	Client    clientRef `json:"client,omitempty"` // of a token without a grant
	Scope     string    `json:"scope,omitempty"`
	Resources []string  `json:"resource,omitempty"`
	Expires   unixTime  `json:"exp,omitempty"`
	Revoked   bool      `json:"revoked,omitempty"` // this token alone: its grant may live on
}

// client is the registration of the client that the token was issued to.
func (a *accessToken) client() uuid.UUID {
	if a.Grant != nil {
		return a.Grant.client()
	}
	_, registration := a.Client.split()
	return registration
}

// issuance is what one transaction issues; members that are nil are not issued.
type issuance struct {
	grant   *grant
	code    *oneTime
	access  *accessToken
	refresh *oneTime
	answers *pendingConsent // the request that the user was asked about
	ends    *uuid.UUID      // an access token that ends with this
}

// The buckets. Keys are ids of 16 bytes, except in users (username), clients
// (client_id), grants (grantKey), lists of clients (see client.lists) and some
// marks (see countGuesses and maySweep). Values are JSON.
var (
	bucketUsers    = []byte("users")
	bucketClients  = []byte("clients")
	bucketGrants   = []byte("grants")
	bucketCodes    = []byte("codes")
	bucketAccess   = []byte("access_tokens")
	bucketRefresh  = []byte("refresh_tokens")
	bucketSessions = []byte("sessions")
	bucketMarks    = []byte("marks")
	bucketDevices  = []byte("device_codes")
	bucketLists    = []byte("client_lists")

	buckets = [][]byte{bucketUsers, bucketClients, bucketLists, bucketGrants, bucketCodes, bucketAccess, bucketRefresh, bucketSessions, bucketMarks, bucketDevices}
)

func (s *stored) setKey(key []byte) { copy(s.id[:], key) }
func (g *grant) setKey(key []byte)  { copy(g.key[:], key) }

// find returns the record of a credential, or nil: an unknown id and a wrong
// secret are the same.
func find[T any, R interface {
	*T
	isOf(credential) bool
}](t *tx, bucket []byte, c credential) (*T, error) {
	record, err := read[T](t, bucket, c.id[:])
	if record == nil || !R(record).isOf(c) {
		return nil, err
	}
	return record, nil
}

// putIssued stores what is issued, and the grant as it is now.
func (t *tx) putIssued(i issuance) {
	if g := i.grant; g != nil {
		t.put(bucketGrants, g.key[:], g)
	}
	if c := i.code; c != nil {
		t.put(bucketCodes, c.id[:], c)
	}
	if a := i.access; a != nil {
		t.put(bucketAccess, a.id[:], a)
	}
	if r := i.refresh; r != nil {
		t.put(bucketRefresh, r.id[:], r)
	}
}

// errAnswered is for a second decision on one authorization request.
var errAnswered = errors.New("this authorization request has been answered")

// mark is a short note: that an authorization request was answered, or what servers
// that share a database tell each other.
type mark struct {
	Expires unixTime  `json:"exp"`
	Tries   int       `json:"tries,omitempty"` // see countGuesses
	Server  uuid.UUID `json:"server,omitzero"` // see maySweep
	Commit  uuid.UUID `json:"commit,omitzero"` // see etcd
}

// issue stores what was issued on a new grant, or on none (RFC 6749 §4.4). An
// authorization request can be answered once: a second answer is errAnswered.
func (s *store) issue(i issuance) error {
	return s.update(func(t *tx) error {
		if i.answers != nil {
			id := i.answers.id[:]
			if earlier, err := read[mark](t, bucketMarks, id); err != nil || earlier != nil {
				return cmp.Or(err, errAnswered)
			}
			t.put(bucketMarks, id, mark{Expires: i.answers.expires})
		}
		if i.grant != nil {
			t.delete(bucketLists, listKey(listUnused, i.grant.key.client().String()))
		}
		t.putIssued(i)
		return nil
	})
}

// Why a credential is refused.
var (
	errUnknown = errors.New("unknown")
	errExpired = errors.New("expired")
	errReused  = errors.New("used before")
	errRevoked = errors.New("revoked")

	errOfAnother = errors.New("issued to another client")
)

// noting notes each check of a credential, and returns ok.
type noting func(why error, ok bool) bool

func unnoted(_ error, ok bool) bool { return ok }

// verdict is an error whose writes are kept. Any other error must come before
// the first write of a verb. The second use of a code is a verdict: the client
// gets the error, and the tokens issued for the code are revoked. A plain error
// would look right, pass every test of the answer, and leave the tokens of a
// stolen code alive.
type verdict struct{ error }

func (v verdict) Unwrap() error { return v.error }

// live returns the grant that a credential works on, with its client and user.
// The error is errReused, errExpired or errRevoked.
func (t *tx) live(o *oneTime, now unixTime, note noting) (*bearer, error) {
	maySpend, err := t.maySpend(o, now)
	switch {
	case err != nil || !note(errReused, maySpend):
		return nil, cmp.Or(err, errReused)
	case !note(errExpired, !o.Expires.expired(now)):
		return nil, errExpired
	}
	b, err := t.granted(o.Grant)
	if err != nil || !note(errRevoked, b != nil) {
		return nil, cmp.Or(err, errRevoked)
	}
	b.issued, b.expires, b.scope, b.resources = o.issued(), o.Expires, b.grant.Scope, b.grant.Resources
	return b, nil
}

// spend marks a code or refresh token as used, and returns its grant. A second use
// revokes the grant (RFC 6749 §4.1.2, RFC 9700 §4.14.2).
func (t *tx) spend(o *oneTime, now unixTime, note noting) (*grant, error) {
	b, err := t.live(o, now, note)
	switch {
	case errors.Is(err, errReused):
		t.delete(bucketGrants, o.Grant[:])
		return nil, verdict{err}
	case err != nil:
		return nil, err
	}
	o.Used = true
	return b.grant, nil
}

// redeem exchanges a code (RFC 6749 §4.1.3), a refresh token (RFC 6749 §6) or a
// device code (RFC 8628 §3.4) for what is issued on its grant, in one transaction. check refuses, or calls spend
// and returns what to issue. A refusal before that changes nothing.
func (s *store) redeem(bucket []byte, c credential, now unixTime, note noting,
	check func(record *oneTime, spend func() (*grant, error)) (issuance, error)) error {
	return s.update(func(t *tx) error {
		record, err := find[oneTime](t, bucket, c)
		if err != nil || !note(errUnknown, record != nil) {
			return cmp.Or(err, errUnknown)
		}
		issued, err := check(record, func() (*grant, error) { return t.spend(record, now, note) })
		if err == nil && issued.ends != nil {
			err = t.endAccess(*issued.ends)
		}
		if err == nil || record.Device != nil && errors.As(err, new(verdict)) { // a poll counts
			t.put(bucket, c.id[:], record)
		}
		if err == nil {
			t.putIssued(issued)
		}
		return err
	})
}

// revokeToken ends an access token alone, or a refresh token with all that
// hangs on its grant (RFC 7009 §2.1). access and refresh are the same text, read
// as either kind. A token of another client than this is errOfAnother, an unknown
// one is no error.
//
// Choice: revoking an access token leaves its refresh token, so that a client can
// drop one that leaked and go on.
func (s *store) revokeToken(access, refresh credential, client uuid.UUID) error {
	return s.update(func(t *tx) error {
		token, err := find[oneTime](t, bucketRefresh, refresh)
		switch {
		case err != nil:
			return err
		case token != nil && token.Grant.client() != client:
			return errOfAnother
		case token != nil:
			t.delete(bucketGrants, token.Grant[:])
			return nil
		}
		bare, err := find[accessToken](t, bucketAccess, access)
		switch {
		case err != nil || bare == nil:
			return err
		case bare.client() != client:
			return errOfAnother
		case bare.Grant != nil:
			// Without a refresh token, the grant has nothing but this token.
			g, err := read[grant](t, bucketGrants, bare.Grant[:])
			if err != nil {
				return err
			}
			if g != nil && !g.Refreshable {
				t.delete(bucketGrants, bare.Grant[:])
				return nil
			}
		}
		return t.endAccess(bare.id)
	})
}

// endAccess revokes an access token alone. Its record stays until it expires, so
// that a client that presents it learns why it is refused.
func (t *tx) endAccess(id uuid.UUID) error {
	token, err := read[accessToken](t, bucketAccess, id[:])
	if err != nil || token == nil {
		return err
	}
	token.Revoked = true
	t.put(bucketAccess, id[:], token)
	return nil
}

// bearer is a live code or token with all it stands for.
type bearer struct {
	text      string // of an access token
	client    *client
	user      *user // nil after client credentials
	grant     *grant
	scope     string
	resources []string
	issued    unixTime
	expires   unixTime
}

// accessToken returns what a live access token stands for. A token lives while
// it has not expired and its grant, client and user are there; otherwise the
// error is errUnknown, errExpired or errRevoked.
func (s *store) accessToken(c credential, now unixTime, note noting) (*bearer, error) {
	return view(s, func(t *tx) (*bearer, error) {
		token, err := s.tokens.read(t, bucketAccess, c.id[:])
		switch {
		case err != nil || !note(errUnknown, token != nil && token.isOf(c)):
			return nil, cmp.Or(err, errUnknown)
		case !note(errExpired, !token.Expires.expired(now)):
			return nil, errExpired
		case !note(errRevoked, !token.Revoked):
			return nil, errRevoked
		}
		b, err := t.bearer(token)
		if err != nil || !note(errRevoked, b != nil) {
			return nil, cmp.Or(err, errRevoked)
		}
		b.text, b.scope, b.resources, b.issued, b.expires = c.text, token.Scope, token.Resources, token.issued(), token.Expires
		return b, nil
	})
}

// unused returns what a code or a refresh token that can be redeemed stands for;
// errors as accessToken's, and errReused.
func (s *store) unused(bucket []byte, c credential, now unixTime, note noting) (*bearer, error) {
	return view(s, func(t *tx) (*bearer, error) {
		record, err := find[oneTime](t, bucket, c)
		if err != nil || !note(errUnknown, record != nil) {
			return nil, cmp.Or(err, errUnknown)
		}
		return t.live(record, now, note)
	})
}

// bearer returns what a token that has not expired stands for, or nil.
func (t *tx) bearer(token *accessToken) (*bearer, error) {
	if token.Grant != nil {
		return t.granted(*token.Grant)
	}
	c, err := t.registered(token.Client.split())
	if c == nil {
		return nil, err
	}
	return &bearer{client: c}, nil
}

// granted returns a grant with its client and user, or nil if any of the three is gone.
func (t *tx) granted(key grantKey) (*bearer, error) {
	g, err := t.store.grants.read(t, bucketGrants, key[:])
	if g == nil {
		return nil, err
	}
	c, err := t.registered(g.ClientID, key.client())
	u, failed := t.user(g.Username) // before c is looked at, so that etcd fetches both at once
	switch {
	case c == nil:
		return nil, err
	case u == nil || u.ID != key.user():
		return nil, failed
	}
	return &bearer{client: c, user: u, grant: g}, nil
}

// registered returns a client if it is still the one of that registration.
func (t *tx) registered(clientID string, registration uuid.UUID) (*client, error) {
	c, err := t.clientOrBuiltIn(clientID)
	if c == nil || c.ID != registration {
		return nil, err
	}
	return c, nil
}
