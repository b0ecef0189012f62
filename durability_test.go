package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// These tests end the server in the middle of its work, and compare what the
// next one knows with what clients were told. docs/durability.md has how to run
// them for longer.

// rounds is how often a test does what it does: as often as the variable ROUNDS
// of the environment says, or few times.
func rounds(t *testing.T, few int) int {
	t.Helper()
	if text := os.Getenv("ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("ROUNDS: %v", err)
		}
		return n
	}
	return few
}

// known is what an answer told a client. It holds until a request ends it.
type known struct {
	kind, text string
	told       time.Time // when the answer came
	doubted    time.Time // when the request that ends it was sent; zero: there was none
	ended      time.Time // when that request was answered; zero: it was not
}

// oracle has all facts.
type oracle struct {
	mu    sync.Mutex
	known []*known
}

func (o *oracle) tell(kind, text string) *known {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &known{kind: kind, text: text, told: time.Now()}
	o.known = append(o.known, f)
	return f
}

// doubt notes that a request which ends facts is sent. The caller calls answered
// when its answer has come.
func (o *oracle) doubt(facts ...*known) (answered func()) {
	note := func(when func(*known) *time.Time) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, f := range facts {
			*when(f) = time.Now()
		}
	}
	note(func(f *known) *time.Time { return &f.doubted })
	return func() { note(func(f *known) *time.Time { return &f.ended }) }
}

// holds asks a store.
func (f *known) holds(st *store, now unixTime) (bool, error) {
	c, _ := parseCredential(f.text)
	alive := func(_ *bearer, err error) (bool, error) {
		if errors.Is(err, errStorage) {
			return false, err
		}
		return err == nil, nil
	}
	switch f.kind {
	case "code":
		return alive(st.unused(bucketCodes, c, now, unnoted))
	case "access token":
		return alive(st.accessToken(c, now, unnoted))
	case "refresh token":
		return alive(st.unused(bucketRefresh, c, now, unnoted))
	case "session":
		live, _, err := st.session(c, now)
		return live != nil, err
	case "application":
		clientID, secret, _ := strings.Cut(f.text, " ")
		c, err := st.clientNamed(clientID)
		return c != nil && bytes.Equal(c.SecretHash, hashSecret(secret)), err
	case "consent":
		c, err := st.clientNamed(f.text)
		if c == nil {
			return false, err
		}
		bob, err := st.userNamed("bob")
		if bob == nil {
			return false, err
		}
		p, err := st.permission(bob.ID, c.ID, now)
		return p != nil, err
	}
	panic(f.kind)
}

// check compares a store with the facts as they were at a moment.
func (o *oracle) check(st *store, at time.Time) error {
	for _, f := range o.known {
		if !f.told.Before(at) {
			continue
		}
		holds, err := f.holds(st, unixTime(at.Unix()))
		switch {
		case err != nil:
			return err
		case !holds && (f.doubted.IsZero() || f.doubted.After(at)):
			return fmt.Errorf("lost: %s %s, told at %v", f.kind, f.text, f.told)
		case holds && !f.ended.IsZero() && f.ended.Before(at):
			return fmt.Errorf("back: %s %s, ended at %v", f.kind, f.text, f.ended)
		}
	}
	return nil
}

// checkWhole returns an error if a page is damaged, or if something of a request
// is in the file and something of it is not. It returns a hash of all records.
func (st *store) checkWhole() (state [sha256.Size]byte, err error) {
	if err := inFile(st).db.View(func(b *bolt.Tx) (err error) {
		for problem := range b.Check() {
			err = cmp.Or(err, problem)
		}
		return err
	}); err != nil {
		return state, err
	}
	return view(st, func(t *tx) (state [sha256.Size]byte, err error) {
		hash := sha256.New()
		for _, bucket := range append([][]byte{bucketMeta}, buckets...) {
			for key, value := range t.scan(bucket, nil, nil) {
				fmt.Fprintf(hash, "%s %d %s %d %s", bucket, len(key), key, len(value), value)
			}
		}
		hash.Sum(state[:0])
		return state, errors.Join(t.checkGrants(), t.checkLists())
	})
}

// checkGrants wants a code to be used if tokens were issued on its grant, the
// tokens to come in pairs, and one refresh token to be left.
func (t *tx) checkGrants() error {
	type issued struct {
		code            *oneTime
		access, refresh int
		unused          int
	}
	grants, err := all[grant](t, bucketGrants)
	codes, err2 := all[oneTime](t, bucketCodes)
	access, err3 := all[accessToken](t, bucketAccess)
	refresh, err4 := all[oneTime](t, bucketRefresh)
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	on := make(map[grantKey]*issued) // without those whose grant has ended: the sweeper takes them one by one
	for _, g := range grants {
		on[g.key] = new(issued)
	}
	for _, c := range codes {
		if i := on[c.Grant]; i != nil {
			i.code = c
		}
	}
	for _, a := range access {
		if a.Grant != nil && on[*a.Grant] != nil {
			on[*a.Grant].access++
		}
	}
	for _, r := range refresh {
		if i := on[r.Grant]; i != nil {
			i.refresh++
			if !r.Used {
				i.unused++
			}
		}
	}
	for _, g := range grants {
		i := on[g.key]
		if i.access != i.refresh || i.unused != min(i.refresh, 1) || g.Refreshable != (i.refresh > 0) || i.code != nil && i.code.Used != (i.refresh > 0) {
			return fmt.Errorf("half of a request: grant %+v has %+v", *g, *i)
		}
	}
	return nil
}

// checkLists wants clients and the lists of clients to agree.
func (t *tx) checkLists() error {
	clients, err := all[client](t, bucketClients)
	if err != nil {
		return err
	}
	entries := 0
	for _, c := range clients {
		for _, key := range c.lists() {
			entries++
			if t.get(bucketLists, key) == nil {
				return fmt.Errorf("half of a request: %s is not in the list %q", c.ClientID, key)
			}
		}
	}
	if n := len(t.keys(bucketLists, nil, noLimit)); n != entries {
		return fmt.Errorf("half of a request: %d entries in lists, want %d", n, entries)
	}
	return nil
}

// examine opens a database as the server does, and checks it. Facts are as at a
// moment.
func examine(path string, at time.Time, oracles ...*oracle) (state [sha256.Size]byte, err error) {
	st, err := openStore(path)
	if err != nil {
		return state, err
	}
	defer st.close()
	state, err = st.checkWhole()
	for _, o := range oracles {
		if err == nil {
			err = o.check(st, at)
		}
	}
	return state, err
}

// account is what bob does at the server: he has sessions, clients are registered
// for him, he consents to them and withdraws that. He goes on after each restart.
type account struct {
	oracle
	session *known
	clients int
}

// begin opens a browser, in which bob is signed in.
func (a *account) begin(p *process) *visit {
	jar, _ := cookiejar.New(nil)
	v := &visit{p.browser()}
	v.client.Jar = jar
	here, err := url.Parse(p.URL)
	if err != nil {
		p.Fatal(err)
	}
	if a.session != nil && a.session.doubted.IsZero() { // cookies are named by the port
		jar.SetCookies(here, []*http.Cookie{{Name: "grantling-" + here.Port(), Value: a.session.text}})
	} else {
		a.signIn(v)
	}
	return v
}

// signIn returns ok if bob is signed in.
func (a *account) signIn(v *visit) (ok bool) {
	page, ok := v.ask("GET", "/login", "")
	if ok {
		page, ok = v.ask("POST", "/login", page.form(url.Values{"username": {"bob"}, "password": {"builder"}}).Encode())
	}
	if ok {
		a.session = a.tell("session", page.Cookies()[0].Value)
	}
	return ok
}

// work goes on until an answer does not come.
func (a *account) work(v *visit) {
	for ok := true; ok && !v.Failed(); {
		a.clients++
		ok = a.use(v, fmt.Sprint("app", a.clients))
	}
}

// visit is a browser that notices when the server is gone.
type visit struct{ *browser }

// ask returns ok if the answer came whole.
func (v *visit) ask(method, path, body string) (r *reply, ok bool) {
	request, err := http.NewRequest(method, v.URL+path, strings.NewReader(body))
	if err != nil {
		v.Error(err)
		return nil, false
	}
	if method == "POST" && !strings.HasPrefix(body, "{") {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := v.client.Do(request)
	if err != nil {
		return nil, false
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, false
	}
	if response.StatusCode >= 400 {
		v.Errorf("%s %s: status %d: %s", method, path, response.StatusCode, data)
		return nil, false
	}
	return &reply{Response: response, i: v.instance, body: string(data)}, true
}

// use leads a client through one of four lives, and every eighth time bob signs out.
func (a *account) use(v *visit, clientID string) (ok bool) {
	register := func(secret string) (application *known, ok bool) {
		_, ok = v.ask("POST", "/_control/clients", `{"client_id":"`+clientID+`","client_secret":"`+secret+`",
			"redirect_uris":["https://cb.example/cb"],"scope":"read write","owner":"bob"}`)
		if !ok {
			return nil, false
		}
		return a.tell("application", clientID+" "+secret), true
	}
	// submit sends a form of the account pages.
	submit := func(path string, form url.Values) bool {
		page, ok := v.ask("GET", "/account/authorized", "")
		if ok {
			_, ok = v.ask("POST", path, page.form(form).Encode())
		}
		return ok
	}
	application, ok := register("first secret")
	if !ok {
		return false
	}
	r, ok := v.ask("GET", v.path("authorize")+"?"+authorization("web", "client_id", clientID, "login_hint", "bob").Encode(), "")
	if !ok {
		return false
	}
	code, consent := a.tell("code", r.param("code")), a.tell("consent", clientID)
	var answered func()
	switch a.clients % 4 {
	case 1:
		answered = a.doubt(application)
		_, ok = register("second secret")
	case 2:
		answered = a.doubt(consent, code)
		ok = submit("/account/authorized/revoke", url.Values{"id": {clientID}})
	case 3:
		answered = a.doubt(application, consent, code)
		_, ok = v.ask("DELETE", "/_control/clients/"+clientID, "")
	}
	if ok && answered != nil {
		answered()
	}
	if ok && a.clients%8 == 0 {
		answered = a.doubt(a.session)
		if ok = submit("/logout", nil); ok {
			answered()
			ok = a.signIn(v)
		}
	}
	return ok
}

// family is what the client knows of one authorization and of all that came of
// it: what was acknowledged, and the request that got no answer.
type family struct {
	code       string
	access     []string
	refresh    []string // all but the last have been rotated
	revoked    bool
	unanswered string // "", authorize, redeem, rotate or revoke
}

// load is a client that works while the server dies.
type load struct {
	*process
	oracle
	client   *http.Client
	mu       sync.Mutex
	families []*family
	cut      int // answers with status 200 of which the body did not come whole
	ended    chan struct{}
}

// startLoad lets eight workers authorize, redeem, rotate and revoke, and accounts
// be used, until the server answers no more. wait returns when all have ended.
func (p *process) startLoad(accounts ...*account) (l *load, wait func()) {
	l = &load{process: p, ended: make(chan struct{}), client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 8},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	var workers sync.WaitGroup
	for _, a := range accounts {
		v := a.begin(p)
		workers.Go(func() { a.work(v) })
	}
	for worker := range 8 {
		workers.Go(func() {
			for n := worker; ; n++ {
				f := new(family)
				l.live(f, n)
				l.mu.Lock()
				l.families = append(l.families, f)
				l.mu.Unlock()
				select {
				case l.ended <- struct{}{}:
				default: // nobody waits
				}
				if f.unanswered != "" || p.Failed() {
					return
				}
			}
		})
	}
	return l, func() {
		workers.Wait()
		l.client.CloseIdleConnections()
	}
}

// live leads a family through one of six lives.
func (l *load) live(f *family, n int) {
	f.unanswered = "authorize"
	response, err := l.client.Get(l.endpoint("authorize") + "?" + authorization("web").Encode())
	if err != nil {
		return
	}
	response.Body.Close()
	back, err := response.Location()
	if err != nil {
		l.Errorf("authorization: status %d", response.StatusCode)
		return
	}
	f.code, f.unanswered = back.Query().Get("code"), ""
	code := l.tell("code", f.code)
	var access []*known
	var refresh *known // the last one
	steps := [][]string{{}, {"redeem"}, {"redeem", "rotate"}, {"redeem", "rotate", "rotate"}, {"redeem", "revoke"}, {"redeem", "rotate", "revoke"}}
	for _, step := range steps[n%len(steps)] {
		f.unanswered = step
		endpoint, form := "token", url.Values{}
		ends := []*known{refresh}
		switch step {
		case "redeem":
			ends[0] = code
			form = exchangeOf("web", f.code)
		case "rotate":
			form = withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {f.refresh[len(f.refresh)-1]}})
		case "revoke":
			ends = append(ends, access...)
			endpoint, form = "revoke", withClient("web", url.Values{"token": {f.refresh[len(f.refresh)-1]}})
		}
		answered := l.doubt(ends...)
		status, body, ok := l.send(endpoint, form)
		if !ok {
			return
		}
		if status != http.StatusOK {
			l.Errorf("%s: status %d: %s", step, status, body)
			return
		}
		answered()
		f.unanswered = ""
		if step == "revoke" {
			f.revoked = true
			continue
		}
		var answer struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		if err := json.Unmarshal(body, &answer); err != nil || answer.Access == "" || answer.Refresh == "" {
			l.Errorf("%s: %s", step, body)
			return
		}
		f.access, f.refresh = append(f.access, answer.Access), append(f.refresh, answer.Refresh)
		access, refresh = append(access, l.tell("access token", answer.Access)), l.tell("refresh token", answer.Refresh)
	}
}

// send returns ok if the answer came whole.
func (l *load) send(endpoint string, form url.Values) (status int, body []byte, ok bool) {
	response, err := l.client.PostForm(l.endpoint(endpoint), form)
	if err != nil {
		return 0, nil, false
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	if err != nil && response.StatusCode == http.StatusOK {
		l.mu.Lock()
		l.cut++
		l.mu.Unlock()
	}
	return response.StatusCode, body, err == nil
}

// reach returns when the load has left so many more families behind it.
func (l *load) reach(families int) {
	l.Helper()
	late := time.After(patience)
	for got := range families {
		select {
		case <-l.ended:
		case <-late:
			l.Fatalf("%d families in %v: that is no load", got, patience)
		}
	}
}

// wantKept wants a server to know all that another one acknowledged under
// load: each family is where the client left it or, if its last request got no
// answer, where that request would have led it (R160, R161, R169).
func (p *process) wantKept(l *load) {
	p.Helper()
	var group sync.WaitGroup
	families := make(chan *family)
	for range 8 {
		group.Go(func() {
			for f := range families {
				p.wantFamily(f)
			}
		})
	}
	for _, f := range l.families {
		families <- f
	}
	close(families)
	group.Wait()
}

func (p *process) wantFamily(f *family) {
	redeem := func() *reply { return p.post(p.endpoint("token"), exchangeOf("web", f.code)) }
	tell := func(what string) { p.Errorf("%s: %+v", what, *f) }
	switch {
	case f.code == "":
		return
	case len(f.access) == 0:
		r := redeem()
		if r.StatusCode != http.StatusOK && f.unanswered != "redeem" {
			tell("a code that was issued is lost: " + r.body)
		}
	default:
		last := len(f.refresh) - 1
		alive := p.alive(f.refresh[last])
		for n, token := range f.access {
			// All or nothing: a revocation without an answer ends all or none.
			if want := !f.revoked && (f.unanswered != "revoke" || alive); p.alive(token) != want {
				tell(fmt.Sprintf("access token %d: alive %v, want %v", n, !want, want))
			}
		}
		for n, token := range f.refresh[:last] {
			if p.alive(token) {
				tell(fmt.Sprintf("refresh token %d was rotated and is alive", n))
			}
		}
		if want := !f.revoked; alive != want && f.unanswered != "rotate" && f.unanswered != "revoke" {
			tell(fmt.Sprintf("the last refresh token: alive %v, want %v", alive, want))
		}
		switch r := p.refresh("web", f.refresh[last]); {
		case alive:
			r.wantToken()
		default:
			r.wantError(http.StatusBadRequest, "invalid_grant")
		}
	}
	// The fact that the code was redeemed is there, and ends all that came of it.
	redeem().wantError(http.StatusBadRequest, "invalid_grant")
	p.wantDead(f.access...)
	p.wantDead(f.refresh...)
}

// TestKill kills the server under load, again and again, and compares what is in
// its file, and what the next one answers, with what clients were told (R160, R161).
func TestKill(t *testing.T) {
	t.Parallel()
	t.Run("R160 R161 killed under load", func(t *testing.T) {
		folder := t.TempDir()
		writeFile(t, folder, "fixtures.json", instanceFixtures)
		launch(t, folder, "-fixtures", "fixtures.json").stop()
		bob := new(account)
		families, kills := 0, rounds(t, 5)
		for round := range kills {
			p := launch(t, folder, "-auto-approve", "alice", "-control", "-log", "off")
			l, wait := p.startLoad(bob)
			l.reach(1 + rand.IntN(50))
			p.kill()
			wait()
			if _, err := examine(filepath.Join(folder, "grantling.db"), time.Now(), &l.oracle, &bob.oracle); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			if p = launch(t, folder); !t.Failed() {
				p.wantKept(l)
			}
			p.kill()
			if t.Failed() {
				break
			}
			families += len(l.families)
		}
		wantFiles(t, folder, "fixtures.json", "grantling.db")
		t.Logf("%d kills, %d families, %d facts about bob", kills, families, len(bob.known))
	})
}

// TestFullFileSystem fills a small disk under a running server. Writing fails with
// 503 and reading goes on, also after a restart, and nothing more is needed when
// there is room again (R168).
func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root mounts a file system")
	}
	t.Run("R168 a small disk", func(t *testing.T) {
		disk, files := t.TempDir(), t.TempDir()
		if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk).CombinedOutput(); err != nil {
			t.Skipf("mount: %v: %s", err, output)
		}
		t.Cleanup(func() { exec.Command("umount", "-l", disk).Run() })
		writeFile(t, files, "fixtures.json", instanceFixtures)
		begin := func() *process {
			return launch(t, disk, "-fixtures", filepath.Join(files, "fixtures.json"), "-auto-approve", "alice", "-log", "off")
		}
		p, filler := begin(), filepath.Join(disk, "filler")
		var issued oracle
		failures := 0
		for round := range rounds(t, 2) {
			code := p.autoApproved()
			_, refresh := p.post(p.endpoint("token"), exchangeOf("web", p.autoApproved())).wantToken()
			_, revoked := p.post(p.endpoint("token"), exchangeOf("web", p.autoApproved())).wantToken()
			// All but a few pages are taken, then what is left.
			taken, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = taken.Write(make([]byte, 4096))
			}
			taken.Close()
			form := withClient("web", url.Values{"grant_type": {"client_credentials"}})
			for n, failed := 0, 0; failed < 10; n++ {
				if n == 10_000 {
					t.Fatal("the disk does not get full")
				}
				if r := p.failing("token", form); r.StatusCode == http.StatusOK {
					token, _ := r.wantToken()
					issued.tell("access token", token)
				} else {
					r.wantUnavailable()
					failed++
				}
			}
			// What still finds room has succeeded; the rest has changed nothing.
			redeem, rotate := exchangeOf("web", code), withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
			redeemed, rotated := p.failing("token", redeem), p.failing("token", rotate)
			ended := p.failing("revoke", withClient("web", url.Values{"token": {revoked}}))
			for _, r := range []*reply{redeemed, rotated, ended} {
				if r.StatusCode != http.StatusOK {
					r.wantUnavailable()
					failures++
				}
			}
			if round%2 == 1 {
				p.kill()
				p = begin()
			}
			if alive := p.alive(revoked); alive == (ended.StatusCode == http.StatusOK) {
				t.Errorf("revocation had status %d, alive: %v", ended.StatusCode, alive)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			if redeemed.StatusCode != http.StatusOK {
				p.post(p.endpoint("token"), redeem).wantToken()
			}
			if rotated.StatusCode != http.StatusOK {
				p.post(p.endpoint("token"), rotate).wantToken()
			}
			p.revoke("web", revoked).wantRevoked()
			p.wantDead(revoked)
		}
		p.kill()
		if _, err := examine(filepath.Join(disk, "grantling.db"), time.Now(), &issued); err != nil {
			t.Error(err)
		}
		if failures == 0 {
			t.Error("nothing failed while the disk was full")
		}
		t.Logf("%d failures of redemption, rotation and revocation; %d tokens kept", failures, len(issued.known))
	})
}

// TestBitRot flips bits and cuts pieces off a database. It is refused and left as
// it is, or what the server reads in it is right, or an error of who needs it (R166).
func TestBitRot(t *testing.T) {
	t.Parallel()
	path := newDatabase(t)
	i, known := start(t, onDisk(t, path)), new(oracle)
	for range 20 {
		access, refresh := i.tokens("web")
		known.tell("access token", access)
		known.tell("refresh token", refresh)
	}
	files := make(map[string][]byte)
	for _, name := range []string{"after a kill", "after a stop"} {
		if name == "after a stop" {
			i.server.store.close()
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = whole
	}
	for name, whole := range files {
		t.Run("R166 flipped and truncated "+name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "grantling.db")
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			used, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true}) // and then comes room to grow
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			used.View(func(b *bolt.Tx) error { size = int(b.Size()); return nil })
			used.Close()
			refused, wrong := 0, 0
			for range rounds(t, 100) {
				damaged := bytes.Clone(whole)
				cut := rand.IntN(4) == 0
				bit := rand.IntN(size * 8)
				if cut {
					damaged = damaged[:bit/8]
				} else {
					damaged[bit/8] ^= 1 << (bit % 8)
				}
				os.Remove(path) // bbolt may have been unable to close it
				if err := os.WriteFile(path, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				st, err := openStore(path)
				if err != nil {
					refused++
					if after, err := os.ReadFile(path); err != nil || !bytes.Equal(damaged, after) {
						t.Errorf("bit %d, cut %v: it was refused and changed: %v", bit, cut, err)
					}
					continue
				}
				if cut {
					t.Errorf("%d bytes of %d: it was opened", bit/8, size)
				}
				if err := known.check(st, time.Now()); err != nil {
					wrong++
				}
				guarded(st.close)
			}
			t.Logf("%d refused, %d noticed by who needs it", refused, wrong)
		})
	}
}

// autoApproved returns a code of a server with -auto-approve.
func (p *process) autoApproved() string {
	p.Helper()
	return p.browser().authorize(authorization("web")).param("code")
}

// TestKillAtFirstStart kills the server while it makes its database; the next
// start works (R165).
func TestKillAtFirstStart(t *testing.T) {
	t.Parallel()
	t.Run("R165 fixtures", func(t *testing.T) {
		t.Parallel()
		files := t.TempDir()
		writeFile(t, files, "fixtures.json", clientFixtures)
		args := []string{"-addr", "127.0.0.1:0", "-fixtures", filepath.Join(files, "fixtures.json")}
		for round := range rounds(t, 8) {
			folder := t.TempDir()
			killed := begin(t, command(t, folder, nil, args...))
			killed.untilMoment(folder, round)
			killed.kill()
			p := begin(t, command(t, folder, nil, args...)).ready()
			p.ownToken("machine").wantToken()
			p.kill()
			wantFiles(t, folder, "grantling.db")
		}
	})
	// Whenever the first start ends, somebody was shown a password that works.
	t.Run("R165 password", func(t *testing.T) {
		t.Parallel()
		for round := range rounds(t, 8) {
			folder := t.TempDir()
			killed := begin(t, command(t, folder, nil, "-addr", "127.0.0.1:0"))
			killed.untilMoment(folder, round)
			killed.kill()
			p := launch(t, folder)
			shown := shownPassword.FindAllStringSubmatch(killed.said()+p.said(), -1)
			if shown == nil {
				t.Fatalf("round %d: no password was shown", round)
			}
			if r := p.browser().signIn("alice", shown[len(shown)-1][1]); r.StatusCode != http.StatusSeeOther {
				t.Errorf("round %d: sign-in: status %d", round, r.StatusCode)
			}
			p.kill()
		}
	})
}

// untilMoment waits for one of the moments of a first start: the process is there,
// the new database is, has a page, has its name; the URL is told; any moment of the
// first 30 ms.
func (p *process) untilMoment(folder string, n int) {
	p.Helper()
	path := filepath.Join(folder, "grantling.db")
	larger := func(path string, than int64) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > than
	}
	reached := []func() bool{
		func() bool { return true },
		func() bool { return larger(path+".new", -1) || larger(path, -1) },
		func() bool { return larger(path+".new", 0) || larger(path, -1) },
		func() bool { return larger(path, -1) },
		func() bool { p.ready(); return true },
		func() bool { time.Sleep(time.Duration(rand.IntN(30_000)) * time.Microsecond); return true },
	}[n%6]
	for deadline := time.Now().Add(patience); !reached(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			p.Fatalf("moment %d of a first start does not come", n%6)
		}
	}
}
