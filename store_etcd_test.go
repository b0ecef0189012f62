package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
)

// fakeEtcd stands for a cluster of etcd, as far as the engine uses it. The real one is
// in e2e: this one can be made to do at one moment what etcd does once in a while.
type fakeEtcd struct {
	mu       sync.Mutex
	revision int64
	history  map[int64]map[string]etcdRecord
	asked    int

	// before and after are called with each transaction, and end it if they are false.
	before, after func(*etcdTransaction) bool
	refuse        func(*etcdTransaction) bool // answers with an error for good
	refusal       string                      // that one, unless ""
}

// newFakeEtcd starts a member without records.
func newFakeEtcd(t *testing.T) (m *fakeEtcd, address string) {
	t.Helper()
	m = &fakeEtcd{revision: 1, history: map[int64]map[string]etcdRecord{1: {}}}
	ts := httptest.NewServer(m)
	t.Cleanup(ts.Close)
	return m, "etcd://" + ts.Listener.Addr().String()
}

// secureFakeEtcd starts one with a certificate, which clients must have, too.
func secureFakeEtcd(t *testing.T, folder, name string) (address string) {
	t.Helper()
	m, _ := newFakeEtcd(t)
	pair, err := loadPair("", filepath.Join(folder, name+".crt"), "", filepath.Join(folder, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(must(x509.ParseCertificate(pair[0].Certificate[0])))
	ts := httptest.NewUnstartedServer(m)
	ts.TLS = &tls.Config{Certificates: pair, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert}
	ts.StartTLS()
	t.Cleanup(ts.Close)
	return "etcds://" + ts.Listener.Addr().String()
}

func (m *fakeEtcd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var request etcdTransaction
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || r.URL.Path != etcdTransact {
		http.Error(w, "it is none", http.StatusNotFound)
		return
	}
	m.mu.Lock()
	before, after, refuse := m.before, m.after, m.refuse
	m.asked++
	m.mu.Unlock()
	if refuse != nil && refuse(&request) {
		http.Error(w, cmp.Or(m.refusal, `{"error": "no", "code": 3}`), http.StatusBadRequest)
		return
	}
	if before != nil && !before(&request) {
		panic(http.ErrAbortHandler)
	}
	if !request.fits(128) {
		http.Error(w, `{"error": "etcdserver: too many operations in txn request", "code": 3}`, http.StatusBadRequest)
		return
	}
	if request.repeats() {
		http.Error(w, `{"error": "etcdserver: duplicate key given in txn request", "code": 3}`, http.StatusBadRequest)
		return
	}
	answer := m.transact(&request)
	if after != nil && !after(&request) {
		panic(http.ErrAbortHandler)
	}
	w.Write(answer)
}

// transact does what etcd does with a transaction, and answers as its gateway does.
func (m *fakeEtcd) transact(request *etcdTransaction) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.history[m.revision]
	succeeded := request.holds(now)
	ops := request.ops(now)
	written := maps.Clone(now)
	wrote, responses := false, []any{}
	for _, op := range ops {
		switch {
		case op.Range != nil:
			found := inRange(m.history[cmp.Or(op.Range.Revision, m.revision)], *op.Range)
			more := op.Range.Limit > 0 && len(found) > int(op.Range.Limit)
			if more {
				found = found[:op.Range.Limit]
			}
			responses = append(responses, map[string]any{"response_range": map[string]any{"kvs": found, "more": more}})
			continue
		case op.Put != nil:
			written[string(op.Put.Key)] = etcdRecord{op.Put.Key, op.Put.Value, m.revision + 1}
		default:
			delete(written, string(op.Delete.Key))
		}
		wrote = true
		responses = append(responses, map[string]any{"response_put": map[string]any{}})
	}
	if wrote {
		m.revision++
		m.history[m.revision] = written
	}
	if top := request.Failure; !succeeded && len(responses) < len(top) { // the transaction in it did nothing
		responses = append(responses, map[string]any{"response_txn": map[string]any{}})
	}
	return must(json.Marshal(map[string]any{"header": map[string]any{"revision": fmt.Sprint(m.revision)}, "succeeded": succeeded, "responses": responses}))
}

// fits reports whether a transaction has few enough operations, as etcd counts them:
// one in it may only have what the outer one has left.
func (t *etcdTransaction) fits(most int) bool {
	left := most - max(len(t.Compare), len(t.Success), len(t.Failure))
	for _, op := range slices.Concat(t.Success, t.Failure) {
		if op.Transaction != nil && !op.Transaction.fits(left) {
			return false
		}
	}
	return left >= 0
}

// repeats reports whether a transaction writes a key twice.
func (t *etcdTransaction) repeats() bool {
	written := make(map[string]bool)
	for _, op := range t.Success {
		key := ""
		switch {
		case op.Put != nil:
			key = string(op.Put.Key)
		case op.Delete != nil:
			key = string(op.Delete.Key)
		default:
			continue
		}
		if written[key] {
			return true
		}
		written[key] = true
	}
	return false
}

// holds reports whether all is as a transaction compares.
func (t *etcdTransaction) holds(now map[string]etcdRecord) bool {
	succeeded := true
	for _, c := range t.Compare {
		revisions := []int64{now[string(c.Key)].Revision}
		if c.End != nil {
			revisions = nil
			for _, r := range inRange(now, etcdRange{Key: c.Key, End: c.End}) {
				revisions = append(revisions, r.Revision)
			}
		}
		for _, revision := range revisions {
			succeeded = succeeded && (c.Result == "EQUAL" && revision == c.Revision || c.Result == "LESS" && revision < c.Revision)
		}
	}
	return succeeded
}

// ops are what a transaction does, with those of a transaction in it.
func (t *etcdTransaction) ops(now map[string]etcdRecord) (all []etcdOp) {
	ops := t.Failure
	if t.holds(now) {
		ops = t.Success
	}
	for _, op := range ops {
		if op.Transaction != nil {
			all = append(all, op.Transaction.ops(now)...)
		} else {
			all = append(all, op)
		}
	}
	return all
}

func inRange(records map[string]etcdRecord, r etcdRange) (found []etcdRecord) {
	for key, record := range records {
		if key == string(r.Key) || r.End != nil && key > string(r.Key) && key < string(r.End) {
			found = append(found, record)
		}
	}
	slices.SortFunc(found, func(a, b etcdRecord) int { return bytes.Compare(a.Key, b.Key) })
	if r.Order != "" {
		slices.Reverse(found)
	}
	return found
}

// openAt opens the store at an address.
func openAt(t *testing.T, address string) *store {
	t.Helper()
	st, err := (&options{db: address}).openStore()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.close() })
	return st
}

// writes reports whether a transaction would write a record of a bucket.
func (t *etcdTransaction) writes(bucket []byte) bool {
	return slices.ContainsFunc(t.Success, func(op etcdOp) bool {
		return op.Put != nil && bytes.Contains(op.Put.Key, append([]byte("/"), append(bucket, '/')...))
	})
}

func TestEtcd(t *testing.T) {
	t.Parallel()
	put := func(name string) func(*tx) error {
		return func(t *tx) error { t.put(bucketUsers, []byte(name), &user{Username: name}); return nil }
	}
	// once is a verb that may only be committed once.
	once := func(name string) func(*tx) error {
		return func(t *tx) error {
			if t.get(bucketUsers, []byte(name)) != nil {
				return errReused
			}
			return put(name)(t)
		}
	}

	for key, want := range map[string]string{
		"ours/grantling/version": `etcd, under ours/: it has format "5"; this grantling reads "6": take another -db, or remove this one`,
		"ours/another":           "etcd, under ours/: it was not made by grantling",
	} {
		t.Run("R240 refused: "+key, func(t *testing.T) {
			t.Parallel()
			m, address := newFakeEtcd(t)
			m.history[1][key] = etcdRecord{Key: []byte(key), Value: []byte("5"), Revision: 1}
			if _, err := (&options{db: address + "/ours"}).openStore(); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	t.Run("R241 one of many wins, over two servers", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*store{openAt(t, address), openAt(t, address)}
		for round := range 20 {
			errs := make([]error, 32)
			atOnce(len(errs), func(k int) { errs[k] = servers[k%2].update(once(fmt.Sprint(round))) })
			won := 0
			for _, err := range errs {
				switch err {
				case nil:
					won++
				case errReused:
				default:
					t.Error(err)
				}
			}
			if won != 1 {
				t.Errorf("%d have won", won)
			}
		}
	})
	t.Run("R241 a verb sees nothing of those that share its transaction", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		// Each looks for what the first one makes up. That is another each time the
		// verbs run, so it must be stored before.
		atOnce(32, func(int) {
			err := st.update(func(t *tx) error {
				first, err := read[user](t, bucketUsers, []byte("first"))
				if first == nil {
					t.put(bucketUsers, []byte("first"), user{Name: uuid.NewString()})
					return err
				}
				if t.get(bucketUsers, []byte(first.Name)) != nil {
					return errReused
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("R241 what was scanned is compared", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*store{openAt(t, address), openAt(t, address)}
		errs := make([]error, 16)
		atOnce(len(errs), func(k int) {
			errs[k] = servers[k%2].addClient(&client{metadata: metadata{ClientID: fmt.Sprint(k), Owner: "alice"}}, 5)
		})
		if n := count(t, servers[0], bucketClients); n != 5 {
			t.Errorf("alice has %d clients, and may have 5: %v", n, errs)
		}
	})
	for _, row := range []struct {
		name string
		lose func(m *fakeEtcd, lost *bool) // has the answer to the first write of a user get lost
	}{
		{"after it was committed", func(m *fakeEtcd, lost *bool) {
			m.after = func(r *etcdTransaction) bool {
				if *lost || !r.writes(bucketUsers) {
					return true
				}
				*lost = true
				return false
			}
		}},
		{"before it was committed", func(m *fakeEtcd, lost *bool) {
			m.before = func(r *etcdTransaction) bool {
				if *lost || !r.writes(bucketUsers) {
					return true
				}
				*lost = true
				return false
			}
		}},
		{"twice, and then the first request comes", func(m *fakeEtcd, lost *bool) {
			var first *etcdTransaction
			m.before = func(r *etcdTransaction) bool {
				if first != nil || !r.writes(bucketUsers) {
					return true
				}
				first = r
				return false
			}
			m.after = func(r *etcdTransaction) bool {
				if *lost || !r.writes(bucketUsers) {
					return true
				}
				m.transact(first)
				*lost = true
				return false
			}
		}},
	} {
		t.Run("R243 a lost answer, "+row.name, func(t *testing.T) {
			t.Parallel()
			m, address := newFakeEtcd(t)
			st := openAt(t, address)
			var lost bool
			row.lose(m, &lost)
			if err := st.update(once("alice")); err != nil || !lost {
				t.Errorf("error %v, lost %v", err, lost)
			}
			if err := st.update(once("alice")); err != errReused {
				t.Errorf("the second time: %v", err)
			}
		})
	}
	t.Run("R243 what comes late comes to nothing", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		st := openAt(t, address)
		var late *etcdTransaction
		m.before = func(r *etcdTransaction) bool {
			if late != nil || !r.writes(bucketUsers) {
				return true
			}
			late = r
			return false
		}
		// The connection breaks; the record changes; then the transaction arrives.
		if err := st.update(put("alice")); err != nil {
			t.Fatal(err)
		}
		if err := st.update(func(t *tx) error { t.delete(bucketUsers, []byte("alice")); return nil }); err != nil {
			t.Fatal(err)
		}
		m.transact(late)
		if n := count(t, st, bucketUsers); n != 0 {
			t.Error("alice is back")
		}
	})
	t.Run("R243 a slow member costs one timeout", func(t *testing.T) {
		t.Parallel()
		ended := make(chan struct{})
		var asked atomic.Int32
		slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-ended }))
		t.Cleanup(func() { close(ended); slow.Close() })
		_, address := newFakeEtcd(t)
		st := openAt(t, strings.Replace(address, "etcd://", "etcd://"+slow.Listener.Addr().String()+",", 1))
		for n := range 20 {
			if err := st.update(put(fmt.Sprint(n))); err != nil {
				t.Fatal(err)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
	})
	t.Run("two first starts at once", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*store{openAt(t, address), openAt(t, address)}
		errs := make([]error, 2)
		atOnce(2, func(k int) {
			alice := &user{Username: "alice", Name: fmt.Sprint(k)}
			errs[k] = servers[k].registerFirst([]*user{alice}, nil)
		})
		slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		if errs[0] != nil || errs[1] != errNotFirst {
			t.Errorf("errors %v, want nil and %v", errs, errNotFirst)
		}
	})
	t.Run("two starts with the same fixtures at once", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*server{{store: openAt(t, address), hashRounds: 1}, {store: openAt(t, address), hashRounds: 1}}
		alice := func() []*user { return []*user{{Username: "alice", newPassword: "wonderland"}} }
		first, second := alice(), alice()
		if err := cmp.Or(servers[0].store.register(first, nil), servers[1].store.register(second, nil)); err != nil {
			t.Fatal(err)
		}
		servers[0].hashPasswords(first)
		servers[1].hashPasswords(second)
		if err := cmp.Or(servers[0].store.setPasswords(first), servers[1].store.setPasswords(second), servers[1].store.register(alice(), nil)); err != nil {
			t.Fatal(err)
		}
		stored, err := servers[1].store.userNamed("alice")
		if err != nil || !stored.Password.matches("wonderland") || !bytes.Equal(stored.Password.Salt, first[0].Password.Salt) {
			t.Errorf("the first password was replaced, which ends the sessions that began with it: %v", err)
		}
	})
	t.Run("R244 a start with changed fixtures does not bring an old password back", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		var servers []*server
		for range 2 {
			servers = append(servers, start(t, func(s *server) { s.store = openAt(t, address) }).server)
		}
		changed := &fixtures{Users: []userFixture{{Username: "alice", Password: "through the looking-glass"}}}
		first, _, _, err := servers[0].prepareFixtures(changed)
		second, _, _, err2 := servers[1].prepareFixtures(changed) // reads the old password, too
		if err = cmp.Or(err, err2, servers[0].store.register(first, nil)); err != nil {
			t.Fatal(err)
		}
		servers[0].hashPasswords(first)
		if err := cmp.Or(servers[0].store.setPasswords(first), servers[1].store.register(second, nil)); err != nil {
			t.Fatal(err)
		}
		if stored, err := servers[1].store.userNamed("alice"); err != nil || !bytes.Equal(stored.Password.Salt, first[0].Password.Salt) {
			t.Errorf("another password is stored: %v", err)
		}
	})
	t.Run("R244 one of several sweeps, until it is gone", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		first, second := openAt(t, address), openAt(t, address)
		for _, row := range []struct {
			st   *store
			now  unixTime
			want bool
		}{{first, 100, true}, {second, 101, false}, {first, 106, true}, {second, 106 + sweepTerm - 1, false}, {second, 106 + sweepTerm, true}, {first, 106 + sweepTerm, false}} {
			if may, err := row.st.maySweep(row.now); may != row.want || err != nil {
				t.Errorf("at %d: %v, %v", row.now, may, err)
			}
		}
	})
	t.Run("R244 guesses count everywhere", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*limiter{{name: "secrets", store: openAt(t, address), late: true}, {name: "secrets", store: openAt(t, address), late: true}}
		guess := func(k int, now unixTime, right bool) string {
			ok, wait, err := servers[k].guess("web", 3, 3, now, func() (bool, error) { return right, nil })
			return fmt.Sprint(ok, " ", wait, " ", err)
		}
		for n, row := range []struct {
			server int
			now    unixTime
			right  bool
			want   string
		}{
			{0, 100, false, "false 0 <nil>"}, {1, 101, false, "false 0 <nil>"}, {0, 102, false, "false 0 <nil>"},
			{1, 103, false, "false 57 <nil>"}, {1, 104, true, "false 56 <nil>"}, {0, 104, false, "false 56 <nil>"}, {0, 105, true, "false 55 <nil>"},
			{0, 160, true, "true 0 <nil>"}, {1, 160, false, "false 0 <nil>"}, {1, 161, false, "false 0 <nil>"}, {1, 161, true, "true 0 <nil>"},
			{0, 162, false, "false 0 <nil>"}, {0, 162, false, "false 0 <nil>"}, {0, 162, false, "false 0 <nil>"}, {1, 163, false, "false 59 <nil>"},
		} {
			if got := guess(row.server, row.now, row.right); got != row.want {
				t.Errorf("guess %d: %s, want %s", n+1, got, row.want)
			}
		}
	})
	t.Run("R244 the clock of the other server is ahead", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		ahead, behind := &limiter{store: openAt(t, address)}, &limiter{store: openAt(t, address)}
		wrong := func() (bool, error) { return false, nil }
		for n := range 3 {
			if _, wait, err := ahead.guess("web", 3, 3, 300, wrong); wait != 0 || err != nil {
				t.Errorf("guess %d: %d, %v", n, wait, err)
			}
		}
		for n := range 3 {
			if ok, wait, err := behind.guess("web", 3, 3, 100, func() (bool, error) { return true, nil }); ok || wait != guessWindow || err != nil {
				t.Errorf("guess %d with the other clock: %v, %d, %v", n, ok, wait, err)
			}
		}
	})
	t.Run("R244 a guess that cannot be counted is unavailable", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		i := start(t, func(s *server) { s.store = openAt(t, address); s.shareGuesses() })
		access, _ := i.tokens("web")
		b := i.as("alice")
		m.mu.Lock()
		m.refuse = func(r *etcdTransaction) bool { return r.writes(bucketMarks) }
		m.mu.Unlock()
		b.mayFail = true
		for _, r := range []*reply{
			b.post(i.endpoint("token"), with(clientCredentialsOf("web"), "client_secret", "guess")),
			b.post(i.endpoint("token"), passwordOf("legacy", "alice", "guess")),
			b.post(i.endpoint("token"), passwordOf("legacy", "alice", "wonderland")),
			b.post("/login", b.get("/login").form(credentials("alice", "guess"))),
			b.post("/device", b.get("/device").form(url.Values{"user_code": {"BCDF-GHJK"}})),
			b.do("POST", i.path("registration"), `{"redirect_uris": ["https://a.example/cb"]}`, "Content-Type", "application/json"),
		} {
			if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "5" {
				t.Errorf("%s: status %d, Retry-After %q: %s", r.Request.URL.Path, r.StatusCode, r.Header.Get("Retry-After"), r.body)
			}
		}
		if !i.alive(access) {
			t.Error("a right secret is refused where nothing is written")
		}
		// What was not counted is no try.
		for range passwordTries {
			b.post(i.endpoint("token"), passwordOf("legacy", "alice", "guess"))
		}
		m.mu.Lock()
		m.refuse = nil
		m.mu.Unlock()
		i.post(i.endpoint("token"), passwordOf("legacy", "alice", "wonderland")).wantToken()
	})
	t.Run("R244 a guess that cannot be checked is no try", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		failed := errors.New("failed")
		for _, l := range []*limiter{{}, {store: openAt(t, address)}, {store: openAt(t, address), late: true}} {
			for range 4 {
				if _, wait, err := l.guess("web", 3, 3, 100, func() (bool, error) { return false, failed }); wait != 0 || err != failed {
					t.Errorf("wait %d, error %v", wait, err)
				}
			}
		}
	})
	t.Run("R244 a guess that cannot be counted is no try, and a full etcd says so at once", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		l := &limiter{store: openAt(t, address)}
		m.refuse, m.refusal = func(r *etcdTransaction) bool { return r.writes(bucketMarks) }, `{"error": "etcdserver: mvcc: database space exceeded", "code": 8}`
		right := func() (bool, error) { return true, nil }
		for range 4 {
			before := m.asked
			if _, wait, err := l.guess("web", 3, 3, 100, right); wait != 0 || !errors.Is(err, errStorage) {
				t.Errorf("wait %d, error %v", wait, err)
			}
			if asked := m.asked - before; asked > 2 { // to read and to write
				t.Errorf("etcd is asked %d times", asked)
			}
		}
		m.refuse = nil
		if ok, wait, err := l.guess("web", 3, 3, 100, right); !ok || wait != 0 || err != nil {
			t.Errorf("afterwards: %v, wait %d, %v", ok, wait, err)
		}
	})
	t.Run("R244 a user code that cannot be looked up is no try", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		i := start(t, func(s *server) { s.store = openAt(t, address); s.shareGuesses() })
		b := i.as("alice")
		form := b.get("/device").form(url.Values{"user_code": {"BCDF-GHJK"}})
		b.mayFail = true
		refuse := func(refuse func(*etcdTransaction) bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.refuse = refuse
		}
		refuse(func(r *etcdTransaction) bool {
			return slices.ContainsFunc(r.Success, func(op etcdOp) bool {
				return op.Range != nil && strings.Contains(string(op.Range.Key), "/"+string(bucketDevices)+"/")
			})
		})
		for range userCodeTries + 1 {
			if r := b.post("/device", form); r.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		}
		refuse(nil)
		if r := b.post("/device", form); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("afterwards: status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R244 right passwords that are being checked elsewhere block nobody for long", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		busy, idle := &limiter{store: openAt(t, address)}, &limiter{store: openAt(t, address)}
		right := func() (bool, error) { return true, nil }
		var checking, ended sync.WaitGroup
		checked := make(chan struct{})
		checking.Add(3)
		for range 3 {
			ended.Go(func() {
				busy.guess("alice", 3, 3, 100, func() (bool, error) { checking.Done(); <-checked; return true, nil })
			})
		}
		checking.Wait()
		if _, wait, err := idle.guess("alice", 3, 3, 101, right); wait != 59 || err != nil {
			t.Errorf("wait %d, %v, want 59", wait, err)
		}
		close(checked)
		ended.Wait()
		both := func() (bool, error) { // while another one is checked
			ok, wait, err := idle.guess("alice", 3, 3, 101, right)
			return ok && wait == 0, err
		}
		if ok, wait, err := idle.guess("alice", 3, 3, 101, both); !ok || wait != 0 || err != nil {
			t.Errorf("afterwards: %v, wait %d, %v", ok, wait, err)
		}
	})
	t.Run("R244 passwords count before they are checked", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*limiter{{store: openAt(t, address)}, {store: openAt(t, address)}}
		var checked atomic.Int32
		atOnce(40, func(k int) {
			servers[k%2].guess("alice", 10, 10, 100, func() (bool, error) { checked.Add(1); return false, nil })
		})
		if n := checked.Load(); n != 10 {
			t.Errorf("%d are checked, want 10", n)
		}
		for n := range 3 {
			if ok, wait, err := servers[n%2].guess("bob", 1, 1, 100, func() (bool, error) { return true, nil }); !ok || wait != 0 || err != nil {
				t.Errorf("right guess %d: %v, %d", n, ok, wait)
			}
		}
	})
	t.Run("a reset removes the marks, too", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		for range 2 {
			if err := cmp.Or(st.update(put("alice")), st.reset([]*user{{Username: "bob"}}, nil)); err != nil {
				t.Fatal(err)
			}
		}
		if u, err := st.userNamed("alice"); u != nil || err != nil || count(t, st, bucketUsers) != 1 || count(t, st, bucketMarks) != 1 {
			t.Errorf("alice is %v, %v; %d marks", u, err, count(t, st, bucketMarks))
		}
	})
	t.Run("R218 servers that start at once make one key", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		servers := []*store{openAt(t, address), openAt(t, address)}
		var kids sync.Map
		atOnce(8, func(k int) {
			keys, err := servers[k%2].signingKeys("ES256", false, 100, 3600)
			if err != nil || len(keys) != 1 {
				t.Errorf("%d keys, %v", len(keys), err)
				return
			}
			kids.Store(keys[0].kid, true)
		})
		different := 0
		kids.Range(func(any, any) bool { different++; return true })
		if different != 1 {
			t.Errorf("there are %d keys", different)
		}
	})
	t.Run("R218 another alg, with more tokens than one transaction compares", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		st := openAt(t, address)
		if _, err := st.signingKeys("ES256", false, 100, 3600); err != nil {
			t.Fatal(err)
		}
		atOnce(130, func(k int) {
			err := st.update(func(t *tx) error {
				t.put(bucketAccess, fmt.Appendf(nil, "%016d", k), &accessToken{Expires: 10_000})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		keys, err := st.signingKeys("RS256", false, 100, 3600)
		if err != nil || len(keys) != 2 || keys[0].alg() != "RS256" || keys[1].alg() != "ES256" || keys[1].Expires != 10_000 {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		before := m.asked
		if _, err := st.signingKeys("RS256", false, 100, 3600); err != nil || m.asked != before+1 {
			t.Errorf("a start that needs no new key asks etcd %d times, %v", m.asked-before, err)
		}
	})
	t.Run("who is told of a failure has stored nothing", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		st := openAt(t, address)
		var transactions atomic.Int32
		m.refuse = func(r *etcdTransaction) bool { return r.writes(bucketUsers) && transactions.Add(1) > 2 }
		errs := make([]error, 40)
		atOnce(len(errs), func(k int) {
			errs[k] = st.update(func(t *tx) error {
				for n := range 30 { // so that four fit in one transaction
					t.put(bucketUsers, fmt.Appendf(nil, "%d/%d", k, n), &user{})
				}
				return nil
			})
		})
		stored := 0
		for k, err := range errs {
			u, failed := st.userNamed(fmt.Sprintf("%d/0", k))
			if failed != nil || (err == nil) != (u != nil) {
				t.Errorf("verb %d: error %v, stored %v", k, err, u != nil)
			}
			if u != nil {
				stored++
			}
		}
		if stored == 0 || stored == len(errs) {
			t.Errorf("%d are stored", stored)
		}
	})
	t.Run("grants to many clients", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		st := openAt(t, address)
		alice := uuid.New()
		var want []uuid.UUID
		var grants []grantKey
		for n := range 700 {
			client := uuid.Must(uuid.NewV7())
			want = append(want, client)
			of := 1
			if n%350 == 300 {
				of = 2*maxGrants + 1
			}
			for range of {
				grants = append(grants, newGrantKey(alice, client, uuid.Must(uuid.NewV7())))
			}
		}
		atOnce(len(grants), func(k int) {
			if err := st.update(func(t *tx) error { t.put(bucketGrants, grants[k][:], &grant{}); return nil }); err != nil {
				t.Error(err)
			}
		})
		before := m.asked
		got, err := st.grantees(alice)
		slices.Reverse(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %d clients, want %d", err, len(got), len(want))
		}
		if asked := m.asked - before; asked > 10 {
			t.Errorf("it takes %d round trips", asked)
		}
	})
	t.Run("many fixtures, twice", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		for range 2 {
			var users []*user
			var clients []*client
			for n := range 50 {
				users = append(users, &user{Username: fmt.Sprint("u", n)})
				clients = append(clients, &client{RegisteredBy: operator, metadata: metadata{ClientID: fmt.Sprint("c", n), Name: strings.Repeat("x", 50_000),
					GrantTypes: []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}}})
			}
			if err := st.register(users, clients); err != nil {
				t.Fatal(err)
			}
		}
		if users, clients := count(t, st, bucketUsers), count(t, st, bucketClients); users != 50 || clients != 50 {
			t.Errorf("%d users and %d clients", users, clients)
		}
	})
	for name, answer := range map[string]http.HandlerFunc{
		"an error page": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<h1>Bad gateway</h1>", http.StatusBadGateway)
		},
		"another service": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) },
		"no answers": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"header": {"revision": "7"}, "succeeded": true}`))
		},
		"no revision": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"header": {}, "succeeded": true, "responses": [{}, {}]}`))
		},
		"an empty object": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) },
		"half an answer":  func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"header": {"revision": "7"}, "succ`)) },
	} {
		t.Run("R243 a member that is none: "+name, func(t *testing.T) {
			t.Parallel()
			other := httptest.NewServer(answer)
			t.Cleanup(other.Close)
			_, address := newFakeEtcd(t)
			st := openAt(t, strings.Replace(address, "etcd://", "etcd://"+other.Listener.Addr().String()+",", 1))
			if err := st.update(put("alice")); err != nil {
				t.Error(err)
			}
			if _, err := (&options{db: "etcd://" + other.Listener.Addr().String()}).openStore(); err == nil || !strings.Contains(err.Error(), "does not answer as etcd does") {
				t.Errorf("alone: %v", err)
			}
		})
	}
	t.Run("R243 what stops a late transaction is swept in its time", func(t *testing.T) {
		t.Parallel()
		m, address := newFakeEtcd(t)
		st, other := openAt(t, address), openAt(t, address)
		mine := st.engine.(*etcd).mark
		m.before = func(r *etcdTransaction) bool {
			if r.writes(bucketUsers) && r.Success[len(r.Success)-1].Put != nil && bytes.Equal(r.Success[len(r.Success)-1].Put.Key, mine) {
				m.mu.Lock()
				m.before = nil
				m.mu.Unlock()
				if err := other.update(put("alice")); err != nil {
					t.Error(err)
				}
			}
			return true
		}
		m.after = func(r *etcdTransaction) bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			for key, record := range m.history[m.revision] {
				var kept mark
				if strings.Contains(key, "/"+string(bucketMarks)+"/") && (json.Unmarshal(record.Value, &kept) != nil || kept.Expires == 0) {
					t.Errorf("%q has no end: %s", key, record.Value)
				}
			}
			return true
		}
		if err := st.update(func(t *tx) error {
			if _, err := t.user("alice"); err != nil {
				return err
			}
			return put("alice")(t)
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("R243 a leader whose time is over ends", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for reads, want := range map[int]error{4: nil, 1000: context.Canceled} { // one after the other
			known := 0
			u := &update{verb: func(t *tx) error {
				known = min(known+1, reads)
				for k := range known {
					t.get(bucketUsers, fmt.Append(nil, k))
				}
				return nil
			}}
			if rest, err := st.engine.(*etcd).commit(over, st, []*update{u}); err != want || len(rest) > 0 != (want != nil) || known > 10 {
				t.Errorf("%d reads: %v after %d", reads, err, known)
			}
		}
	})
	t.Run("many readers at once", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		if err := st.update(put("alice")); err != nil {
			t.Fatal(err)
		}
		atOnce(64, func(int) {
			for range 20 {
				if u, err := st.userNamed("alice"); u == nil || err != nil {
					t.Errorf("%v, %v", u, err)
				}
			}
		})
	})
	t.Run("hundreds of writers at once", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		atOnce(600, func(k int) {
			if err := st.update(put(fmt.Sprint(k))); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("long runs of keys", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		const n = 2*etcdPage + 3
		atOnce(n, func(k int) {
			if err := st.update(put(fmt.Sprintf("%04d", k))); err != nil {
				t.Error(err)
			}
		})
		got, err := view(st, func(t *tx) (got [2][]string, err error) {
			for key := range t.scan(bucketUsers, nil, []byte("0002")) {
				got[0] = append(got[0], string(key))
			}
			for key := range t.back(bucketUsers, nil, []byte("1002")) {
				got[1] = append(got[1], string(key))
			}
			return got, nil
		})
		if err != nil || len(got[0]) != n-2 || got[0][0] != "0002" || got[0][n-3] != "1002" ||
			len(got[1]) != n-1 || got[1][0] != "1001" || got[1][n-2] != "0000" {
			t.Errorf("%v: %d and %d keys", err, len(got[0]), len(got[1]))
		}
	})
	t.Run("too much for one transaction", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		err := st.update(func(t *tx) error {
			for k := range etcdOps {
				t.put(bucketUsers, fmt.Append(nil, k), &user{})
			}
			return nil
		})
		if !errors.Is(err, errStorage) || !strings.Contains(err.Error(), "too much for one transaction") {
			t.Error(err)
		}
		if n := count(t, st, bucketUsers); n != 0 {
			t.Errorf("%d records are stored", n)
		}
	})
	t.Run("clients that nobody uses, above their number", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		stranger := func(n int) *client {
			return &client{metadata: metadata{ClientID: fmt.Sprint("c", n), GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"}}, RegisteredBy: itself}
		}
		for n := range 60 { // as if they had come at once, each before the others were seen
			err := st.update(func(t *tx) error { return t.putClient(stranger(n)) })
			if err != nil {
				t.Fatal(err)
			}
		}
		for left := 60; left > 10; left -= 5 {
			oldest, err := st.oldest(bucketLists, listKey(listUnused, ""), 10)
			if err == nil {
				err = st.update(func(t *tx) error { t.dropUnused(oldest); return nil })
			}
			if n := count(t, st, bucketClients); err != nil || n != left-5 {
				t.Fatalf("%v: %d clients, want %d", err, n, left-5)
			}
		}
	})
	t.Run("too much is the fault of one", func(t *testing.T) {
		t.Parallel()
		_, address := newFakeEtcd(t)
		st := openAt(t, address)
		errs := make([]error, 32)
		atOnce(len(errs), func(k int) {
			errs[k] = st.update(func(t *tx) error {
				for n := range 1 + k%2*etcdOps {
					t.put(bucketUsers, fmt.Appendf(nil, "%d of %d", n, k), &user{})
				}
				return nil
			})
		})
		for k, err := range errs {
			if (err != nil) != (k%2 == 1) {
				t.Errorf("verb %d: %v", k, err)
			}
		}
	})
}
