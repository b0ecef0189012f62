package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
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
	t.Run("R166 R179 a damaged page fails only what needs it", func(t *testing.T) {
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
				_, swept := sweepRound(st, unixTime(time.Now().Unix()))
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
	})
}

// TestDamagedAfterKill is R166: a start after a kill looks at all pages, and names
// the one that is damaged.
func TestDamagedAfterKill(t *testing.T) {
	t.Parallel()
	path := newDatabase(t)
	st, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.close() })
	// From here on the file has no list of free pages. A bucket that is not ours has
	// its page in its value, behind that of the root.
	if err := st.engine.(*file).db.Update(func(b *bolt.Tx) error { _, err := b.CreateBucket([]byte("zz")); return err }); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(t.TempDir(), "killed.db")
	if err := os.WriteFile(killed, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := openStore(killed); err != nil {
		t.Fatalf("nothing is damaged: %v", err)
	} else {
		again.close()
	}
	order, size := binary.NativeEndian, os.Getpagesize()
	// A branch that is in use: its id, and of its first record the place of the key
	// and the page below, which is a leaf.
	var root, top uint64
	st.engine.(*file).db.View(func(b *bolt.Tx) error {
		root, top = uint64(b.Bucket(bucketUsers).Root()), uint64(b.Cursor().Bucket().Root())
		return nil
	})
	last := int(top)*size + 16*int(order.Uint16(whole[int(top)*size+10:])) // record of the root: the bucket zz
	branch := int(root) * size
	below := order.Uint64(whole[branch+24:])
	leaf := int(below) * size
	if order.Uint16(whole[branch+8:]) != 1 || order.Uint16(whole[leaf+8:]) != 2 {
		t.Fatal("the users fill no branch")
	}
	put32 := func(at int, n uint32) func([]byte) { return func(file []byte) { order.PutUint32(file[at:], n) } }
	put64 := func(at int, n uint64) func([]byte) { return func(file []byte) { order.PutUint64(file[at:], n) } }
	put16 := func(at int, n uint16) func([]byte) { return func(file []byte) { order.PutUint16(file[at:], n) } }
	both := func(one, other func([]byte)) func([]byte) { return func(file []byte) { one(file); other(file) } }
	for _, row := range []struct {
		name   string
		damage func(file []byte)
		page   uint64
		want   string
	}{
		{"a leaf that was never written", func(file []byte) { clear(file[leaf : leaf+size]) }, below, "says that it is page 0"},
		{"a branch that was never written", func(file []byte) { clear(file[branch : branch+size]) }, root, "says that it is page 0"},
		{"another kind of page", put16(leaf+8, 16), below, "is not one of records"},
		{"a branch without records", put16(branch+10, 0), root, "is not one of records"},
		{"a page larger than the file", put32(leaf+12, 1<<30), below, "is not as large as it says"},
		{"more records than room", put16(leaf+10, 0xffff), below, "is not as large as it says"},
		{"a page below that is behind the end", put64(branch+24, 1<<40), 1 << 40, "is behind the end of the file"},
		{"a page below itself", put64(branch+24, root), root, "is used twice"},
		{"a key far behind its page", put32(branch+16, 1<<31), root, "has a record that ends behind it"},
		{"a long key", put32(branch+20, 1<<31), root, "has a record that ends behind it"},
		{"a long value", put32(leaf+28, 1<<31), below, "has a record that ends behind it"},
		{"a key that is too high", func(file []byte) { file[leaf+16+int(order.Uint32(file[leaf+20:]))] = 0xff }, below, "has keys that are not in order"},
		{"a key that is too low", func(file []byte) { file[branch+32+int(order.Uint32(file[branch+32:]))] = 0 }, root, "has keys that are not in order"},
		{"half a bucket", both(put32(leaf+16, 1), put32(leaf+28, 15)), below, "has half a bucket"},
		{"a small bucket without its page", put32(last+12, 16), top, "has half a bucket"},
		{"a record as a bucket", put32(leaf+16, 1), 0, "is behind the end of the file"},
	} {
		t.Run("R166 "+row.name, func(t *testing.T) {
			t.Parallel()
			damaged := bytes.Clone(whole)
			row.damage(damaged)
			file := filepath.Join(t.TempDir(), "damaged.db")
			if err := os.WriteFile(file, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("page %d %s", row.page, row.want)
			if row.page == 0 {
				want = row.want
			}
			if st, err := openStore(file); err == nil {
				st.close()
				t.Error("it was opened")
			} else if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), want) {
				t.Errorf("error %q, want the file and %q", err, want)
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(damaged, after) {
				t.Errorf("the file was changed: %v", err)
			}
		})
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
				clients = append(clients, &client{metadata: metadata{ClientID: fmt.Sprint(time.Now().UnixNano(), n, m), Name: strings.Repeat("x", 200)}})
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

// TestFreePages is about the list of free pages, which bbolt can write with each
// commit: only the last one has it.
func TestFreePages(t *testing.T) {
	t.Parallel()
	path := newDatabase(t)
	hasList := func() bool {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The two meta pages of bbolt; the one with the later transaction counts.
		meta := file[16:]
		if other := file[os.Getpagesize()+16:]; binary.NativeEndian.Uint64(other[48:]) > binary.NativeEndian.Uint64(meta[48:]) {
			meta = other
		}
		return binary.NativeEndian.Uint64(meta[32:]) != 1<<64-1
	}
	for range 2 {
		st, err := openStore(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.register([]*user{{Username: "alice"}}, nil); err != nil {
			t.Fatal(err)
		}
		if hasList() {
			t.Error("the list is written with every commit")
		}
		st.close()
		if !hasList() {
			t.Error("the list is not written at the end")
		}
	}
}

// mustEnd does what would not end if it were broken.
func (i *instance) mustEnd(what string, do func() error) {
	i.Helper()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		if err != nil {
			i.Fatal(err)
		}
	case <-time.After(patience):
		i.Fatal(what, "does not end")
	}
}

// TestManyRecords: what is dead is found behind much that is alive, and what
// one user granted is revoked however much it is.
func TestManyRecords(t *testing.T) {
	t.Parallel()
	i := start(t, inMemory(t))
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
			token := accessToken{stored: newCredential().stored(0), Client: refTo(web)}
			if n == live {
				token.Expires = 1
			}
			g := i.server.newGrant(alice, web, "read", &exchange{})
			tx.put(bucketAccess, token.id[:], token)
			tx.put(bucketGrants, g.key[:], g)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	i.mustEnd("revoking", func() error { return st.revokeGrants(alice.ID, web.ID) })
	if left, err := st.grantees(alice.ID); len(left) > 0 || err != nil {
		t.Errorf("alice's grants are still there: %v, %v", left, err)
	}
	i.sweepAll()
	if left := count(t, st, bucketAccess); left != live {
		t.Errorf("%d tokens are left, want %d", left, live)
	}
}

// TestClientLists: a client that changes leaves the lists that it was in.
func TestClientLists(t *testing.T) {
	t.Parallel()
	i := start(t, inMemory(t))
	st := i.server.store
	for _, c := range []*client{
		{metadata: metadata{ClientID: "moved", Owner: "carol", GrantTypes: []string{"device"}}},
		{metadata: metadata{ClientID: "moved", Owner: "dave", GrantTypes: []string{"refresh_token"}}},
	} {
		if err := st.register(nil, []*client{c}); err != nil {
			t.Fatal(err)
		}
	}
	for owner, want := range map[string]int{"carol": 0, "dave": 1} {
		if owned, err := st.clientsOf(owner, noLimit); len(owned) != want || err != nil {
			t.Errorf("%s owns %d clients, want %d; %v", owner, len(owned), want, err)
		}
	}
	if found, err := st.anyNames("device"); found || err != nil {
		t.Errorf("a client is said to name the former grant type; %v", err)
	}
	if err := st.addClient(&client{metadata: metadata{ClientID: "moved", Owner: "carol"}}, noLimit); err != errRegistered {
		t.Errorf("a second client of that id: %v, want %v", err, errRegistered)
	}
}

// mustUpdate writes what no request would in a reasonable time.
func (i *instance) mustUpdate(verb func(*tx) error) {
	i.Helper()
	if err := i.server.store.update(verb); err != nil {
		i.Fatal(err)
	}
}

// allowed is a limit of CPU time, with room for the race detector.
func allowed(limit time.Duration) time.Duration {
	if raceDetector {
		return 8 * limit
	}
	return limit
}

// cost is the CPU time that something takes in this goroutine, the least of five
// tries. What runs beside it does not count.
func cost(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	least := time.Hour
	for range 5 {
		before := threadTime()
		do()
		least = min(least, threadTime()-before)
	}
	return least
}

// costOf is the cost of an answer to the browser.
func (b *browser) costOf(path string) time.Duration {
	return cost(func() {
		r := httptest.NewRequest("GET", b.URL+path, nil)
		for _, cookie := range b.client.Jar.Cookies(r.URL) {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		if b.server.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Errorf("%s: status %d", path, w.Code)
		}
	})
}

// freshScope is a scope of 100 tokens that no other number has.
func freshScope(n int) string {
	var tokens []string
	for k := range 100 {
		tokens = append(tokens, fmt.Sprintf("scope-%d-%d", n, k))
	}
	return strings.Join(tokens, " ")
}

// TestScale is about what a user may pile up, and what that may cost.
func TestScale(t *testing.T) {
	t.Parallel()

	t.Run("R181 a page of 800 grants with 100 scope tokens each", func(t *testing.T) {
		t.Parallel()
		i := start(t, inMemory(t))
		alice, web := i.ids("web")
		bob, err := i.server.store.userNamed("bob")
		if err != nil {
			t.Fatal(err)
		}
		// alice's are all of one client, bob's each of another.
		i.mustUpdate(func(t *tx) error {
			for n := range 800 {
				c := &client{metadata: metadata{ClientID: fmt.Sprint("many-", n)}, RegisteredBy: itself}
				one := &grant{key: newGrantKey(alice, web, newCredential().id), ClientID: "web", Username: "alice", Scope: freshScope(n)}
				if err := t.putClient(c); err != nil {
					return err
				}
				t.put(bucketGrants, one.key[:], one)
				other := &grant{key: newGrantKey(bob.ID, c.ID, newCredential().id), ClientID: c.ClientID, Username: "bob", Scope: freshScope(n)}
				t.put(bucketGrants, other.key[:], other)
			}
			return nil
		})
		for username, want := range map[string][]string{"alice": {"Web app", "scope-799-0", "scope-799-99", "and more"}, "bob": {"many-799", "scope-799-0", "scope-799-99", "many-790", "scope-790-99"}} {
			b := i.as(username)
			r := b.get("/account/authorized")
			r.contains(want...)
			if len(r.body) > 64<<10 {
				t.Errorf("the page of %s has %d bytes", username, len(r.body))
			}
			if took := b.costOf("/account/authorized"); took > allowed(200*time.Millisecond) {
				t.Errorf("the page of %s takes %v", username, took)
			}
		}
		// A token request beside it: no slower than beside anything else, on a
		// machine that has other work too.
		b := i.as("alice")
		beside := func(path string) time.Duration {
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						b.get(path)
					}
				}
			}()
			var took []time.Duration
			for range 100 {
				began := time.Now()
				i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
				took = append(took, time.Since(began))
			}
			close(stop)
			<-stopped
			slices.Sort(took)
			return took[98]
		}
		var took, usual time.Duration
		for range 5 {
			if took = beside("/account/authorized"); took < allowed(50*time.Millisecond) {
				return
			}
			if usual = beside("/healthz"); took < 2*usual {
				return
			}
		}
		t.Errorf("a token request beside the page takes %v, beside another one %v", took, usual)
	})

	t.Run("R181 consent among 30,000 grants", func(t *testing.T) {
		t.Parallel()
		i := start(t, inMemory(t))
		alice, web := i.ids("web")
		i.mustUpdate(func(t *tx) error {
			for range 30_000 {
				g := &grant{key: newGrantKey(alice, web, newCredential().id), ClientID: "web", Username: "alice", Scope: "another", Consented: true}
				t.put(bucketGrants, g.key[:], g)
			}
			return nil
		})
		b := i.as("alice")
		b.authorize(authorization("web")).wantConsent()
		if took := b.costOf(i.path("authorize") + "?" + authorization("web").Encode()); took > allowed(50*time.Millisecond) {
			t.Errorf("the authorization endpoint takes %v", took)
		}
		b.approve(authorization("web"))
		if r := b.authorize(authorization("web")); r.param("code") == "" {
			t.Errorf("the newest consent is not remembered: status %d", r.StatusCode)
		}
	})

	t.Run("R181 the pages of applications among 20,000 clients", func(t *testing.T) {
		t.Parallel()
		i := start(t, inMemory(t))
		alice, _ := i.ids("web")
		i.mustUpdate(func(t *tx) error {
			for n := range 20_000 {
				c := &client{metadata: metadata{ClientID: fmt.Sprint("many-", n)}, RegisteredBy: itself, SecretHash: []byte("x")}
				if n%2 == 0 {
					c.RegisteredBy = operator
				}
				g := &grant{ClientID: c.ClientID, Username: "alice"}
				if err := t.putClient(c); err != nil {
					return err
				}
				g.key = newGrantKey(alice, c.ID, newCredential().id)
				t.delete(bucketLists, listKey(listUnused, c.ID.String()))
				t.put(bucketGrants, g.key[:], g)
			}
			return nil
		})
		b := i.as("alice")
		b.get("/account/applications").contains("Web app")
		b.get("/account/authorized").contains("many-19999")
		for _, path := range []string{"/account/applications", "/account/authorized", "/", "/.well-known/oauth-authorization-server"} {
			if took := b.costOf(path); took > allowed(100*time.Millisecond) {
				t.Errorf("%s takes %v", path, took)
			}
		}
		// The writer's turn is as short.
		if took := cost(func() {
			if err := i.server.store.addClient(&client{metadata: metadata{ClientID: newClientSecret(), Owner: "alice"}, RegisteredBy: aUser}, maxApplications); err != nil {
				t.Error(err)
			}
		}); took > allowed(20*time.Millisecond) {
			t.Errorf("to register an application takes %v", took)
		}
	})

	t.Run("R183 clients that registered themselves", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon", inMemory(t))
		var ids, secrets []string
		var sizes []int64
		tokenOf := func(n int) *reply {
			return i.post("/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {ids[n]}, "client_secret": {secrets[n]}, "scope": {"read"}})
		}
		register := func() {
			var group sync.WaitGroup
			var mu sync.Mutex
			for range 8 {
				group.Go(func() {
					for range 125 {
						r := i.post("/api/v1/apps", url.Values{"client_name": {"Test"}, "redirect_uris": {"https://a.example/cb"}})
						id, _ := r.json["client_id"].(string)
						secret, _ := r.json["client_secret"].(string)
						mu.Lock()
						ids, secrets = append(ids, id), append(secrets, secret)
						mu.Unlock()
					}
				})
			}
			group.Wait()
			i.advance(time.Minute)
		}
		register()
		token, _ := tokenOf(5).json["access_token"].(string)
		b := i.as("alice")
		b.approve(url.Values{"response_type": {"code"}, "client_id": {ids[6]}, "redirect_uri": {"https://a.example/cb"}, "scope": {"read"}})
		for range 4 {
			register()
			i.mustUpdate(func(t *tx) error { sizes = append(sizes, t.rows.(fileRows).Size()); return nil })
		}
		if sizes[3] > sizes[0]*3/2 {
			t.Errorf("the file grows: %d", sizes)
		}
		// Those that came at once may have left a few more, until the next one.
		i.post("/api/v1/apps", url.Values{"client_name": {"Test"}, "redirect_uris": {"https://a.example/cb"}})
		if left := count(t, i.server.store, bucketClients); left != 6+1+1000 {
			t.Errorf("%d clients are left, want the 6 of the fixtures, the one with a grant and 1000", left)
		}
		for n, want := range map[int]int{0: 401, 5: 401, 7: 401, 3500: 401, 6: 200, 4100: 200, 4999: 200} {
			if r := tokenOf(n); r.StatusCode != want {
				t.Errorf("client %d: status %d, want %d", n, r.StatusCode, want)
			}
		}
		if r := i.get("/api/v1/apps/verify_credentials", "Authorization", "Bearer "+token); r.StatusCode != 401 {
			t.Errorf("a token of a client that is gone: status %d", r.StatusCode)
		}
	})
}

// TestRepeatedErrors is about what stays wrong: it is told once, and once more
// after an hour.
func TestRepeatedErrors(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.mustUpdate(func(t *tx) error {
		for n, name := range []string{"first", "second"} {
			key := newCredential().id
			t.damage([][]byte{bucketAccess, bucketGrants}[n], key[:], name)
		}
		return nil
	})
	lines := func() int { return strings.Count(i.log.String(), "level=ERROR msg=sweep") }
	t.Run("R206 a damaged record is told once an hour", func(t *testing.T) {
		for range 5 {
			i.server.sweepAndTell(t.Context())
		}
		if lines() != 2 || !strings.Contains(i.log.String(), "access_tokens: record") {
			t.Errorf("%d lines, want one for each record: %s", lines(), i.log)
		}
		i.advance(61 * time.Minute)
		for range 5 {
			i.server.sweepAndTell(t.Context())
		}
		if lines() != 4 {
			t.Errorf("%d lines an hour later, want 4: %s", lines(), i.log)
		}
	})
	t.Run("R206 net/http repeats itself once an hour", func(t *testing.T) {
		log := i.server.newHTTPServer().ErrorLog
		for range 5 {
			log.Print("http: Accept error: too many open files; retrying in 1s")
		}
		if n := strings.Count(i.log.String(), "too many open files"); n != 1 {
			t.Errorf("%d lines, want 1", n)
		}
	})
}
