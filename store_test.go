package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
)

// atOnce calls f n times, as much at the same time as can be. Chance decides which of
// them is first, whatever the scheduler does.
func atOnce(n int, f func(k int)) {
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(n)
	for _, k := range rand.Perm(n) {
		done.Go(func() {
			ready.Done()
			<-release
			f(k)
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}

// onDisk has start keep everything in a file instead of memory.
func onDisk(t *testing.T, path string) func(*server) {
	return func(s *server) {
		st, err := openStore(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.close() })
		s.store = st
	}
}

// inMemory has start keep everything in memory, also where the tests run on etcd:
// for those that look into the engine, or write thousands of records at once.
func inMemory(t *testing.T) func(*server) { return onDisk(t, memory) }

// dump is all that a store has, by bucket and key.
func dump(t *testing.T, st *store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	_, err := view(st, func(t *tx) (any, error) {
		if key := t.get(bucketMeta, metaKeys); key != nil {
			all["signing key"] = string(key)
		}
		for _, bucket := range buckets {
			for k, v := range t.scan(bucket, nil, nil) {
				all[fmt.Sprintf("%s/%x", bucket, k)] = string(v)
			}
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// inFile is the engine of a store that is a file.
func inFile(st *store) *file { return st.engine.(*file) }

// count is how many records a bucket has.
func count(t *testing.T, st *store, bucket []byte) int {
	t.Helper()
	n, err := view(st, func(t *tx) (int, error) { return len(t.keys(bucket, nil, noLimit)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// damage puts what is no record under a key.
func (t *tx) damage(bucket, key []byte, value string) {
	t.write(func() error { return t.rows.put(bucket, key, []byte(value)) })
}

// ids are what grants of alice to a client are found by.
func (i *instance) ids(clientID string) (user, client uuid.UUID) {
	i.Helper()
	u, err := i.server.store.userNamed("alice")
	if err != nil {
		i.Fatal(err)
	}
	c, err := i.server.store.clientNamed(clientID)
	if err != nil {
		i.Fatal(err)
	}
	return u.ID, c.ID
}

// bothWin runs a race for so many rounds, and on until each of two sides has won
// some. race reports whether the first side won.
func bothWin(t *testing.T, rounds int, race func(round int) bool) {
	t.Helper()
	wins := map[bool]int{}
	for round := 0; round < rounds || min(wins[true], wins[false]) < 3; round++ {
		if round == 20*rounds || t.Failed() {
			t.Fatalf("after %d rounds the sides have won %d and %d", round, wins[true], wins[false])
		}
		wins[race(round)]++
	}
}

// wantOne wants one of many equal requests to have succeeded and the others to
// be refused with invalid_grant. It returns the winner's tokens.
func wantOne(i *instance, replies []*reply) (access, refresh string) {
	i.Helper()
	for _, r := range replies {
		switch {
		case r.StatusCode != http.StatusOK:
			r.wantError(http.StatusBadRequest, "invalid_grant")
		case access != "":
			i.Fatal("two requests succeeded")
		default:
			access, refresh = r.wantToken()
		}
	}
	if access == "" {
		i.Fatal("no request succeeded")
	}
	return access, refresh
}

func TestRaces(t *testing.T) {
	t.Parallel()
	const racers = 32

	t.Run("6749 4.1.2 R156 one code", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for range 10 {
			form := exchangeOf("web", i.code("web"))
			replies := make([]*reply, racers)
			atOnce(racers, func(k int) { replies[k] = i.post(i.endpoint("token"), form) })
			i.wantDead(wantOne(i, replies)) // the others were replays
		}
	})

	t.Run("9700 4.14.2 R157 one refresh token", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for range 10 {
			first, token := i.tokens("web")
			replies := make([]*reply, racers)
			atOnce(racers, func(k int) { replies[k] = i.refresh("web", token) })
			access, refresh := wantOne(i, replies)
			i.wantDead(first, token, access, refresh)
		}
	})

	// R158: once an end has been answered, all that was ever issued is dead.
	type family struct {
		*instance
		alice   *browser
		code    url.Values // the exchange of the code behind it
		refresh string     // empty: the code has not been exchanged yet
	}
	for name, end := range map[string]func(f *family) (now func()){
		"revocation": func(f *family) func() {
			return func() { f.revoke("web", f.refresh).wantRevoked() }
		},
		"replay": func(f *family) func() {
			return func() { f.post(f.endpoint("token"), f.code).wantError(http.StatusBadRequest, "invalid_grant") }
		},
		"withdrawal of consent": func(f *family) func() {
			form := f.alice.get("/account/authorized").form(url.Values{"id": {"web"}})
			return func() { f.alice.post("/account/authorized/revoke", form) }
		},
		"deletion of the client": func(f *family) func() {
			return func() { f.mustControl("DELETE", "clients/web", "") }
		},
		"deletion of the user": func(f *family) func() {
			return func() { f.mustControl("DELETE", "users/alice", "") }
		},
	} {
		for _, kind := range []string{"refresh", "redemption"} {
			if kind == "redemption" && (name == "revocation" || name == "replay") {
				continue // there is nothing to revoke yet
			}
			t.Run("R158 "+kind+" and "+name, func(t *testing.T) {
				t.Parallel()
				f := &family{instance: startControlled(t, inMemory(t))}
				f.alice = f.as("alice")
				bothWin(t, 100, func(round int) (first bool) {
					f.code = exchangeOf("web", f.alice.approve(authorization("web")).param("code"))
					form := f.code
					var issued []string
					if kind == "refresh" {
						var access string
						access, f.refresh = f.post(f.endpoint("token"), f.code).wantToken()
						issued = append(issued, access, f.refresh)
						form = withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {f.refresh}})
					}
					endNow := end(f)
					var answer *reply
					atOnce(2, func(k int) {
						if k == round%2 {
							for range round / 2 % 3 { // one may take longer than the other
								f.get("/healthz")
							}
							endNow()
						} else {
							answer = f.post(f.endpoint("token"), form)
						}
					})
					if first = answer.StatusCode == http.StatusOK; first {
						access, refresh := answer.wantToken()
						issued = append(issued, access, refresh)
					} else if answer.StatusCode != http.StatusBadRequest && answer.json["error"] != "invalid_client" {
						t.Errorf("status %d: %s", answer.StatusCode, answer.body)
					}
					if strings.HasPrefix(name, "deletion") {
						f.wantDead(issued...)
						f.furnish(instanceFixtures) // another of the same name
						if strings.HasSuffix(name, "user") {
							f.alice = f.as("alice")
						}
					}
					f.wantDead(issued...)
					return first
				})
			})
		}
	}

	t.Run("R159 registration and deletion", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for range 20 {
			access, refresh := i.tokens("web")
			atOnce(4, func(k int) {
				if k%2 == 0 {
					i.furnish(instanceFixtures)
				} else if err := i.server.store.deleteClient("web"); err != nil {
					i.Error(err)
				}
			})
			i.furnish(instanceFixtures)
			i.wantDead(access, refresh)
		}
	})
	t.Run("R159 two registrations", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for round := range 10 {
			clientID := fmt.Sprintf("new%d", round)
			atOnce(8, func(k int) {
				i.furnish(fmt.Sprintf(`{"clients": [{"client_id": "%s", "client_secret": "secret-%d", "redirect_uris": []}]}`, clientID, k))
			})
			right := 0
			for k := range 8 {
				r := i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}}, "Authorization", basicHeader(clientID, fmt.Sprint("secret-", k)))
				if r.StatusCode == http.StatusOK {
					right++
				}
			}
			if right != 1 {
				t.Errorf("%d secrets are right", right)
			}
		}
	})
}

// queued is a verb that has been given to update while another batch is being
// written.
type queued struct {
	err  error
	done chan struct{}
}

// updateQueued hands a verb to the store and returns when it is waiting.
func updateQueued(st *store, verb func(*tx) error) *queued {
	before := waiting(st)
	q := &queued{done: make(chan struct{})}
	go func() {
		defer close(q.done)
		q.err = st.update(verb)
	}()
	for waiting(st) == before {
		runtime.Gosched()
	}
	return q
}

func waiting(st *store) int {
	b := inFile(st).updates
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// leadBlocked is a caller of update whose verb runs until release is closed:
// who comes meanwhile shares the next transaction.
func leadBlocked(st *store) (q *queued, release chan struct{}) {
	q = &queued{done: make(chan struct{})}
	release = make(chan struct{})
	began := make(chan struct{})
	go func() {
		defer close(q.done)
		q.err = st.update(func(*tx) error {
			close(began)
			<-release
			return nil
		})
	}()
	<-began
	return q, release
}

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) *store {
		st, err := openStore(memory)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.close() })
		return st
	}
	write := func(name string) func(*tx) error {
		return func(t *tx) error { t.put(bucketUsers, []byte(name), &user{Username: name}); return nil }
	}
	errRefused := errors.New("refused")

	for _, row := range []struct {
		name   string
		verb   func(*tx) error
		common bool // the neighbours fail with it
		want   int  // records afterwards
	}{
		{"a verb that refuses", func(*tx) error { return errRefused }, false, 2},
		{"a verb that fails after writing", func(t *tx) error { return errors.Join(write("half")(t), errRefused) }, true, 0},
		{"a verb that panics", func(*tx) error { panic("no") }, true, 0},
		{"a verb that panics after writing", func(t *tx) error { write("half")(t); panic("no") }, true, 0},
		{"a commit that panics at its end", func(t *tx) error { t.rows.(fileRows).OnCommit(func() { panic("no") }); return nil }, true, 2},
		{"a commit that fails", func(t *tx) error {
			t.rows.(fileRows).DB().MaxSize = 1
			t.put(bucketUsers, []byte("half"), &user{Name: strings.Repeat("x", 1<<20)})
			return nil
		}, true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			st := open(t)
			leader, release := leadBlocked(st)
			before := updateQueued(st, write("before"))
			// As if refused for what a neighbour has not committed yet.
			refused := updateQueued(st, func(*tx) error { return errRefused })
			odd := updateQueued(st, row.verb)
			after := updateQueued(st, write("after"))
			close(release)
			for _, q := range []*queued{leader, before, refused, odd, after} {
				<-q.done
			}
			if leader.err != nil {
				t.Errorf("the batch before: %v", leader.err)
			}
			for _, q := range []*queued{before, after} {
				if errors.Is(q.err, errStorage) != row.common {
					t.Errorf("a neighbour: %v", q.err)
				}
			}
			if row.common {
				if !errors.Is(odd.err, errStorage) || !errors.Is(refused.err, errStorage) {
					t.Errorf("errors: %v, %v, want %v", odd.err, refused.err, errStorage)
				}
			} else if odd.err != errRefused || refused.err != errRefused {
				t.Errorf("errors: %v, %v, want %v", odd.err, refused.err, errRefused)
			}
			if got := dump(t, st); len(got) != row.want {
				t.Errorf("%d records, want %d: %v", len(got), row.want, got)
			}
			// The store lives on.
			inFile(st).db.MaxSize = 0
			if err := st.update(write("next")); err != nil {
				t.Errorf("the next batch: %v", err)
			}
			if got := dump(t, st); len(got) != row.want+1 {
				t.Errorf("%d records, want %d: %v", len(got), row.want+1, got)
			}
		})
	}

	t.Run("one transaction", func(t *testing.T) {
		t.Parallel()
		st := open(t)
		leader, release := leadBlocked(st)
		transactions := make(chan int, 10)
		var all []*queued
		for k := range 10 {
			all = append(all, updateQueued(st, func(t *tx) error {
				transactions <- t.rows.(fileRows).ID()
				return write(fmt.Sprint(k))(t)
			}))
		}
		close(release)
		<-leader.done
		for _, q := range all {
			if <-q.done; q.err != nil {
				t.Error(q.err)
			}
		}
		first := <-transactions
		for range 9 {
			if other := <-transactions; other != first {
				t.Errorf("transactions %d and %d", first, other)
			}
		}
	})

	t.Run("a verb sees its neighbours' writes", func(t *testing.T) {
		t.Parallel()
		st := open(t)
		_, release := leadBlocked(st)
		updateQueued(st, write("alice"))
		q := updateQueued(st, func(t *tx) error {
			if u, err := read[user](t, bucketUsers, []byte("alice")); u == nil {
				return errors.Join(err, errUnknown)
			}
			return nil
		})
		close(release)
		if <-q.done; q.err != nil {
			t.Error(q.err)
		}
	})

	t.Run("the lead is handed over", func(t *testing.T) {
		t.Parallel()
		st := open(t)
		first, releaseFirst := leadBlocked(st)
		began, releaseSecond := make(chan struct{}), make(chan struct{})
		second := updateQueued(st, func(*tx) error {
			close(began)
			<-releaseSecond
			return nil
		})
		close(releaseFirst)
		<-first.done // and does not stay to serve the second
		<-began
		third := updateQueued(st, write("third"))
		close(releaseSecond)
		<-second.done
		<-third.done
		if lead, wait := len(inFile(st).updates.lead), waiting(st); lead+wait > 0 {
			t.Errorf("%d lead, %d wait, want nobody", lead, wait)
		}
	})

	t.Run("a lone caller waits for nobody", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			st := open(t)
			began := time.Now()
			if err := st.update(write("alice")); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != 0 { // bbolt's Batch would take 10 ms
				t.Errorf("an update took %v", took)
			}
		})
	})

	// R164: what is answered is what is stored, whoever shares the transaction.
	t.Run("R164 failing neighbours", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		before := len(dump(t, i.server.store))
		const n = 400
		tokens := make([]string, n)
		atOnce(n, func(k int) {
			if k%4 == 0 {
				if err := i.server.store.update(func(t *tx) error { return errors.Join(write("half")(t), errRefused) }); err == nil {
					t.Error("no error")
				}
				return
			}
			r := i.failing("token", withClient("web", url.Values{"grant_type": {"client_credentials"}}))
			if r.StatusCode != http.StatusOK {
				r.wantUnavailable()
				return
			}
			tokens[k], _ = r.wantToken()
		})
		issued := slices.DeleteFunc(tokens, func(token string) bool { return token == "" })
		i.wantAlive(issued...)
		if got := len(dump(t, i.server.store)) - before; got != len(issued) {
			t.Errorf("%d tokens stored, %d answered", got, len(issued))
		}
		slices.Sort(issued)
		if len(slices.Compact(issued)) != len(issued) {
			t.Error("a token was issued twice")
		}
	})
}

// TestFaults fails the k-th write of everything that writes, for k = 1, 2, …
// until it succeeds. A failure leaves everything as it was, and the same
// request then succeeds (R163).
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	post := func(endpoint, clientID string, form url.Values) func(*instance) bool {
		return func(i *instance) bool {
			r := i.failing(endpoint, withClient(clientID, form))
			if r.StatusCode >= 500 {
				r.wantUnavailable()
				return false
			}
			if r.StatusCode != http.StatusOK {
				i.Errorf("status %d: %s", r.StatusCode, r.body)
			}
			return true
		}
	}
	exchange := func(i *instance) func(*instance) bool {
		return post("token", "web", exchangeOf("web", i.code("web")))
	}
	refresh := func(i *instance) func(*instance) bool {
		_, token := i.tokens("web")
		return post("token", "web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	}
	// A reuse is refused, but what it revokes must be stored.
	reuse := func(form url.Values) func(*instance) bool {
		return func(i *instance) bool {
			r := i.failing("token", form)
			if r.StatusCode >= 500 {
				r.wantUnavailable()
				return false
			}
			r.wantError(http.StatusBadRequest, "invalid_grant")
			return true
		}
	}
	verb := func(err error) bool {
		return err == nil
	}
	change := func(to func(*client) *client) func(*instance) bool {
		return func(i *instance) bool {
			return verb(i.server.store.changeClient("alice", "web", func(c *client) (*client, error) { return to(c), nil }))
		}
	}
	signedIn := func(i *instance) *session {
		live := &session{stored: newCredential().stored(0)}
		if err := i.server.store.replaceSession(nil, live); err != nil {
			i.Fatal(err)
		}
		return live
	}
	for _, row := range []struct {
		name    string
		writes  int
		prepare func(*instance) func(*instance) bool
	}{
		{"redeem", 4, exchange},
		{"rotate", 4, refresh},
		{"rotate and end the access token", 5, func(i *instance) func(*instance) bool {
			i.server.profile.RefreshEndsAccessToken = true
			return refresh(i)
		}},
		{"reuse of a code", 1, func(i *instance) func(*instance) bool {
			form := exchangeOf("web", i.code("web"))
			i.post(i.endpoint("token"), form).wantToken()
			return reuse(form)
		}},
		{"reuse of a refresh token", 1, func(i *instance) func(*instance) bool {
			_, token := i.tokens("web")
			i.refresh("web", token).wantToken()
			return reuse(withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}))
		}},
		{"revoke a refresh token", 1, func(i *instance) func(*instance) bool {
			_, token := i.tokens("web")
			return post("revoke", "web", url.Values{"token": {token}})
		}},
		{"revoke an access token", 1, func(i *instance) func(*instance) bool {
			token, _ := i.tokens("web")
			return post("revoke", "web", url.Values{"token": {token}})
		}},
		{"issue by password", 3, func(*instance) func(*instance) bool {
			return post("token", "legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}})
		}},
		{"issue by client credentials", 1, func(*instance) func(*instance) bool {
			return post("token", "web", url.Values{"grant_type": {"client_credentials"}})
		}},
		{"issue a code", 3, func(i *instance) func(*instance) bool {
			alice := i.as("alice")
			page := alice.authorize(authorization("web"))
			return func(i *instance) bool {
				r := alice.decide(page, "approve")
				if r.param("error") != "" {
					r.wantRedirect("server_error", "xyz")
					return false
				}
				return r.param("code") != ""
			}
		}},
		{"withdraw consent", 2, func(i *instance) func(*instance) bool {
			i.tokens("web")
			i.tokens("web")
			return func(i *instance) bool { return verb(i.server.store.revokeGrants(i.ids("web"))) }
		}},
		{"register", 14, func(*instance) func(*instance) bool {
			return func(i *instance) bool {
				err := i.server.store.register([]*user{{Username: "carol"}, {Username: "dave"}}, []*client{
					{metadata: metadata{ClientID: "c1"}}, {metadata: metadata{ClientID: "c2"}}, {metadata: metadata{ClientID: "c3"}}, {metadata: metadata{ClientID: "c4"}}, {metadata: metadata{ClientID: "c5"}}, {metadata: metadata{ClientID: "c6"}}})
				return verb(err)
			}
		}},
		{"revoke an access token that is alone", 1, func(i *instance) func(*instance) bool {
			token, _ := i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
			return post("revoke", "web", url.Values{"token": {token}})
		}},
		{"register a client that registers itself", 3, func(*instance) func(*instance) bool {
			return func(i *instance) bool {
				return verb(i.server.store.register(nil, []*client{{metadata: metadata{ClientID: "c1", GrantTypes: []string{"client_credentials"}}, RegisteredBy: itself}}))
			}
		}},
		{"add an application", 2, func(*instance) func(*instance) bool {
			return func(i *instance) bool {
				return verb(i.server.store.addClient(&client{metadata: metadata{ClientID: "c1", Owner: "alice"}}, 50))
			}
		}},
		{"change an application", 3, func(*instance) func(*instance) bool {
			return change(func(c *client) *client { c.Owner = "bob"; c.GrantTypes = nil; return c })
		}},
		{"delete an application", 2, func(*instance) func(*instance) bool {
			return change(func(*client) *client { return nil })
		}},
		{"delete a client", 2, func(*instance) func(*instance) bool {
			return func(i *instance) bool { return verb(i.server.store.deleteClient("web")) }
		}},
		{"delete a user who owns a client", 4, func(*instance) func(*instance) bool {
			return func(i *instance) bool { return verb(i.server.store.deleteUser("alice")) }
		}},
		{"sign in again", 2, func(i *instance) func(*instance) bool {
			old := signedIn(i)
			return func(i *instance) bool {
				return verb(i.server.store.replaceSession(old, &session{stored: newCredential().stored(0)}))
			}
		}},
		{"sign out", 1, func(i *instance) func(*instance) bool {
			live := signedIn(i)
			return func(i *instance) bool { return verb(i.server.store.replaceSession(live, nil)) }
		}},
		{"make the signing key", 1, func(*instance) func(*instance) bool {
			return func(i *instance) bool {
				_, err := i.server.store.signingKeys("ES256", false, 0, 0)
				return verb(err)
			}
		}},
		{"reset", 26, func(i *instance) func(*instance) bool {
			i.tokens("web")
			return func(i *instance) bool { return verb(i.server.store.reset([]*user{{Username: "carol"}}, nil)) }
		}},
	} {
		t.Run("R163 "+row.name, func(t *testing.T) {
			t.Parallel()
			i := start(t, inMemory(t))
			do := row.prepare(i)
			st := i.server.store
			before := dump(t, st)
			for k := 1; ; k++ {
				n := 0
				st.fault = func() error {
					if n++; n == k {
						return errors.New("no space left on device")
					}
					return nil
				}
				succeeded := do(i)
				st.fault = nil
				after := dump(t, st)
				if succeeded {
					if maps.Equal(before, after) {
						t.Error("success, and nothing is stored")
					}
					if k != row.writes+1 {
						t.Errorf("success with %d writes, want %d", k-1, row.writes)
					}
					return
				}
				if !maps.Equal(before, after) {
					t.Fatalf("the failure of write %d left something behind", k)
				}
				if k > row.writes {
					t.Fatalf("it failed at write %d of %d", k, row.writes)
				}
			}
		})
	}
}

// TestReopen shows that what was answered is there after a restart (R161).
func TestReopen(t *testing.T) {
	t.Parallel()
	t.Run("R161 what was answered is there after a restart", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "grantling.db")
		i := start(t, onDisk(t, path))

		access, refresh := i.tokens("web")
		alone := i.clientToken("web")
		_, used := i.tokens("native")
		rotated, latest := i.refresh("native", used).wantToken()
		revoked, revokedRefresh := i.tokens("web")
		i.revoke("web", revokedRefresh).wantRevoked()
		ended, kept := i.tokens("web")
		i.revoke("web", ended).wantRevoked()
		code := i.code("web")
		redeemed := i.code("web")
		byCode, _ := i.post(i.endpoint("token"), exchangeOf("web", redeemed)).wantToken()
		withdrawn, _ := i.tokens("legacy")
		if err := i.server.store.revokeGrants(i.ids("legacy")); err != nil {
			t.Fatal(err)
		}
		orphan, _ := i.tokens("other")
		if err := i.server.store.deleteClient("other"); err != nil {
			t.Fatal(err)
		}

		if err := i.server.store.close(); err != nil {
			t.Fatal(err)
		}
		i = start(t, onDisk(t, path))

		i.wantAlive(access, refresh, alone, rotated, latest, kept, byCode)
		i.wantDead(revoked, revokedRefresh, ended, used, withdrawn, orphan)
		// The consent is there, and the one that was withdrawn is not.
		alice := i.as("alice")
		if alice.authorize(authorization("web")).param("code") == "" {
			t.Error("the consent is lost")
		}
		if r := alice.authorize(authorization("legacy")); r.StatusCode != http.StatusOK {
			t.Errorf("the withdrawn consent is back: status %d", r.StatusCode)
		}
		i.refresh("web", refresh).wantToken()
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		// What was used up is known to have been.
		i.post(i.endpoint("token"), exchangeOf("web", redeemed)).wantError(http.StatusBadRequest, "invalid_grant")
		i.refresh("native", used).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(byCode, rotated, latest)
	})
}

// TestLater: 0 is never, which is later than any time.
func TestLater(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ a, b, later, earlier unixTime }{
		{1, 2, 2, 1}, {2, 1, 2, 1}, {3, 3, 3, 3}, {0, 5, 0, 5}, {5, 0, 0, 5}, {0, 0, 0, 0},
	} {
		if l, e := later(row.a, row.b), earlier(row.a, row.b); l != row.later || e != row.earlier {
			t.Errorf("%d and %d: later %d, earlier %d, want %d and %d", row.a, row.b, l, e, row.later, row.earlier)
		}
	}
}

// newDatabase makes a database of a few hundred records and returns its file.
func newDatabase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "grantling.db")
	st, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	var users []*user
	for k := range 300 {
		users = append(users, &user{Username: fmt.Sprint("user", k), Name: strings.Repeat("x", 200)})
	}
	if err := errors.Join(st.register(users, nil), st.close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDamagedDatabase: what is not a whole database of grantling's is refused
// and left as it is (R166).
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	flip := func(data []byte, from, to int) []byte {
		for n := from; n < to; n++ {
			data[n] ^= 0xff
		}
		return data
	}
	inBolt := func(change func(*bolt.Tx) error) func(*testing.T, []byte) []byte {
		return func(t *testing.T, data []byte) []byte {
			path := filepath.Join(t.TempDir(), "changed.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := bolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(change), db.Close()); err != nil {
				t.Fatal(err)
			}
			data, err = os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
	for _, row := range []struct {
		name   string
		change func(*testing.T, []byte) []byte
		want   string
	}{
		{"0 bytes", func(*testing.T, []byte) []byte { return nil }, "is empty"},
		{"1 byte", func(_ *testing.T, data []byte) []byte { return data[:1] }, "invalid"},
		{"1 page", func(_ *testing.T, data []byte) []byte { return data[:page] }, "file size too small"},
		{"2 pages", func(_ *testing.T, data []byte) []byte { return data[:2*page] }, "truncated"},
		{"3 pages", func(_ *testing.T, data []byte) []byte { return data[:3*page] }, "truncated"},
		{"half", func(_ *testing.T, data []byte) []byte { return data[:len(data)/2] }, "truncated"},
		{"zeroed", func(_ *testing.T, data []byte) []byte { return make([]byte, len(data)) }, "invalid"},
		{"zeroed beginning", func(_ *testing.T, data []byte) []byte { clear(data[:2*page]); return data }, "invalid"},
		{"both meta pages", func(_ *testing.T, data []byte) []byte { return flip(flip(data, 16, 80), page+16, page+80) }, "invalid"},
		{"a byte in both meta pages", func(_ *testing.T, data []byte) []byte { return flip(flip(data, 40, 41), page+40, page+41) }, "checksum"},
		{"checksums", func(_ *testing.T, data []byte) []byte { return flip(flip(data, 72, 73), page+72, page+73) }, "checksum"},
		{"root page", func(_ *testing.T, data []byte) []byte { return flip(data, 3*page, len(data)) }, "damaged"},
		{"text", func(*testing.T, []byte) []byte { return []byte("Dear diary,\n") }, "invalid"},
		{"long text", func(*testing.T, []byte) []byte { return bytes.Repeat([]byte("Dear diary,\n"), 5000) }, "invalid"},
		{"database of another program", inBolt(func(tx *bolt.Tx) error {
			if err := tx.DeleteBucket(bucketMeta); err != nil {
				return err
			}
			_, err := tx.CreateBucket([]byte("diary"))
			return err
		}), "was not made by grantling"},
		{"another version", inBolt(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaFormat, []byte("99")) }), `has format "99"`},
		{"no version", inBolt(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(metaFormat) }), `has format ""`},
		{"without a bucket", inBolt(func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketRefresh) }), "refresh_tokens"},
	} {
		t.Run("R166 "+row.name, func(t *testing.T) {
			t.Parallel()
			path := newDatabase(t)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = row.change(t, data)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			st, err := openStore(path)
			if err == nil {
				st.close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %q, want the file and %q", err, row.want)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(data, after) {
				t.Errorf("the file was changed, or is gone: %v", err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("there are other files: %v, %v", entries, err)
			}
		})
	}

	t.Run("R166 directory", func(t *testing.T) {
		path := t.TempDir()
		if _, err := openStore(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("R166 no directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none", "grantling.db")
		if _, err := openStore(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("R176 link to nowhere", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target.db")
		path := filepath.Join(t.TempDir(), "grantling.db")
		if err := os.Symlink(target, path); err != nil {
			t.Skip(err)
		}
		if _, err := openStore(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v", err)
		}
		if _, err := os.Lstat(target); err == nil {
			t.Error("a file was made at the other end of the link")
		}
	})
}

func TestDatabaseInUse(t *testing.T) {
	t.Parallel()
	t.Run("R167", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "grantling.db")
		st, err := openStore(path)
		if err != nil {
			t.Fatal(err)
		}
		defer st.close()
		began := time.Now()
		_, err = openStore(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("R167 two first starts at once", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "grantling.db")
		stores, errs := make([]*store, 2), make([]error, 2)
		atOnce(2, func(k int) { stores[k], errs[k] = openStore(path) })
		winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
		if winner < 0 || errs[1-winner] == nil || !strings.Contains(errs[1-winner].Error(), "in use by another process") {
			t.Fatalf("errors %v", errs)
		}
		if err := stores[winner].close(); err != nil {
			t.Error(err)
		}
	})
}

// TestDurable is about what only files have: what is answered has been synced,
// and guessing a password from a stolen file is slow.
func TestDurable(t *testing.T) {
	t.Parallel()
	t.Run("every commit is synced", func(t *testing.T) {
		t.Parallel()
		path := newDatabase(t)
		st, err := openStore(path)
		if err != nil {
			t.Fatal(err)
		}
		defer st.close()
		if inFile(st).db.NoSync || inFile(st).db.NoGrowSync {
			t.Errorf("NoSync %t, NoGrowSync %t, want neither", inFile(st).db.NoSync, inFile(st).db.NoGrowSync)
		}
	})
	t.Run("passwords take 600,000 rounds of PBKDF2", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		launch(t, folder).stop()
		st, err := openStore(filepath.Join(folder, "grantling.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer st.close()
		alice, err := st.userNamed("alice")
		if err != nil {
			t.Fatal(err)
		}
		if alice.Password.Rounds != 600_000 {
			t.Errorf("%d rounds", alice.Password.Rounds)
		}
	})
}

func TestDatabaseMode(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode")
	}
	wantMode := func(path string) {
		t.Helper()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v, want mode 0600", info.Mode(), err)
		}
	}
	t.Run("R176 umask 000", func(t *testing.T) {
		if path := os.Getenv("GRANTLING_TEST_MODE"); path != "" {
			// Made so, not mended when it is opened.
			if err := createDatabase(path); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Parallel()
		path := filepath.Join(t.TempDir(), "grantling.db")
		child := exec.Command("sh", "-c", `umask 000; exec "$0" "$@"`, os.Args[0], "-test.run=^TestDatabaseMode$/R176_umask")
		child.Env = append(os.Environ(), "GRANTLING_TEST_MODE="+path)
		if output, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		wantMode(path)
	})
	t.Run("R176 loose mode", func(t *testing.T) {
		t.Parallel()
		path := newDatabase(t)
		wantMode(path)
		for _, mode := range []os.FileMode{0o640, 0o604, 0o666, 0o777} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			st, err := openStore(path)
			if err != nil {
				t.Fatal(err)
			}
			wantMode(path)
			st.close()
		}
	})
}

// TestFullDisk: writes fail with 503 while reads go on, and no restart is
// needed when there is room again (R129, R168).
func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("R129 R168 writes fail, reads go on", func(t *testing.T) {
		i := start(t, onDisk(t, filepath.Join(t.TempDir(), "grantling.db")))
		access, refresh := i.tokens("web")
		form := exchangeOf("web", i.code("web"))
		alice := i.as("alice")
		issued := []string{access, refresh}

		// The file must not grow, and no page may be used again while a reader is
		// there: what is free now is used up soon.
		reader, err := inFile(i.server.store).db.Begin(false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reader.Rollback() }) // or closing the file waits forever
		inFile(i.server.store).db.MaxSize = 1
		issue := func() *reply {
			return i.failing("token", withClient("web", url.Values{"grant_type": {"client_credentials"}}))
		}
		failures := 0
		for n := 0; failures < 20; n++ {
			if n == 10_000 {
				t.Fatal("the disk does not get full")
			}
			r := issue()
			if r.StatusCode != http.StatusOK {
				r.wantUnavailable()
				failures++
				continue
			}
			token, _ := r.wantToken()
			issued = append(issued, token)
		}
		smallest := func() error {
			return i.server.store.update(func(t *tx) error { t.put(bucketMarks, []byte("smallest"), mark{}); return nil })
		}
		for n := 0; smallest() == nil; n++ {
			if n == 10_000 {
				t.Fatal("the disk does not get full")
			}
		}
		i.failing("token", form).wantUnavailable()
		i.failing("token", withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})).wantUnavailable()
		i.failing("revoke", withClient("web", url.Values{"token": {refresh}})).wantUnavailable()
		alice.approve(authorization("web")).wantRedirect("server_error", "xyz")
		i.wantAlive(issued...)
		if r := i.bearer("userinfo", access); r.StatusCode != http.StatusOK {
			t.Errorf("userinfo: status %d", r.StatusCode)
		}

		if err := reader.Rollback(); err != nil {
			t.Fatal(err)
		}
		inFile(i.server.store).db.MaxSize = 0
		i.post(i.endpoint("token"), form).wantToken()
		_, latest := i.refresh("web", refresh).wantToken()
		issue().wantToken()
		i.revoke("web", latest).wantRevoked()
		i.wantDead(access, latest)
		i.wantAlive(issued[2:]...)
	})
}

// sweepRound sweeps until the sweeper has gone through all buckets.
func sweepRound(st *store, now unixTime) (removed int, err error) {
	for more := true; more; more = st.midRound() {
		_, n, failed := st.sweep(now)
		removed, err = removed+n, errors.Join(err, failed)
	}
	return removed, err
}

// sweepAll sweeps until nothing is found in a whole round.
func (i *instance) sweepAll() {
	i.Helper()
	for rounds := 0; ; rounds++ {
		if rounds == 1000 {
			i.Fatal("the sweeper always finds something")
		}
		removed, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix()))
		if err != nil {
			i.Fatal(err)
		}
		if removed == 0 {
			return
		}
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()

	t.Run("what cannot be read keeps nothing else", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		st := i.server.store
		i.as("alice")
		code := newCredential().id
		expired := accessToken{stored: newCredential().stored(0), Expires: 1}
		err := st.update(func(t *tx) error {
			t.damage(bucketCodes, code[:], "{")
			t.damage(bucketAccess, code[:], "{")
			t.put(bucketAccess, expired.id[:], expired)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		removed, err := sweepRound(st, unixTime(i.server.clock.now().Unix()).after(sessionLifetime))
		if removed != 2 || !errors.Is(err, errStorage) {
			t.Errorf("%d removed, want the session and a token; %v", removed, err)
		}
	})
	t.Run("a disk that takes nothing ends the round", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		st := i.server.store
		i.mustUpdate(func(t *tx) error {
			expired := session{stored: newCredential().stored(0), Expires: 1}
			t.put(bucketSessions, expired.id[:], expired)
			return nil
		})
		st.fault = func() error { return errors.New("no space left on device") }
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := i.server.sweepSome(ctx); !errors.Is(err, errStorage) || ctx.Err() != nil {
			t.Errorf("got %v, %v, want the failure", err, ctx.Err())
		}
		st.fault = nil
		i.sweepAll()
		if left := count(t, st, bucketSessions); left != 0 {
			t.Errorf("%d sessions are left", left)
		}
	})
	t.Run("what is prolonged between two looks stays", func(t *testing.T) {
		t.Parallel()
		i := start(t, inMemory(t))
		alice, web := i.ids("web")
		now := unixTime(i.server.clock.now().Unix())
		g := &grant{key: newGrantKey(alice, web, newCredential().id), ClientID: "web", Username: "alice", Expires: now}
		i.mustUpdate(func(t *tx) error { t.put(bucketGrants, g.key[:], g); return nil })
		st := i.server.store
		leader, release := leadBlocked(st)
		longer := *g
		longer.Expires = now + 1
		prolonged := updateQueued(st, func(t *tx) error { t.put(bucketGrants, g.key[:], longer); return nil })
		// The first look comes before that is written, the second one after it.
		before, swept := waiting(st), make(chan int)
		go func() {
			_, removed, err := st.sweep(now)
			if err != nil {
				t.Error(err)
			}
			swept <- removed
		}()
		for waiting(st) == before {
			runtime.Gosched()
		}
		close(release)
		<-leader.done
		<-prolonged.done
		if removed := <-swept; removed != 0 || count(t, st, bucketGrants) != 1 {
			t.Errorf("%d records removed, want the grant to stay", removed)
		}
	})
	t.Run("it starts with the server and ends with it", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		expired := accessToken{stored: newCredential().stored(0), Expires: 1}
		i.mustUpdate(func(t *tx) error { t.put(bucketAccess, expired.id[:], expired); return nil })
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- i.server.answer(ctx, listener) }()
		for deadline := time.Now().Add(patience); count(t, i.server.store, bucketAccess) > 0; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("what has expired stays")
			}
		}
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	})
	t.Run("R170 the file does not grow for ever", func(t *testing.T) {
		t.Parallel()
		i := start(t, onDisk(t, filepath.Join(t.TempDir(), "grantling.db")))
		u, err := i.server.store.userNamed("alice")
		if err != nil {
			t.Fatal(err)
		}
		c, err := i.server.store.clientNamed("web")
		if err != nil {
			t.Fatal(err)
		}
		furnished := len(dump(t, i.server.store))
		var sizes []int64
		for range 3 {
			now := unixTime(i.server.clock.now().Unix())
			atOnce(16, func(int) {
				for range rounds(t, 2000) / 16 {
					g := i.server.newGrant(u, c, "read", &exchange{now: now})
					issued, _ := i.server.newTokens(g, c, "read", &exchange{now: now}, 3600, i.server.profile.newRefreshToken)
					presented := newCredential()
					issued.code = &oneTime{stored: presented.stored(0), Grant: g.key, Expires: now.after(600), Used: true}
					if err := i.server.store.issue(issued); err != nil {
						t.Error(err)
					}
				}
			})
			i.advance(31 * 24 * time.Hour)
			i.sweepAll()
			if got := len(dump(t, i.server.store)); got != furnished {
				t.Errorf("%d records are left", got-furnished)
			}
			i.mustUpdate(func(t *tx) error { sizes = append(sizes, t.rows.(fileRows).Size()); return nil })
		}
		t.Logf("sizes %v", sizes)
		if sizes[2] > sizes[1]*6/5 {
			t.Error("the third wave takes more room than the second")
		}
	})

	t.Run("R170 what is alive stays", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		access, refresh := i.tokens("web")
		alone := i.clientToken("web")
		code := i.code("web")
		alice := i.as("alice")
		before := dump(t, i.server.store)
		i.sweepAll()
		if !maps.Equal(before, dump(t, i.server.store)) {
			t.Error("something is gone")
		}
		i.wantAlive(access, refresh, alone)
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		// To the last second of each.
		i.advance(3590 * time.Second)
		i.sweepAll()
		i.wantAlive(access, refresh, alone)
		if alice.authorize(authorization("web")).param("code") == "" {
			t.Error("session or consent is gone")
		}
		i.advance(20 * time.Second)
		i.sweepAll()
		i.wantDead(access, alone)
		i.wantAlive(refresh)
		i.refresh("web", refresh).wantToken()
	})

	t.Run("R170 tombstones stay as long as their grant", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		form := exchangeOf("web", i.code("web"))
		_, used := i.post(i.endpoint("token"), form).wantToken()
		otherForm := exchangeOf("web", i.code("web"))
		_, otherLatest := i.post(i.endpoint("token"), otherForm).wantToken()
		latest := used
		for range 4 { // beyond the lifetimes of the code and of the used refresh token
			i.advance(29 * 24 * time.Hour)
			_, latest = i.refresh("web", latest).wantToken()
			_, otherLatest = i.refresh("web", otherLatest).wantToken()
			i.sweepAll()
		}
		i.wantAlive(latest, otherLatest)
		i.refresh("web", used).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(latest)
		i.post(i.endpoint("token"), otherForm).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(otherLatest)
	})

	t.Run("R170 what was revoked or used says so, also after the sweeper came", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		form := exchangeOf("web", i.code("web"))
		access, refresh := i.post(i.endpoint("token"), form).wantToken()
		i.post(i.endpoint("token"), form).wantError(400, "invalid_grant")
		i.sweepAll()
		for what, r := range map[string]*reply{
			"the code was used before":           i.post(i.endpoint("token"), form),
			"the refresh token has been revoked": i.post(i.endpoint("token"), refreshOf("web", refresh)),
			"the access token has been revoked":  i.bearer("userinfo", access),
		} {
			if !strings.Contains(r.body, what) {
				t.Errorf("%s, want %q", r.body, what)
			}
		}
	})
	t.Run("R170 what is dead goes", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		furnished := dump(t, i.server.store)
		i.code("web")
		_, refresh := i.tokens("web")
		i.revoke("web", refresh).wantRevoked()
		i.tokens("other")
		i.clientToken("other")
		i.passwordTokens()
		if err := errors.Join(i.server.store.deleteClient("other"), i.server.store.deleteClient("legacy")); err != nil {
			t.Fatal(err)
		}
		i.furnish(instanceFixtures)
		i.advance(13 * time.Hour) // sessions, codes and access tokens
		i.sweepAll()
		if left := dump(t, i.server.store); len(left) != len(furnished) {
			t.Errorf("%d records are left", len(left)-len(furnished))
		}
	})
}
