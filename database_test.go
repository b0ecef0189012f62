package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// TestLeftoverDatabase is R165: whatever an earlier start left where a
// database is made, the next start makes its own, or says why not.
func TestLeftoverDatabase(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(newDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 4096, 8192, 8193, 12288, 12300, 16384, 20480, len(whole)} {
		t.Run(fmt.Sprintf("%d bytes of it", size), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "grantling.db")
			if err := os.WriteFile(path+".new", whole[:min(size, len(whole))], 0o600); err != nil {
				t.Fatal(err)
			}
			st, err := openStore(path)
			if err != nil {
				t.Fatal(err)
			}
			st.close()
			if _, err := os.Lstat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left: %v", err)
			}
		})
	}
	refused := func(name string, leave func(path string) error, want string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "grantling.db")
			if err := leave(path + ".new"); err != nil {
				t.Fatal(err)
			}
			if _, err := openStore(path); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if _, err := os.Lstat(path + ".new"); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
	refused("a link", func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "elsewhere"), path) }, "not a regular file")
	refused("a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file")
	refused("another's database", func(path string) error {
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			return err
		}
		return errors.Join(db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err }), db.Close())
	}, "not made by grantling")
}

// TestDamagedPages is R166 and R179: a page that is damaged in the middle of
// the file is an error of who needs it, and no more.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	path := newDatabase(t)
	i := start(t, onDisk(t, path))
	for range 40 {
		i.tokens("web")
	}
	i.server.store.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	noticed := 0
	for n := 2; n < len(whole)/page; n++ {
		// Nonsense, and places that are far behind the end of the file.
		for _, garbage := range [][]byte{bytes.Repeat([]byte{0xff}, page), bytes.Repeat([]byte{0, 0, 0, 1}, page/4)} {
			damaged := bytes.Clone(whole)
			copy(damaged[n*page+16:(n+1)*page], garbage) // behind the page's own header
			file := filepath.Join(t.TempDir(), "damaged.db")
			if err := os.WriteFile(file, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			st, err := openStore(file)
			if err != nil {
				noticed++
				continue
			}
			_, swept := st.sweep(unixTime(time.Now().Unix()))
			_, _, read := st.registrations()
			if swept != nil || read != nil {
				noticed++
			}
			for _, err := range []error{swept, read} {
				if err != nil && !errors.Is(err, errStorage) {
					t.Errorf("page %d: %v", n, err)
				}
			}
			guarded(st.close) // bbolt may be unable to
		}
	}
	if noticed < 10 {
		t.Errorf("only %d damaged files were noticed", noticed)
	}
}

// TestHandover: a start that waits for another process to end its work does
// not take what that one still writes for damage.
func TestHandover(t *testing.T) {
	t.Parallel()
	path := newDatabase(t)
	for range 5 {
		before, err := openStore(path)
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan error)
		go func() {
			after, err := openStore(path)
			if err == nil {
				err = after.close()
			}
			opened <- err
		}()
		for n := range 50 {
			var clients []*client
			for m := range 20 {
				clients = append(clients, &client{ClientID: fmt.Sprint(time.Now().UnixNano(), n, m), Name: strings.Repeat("x", 200)})
			}
			if err := before.register(nil, clients); err != nil {
				t.Fatal(err)
			}
		}
		if err := before.close(); err != nil {
			t.Fatal(err)
		}
		if err := <-opened; err != nil && !strings.Contains(err.Error(), "in use") {
			t.Fatal(err)
		}
	}
}

// TestManyRecords: what is dead is found behind much that is alive, and what
// one user granted is revoked however much it is.
func TestManyRecords(t *testing.T) {
	t.Parallel()
	i := start(t)
	st := i.server.store
	alice, err := st.userNamed("alice")
	if err != nil {
		t.Fatal(err)
	}
	web, err := st.clientNamed("web")
	if err != nil {
		t.Fatal(err)
	}
	const live = 12 * sweepSize
	err = st.update(func(tx *tx) error {
		for n := range live + 1 {
			token := accessToken{id: newCredential().id, ClientID: "web", Client: web.ID}
			if n == live {
				token.Expires = 1
			}
			g := i.server.newGrant(alice, web, "read", 0)
			if err := errors.Join(tx.put(bucketAccess, token.id[:], token), tx.put(bucketGrants, g.key[:], g)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.revokeGrants(alice.ID, web.ID); err != nil {
		t.Fatal(err)
	}
	if left, err := st.permissions(alice.ID, 0); len(left) > 0 || err != nil {
		t.Errorf("alice's grants are still there: %v, %v", left, err)
	}
	if err := i.server.sweepSome(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	left := 0
	if err := st.view(func(tx *tx) error { left = tx.Bucket(bucketAccess).Inspect().KeyN; return nil }); err != nil {
		t.Fatal(err)
	}
	if left != live {
		t.Errorf("%d tokens are left, want %d", left, live)
	}
}
