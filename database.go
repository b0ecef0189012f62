package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The bucket that tells grantling's files from others.
var (
	bucketMeta = []byte("grantling")
	metaFormat = []byte("version")
	metaKey    = []byte("signing_key")
	fileFormat = []byte("2")
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
// It waits a second at most for another process to let go of the file.
func openStore(path string) (*store, error) {
	if path == memory {
		db, err := makeDatabase(path, &bolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, OpenFile: openUnlinked})
		if err != nil {
			return nil, databaseError(path, err)
		}
		return newStore(db), nil
	}
	deadline := realTime().Add(time.Second)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := createDatabase(path, deadline); err != nil {
			return nil, databaseError(path, err)
		}
	}
	if err := checkDatabase(path, deadline); err != nil {
		return nil, databaseError(path, err)
	}
	db, err := openBolt(path, &bolt.Options{Timeout: until(deadline), FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, databaseError(path, err)
	}
	return newStore(db), nil
}

func newStore(db *bolt.DB) *store {
	return &store{db: db, sweepAt: make(map[string][]byte)}
}

// until is the patience that is left; bbolt takes none for for ever.
func until(deadline time.Time) time.Duration {
	return max(deadline.Sub(realTime()), time.Millisecond)
}

func (s *store) close() error { return s.db.Close() }

// createDatabase makes the file under another name and moves it into place
// when it is whole: a process killed at any moment leaves either no database
// or a complete one.
func createDatabase(path string, deadline time.Time) error {
	making := path + ".new"
	if info, err := os.Lstat(making); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s, where it is made first, is there and not a regular file", making)
	}
	db, err := makeDatabase(making, &bolt.Options{Timeout: until(deadline)})
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) && !errors.Is(err, errForeign) {
		// What an earlier start left there, killed or out of space, is of no
		// use to anyone. The same may go wrong again.
		os.Remove(making)
		if db, err = makeDatabase(making, &bolt.Options{Timeout: until(deadline)}); err != nil {
			os.Remove(making)
		}
	}
	if err != nil {
		return err
	}
	// With the lock held: whoever else started to make this database at the
	// same time has finished, or waits for this process.
	if _, err := os.Lstat(path); err == nil {
		err := db.Close()
		os.Remove(making) // unless it has become that database
		return err
	}
	moved := os.Rename(making, path) // with the lock held
	if err := db.Close(); err != nil {
		return err
	}
	if moved != nil {
		moved = os.Rename(making, path) // Windows moves no open file
	}
	if moved != nil && !errors.Is(moved, os.ErrNotExist) {
		return moved
	}
	if err := syncDirectory(filepath.Dir(path)); err != nil && !errors.Is(err, os.ErrPermission) {
		return err // who may not read a directory cannot sync it
	}
	return nil
}

var errForeign = errors.New("it was not made by grantling")

// makeDatabase opens a file and gives it its buckets.
func makeDatabase(file string, options *bolt.Options) (*bolt.DB, error) {
	db, err := openBolt(file, options)
	if err != nil {
		return nil, err
	}
	err = guarded(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			if first, _ := tx.Cursor().First(); first != nil && tx.Bucket(bucketMeta) == nil {
				return errForeign
			}
			for _, name := range append(slices.Clone(buckets), bucketMeta) {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return tx.Bucket(bucketMeta).Put(metaFormat, fileFormat)
		})
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkDatabase looks at the file without writing to it: bbolt would turn an
// empty file into an empty database, and a truncated one would fault later.
func checkDatabase(path string, deadline time.Time) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if info.Size() == 0 {
		return errors.New("it is empty (0 bytes): it was truncated or never was a database; remove it to start afresh")
	}
	db, err := openBolt(path, &bolt.Options{Timeout: until(deadline), ReadOnly: true})
	if cause := new(fs.PathError); err != nil && !errors.Is(err, bolterrors.ErrTimeout) && !errors.As(err, &cause) {
		return fmt.Errorf("it is no database, or a damaged one (%w): restore a copy, or remove it to start afresh", err)
	}
	if err != nil {
		return err
	}
	defer db.Close()
	err = guarded(func() error { return db.View(func(tx *bolt.Tx) error { return checkWhole(path, tx) }) })
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(path, 0o600)
	}
	return nil
}

// checkWhole refuses what is truncated or not grantling's. The size is asked
// for with the lock held: until then another process may have made it grow.
func checkWhole(path string, tx *bolt.Tx) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if tx.Size() > info.Size() {
		return fmt.Errorf("it is truncated: %d bytes of %d", info.Size(), tx.Size())
	}
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return errForeign
	}
	if v := meta.Get(metaFormat); !bytes.Equal(v, fileFormat) {
		return fmt.Errorf("it has format %q; this grantling reads %q", v, fileFormat)
	}
	for _, name := range buckets {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("it has no bucket %s", name)
		}
	}
	return nil
}

// openBolt is bolt.Open with its panics as errors.
func openBolt(path string, options *bolt.Options) (db *bolt.DB, err error) {
	err = guarded(func() error {
		db, err = bolt.Open(path, 0o600, options)
		return err
	})
	return db, err
}

// guarded makes an error of what damaged pages cause: panics of bbolt, and
// faults of the memory that the file is mapped to.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is damaged, or the server is at fault: %v", p)
		}
	}()
	return do()
}

func databaseError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("database %s is in use by another process", path)
	}
	return fmt.Errorf("database %s: %w", path, err)
}

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
