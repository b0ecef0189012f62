package main

import (
	"bytes"
	"errors"

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

// putClient stores a client, as putUser does a user.
func (t *tx) putClient(c *client) error {
	existing, err := read[client](t, bucketClients, []byte(c.ClientID))
	if err != nil {
		return err
	}
	if c.ID = uuid.New(); existing != nil {
		c.ID = existing.ID
	}
	return t.put(bucketClients, []byte(c.ClientID), c)
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
		owned, err := t.clientsOf(username)
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
	return s.update(func(t *tx) error { return t.delete(bucketClients, []byte(clientID)) })
}

// anyClient reports whether some client satisfies match.
func (s *store) anyClient(match func(*client) bool) (found bool, err error) {
	err = s.view(func(t *tx) error {
		cursor := t.Bucket(bucketClients).Cursor()
		for k, _ := cursor.First(); k != nil && !found; k, _ = cursor.Next() {
			c, err := read[client](t, bucketClients, k)
			if err != nil {
				return err
			}
			found = match(c)
		}
		return nil
	})
	return found, err
}

// clientsOf returns the clients that a user owns.
func (s *store) clientsOf(owner string) (owned []*client, err error) {
	err = s.view(func(t *tx) error {
		owned, err = t.clientsOf(owner)
		return err
	})
	return owned, err
}

func (t *tx) clientsOf(owner string) ([]*client, error) {
	var owned []*client
	cursor := t.Bucket(bucketClients).Cursor()
	for k, _ := cursor.First(); k != nil; k, _ = cursor.Next() {
		c, err := read[client](t, bucketClients, k)
		if err != nil {
			return nil, err
		}
		if c.Owner == owner {
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
		owned, err := t.clientsOf(c.Owner)
		if err != nil {
			return err
		}
		if len(owned) >= limit {
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
			return t.delete(bucketClients, []byte(clientID))
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
		record, err := read[session](t, bucketSessions, c.id[:])
		if record == nil || !c.is(record.Hash) || record.Expires.expired(now) {
			return err
		}
		record.id = c.id
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
