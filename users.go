package main

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// user is a resource owner (RFC 6749 §1.1). Usernames are compared byte by byte.
type user struct {
	ID       uuid.UUID    `json:"id"` // of this account: a later one of the same name has another
	Username string       `json:"username"`
	Name     string       `json:"name,omitempty"`
	Email    string       `json:"email,omitempty"`
	Password passwordHash `json:"password"`
}

// displayName is what people are shown.
func (u *user) displayName() string {
	if u.Name != "" {
		return u.Name
	}
	return u.Username
}

// passwordHash is PBKDF2-HMAC-SHA-256 (RFC 8018 §5.2).
type passwordHash struct {
	Salt   []byte `json:"salt"`
	Rounds int    `json:"rounds"`
	Hash   []byte `json:"hash"`
}

const (
	durableRounds = 600_000
	memoryRounds  = 1_000 // where nothing is written to disk
)

func newPasswordHash(password string, rounds int) passwordHash {
	p := passwordHash{Salt: make([]byte, 16), Rounds: rounds}
	rand.Read(p.Salt)
	p.Hash = p.derive(password)
	return p
}

// derive hashes the password's SHA-256 hash. HMAC pads short keys with zeros and
// hashes long ones, so with the password itself "wonderland\x00" would pass for
// "wonderland".
func (p passwordHash) derive(password string) []byte {
	key, err := pbkdf2.Key(sha256.New, string(hashSecret(password)), p.Salt, p.Rounds, sha256.Size)
	if err != nil {
		panic(err) // the key length is good
	}
	return key
}

func (p passwordHash) matches(password string) bool {
	return hmac.Equal(p.Hash, p.derive(password))
}

// mark differs from one password to the next.
func (p passwordHash) mark() []byte { return p.Salt }

// newPassword returns a password of 80 random bits in four groups, for people to type.
func newPassword() string {
	text := strings.ToLower(rand.Text())
	return text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16]
}

var errWrongPassword = errors.New("the username or the password is wrong")

// tooManyTries is an error that tells how many seconds to wait.
type tooManyTries int

func (tooManyTries) Error() string { return "too many failed tries" }

// How many wrong passwords one source may send in a minute, for one user and
// for all together: hashing each takes time (RFC 6749 §10.10).
//
// Choice: after that the right password has to wait too; otherwise guessing
// could go on.
const (
	passwordTries = 10
	sourceTries   = 100
)

// checkPassword returns the user with this password. A username that nobody has
// takes as much time, and as many tries, as one that somebody has.
func (s *server) checkPassword(ctx context.Context, username, password, source string, now unixTime) (*user, error) {
	if utf8.RuneCountInString(username) > maxUsername || utf8.RuneCountInString(password) > maxPassword {
		return nil, errWrongPassword
	}
	// Wait before a try is counted: a visitor who hangs up while waiting has used none.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return nil, temporarilyUnavailable(serverBusy, "too many people are signing in; try again in a moment")
	}
	// The source first, so that it cannot fill the limiter with usernames.
	if wait := s.passwords.try(source, sourceTries, now); wait > 0 {
		return nil, tooManyTries(wait)
	}
	guess := username + "\x00" + source
	if wait := s.passwords.try(guess, passwordTries, now); wait > 0 {
		s.passwords.giveBack(source) // nothing was hashed
		return nil, tooManyTries(wait)
	}
	u, err := s.store.userNamed(username)
	if err != nil {
		return nil, err
	}
	candidate := passwordHash{Salt: make([]byte, 16), Rounds: s.hashRounds, Hash: make([]byte, sha256.Size)}
	if u != nil {
		candidate = u.Password
	}
	if !candidate.matches(password) || u == nil {
		return nil, errWrongPassword
	}
	s.passwords.forget(guess)
	s.passwords.giveBack(source)
	return u, nil
}

// In characters.
const (
	maxUsername = 255
	maxPassword = 1024
)

// limiter counts tries by key in a window of time. Its zero value counts those
// of a minute. What it holds is bounded: filling it with many keys makes it
// forget some, but tries none of them often.
type limiter struct {
	window unixTime // in seconds; 0: guessWindow

	mu    sync.Mutex
	tries map[string]*tries
}

type tries struct {
	count int
	since unixTime
}

const (
	guessWindow = 60 // seconds
	maxKeys     = 10_000
)

// try takes one of limit tries before the secret is looked at, so that parallel
// guesses get no more. It returns 0, or how many seconds to wait.
func (l *limiter) try(key string, limit int, now unixTime) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	window := cmp.Or(l.window, guessWindow)
	// The window is over also if the clock was set back. A request that began
	// before the first of the tries, and sends its own after it, begins no new one.
	over := func(t *tries) bool { return now >= t.since+window || now < t.since-window }
	t := l.tries[key]
	if t == nil || over(t) {
		if l.tries == nil {
			l.tries = make(map[string]*tries)
		}
		if len(l.tries) >= maxKeys {
			maps.DeleteFunc(l.tries, func(_ string, t *tries) bool { return over(t) })
		}
		for other := range l.tries {
			if len(l.tries) < maxKeys {
				break
			}
			delete(l.tries, other)
		}
		t = &tries{since: now}
		l.tries[key] = t
	}
	if t.count >= limit {
		return int(t.since + window - now)
	}
	t.count++
	return 0
}

// giveBack takes back a try that was none.
func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tries[key]; t != nil && t.count > 0 {
		t.count--
	}
}

// forget is called after a right guess.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tries, key)
}

// clear forgets all tries.
func (l *limiter) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries = nil
}

// visitor is the browser behind a request. Each has a cookie; before the sign-in
// it is a random value that the server does not store.
type visitor struct {
	cookie  credential
	new     bool // the browser does not have the cookie yet
	session *session
	user    *user // nil: not signed in
}

// cookieName is the name of the session cookie. Browsers send cookies to all
// ports of a host, and those of __Host- to all its paths: with both in the name,
// two servers on one host do not sign out each other's users.
func (s *server) cookieName() string {
	u, _ := url.Parse(s.issuer()) // checkIssuer has
	name := "grantling-" + url.QueryEscape(u.Port()+s.base)
	if s.https() {
		return "__Host-" + name // RFC 6265bis §4.1.3.2
	}
	return name
}

// sessionLifetime is how long a sign-in lasts.
const sessionLifetime seconds = 12 * 60 * 60

// visitor returns who sends the request, and notes it on the exchange. A cookie
// without a live session is nobody's.
func (s *server) visitor(r *http.Request, x *exchange) (v *visitor, err error) {
	v = &visitor{new: true}
	if cookies := r.CookiesNamed(s.cookieName()); len(cookies) == 1 {
		if c, ok := cookieFormat.parse(cookies[0].Value); ok {
			v = &visitor{cookie: c}
			v.session, v.user, err = s.store.session(c, x.now)
		}
	}
	if v.new {
		v.cookie = cookieFormat.newCredential(claims{})
	}
	x.visitor = v
	return v, err
}

func (s *server) setCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{
		Name:     s.cookieName(),
		Value:    value,
		Path:     "/",
		Secure:   s.https(),
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// signIn makes a session for the user and gives the browser a new cookie;
// forms made under the old one stop working.
func (s *server) signIn(w http.ResponseWriter, v *visitor, u *user, now unixTime) error {
	c := cookieFormat.newCredential(claims{})
	live := &session{
		stored:       c.stored(),
		User:         u.ID,
		Username:     u.Username,
		PasswordMark: u.Password.mark(),
		Expires:      now.after(sessionLifetime),
	}
	if err := s.store.putSession(live, v.session); err != nil {
		return err
	}
	s.setCookie(w, c.String())
	return nil
}

// mac is a MAC under the visitor's cookie, which only that browser knows.
func (v *visitor) mac(parts ...string) string {
	m := hmac.New(sha256.New, []byte(v.cookie.text))
	for _, part := range parts {
		m.Write([]byte(part))
		m.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func sameMAC(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// formToken proves that a form comes from a page of this server in this browser
// (RFC 6749 §10.12).
func (v *visitor) formToken() string { return v.mac("form") }

func (v *visitor) checkFormToken(token string) error {
	if !sameMAC(v.formToken(), token) {
		return accessDenied(rfc6749("10.12"), formOfAnotherSignIn, "this form is from another sign-in, or the browser keeps no cookies").
			helped(help{Heading: "This form is out of date", Text: "You have signed in or out since it was loaded, or your browser keeps no cookies. Go back, reload the page and try again."})
	}
	return nil
}

// accountUUID identifies an account in services that use UUIDs. The same
// username has the same one on every server.
func accountUUID(username string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("grantling:user:"+username))
}

// accountNumber identifies an account in services that use numbers. It is at
// most 2^48, which fits a number in every language.
func accountNumber(username string) uint64 {
	var n uint64
	for _, b := range accountUUID(username).NodeID() { // six of its bytes
		n = n<<8 | uint64(b)
	}
	return n + 1
}

// secretTries is how many wrong secrets one source may send for one client in a minute.
const secretTries = 50

// source is where a request came from, for counting tries: this machine, a
// network of IPv6 (RFC 6177), or an address. Headers that claim another one are
// not believed.
func source(r *http.Request) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	address := from.Addr().Unmap()
	if address.IsLoopback() {
		return "loopback"
	}
	if address.Is6() {
		network, _ := address.Prefix(64)
		return network.String()
	}
	return address.String()
}
