package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fail stages a fault.
func (i *instance) fail(fault string) (id string) {
	i.Helper()
	id, _ = i.mustControl("POST", "faults", fault).json["id"].(string)
	return id
}

// answer is what a client sees of an answer, or of none.
type answer struct {
	*http.Response
	body string
	err  error // of sending, or of reading the body
	json map[string]any
}

// try sends a request that may fail in any way.
func (i *instance) try(method, target string, form url.Values, header ...string) answer {
	i.Helper()
	request, err := http.NewRequest(method, target, strings.NewReader(form.Encode()))
	if err != nil {
		i.Fatal(err)
	}
	if form == nil {
		request.Body = nil
	} else {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for n := 0; n < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	client := http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{DisableKeepAlives: true}, // which would repeat what a dropped connection did not answer
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{Response: new(http.Response), err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := answer{response, string(body), err, nil}
	json.Unmarshal(body, &a.json)
	return a
}

// strikes waits until the staged fault has taken a request.
func (i *instance) strikes() {
	i.Helper()
	for began := time.Now(); i.mustControl("GET", "faults", "").body != "[]\n"; {
		if time.Since(began) > patience {
			i.Fatal("the fault does not strike")
		}
	}
}

// own asks for a token by client credentials.
func (i *instance) own(clientID string) answer {
	i.Helper()
	return i.try("POST", i.endpoint("token"), withClient(clientID, url.Values{"grant_type": {"client_credentials"}}))
}

func TestFaults(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	i.fail(`{"endpoint":"token","status":503}`)
	i.fail(`{"endpoint":"token","client_id":"other","status":504}`)
	i.fail(`{"endpoint":"token","times":2,"status":500}`)
	i.fail(`{"endpoint":"revoke","status":501}`)
	if staged := i.mustControl("GET", "faults", "").body; staged != `[{"id":"1","endpoint":"token","times":1,"status":503},`+
		`{"id":"2","endpoint":"token","client_id":"other","times":1,"status":504},`+
		`{"id":"3","endpoint":"token","times":2,"status":500},{"id":"4","endpoint":"revoke","times":1,"status":501}]`+"\n" {
		t.Errorf("staged: %s", staged)
	}
	var got []string
	for _, client := range []string{"web", "web", "other", "web", "web", "other"} {
		r := i.own(client)
		got = append(got, fmt.Sprint(client, " ", r.StatusCode, " ", r.Header.Get("Grantling-Fault")))
	}
	if want := []string{"web 503 1", "web 500 3", "other 504 2", "web 500 3", "web 200 ", "other 200 "}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
	all := i.records("endpoint=token")
	if all[0].Fault != "1" || all[0].Status != 503 || all[1].Fault != "3" || all[4].Fault != "" {
		t.Errorf("the log has %+v", all)
	}
	if left := i.mustControl("GET", "faults", "").body; left != `[{"id":"4","endpoint":"revoke","times":1,"status":501}]`+"\n" {
		t.Errorf("left: %s", left)
	}

	i.fail(`{"endpoint":"token","times":0,"status":503}`)
	for range 3 {
		if r := i.own("web"); r.StatusCode != 503 {
			t.Errorf("until cleared: status %d", r.StatusCode)
		}
	}
	i.mustControl("DELETE", "faults", "")
	if r := i.own("web"); r.StatusCode != 200 {
		t.Errorf("cleared: status %d", r.StatusCode)
	}
	if id := i.fail(`{"endpoint":"token"}`); id != "6" {
		t.Errorf("id %s", id)
	}
	if r := i.own("web"); r.StatusCode != 200 || r.Header.Get("Grantling-Fault") != "6" || r.Header.Get("Access-Control-Expose-Headers") != "WWW-Authenticate, Retry-After, Grantling-Fault" {
		t.Errorf("a fault without a failure: %d %v", r.StatusCode, r.Header)
	}

	for fault, member := range map[string]string{
		`{}`:                                     "endpoint",
		`{"status":503}`:                         "endpoint",
		`{"endpoint":"tokens"}`:                  "endpoint",
		`{"endpoint":"oob"}`:                     "endpoint",
		`{"endpoint":"token","name":"nonsense"}`: "name",
		`{"endpoint":"token","name":"wrong_state"}`:                   "endpoint",
		`{"endpoint":"authorize","name":"expired_code"}`:              "endpoint",
		`{"endpoint":"token","times":-1}`:                             "times",
		`{"endpoint":"token","times":"2"}`:                            "times",
		`{"endpoint":"token","percent":0}`:                            "percent",
		`{"endpoint":"token","percent":101}`:                          "percent",
		`{"endpoint":"token","seed":1}`:                               "seed",
		`{"endpoint":"token","delay":"2"}`:                            "delay",
		`{"endpoint":"token","delay":2}`:                              "delay",
		`{"endpoint":"token","delay":"-2s"}`:                          "delay",
		`{"endpoint":"token","delay":"2h"}`:                           "delay",
		`{"endpoint":"token","status":100}`:                           "status",
		`{"endpoint":"token","status":600}`:                           "status",
		`{"endpoint":"token","status":"503"}`:                         "status",
		`{"endpoint":"token","error":"a\"b"}`:                         "error",
		`{"endpoint":"token","error":"é"}`:                            "error",
		`{"endpoint":"token","error":"a","error_description":"a\nb"}`: "error_description",
		`{"endpoint":"token","error_description":"a"}`:                "error_description",
		`{"endpoint":"token","error":"a","body":"b"}`:                 "body",
		`{"name":"rate_limited","error":"a"}`:                         "error",
		`{"name":"rate_limited","body":"a"}`:                          "body",
		`{"endpoint":"token","headers":{"a b":"c"}}`:                  "headers",
		`{"endpoint":"token","headers":{"a":"b\r\nc: d"}}`:            "headers",
		`{"endpoint":"token","headers":["a"]}`:                        "headers",
		`{"endpoint":"token","headers":{"X-A":"1","x-a":"2"}}`:        "headers",
		`{"endpoint":"authorize","name":"truncated_json"}`:            "endpoint",
		`{"name":"html_error","error_description":"a"}`:               "error_description",
		`{"endpoint":"token","latency":"2s"}`:                         "latency",
	} {
		i.control("POST", "faults", fault).wantProblem(member)
	}
	if staged := i.mustControl("GET", "faults", "").body; staged != "[]\n" {
		t.Errorf("what was refused is staged: %s", staged)
	}
}

// A fault strikes as many requests as it says, however many come at once.
func TestFaultsAtOnce(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	i.fail(`{"endpoint":"token","times":10,"status":503}`)
	i.fail(`{"name":"missing_expires_in","times":10}`)
	var mu sync.Mutex
	got := map[string]int{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				r := i.own("web")
				mu.Lock()
				got[fmt.Sprint(r.StatusCode, " ", r.json["expires_in"])]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if want := "map[200 3600:20 200 <nil>:10 503 <nil>:10]"; fmt.Sprint(got) != want {
		t.Errorf("answers %v, want %v", got, want)
	}
}

func TestFaultsPercent(t *testing.T) {
	t.Parallel()
	pattern := func(fault string) (struck string) {
		i := startControlled(t)
		i.fail(fault)
		for range 200 {
			if r := i.get(i.endpoint("metadata")); r.Header.Get("Grantling-Fault") != "" {
				struck += "x"
			} else {
				struck += "."
			}
		}
		return struck
	}
	first := pattern(`{"endpoint":"metadata","percent":20,"seed":18446744073709551615,"status":404}`)
	if again := pattern(`{"endpoint":"metadata","percent":20,"seed":18446744073709551615,"status":404}`); again != first {
		t.Errorf("with the same seed\n%s\n%s", first, again)
	}
	if other := pattern(`{"endpoint":"metadata","percent":20,"seed":8,"status":404}`); other == first {
		t.Errorf("with another seed the same: %s", other)
	}
	if n := strings.Count(first, "x"); n < 20 || n > 60 {
		t.Errorf("20 percent of 200 are %d", n)
	}
	if n := strings.Count(pattern(`{"endpoint":"metadata","percent":20,"times":3,"status":404}`), "x"); n != 3 {
		t.Errorf("with times 3 it struck %d times", n)
	}
	if n := strings.Count(pattern(`{"endpoint":"metadata","percent":100,"status":404}`), "x"); n != 200 {
		t.Errorf("100 percent of 200 are %d", n)
	}
}

// What a fault or a profile adds to the header of an answer.
func TestFaultsHeaders(t *testing.T) {
	t.Parallel()
	const framing = "can only be set by the server, as can all of Connection, Content-Encoding, Content-Length, Keep-Alive, Proxy-Connection, Te, Trailer, Transfer-Encoding, Upgrade (RFC 9112 §6)"
	const malformed = "is not a valid header (RFC 9110 §5)"
	rows := []struct{ header, key, problem string }{
		{`"Content-Length":"3"`, "Content-Length", framing},
		{`"content-length":"0"`, "content-length", framing},
		{`"Transfer-Encoding":"chunked"`, "Transfer-Encoding", framing},
		{`"TRANSFER-ENCODING":"identity"`, "TRANSFER-ENCODING", framing},
		{`"Connection":"close"`, "Connection", framing},
		{`"Proxy-Connection":"close"`, "Proxy-Connection", framing},
		{`"Keep-Alive":"timeout=5"`, "Keep-Alive", framing},
		{`"Trailer":"X-End"`, "Trailer", framing},
		{`"Upgrade":"h2c"`, "Upgrade", framing},
		{`"Trailer:X-End":"1"`, "Trailer:X-End", malformed},
		{`"":"1"`, "", malformed},
		{`"X Y":"1"`, "X Y", malformed},
		{`"X-Y\r\nContent-Length":"0"`, "X-Y\r\nContent-Length", malformed},
		{`"X-Y":"1\r\nContent-Length: 0"`, "X-Y", malformed},
		{`"X-Y":"1\n\n"`, "X-Y", malformed},
		{`"X-Y":"\u0000"`, "X-Y", malformed},
	}
	t.Run("R205 faults", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for _, row := range rows {
			r := i.control("POST", "faults", `{"endpoint":"token","status":503,"headers":{`+row.header+`}}`)
			if want := "headers." + row.key + ": " + row.problem; r.StatusCode != http.StatusBadRequest || r.json["error"] != want {
				t.Errorf("%s: status %d: %s, want %s", row.header, r.StatusCode, r.body, want)
			}
		}
		if left := i.mustControl("GET", "faults", "").body; left != "[]\n" {
			t.Errorf("staged: %s", left)
		}
	})
	t.Run("R205 profiles", func(t *testing.T) {
		t.Parallel()
		data, err := os.ReadFile("testdata/parcels.json")
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for member, old := range map[string]string{"token_headers": `"Content-Type":`, "errors[4].headers": `"WWW-Authenticate":`} {
				_, err := parseProfile("p.json", []byte(strings.Replace(string(data), old, row.header+","+old, 1)))
				if err == nil || !strings.HasSuffix(err.Error(), " "+member+"."+row.key+": "+row.problem) {
					t.Errorf("%s in %s: %v, want %s", row.header, member, err, row.problem)
				}
			}
		}
		challenge := strings.Replace(string(data), `"iss": false`, `"iss": false, "basic_challenge": "Basic\r\nContent-Length: 0"`, 1)
		if _, err := parseProfile("p.json", []byte(challenge)); err == nil || !strings.HasSuffix(err.Error(), "basic_challenge: "+malformed) {
			t.Errorf("a challenge of two lines: %v", err)
		}
	})
}

// The members of a fault, alone and together.
func TestFaultsMembers(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	token := func() answer { return i.own("web") }
	for _, row := range []struct {
		fault  string
		status int // 0: no answer
		header string
		body   string
		cut    bool // the body ends early
	}{
		{`{"endpoint":"token","status":503}`, 503, "Content-Type: text/plain; charset=utf-8", "Service Unavailable\n", false},
		{`{"endpoint":"token","status":204}`, 204, "", "", false},
		{`{"endpoint":"token","body":"{\"a\":1}"}`, 200, "Content-Type: application/json", `{"a":1}`, false},
		{`{"endpoint":"token","body":"<html>"}`, 200, "Content-Type: text/html; charset=utf-8", `<html>`, false},
		{`{"endpoint":"token","body":""}`, 200, "", "", false},
		{`{"endpoint":"token","body":"x","status":418,"headers":{"content-type":"text/x"}}`, 418, "Content-Type: text/x", "x", false},
		{`{"endpoint":"token","status":429,"headers":{"Retry-After":"7"}}`, 429, "Retry-After: 7", "Too Many Requests\n", false},
		{`{"endpoint":"token","error":"slow_down","error_description":"wait a bit"}`, 400, "Cache-Control: no-store", `{"error":"slow_down","error_description":"wait a bit"}` + "\n", false},
		{`{"endpoint":"token","error":"temporarily_unavailable","status":429}`, 429, "Content-Type: application/json", `{"error":"temporarily_unavailable","error_description":"staged by fault 9"}` + "\n", false},
		{`{"endpoint":"token","error":"temporarily_unavailable"}`, 503, "", `{"error":"temporarily_unavailable","error_description":"staged by fault 10"}` + "\n", false},
		{`{"endpoint":"token","error":"server_error","headers":{"Cache-Control":"max-age=60"}}`, 500, "Cache-Control: max-age=60", `{"error":"server_error","error_description":"staged by fault 11"}` + "\n", false},
		{`{"name":"rate_limited","error_description":"wait a bit"}`, 429, "Retry-After: 1", `{"error":"temporarily_unavailable","error_description":"wait a bit"}` + "\n", false},
		{`{"endpoint":"token","drop":true}`, 0, "", "", false},
		{`{"endpoint":"token","drop":true,"body":"{\"acc"}`, 200, "", `{"acc`, true},
		{`{"endpoint":"token","drop":true,"error":"invalid_grant"}`, 400, "", `{"error":"invalid_grant","error_description":"staged by fault 15"}` + "\n", true},
	} {
		i.fail(row.fault)
		r := token()
		name, value, _ := strings.Cut(row.header, ": ")
		if r.StatusCode != row.status || r.body != row.body || r.Header.Get(name) != value || (r.err != nil) != (row.cut || row.status == 0) {
			t.Errorf("%s: status %d, %v, %q, %v", row.fault, r.StatusCode, r.Header, r.body, r.err)
		}
		if last := i.latest(); last.Status != row.status || last.Fault == "" || last.GrantType != "client_credentials" {
			t.Errorf("%s: the log has %+v", row.fault, last)
		}
	}
	if strings.Contains(i.log.String(), "level=ERROR") {
		t.Errorf("the log has failures: %s", i.log)
	}

	i.fail(`{"endpoint":"token","headers":{"X-Extra":"1"}}`)
	if r := token(); r.StatusCode != 200 || r.Header.Get("X-Extra") != "1" || r.json["access_token"] == nil {
		t.Errorf("headers alone: %d %v %s", r.StatusCode, r.Header, r.body)
	}
	for _, row := range []struct {
		fault  string
		status int
	}{
		{`{"endpoint":"token","delay":"150ms"}`, 200},
		{`{"endpoint":"token","delay":"150ms","status":502}`, 502},
		{`{"endpoint":"token","delay":"150ms","drop":true}`, 0},
	} {
		i.fail(row.fault)
		began := time.Now()
		r := token()
		if took := time.Since(began); r.StatusCode != row.status || took < 150*time.Millisecond {
			t.Errorf("%s: status %d after %v", row.fault, r.StatusCode, took)
		}
		if last := i.latest(); last.Duration < 150 {
			t.Errorf("%s: the log has %v ms", row.fault, last.Duration)
		}
	}
}

// Faults that could never strike are refused, and an answer keeps the order of
// its members.
func TestFaultsOfProfiles(t *testing.T) {
	t.Parallel()
	for profile, rows := range map[string]map[string]string{
		"figshare":   {`{"endpoint":"revoke"}`: "endpoint", `{"endpoint":"device_authorization"}`: "endpoint", `{"endpoint":"metadata"}`: "endpoint", `{"name":"wrong_iss"}`: "name"},
		"mastodon":   {`{"name":"missing_expires_in"}`: "name", `{"name":"no_refresh_token"}`: "name"},
		"trackmania": {`{"name":"wrong_iss"}`: "name"},
	} {
		i := startProfile(t, profile)
		if err := i.server.openControl(); err != nil {
			t.Fatal(err)
		}
		for fault, member := range rows {
			i.control("POST", "faults", fault).wantProblem(member)
		}
	}
	i := startControlled(t)
	i.fail(`{"name":"missing_expires_in"}`)
	if r := i.own("web"); !regexp.MustCompile(`\A\{"access_token":"[^"]*","token_type":"Bearer","scope":"read write"\}\n\z`).MatchString(r.body) {
		t.Errorf("without expires_in: %s", r.body)
	}
}

// A reset ends what is delayed, and its record goes with the others.
func TestFaultsReset(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	i.fail(`{"endpoint":"token","delay":"10m"}`)
	delayed := make(chan answer, 1)
	go func() { delayed <- i.own("web") }()
	i.strikes()
	i.mustControl("POST", "reset", "")
	if r := <-delayed; r.StatusCode != 200 {
		t.Errorf("status %d, %v", r.StatusCode, r.err)
	}
	if all := i.records(""); len(all) != 0 {
		t.Errorf("the log has %+v", all)
	}
	i.own("web")
	if last := i.latest(); last.ID != 1 {
		t.Errorf("the log goes on with %+v", last)
	}
}

// A client that gives up does not keep the server busy.
func TestFaultsGivenUp(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	i.fail(`{"endpoint":"token","delay":"10m"}`)
	ctx, giveUp := context.WithCancel(t.Context())
	form := withClient("web", url.Values{"grant_type": {"client_credentials"}})
	request, _ := http.NewRequestWithContext(ctx, "POST", i.endpoint("token"), strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	gone := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(request)
		gone <- err
	}()
	i.strikes()
	i.mustControl("POST", "clock", `{"advance":"1h"}`) // which does not lengthen anything
	giveUp()
	if err := <-gone; err == nil {
		t.Error("the client did not give up")
	}
	if all := i.records("endpoint=token&wait=20s"); len(all) != 1 || all[0].Fault != "1" || all[0].Duration > 60_000 {
		t.Errorf("the log has %+v", all)
	}
}

// Each endpoint says an error in its own way.
func TestFaultsError(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	access, _ := i.tokens("web")
	bearer := []string{"Authorization", "Bearer " + access}
	i.mustControl("POST", "clients", `{"client_id":"cli","client_secret":"s","redirect_uris":["`+outOfBand+`"]}`)
	authorizeURL := func(clientID string, change ...string) string {
		request := authorization(clientID)
		for n := 0; n < len(change); n += 2 {
			request.Set(change[n], change[n+1])
		}
		return i.endpoint("authorize") + "?" + request.Encode()
	}
	for _, endpoint := range []string{"token", "revoke", "introspect", "device_authorization", "metadata"} {
		i.fail(`{"endpoint":"` + endpoint + `","error":"temporarily_unavailable","error_description":"later"}`)
		method, form := "POST", withClient("web", url.Values{"token": {"x"}})
		if endpoint == "metadata" {
			method, form = "GET", nil
		}
		r := i.try(method, i.endpoint(endpoint), form)
		if r.StatusCode != 503 || r.json["error"] != "temporarily_unavailable" || r.json["error_description"] != "later" {
			t.Errorf("%s: status %d: %s", endpoint, r.StatusCode, r.body)
		}
		if last := i.latest(); last.Error != "temporarily_unavailable" || last.ErrorDescription != "later" {
			t.Errorf("%s: the log has %+v", endpoint, last)
		}
	}
	for _, endpoint := range []string{"tokeninfo", "userinfo"} {
		i.fail(`{"endpoint":"` + endpoint + `","client_id":"web","error":"invalid_token","error_description":"gone"}`)
		r := i.try("GET", i.endpoint(endpoint), nil, bearer...)
		if challenge := r.Header.Get("WWW-Authenticate"); r.StatusCode != 401 || !strings.Contains(challenge, `error="invalid_token", error_description="gone"`) {
			t.Errorf("%s: status %d: %s", endpoint, r.StatusCode, challenge)
		}
	}
	for _, row := range []struct {
		name, target, fault string
		want                string // in the redirect, or the page's status
	}{
		{"redirect", authorizeURL("web"), `"error":"temporarily_unavailable","error_description":"later"`, "https://cb.example/cb?error=temporarily_unavailable&error_description=later&state=xyz&iss=" + url.QueryEscape(i.URL)},
		{"server_error", authorizeURL("web"), `"error":"server_error","error_description":"e"`, "https://cb.example/cb?error=server_error&error_description=e&state=xyz&iss=" + url.QueryEscape(i.URL)},
		{"fragment", authorizeURL("legacy", "response_type", "token"), `"error":"access_denied","error_description":"e"`, "https://legacy.example/cb#error=access_denied&error_description=e&state=xyz&iss=" + url.QueryEscape(i.URL)},
		{"what is wrong besides", authorizeURL("web", "scope", "nonsense"), `"error":"access_denied","error_description":"e"`, "https://cb.example/cb?error=access_denied&error_description=e&state=xyz&iss=" + url.QueryEscape(i.URL)},
		{"a client that does not exist", authorizeURL("web", "client_id", "nobody"), `"error":"access_denied"`, "403"},
		{"nowhere to go", authorizeURL("web", "redirect_uri", "https://evil.example"), `"error":"server_error"`, "500"},
		{"out of band", authorizeURL("cli", "redirect_uri", outOfBand), `"error":"access_denied"`, "400"},
		{"with a page's status", authorizeURL("web"), `"error":"temporarily_unavailable","status":503`, "503"},
	} {
		i.fail(`{"endpoint":"authorize",` + row.fault + `}`)
		r := i.try("GET", row.target, nil)
		if got := r.Header.Get("Location"); got != row.want && fmt.Sprint(r.StatusCode) != row.want || r.Header.Get("Grantling-Fault") == "" {
			t.Errorf("%s: status %d to %s, want %s", row.name, r.StatusCode, got, row.want)
		}
	}
	i.fail(`{"endpoint":"authorize","error":"access_denied","status":302}`)
	if r := i.try("GET", authorizeURL("web"), nil); r.StatusCode != 302 || !strings.Contains(r.Header.Get("Location"), "error=access_denied") {
		t.Errorf("status %d to %s", r.StatusCode, r.Header.Get("Location"))
	}
	for _, mode := range []string{"fragment", "form_post"} {
		i.fail(`{"endpoint":"authorize","error":"access_denied"}`)
		if got, answer := i.as("alice").authorize(authorization("web", "response_mode", mode)).answered(); got != mode || answer.Get("error") != "access_denied" || answer.Get("state") != "xyz" {
			t.Errorf("by %s: %s has %v", mode, got, answer)
		}
	}
	// From the consent page, by POST, and without a browser.
	alice := i.as("alice")
	page := alice.authorize(authorization("other"))
	i.fail(`{"endpoint":"authorize","client_id":"other","error":"server_error"}`)
	alice.decide(page, "approve").wantRedirect("server_error", "xyz")
	i.fail(`{"endpoint":"authorize","error":"server_error"}`)
	i.post(i.endpoint("authorize"), authorization("web")).wantRedirect("server_error", "xyz")
	i.fail(`{"endpoint":"authorize","error":"server_error"}`)
	if back := i.decideURL(authorization("web"), "alice", "approve").redirectTo(); back.Get("error") != "server_error" {
		t.Errorf("back with %v", back)
	}
	id := i.fail(`{"endpoint":"authorize","drop":true}`)
	i.decideURL(authorization("web"), "alice", "approve").wantProblem("url: was not answered: fault " + id + " dropped the answer")
	for _, fault := range []string{`{"endpoint":"authorize","status":503}`, `{"endpoint":"authorize","status":503,"error":"server_error"}`} {
		id := i.fail(fault)
		r := i.decideURL(authorization("web"), "alice", "approve")
		r.wantProblem("url: was answered by fault " + id + " with status 503")
		if got := r.Header.Get("Grantling-Fault"); got != id {
			t.Errorf("%s: fault %q", fault, got)
		}
	}
}

// A fault that changes good answers waits for one, and changes it alone.
func TestFaultsNamed(t *testing.T) {
	t.Parallel()
	exchange := func(i *instance) answer {
		back := i.decideURL(authorization("web"), "alice", "approve").redirectTo()
		return i.try("POST", i.endpoint("token"), exchangeOf("web", back.Get("code")))
	}
	for _, row := range []struct {
		name   string
		status int
		want   string // members but for tokens
	}{
		{"missing_expires_in", 200, "map[access_token:* refresh_token:* scope:read write token_type:Bearer]"},
		{"expires_in_string", 200, "map[access_token:* expires_in:\"3600\" refresh_token:* scope:read write token_type:Bearer]"},
		{"no_refresh_token", 200, "map[access_token:* expires_in:3600 scope:read write token_type:Bearer]"},
		{"token_type_mac", 200, "map[access_token:* expires_in:3600 refresh_token:* scope:read write token_type:mac]"},
		{"error_with_200", 200, "map[error:invalid_grant error_description:staged by fault 1]"},
		{"rate_limited", 429, "map[error:temporarily_unavailable error_description:staged by fault 1]"},
		{"expired_code", 400, "map[error:invalid_grant error_description:the code has expired error_uri:*]"},
		{"already_used_code", 400, "map[error:invalid_grant error_description:the code was used before; the tokens issued for it are now revoked error_uri:*]"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			i := startControlled(t)
			i.fail(`{"name":"` + row.name + `"}`)
			alters := strings.Contains(row.want, "access_token")
			if alters {
				i.post(i.endpoint("token"), url.Values{"grant_type": {"nonsense"}}) // not a good answer
			}
			if strings.HasSuffix(row.name, "_code") {
				i.own("web") // not an exchange
			}
			r := exchange(i)
			for name, value := range r.json {
				if strings.HasSuffix(name, "_token") || name == "error_uri" {
					r.json[name] = "*"
				} else if name == "expires_in" {
					raw, _ := json.Marshal(value)
					r.json[name] = string(raw)
				}
			}
			if got := fmt.Sprint(r.json); r.StatusCode != row.status || got != row.want || r.Header.Get("Grantling-Fault") != "1" || r.err != nil {
				t.Errorf("status %d: %s, want %s", r.StatusCode, got, row.want)
			}
			if last := i.latest(); last.Fault != "1" || strings.HasSuffix(row.name, "_code") && last.Section != "RFC 6749 §4.1.2" {
				t.Errorf("the log has %+v", last)
			}
			if again := exchange(i); again.StatusCode != 200 || len(again.json) != 5 || again.Header.Get("Grantling-Fault") != "" {
				t.Errorf("the next answer is %d %s", again.StatusCode, again.body)
			}
		})
	}
	t.Run("as the endpoint says it", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		code := i.code("web")
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		used := i.post(i.endpoint("token"), exchangeOf("web", code)).body
		code = i.code("web")
		i.advance(time.Hour)
		expired := i.post(i.endpoint("token"), exchangeOf("web", code)).body
		for name, want := range map[string]string{"already_used_code": used, "expired_code": expired} {
			i.fail(`{"name":"` + name + `"}`)
			if r := exchange(i); r.body != want {
				t.Errorf("%s: %s, want %s", name, r.body, want)
			}
		}
	})
	t.Run("truncated_json", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.fail(`{"name":"truncated_json"}`)
		if r := exchange(i); r.StatusCode != 200 || r.err != nil || r.json != nil || !strings.HasPrefix(r.body, `{"access_token":"`) {
			t.Errorf("status %d: %s, %v", r.StatusCode, r.body, r.err)
		}
		i.fail(`{"name":"truncated_json","endpoint":"metadata"}`)
		if r := i.try("GET", i.endpoint("metadata"), nil); r.StatusCode != 200 || r.json != nil || len(r.body) < 100 {
			t.Errorf("metadata: status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("html_error", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.fail(`{"name":"html_error"}`)
		if r := exchange(i); r.StatusCode != 502 || r.Header.Get("Content-Type") != "text/html" || !strings.HasPrefix(r.body, "<html>") {
			t.Errorf("status %d: %v %s", r.StatusCode, r.Header, r.body)
		}
	})
	t.Run("rate_limited", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.fail(`{"name":"rate_limited"}`)
		i.fail(`{"name":"rate_limited","headers":{"retry-after":"60"}}`)
		if first, second := exchange(i).Header["Retry-After"], exchange(i).Header["Retry-After"]; fmt.Sprint(first, second) != "[1] [60]" {
			t.Errorf("Retry-After %v, then %v", first, second)
		}
	})
	t.Run("slow_body", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.fail(`{"name":"slow_body","delay":"10m"}`)
		response, err := http.PostForm(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}}))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		i.mustControl("POST", "reset", "") // the head is here, and the body comes without the rest of the delay
		body, err := io.ReadAll(response.Body)
		if response.StatusCode != 200 || err != nil || !strings.Contains(string(body), `"access_token":`) {
			t.Errorf("status %d: %s, %v", response.StatusCode, body, err)
		}
		i.fail(`{"name":"slow_body","delay":"200ms"}`)
		began := time.Now()
		if r, took := i.own("web"), time.Since(began); r.json["access_token"] == nil || took < 150*time.Millisecond {
			t.Errorf("after %v the answer is %s", took, r.body)
		}
	})
	t.Run("lost_answer", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		code := i.code("web")
		i.fail(`{"name":"lost_answer"}`)
		if r := i.try("POST", i.endpoint("token"), exchangeOf("web", code)); r.err == nil || r.StatusCode != 0 {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantError(400, "invalid_grant")
	})
	t.Run("R221 wrong_state and wrong_iss", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for _, row := range []struct {
			name string
			send func(mode string) *reply
		}{
			{"consent page", func(mode string) *reply { return i.as("alice").approve(authorization("other", "response_mode", mode)) }},
			{"remembered consent", func(mode string) *reply { return i.as("alice").approve(authorization("web", "response_mode", mode)) }},
			{"error", func(mode string) *reply {
				return i.as("alice").authorize(authorization("web", "response_mode", mode, "scope", "nonsense"))
			}},
		} {
			for _, mode := range []string{"query", "fragment", "form_post"} {
				for name, param := range map[string]string{"wrong_state": "state", "wrong_iss": "iss"} {
					i.fail(`{"name":"` + name + `"}`)
					want := url.Values{"state": {"xyz"}, "iss": {i.URL}}
					want.Set(param, map[string]string{"wrong_state": "not-the-state-that-was-sent", "wrong_iss": "https://not-this-server.example"}[name])
					r := row.send(mode)
					got, answer := r.answered()
					if got != mode || answer.Get("code") == "" && answer.Get("error") == "" || r.Header.Get("Grantling-Fault") == "" {
						t.Errorf("%s at %s by %s: %s has %v", name, row.name, mode, got, answer)
					}
					if answer.Get("state") != want.Get("state") || answer.Get("iss") != want.Get("iss") {
						t.Errorf("%s at %s by %s: %v", name, row.name, mode, answer)
					}
				}
			}
		}
		i.fail(`{"name":"wrong_state"}`)
		request := authorization("legacy")
		request.Set("response_type", "token")
		if back := i.decideURL(request, "alice", "approve").redirectTo(); back.Get("state") == "xyz" || back.Get("access_token") == "" {
			t.Errorf("implicit: %v", back)
		}
		i.fail(`{"name":"wrong_state"}`)
		if r := i.decideURL(authorization("web", "response_mode", "form_post"), "alice", "approve"); !strings.Contains(r.body, `"state":"not-the-state-that-was-sent"`) {
			t.Errorf("form_post by the control API: %s", r.body)
		}
		// Not what sends a browser to the endpoint itself.
		i.fail(`{"name":"wrong_state"}`)
		if r := i.post(i.endpoint("authorize"), authorization("web")); r.param("state") != "xyz" {
			t.Errorf("on the way: %s", r.location())
		}
	})
	t.Run("with other members", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.fail(`{"name":"no_refresh_token","client_id":"web","times":2,"delay":"50ms","headers":{"X-Extra":"1"}}`)
		for range 2 {
			began := time.Now()
			if r := exchange(i); r.json["refresh_token"] != nil || r.json["access_token"] == nil || r.Header.Get("X-Extra") != "1" || time.Since(began) < 50*time.Millisecond {
				t.Errorf("status %d: %v %s", r.StatusCode, r.Header, r.body)
			}
		}
	})
}
