package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"
)

// sweepSize is how many records the sweeper looks at, and removes at the most,
// in one transaction: a few milliseconds' work.
const sweepSize = 1000

// sweep looks at the next records of each bucket in turn, removes those that
// can no longer make a difference, and returns how many it removed. It goes
// round: what one call leaves the next ones see. As keys are ordered by the
// time of issue, what has expired mostly lies together. A record that cannot
// be read stays, and does not keep the others.
func (s *store) sweep(now unixTime) (removed int, err error) {
	dead := []struct {
		bucket []byte
		dead   func(t *tx, key []byte) (bool, error)
	}{
		{bucketGrants, func(t *tx, key []byte) (bool, error) {
			g, err := t.grant(grantKey(key))
			if err != nil || g.Expires.expired(now) {
				return err == nil, err
			}
			b, err := t.granted(g.key)
			return b == nil && err == nil, err
		}},
		// A redeemed code and a used refresh token are kept as long as their
		// grant: so long their second use has something to revoke.
		{bucketCodes, func(t *tx, key []byte) (bool, error) {
			code, err := read[authorizationCode](t, bucketCodes, key)
			if err != nil || !code.Redeemed && code.Expires.expired(now) {
				return err == nil, err
			}
			g, err := t.grant(code.Grant)
			return g == nil && err == nil, err
		}},
		{bucketRefresh, func(t *tx, key []byte) (bool, error) {
			token, err := read[refreshToken](t, bucketRefresh, key)
			if err != nil || !token.Used && token.Expires.expired(now) {
				return err == nil, err
			}
			g, err := t.grant(token.Grant)
			return g == nil && err == nil, err
		}},
		{bucketAccess, func(t *tx, key []byte) (bool, error) {
			token, err := read[accessToken](t, bucketAccess, key)
			if err != nil || token.Expires.expired(now) {
				return err == nil, err
			}
			b, err := t.bearer(token)
			return b == nil && err == nil, err
		}},
		{bucketAnswered, func(t *tx, key []byte) (bool, error) {
			mark, err := read[answered](t, bucketAnswered, key)
			return err == nil && mark.Expires.expired(now), err
		}},
		{bucketSessions, func(t *tx, key []byte) (bool, error) {
			live, err := read[session](t, bucketSessions, key)
			return err == nil && live.Expires.expired(now), err
		}},
	}
	for _, d := range dead {
		n, unread := s.sweepBucket(d.bucket, d.dead)
		removed += n
		err = errors.Join(err, unread)
	}
	return removed, err
}

// midRound reports whether there are records that this round of the sweeper
// has not looked at.
func (s *store) midRound() bool {
	for _, next := range s.sweepAt {
		if next != nil {
			return true
		}
	}
	return false
}

// sweepBucket reads first and takes the writer's turn only to remove; there it
// asks dead once more, since a grant may have been prolonged in between. The
// error joins those of all records that cannot be read, and of the bucket.
func (s *store) sweepBucket(bucket []byte, dead func(*tx, []byte) (bool, error)) (removed int, err error) {
	var keys [][]byte
	var next []byte
	var unread []error
	err = s.view(func(t *tx) error {
		cursor := t.Bucket(bucket).Cursor()
		k, _ := cursor.Seek(s.sweepAt[string(bucket)])
		for n := 0; k != nil && n < sweepSize; n++ {
			gone, err := dead(t, k)
			if err != nil {
				unread = append(unread, err)
			}
			if gone {
				keys = append(keys, bytes.Clone(k))
			}
			k, _ = cursor.Next()
		}
		next = bytes.Clone(k)
		return nil
	})
	s.sweepAt[string(bucket)] = next
	if err != nil || len(keys) == 0 {
		return 0, errors.Join(append(unread, err)...)
	}
	err = s.update(func(t *tx) error {
		for _, key := range keys {
			if t.Bucket(bucket).Get(key) == nil {
				continue // removed by someone else in between
			}
			if gone, _ := dead(t, key); gone {
				removed++
				if err := t.delete(bucket, key); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return removed, errors.Join(append(unread, err)...)
}

// sweepForever removes what has expired, every second.
func (s *server) sweepForever(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.sweepAndTell(ctx)
		}
	}
}

// sweepAndTell sweeps and logs what went wrong, each thing once an hour: a
// record that cannot be read stays so.
func (s *server) sweepAndTell(ctx context.Context) {
	err := s.sweepSome(ctx, sweepTime)
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if s.sweepErrors.isNews(line, unixTime(s.clock.now().Unix())) {
			s.log.Error("sweep", "failure", line)
		}
	}
}

// sweepTime is how long the sweeper looks for something to remove at a time.
const sweepTime = 50 * time.Millisecond

// sweepSome goes once through the records, or as far as it gets in a time, and
// on as long as it finds something to remove.
func (s *server) sweepSome(ctx context.Context, within time.Duration) error {
	for began := realTime(); ctx.Err() == nil; {
		removed, err := s.store.sweep(unixTime(s.clock.now().Unix()))
		if err != nil || removed == 0 && (!s.store.midRound() || realTime().Sub(began) > within) {
			return err
		}
	}
	return nil
}
