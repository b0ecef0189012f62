package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"

	bolt "go.etcd.io/bbolt"
)

// errStorage is behind every failure to write or read the file. What the failed
// call was to store is not there, unless the disk failed at the very last step:
// then it may be.
var errStorage = errors.New("the database failed")

func storageError(err error) error {
	if errors.Is(err, errStorage) {
		return err // said once
	}
	return fmt.Errorf("%w: %w", errStorage, err)
}

// tx is a transaction. It counts its writes, see commit.
type tx struct {
	*bolt.Tx
	writes int
	fault  func() error // see store
}

// write makes one write.
func (t *tx) write(write func() error) error {
	t.writes++
	if t.fault != nil {
		if err := t.fault(); err != nil {
			return storageError(err)
		}
	}
	if err := write(); err != nil {
		return storageError(err)
	}
	return nil
}

func (t *tx) put(bucket, key []byte, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return storageError(err)
	}
	b := t.Bucket(bucket)
	b.FillPercent = 0.9 // keys are nearly in order: pages can be filled
	return t.write(func() error { return b.Put(key, value) })
}

// delete removes a record, if it is there.
func (t *tx) delete(bucket, key []byte) error {
	if t.Bucket(bucket).Get(key) == nil {
		return nil
	}
	return t.write(func() error { return t.Bucket(bucket).Delete(key) })
}

// clear empties a bucket.
func (t *tx) clear(bucket []byte) error {
	t.writes++
	err := t.DeleteBucket(bucket)
	if err == nil {
		_, err = t.CreateBucket(bucket)
	}
	if err != nil {
		return storageError(err)
	}
	return nil
}

// read returns the record under key, or nil.
func read[T any](t *tx, bucket, key []byte) (*T, error) {
	value := t.Bucket(bucket).Get(key)
	if value == nil {
		return nil, nil
	}
	record := new(T)
	if err := json.Unmarshal(value, record); err != nil {
		return nil, storageError(fmt.Errorf("%s: record %+q: %w", bucket, key, err))
	}
	return record, nil
}

// run yields the keys of a bucket that begin with prefix, in their order.
func (t *tx) run(bucket, prefix []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		cursor := t.Bucket(bucket).Cursor()
		for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix) && yield(k); k, _ = cursor.Next() {
		}
	}
}

// before returns the last key of a bucket that is below key, or nil.
func (t *tx) before(bucket, key []byte) []byte {
	cursor := t.Bucket(bucket).Cursor()
	if k, _ := cursor.Seek(key); k == nil {
		k, _ = cursor.Last()
		return k
	}
	k, _ := cursor.Prev()
	return k
}

func (s *store) view(verb func(*tx) error) error {
	var answer error // the verb's, in contrast to guarded's
	err := guarded(func() error {
		return s.db.View(func(b *bolt.Tx) error {
			answer = verb(&tx{Tx: b})
			return nil
		})
	})
	if err != nil {
		return storageError(err)
	}
	return answer
}

// update is one caller's share of a group commit.
type update struct {
	verb func(*tx) error
	err  error
	wake chan bool // true: lead the next batch; false: done, err is the answer
}

// update runs verb in a transaction and returns when what it wrote is on disk.
//
// Callers that come while a transaction is being written share the next one:
// the first to find no leader leads, runs every waiting verb in one
// transaction and syncs once. Then it hands the lead to one of those that came
// meanwhile. There is no timer and no goroutine, so a lone caller waits for
// its own sync only.
//
// A verb may refuse by returning an error; as its neighbours are in the same
// transaction, it must do so before its first write, or with a verdict. A verb
// that fails later, and a commit that fails, fail the whole batch. Verbs run one
// at a time.
func (s *store) update(verb func(*tx) error) error {
	u := &update{verb: verb, wake: make(chan bool, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, u)
	lead := !s.led
	s.led = true
	s.mu.Unlock()
	if !lead && !<-u.wake {
		return u.err
	}
	for range 3 {
		runtime.Gosched() // others who are about to call may join this batch
	}
	s.mu.Lock()
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()

	if err := guarded(func() error { return s.commit(batch) }); err != nil {
		for _, other := range batch {
			other.err = storageError(err)
		}
	}

	s.mu.Lock()
	if len(s.waiting) > 0 {
		s.waiting[0].wake <- true
	} else {
		s.led = false
	}
	s.mu.Unlock()
	for _, other := range batch {
		if other != u {
			other.wake <- false
		}
	}
	return u.err
}

// commit runs the batch in one transaction. Its error is everyone's.
func (s *store) commit(batch []*update) error {
	b, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer b.Rollback() // nothing is left to it after a commit
	t := &tx{Tx: b, fault: s.fault}
	for _, u := range batch {
		before := t.writes
		u.err = runVerb(u.verb, t)
		if u.err != nil && t.writes != before && !errors.As(u.err, new(verdict)) {
			return u.err
		}
	}
	if t.writes == 0 {
		return nil
	}
	return b.Commit()
}

// runVerb turns a panic into an error: the leader runs other callers' verbs
// and must outlive them.
func runVerb(verb func(*tx) error, t *tx) error {
	var answer error
	if err := guarded(func() error { answer = verb(t); return nil }); err != nil {
		t.writes++ // whatever it wrote is not to be trusted
		return storageError(err)
	}
	return answer
}
