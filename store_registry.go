package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// register stores users and clients, all of them or none.
func (s *store) register(users []*user, clients []*client) error {
	return s.update(func(t *tx) error { return t.register(users, clients) })
}

func (t *tx) register(users []*user, clients []*client) error {
	for _, u := range users {
		if err := t.putUser(u); err != nil {
			return err
		}
	}
	for _, c := range clients {
		if err := t.putClient(c); err != nil {
			return err
		}
	}
	return nil
}

// registrations returns all users and clients.
func (s *store) registrations() (users []*user, clients []*client, err error) {
	err = s.view(func(t *tx) error {
		if users, err = all[user](t, bucketUsers); err != nil {
			return err
		}
		clients, err = all[client](t, bucketClients)
		return err
	})
	return users, clients, err
}

// all returns the records of a bucket.
func all[T any](t *tx, bucket []byte) (records []*T, err error) {
	cursor := t.Bucket(bucket).Cursor()
	for k, _ := cursor.First(); k != nil; k, _ = cursor.Next() {
		record, err := read[T](t, bucket, k)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// reset removes everything, and puts back the given users and clients under
// new ids.
func (s *store) reset(users []*user, clients []*client) error {
	return s.update(func(t *tx) error {
		for _, bucket := range buckets {
			if err := t.clear(bucket); err != nil {
				return err
			}
		}
		return t.register(users, clients)
	})
}

// putUser stores a user and gives it its id. One that takes the place of
// another of its name has its id, on which hangs what was issued for it. This
// is decided here, since the caller may have seen one that has been deleted
// meanwhile.
func (t *tx) putUser(u *user) error {
	existing, err := read[user](t, bucketUsers, []byte(u.Username))
	if err != nil {
		return err
	}
	if u.ID = uuid.New(); existing != nil {
		u.ID = existing.ID
	}
	return t.put(bucketUsers, []byte(u.Username), u)
}

// putClient stores a client, as putUser does a user. Ids are ordered by time,
// so that clients can be listed from the newest to the oldest.
//
// Of the clients that registered themselves and were issued nothing, the
// newest maxUnused stay: anybody may register them.
func (t *tx) putClient(c *client) error {
	existing, err := read[client](t, bucketClients, []byte(c.ClientID))
	if err != nil {
		return err
	}
	if c.ID = uuid.Must(uuid.NewV7()); existing != nil {
		c.ID = existing.ID
		if err := t.unlist(existing); err != nil {
			return err
		}
	}
	lists := c.lists()
	if c.RegisteredBy == itself && existing == nil {
		if err := t.dropUnused(maxUnused - 1); err != nil {
			return err
		}
		lists = append(lists, listKey(listUnused, c.ID.String()))
	}
	for _, key := range lists {
		if err := t.put(bucketLists, key, c.ClientID); err != nil {
			return err
		}
	}
	return t.put(bucketClients, []byte(c.ClientID), c)
}

// maxUnused is how many clients that registered themselves may wait for
// something to be issued to them.
const maxUnused = 1000

// dropUnused removes the oldest of those clients until so many are left.
func (t *tx) dropUnused(left int) error {
	unused := slices.Collect(t.run(bucketLists, listKey(listUnused, "")))
	for _, key := range unused[:max(0, len(unused)-left)] {
		if clientID, _ := read[string](t, bucketLists, key); clientID != nil {
			if err := t.deleteClient(*clientID); err != nil {
				return err
			}
		}
		if err := t.delete(bucketLists, key); err != nil {
			return err
		}
	}
	return nil
}

// deleteClient removes a client, also one that cannot be read.
func (t *tx) deleteClient(clientID string) error {
	if c, _ := read[client](t, bucketClients, []byte(clientID)); c != nil {
		if err := t.unlist(c); err != nil {
			return err
		}
	}
	return t.delete(bucketClients, []byte(clientID))
}

// The lists that clients stand in, so that nobody has to look through all of
// them: those of an owner, those that name a grant type, and those that
// registered themselves and were issued nothing yet.
const (
	listOwner  = "owner "
	listGrant  = "grant "
	listUnused = "unused"
)

// listKey is where an entry stands in a list; its value is the client_id.
func listKey(list, entry string) []byte { return []byte(list + "\x00" + entry) }

// lists are the client's keys in the lists that follow from what it is. Nobody
// owns the operator's clients without an owner: their list has no name.
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
func (t *tx) unlist(c *client) error {
	for _, key := range append(c.lists(), listKey(listUnused, c.ID.String())) {
		if err := t.delete(bucketLists, key); err != nil {
			return err
		}
	}
	return nil
}

// userNamed returns a user, or nil.
func (s *store) userNamed(username string) (u *user, err error) {
	err = s.view(func(t *tx) error {
		u, err = read[user](t, bucketUsers, []byte(username))
		return err
	})
	return u, err
}

// ownerOf returns the user for whom a client acts: its owner or, if the
// operator named none, the only user that there is; or nil.
func (s *store) ownerOf(c *client) (owner *user, err error) {
	if c.Owner != "" || c.RegisteredBy != operator {
		return s.userNamed(c.Owner)
	}
	err = s.view(func(t *tx) error {
		cursor := t.Bucket(bucketUsers).Cursor()
		only, _ := cursor.First()
		if more, _ := cursor.Next(); only == nil || more != nil {
			return nil
		}
		owner, err = read[user](t, bucketUsers, only)
		return err
	})
	return owner, err
}

// deleteUser removes a user. Whatever was issued for it is dead from then on,
// also if another user of that name comes; the sweeper takes it away.
// Nobody owns the user's clients then.
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
		return t.delete(bucketUsers, []byte(username))
	})
}

// clientNamed returns a client, or nil.
func (s *store) clientNamed(clientID string) (c *client, err error) {
	err = s.view(func(t *tx) error {
		c, err = read[client](t, bucketClients, []byte(clientID))
		return err
	})
	return c, err
}

// deleteClient removes a client, and with it all that was issued to it, as deleteUser.
func (s *store) deleteClient(clientID string) error {
	return s.update(func(t *tx) error { return t.deleteClient(clientID) })
}

// anyNames reports whether some client names a grant type.
func (s *store) anyNames(grantType string) (found bool, err error) {
	err = s.view(func(t *tx) error {
		found = false
		for range t.run(bucketLists, listKey(listGrant+grantType, "")) {
			found = true
			break
		}
		return nil
	})
	return found, err
}

// noLimit asks clientsOf for all.
const noLimit = -1

// clientsOf returns the clients that a user owns, or those of the operator
// that nobody owns, but no more than limit.
func (s *store) clientsOf(owner string, limit int) (owned []*client, err error) {
	err = s.view(func(t *tx) error {
		owned, err = t.clientsOf(owner, limit)
		return err
	})
	return owned, err
}

func (t *tx) clientsOf(owner string, limit int) (owned []*client, err error) {
	for key := range t.run(bucketLists, listKey(listOwner+owner, "")) {
		if len(owned) == limit {
			break
		}
		clientID, err := read[string](t, bucketLists, key)
		if err != nil {
			return nil, err
		}
		c, err := read[client](t, bucketClients, []byte(*clientID))
		if err != nil {
			return nil, err
		}
		if c != nil {
			owned = append(owned, c)
		}
	}
	return owned, nil
}

// errTooMany answers the registration of one client more than a user may own.
var errTooMany = errors.New("the user owns as many clients as one may")

// errRegistered answers the registration of a client that there is already.
var errRegistered = errors.New("there is such a client already")

// addClient stores a new client of an owner who has fewer than limit.
func (s *store) addClient(c *client, limit int) error {
	return s.update(func(t *tx) error {
		existing, err := read[client](t, bucketClients, []byte(c.ClientID))
		if err != nil {
			return err
		}
		if existing != nil {
			return errRegistered
		}
		if owned := slices.Collect(t.run(bucketLists, listKey(listOwner+c.Owner, ""))); len(owned) >= limit {
			return errTooMany
		}
		return t.putClient(c)
	})
}

// changeClient puts what change makes of a client in its place, or deletes it
// if that is nil, together with all that was issued to it. A client of another
// owner is as unknown as one that does not exist.
func (s *store) changeClient(owner, clientID string, change func(*client) (*client, error)) error {
	return s.update(func(t *tx) error {
		c, err := read[client](t, bucketClients, []byte(clientID))
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
			return t.deleteClient(clientID)
		default:
			return t.putClient(changed)
		}
	})
}

// empty reports whether the file knows no user and no client.
func (s *store) empty() (empty bool, err error) {
	err = s.view(func(t *tx) error {
		user, _ := t.Bucket(bucketUsers).Cursor().First()
		client, _ := t.Bucket(bucketClients).Cursor().First()
		empty = user == nil && client == nil
		return nil
	})
	return empty, err
}

// putSession stores a session; replaced, if not nil, is the one it takes the place of.
func (s *store) putSession(new *session, replaced *session) error {
	return s.update(func(t *tx) error {
		if replaced != nil {
			if err := t.delete(bucketSessions, replaced.id[:]); err != nil {
				return err
			}
		}
		return t.put(bucketSessions, new.id[:], new)
	})
}

// session returns the live session of c with its user, or nils.
func (s *store) session(c credential, now unixTime) (live *session, u *user, err error) {
	err = s.view(func(t *tx) error {
		record, err := find[session](t, bucketSessions, c)
		if record == nil || record.Expires.expired(now) {
			return err
		}
		owner, err := read[user](t, bucketUsers, []byte(record.Username))
		if owner == nil || owner.ID != record.User || !bytes.Equal(owner.Password.mark(), record.PasswordMark) {
			return err
		}
		live, u = record, owner
		return nil
	})
	return live, u, err
}

// deleteSession signs a browser out.
func (s *store) deleteSession(live *session) error {
	return s.update(func(t *tx) error { return t.delete(bucketSessions, live.id[:]) })
}

// signingKey returns the key of signed tokens, which is made the first time.
func (s *store) signingKey() (key *rsa.PrivateKey, err error) {
	err = s.update(func(t *tx) error {
		stored, err := read[[]byte](t, bucketMeta, metaKey)
		if err != nil {
			return err
		}
		if stored == nil {
			made, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				return err
			}
			key = made
			return t.put(bucketMeta, metaKey, x509.MarshalPKCS1PrivateKey(made))
		}
		key, err = x509.ParsePKCS1PrivateKey(*stored)
		return err
	})
	return key, err
}

// session is a browser that has signed in.
type session struct {
	stored
	User         uuid.UUID `json:"user"`
	Username     string    `json:"username"`
	PasswordMark []byte    `json:"password"` // changes with the password, which ends the session
	Expires      unixTime  `json:"exp"`
}

// grantees returns the registrations of the clients that a user granted
// something to, the newest first. Some of it may have expired.
func (s *store) grantees(user uuid.UUID) (clients []uuid.UUID, err error) {
	err = s.view(func(t *tx) error {
		key := t.before(bucketGrants, slices.Concat(user[:], uuid.Max[:]))
		for bytes.HasPrefix(key, user[:]) {
			clients = append(clients, grantKey(key).client())
			key = t.before(bucketGrants, key[:32]) // behind all others of this client
		}
		return nil
	})
	return clients, err
}

// permission is what a user granted to one client and that still lives.
type permission struct {
	Client *client
	Scope  []string // no more than one request may ask for
	More   bool     // there may be more of it
	Since  unixTime
	Used   unixTime // when something was last issued on it; 0: not yet
}

// permission returns what a user granted to a client, or nil.
func (s *store) permission(user, registration uuid.UUID, now unixTime) (p *permission, err error) {
	err = s.view(func(t *tx) error {
		looked, size, seen := 0, 0, make(map[string]bool)
		for g, err := range t.newestGrants(user, registration) {
			if err != nil {
				return err
			}
			looked++
			if g.Expires.expired(now) {
				continue
			}
			if p == nil {
				c, err := t.registered(g.ClientID, registration)
				if c == nil {
					return err // the client is gone
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
		return nil
	})
	return p, err
}
