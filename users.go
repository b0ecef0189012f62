package main

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// user is a resource owner (RFC 6749 §1.1). Usernames are compared byte by byte.
type user struct {
	ID       uuid.UUID    `json:"id"` // a later account of the same name has another
	Username string       `json:"username"`
	Name     string       `json:"name,omitempty"`
	Email    string       `json:"email,omitempty"`
	Password passwordHash `json:"password"`

	newPassword string // of a fixture, not hashed yet
	oldSalt     []byte // of the password that was stored when this was made
}

// hashPasswords replaces passwords that have changed, so that the sessions of other
// users go on.
func (s *server) hashPasswords(users []*user) {
	var group sync.WaitGroup
	for _, u := range users {
		group.Go(func() {
			if !u.Password.matches(u.newPassword) {
				u.Password = newPasswordHash(u.newPassword, s.hashRounds)
			}
		})
	}
	group.Wait()
}

// hashLater returns what hashes and stores the passwords of registered users in the
// background. Nobody can sign in until then, because it holds every place for hashing.
//
// Choice: at a start with fixtures and a file, users exist before their passwords
// are stored. A stop waits; after a kill in that moment, the next such start stores them.
func (s *server) hashLater(users []*user) func(ctx context.Context) {
	for range cap(s.hashing) {
		s.hashing <- struct{}{}
	}
	return func(ctx context.Context) {
		for some := range slices.Chunk(users, max(1, cap(s.hashing)/2)) { // half of the machine answers
			if ctx.Err() != nil {
				break
			}
			s.hashPasswords(some)
			if err := s.store.setPasswords(some); err != nil {
				s.log.Error("passwords of fixtures", "failure", err.Error())
			}
		}
		for range cap(s.hashing) {
			<-s.hashing
		}
	}
}

// displayName is what people are shown.
func (u *user) displayName() string { return cmp.Or(u.Name, u.Username) }

// passwordHash is PBKDF2-HMAC-SHA-256 (RFC 8018 §5.2).
type passwordHash struct {
	Salt   []byte `json:"salt"` // different for each password that is set
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

// derive hashes the SHA-256 hash of the password. HMAC pads short keys with zeros,
// so without it "wonderland\x00" would be the same password as "wonderland".
func (p passwordHash) derive(password string) []byte {
	return must(pbkdf2.Key(sha256.New, string(hashSecret(password)), p.Salt, p.Rounds, sha256.Size)) // the key length is good
}

func (p passwordHash) matches(password string) bool {
	return p.Rounds > 0 && hmac.Equal(p.Hash, p.derive(password))
}

// newPassword returns a password of 80 random bits, in four groups for people to type.
func newPassword() string {
	text := strings.ToLower(rand.Text())
	return text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16]
}

// How many wrong passwords one source may send in a minute, for one user and for
// all users. Hashing takes time (RFC 6749 §10.10).
//
// Choice: after that the right password has to wait too. Otherwise guessing could
// go on.
const (
	passwordTries = 10
	sourceTries   = 100
)

// checkPassword returns the user with this password, or nil; wait is how many
// seconds to wait for another try. An unknown username takes the same time and the
// same number of tries.
func (s *server) checkPassword(ctx context.Context, username, password, source string, now unixTime) (u *user, wait int, err error) {
	if utf8.RuneCountInString(username) > maxUsername || utf8.RuneCountInString(password) > maxPassword {
		return nil, 0, nil
	}
	// Wait before counting a try: a visitor who hangs up while waiting uses none.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return nil, 0, temporarilyUnavailable(serverBusy, "too many people are signing in; try again in a moment")
	}
	check := func() (bool, error) {
		known, err := s.store.userNamed(username)
		if err != nil {
			return false, err
		}
		candidate := passwordHash{Salt: make([]byte, 16), Rounds: s.hashRounds, Hash: make([]byte, sha256.Size)}
		if known != nil {
			candidate = known.Password
		}
		if candidate.matches(password) {
			u = known
		}
		return u != nil, nil
	}
	// Count the source first, so that it cannot fill the limiter with usernames.
	_, waitAll, err := s.passwords.guess(source, sourceTries, 1, now, func() (right bool, err error) {
		right, wait, err = s.passwords.guess(username+"\x00"+source, passwordTries, passwordTries, now, check)
		return right || wait > 0, err // after a wait nothing was hashed
	})
	return u, max(wait, waitAll), err
}

// In characters.
const (
	maxUsername = 255
	maxPassword = 1024
)

// secretTries is how many wrong secrets one source may send for one client in a minute.
const secretTries = 50

// source is where a request came from, for counting tries: this machine, an IPv6
// network (RFC 6177), or an address. Headers that claim another are ignored.
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

// limiter counts tries by key in a window of time, a minute in its zero value. It
// holds at most maxKeys. An attacker who fills it makes it forget some keys, but
// cannot try any of them often.
type limiter struct {
	window unixTime // 0: guessWindow
	name   string   // among those of the servers that share a database
	store  *store   // that database, or nil
	late   bool     // guesses are counted there after the check

	mu    sync.Mutex
	tries map[string]*tries
}

type tries struct {
	count  int
	since  unixTime
	shared bool // some are counted in the store, too
}

const (
	guessWindow = 60 // seconds
	maxKeys     = 10_000
)

// shareGuesses has the limiters count with those of other servers.
func (s *server) shareGuesses() {
	if !s.store.shared() {
		return
	}
	for name, l := range map[string]*limiter{"passwords": &s.passwords, "secrets": &s.secrets, "user codes": &s.userCodes, "registrations": &s.registrations} {
		l.name, l.store, l.late = name, s.store, l == &s.secrets
	}
}

// guess checks a guess if any tries are left. A right guess gives back as many tries as
// back says. wait is 0, or how many seconds to wait before the next try; the guess was
// then not accepted, whatever ok says. If the database fails, a guess that was not
// checked does not count.
//
// Choice: servers that share a database count guesses together, but those of client
// secrets after the check, so that a right one costs nothing. In one moment, each
// server may check as many secrets as it could alone.
func (l *limiter) guess(key string, limit, back int, now unixTime, check func() (bool, error)) (ok bool, wait int, err error) {
	if wait = l.try(key, limit, now); wait > 0 {
		return false, wait, nil
	}
	if !l.late {
		if wait, err = l.share(key, 1, limit, now); wait > 0 || err != nil {
			l.giveBack(key, 1)
			return false, wait, err
		}
	}
	switch ok, err = check(); {
	case err != nil:
		back = 1
	case !ok && l.late:
		wait, err = l.share(key, 1, limit, now)
		return false, wait, err
	case !ok:
		return false, 0, nil
	}
	if shared := l.giveBack(key, back); shared || !l.late {
		l.share(key, -back, limit, now) // if that fails, they count
	}
	return ok, 0, err
}

// share counts guesses for all servers. It returns 0 or, if there were limit already,
// the seconds to wait.
func (l *limiter) share(key string, change, limit int, now unixTime) (wait int, err error) {
	if l.store == nil {
		return 0, nil
	}
	if wait, err = l.store.countGuesses(l.name+"\x00"+key, change, limit, now); err != nil || !l.late {
		return wait, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait > 0 {
		l.tries[key] = &tries{count: limit, since: now - guessWindow + unixTime(wait)}
	}
	if t := l.tries[key]; t != nil {
		t.shared = true
	}
	return wait, nil
}

// countGuesses adds change to the guesses that all servers count. If one more would be
// above limit, it returns the seconds to wait and counts nothing.
func (s *store) countGuesses(guess string, change, limit int, now unixTime) (wait int, err error) {
	id := hashSecret(guess)
	err = s.update(func(t *tx) error {
		m, err := read[mark](t, bucketMarks, id)
		if err != nil {
			return err
		}
		if m == nil || m.Expires.expired(now) {
			m = &mark{Expires: now + guessWindow}
		}
		if wait = 0; change > 0 && m.Tries >= limit {
			wait = min(int(m.Expires-now), guessWindow) // the clock of another server may be ahead
			return nil
		}
		if m.Tries += change; m.Tries > 0 {
			t.put(bucketMarks, id, m)
		} else {
			t.delete(bucketMarks, id)
		}
		return nil
	})
	return wait, err
}

// try takes one of limit tries, before the secret is looked at, so that parallel
// guesses get no more. It returns 0, or the seconds to wait.
func (l *limiter) try(key string, limit int, now unixTime) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	window := cmp.Or(l.window, guessWindow)
	// The window is also over if the clock was set far back, but not for a request
	// that began a little before the first try.
	over := func(t *tries) bool { return now >= t.since+window || now < t.since-window }
	t := l.tries[key]
	if t == nil || over(t) {
		if l.tries == nil {
			l.tries = make(map[string]*tries)
		}
		if len(l.tries) >= maxKeys {
			maps.DeleteFunc(l.tries, func(_ string, t *tries) bool { return over(t) || len(l.tries) >= maxKeys })
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

// giveBack returns at most n tries: those that were not used or, after a right
// guess, all. It reports whether some are counted in the store, too.
func (l *limiter) giveBack(key string, n int) (shared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tries[key]; t != nil {
		if t.count -= n; t.count <= 0 {
			delete(l.tries, key)
		}
		return t.shared
	}
	return false
}

// clear forgets all tries.
func (l *limiter) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tries = nil
}

// accountUUID identifies an account in services that use UUIDs. It is the same on
// every server.
func accountUUID(username string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("grantling:user:"+username))
}

// accountNumber identifies an account in services that use numbers. It is at most
// 2^48, which every language can hold as a number.
func accountNumber(username string) uint64 {
	var n uint64
	for _, b := range accountUUID(username).NodeID() { // six of its bytes
		n = n<<8 | uint64(b)
	}
	return n + 1
}
