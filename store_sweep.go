package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	sweepSize  = 250  // how many records the sweeper looks at in one step: a millisecond
	sweepLooks = 1000 // and in a second, where most records live
)

// mortals are the buckets that the sweeper goes through, and how it finds out that
// a record is of no more use. Grants come first, so that what hangs on them is
// removed in the same round.
var mortals = []struct {
	bucket []byte
	dead   func(t *tx, bucket, key, value []byte, now unixTime) (bool, error)
}{
	{bucketGrants, dead((*grant).dead)},
	{bucketCodes, dead((*oneTime).dead)},
	{bucketRefresh, dead((*oneTime).dead)},
	{bucketAccess, dead((*accessToken).dead)},
	{bucketMarks, dead((*mark).dead)},
	{bucketSessions, dead((*session).dead)},
	{bucketDevices, dead((*oneTime).dead)},
}

func dead[T any](isDead func(*T, *tx, unixTime) (bool, error)) func(t *tx, bucket, key, value []byte, now unixTime) (bool, error) {
	return func(t *tx, bucket, key, value []byte, now unixTime) (bool, error) {
		record, err := decode[T](bucket, key, value)
		if err != nil {
			return false, err
		}
		return isDead(record, t, now)
	}
}

// revokedTime is how long after its issue a credential stays that has not expired
// but whose grant is dead: who presents it learns that it was revoked, or used.
const revokedTime seconds = 12 * 60 * 60

// over reports whether something has expired or, issued long enough ago, its grant
// is dead.
func (t *tx) over(issued, expires unixTime, key grantKey, now unixTime) (bool, error) {
	if expires.expired(now) {
		return true, nil
	}
	b, err := t.granted(key)
	return b == nil && err == nil && issued.after(revokedTime).expired(now), err
}

func (g *grant) dead(t *tx, now unixTime) (bool, error) { return t.over(0, g.Expires, g.key, now) }

func (o *oneTime) dead(t *tx, now unixTime) (bool, error) {
	if o.Device != nil { // it may not have a grant yet
		return o.Expires.expired(now), nil
	}
	if o.Used { // as long as the grant lives, a second use has something to revoke
		return t.over(o.issued(), 0, o.Grant, now)
	}
	return t.over(o.issued(), o.Expires, o.Grant, now)
}

func (a *accessToken) dead(t *tx, now unixTime) (bool, error) {
	if a.Grant != nil {
		return t.over(a.issued(), a.Expires, *a.Grant, now)
	}
	c, err := t.registered(a.Client.split())
	return a.Expires.expired(now) || c == nil && err == nil && a.issued().after(revokedTime).expired(now), err
}

func (l *session) dead(_ *tx, now unixTime) (bool, error) { return l.Expires.expired(now), nil }

func (m *mark) dead(t *tx, now unixTime) (bool, error) {
	return m.Expires.expired(now) && (m.Server == uuid.Nil || m.Server != t.store.id), nil // not of this process
}

// sweep looks at the next records of one bucket, sweepSize at most, and removes the
// dead ones. It returns how many there were of both, and errors of records that it
// could not read. Those stay.
//
// It reads first, and writes only to remove. Then it looks once more, because a
// grant may have been prolonged meanwhile.
func (s *store) sweep(now unixTime) (looked, removed int, err error) {
	at := mortals[s.sweepAt]
	var found [][]byte
	var unread []error
	s.sweepKey, err = view(s, func(t *tx) ([]byte, error) {
		looked, found, unread = 0, nil, nil
		for key, value := range t.scan(at.bucket, nil, s.sweepKey) {
			if looked == sweepSize {
				return bytes.Clone(key), nil
			}
			looked++
			dead, err := at.dead(t, at.bucket, key, value, now)
			if err != nil {
				unread = append(unread, err)
			}
			if dead {
				found = append(found, bytes.Clone(key))
			}
		}
		return nil, nil
	})
	if s.sweepKey == nil { // also after a failure: other buckets must not wait for this one
		s.sweepAt = (s.sweepAt + 1) % len(mortals)
	}
	for some := range slices.Chunk(found, s.most()) {
		n := 0
		if err == nil {
			err = s.update(func(t *tx) error {
				n = 0
				for _, key := range some {
					value := t.get(at.bucket, key)
					if value == nil {
						continue // already removed
					}
					if dead, _ := at.dead(t, at.bucket, key, value, now); dead {
						t.delete(at.bucket, key)
						n++
					}
				}
				return nil
			})
			removed += n
		}
	}
	return looked, removed, errors.Join(append(unread, err)...)
}

// sweepTerm is for how long a server sweeps a database that it shares, unless it goes on.
const sweepTerm = 10 // seconds

// maySweep reports whether this server is to sweep: one of those that share a database.
func (s *store) maySweep(now unixTime) (may bool, err error) {
	if !s.shared() {
		return true, nil
	}
	key := []byte("sweeper")
	err = s.update(func(t *tx) error {
		m, err := read[mark](t, bucketMarks, key)
		if err != nil {
			return err
		}
		free := m == nil || m.Expires.expired(now)
		if may = free || m.Server == s.id; free || may && m.Expires < now+sweepTerm/2 {
			t.put(bucketMarks, key, mark{Expires: now + sweepTerm, Server: s.id})
		}
		return nil
	})
	return may, err
}

// midRound reports whether the sweeper has not finished its round.
func (s *store) midRound() bool { return s.sweepAt > 0 || s.sweepKey != nil }

// sweepForever removes expired records now and then every second, until ctx is done.
func (s *server) sweepForever(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.sweepAndTell(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// sweepAndTell sweeps and logs errors, each once an hour, because an unreadable
// record stays unreadable.
func (s *server) sweepAndTell(ctx context.Context) {
	may, err := s.store.maySweep(unixTime(s.clock.now().Unix()))
	if may && err == nil {
		err = s.sweepSome(ctx)
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			s.logHourly(slog.LevelError, "sweep", "failure", line)
		}
	}
}

// sweepSome goes on with the round through all records until it ends, or until
// sweepLooks records were looked at. Steps in which a quarter of them are dead do
// not count: so the dead are never many more than a third of the living, and
// looking costs little where most live. After such a step it rests as long as the
// step took, because requests wait meanwhile.
func (s *server) sweepSome(ctx context.Context) (err error) {
	for left, more := sweepLooks, true; left > 0 && more && ctx.Err() == nil; more = s.store.midRound() {
		began := realTime()
		looked, removed, failed := s.store.sweep(unixTime(s.clock.now().Unix()))
		err = errors.Join(err, failed)
		if 4*removed < looked {
			left -= looked
			continue
		}
		select {
		case <-time.After(realTime().Sub(began)):
		case <-ctx.Done():
		}
	}
	return err
}
