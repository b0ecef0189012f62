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

	fault func() error // asked before each write whether it fails; nil but in tests
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
		err := db.Close()
		os.Remove(making) // unless it has become that database
		return err
	}
	if err := initialize(db); err != nil {
		return databaseError(path, errors.Join(err, db.Close()))
	}
	moved := os.Rename(making, path) // with the lock held
	if err := db.Close(); err != nil {
		return databaseError(path, err)
	}
	if moved != nil {
		moved = os.Rename(making, path) // Windows moves no open file
	}
	if moved != nil && !errors.Is(moved, os.ErrNotExist) {
		return databaseError(path, moved)
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
	err = db.View(func(tx *bolt.Tx) (err error) {
		defer damaged(&err)
		if tx.Size() > info.Size() {
			return fmt.Errorf("it is truncated: %d bytes of %d", info.Size(), tx.Size())
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return errors.New("it was not made by grantling")
		}
		if v := meta.Get(metaVersion); !bytes.Equal(v, version) {
			return fmt.Errorf("it has format %q; this grantling reads %q", v, version)
		}
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("it has no bucket %s", name)
			}
		}
		return nil
	})
	if err != nil {
		return databaseError(path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(path, 0o600)
	}
	return nil
}

// openBolt is bolt.Open with its panics as errors.
func openBolt(path string, options *bolt.Options) (db *bolt.DB, err error) {
	defer damaged(&err)
	return bolt.Open(path, 0o600, options)
}

// damaged, deferred, makes an error of a panic, which damaged pages cause.
func damaged(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("it is damaged: %v", p)
	}
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
	fault  func() error // see store
}

// write makes one write.
func (t *tx) write(write func() error) error {
	t.writes++
	if t.fault != nil {
		if err := t.fault(); err != nil {
			return fmt.Errorf("%w: %w", errStorage, err)
		}
	}
	if err := write(); err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	return nil
}

func (t *tx) put(bucket, key []byte, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	b := t.Bucket(bucket)
	b.FillPercent = 0.9 // keys are nearly in order: pages can be filled
	return t.write(func() error { return b.Put(key, value) })
}

func (t *tx) delete(bucket, key []byte) error {
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
	defer b.Rollback() // nothing is left to it after a commit
	t := &tx{Tx: b, fault: s.fault}
	for _, u := range batch {
		before := t.writes
		u.err = runVerb(u.verb, t)
		if u.err != nil && t.writes != before {
			fail(u.err)
			return
		}
	}
	if t.writes == 0 {
		return
	}
	if err := runVerb(func(*tx) error { return b.Commit() }, t); err != nil {
		fail(err)
	}
}

// runVerb turns a panic into an error: the leader runs other callers' verbs
// and must outlive them, and damaged pages, at which bbolt panics.
func runVerb(verb func(*tx) error, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.writes++ // whatever it wrote is not to be trusted
			err = fmt.Errorf("%w: panic: %v", errStorage, p)
		}
	}()
	return verb(t)
}
