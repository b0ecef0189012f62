package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The bucket that tells grantling's files from others.
var (
	bucketMeta  = []byte("grantling")
	metaVersion = []byte("version")
	version     = []byte("1")
)

const memory = ":memory:"

// store is the bbolt file. Its verbs are OAuth's, one transaction each.
type store struct {
	db *bolt.DB

	mu      sync.Mutex
	waiting []*update // not yet taken by a leader
	led     bool      // some caller of update is the leader

	sweepAt map[string][]byte // where the sweeper goes on, by bucket
}

// openStore opens the database at path, which it makes if nothing is there.
// A file that is not a whole grantling database is refused and left as it is.
func openStore(path string) (*store, error) {
	options := &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType}
	if path == memory {
		options.NoSync = true
		options.NoFreelistSync = true
		options.OpenFile = openUnlinked
	} else {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			if err := createDatabase(path); err != nil {
				return nil, err
			}
		}
		if err := checkDatabase(path); err != nil {
			return nil, err
		}
	}
	db, err := openBolt(path, options)
	if err != nil {
		return nil, databaseError(path, err)
	}
	s := &store{db: db, sweepAt: make(map[string][]byte)}
	if path == memory {
		if err := initialize(db); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return s, nil
}

func (s *store) close() error { return s.db.Close() }

// createDatabase makes the file under another name and moves it into place
// when it is whole: a process killed at any moment leaves either no database
// or a complete one.
func createDatabase(path string) error {
	making := path + ".new"
	options := &bolt.Options{Timeout: time.Second}
	db, err := openBolt(making, options)
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) {
		// What an earlier, killed start left there is of no use to anyone.
		if os.Remove(making) == nil {
			db, err = openBolt(making, options)
		}
	}
	if err != nil {
		return databaseError(path, err)
	}
	// With the lock held: whoever else started to make this database at the
	// same time has finished, or waits for this process.
	if _, err := os.Lstat(path); err == nil {
		return errors.Join(db.Close(), os.Remove(making))
	}
	if err := errors.Join(initialize(db), db.Close()); err != nil {
		return databaseError(path, err)
	}
	if err := os.Rename(making, path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return databaseError(path, err)
	}
	return syncDirectory(filepath.Dir(path))
}

func initialize(db *bolt.DB) error {
	return db.Update(func(tx *bolt.Tx) error {
		for _, name := range append(buckets, bucketMeta) {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(metaVersion, version)
	})
}

// checkDatabase looks at the file without writing to it: bbolt would turn an
// empty file into an empty database, and a truncated one would fault later.
func checkDatabase(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return databaseError(path, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("database %s is not a regular file", path)
	}
	if info.Size() == 0 {
		return fmt.Errorf("database %s is empty (0 bytes): it was truncated or never was a database; remove it to start afresh", path)
	}
	db, err := openBolt(path, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return databaseError(path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("database %s is truncated: %d bytes of %d", path, info.Size(), tx.Size())
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("database %s was not made by grantling", path)
		}
		if v := meta.Get(metaVersion); !bytes.Equal(v, version) {
			return fmt.Errorf("database %s has format %q; this grantling reads %q", path, v, version)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(path, 0o600)
	}
	return nil
}

// openBolt is bolt.Open with its panics, which damaged pages cause, as errors.
func openBolt(path string, options *bolt.Options) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	return bolt.Open(path, 0o600, options)
}

func databaseError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("database %s is in use by another process", path)
	}
	return fmt.Errorf("database %s: %w", path, err)
}

// errStorage is behind every failure to write or read the file. Nothing that
// the failed call was to store is there.
var errStorage = errors.New("the database failed")

// tx is a transaction. It counts its writes, see commit.
type tx struct {
	*bolt.Tx
	writes int
}

func (t *tx) put(bucket, key []byte, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	t.writes++
	b := t.Bucket(bucket)
	b.FillPercent = 0.9 // keys are nearly in order: pages can be filled
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	return nil
}

func (t *tx) delete(bucket, key []byte) error {
	t.writes++
	if err := t.Bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	return nil
}

// clear empties a bucket.
func (t *tx) clear(bucket []byte) error {
	t.writes++
	err := t.DeleteBucket(bucket)
	if err == nil {
		_, err = t.CreateBucket(bucket)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
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
		return nil, fmt.Errorf("%w: %s: %w", errStorage, bucket, err)
	}
	return record, nil
}

func (s *store) view(verb func(*tx) error) error {
	return s.db.View(func(b *bolt.Tx) error { return verb(&tx{Tx: b}) })
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
// transaction, it must do so before its first write. A verb that fails later,
// and a commit that fails, fail the whole batch. Verbs run once, one at a time.
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

	s.commit(batch)

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

func (s *store) commit(batch []*update) {
	fail := func(err error) {
		for _, u := range batch {
			u.err = fmt.Errorf("%w: %w", errStorage, err)
		}
	}
	b, err := s.db.Begin(true)
	if err != nil {
		fail(err)
		return
	}
	t := &tx{Tx: b}
	for _, u := range batch {
		before := t.writes
		u.err = runVerb(u.verb, t)
		if u.err != nil && t.writes != before {
			b.Rollback()
			fail(u.err)
			return
		}
	}
	if t.writes == 0 {
		b.Rollback()
		return
	}
	if err := b.Commit(); err != nil {
		fail(err)
	}
}

// runVerb turns a panic into an error: the leader runs other callers' verbs
// and must outlive them.
func runVerb(verb func(*tx) error, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.writes++ // whatever it wrote is not to be trusted
			err = fmt.Errorf("%w: panic: %v", errStorage, p)
		}
	}()
	return verb(t)
}
