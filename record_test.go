package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// record is one exchange as the control API tells it.
type record struct {
	ID               int            `json:"id"`
	Time             time.Time      `json:"time"`
	Endpoint         string         `json:"endpoint"`
	Method           string         `json:"method"`
	Path             string         `json:"path"`
	Params           map[string]any `json:"params"`
	ClientID         string         `json:"client_id"`
	GrantType        string         `json:"grant_type"`
	Username         string         `json:"username"`
	Status           int            `json:"status"`
	Error            string         `json:"error"`
	ErrorDescription string         `json:"error_description"`
	Section          string         `json:"section"`
	Fault            string         `json:"fault"`
	Duration         float64        `json:"duration_ms"`
	Flow             string         `json:"flow"`
	Warnings         []string       `json:"warnings"`
}

// records asks for the log.
func (i *instance) records(query string) []record {
	i.Helper()
	var all []record
	if err := json.Unmarshal([]byte(i.mustControl("GET", "requests?"+query, "").body), &all); err != nil {
		i.Fatal(err)
	}
	return all
}

// latest is the last exchange.
func (i *instance) latest() record {
	i.Helper()
	var r record
	if err := json.Unmarshal([]byte(i.mustControl("GET", "requests/latest", "").body), &r); err != nil {
		i.Fatal(err)
	}
	return r
}

func TestRequests(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	if all := i.mustControl("GET", "requests", "").body; all != "[]\n" {
		t.Errorf("at the start: %s", all)
	}
	if r := i.control("GET", "requests/latest", ""); r.StatusCode != http.StatusNotFound || r.json["error"] == nil {
		t.Errorf("the latest of none: status %d: %s", r.StatusCode, r.body)
	}
	i.mustControl("POST", "clock", `{"set":"2030-01-01T00:00:00Z"}`)
	back := i.decideURL(authorization("web"), "alice", "approve").redirectTo()
	access, refresh := i.post(i.endpoint("token"), exchangeOf("web", back.Get("code"))).wantToken()
	i.refresh("web", refresh).wantToken()
	i.refresh("web", refresh).wantError(400, "invalid_grant")
	i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
	i.introspect(access)
	i.get("/login")
	i.get("/nowhere?a=b")
	i.get("/healthz")
	i.get("/style.css")

	type row struct {
		endpoint, method, path, client, grant, username string
		status                                          int
		error, section                                  string
	}
	var got []row
	all := i.records("")
	for n, r := range all {
		got = append(got, row{r.Endpoint, r.Method, r.Path, r.ClientID, r.GrantType, r.Username, r.Status, r.Error, r.Section})
		if r.ID != n+1 || r.Time.Format("2006-01-02 15:04") != "2030-01-01 00:00" || r.Duration < 0 || r.Duration > 10_000 || r.Warnings == nil || r.Params == nil {
			t.Errorf("%+v", r)
		}
		if (r.Error == "") != (r.ErrorDescription == "") {
			t.Errorf("error_description is %q", r.ErrorDescription)
		}
	}
	want := []row{
		{"authorize", "GET", "/oauth/authorize", "web", "", "alice", 303, "", ""},
		{"token", "POST", "/oauth/token", "web", "authorization_code", "alice", 200, "", ""},
		{"token", "POST", "/oauth/token", "web", "refresh_token", "alice", 200, "", ""},
		{"token", "POST", "/oauth/token", "web", "refresh_token", "", 400, "invalid_grant", "RFC 9700 §4.14.2"},
		{"userinfo", "GET", "/userinfo", "web", "", "", 401, "invalid_token", "RFC 6750 §3.1"},
		{"introspect", "POST", "/oauth/introspect", "rs", "", "", 200, "", ""},
		{"", "GET", "/login", "", "", "", 200, "", ""},
		{"", "GET", "/nowhere", "", "", "", 404, "not_found", "RFC 9110 §15.5.5"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%v\nwant\n%v", got, want)
	}
	if p := fmt.Sprint(all[0].Params); p != "map[client_id:web code_challenge:"+challengeOf(verifier)+" code_challenge_method:S256 redirect_uri:https://cb.example/cb response_type:code scope:read write state:xyz]" {
		t.Errorf("params of the authorization request: %s", p)
	}
	if fmt.Sprint(all[7].Params) != "map[a:b]" {
		t.Errorf("params of an unknown page: %v", all[7].Params)
	}

	for query, want := range map[string][]int{
		"endpoint=token":                  {2, 3, 4},
		"client_id=rs":                    {6},
		"after=6":                         {7, 8},
		"endpoint=token&client_id=web":    {2, 3, 4},
		"endpoint=token&after=3":          {4},
		"endpoint=revoke":                 {},
		"client_id=nobody":                {},
		"endpoint=&client_id=":            {1, 2, 3, 4, 5, 6, 7, 8},
		"endpoint=authorize&wait=10s":     {1},
		"endpoint=revoke&wait=10ms":       {},
		"client_id=web&endpoint=userinfo": {5},
	} {
		ids := []int{}
		for _, r := range i.records(query) {
			ids = append(ids, r.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("?%s: %v, want %v", query, ids, want)
		}
	}
	if r := i.mustControl("GET", "requests/latest?endpoint=token", ""); r.json["id"] != 4.0 {
		t.Errorf("the latest of token: %s", r.body)
	}
	for query, member := range map[string]string{
		"endpoint=tokens": "endpoint", "after=x": "after", "wait=soon": "wait", "wait=31s": "wait", "wait=-1s": "wait", "client=web": "client", "%zz": "query",
	} {
		i.control("GET", "requests?"+query, "").wantProblem(member)
	}

	i.mustControl("DELETE", "requests", "")
	i.get("/login")
	if all := i.records(""); len(all) != 1 || all[0].ID != 9 {
		t.Errorf("after they were forgotten: %+v", all)
	}
}

// A record has the words that were answered, and the rule behind them.
func TestRequestsWords(t *testing.T) {
	t.Parallel()
	const invalid = "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed."
	for _, row := range []struct {
		profile, name               string
		do                          func(i *instance)
		code, description, rule, in string // in: of the log on standard error
	}{
		{"trackmania", "used code", func(i *instance) {
			form := plainExchange("web", i.plainCode("web"))
			i.post(i.endpoint("token"), form)
			i.post(i.endpoint("token"), form)
		}, "invalid_request", invalid, "RFC 6749 §4.1.2", `error=invalid_request error_description="` + invalid + `" section="RFC 6749 §4.1.2"`},
		{"trackmania", "unknown client", func(i *instance) {
			i.get(i.endpoint("authorize") + "?response_type=code&client_id=nobody")
		}, "invalid_client", "Client authentication failed", "RFC 6749 §4.1.2.1", `error=invalid_client error_description="Client authentication failed"`},
		{"trackmania", "denied in a redirect", func(i *instance) {
			i.decideURL(url.Values{"response_type": {"code"}, "client_id": {"web"}, "state": {"x"}}, "alice", "deny")
		}, "access_denied", "The resource owner or authorization server denied the request.", "RFC 6749 §4.1.2.1", "error=access_denied"},
		{"mastodon", "all in error", func(i *instance) {
			i.get(i.endpoint("userinfo"), "Authorization", "Bearer x")
		}, "The access token is invalid", "", "RFC 6750 §3.1", `error="The access token is invalid" section="RFC 6750 §3.1"`},
		{"sharesight", "the description elsewhere", func(i *instance) {
			i.get(i.endpoint("userinfo"), "Authorization", "Bearer x")
		}, "invalid_token", "The OAuth signature can't be verified.", "RFC 6750 §3.1", `error_description="The OAuth signature can't be verified."`},
		{"figshare", "both elsewhere", func(i *instance) {
			i.get(i.endpoint("userinfo"), "Authorization", "Bearer x")
		}, "invalid_token", "this server does not know the access token", "RFC 6750 §3.1", "error=invalid_token"},
		{"trackmania", "staged", func(i *instance) {
			i.fail(`{"endpoint":"token","name":"already_used_code"}`)
			i.post(i.endpoint("token"), url.Values{"grant_type": {"authorization_code"}})
		}, "invalid_request", invalid, "RFC 6749 §4.1.2", "error=invalid_request"},
		{"rfc6749", "page", func(i *instance) {
			i.get(i.endpoint("authorize") + "?response_type=code")
		}, "invalid_request", "client_id is missing", "RFC 6749 §4.1.1", `error_description="client_id is missing"`},
		{"rfc6749", "nothing wrong", func(i *instance) { i.own("web") }, "", "", "", "grant_type=client_credentials"},
	} {
		t.Run("R207 "+row.profile+" "+row.name, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, row.profile)
			i.must(i.server.openControl())
			row.do(i)
			if r := i.latest(); r.Error != row.code || r.ErrorDescription != row.description || r.Section != row.rule {
				t.Errorf("the record has %q, %q, %q\nwant %q, %q, %q", r.Error, r.ErrorDescription, r.Section, row.code, row.description, row.rule)
			}
			if !strings.Contains(i.log.String(), row.in) {
				t.Errorf("%s is not in the log: %s", row.in, i.log)
			}
		})
	}
}

// What a request has of secrets is nowhere in its record.
func TestRequestsSecrets(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	code := i.code("web")
	access, refresh := i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
	i.refresh("web", refresh)
	i.get(i.endpoint("userinfo")+"?access_token="+access, "Authorization", "Bearer "+access)
	i.introspect(access)
	i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {refresh}}))
	i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}))
	i.post(i.endpoint("token")+"?client_secret=web-secret&password=wonderland", url.Values{"client_secret": {"web-secret", "legacy-secret"}, "code": {code + "x", "wonderland"}})
	i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}}, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("web:web-secret")))
	i.as("bob").approve(authorization("web"))

	told := i.mustControl("GET", "requests", "").body + i.log.String()
	for _, secret := range []string{"wonderland", "builder", "web-secret", "legacy-secret", "rs-secret", verifier, code, access, refresh} {
		if strings.Contains(told, secret) || strings.Contains(told, secret[len(secret)/2:]) && len(secret) == 43 {
			t.Errorf("the log has %s", secret)
		}
	}
	id, _ := parseCredential(code)
	exchange := i.records("endpoint=token")[0]
	if exchange.Params["code"] != id.id.String()+"…" || exchange.Params["client_secret"] != "…" || exchange.Params["code_verifier"] != "…" {
		t.Errorf("params of the exchange: %v", exchange.Params)
	}
	id, _ = parseCredential(refresh)
	if revocation := i.records("endpoint=revoke")[0]; revocation.Params["token"] != id.id.String()+"…" {
		t.Errorf("params of the revocation: %v", revocation.Params)
	}
	repeated := i.records("endpoint=token")[3]
	if fmt.Sprint(repeated.Params) != "map[client_secret:[… … …] code:[… …] password:…]" {
		t.Errorf("params of the malformed request: %v", repeated.Params)
	}
}

// Nor under names in capitals, nor in the authorization request that a form
// carries, nor in a way in that only one service has.
func TestRequestsHiddenSecrets(t *testing.T) {
	t.Parallel()
	i := startProfile(t, "mastodon")
	i.must(i.server.openControl())
	access, _ := i.plainTokens("web")
	id, _ := parseCredential(access)
	shown := id.id.String() + "…"
	for _, row := range []struct{ query, want string }{
		{"Client_Secret=hidden&PASSWORD=hidden&Form_Token=hidden", "map[Client_Secret:… Form_Token:… PASSWORD:…]"},
		{"bearer_token=" + access, "map[bearer_token:" + shown + "]"},
		{"Access_Token=" + access, "map[Access_Token:" + shown + "]"},
		{url.Values{"continue": {"/oauth/authorize?" + url.Values{"client_id": {"web"}, "client_secret": {"hidden"}, "access_token": {access}}.Encode()}}.Encode(),
			"map[continue:/oauth/authorize?" + url.Values{"client_id": {"web"}, "client_secret": {"…"}, "access_token": {shown}}.Encode() + "]"},
		{url.Values{"request": {url.Values{"client_id": {"web"}, "code": {"hidden"}, "state": {"xyz"}}.Encode()}}.Encode(),
			"map[request:" + url.Values{"client_id": {"web"}, "code": {"…"}, "state": {"xyz"}}.Encode() + "]"},
		{url.Values{"continue": {"/?password=hidden"}}.Encode(), "map[continue:/?password=%E2%80%A6]"},
		{url.Values{"continue": {"/?client_id=web&password=hidden&x=%zz"}}.Encode(), "map[continue:/?client_id=web&password=%E2%80%A6]"},
		{url.Values{"continue": {"/login?continue=%2F%3Fpassword%3Dhidden"}}.Encode(), "map[continue:/login?continue=%2F%3Fpassword%3D%25E2%2580%25A6]"},
		{"subject_token=hidden&id_token_hint=hidden&requested_token_type=x", "map[id_token_hint:… requested_token_type:x subject_token:…]"},
		{"passphrase=hidden&User_Pwd=hidden", "map[User_Pwd:… passphrase:…]"},
		{url.Values{"redirect_uri": {"http://127.0.0.1/cb?a=b&client_secret=hidden#password=hidden"}}.Encode(), "map[redirect_uri:http://127.0.0.1/cb?a=b&client_secret=…#password=…]"},
		{url.Values{"redirect_uri": {"https://cb.example/a%20b?x=é&y=%2F#z"}}.Encode(), "map[redirect_uri:https://cb.example/a%20b?x=é&y=%2F#z]"},
		{"continue=/account/applications&request=a.b.c", "map[continue:/account/applications request:a.b.c]"},
	} {
		i.get("/?" + row.query)
		if got := fmt.Sprint(i.latest().Params); got != row.want {
			t.Errorf("%s\nis shown as %s\nwant        %s", row.query, got, row.want)
		}
	}
	for path, want := range map[string]string{
		"/nowhere&client_secret=hidden&a=b":          "/nowhere&client_secret=…&a=b",
		"/nowhere;a=b&password=hidden":               "/nowhere;a=b&password=…",
		"/nowhere%3fcode=hidden":                     "/nowhere%3fcode=…",
		"/nowhere/" + access:                         "/nowhere/" + shown,
		"/nowhere%3Fstate=a%20b&access_token=hidden": "/nowhere%3Fstate=a%20b&access_token=…",
	} {
		if i.get(path); i.latest().Path != want {
			t.Errorf("%s\nis shown as %s\nwant        %s", path, i.latest().Path, want)
		}
	}
}

// TestMask: what else could be secret in a message.
func TestMask(t *testing.T) {
	t.Parallel()
	p, err := loadProfile("rfc6749")
	if err != nil {
		t.Fatal(err)
	}
	m := masker{profile: p}
	for _, row := range []struct{ contentType, body, want string }{
		{"application/json", `{"client_secret":{"a":"hidden"},"password":["hidden",{"x":"hidden"}],"code":{"x":"hidden"},"a":{"b":["c"]}}`, `{"client_secret":"…","password":["…","…"],"code":"…","a":{"b":["c"]}}`},
		{"application/x-www-form-urlencoded", "client_id=web;client_secret=hidden&a=b", "…&a=b"},
		{"application/x-www-form-urlencoded", "redirect_uri=http://a.example/%3Fpassword=hidden&a=b", "redirect_uri=http%3A%2F%2Fa.example%2F%3Fpassword%3D…&a=b"},
	} {
		if got := m.body(row.contentType, row.body); got != row.want {
			t.Errorf("%s\nis shown as %s\nwant        %s", row.body, got, row.want)
		}
	}
	for _, name := range []string{"X-Auth", "X-Client-Pass", "X-Api-Key", "Db-Pwd"} {
		if got := m.headerValue(name, "hidden"); got != "…" {
			t.Errorf("%s is shown as %s", name, got)
		}
	}
}

// R177: the log keeps 100 parameters of a request, and 2048 bytes of each.
func TestRequestsBounds(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	form := url.Values{
		"a":                       {strings.Repeat("é", 1200)},
		strings.Repeat("b", 3000): {strings.Repeat("v", 2048)},
		"continue":                {"/oauth/authorize?client_id=web&state=" + strings.Repeat("%26", 1000)},
		"Request":                 {strings.Repeat("request=", 1000)},
	}
	for n := range 150 {
		form[fmt.Sprintf("p%03d", n)] = []string{"", "x"}
	}
	i.post("/login", form)
	got := i.latest().Params
	if i.get("/" + strings.Repeat("a", 3000)); len(i.latest().Path) != 2048+len("…") {
		t.Errorf("a path of %d bytes is kept", len(i.latest().Path))
	}
	n := 0
	for name, value := range got {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		n += len(values)
		for _, value := range values {
			if value := value.(string); len(name) > 2051 || len(value) > 2051 || !utf8.ValidString(value) {
				t.Errorf("%.10s…: %d bytes with a name of %d", name, len(value), len(name))
			}
		}
	}
	if n != 100 || got["a"] != strings.Repeat("é", 1024)+"…" || got[strings.Repeat("b", 2048)+"…"] != strings.Repeat("v", 2048) ||
		fmt.Sprint(got["p047"]) != "[ x]" || got["p048"] != nil {
		t.Errorf("%d parameters are kept: %.300v", n, got)
	}
}

// TestRequestsMemory has no others beside it: it measures the whole process.
func TestRequestsMemory(t *testing.T) {
	i := startControlled(t)
	long := strings.Repeat("x", 630)
	var many strings.Builder
	for n := range 100 {
		fmt.Fprintf(&many, "p%d=%s&", n, long)
	}
	pad := "&x=" + strings.Repeat("y", 62<<10)
	kinds := []struct{ method, target, body string }{
		{"POST", "/oauth/token", many.String()},
		{"POST", "/oauth/token", "grant_type=client_credentials&client_id=web&client_secret=web-secret&scope=steal" + pad},
		{"POST", "/oauth/authorize", "response_type=code&client_id=native&redirect_uri=http://127.0.0.1:4711/cb" + pad[:20<<10]},
		{"GET", "/nowhere?code=" + newCredential().text + pad, ""},
		{"LOOK" + strings.Repeat("K", 63<<10), "/nowhere", ""},
	}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first leaves what pools hold
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	// do sends requests as net/http reads them: what is in the first line shares its memory.
	do := func(requests int) {
		var group sync.WaitGroup
		for first := range 2 {
			group.Go(func() {
				for n := first; n < requests; n += 2 {
					kind := kinds[n%len(kinds)]
					raw := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", kind.method, kind.target, len(kind.body), kind.body)
					r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
					if err != nil {
						t.Error(err)
						return
					}
					i.server.ServeHTTP(httptest.NewRecorder(), r)
				}
			})
		}
		group.Wait()
	}
	i.server.log = slog.New(slog.DiscardHandler)
	do(len(kinds))
	before := heap()
	t.Run("R185 5,000 requests of 63 KB", func(t *testing.T) {
		do(5000)
		if grown := heap() - before; grown > 32<<20 {
			t.Errorf("the heap has grown by %d MiB", grown>>20)
		}
		all := i.records("")
		if first, last := all[0].ID, all[len(all)-1].ID; last != 5005 || len(all) != last-first+1 || len(all) < 500 || len(all) > 1000 {
			t.Errorf("%d are kept, from %d to %d", len(all), first, last)
		}
	})
	t.Run("R185 codes everywhere", func(t *testing.T) {
		r := httptest.NewRequest("GET", "http://127.0.0.1/nowhere", nil)
		for range 9 {
			var codes strings.Builder
			for range 99 {
				codes.WriteString("&code=" + newCredential().text)
			}
			r.Header.Add("Referer", "/?"+codes.String()[1:])
		}
		i.server.ServeHTTP(httptest.NewRecorder(), r)
		if l := i.server.eras.now().requests.kept; len(l[len(l)-1].ids) != maxShown || l[len(l)-1].size < 1024+256*maxShown {
			t.Errorf("%d ids, %d bytes", len(l[len(l)-1].ids), l[len(l)-1].size)
		}
	})
	t.Run("R185 large records", func(t *testing.T) {
		kinds = kinds[:1]
		do(300)
		if grown := heap() - before; grown > 32<<20 {
			t.Errorf("the heap has grown by %d MiB", grown>>20)
		}
		if n := len(i.records("")); n < 100 || n > 16<<20/(100*630) {
			t.Errorf("%d are kept", n)
		}
	})
}

func TestRequestsRing(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	b := i.browser()
	for range maxRequests + 5 {
		b.get("/login")
	}
	if all := i.records(""); len(all) != maxRequests || all[0].ID != 6 || all[len(all)-1].ID != maxRequests+5 {
		t.Errorf("%d are kept, from %d to %d", len(all), all[0].ID, all[len(all)-1].ID)
	}
}

func TestRequestsWait(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	i.get(i.endpoint("metadata"))
	got := make(chan []record, 1)
	waiting := make(chan struct{})
	go func() {
		close(waiting)
		got <- i.records("endpoint=token&wait=20s")
	}()
	<-waiting
	began := time.Now()
	i.get(i.endpoint("metadata"))
	i.post(i.endpoint("token"), url.Values{"grant_type": {"nonsense"}})
	if all := <-got; time.Since(began) > 10*time.Second || len(all) != 1 || all[0].Endpoint != "token" || all[0].Error != "unsupported_grant_type" {
		t.Errorf("waited for %+v", all)
	}
	began = time.Now()
	if all := i.records("endpoint=token&after=3&wait=50ms"); len(all) != 0 || time.Since(began) < 50*time.Millisecond {
		t.Errorf("after %v there are %+v", time.Since(began), all)
	}
}

// A wait ends when its time is over, when a request comes and when the server stops.
func TestRequestsWaitEnds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		do   func(*eras)
		want int // requests
		took time.Duration
	}{
		"time":    {func(*eras) {}, 0, maxWait},
		"request": {func(c *eras) { c.now().requests.add(new(loggedRequest), new(exchange), new(profile)) }, 1, 0},
		"reset":   {(*eras).begin, 0, 0},
		"stop":    {(*eras).end, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := new(eras)
				c.begin()
				began := time.Now()
				picked := make(chan []*loggedRequest)
				go func() {
					ctx, cancel := c.now().until(t.Context(), maxWait)
					defer cancel()
					picked <- c.now().requests.pick(ctx, "", "", 0)
				}()
				synctest.Wait()
				row.do(c)
				if got := len(<-picked); got != row.want || time.Since(began) != row.took {
					t.Errorf("%d requests after %v", got, time.Since(began))
				}
				c.end()
			})
		})
	}
}

// An answer that has been read is in the log.
func TestRequestsOrder(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for m := range 20 {
				state := fmt.Sprint(n, "-", m)
				request := authorization("web")
				request.Set("state", state)
				i.browser().authorize(request)
				found := false
				for _, r := range i.records("endpoint=authorize") {
					found = found || r.Params["state"] == state
				}
				if !found {
					t.Errorf("request %s was answered and is not in the log", state)
				}
			}
		})
	}
	group.Wait()
}

func TestRequestsFlow(t *testing.T) {
	t.Parallel()
	t.Run("in a browser", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		b := i.browser()
		page := b.authorize(authorization("web"))
		signedIn := b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {"wonderland"}}))
		consent := b.get(signedIn.location().String())
		back := b.decide(consent, "approve")
		code := back.param("code")
		access, refresh := i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		_, refresh = i.refresh("web", refresh).wantToken()
		i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
		i.introspect(refresh)
		i.post(i.endpoint("revoke"), withClient("other", url.Values{"token": {refresh}})).wantError(400, "unauthorized_client")
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantError(400, "invalid_grant")
		i.refresh("web", refresh).wantError(400, "invalid_grant")

		flow := i.records("")[0].Flow
		if flow == "" {
			t.Error("the authorization request has no flow")
		}
		for _, r := range i.records("") {
			if r.Flow != flow {
				t.Errorf("%s %s %s has flow %s, want %s", r.Method, r.Path, r.Error, r.Flow, flow)
			}
		}
	})
	t.Run("with prompt login, by POST", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		b := i.as("alice")
		i.mustControl("DELETE", "requests", "")
		request := authorization("web")
		request.Set("prompt", "login")
		posted := b.post(i.endpoint("authorize"), request)
		page := b.get(posted.location().String())
		again := b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {"wonderland"}}))
		b.decide(b.get(again.location().String()), "deny")
		all := i.records("endpoint=authorize")
		for _, r := range all {
			if r.Flow == "" || r.Flow != all[0].Flow {
				t.Errorf("%s %s has flow %q, want %q", r.Method, r.Path, r.Flow, all[0].Flow)
			}
		}
		if len(all) != 4 || all[3].Error != "access_denied" {
			t.Errorf("the log has %+v", all)
		}
	})
	t.Run("others have others", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for range 2 {
			i.decideURL(authorization("web"), "alice", "approve") // the same request anew
		}
		i.decideURL(authorization("web"), "alice", "deny")
		i.decideURL(authorization("web"), "alice", "approve")
		i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}))
		i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}}))
		seen := map[string]bool{}
		for _, r := range i.records("") {
			if r.Flow == "" || seen[r.Flow] {
				t.Errorf("%s %s has flow %q", r.Method, r.Path, r.Flow)
			}
			seen[r.Flow] = true
		}
		i.get(i.endpoint("metadata"))
		i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"nonsense"}}))
		for _, r := range i.records("after=6") {
			if r.Flow != "" {
				t.Errorf("%s %s has a flow", r.Method, r.Path)
			}
		}
	})
	t.Run("of tokens without a request", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		own, _ := i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
		i.introspect(own)
		_, refresh := i.mustControl("POST", "tokens", `{"client_id":"web","username":"alice"}`).wantToken()
		i.refresh("web", refresh)
		i.refresh("web", refresh)
		all := i.records("")
		if all[0].Flow == "" || all[0].Flow != all[1].Flow || all[2].Flow == "" || all[2].Flow != all[3].Flow || all[0].Flow == all[2].Flow {
			t.Errorf("the log has %+v", all)
		}
	})
}

func TestRequestsWarnings(t *testing.T) {
	t.Parallel()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("web:web-secret"))
	good := func() url.Values {
		request := authorization("web")
		request.Set("state", newClientSecret())
		return request
	}
	for _, row := range []struct {
		name string
		send func(i *instance)
		want []string
	}{
		{"a good authorization request", func(i *instance) { i.decideURL(good(), "alice", "approve") }, nil},
		{"the same in a browser, with every page", func(i *instance) {
			b, request := i.browser(), good()
			page := b.authorize(request)
			b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {"wonderland"}}))
			b.authorize(request)
			b.approve(request)
		}, nil},
		{"a good exchange", func(i *instance) {
			form := exchangeOf("web", i.decideURL(good(), "alice", "approve").redirectTo().Get("code"))
			form.Del("client_secret")
			i.post(i.endpoint("token"), form, "Authorization", basic).wantToken()
		}, nil},
		{"a public client's exchange", func(i *instance) {
			request := authorization("native")
			i.post(i.endpoint("token"), exchangeOf("native", i.decideURL(request, "alice", "approve").redirectTo().Get("code"))).wantToken()
		}, nil},
		{"no state", func(i *instance) {
			request := good()
			request.Del("state")
			i.decideURL(request, "alice", "approve")
		}, []string{"no state"}},
		{"same state twice", func(i *instance) {
			request := good()
			i.decideURL(request, "alice", "approve")
			i.decideURL(request, "alice", "approve")
		}, []string{"same state twice"}},
		{"same state in a different request", func(i *instance) {
			request := good()
			i.decideURL(request, "alice", "approve")
			request.Set("scope", "read")
			i.decideURL(request, "alice", "approve")
		}, []string{"same state twice"}},
		{"another client's state", func(i *instance) {
			request := authorization("other")
			i.decideURL(request, "alice", "approve")
			i.decideURL(authorization("web"), "alice", "approve")
		}, nil},
		{"PKCE missing", func(i *instance) {
			request := good()
			request.Del("code_challenge")
			request.Del("code_challenge_method")
			i.decideURL(request, "alice", "approve")
		}, []string{"PKCE missing"}},
		{"implicit grant", func(i *instance) {
			i.decideURL(url.Values{"client_id": {"legacy"}, "response_type": {"token"}, "state": {"s"}}, "alice", "approve")
		}, []string{"implicit grant"}},
		{"localhost", func(i *instance) {
			i.mustControl("POST", "clients", `{"client_id":"local","client_secret":"s","redirect_uris":["http://localhost/cb"]}`)
			request := good()
			request.Set("client_id", "local")
			request.Set("redirect_uri", "http://localhost:8080/cb")
			request.Del("scope")
			i.decideURL(request, "alice", "approve")
		}, []string{"redirect_uri on localhost instead of 127.0.0.1"}},
		{"localhost, as the only one that is registered", func(i *instance) {
			i.mustControl("POST", "clients", `{"client_id":"local","client_secret":"s","redirect_uris":["http://localhost/cb"]}`)
			request := good()
			request.Set("client_id", "local")
			request.Del("redirect_uri")
			request.Del("scope")
			i.decideURL(request, "alice", "approve")
		}, []string{"redirect_uri on localhost instead of 127.0.0.1"}},
		{"several at once", func(i *instance) {
			i.decideURL(url.Values{"client_id": {"web"}, "response_type": {"code"}}, "alice", "approve")
		}, []string{"no state", "PKCE missing"}},
		{"secret in the body", func(i *instance) {
			i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken()
		}, []string{"secret in the body although Basic is available"}},
		{"secret in the body of a revocation", func(i *instance) {
			i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {"x"}}))
		}, []string{"secret in the body although Basic is available"}},
		{"R197 an empty secret in the body is none", func(i *instance) {
			i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}, "client_id": {"web"}, "client_secret": {""}}, "Authorization", basic).wantToken()
		}, nil},
		{"password grant", func(i *instance) {
			i.post(i.endpoint("token"), url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}, "Authorization",
				"Basic "+base64.StdEncoding.EncodeToString([]byte("legacy:legacy-secret"))).wantToken()
		}, []string{"password grant"}},
		{"what is refused anyway", func(i *instance) {
			i.decideURL(url.Values{"client_id": {"web"}, "response_type": {"token"}}, "alice", "approve")
		}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			i := startControlled(t)
			row.send(i)
			got := []string{}
			for _, r := range i.records("") {
				got = append(got, r.Warnings...)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("warnings %q, want %q", got, row.want)
			}
		})
	}
}
