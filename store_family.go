package main

import "github.com/google/uuid"

// fate is what has become of a code or a token.
type fate struct {
	kind    string // code, access_token or refresh_token
	state   string // alive, used, expired or revoked
	issued  unixTime
	expires unixTime
	revoked bool // also where the state tells of something else first
}

// fates returns what has become of codes and tokens, by public id. What the store
// does not know, or no longer, is not in it.
func (s *store) fates(ids []uuid.UUID, now unixTime) (map[uuid.UUID]fate, error) {
	return view(s, func(t *tx) (map[uuid.UUID]fate, error) {
		known := make(map[uuid.UUID]fate)
		for _, id := range ids {
			found, err := t.fate(id, now)
			if err != nil {
				return nil, err
			}
			if found.kind != "" {
				known[id] = found
			}
		}
		return known, nil
	})
}

func (t *tx) fate(id uuid.UUID, now unixTime) (fate, error) {
	for kind, bucket := range map[string][]byte{"code": bucketCodes, "refresh_token": bucketRefresh} {
		record, err := read[oneTime](t, bucket, id[:])
		if err != nil {
			return fate{}, err
		}
		if record != nil {
			b, err := t.granted(record.Grant)
			return newFate(kind, record.Used, record.issued(), record.Expires, b == nil, now), err
		}
	}
	token, err := read[accessToken](t, bucketAccess, id[:])
	if token == nil {
		return fate{}, err
	}
	b, err := t.bearer(token)
	return newFate("access_token", false, token.issued(), token.Expires, token.Revoked || b == nil, now), err
}

func newFate(kind string, used bool, issued, expires unixTime, revoked bool, now unixTime) fate {
	f := fate{kind, "alive", issued, expires, revoked}
	switch {
	case used:
		f.state = "used"
	case expires.expired(now):
		f.state = "expired"
	case revoked:
		f.state = "revoked"
	}
	return f
}
