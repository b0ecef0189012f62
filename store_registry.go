package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// register stores users and clients in one transaction, or in several if that is too
// much for the engine. Of clients that registered themselves and that no user granted
// anything, it keeps maxUnused.
func (s *store) register(users []*user, clients []*client) error {
	for some := max(len(users), len(clients)); len(users)+len(clients) > 0; {
		u, c := min(some, len(users)), min(some, len(clients))
		var unused [][]byte
		var err error
		if slices.ContainsFunc(clients[:c], func(c *client) bool { return c.RegisteredBy == itself }) {
			unused, err = s.oldest(bucketLists, listKey(listUnused, ""), maxUnused-1)
		}
		if err == nil {
			err = s.update(func(t *tx) error {
				t.dropUnused(unused)
				return t.register(users[:u], clients[:c])
			})
		}
		switch {
		case errors.Is(err, errTooMuch) && some > 1:
			some /= 2
		case err != nil:
			return err
		default:
			users, clients = users[u:], clients[c:]
		}
	}
	return nil
}

var errNotFirst = errors.New("there are users already")

// registerFirst stores the users and clients of a first start. If another server was
// quicker with its own, it is errNotFirst.
func (s *store) registerFirst(users []*user, clients []*client) error {
	return s.update(func(t *tx) error {
		if len(t.keys(bucketUsers, nil, 1)) > 0 {
			return errNotFirst
		}
		return t.register(users, clients)
	})
}

// oldest returns the keys that begin with prefix, without the newest stay of them: ids
// are ordered by time. It returns only some at a time, because removing one can take
// several writes. It runs before the transaction that removes them: there can be many,
// and a few too many do no harm.
func (s *store) oldest(bucket, prefix []byte, stay int) ([][]byte, error) {
	return view(s, func(t *tx) (oldest [][]byte, err error) {
		n := 0 // to collect the keys of all takes ten times as long as to count them
		for range t.scan(bucket, prefix, nil) {
			n++
		}
		for _, key := range t.keys(bucket, prefix, min(max(0, n-stay), s.most()/8)) {
			oldest = append(oldest, bytes.Clone(key))
		}
		return oldest, nil
	})
}

// register stores users and clients. A user who replaces another of the same name
// keeps the id, because tokens hang on it, and the password, unless it is a new one.
// The transaction decides this, because the user whom the caller saw may be deleted by
// now, or another server with the same fixtures was quicker.
func (t *tx) register(users []*user, clients []*client) error {
	for _, u := range users {
		existing, err := t.user(u.Username)
		if err != nil {
			return err
		}
		if u.ID = uuid.New(); existing != nil {
			u.ID = existing.ID
		}
		record := *u
		if existing != nil && bytes.Equal(u.Password.Salt, u.oldSalt) {
			record.Password = existing.Password
		}
		t.put(bucketUsers, []byte(u.Username), record)
	}
	for _, c := range clients {
		if err := t.putClient(c); err != nil {
			return err
		}
	}
	return nil
}

// setPasswords stores the new passwords of users who are still registered, unless
// another server with the same fixtures was quicker.
func (s *store) setPasswords(users []*user) error {
	return s.update(func(t *tx) error {
		for _, u := range users {
			registered, err := t.user(u.Username)
			if err != nil {
				return err
			}
			if registered != nil && registered.ID == u.ID && bytes.Equal(registered.Password.Salt, u.oldSalt) {
				registered.Password = u.Password
				t.put(bucketUsers, []byte(u.Username), registered)
			}
		}
		return nil
	})
}

// registrations returns all users and clients.
func (s *store) registrations() (users []*user, clients []*client, err error) {
	users, err = view(s, func(t *tx) (users []*user, err error) {
		if clients, err = all[client](t, bucketClients); err != nil {
			return nil, err
		}
		return all[user](t, bucketUsers)
	})
	return users, clients, err
}

// reset removes everything, and stores the users and clients under new ids.
func (s *store) reset(users []*user, clients []*client) error {
	return s.update(func(t *tx) error {
		for _, bucket := range buckets {
			for _, key := range t.keys(bucket, nil, noLimit) {
				t.delete(bucket, key)
			}
		}
		return t.register(users, clients)
	})
}

// putClient stores a client, which keeps its id as users do. Ids are ordered by
// time, so that clients can be listed from the newest to the oldest.
func (t *tx) putClient(c *client) error {
	existing, err := t.client(c.ClientID)
	if err != nil {
		return err
	}
	lists := c.lists()
	if existing != nil {
		c.ID = existing.ID
		if unused := listKey(listUnused, c.ID.String()); c.RegisteredBy == itself && t.get(bucketLists, unused) != nil {
			lists = append(lists, unused)
		}
		t.unlist(existing)
	} else {
		c.ID = uuid.Must(uuid.NewV7())
		if c.RegisteredBy == itself {
			lists = append(lists, listKey(listUnused, c.ID.String()))
		}
	}
	for _, key := range lists {
		t.put(bucketLists, key, c.ClientID)
	}
	t.put(bucketClients, []byte(c.ClientID), c)
	return nil
}

// maxUnused is how many clients that registered themselves may wait for a user to
// grant them something.
//
// Choice: the newest stay, since anybody can register clients and must not fill
// the disk. A token of the client itself does not count: anybody can have one, too.
const maxUnused = 1000

// dropUnused removes the clients of these entries in the list.
func (t *tx) dropUnused(entries [][]byte) {
	for _, key := range entries {
		if clientID, _ := read[string](t, bucketLists, key); clientID != nil {
			t.deleteClient(*clientID)
		}
		t.delete(bucketLists, key)
	}
}

// deleteClient removes a client, also one that cannot be read.
func (t *tx) deleteClient(clientID string) {
	if c, _ := t.client(clientID); c != nil {
		t.unlist(c)
	}
	t.delete(bucketClients, []byte(clientID))
}

// Lists of clients, so that no request has to read all clients: those of an
// owner, those that name a grant type, and those that registered themselves and
// that no user granted anything yet.
const (
	listOwner  = "owner "
	listGrant  = "grant "
	listUnused = "unused"
)

// listKey is the key of an entry in a list; its value is the client_id.
func listKey(list, entry string) []byte { return []byte(list + "\x00" + entry) }

// lists are the client's keys in the lists of owners and grant types. The
// operator's clients without an owner are in the list of the owner "".
func (c *client) lists() (keys [][]byte) {
	if c.RegisteredBy != itself {
		keys = append(keys, listKey(listOwner+c.Owner, c.ClientID))
	}
	for _, grantType := range c.GrantTypes {
		keys = append(keys, listKey(listGrant+grantType, c.ClientID))
	}
	return keys
}

// unlist takes a client off all lists.
func (t *tx) unlist(c *client) {
	for _, key := range append(c.lists(), listKey(listUnused, c.ID.String())) {
		t.delete(bucketLists, key)
	}
}

// clientOrBuiltIn returns a client that is stored or built in, or nil.
func (t *tx) clientOrBuiltIn(clientID string) (*client, error) {
	c, err := t.client(clientID)
	if c == nil && err == nil && t.store.builtIn != nil {
		c = t.store.builtIn(clientID)
	}
	return c, err
}

// userNamed returns a user, or nil.
func (s *store) userNamed(username string) (*user, error) {
	return view(s, func(t *tx) (*user, error) { return t.user(username) })
}

// ownerOf returns the user for whom a client acts: its owner, or else the only
// user, if the operator registered the client. It is nil if there is none.
func (s *store) ownerOf(c *client) (*user, error) {
	if c.Owner != "" || c.RegisteredBy != operator {
		return s.userNamed(c.Owner)
	}
	return view(s, func(t *tx) (*user, error) {
		usernames := t.keys(bucketUsers, nil, 2)
		if len(usernames) != 1 {
			return nil, nil
		}
		return t.user(string(usernames[0]))
	})
}

// deleteUser removes a user. Everything issued for the user is dead from then on,
// even if a new user gets the same name; the sweeper removes it. The user's
// clients stay, without an owner.
func (s *store) deleteUser(username string) error {
	return s.update(func(t *tx) error {
		owned, err := t.clientsOf(username, noLimit)
		if err != nil {
			return err
		}
		for _, c := range owned {
			c.Owner = ""
			if err := t.putClient(c); err != nil {
				return err
			}
		}
		t.delete(bucketUsers, []byte(username))
		return nil
	})
}

// deleteClient removes a client. Everything issued to it is dead, as with deleteUser.
func (s *store) deleteClient(clientID string) error {
	return s.update(func(t *tx) error { t.deleteClient(clientID); return nil })
}

// anyNames reports whether some client names a grant type.
func (s *store) anyNames(grantType string) (bool, error) {
	return view(s, func(t *tx) (bool, error) {
		return len(t.keys(bucketLists, listKey(listGrant+grantType, ""), 1)) > 0, nil
	})
}

// clientsOf returns at most limit clients that a user owns or, for "", clients of
// the operator without an owner.
func (s *store) clientsOf(owner string, limit int) ([]*client, error) {
	return view(s, func(t *tx) ([]*client, error) { return t.clientsOf(owner, limit) })
}

func (t *tx) clientsOf(owner string, limit int) (owned []*client, err error) {
	list := listKey(listOwner+owner, "")
	for _, key := range t.keys(bucketLists, list, limit) {
		c, err := read[client](t, bucketClients, key[len(list):])
		if err != nil {
			return nil, err
		}
		if c != nil {
			owned = append(owned, c)
		}
	}
	return owned, nil
}

// Why addClient refuses.
var (
	errTooMany    = errors.New("the user owns as many clients as one may")
	errRegistered = errors.New("there is already such a client")
)

// addClient stores a new client of an owner who has fewer than limit.
func (s *store) addClient(c *client, limit int) error {
	return s.update(func(t *tx) error {
		existing, err := t.client(c.ClientID)
		if err != nil {
			return err
		}
		if existing != nil {
			return errRegistered
		}
		if owned := t.keys(bucketLists, listKey(listOwner+c.Owner, ""), limit); len(owned) == limit {
			return errTooMany
		}
		return t.putClient(c)
	})
}

// changeClient replaces a client with what change returns, or deletes it if that
// is nil. A client of another owner is errUnknown, like an unknown one.
func (s *store) changeClient(owner, clientID string, change func(*client) (*client, error)) error {
	return s.update(func(t *tx) error {
		c, err := t.client(clientID)
		if err != nil {
			return err
		}
		if c == nil || c.Owner != owner {
			return errUnknown
		}
		changed, err := change(c)
		switch {
		case err != nil:
			return err
		case changed == nil:
			t.deleteClient(clientID)
			return nil
		default:
			return t.putClient(changed)
		}
	})
}

// empty reports whether there are no users and no clients.
func (s *store) empty() (bool, error) {
	return view(s, func(t *tx) (bool, error) {
		return len(t.keys(bucketUsers, nil, 1))+len(t.keys(bucketClients, nil, 1)) == 0, nil
	})
}

// session is a browser that has signed in.
type session struct {
	stored
	User         uuid.UUID `json:"user"`
	Username     string    `json:"username"`
	PasswordMark []byte    `json:"password"` // changes with the password, which ends the session
	Expires      unixTime  `json:"exp"`
}

// maxSessions is how many sessions are kept.
//
// Choice: the newest stay, since a user can sign in again and again and must not
// fill the disk.
const maxSessions = 10_000

// replaceSession ends one session and stores another; either may be nil.
func (s *store) replaceSession(ended, begun *session) error {
	var oldest [][]byte
	if begun != nil {
		var err error
		if oldest, err = s.oldest(bucketSessions, nil, maxSessions-1); err != nil {
			return err
		}
	}
	return s.update(func(t *tx) error {
		if ended != nil {
			t.delete(bucketSessions, ended.id[:])
		}
		for _, key := range oldest {
			t.delete(bucketSessions, key)
		}
		if begun != nil {
			t.put(bucketSessions, begun.id[:], begun)
		}
		return nil
	})
}

// session returns the live session of c with its user, or nils.
func (s *store) session(c credential, now unixTime) (live *session, owner *user, err error) {
	live, err = view(s, func(t *tx) (*session, error) {
		owner = nil
		record, err := find[session](t, bucketSessions, c)
		if record == nil || record.Expires.expired(now) {
			return nil, err
		}
		u, err := t.user(record.Username)
		if u == nil || u.ID != record.User || !bytes.Equal(u.Password.Salt, record.PasswordMark) {
			return nil, err
		}
		owner = u
		return record, nil
	})
	return live, owner, err
}

// revokeGrants ends all grants of a user to a client, some at a time.
func (s *store) revokeGrants(user, client uuid.UUID) error {
	for more := true; more; {
		err := s.update(func(t *tx) error {
			keys := t.keys(bucketGrants, slices.Concat(user[:], client[:]), s.most())
			for _, key := range keys {
				t.delete(bucketGrants, key)
			}
			more = len(keys) == s.most()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxGrants is how many grants of one user to one client are read, the newest
// first, so that a page always costs the same.
const maxGrants = 100

// newestGrants yields the grants of a user to a client, the newest first.
func (t *tx) newestGrants(user, client uuid.UUID) iter.Seq2[*grant, error] {
	prefix := slices.Concat(user[:], client[:])
	return func(yield func(*grant, error) bool) {
		n := 0
		for key, value := range t.back(bucketGrants, prefix, slices.Concat(prefix, uuid.Max[:])) {
			if n++; !yield(decode[grant](bucketGrants, key, value)) || n == maxGrants {
				return
			}
		}
	}
}

// consented reports whether a live grant of the user to the client satisfies match.
//
// Choice: only the newest maxGrants count; for older ones the user is asked again.
func (s *store) consented(user, client uuid.UUID, now unixTime, match func(*grant) bool) (bool, error) {
	return view(s, func(t *tx) (bool, error) {
		for g, err := range t.newestGrants(user, client) {
			if err != nil {
				return false, err
			}
			if !g.Expires.expired(now) && match(g) {
				return true, nil
			}
		}
		return false, nil
	})
}

// grantees returns the ids of the clients that a user has granted something, the
// newest client first. The grants may have expired.
func (s *store) grantees(user uuid.UUID) ([]uuid.UUID, error) {
	return view(s, func(t *tx) (clients []uuid.UUID, err error) {
		to := slices.Concat(user[:], uuid.Max[:])
		for more := true; more; {
			more = false
			looked := 0
			for key := range t.back(bucketGrants, user[:], to) {
				if c := grantKey(key).client(); len(clients) == 0 || c != clients[len(clients)-1] {
					clients, looked = append(clients, c), 0
				}
				if looked++; looked == maxGrants { // on before all others of this client
					to, more = key[:32], true
					break
				}
			}
		}
		return clients, nil
	})
}

// permission sums up the live grants of a user to one client.
type permission struct {
	Client *client
	Scope  []string // at most as much as one request may ask for
	More   bool     // there may be more scope
	Since  unixTime
	Used   unixTime // when something was last issued on it; 0: not yet
}

// permission returns the permission of a user to a client, or nil.
func (s *store) permission(user, registration uuid.UUID, now unixTime) (*permission, error) {
	return view(s, func(t *tx) (p *permission, err error) {
		looked, size, seen := 0, 0, make(map[string]bool)
		for g, err := range t.newestGrants(user, registration) {
			if err != nil {
				return nil, err
			}
			looked++
			if g.Expires.expired(now) {
				continue
			}
			if p == nil {
				c, err := t.registered(g.ClientID, registration)
				if c == nil {
					return nil, err // the client is gone
				}
				p = &permission{Client: c, Since: g.Issued}
			}
			p.Since, p.Used = min(p.Since, g.Issued), max(p.Used, g.Used)
			for token := range strings.FieldsSeq(g.Scope) {
				switch {
				case seen[token]:
				case len(p.Scope) == maxScope || size+len(token) > maxScopeSize:
					p.More = true
				default:
					p.Scope, seen[token], size = append(p.Scope, token), true, size+len(token)
				}
			}
		}
		if p != nil && looked == maxGrants {
			p.More = true
		}
		return p, nil
	})
}

// clientRef names a client and its registration: client_id, a space, and the id of
// the registration in base64url.
type clientRef string

func refTo(c *client) clientRef {
	return clientRef(c.ClientID + " " + base64.RawURLEncoding.EncodeToString(c.ID[:]))
}

func (r clientRef) split() (clientID string, registration uuid.UUID) {
	at := max(0, strings.LastIndexByte(string(r), ' '))
	id, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(string(r[at:]), " "))
	copy(registration[:], id)
	return string(r[:at]), registration
}

// clientNamed returns a client, or nil.
func (s *store) clientNamed(clientID string) (*client, error) {
	return view(s, func(t *tx) (*client, error) { return t.clientOrBuiltIn(clientID) })
}
