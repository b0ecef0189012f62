package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// startInspected is startControlled with the inspector on.
func startInspected(t *testing.T, change ...func(*server)) *instance {
	t.Helper()
	i := startControlled(t, change...)
	i.server.openInspector()
	return i
}

// listed are the flows on the page of a query, newest first: outcome, client,
// user, grant, number of exchanges.
func (i *instance) listed(query string) (rows []string) {
	i.Helper()
	page := i.get("/inspect?" + query)
	if page.StatusCode != http.StatusOK {
		i.Fatalf("status %d: %s", page.StatusCode, page.body)
	}
	_, body, _ := strings.Cut(page.body, "<tbody")
	for row := range strings.SplitSeq(body, "</tr>") {
		var cells []string
		for _, cell := range regexp.MustCompile(`(?s)<td[^>]*>(.*?)</td>`).FindAllStringSubmatch(row, -1) {
			cells = append(cells, strings.TrimSpace(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(cell[1], ""))))
		}
		if cells != nil {
			rows = append(rows, strings.Join(cells[1:], " | "))
		}
	}
	return rows
}

// flowOf is the flow of the latest request.
func (i *instance) flowOf() string {
	i.Helper()
	return i.latest().Flow
}

// Each row sends the requests of one flow, and says how the list shows it.
func TestInspectOutcomes(t *testing.T) {
	t.Parallel()
	form := func(clientID, grant string, more ...string) url.Values {
		return with(withClient(clientID, url.Values{"grant_type": {grant}}), more...)
	}
	for _, row := range []struct {
		name string
		send func(i *instance)
		want string
	}{
		{"sign-in", func(i *instance) { i.browser().authorize(authorization("web")) }, "Waits for somebody to sign in | Web app | nobody | Code, PKCE | 1 | "},
		{"consent", func(i *instance) { i.as("alice").authorize(authorization("web")) }, "Waits for alice to decide | Web app | alice | Code, PKCE | 1 | "},
		{"denied", func(i *instance) { i.decideURL(authorization("web"), "bob", "deny") }, "Denied by bob | Web app | bob | Code, PKCE | 1 | "},
		{"code", func(i *instance) { i.code("web") }, "Code issued, not redeemed yet | Web app | alice | Code, PKCE | 2 | "},
		{"expired code", func(i *instance) { i.code("web"); i.advance(time.Hour) }, "Code expired, never redeemed | Web app | alice | Code, PKCE | 2 | "},
		{"tokens", func(i *instance) { i.tokens("native") }, "Tokens issued | native | alice | Code, PKCE | 3 | "},
		{"refreshed", func(i *instance) {
			_, refresh := i.tokens("native")
			_, refresh = i.refresh("native", refresh).wantToken()
			i.refresh("native", refresh)
		}, "Tokens issued, refreshed twice | native | alice | Code, PKCE | 5 | "},
		{"after a refusal", func(i *instance) {
			code := i.code("native")
			i.post(i.endpoint("token"), with(exchangeOf("native", code), "code_verifier", strings.Repeat("x", 43)))
			i.post(i.endpoint("token"), exchangeOf("native", code)).wantToken()
		}, "Tokens issued, after 1 refusal | native | alice | Code, PKCE | 4 | "},
		{"replayed code", func(i *instance) {
			code := i.code("native")
			i.post(i.endpoint("token"), exchangeOf("native", code)).wantToken()
			i.post(i.endpoint("token"), exchangeOf("native", code))
		}, "Refused: the code was redeemed before | native | alice | Code, PKCE | 4 | "},
		{"revoked", func(i *instance) {
			_, refresh := i.tokens("native")
			i.post(i.endpoint("revoke"), withClient("native", url.Values{"token": {refresh}}))
		}, "Revoked by the client | native | alice | Code, PKCE | 4 | "},
		{"expired tokens", func(i *instance) { i.own("web"); i.advance(365 * 24 * time.Hour) }, "Token issued, expired by now | Web app | nobody | Client credentials | 1 | secret in the body"},
		{"implicit", func(i *instance) {
			i.decideURL(url.Values{"client_id": {"legacy"}, "response_type": {"token"}, "state": {"s"}}, "alice", "approve")
		}, "Token issued | legacy | alice | Implicit | 1 | implicit grant"},
		{"password", func(i *instance) {
			i.post(i.endpoint("token"), form("legacy", "password", "username", "alice", "password", "wonderland")).wantToken()
		}, "Tokens issued | legacy | alice | Password | 1 | secret in the body password grant"},
		{"device", func(i *instance) { i.device("native").approved("alice").poll().wantToken() }, "Tokens issued | native | alice | Device | 4 | "},
		{"device that waits", func(i *instance) { i.device("native") }, "Waits for the browser | native | nobody | Device | 1 | "},
		{"device that polls", func(i *instance) { i.device("native").poll() }, "Refused: the user has not decided yet | native | nobody | Device | 2 | "},
		{"device denied", func(i *instance) {
			d := i.device("native")
			d.answer(d.as("alice"), "deny")
			d.poll()
		}, "Denied by the user | native | alice | Device | 4 | "},
		{"unknown client", func(i *instance) { i.get(i.endpoint("authorize") + "?client_id=nobody&response_type=code") }, "Refused: the server does not know this client | nobody | nobody | Code | 1 | "},
		{"staged", func(i *instance) {
			i.fail(`{"endpoint":"token","status":503}`)
			i.failing("token", form("web", "client_credentials"))
		}, "Failed: 503 Service Unavailable | Web app | nobody | Client credentials | 1 | staged secret in the body"},
		{"no such page", func(i *instance) { i.get("/token") }, "Refused: there is nothing at this path | none | nobody | GET /token | 1 | "},
		{"metadata", func(i *instance) { i.get(i.endpoint("metadata")) }, "Answered | none | nobody | Metadata | 1 | "},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			i := startInspected(t)
			row.send(i)
			if got := i.listed(""); len(got) != 1 || got[0] != row.want {
				t.Errorf("listed are\n%s\nwant\n%s", strings.Join(got, "\n"), row.want)
			}
		})
	}
}

func TestInspectFilters(t *testing.T) {
	t.Parallel()
	i := startInspected(t)
	i.own("web")
	i.tokens("native")
	i.decideURL(authorization("web"), "bob", "deny")
	i.browser().authorize(authorization("native2"))
	i.refresh("web", "nonsense")
	for query, want := range map[string]int{
		"": 5, "client_id=web": 3, "outcome=refused": 1, "outcome=waiting": 1, "outcome=issued": 2, "outcome=ended": 1,
		"client_id=web&outcome=issued": 1, "client_id=nobody": 0, "outcome=nonsense": 0, "page=2": 5, "page=x": 5,
	} {
		if got := i.listed(query); len(got) != want {
			t.Errorf("?%s lists %q, want %d", query, got, want)
		}
	}
	page := i.get("/inspect?client_id=web&outcome=issued").body
	for _, want := range []string{`<option value="web" selected>Web app</option>`, `href="/inspect?client_id=web&amp;outcome=refused"`,
		`href="/inspect?client_id=web&amp;outcome=issued" aria-current="page">Issued <small>1</small>`, `name="outcome" value="issued"`} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is not in %s", want, page)
		}
	}
}

// The page of a flow is found by its id and by that of any of its exchanges.
func TestInspectFlow(t *testing.T) {
	t.Parallel()
	i := startInspected(t)
	_, refresh := i.tokens("web")
	i.fail(`{"endpoint":"token","name":"lost_answer"}`)
	if _, err := http.PostForm(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})); err == nil {
		t.Error("the answer was not lost")
	}
	i.advance(61 * time.Second)
	i.refresh("web", refresh).wantError(400, "invalid_grant")
	page := i.get("/inspect/" + i.flowOf())
	for _, want := range []string{
		"<h1>Refused: the refresh token was used before</h1>", `<code>POST /oauth/token</code> refresh`, "no answer: connection dropped", "staged fault",
		"Nothing was sent. Without the fault it would have been:", "<b>400</b> invalid_grant · refresh token used", "<strong>the refresh token was not used before</strong>",
		"clock was moved forward by 1 min 1 s", "<code>/cb?code=…&amp;state=…&amp;iss=…</code> not seen from here", "used twice", "begins <code>A", "Why this is refused",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("%s is not in the page", want)
		}
	}
	if got := strings.Count(page.body, "<details open>"); got != 1 {
		t.Errorf("%d exchanges are open", got)
	}
	last := fmt.Sprintf("x%d", i.latest().ID)
	if r := i.get("/inspect/" + last); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/inspect/"+i.flowOf()+"#"+last {
		t.Errorf("by its exchange: status %d to %s", r.StatusCode, r.Header.Get("Location"))
	}
	text := i.get("/inspect/" + i.flowOf() + ".txt")
	for _, want := range []string{"Refused: the refresh token was used before\n", "POST /oauth/token HTTP/1.1\n", "FAIL  the refresh token was not used before (RFC 9700 §4.14.2)", "client_secret=…", "-- clock was moved forward by 1 min 1 s --"} {
		if !strings.Contains(text.body, want) {
			t.Errorf("%s is not in the text: %s", want, text.body)
		}
	}
	if text.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("the text is %s", text.Header.Get("Content-Type"))
	}
	i.browser().do("POST", i.endpoint("token"), "grant_type=x&client_id=%1b]0,T%07%0aFAIL&y=\x1b[31mraw\nFAIL  forged \u202e\u009b", "Content-Type", "application/x-www-form-urlencoded")
	text = i.get("/inspect/" + fmt.Sprintf("x%d", i.latest().ID) + ".txt")
	if strings.ContainsFunc(text.body, func(r rune) bool { return r < ' ' && r != '\n' || r == '\u202e' || r == '\u009b' }) || strings.Contains(text.body, "\nFAIL") ||
		!strings.Contains(text.body, `&y=\x1b[31mraw\nFAIL  forged \u202e\u009b`+"\n") {
		t.Errorf("the text is %q", text.body)
	}
	for _, path := range []string{"/inspect/x999", "/inspect/nonsense", "/inspect/", "/inspect/nonsense.txt", "/inspect/a/b"} {
		if r := i.get(path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d", path, r.StatusCode)
		}
	}
	if i.get(i.endpoint("metadata")); i.get(fmt.Sprintf("/inspect/x%d", i.latest().ID)).StatusCode != http.StatusOK {
		t.Error("a request of no flow has no page")
	}
}

// A flow as the control API tells it.
func TestControlFlow(t *testing.T) {
	t.Parallel()
	i := startInspected(t)
	code := i.code("web")
	access, refresh := i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
	flow := i.flowOf()
	type credential struct{ ID, Kind, State, Reason, From string }
	ask := func() (credentials []credential, requests int) {
		t.Helper()
		var told struct {
			Flow        string
			Requests    []record
			Credentials []credential
		}
		if err := json.Unmarshal([]byte(i.mustControl("GET", "flows/"+flow, "").body), &told); err != nil || told.Flow != flow {
			t.Fatal(err, told.Flow)
		}
		return told.Credentials, len(told.Requests)
	}
	idOf := func(text string) string { c, _ := parseCredential(text); return c.id.String() }
	for _, step := range []struct {
		do       func()
		requests int
		want     []credential
	}{
		{func() {}, 3, []credential{
			{idOf(code), "code", "used", "Issued in request 4. Used in request 5.", ""},
			{idOf(access), "access_token", "alive", "Issued in request 5.", idOf(code)},
			{idOf(refresh), "refresh_token", "alive", "Issued in request 5.", idOf(code)},
		}},
		{func() { i.advance(2 * time.Hour) }, 3, []credential{
			{idOf(code), "code", "used", "Issued in request 4. Used in request 5.", ""},
			{idOf(access), "access_token", "expired", "", idOf(code)},
			{idOf(refresh), "refresh_token", "alive", "Issued in request 5.", idOf(code)},
		}},
		{func() { i.post(i.endpoint("token"), exchangeOf("web", code)).wantError(400, "invalid_grant") }, 4, []credential{
			{idOf(code), "code", "used", "Issued in request 4. Used in request 5. Sent again in request 6. Revoked in request 6.", ""},
			{idOf(access), "access_token", "expired", "", idOf(code)},
			{idOf(refresh), "refresh_token", "revoked", "Issued in request 5. Revoked in request 6.", idOf(code)},
		}},
	} {
		step.do()
		got, requests := ask()
		for n := range got {
			if got[n].State == "expired" { // its reason has the time
				got[n].Reason = ""
			}
		}
		if !slices.Equal(got, step.want) || requests != step.requests {
			t.Errorf("the flow of %d requests has\n%+v\nwant %d and\n%+v", requests, got, step.requests, step.want)
		}
	}
	if r := i.control("GET", "flows/nonsense", ""); r.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown flow: status %d", r.StatusCode)
	}
}

// Nothing secret is in any page, text, event or answer about flows of every grant.
func TestInspectSecrets(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"rfc6749", "mastodon", "trackmania"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, profile)
			i.must(i.server.openControl())
			i.server.openInspector()
			events := i.events("")
			secrets := []string{"wonderland", "web-secret", "legacy-secret", "rs-secret", verifier}
			keep := func(r *reply) {
				for _, name := range []string{"access_token", "refresh_token"} {
					if text, _ := r.json[name].(string); text != "" {
						secrets = append(secrets, text)
					}
				}
			}
			code := i.plainCode("web")
			secrets = append(secrets, code)
			r := i.post(i.endpoint("token"), plainExchange("web", code))
			keep(r)
			access, _ := r.json["access_token"].(string)
			refresh, _ := r.json["refresh_token"].(string)
			keep(i.refresh("web", refresh))
			keep(i.refresh("web", refresh))
			i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access, "Referer", "https://cb.example/cb?code="+code)
			i.get("/" + code + "/" + access)
			keep(i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})))
			keep(i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}})))
			if i.server.profile.paths("revoke") != nil {
				i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {access}}))
			}
			b := i.as("alice")
			for _, c := range b.client.Jar.Cookies(must(url.Parse(i.URL))) {
				secrets = append(secrets, c.Value)
			}
			b.get("/account/applications")
			i.get(i.endpoint("authorize"))

			shown := i.get("/inspect").body + i.mustControl("GET", "requests", "").body
			links := regexp.MustCompile(`href="(/inspect/[^"]*)"`).FindAllStringSubmatch(shown, -1)
			for _, link := range links {
				shown += i.get(link[1]).body + i.get(link[1]+".txt").body + i.control("GET", "flows/"+strings.TrimPrefix(link[1], "/inspect/"), "").body
			}
			if len(links) < 4 {
				t.Errorf("%d flows are listed", len(links))
			}
			shown += events.until(t, fmt.Sprintf("id: %d\n", i.latest().ID))
			for _, secret := range secrets {
				for _, form := range formsOf(secret) {
					if strings.Contains(shown, form) || strings.Contains(shown, html.EscapeString(form)) {
						t.Errorf("%s of %s is shown", form, secret)
					}
				}
			}
		})
	}
}

// stream is an open stream of events.
type stream struct {
	io.Closer
	lines *bufio.Scanner
}

func (i *instance) events(query string, header ...string) *stream {
	i.Helper()
	ctx, cancel := context.WithTimeout(i.Context(), patience)
	i.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", i.URL+"/inspect/events"+query, nil)
	i.must(err)
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	res, err := http.DefaultClient.Do(r)
	i.must(err)
	i.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		i.Fatalf("status %d, %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	s := &stream{res.Body, bufio.NewScanner(res.Body)}
	s.lines.Scan() // it has begun
	return s
}

// until reads up to a line.
func (s *stream) until(t *testing.T, line string) string {
	t.Helper()
	var b strings.Builder
	for s.lines.Scan() {
		b.WriteString(s.lines.Text() + "\n")
		if strings.HasSuffix(b.String(), line) {
			return b.String()
		}
	}
	t.Fatalf("the stream ended with %v after %s", s.lines.Err(), b.String())
	return ""
}

// One event for each exchange, from the one after the one that is known.
func TestInspectEvents(t *testing.T) {
	t.Parallel()
	i := startInspected(t)
	i.get(i.endpoint("metadata"))
	live, again := i.events(""), i.events("?after=9", "Last-Event-ID", "0")
	i.own("web")
	data := `data: {"id":2,"flow":"` + i.flowOf() + `","endpoint":"token","method":"POST","path":"/oauth/token","client_id":"web","status":200,"error":"","reason":""}` + "\n"
	if got := live.until(t, data); !strings.HasSuffix(got, "id: 2\nevent: exchange\n"+data) || strings.Contains(got, "id: 1\n") {
		t.Errorf("the stream has %s", got)
	}
	if got := again.until(t, data); !strings.Contains(got, "id: 1\n") {
		t.Errorf("after the first: %s", got)
	}
	if r := i.browser().do("HEAD", "/inspect/events", ""); r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: status %d, %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
	i.get("/inspect")
	i.mustControl("POST", "reset", "")
	if rest, err := io.ReadAll(live.Closer.(io.Reader)); err != nil || strings.Contains(string(rest), "event:") {
		t.Errorf("at a reset it ends with %v: %s", err, rest)
	}
}

// 200 open streams cost bounded memory and end when the server stops; there is no
// place for one more. TestInspectStreams has no others beside it: it measures the
// whole process.
func TestInspectStreams(t *testing.T) {
	i := startInspected(t)
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse)
	}
	before := heap()
	var streams []*stream
	for range maxStreams {
		streams = append(streams, i.events(""))
	}
	if grown := heap() - before; grown > 20<<20 {
		t.Errorf("%d streams cost %d KiB each, with their clients", maxStreams, grown/maxStreams>>10)
	}
	if r, err := http.Get(i.URL + "/inspect/events"); err != nil || r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %v, %v", r, err)
	}
	i.own("web")
	id := fmt.Sprintf("id: %d\n", i.latest().ID)
	for _, s := range streams {
		s.until(t, id)
	}
	i.server.eras.end()
	for _, s := range streams {
		io.Copy(io.Discard, s.Closer.(io.Reader)) // ends
	}
	i.server.eras.begin()
	i.events("")
}

// A foreign Host or Origin gets nothing, and without the inspector nobody does.
func TestInspectGuard(t *testing.T) {
	t.Parallel()
	i := startInspected(t)
	i.tokens("web")
	paths := []string{"/inspect", "/inspect/" + i.flowOf(), "/inspect/" + i.flowOf() + ".txt", "/inspect/events", "/inspect/x1"}
	for _, path := range paths {
		for _, header := range [][]string{{"Host", "evil.example"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
			r := i.get(path, header...)
			if r.StatusCode != http.StatusForbidden || strings.Contains(r.body, "oauth/token") || r.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s with %s: status %d: %s", path, header, r.StatusCode, r.body)
			}
		}
	}
	i.get("/inspect", "Sec-Fetch-Site", "none", "Host", "grantling:1")
	if policy := i.get("/inspect").Header.Get("Content-Security-Policy"); !strings.HasSuffix(policy, "; connect-src 'self'") {
		t.Errorf("the policy is %s", policy)
	}
	if policy := i.get("/").Header.Get("Content-Security-Policy"); strings.Contains(policy, "connect-src") {
		t.Errorf("the policy of the start page is %s", policy)
	}
	off := startControlled(t)
	for _, path := range paths {
		if r := off.get(path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s without the inspector: status %d", path, r.StatusCode)
		}
	}
}

// The inspector is on where address and issuer are loopback, or as the flag says.
func TestInspectFlag(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args string
		want bool
	}{
		{"", true},
		{"-addr=localhost:0", true},
		{"-issuer=http://localhost:9", true},
		{"-issuer=https://auth.example", false},
		{"-addr=0.0.0.0:0", false},
		{"-inspect=false", false},
		{"-inspect=0", false},
		{"-addr=0.0.0.0:0 -inspect", true},
		{"-issuer=https://auth.example -inspect=true", true},
	} {
		o, err := parseOptions(strings.Fields(row.args), func(string) string { return "" }, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		s := &server{loopback: isLoopback(hostOf(o.addr))}
		if err := s.setIssuer(cmp.Or(o.issuer, "http://"+o.addr)); err != nil {
			t.Fatal(err)
		}
		if got := *cmp.Or(o.inspect, new(s.isLocal())); got != row.want {
			t.Errorf("%s: the inspector is on: %v", row.args, got)
		}
	}
	if _, err := parseOptions([]string{"-inspect=maybe"}, func(string) string { return "" }, io.Discard); err == nil {
		t.Error("-inspect=maybe is taken")
	}
}

// Every warning has its habit, and every parameter that some endpoint knows its meaning.
func TestInspectTexts(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("record.go")
	if err != nil {
		t.Fatal(err)
	}
	warnings := regexp.MustCompile(`add\(.*, "([^"]+)"\)`).FindAllStringSubmatch(string(source), -1)
	if len(warnings) != len(inspectTexts.Habits) {
		t.Errorf("%d warnings, %d habits", len(warnings), len(inspectTexts.Habits))
	}
	for _, w := range warnings {
		if !slices.ContainsFunc(inspectTexts.Habits, func(h habit) bool { return h.Warning == w[1] && h.Text != "" && h.Badge != "" && h.Rule.Link() != "" }) {
			t.Errorf("%s has no habit", w[1])
		}
	}
	for name := range isParameter {
		if !slices.ContainsFunc(inspectTexts.Parameters, func(p meaning) bool { return p.Name == name && p.Meaning != "" }) {
			t.Errorf("%s has no meaning", name)
		}
	}
}

// stuckReader takes the beginning of a stream and then nothing.
type stuckReader struct {
	*httptest.ResponseRecorder
	deadline time.Time
	writes   int
}

func (w *stuckReader) SetReadDeadline(time.Time) error { return nil }

func (w *stuckReader) SetWriteDeadline(deadline time.Time) error {
	w.deadline = deadline
	return nil
}

func (w *stuckReader) Write(b []byte) (int, error) {
	if w.writes++; w.writes > 1 {
		return 0, os.ErrDeadlineExceeded
	}
	return w.ResponseRecorder.Write(b)
}

// TestStuckReader: who does not read a stream of events is dropped at the end of
// the time that a write may take.
func TestStuckReader(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.server.openInspector()
	w := &stuckReader{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("GET", i.URL+"/inspect/events?after=0", nil)
	r.RemoteAddr = "127.0.0.1:1"
	i.get("/oauth/authorize") // something to tell
	began := time.Now()
	i.mustEnd("the stream", func() error { i.server.ServeHTTP(w, r); return nil })
	if w.writes != 2 || w.deadline.After(time.Now().Add(slowestWrite)) || w.deadline.Before(began) {
		t.Errorf("%d writes, a deadline after %s", w.writes, w.deadline.Sub(began))
	}
	i.events("").Close() // its place is free again
}
