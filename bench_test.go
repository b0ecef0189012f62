package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkServer sends the requests of each hot path over loopback, by 1 and
// by 64 callers, to the real handler and in turn to what it is compared with:
//
//	floor-ratio  its rate to that of a bare handler that parses the same form and writes 150 bytes of JSON
//	issue-ratio  its rate to that of client credentials on the same server
//	empty-ratio  its rate to that of the same path on an empty server
//
// Each ratio is the median of many turns, so it means the same on any machine.
// On Unix floor-cpu-ratio and so on compare the CPU time instead, which a busy
// machine blurs less; cpu-ns/op is that of a request, with net/http and the
// caller. allocs/op and B/op are the handler's own.
//
// LIVE=100000,1000000 adds servers with so many live tokens, and others on
// which so many have expired and were swept. See docs/benchmarks.md.
func BenchmarkServer(b *testing.B) {
	for _, db := range []string{"file", "memory"} {
		b.Run("db="+db, func(b *testing.B) {
			empty := newBenched(b, db)
			b.Run("live=0", func(b *testing.B) { benchmarkPaths(b, empty, nil) })
			for size := range strings.FieldsFuncSeq(os.Getenv("LIVE"), func(r rune) bool { return r == ',' }) {
				n, err := strconv.Atoi(size)
				if err != nil {
					b.Fatal(err)
				}
				b.Run("live="+size, func(b *testing.B) {
					s := newBenched(b, db)
					s.fill(b, n, s.profile.AccessTokenLifetime)
					benchmarkPaths(b, s, empty)
				})
				b.Run("swept="+size, func(b *testing.B) {
					s := newBenched(b, db)
					s.fill(b, n, -1)
					s.sweepAll(b)
					benchmarkPaths(b, s, empty)
				})
			}
		})
	}
}

// BenchmarkJWT issues signed access tokens, and opaque ones beside them.
// opaque-ratio is the rate to theirs.
func BenchmarkJWT(b *testing.B) {
	for _, db := range []string{"file", "memory"} {
		for _, alg := range []string{"ES256", "RS256"} {
			s, opaque := newBenched(b, db), newBenched(b, db)
			s.profile.AccessTokenFormat = format{Encoding: "jwt", Alg: alg}
			if err := s.openKeys(false, 0); err != nil {
				b.Fatal(err)
			}
			for _, callers := range []int{1, 64} {
				b.Run(fmt.Sprintf("db=%s/alg=%s/callers=%d", db, alg, callers), func(b *testing.B) {
					allocs, bytes := s.allocations(callers, issuing(s, 10*max(callers, 10)))
					race(b, callers, &rival{addr: s.addr, prepare: func(n int) [][]byte { return issuing(s, n) }},
						[]*rival{{name: "opaque", addr: opaque.addr, prepare: func(n int) [][]byte { return issuing(opaque, n) }}})
					b.ReportMetric(allocs, "allocs/op")
					b.ReportMetric(bytes, "B/op")
				})
			}
		}
	}
}

// benchmarkPaths measures each path of a server, beside an empty one if given.
func benchmarkPaths(b *testing.B, s, empty *benched) {
	paths := []struct {
		name    string
		prepare func(s *benched, n int) [][]byte // n requests that have not been sent
	}{
		{"client_credentials", issuing},
		{"code", redeeming},
		{"refresh", refreshing},
		{"userinfo", usingBearer},
		{"introspect", introspecting},
		{"revoke", revoking},
		{"authorize", authorizing},
	}
	for _, p := range paths {
		b.Run(p.name, func(b *testing.B) {
			for _, callers := range []int{1, 64} {
				allocs, bytes := s.allocations(callers, p.prepare(s, 10*max(callers, 10)))
				b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
					own := func(n int) [][]byte { return p.prepare(s, n) }
					rivals := []*rival{{name: "floor", addr: floorAddr(b), prepare: own}}
					if p.name == "code" || p.name == "refresh" {
						rivals = append(rivals, &rival{name: "issue", addr: s.addr, prepare: func(n int) [][]byte { return issuing(s, n) }})
					}
					if empty != nil {
						rivals = append(rivals, &rival{name: "empty", addr: empty.addr, prepare: func(n int) [][]byte { return p.prepare(empty, n) }})
					}
					race(b, callers, &rival{addr: s.addr, prepare: own}, rivals)
					b.ReportAllocs()
					b.ReportMetric(allocs, "allocs/op")
					b.ReportMetric(bytes, "B/op")
				})
			}
		})
	}
}

// The requests of each path. What a request needs that works only once is made
// by the same server beforehand.

func issuing(s *benched, n int) [][]byte {
	return slices.Repeat([][]byte{s.post("token", clientCredentialsOf("web"))}, n)
}

func authorizing(s *benched, n int) [][]byte {
	return slices.Repeat([][]byte{s.get("authorize", "?"+authorization("web").Encode(), "")}, n)
}

func redeeming(s *benched, n int) [][]byte {
	return s.each(authorizing(s, n), func(_ tokens, location *url.URL) []byte {
		return s.post("token", exchangeOf("web", location.Query().Get("code")))
	})
}

func refreshing(s *benched, n int) [][]byte {
	return s.each(redeeming(s, n), func(t tokens, _ *url.URL) []byte { return s.post("token", refreshOf("web", t.Refresh)) })
}

func revoking(s *benched, n int) [][]byte {
	return s.each(issuing(s, n), func(t tokens, _ *url.URL) []byte {
		return s.post("revoke", withClient("web", url.Values{"token": {t.Access}}))
	})
}

func usingBearer(s *benched, n int) [][]byte {
	return slices.Repeat(s.each(redeeming(s, 1), func(t tokens, _ *url.URL) []byte { return s.get("userinfo", "", t.Access) }), n)
}

func introspecting(s *benched, n int) [][]byte {
	return slices.Repeat(s.each(issuing(s, 1), func(t tokens, _ *url.URL) []byte {
		return s.post("introspect", withClient("web", url.Values{"token": {t.Access}}))
	}), n)
}

// benched is a server as the command starts it, with the clients and users of
// the tests and -auto-approve alice.
type benched struct {
	*server
	addr string
}

func newBenched(b *testing.B, db string) *benched {
	b.Helper()
	path := memory
	if db == "file" {
		path = filepath.Join(b.TempDir(), "grantling.db")
	}
	return openBenched(b, path)
}

func openBenched(tb testing.TB, path string) *benched {
	tb.Helper()
	p, err := loadProfile("rfc6749")
	if err != nil {
		tb.Fatal(err)
	}
	st, err := openStore(path)
	if err != nil {
		tb.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(nil)
	s, err := newServer(p, st, "http://"+ts.Listener.Addr().String(), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	s.hashRounds, s.autoApprove = 1, "alice"
	ts.Config.Handler = s
	ts.Start()
	tb.Cleanup(func() { ts.Close(); st.close() })
	f := new(fixtures)
	if _, err := parseDocument("fixtures.json", []byte(instanceFixtures), f); err != nil {
		tb.Fatal(err)
	}
	if _, err := s.applyFixtures(f); err != nil {
		tb.Fatal(err)
	}
	return &benched{s, ts.Listener.Addr().String()}
}

// floorAddr is where the bare handler answers.
func floorAddr(b *testing.B) string {
	answer := []byte(`{"` + strings.Repeat("x", 143) + `":1}`)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	}))
	b.Cleanup(ts.Close)
	return ts.Listener.Addr().String()
}

// fill stores n access tokens of client credentials, many in a transaction.
func (s *benched) fill(tb testing.TB, n int, lifetime seconds) {
	tb.Helper()
	c, err := s.store.clientNamed("web")
	if err != nil {
		tb.Fatal(err)
	}
	for n > 0 {
		err := s.store.update(func(t *tx) error {
			for range min(n, 20_000) {
				now := unixTime(s.clock.now().Unix())
				issued, _ := s.newAccessToken(nil, c, "read write", &exchange{now: now}, lifetime)
				t.putIssued(issued)
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
		n -= 20_000
	}
}

// sweepAll removes all that has expired.
func (s *benched) sweepAll(tb testing.TB) {
	tb.Helper()
	for {
		_, removed, err := s.store.sweep(unixTime(s.clock.now().Unix()))
		if err != nil {
			tb.Fatal(err)
		}
		if removed == 0 && !s.store.midRound() {
			return
		}
	}
}

// BenchmarkSweep issues tokens for 16 callers before and while the sweeper removes
// 300,000 expired ones. p99-ratio compares how long the slowest of a hundred wait.
func BenchmarkSweep(b *testing.B) {
	s := newBenched(b, "file")
	issue := s.post("token", clientCredentialsOf("web"))
	p99 := func(more func() bool) time.Duration {
		waits := make([][]time.Duration, 16)
		var all sync.WaitGroup
		for i := range waits {
			c := dial(b, s.addr)
			all.Go(func() {
				for more() {
					began := realTime()
					if err := c.ask(issue); err != nil {
						b.Error(err)
					}
					waits[i] = append(waits[i], realTime().Sub(began))
				}
			})
		}
		all.Wait()
		sorted := slices.Sorted(slices.Values(slices.Concat(waits...)))
		return sorted[len(sorted)*99/100]
	}
	for range b.N {
		s.fill(b, 300_000, -1)
		began := realTime()
		before := p99(func() bool { return realTime().Sub(began) < 2*time.Second })
		var swept atomic.Bool
		go func() {
			for s.sweepSome(b.Context()) == nil && s.expired(b) {
			}
			swept.Store(true)
		}()
		b.ReportMetric(float64(p99(func() bool { return !swept.Load() }))/float64(before), "p99-ratio")
	}
}

// expired reports whether the oldest token has expired.
func (s *benched) expired(b *testing.B) bool {
	now := unixTime(s.clock.now().Unix())
	is, err := view(s.store, func(t *tx) (bool, error) {
		for key, value := range t.scan(bucketAccess, nil, nil) {
			token, err := decode[accessToken](bucketAccess, key, value)
			return err == nil && token.Expires.expired(now), err
		}
		return false, nil
	})
	if err != nil {
		b.Error(err)
	}
	return is
}

// TestFill makes the database of a server with N live tokens for bench/load.sh:
// FILL=FILE LIVE=N go test -run '^TestFill$' .
func TestFill(t *testing.T) {
	path := os.Getenv("FILL")
	if path == "" {
		t.Skip("FILL names no file")
	}
	n, err := strconv.Atoi(os.Getenv("LIVE"))
	if err != nil {
		t.Fatal(err)
	}
	openBenched(t, path).fill(t, n, 24*60*60)
}

// post and get make a request as it goes over the wire.

func (s *benched) post(endpoint string, form url.Values) []byte {
	body := form.Encode()
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		s.path(endpoint), s.addr, len(body), body)
}

func (s *benched) get(endpoint, query, bearer string) []byte {
	header := ""
	if bearer != "" {
		header = "Authorization: Bearer " + bearer + "\r\n"
	}
	return fmt.Appendf(nil, "GET %s%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", s.path(endpoint), query, s.addr, header)
}

func (s *benched) path(endpoint string) string {
	if endpoint == "userinfo" {
		return "/userinfo"
	}
	return s.profile.Endpoints[endpoint][0]
}

// tokens are what matters of a token answer.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// each asks the handler, many requests at a time so that they share commits,
// and makes the next request of each answer.
func (s *benched) each(requests [][]byte, next func(tokens, *url.URL) []byte) [][]byte {
	made := make([][]byte, len(requests))
	share(64, len(requests), func(_, i int) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, parsed(requests[i]))
		var t tokens
		json.Unmarshal(w.Body.Bytes(), &t) // a redirect has none
		location, _ := url.Parse(w.Header().Get("Location"))
		made[i] = next(t, location)
	})
	return made
}

func parsed(request []byte) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		panic(err)
	}
	r.RemoteAddr = "127.0.0.1:1"
	return r
}

// share calls do for 0 to n-1 from so many callers.
func share(callers, n int, do func(caller, i int)) {
	var taken atomic.Int64
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := taken.Add(1); i <= int64(n); i = taken.Add(1) {
				do(caller, int(i-1))
			}
		})
	}
	all.Wait()
}

// allocations is what the handler itself allocates for a request: how often,
// and how many bytes. Callers that share a commit share what it allocates.
func (s *benched) allocations(callers int, requests [][]byte) (times, bytes float64) {
	var all []*http.Request
	for _, request := range requests {
		all = append(all, parsed(request))
	}
	writers := make([]discard, callers)
	for i := range writers {
		writers[i] = make(discard)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	share(callers, len(all), func(caller, i int) {
		clear(writers[caller])
		s.ServeHTTP(writers[caller], all[i])
	})
	runtime.ReadMemStats(&after)
	n := float64(len(requests))
	return float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n
}

// discard is a ResponseWriter that keeps nothing but its header.
type discard http.Header

func (w discard) Header() http.Header         { return http.Header(w) }
func (w discard) WriteHeader(int)             {}
func (w discard) Write(b []byte) (int, error) { return len(b), nil }

// rival is one of the servers that take turns.
type rival struct {
	name    string
	addr    string
	prepare func(n int) [][]byte
	ratios  []float64 // of each turn
	cpu     time.Duration
}

// race sends b.N requests to a server, in turns with its rivals. What is timed
// is the first.
func race(b *testing.B, callers int, first *rival, rivals []*rival) {
	all := append([]*rival{first}, rivals...)
	lines := make([][]*caller, len(all))
	for i, r := range all {
		for range callers {
			lines[i] = append(lines[i], dial(b, r.addr))
		}
	}
	b.ResetTimer()
	b.StopTimer()
	for left := b.N; left > 0; {
		n := min(left, max(100, 16*callers))
		left -= n
		var measured time.Duration
		for i, r := range all {
			requests := r.prepare(n)
			if i == 0 {
				b.StartTimer()
			}
			began, cpu := realTime(), cpuTime()
			share(callers, n, func(caller, k int) {
				if err := lines[i][caller].ask(requests[k]); err != nil {
					b.Error(err)
				}
			})
			took := realTime().Sub(began)
			r.cpu += cpuTime() - cpu
			if i == 0 {
				b.StopTimer()
				measured = took
			}
			r.ratios = append(r.ratios, float64(took)/float64(measured))
		}
	}
	for _, r := range rivals {
		slices.Sort(r.ratios)
		b.ReportMetric(r.ratios[len(r.ratios)/2], r.name+"-ratio")
		if first.cpu > 0 {
			b.ReportMetric(float64(r.cpu)/float64(first.cpu), r.name+"-cpu-ratio")
			b.ReportMetric(float64(first.cpu)/float64(b.N), "cpu-ns/op")
		}
	}
}

// cpuTime is what this process has used so far, where it can be asked.
var cpuTime = func() time.Duration { return 0 }

// caller is a client with a connection of its own that does as little as it can.
type caller struct {
	net.Conn
	in *bufio.Reader
}

func dial(b *testing.B, addr string) *caller {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &caller{conn, bufio.NewReader(conn)}
}

var contentLength = []byte("Content-Length: ")

// ask sends a request and reads the answer, which must be a success or a redirect.
func (c *caller) ask(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	status, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if value, ok := bytes.CutPrefix(line, contentLength); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		if len(line) == len("\r\n") {
			break
		}
	}
	if status[len("HTTP/1.1 ")] > '3' {
		body, _ := io.ReadAll(io.LimitReader(c.in, int64(length)))
		return errors.New(textproto.TrimString(status) + ": " + string(body))
	}
	_, err = c.in.Discard(length)
	return err
}

// BenchmarkInspector compares a server with the inspector on with one where it is
// off: off-ratio is the rate of the first to that of the second.
func BenchmarkInspector(b *testing.B) {
	on, off := newBenched(b, "memory"), newBenched(b, "memory")
	on.openInspector()
	for name, prepare := range map[string]func(*benched, int) [][]byte{
		"client_credentials": issuing, "code": redeeming, "refresh": refreshing, "userinfo": usingBearer, "authorize": authorizing,
	} {
		b.Run(name, func(b *testing.B) {
			race(b, 64, &rival{addr: on.addr, prepare: func(n int) [][]byte { return prepare(on, n) }},
				[]*rival{{name: "off", addr: off.addr, prepare: func(n int) [][]byte { return prepare(off, n) }}})
		})
	}
}
