package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// bucketMeta has the format of the database and the signing keys. No other program has
// a bucket of this name.
var (
	bucketMeta = []byte("grantling")
	metaFormat = []byte("version")
	metaKeys   = []byte("signing_keys")
	fileFormat = []byte("6")
)

const memory = ":memory:"

// lockTime is how long to wait for another process to close the file.
const lockTime = time.Second

// openStore opens the database at path, and makes it if nothing is there. It
// refuses a file that is not a whole grantling database, and leaves it unchanged.
func openStore(path string) (*store, error) {
	db, err := openDatabase(path)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("database %s is in use by another process", path)
	case err != nil:
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return &store{engine: &file{db, newBatches(1)}}, nil
}

// fileMost keeps a transaction short: other writers wait meanwhile.
const fileMost = 1000

// file is the engine of one server: a bbolt file.
type file struct {
	db      *bolt.DB
	updates *batches
}

func (f *file) most() int    { return fileMost }
func (f *file) shared() bool { return false }

func (f *file) view(s *store, verb func(*tx) error) error {
	return transact(func() error {
		return f.db.View(func(b *bolt.Tx) error { return verb(&tx{rows: fileRows{b}, store: s}) })
	})
}

// update returns when what verb wrote is on disk.
func (f *file) update(s *store, verb func(*tx) error) error {
	return f.updates.do(verb, func(batch []*update) error {
		b, err := f.db.Begin(true)
		if err != nil {
			return err
		}
		defer b.Rollback() // does nothing after a commit
		t := &tx{rows: fileRows{b}, store: s}
		if err := t.run(batch); err != nil || t.writes == 0 {
			return err
		}
		return b.Commit()
	})
}

// fileRows are the rows of the file.
type fileRows struct{ *bolt.Tx }

func (f fileRows) get(bucket, key []byte) []byte { return f.Bucket(bucket).Get(key) }

func (f fileRows) put(bucket, key, value []byte) error {
	b := f.Bucket(bucket)
	b.FillPercent = 0.95 // keys are nearly in order: pages can be filled
	return b.Put(key, value)
}

func (f fileRows) delete(bucket, key []byte) error { return f.Bucket(bucket).Delete(key) }

func (f fileRows) scan(bucket, prefix, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		cursor := f.Bucket(bucket).Cursor()
		if bytes.Compare(from, prefix) < 0 {
			from = prefix
		}
		for k, v := cursor.Seek(from); k != nil && bytes.HasPrefix(k, prefix) && yield(k, v); k, v = cursor.Next() {
		}
	}
}

func (f fileRows) back(bucket, prefix, to []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		cursor := f.Bucket(bucket).Cursor()
		cursor.Seek(to)
		for k, v := cursor.Prev(); bytes.HasPrefix(k, prefix) && yield(k, v); k, v = cursor.Prev() {
		}
	}
}

func openDatabase(path string) (*bolt.DB, error) {
	if path == memory {
		return makeDatabase(path, &bolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, OpenFile: openUnlinked})
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := createDatabase(path); err != nil {
			return nil, err
		}
	}
	if err := checkDatabase(path); err != nil {
		return nil, err
	}
	// Without the list of free pages a commit writes less. A start after a kill
	// finds them by looking at all pages.
	return openBolt(path, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
}

// close closes the file, with its list of free pages, so that the next start is
// quick.
func (f *file) close() error {
	if !f.db.NoSync {
		f.db.NoFreelistSync = false
		guarded(func() error { return f.db.Update(func(*bolt.Tx) error { return nil }) }) // the list is only for speed
	}
	return f.db.Close()
}

// createDatabase makes the file under another name and renames it when it is
// complete. A process that is killed leaves no database or a complete one.
func createDatabase(path string) error {
	making := path + ".new"
	if info, err := os.Lstat(making); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s, the temporary file that it is made in, is not a regular file", making)
	}
	db, err := makeDatabase(making, &bolt.Options{})
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) && !errors.Is(err, errForeign) {
		// An earlier start was killed, or ran out of space, and left half a file.
		os.Remove(making)
		if db, err = makeDatabase(making, &bolt.Options{}); err != nil {
			os.Remove(making)
		}
	}
	if in := (*fs.PathError)(nil); errors.As(err, &in) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		folder, _ := filepath.Abs(filepath.Dir(path))
		return fmt.Errorf("it cannot be made in %s: %w; -db names another file, and :memory: keeps nothing", folder, in.Err)
	}
	if err != nil {
		return err
	}
	// The lock is held: another process that makes this database at the same time
	// has finished, or waits for this one.
	if _, err := os.Lstat(path); err == nil {
		err := db.Close()
		os.Remove(making) // unless it has become that database
		return err
	}
	moved := os.Rename(making, path)
	if err := db.Close(); err != nil {
		return err
	}
	if moved != nil {
		moved = os.Rename(making, path) // Windows cannot rename an open file
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

// checkDatabase checks the file without writing to it. bbolt would make a database
// of an empty file, and fail later on a truncated one.
func checkDatabase(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() == 0:
		return errors.New("it is empty (0 bytes): it was truncated, or was never a database; remove it to start over")
	}
	db, err := openBolt(path, &bolt.Options{ReadOnly: true})
	if cause := new(fs.PathError); err != nil && !errors.Is(err, bolterrors.ErrTimeout) && !errors.As(err, &cause) {
		return fmt.Errorf("it is not a database, or a damaged one (%w): restore a backup, or remove it to start over", err)
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

// checkWhole refuses a file that is truncated or was not made by grantling. It
// asks for the size with the lock held, because another process may let it grow.
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
	if err := checkFormat(meta.Get(metaFormat)); err != nil {
		return err
	}
	for _, name := range buckets {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("it has no bucket %s", name)
		}
	}
	return checkPages(tx)
}

func checkFormat(format []byte) error {
	if !bytes.Equal(format, fileFormat) {
		return fmt.Errorf("it has format %q; this grantling reads %q: take another -db, or remove this one", format, fileFormat)
	}
	return nil
}

// growSize is how many bytes a large file grows at once.
const growSize = 4 << 20

// openBolt is bolt.Open with errors instead of panics, and a limit of time.
func openBolt(path string, options *bolt.Options) (db *bolt.DB, err error) {
	options.Timeout = lockTime
	err = guarded(func() error {
		if db, err = bolt.Open(path, 0o600, options); err == nil {
			db.AllocSize = growSize
		}
		return err
	})
	return db, err
}
