package main

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// user is a resource owner (RFC 6749 §1.1). A username is compared byte by
// byte: there is one spelling of it.
type user struct {
	ID       uuid.UUID    `json:"id"` // of this account: another of the same name has another
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
	memoryRounds  = 1_000 // where nothing outlives the process
)

func newPasswordHash(password string, rounds int) passwordHash {
	p := passwordHash{Salt: make([]byte, 16), Rounds: rounds}
	rand.Read(p.Salt)
	p.Hash = p.derive(password)
	return p
}

// derive takes the SHA-256 hash of the password for the password. HMAC pads a
// short key with zeros and hashes a long one: by itself it would let
// "wonderland\x00" pass for "wonderland".
func (p passwordHash) derive(password string) []byte {
	key, err := pbkdf2.Key(sha256.New, string(hashSecret(password)), p.Salt, p.Rounds, sha256.Size)
	if err != nil {
		panic(err) // only for key lengths that SHA-256 is not
	}
	return key
}

func (p passwordHash) matches(password string) bool {
	return hmac.Equal(p.Hash, p.derive(password))
}

// mark tells this password from the next one.
func (p passwordHash) mark() []byte { return p.Salt }

// newPassword returns a password of 80 random bits in four groups, for people to type.
func newPassword() string {
	text := rand.Text()[:16]
	var groups []string
	for ; text != ""; text = text[4:] {
		groups = append(groups, strings.ToLower(text[:4]))
	}
	return strings.Join(groups, "-")
}

// Why a password is not accepted.
var errWrongPassword = errors.New("the username or the password is wrong")

// tooManyTries is how many seconds to wait.
type tooManyTries int

func (tooManyTries) Error() string { return "too many failed tries" }

// How many wrong passwords one source may send in a minute: for one user, and
// for all together, since each is work (RFC 6749 §10.10).
//
// Choice: then the right one has to wait too, as it would else be told apart.
const (
	passwordTries = 10
	sourceTries   = 100
)

// checkPassword returns the user whose password it is. A user that does not
// exist costs as much time, and as many tries, as one that does.
func (s *server) checkPassword(ctx context.Context, username, password, source string, now unixTime) (*user, error) {
	if utf8.RuneCountInString(username) > maxUsername || utf8.RuneCountInString(password) > maxPassword {
		return nil, errWrongPassword
	}
	// First the turn, then the tries: who hangs up while waiting spends none,
	// nor do many right passwords that arrive together.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return nil, temporarilyUnavailable(serverBusy, "too many people are signing in; try again in a moment")
	}
	// First those of the source: its many names cannot flood the record of tries.
	if wait := s.passwords.try(source, sourceTries, now); wait > 0 {
		return nil, tooManyTries(wait)
	}
	guess := username + "\x00" + source
	if wait := s.passwords.try(guess, passwordTries, now); wait > 0 {
		s.passwords.giveBack(source) // it was no work
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

// guesses counts tries at secrets by whom they are for and where they come
// from. Its zero value is ready. What it holds is bounded: whoever makes it
// forget, by trying very many names, tries none of them often.
type guesses struct {
	mu    sync.Mutex
	tries map[string]*tries
}

type tries struct {
	count int
	since unixTime
}

const (
	guessWindow = 60 // seconds
	maxGuesses  = 10_000
)

// try takes one of limit tries per minute before the secret is looked at, so
// that parallel guesses get no more. It returns 0, or how many seconds to wait.
func (g *guesses) try(key string, limit int, now unixTime) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tries[key]
	if t == nil || t.over(now) {
		g.makeRoom(now)
		t = &tries{since: now}
		g.tries[key] = t
	}
	if t.count >= limit {
		return int(t.since + guessWindow - now)
	}
	t.count++
	return 0
}

// over reports whether the minute of the tries is over, or the clock was set
// back. A request that began before the first of them, and sends its guess
// after it, does not begin a new minute.
func (t *tries) over(now unixTime) bool {
	return now >= t.since+guessWindow || now < t.since-guessWindow
}

func (g *guesses) makeRoom(now unixTime) {
	if g.tries == nil {
		g.tries = make(map[string]*tries)
	}
	if len(g.tries) < maxGuesses {
		return
	}
	maps.DeleteFunc(g.tries, func(_ string, t *tries) bool { return t.over(now) })
	for key := range g.tries {
		if len(g.tries) < maxGuesses {
			return
		}
		delete(g.tries, key)
	}
}

// clear forgets all guesses.
func (g *guesses) clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tries = nil
}

// giveBack takes back a try that was none.
func (g *guesses) giveBack(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.tries[key]; t != nil && t.count > 0 {
		t.count--
	}
}

// forget is called after a right guess.
func (g *guesses) forget(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.tries, key)
}

// visitor is the browser behind a request. Each has a cookie; that of one who
// has not signed in is a random value that the server keeps nothing of.
type visitor struct {
	cookie  credential
	new     bool // the browser does not have the cookie yet
	session *session
	user    *user // nil: not signed in
}

// cookieName is the session cookie's. Browsers send cookies to all ports of a
// host, and those of __Host- to all its paths: with both in the name two
// servers on a host do not sign each other's users out.
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

// visitor returns who sends the request. Cookies that are not a live session's
// make nobody.
func (s *server) visitor(r *http.Request, now unixTime) (*visitor, error) {
	if cookies := r.CookiesNamed(s.cookieName()); len(cookies) == 1 {
		if c, ok := cookieFormat.parse(cookies[0].Value); ok {
			live, u, err := s.store.session(c, now)
			return &visitor{cookie: c, session: live, user: u}, err
		}
	}
	return &visitor{cookie: cookieFormat.newCredential(claims{}), new: true}, nil
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
// nothing made under the old one is good any more.
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

// mac binds a form to the visitor's cookie, which only that browser knows.
func (v *visitor) mac(parts ...string) string {
	m := hmac.New(sha256.New, []byte(v.cookie.text))
	for _, part := range parts {
		m.Write([]byte(part))
		m.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

func sameMAC(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

// formToken guards the forms that carry nothing else to be guarded (RFC 6749 §10.12).
func (v *visitor) formToken() string { return v.mac("form") }

func (v *visitor) checkFormToken(token string) error {
	if !sameMAC(v.formToken(), token) {
		return accessDenied(rfc6749("10.12"), formOfAnotherSignIn, "this form is from another sign-in, or the browser keeps no cookies").
			helped(help{Heading: "This form is out of date", Text: "You have signed in or out since it was loaded, or your browser keeps no cookies. Go back, reload the page and try again."})
	}
	return nil
}

// accountUUID is the account identifier of services that have UUIDs: the same
// for the same username everywhere.
func accountUUID(username string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("grantling:user:"+username))
}

// accountNumber is that of services that count: up to 2^48, which every
// language's numbers hold.
func accountNumber(username string) uint64 {
	var n uint64
	for _, b := range accountUUID(username).NodeID() { // six of its bytes
		n = n<<8 | uint64(b)
	}
	return n + 1
}
