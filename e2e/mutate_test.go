package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mutantFixtures has the clients of testdata/requests.http, and bob with a client
// that no request there names. A profile ignores the grants that it does not have.
const mutantFixtures = `{
  "users": [{"username": "alice", "password": "wonderland"}, {"username": "bob", "password": "builder"}],
  "clients": [
    {"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "owner": "alice",
     "grant_types": ["authorization_code", "implicit", "password", "client_credentials", "refresh_token"]},
    {"client_id": "spare", "client_secret": "spare-secret", "redirect_uris": ["https://spare.example/cb"], "grant_types": ["authorization_code"], "owner": "alice"},
    {"client_id": "native", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb", "urn:ietf:wg:oauth:2.0:oob"]},
    {"client_id": "honest", "client_secret": "honest-secret", "redirect_uris": ["https://honest.example/cb"], "owner": "bob"}
  ]
}`

// TestMutatedRequests is R179: no request makes the server fail, leak or hang. It
// prints a seed, and SEED=… makes the same mutations again. LONG=1 sends requests
// for ten minutes instead of one.
func TestMutatedRequests(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED: %v", err)
		}
	}
	t.Logf("SEED=%d", seed)
	valid := new(sync.Map) // names of the requests that were taken as they are
	corpus := readRequests(t)
	whole := time.Minute
	if long {
		whole = 10 * time.Minute
	}
	names := []string{"rfc6749", "figshare", "mastodon", "trackmania", "sharesight"}
	for _, name := range names {
		for kind, flags := range map[string][]string{
			"pages":   {"-db", "grantling.db"},
			"control": {"-db", ":memory:", "-control", "-auto-approve", "alice"},
		} {
			t.Run("R179 "+name+" "+kind, func(t *testing.T) {
				f := &fuzzer{T: t, corpus: corpus, valid: valid, seed: seed, places: places(t, name), control: kind == "control"}
				f.run(flags, name, whole/time.Duration(2*len(names)))
			})
		}
	}
	for _, r := range corpus {
		if _, found := valid.Load(r.name); !found && !t.Failed() {
			t.Errorf("%s: no profile takes it", r.name)
		}
	}
}

// places are the paths of a profile's endpoints, by name, each with its values.
func places(t *testing.T, profile string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("../profiles/" + profile + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Endpoints map[string][]string
		Resources []struct {
			Endpoint string
			Paths    []string
		}
		Scopes []struct{ Name string }
	}
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	at := p.Endpoints
	for _, r := range p.Resources {
		at["resource"] = append(at["resource"], r.Paths...)
		if r.Endpoint != "" {
			at[r.Endpoint] = r.Paths
		}
	}
	at["scope"] = []string{"read"}
	if len(p.Scopes) > 0 {
		at["scope"] = []string{p.Scopes[0].Name}
	}
	return at
}

// request is one of testdata/requests.http, and what mutations make of it. Query
// and form are as on the wire.
type request struct {
	name, method, path string
	query, form        []pair
	header             []pair
	body               string // if there is no form
	framing            string // instead of a right Content-Length
	password           bool   // it has one
}

type pair struct{ name, value string }

func (p pair) String() string {
	if p.value == "" {
		return p.name
	}
	return p.name + "=" + p.value
}

func pairs(encoded string) (all []pair) {
	if encoded == "" {
		return nil
	}
	for text := range strings.SplitSeq(encoded, "&") {
		name, value, _ := strings.Cut(text, "=")
		all = append(all, pair{name, value})
	}
	return all
}

func encode(all []pair) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, "&")
}

// readRequests reads testdata/requests.http.
func readRequests(t *testing.T) (all []*request) {
	t.Helper()
	data, err := os.ReadFile("testdata/requests.http")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Split(string(data), "\n### ")[1:] {
		head, body, _ := strings.Cut(strings.TrimSpace(text), "\n\n")
		lines := strings.Split(head, "\n")
		r := &request{name: lines[0], password: strings.Contains(body, "password=")}
		var target string
		r.method, target, _ = strings.Cut(lines[1], " ")
		path, query, _ := strings.Cut(target, "?")
		r.path, r.query = path, pairs(query)
		for _, line := range lines[2:] {
			name, value, _ := strings.Cut(line, ": ")
			r.header = append(r.header, pair{name, value})
		}
		if strings.HasPrefix(body, "{") {
			r.body = body
		} else {
			r.form = pairs(body)
		}
		all = append(all, r)
	}
	return all
}

// fuzzer sends mutated requests to one server.
type fuzzer struct {
	*testing.T
	*server
	corpus  []*request
	valid   *sync.Map
	seed    uint64
	places  map[string][]string
	control bool // the server has a control API, so it can be told to fail
	sent    atomic.Int64
	taken   atomic.Int64 // those with a status below 400
}

func (f *fuzzer) run(flags []string, profile string, during time.Duration) {
	folder := f.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "fixtures.json"), []byte(mutantFixtures), 0o600); err != nil {
		f.Fatal(err)
	}
	f.server = startIn(f.T, folder, append(flags, "-fixtures", "fixtures.json", "-profile", profile)...)
	open := f.descriptors(f.T, anyNumber)
	bob := &worker{fuzzer: f, values: make(map[string]string)}
	if !f.control {
		bob.signIn("bob", "builder")
	}
	bob.honest()
	before := f.resident(f.T)

	var workers sync.WaitGroup
	end := time.Now().Add(during)
	for n := range 4 {
		w := &worker{fuzzer: f, random: rand.New(rand.NewPCG(f.seed, uint64(n))), values: make(map[string]string)}
		w.values["base"] = f.URL
		if n == 0 { // each request as it is, before other workers delete what it asks for
			for _, r := range f.corpus {
				if r, ok := w.fill(r); ok && w.send(r) {
					f.valid.Store(r.name, true)
				}
			}
		}
		workers.Go(func() {
			defer w.hangUp()
			for time.Now().Before(end) && !f.Failed() {
				next := f.corpus[w.random.IntN(len(f.corpus))]
				if next.password && !f.control && w.random.IntN(10) > 0 {
					continue // hashing takes a while where there is a file
				}
				if r, ok := w.fill(next); ok {
					for range 1 + w.random.IntN(1+w.random.IntN(4)) {
						w.mutate(r)
					}
					w.send(r)
				}
			}
		})
	}
	workers.Wait()
	if f.Failed() {
		return
	}
	if f.control {
		bob.send(&request{name: "reset", method: "POST", path: "/_control/reset"})
	}
	bob.honest()
	bob.hangUp()
	after := f.resident(f.T)
	f.Logf("%d requests, %d taken; %d MiB resident, %d before", f.sent.Load(), f.taken.Load(), after>>20, before>>20)
	if grown := after - before; grown > 64<<20 {
		f.Errorf("%d MiB more resident memory after %d requests", grown>>20, f.sent.Load())
	}
	f.wantIdle(f.T, open)
}

// worker sends requests one after the other, with what the server told it.
type worker struct {
	*fuzzer
	random *rand.Rand
	values map[string]string
	conn   net.Conn
	in     *bufio.Reader
}

var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

// fill copies a request with values for its placeholders. ok is false if there
// are none.
func (w *worker) fill(from *request) (r *request, ok bool) {
	ok = true
	fill := func(text string, escape func(string) string) string {
		return placeholder.ReplaceAllStringFunc(text, func(name string) string {
			name = name[1 : len(name)-1]
			value, known := w.values[name]
			if at := w.places[name]; at != nil {
				value, known = at[0], true
				if w.random != nil {
					value = at[w.random.IntN(len(at))]
				}
			}
			ok = ok && known
			return escape(value)
		})
	}
	plain := func(text string) string { return text }
	all := func(from []pair, escape func(string) string) (to []pair) {
		for _, p := range from {
			to = append(to, pair{p.name, fill(p.value, escape)})
		}
		return to
	}
	r = &request{name: from.name, method: from.method, path: fill(from.path, plain), body: fill(from.body, plain)}
	r.query, r.form, r.header = all(from.query, url.QueryEscape), all(from.form, url.QueryEscape), all(from.header, plain)
	if strings.HasPrefix(r.path, "/_control/") && !w.control {
		ok = false
	}
	if cookie := w.values["cookie"]; cookie != "" {
		r.header = append(r.header, pair{"Cookie", cookie})
	}
	return r, ok
}

// raw is a request as on the wire.
func (r *request) raw(host string) []byte {
	body, hasType := r.body, false
	if r.form != nil {
		body = encode(r.form)
	}
	target := r.path
	if r.query != nil {
		target += "?" + encode(r.query)
	}
	raw := new(bytes.Buffer)
	fmt.Fprintf(raw, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.method, target, host)
	for _, h := range r.header {
		hasType = hasType || h.name == "Content-Type"
		fmt.Fprintf(raw, "%s: %s\r\n", h.name, h.value)
	}
	if body != "" && !hasType {
		raw.WriteString("Content-Type: application/x-www-form-urlencoded\r\n")
	}
	switch {
	case r.framing != "":
		raw.WriteString(r.framing)
	case body != "" || r.method == "POST":
		fmt.Fprintf(raw, "Content-Length: %d\r\n\r\n", len(body))
	default:
		raw.WriteString("\r\n")
	}
	raw.WriteString(body)
	return raw.Bytes()
}

// loose reports whether it may not be clear where the request ends, or that it is
// one: then no answer, or one of net/http's own, is right too.
func (r *request) loose() bool {
	target := r.path + "?" + encode(r.query)
	head := r.method + target
	_, malformed := url.ParseRequestURI(target)
	for _, h := range r.header {
		head += h.name + h.value
		if !slices.Contains([]string{"Content-Type", "Cookie", "Authorization", "Origin", "Accept"}, h.name) {
			return true
		}
	}
	return r.framing != "" || !regexp.MustCompile(`^(GET|POST|HEAD|OPTIONS|DELETE|PUT|PATCH)/`).MatchString(head) ||
		strings.ContainsFunc(head, func(c rune) bool { return c < ' ' || c > '~' }) || malformed != nil || strings.Contains(target, " ") || len(head) > 30_000
}

// answerTime is how long an answer may take on a busy machine. A lock that is
// stuck takes longer.
const answerTime = 20 * time.Second

// send sends a request, reports an answer that is wrong, and remembers what the
// answer says. It returns whether the request was taken.
func (w *worker) send(r *request) (taken bool) {
	host := strings.TrimPrefix(w.URL, "http://")
	raw, loose := r.raw(host), r.loose()
	w.sent.Add(1)
	wrong := func(format string, a ...any) bool {
		w.Errorf("SEED=%d: a mutation of %q: %s\n%q", w.seed, r.name, fmt.Sprintf(format, a...), raw[:min(len(raw), 4000)])
		return false
	}
	if w.conn == nil || loose {
		w.hangUp()
		conn, err := net.Dial("tcp", host)
		if err != nil {
			return wrong("%v", err)
		}
		w.conn, w.in = conn, bufio.NewReader(conn)
	}
	w.conn.SetDeadline(time.Now().Add(answerTime))
	_, err := w.conn.Write(raw)
	if loose || err != nil {
		defer w.hangUp()
	}
	if r.framing != "" {
		w.conn.(*net.TCPConn).CloseWrite() // there comes no more
	}
	var answer *http.Response
	for answer == nil || answer.StatusCode < 200 { // 100 Continue
		if answer, err = http.ReadResponse(w.in, &http.Request{Method: r.method}); err != nil {
			w.hangUp()
			if late := net.Error(nil); errors.As(err, &late) && late.Timeout() || !loose {
				return wrong("no answer: %v", err)
			}
			return false
		}
	}
	body, err := io.ReadAll(answer.Body)
	if answer.Close || err != nil {
		defer w.hangUp()
	}
	switch {
	case err != nil && !loose:
		return wrong("half an answer: %v", err)
	case answer.StatusCode >= 500 && !w.mayFail(r, answer, body):
		return wrong("status %d: %s", answer.StatusCode, body)
	case err == nil && r.method != "HEAD" && answer.StatusCode/100 != 3 && strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") && !json.Valid(body):
		return wrong("status %d: this is no JSON: %s", answer.StatusCode, body)
	}
	w.remember(answer, string(body))
	if answer.StatusCode < 400 {
		w.taken.Add(1)
	}
	return answer.StatusCode < 400
}

// mayFail reports whether the server was told to fail by the control API, does not
// know the Transfer-Encoding (RFC 9112 §6.1), or does not check the password of one
// who hangs up.
func (w *worker) mayFail(r *request, answer *http.Response, body []byte) bool {
	return w.control && answer.Header.Get("Grantling-Fault") != "" ||
		answer.StatusCode == http.StatusNotImplemented && strings.Contains(r.framing, "gzip") ||
		answer.StatusCode == http.StatusServiceUnavailable && r.framing != "" && bytes.Contains(body, []byte("too many people are signing in"))
}

// hangUp closes the connection without TIME_WAIT: there are not enough ports.
func (w *worker) hangUp() {
	if w.conn != nil {
		w.conn.(*net.TCPConn).SetLinger(0)
		w.conn.Close()
		w.conn = nil
	}
}

var (
	fieldOfPage = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)"`)
	codeSent    = regexp.MustCompile(`[?&#]code=([^&]+)`)
)

// remember keeps what an answer tells for later requests.
func (w *worker) remember(answer *http.Response, body string) {
	for _, c := range answer.Cookies() {
		w.values["cookie"] = c.Name + "=" + c.Value
	}
	if code := codeSent.FindStringSubmatch(answer.Header.Get("Location")); code != nil {
		w.values["code"] = code[1]
	}
	for _, field := range fieldOfPage.FindAllStringSubmatch(body, -1) {
		w.values[field[1]] = html.UnescapeString(field[2])
	}
	var told map[string]any
	json.Unmarshal([]byte(body), &told)
	for _, name := range []string{"access_token", "refresh_token"} {
		if value, ok := told[name].(string); ok {
			w.values[name] = value
		}
	}
}

// must sends a request that is taken.
func (w *worker) must(method, path, query, form string) {
	w.Helper()
	r, ok := w.fill(&request{name: "honest", method: method, path: path, query: pairs(query), form: pairs(form)})
	if !ok || !w.send(r) {
		w.Fatalf("%s %s: an honest client is refused: %q", method, path, w.values)
	}
}

func (w *worker) signIn(username, password string) {
	w.Helper()
	w.must("GET", "/login", "", "")
	w.must("POST", "/login", "", "form_token={form_token}&username="+username+"&password="+password)
}

// honest is a whole flow: the server still does its work.
func (w *worker) honest() {
	w.Helper()
	delete(w.values, "code")
	delete(w.values, "access_token")
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 Appendix B
	w.must("GET", "{authorize}", "response_type=code&client_id=honest&redirect_uri=https%3A%2F%2Fhonest.example%2Fcb&scope={scope}&prompt=consent"+
		"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256", "")
	if w.values["code"] == "" {
		w.must("POST", "/consent", "", "form_token={form_token}&id={id}&asked={asked}&expires={expires}&request={request}&mac={mac}&decision=approve")
	}
	w.must("POST", "{token}", "", "grant_type=authorization_code&client_id=honest&client_secret=honest-secret&code={code}&redirect_uri=https%3A%2F%2Fhonest.example%2Fcb&code_verifier="+verifier)
	if w.values["access_token"] == "" {
		w.Fatalf("no token: %q", w.values)
	}
}

// nasty are values that break what is careless, as on the wire.
var nasty = []string{
	"", "%00", "%ff", "%", "%zz", "%0d%0aX-Injected:%20y", "%E2%80%AE", "%c0%ae", "+", "%20", "0", "-1", "1e309", "99999999999999999999", "NaN",
	"null", "true", "[]", "{}", "%22", "<script>", "'", "\\", "../..", "%2e%2e%2f", ";", "a;b", "a,b", "..", "*", "{base}", "${client_id}",
	"http://[::1%25lo]:80/", "http://[", "http://127.0.0.1:99999/cb", "https://cb.example%5C@evil.example/cb", "javascript:alert(1)", "//evil.example",
	"urn:ietf:wg:oauth:2.0:oob", "https://cb.example/cb", "code%20token", "none", "plain", "query", "fragment", "refresh_token", "client_credentials",
	"password", "authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "web", "native", "alice", "access_token", "Basic%20Og==",
	"00000000-0000-0000-0000-000000000000", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "-106751d", "292y", "2540400h",
}

// value is a value after a mutation.
func (w *worker) value(old string) string {
	switch w.random.IntN(7) {
	case 0:
		return w.bytes(old)
	case 1:
		return old[:w.random.IntN(len(old)+1)]
	case 2:
		return old + old
	case 3:
		longer := strings.Repeat(old+"a", 1<<w.random.IntN(14))
		return longer[:min(len(longer), 9000)]
	case 4:
		return url.QueryEscape(nasty[w.random.IntN(len(nasty))])
	case 5:
		return old + nasty[w.random.IntN(len(nasty))]
	default:
		return nasty[w.random.IntN(len(nasty))]
	}
}

// bytes changes a few bytes.
func (w *worker) bytes(text string) string {
	b := []byte(text)
	for range 1 + w.random.IntN(4) {
		if n := w.random.IntN(len(b) + 1); n == len(b) || w.random.IntN(3) == 0 {
			b = slices.Insert(b, n, byte(w.random.IntN(256)))
		} else if w.random.IntN(2) == 0 {
			b[n] ^= 1 << w.random.IntN(8)
		} else {
			b = slices.Delete(b, n, n+1)
		}
	}
	return string(b)
}

// parameters changes a query or a form.
func (w *worker) parameters(all *[]pair) {
	other := w.corpus[w.random.IntN(len(w.corpus))]
	theirs := slices.Concat(other.query, other.form)
	if len(*all) == 0 {
		*all = append(*all, theirs...)
		return
	}
	p := &(*all)[w.random.IntN(len(*all))]
	switch w.random.IntN(9) {
	case 0, 1, 2:
		p.value = w.value(p.value)
	case 3:
		p.name = w.value(p.name)
	case 4:
		*all = append(*all, *p)
	case 5:
		p.name += "[]"
	case 6:
		n := w.random.IntN(len(*all))
		*all = slices.Delete(*all, n, n+1)
	case 7:
		if len(theirs) > 0 {
			*all = append(*all, theirs[w.random.IntN(len(theirs))])
		}
	case 8:
		for range 1 << w.random.IntN(11) {
			*all = append(*all, pair{p.name + strconv.Itoa(len(*all)), "x"})
		}
	}
}

var methods = []string{"GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "CONNECT", "get", "PRI", "G T", "M-SEARCH", strings.Repeat("A", 5000)}

var nastyHeaders = []pair{
	{"Host", "evil.example"}, {"Host", ""}, {"Origin", "null"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Accept", "text/html"},
	{"Accept", "application/json;q=x, */*"}, {"Authorization", "Basic"}, {"Authorization", "Basic Og=="}, {"Authorization", "Basic d2ViOndlYi1zZWNyZXQ"},
	{"Authorization", "Bearer"}, {"Authorization", "bearer  x y"}, {"Authorization", "token x"}, {"Authorization", "Digest username=\"web\""},
	{"Content-Type", "application/json"}, {"Content-Type", "application/json; charset=utf-16"}, {"Content-Type", "multipart/form-data"},
	{"Content-Type", "multipart/form-data; boundary=x"}, {"Content-Type", "text/plain"}, {"Content-Type", ";"}, {"Content-Type", "application/x-www-form-urlencoded; charset=\""},
	{"Content-Encoding", "gzip"}, {"Expect", "100-continue"}, {"Expect", "x"}, {"Range", "bytes=0-"}, {"If-None-Match", "*"}, {"If-Modified-Since", "x"},
	{"Upgrade", "h2c"}, {"Connection", "close, upgrade"}, {"Forwarded", "for=\"[::1"}, {"X-Forwarded-For", "127.0.0.1"}, {"Cookie", "grantling-=;;; =x"},
	{"Access-Control-Request-Method", "POST"}, {"Access-Control-Request-Headers", "a,b,,\x7f"}, {"X-A", "b\x00c"}, {"X A", "b"}, {"", ""}, {"Accept-Language", "\xff"},
}

// framings end a header in other ways than with the right Content-Length.
var framings = []string{
	"\r\n", "Content-Length: 5\r\n\r\n", "Content-Length: 100000\r\n\r\n", "Content-Length: -1\r\n\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
	"Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\na=b&c\r\n0\r\n\r\n", "Transfer-Encoding: gzip\r\n\r\n",
	"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nffffffffffffffff\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: x\r\n\r\n", " folded\r\n\r\n",
}

// mutate changes one thing.
func (w *worker) mutate(r *request) {
	switch w.random.IntN(20) {
	case 0:
		r.method = methods[w.random.IntN(len(methods))]
	case 1:
		path := w.corpus[w.random.IntN(len(w.corpus))].path
		if at := w.places[strings.Trim(path, "{}")]; at != nil {
			path = at[0]
		}
		r.path = []string{r.path + "/", "/" + r.path, r.path + "/../x", strings.ToUpper(r.path), r.path + "%00", r.path + ";x", "*", "http://evil.example" + r.path, path,
			w.bytes(r.path), r.path + "?" + w.bytes("a=b#c"), strings.Repeat(r.path, 300), ""}[w.random.IntN(13)]
	case 2, 3, 4:
		w.parameters(&r.query)
	case 5, 6, 7, 8:
		if r.body != "" {
			r.body = w.json(r.body)
		} else {
			w.parameters(&r.form)
		}
	case 9:
		r.query, r.form = r.form, r.query
	case 10:
		h := nastyHeaders[w.random.IntN(len(nastyHeaders))]
		if n := slices.IndexFunc(r.header, func(p pair) bool { return p.name == h.name }); n >= 0 && w.random.IntN(2) == 0 {
			r.header[n] = h
		} else {
			r.header = append(r.header, h)
		}
	case 11:
		if len(r.header) > 0 {
			n := w.random.IntN(len(r.header))
			r.header = slices.Delete(r.header, n, n+1)
		}
	case 12, 13:
		if len(r.header) > 0 {
			p := &r.header[w.random.IntN(len(r.header))]
			p.value = w.value(p.value)
		}
	case 14, 15:
		w.recode(r)
	case 16:
		r.framing = framings[w.random.IntN(len(framings))]
	case 17:
		if r.form != nil || r.body != "" {
			r.body, r.form = w.bytes(cmp.Or(r.body, encode(r.form))), nil
		}
	case 18: // around the largest body, 64 KB
		r.form, r.body = nil, cmp.Or(r.body, encode(r.form))+strings.Repeat("&a=b", 16_350+w.random.IntN(60))
	case 19: // deep or wide
		n := 1 << w.random.IntN(14)
		r.form, r.body = nil, `{"grant_type":`+strings.Repeat([]string{"[", `{"a":`, `"x",`}[w.random.IntN(3)], n)
		r.header = append(r.header, pair{"Content-Type", "application/json"})
	}
}

// json changes one value of an object.
func (w *worker) json(text string) string {
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) != nil || len(object) == 0 || w.random.IntN(4) == 0 {
		return w.bytes(text)
	}
	var names []string
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[w.random.IntN(len(names))]
	old := object[name]
	switch w.random.IntN(4) {
	case 0:
		delete(object, name)
	case 1:
		object[name] = []any{nil, true, -1, 1e300, []any{}, []any{old, old}, map[string]any{"a": old}}[w.random.IntN(7)]
	case 2:
		object[w.value(name)] = old
	default:
		value, _ := url.QueryUnescape(w.value(fmt.Sprint(old)))
		object[name] = value
	}
	data, err := json.Marshal(object)
	if err != nil {
		w.Error(err)
	}
	return string(data)
}

// recode sends a form in another encoding.
func (w *worker) recode(r *request) {
	if r.form == nil {
		return
	}
	contentType, body := "application/json", new(bytes.Buffer)
	switch w.random.IntN(3) {
	case 0:
		members := make(map[string]string)
		for _, p := range r.form {
			members[p.name], _ = url.QueryUnescape(p.value)
		}
		json.NewEncoder(body).Encode(members)
	case 1:
		form := multipart.NewWriter(body)
		form.SetBoundary("x-boundary-x")
		for _, p := range r.form {
			value, _ := url.QueryUnescape(p.value)
			form.WriteField(p.name, value)
		}
		if w.random.IntN(3) > 0 {
			form.Close()
		}
		contentType = form.FormDataContentType()
	case 2:
		contentType = "application/x-www-form-urlencoded"
		r.header = append(r.header, pair{"Content-Encoding", "gzip"})
		zip := gzip.NewWriter(body)
		io.WriteString(zip, encode(r.form))
		zip.Close()
	}
	r.form, r.body = nil, body.String()
	r.header = slices.DeleteFunc(r.header, func(p pair) bool { return p.name == "Content-Type" })
	r.header = append(r.header, pair{"Content-Type", contentType})
}
