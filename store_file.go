package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	fileFormat = []byte("3")
)

const memory = ":memory:"

// store is the bbolt file. Its verbs are OAuth's, one transaction each.
type store struct {
	db *bolt.DB

	mu      sync.Mutex
	waiting []*update     // not yet taken by a leader
	lead    chan struct{} // holds one while some caller of update is the leader

	sweepAt  int    // the bucket of mortals where the sweeper goes on
	sweepKey []byte // and the key there; nil: from the first

	fault func() error // asked before each write whether it fails; nil but in tests
}

// openStore opens the database at path, which it makes if nothing is there.
// A file that is not a whole grantling database is refused and left as it is.
// It waits a second at most for another process to let go of the file.
func openStore(path string) (*store, error) {
	db, err := openDatabase(path, realTime().Add(time.Second))
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("database %s is in use by another process", path)
	case err != nil:
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return &store{db: db, lead: make(chan struct{}, 1)}, nil
}

func openDatabase(path string, deadline time.Time) (*bolt.DB, error) {
	if path == memory {
		return makeDatabase(path, &bolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, OpenFile: openUnlinked})
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := createDatabase(path, deadline); err != nil {
			return nil, err
		}
	}
	if err := checkDatabase(path, deadline); err != nil {
		return nil, err
	}
	return openBolt(path, &bolt.Options{Timeout: until(deadline), FreelistType: bolt.FreelistMapType})
}

// until is the time left before deadline, at least a millisecond: to bbolt, 0
// means for ever.
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
		// An earlier start, killed or out of space, left half a file. The same
		// may go wrong again.
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
		return err // a directory that cannot be read cannot be synced
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
