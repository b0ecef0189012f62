package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// startControlled is start with the control API on.
func startControlled(t *testing.T, change ...func(*server)) *instance {
	t.Helper()
	i := start(t, change...)
	i.server.hosts = []string{"grantling", "auth.test"}
	if err := i.server.openControl(); err != nil {
		t.Fatal(err)
	}
	return i
}

// control sends a request to the control API.
func (i *instance) control(method, path, body string, header ...string) *reply {
	i.Helper()
	return i.browser().do(method, "/_control/"+path, body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// mustControl is control with an answer that must be good.
func (i *instance) mustControl(method, path, body string) *reply {
	i.Helper()
	r := i.control(method, path, body)
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/json" {
		i.Fatalf("%s /_control/%s %s: status %d: %s", method, path, body, r.StatusCode, r.body)
	}
	return r
}

// wantProblem wants status 400 and an error that names the member.
func (r *reply) wantProblem(member string) {
	r.i.Helper()
	problem, _ := r.json["error"].(string)
	if r.StatusCode != http.StatusBadRequest || len(r.json) != 1 || !strings.Contains(problem, member) {
		r.i.Errorf("got status %d, %s, want 400 with an error about %s", r.StatusCode, r.body, member)
	}
}

// decideURL asks the control API for a decision on a client's authorization request.
func (i *instance) decideURL(request url.Values, username, decision string) *reply {
	i.Helper()
	body, _ := json.Marshal(map[string]string{"url": i.endpoint("authorize") + "?" + request.Encode(), "username": username, "decision": decision})
	return i.control("POST", "authorize", string(body))
}

// redirectTo is where the decision leads.
func (r *reply) redirectTo() url.Values {
	r.i.Helper()
	target, _ := r.json["redirect_to"].(string)
	u, err := url.Parse(target)
	if err != nil || target == "" {
		r.i.Fatalf("no redirect_to: status %d: %s", r.StatusCode, r.body)
	}
	answer := u.Query()
	fragment, _ := url.ParseQuery(u.Fragment)
	for name := range fragment {
		answer[name] = fragment[name]
	}
	return answer
}

func TestControl(t *testing.T) {
	t.Parallel()
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		const off = "there is no such page; the control API is at /_control/ if grantling was started with -control"
		for path, want := range map[string]string{"/_control": off, "/_control/": off, "/_control/clock": off, "/_controls": "there is no such page"} {
			if r := i.get(path); r.StatusCode != http.StatusNotFound || r.json["error_description"] != want {
				t.Errorf("GET %s: status %d: %s", path, r.StatusCode, r.body)
			}
		}
	})
	t.Run("lists its verbs and the named faults", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		r := i.mustControl("GET", "", "")
		for _, v := range i.server.controlVerbs() {
			if pattern := strings.TrimSuffix(v.pattern, "{$}"); !strings.Contains(r.body, `"`+pattern+`":`) {
				t.Errorf("%s is not listed", pattern)
			}
		}
		for _, n := range namedFaults {
			if names, _ := r.json["faults"].(map[string]any); names[n.Name] == nil {
				t.Errorf("the fault %s is not listed", n.Name)
			}
		}
	})
	t.Run("lists the endpoints of the profile", func(t *testing.T) {
		t.Parallel()
		for profile, want := range map[string]string{
			"rfc6749": `"endpoints":{"authorize":"https://as.example/tenant/oauth/authorize","oob":"https://as.example/tenant/oauth/authorize/native",` +
				`"token":"https://as.example/tenant/oauth/token","revoke":"https://as.example/tenant/oauth/revoke",` +
				`"introspect":"https://as.example/tenant/oauth/introspect","device_authorization":"https://as.example/tenant/oauth/device_authorization",` +
				`"metadata":"https://as.example/.well-known/oauth-authorization-server/tenant",` +
				`"jwks":"https://as.example/tenant/.well-known/jwks.json","registration":"https://as.example/tenant/oauth/register",` +
				`"userinfo":"https://as.example/tenant/userinfo","tokeninfo":"https://as.example/tenant/oauth/token/info"}`,
			"figshare": `"endpoints":{"authorize":"https://as.example/tenant/account/applications/authorize",` +
				`"oob":"https://as.example/tenant/account/applications/authorize/native",` +
				`"token":"https://as.example/tenant/v2/token","userinfo":"https://as.example/tenant/v2/account","tokeninfo":"https://as.example/tenant/v2/token"}`,
		} {
			i := startProfile(t, profile)
			i.must(i.server.openControl())
			i.server.base = "/tenant"
			i.must(i.server.setIssuer("https://as.example/tenant"))
			if r := i.get("/tenant/_control/"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, want) {
				t.Errorf("%s: status %d: %s", profile, r.StatusCode, r.body)
			}
		}
	})
	t.Run("unknown verbs", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for _, request := range []string{"GET nothing", "PUT clock", "DELETE clock", "GET users/alice", "DELETE users/", "POST clock/now"} {
			method, path, _ := strings.Cut(request, " ")
			if r := i.control(method, path, ""); r.StatusCode != http.StatusNotFound || r.json["error"] == nil {
				t.Errorf("%s: status %d: %s", request, r.StatusCode, r.body)
			}
		}
	})
	t.Run("in a profile of an issuer with a path", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.server.base = "/tenant"
		if r := i.get("/tenant/_control/clock"); r.StatusCode != http.StatusOK {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R195 the control API", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for _, row := range []struct{ method, path, body, want string }{
			{"POST", "faults", `{"name":"lost"}`, `name: "lost" is unknown; expected one of missing_expires_in, expires_in_string, no_refresh_token, token_type_mac, truncated_json, slow_body, lost_answer, error_with_200, html_error, rate_limited, expired_code, already_used_code, wrong_state, wrong_iss`},
			{"POST", "faults", `{"endpoint":"login"}`, `endpoint: "login" is unknown; expected one of authorize, token, revoke, introspect, device_authorization, tokeninfo, userinfo, metadata`},
			{"GET", "requests?endpoint=login", "", `endpoint: "login" is unknown; expected one of authorize, oob, token, revoke, introspect, device_authorization, metadata, jwks, registration, userinfo, tokeninfo`},
		} {
			if r := i.control(row.method, row.path, row.body); r.StatusCode != http.StatusBadRequest || r.json["error"] != row.want {
				t.Errorf("%s %s: %s\nwant %s", row.path, row.body, r.body, row.want)
			}
		}
	})
}

// Who may use the control API.
func TestControlGuard(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	port := ":" + i.server.issuer()[strings.LastIndex(i.server.issuer(), ":")+1:]
	for _, row := range []struct {
		name   string
		header []string
		ok     bool
	}{
		{"Host 127.0.0.1", []string{"Host", "127.0.0.1" + port}, true},
		{"Host 127.0.0.1 without port", []string{"Host", "127.0.0.1"}, true},
		{"Host 127.1.2.3", []string{"Host", "127.1.2.3:80"}, true},
		{"Host localhost", []string{"Host", "localhost:1"}, true},
		{"Host LOCALHOST", []string{"Host", "LOCALHOST"}, true},
		{"Host ::1", []string{"Host", "[::1]:80"}, true},
		{"Host ::1 without port", []string{"Host", "[::1]"}, true},
		{"a -control-host", []string{"Host", "grantling:9096"}, true},
		{"another -control-host", []string{"Host", "AUTH.test"}, true},
		{"another name", []string{"Host", "rebound.example" + port}, false},
		{"a name that begins like a -control-host", []string{"Host", "grantling.example"}, false},
		{"a name that begins like loopback", []string{"Host", "127.0.0.1.example"}, false},
		{"a name that begins like localhost", []string{"Host", "localhost.example"}, false},
		{"an address that is not loopback", []string{"Host", "192.0.2.1:9096"}, false},
		{"the unspecified address", []string{"Host", "0.0.0.0:9096"}, false},
		{"a page of this server", []string{"Sec-Fetch-Site", "same-origin", "Origin", i.URL}, true},
		{"typed into the address bar", []string{"Sec-Fetch-Site", "none"}, true},
		{"another site's page", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"another port's page", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"another origin", []string{"Origin", "https://evil.example"}, false},
		{"another port", []string{"Origin", "http://127.0.0.1:1"}, false},
		{"an origin that is not told", []string{"Origin", "null"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, request := range []string{"GET clock", "POST clock", "DELETE requests", "GET requests"} {
				method, path, _ := strings.Cut(request, " ")
				body := ""
				if method == "POST" {
					body = `{"reset":true}`
				}
				r := i.in(t).control(method, path, body, row.header...)
				if row.ok != (r.StatusCode == http.StatusOK) || !row.ok && r.StatusCode != http.StatusForbidden {
					t.Errorf("%s: status %d: %s", request, r.StatusCode, r.body)
				}
				if r.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: any origin may read the answer", request)
				}
			}
		})
	}
	if r := i.control("OPTIONS", "clock", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"); r.StatusCode < 400 {
		t.Errorf("preflight: status %d", r.StatusCode)
	}
}

func TestControlClock(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	real := i.mustControl("GET", "clock", "").json
	if now, err := time.Parse(time.RFC3339, real["now"].(string)); err != nil || time.Since(now).Abs() > time.Minute || real["offset"] != "0s" || len(real) != 2 {
		t.Errorf("at the start: %v", real)
	}
	for _, row := range []struct{ body, offset, now string }{
		{`{"advance":"31m"}`, "31m0s", ""},
		{`{"advance":"1h"}`, "1h31m0s", ""},
		{`{"advance":"-2h"}`, "-29m0s", ""},
		{`{"set":"2030-01-01T00:00:00Z"}`, "", "2030-01-01T00:00:0"},
		{`{"set":"2030-01-01T02:00:00+02:00"}`, "", "2030-01-01T00:00:0"},
		{`{"reset":true}`, "0s", ""},
	} {
		r := i.mustControl("POST", "clock", row.body)
		if now, offset := r.json["now"].(string), r.json["offset"]; !strings.HasPrefix(now, row.now) || row.offset != "" && offset != row.offset {
			t.Errorf("%s: %s", row.body, r.body)
		}
		if again := i.mustControl("GET", "clock", ""); again.json["offset"] != r.json["offset"] {
			t.Errorf("%s was answered with %s, and then it is %s", row.body, r.body, again.body)
		}
		date, err := http.ParseTime(i.get("/healthz").Header.Get("Date"))
		now, _ := time.Parse(time.RFC3339, r.json["now"].(string))
		if off := date.Sub(now); err != nil || off < 0 || off > time.Minute {
			t.Errorf("%s: Date is %v", row.body, date)
		}
	}
	for body, member := range map[string]string{
		`{"advance":"soon"}`:                "advance",
		`{"advance":60}`:                    "advance",
		`{"advance":"2000000h"}`:            "advance",
		`{"advance":"-500000h"}`:            "advance",
		`{"set":"tomorrow"}`:                "set",
		`{"set":"9999-01-01T00:00:00Z"}`:    "set",
		`{"set":"1969-01-01T00:00:00Z"}`:    "set",
		`{"reset":false}`:                   "reset",
		`{"advanced":"1m"}`:                 "advanced",
		`{"Advance":"1m"}`:                  "Advance",
		`{"advance":"1m","advance":"1m"}`:   "advance",
		`{"advance":"1m","reset":true}`:     "advance",
		`{}`:                                "advance",
		``:                                  "JSON",
		`{"advance":"1m"} {"advance":"1m"}`: "after top-level value",
		`[]`:                                "object",
		`{"advance":"` + strings.Repeat("1", maxBody) + `m"}`: "",
	} {
		r := i.control("POST", "clock", body)
		if len(body) > maxBody {
			if r.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("a body too large: status %d", r.StatusCode)
			}
			continue
		}
		r.wantProblem(member)
	}
	if r := i.mustControl("GET", "clock", ""); r.json["offset"] != "0s" {
		t.Errorf("what was refused moved the clock: %s", r.body)
	}
}

// One clock: everything that is dated follows it (R171).
func TestControlClockMovesAll(t *testing.T) {
	t.Parallel()
	move := func(i *instance, d string) {
		i.Helper()
		i.mustControl("POST", "clock", `{"advance":"`+d+`"}`)
	}
	t.Run("access tokens", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		access, _ := i.tokens("web")
		told := i.introspect(access).json["exp"].(float64)
		move(i, "59m")
		i.wantAlive(access)
		if again := i.introspect(access).json["exp"].(float64); again != told {
			t.Errorf("exp was %v and is %v", told, again)
		}
		move(i, "1m1s")
		i.wantDead(access)
		if r := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("an expired token: status %d", r.StatusCode)
		}
	})
	t.Run("R171/back and forth", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		access, _ := i.tokens("web")
		move(i, "2h")
		i.wantDead(access)
		move(i, "-2h")
		i.wantAlive(access) // nothing swept it
		move(i, "2h")
		i.sweepAll()
		move(i, "-2h")
		i.wantDead(access)
	})
	t.Run("R171/exp and expires_in are one number", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for _, d := range []string{"0s", "-48h", "1234h0m0.7s", "-2000h"} {
			move(i, d)
			access, _ := i.tokens("web")
			told := i.introspect(access).json
			if told["exp"].(float64)-told["iat"].(float64) != 3600 {
				t.Errorf("after %s: %v", d, told)
			}
			var now struct{ Now time.Time }
			json.Unmarshal([]byte(i.mustControl("GET", "clock", "").body), &now)
			if off := told["iat"].(float64) - float64(now.Now.Unix()); off < -5 || off > 0 {
				t.Errorf("after %s: iat is %v seconds from the clock's time", d, off)
			}
		}
	})
	t.Run("codes", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		code := i.code("web")
		move(i, "10m1s")
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantError(400, "invalid_grant")
		move(i, "-2m")
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
	})
	t.Run("refresh tokens", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		_, refresh := i.tokens("web")
		move(i, "719h")
		_, refresh = i.refresh("web", refresh).wantToken()
		move(i, "721h")
		i.refresh("web", refresh).wantError(400, "invalid_grant")
	})
	t.Run("sessions", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		alice := i.as("alice")
		signedIn := func() bool { return strings.Contains(alice.authorize(authorization("web")).body, `name="decision"`) }
		if move(i, "11h59m"); !signedIn() {
			t.Error("signed out early")
		}
		if move(i, "2m"); signedIn() {
			t.Error("signed in for ever")
		}
	})
	t.Run("consent pages", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		alice := i.as("alice")
		page := alice.authorize(authorization("web"))
		move(i, "31m")
		alice.decide(page, "approve").wantPage(400)
	})
	t.Run("guess limits", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		guess := func() int {
			return i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wrong"}})).StatusCode
		}
		for range passwordTries {
			guess()
		}
		if status := guess(); status != http.StatusTooManyRequests {
			t.Errorf("after %d tries: status %d", passwordTries, status)
		}
		move(i, "61s")
		if status := guess(); status != http.StatusBadRequest {
			t.Errorf("a minute later: status %d", status)
		}
	})
	t.Run("the sweeper", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.tokens("web")
		i.mustControl("POST", "tokens", `{"client_id":"web","username":"alice"}`)
		i.mustControl("POST", "tokens", `{"client_id":"web"}`)
		i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}})).wantToken()
		i.sweepAll()
		if n := i.issued(); n == 0 {
			t.Fatal("the sweeper took what is alive")
		}
		move(i, "10000h")
		i.sweepAll()
		if n := i.issued(); n != 0 {
			t.Errorf("after 10,000 hours there are still %d records", n)
		}
	})
}

// issued counts the records of all that was issued.
func (i *instance) issued() (n int) {
	for _, bucket := range [][]byte{bucketGrants, bucketCodes, bucketAccess, bucketRefresh, bucketSessions} {
		n += count(i.T, i.server.store, bucket)
	}
	return n
}

func TestControlUsers(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	r := i.mustControl("POST", "users", `{"username":"carol","password":"secret","name":"Carol","email":"carol@example.com"}`)
	if r.json["username"] != "carol" || strings.Contains(r.body, "secret") {
		t.Errorf("created: %s", r.body)
	}
	if r := i.browser().signIn("carol", "secret"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-in: status %d", r.StatusCode)
	}
	i.mustControl("POST", "users", `{"username":"carol","password":"changed"}`)
	if r := i.browser().signIn("carol", "secret"); r.StatusCode == http.StatusSeeOther {
		t.Error("the old password is good after the user was replaced")
	}

	access, refresh := i.tokens("web")
	i.mustControl("DELETE", "users/alice", "")
	i.wantDead(access, refresh)
	i.mustControl("POST", "users", `{"username":"alice","password":"wonderland"}`)
	i.wantDead(access, refresh) // another alice
	i.mustControl("POST", "users", `{"username":"a/b c%é..","password":"p"}`)
	i.mustControl("DELETE", "users/"+url.PathEscape("a/b c%é.."), "")
	i.mustControl("POST", "users", `{"username":"..","password":"p"}`)
	i.mustControl("DELETE", "users/%2E%2E", "")

	i.control("DELETE", "users/nobody", "").wantProblem("username")
	for body, member := range map[string]string{
		`{"password":"p"}`:                                  "username",
		`{"username":"x"}`:                                  "password",
		`{"username":" x","password":"p"}`:                  "username",
		`{"username":"x","password":"p","mail":"x@y.z"}`:    "mail",
		`{"username":"x","password":1}`:                     "password",
		`{"username":"x","password":"p","name":"a\u0001b"}`: "name",
	} {
		i.control("POST", "users", body).wantProblem(member)
	}
}

func TestControlClients(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	given := i.mustControl("POST", "clients", `{"client_id":"new","client_secret":"new-secret","redirect_uris":["https://new.example/cb"],"scope":"read","owner":"bob"}`)
	if given.json["client_id"] != "new" || given.json["client_secret"] != "new-secret" || given.json["owner"] != "bob" {
		t.Errorf("created: %s", given.body)
	}
	own := func(secret string) *reply {
		return i.post(i.endpoint("token"), url.Values{"grant_type": {"client_credentials"}, "client_id": {"new"}, "client_secret": {secret}})
	}
	access, _ := own("new-secret").wantToken()
	made, _ := i.mustControl("POST", "clients", `{"client_id":"new","redirect_uris":["https://new.example/cb"]}`).json["client_secret"].(string)
	if len(made) < 43 {
		t.Errorf("the answer has the generated secret %q", made)
	}
	own("new-secret").wantError(401, "invalid_client")
	own(made).wantToken()
	i.wantAlive(access) // replaced, not removed
	i.mustControl("DELETE", "clients/new", "")
	i.wantDead(access)
	own(made).wantError(401, "invalid_client")

	public := i.mustControl("POST", "clients", `{"client_id":"new","token_endpoint_auth_method":"none","redirect_uris":["http://127.0.0.1/"]}`)
	if _, there := public.json["client_secret"]; there {
		t.Errorf("a public client with a secret: %s", public.body)
	}
	i.wantDead(access)

	i.control("DELETE", "clients/nothing", "").wantProblem("client_id")
	for body, member := range map[string]string{
		`{"redirect_uris":[]}`:                                                       "client_id",
		`{"client_id":"x","redirect_uris":["/relative"]}`:                            "redirect_uris[0]",
		`{"client_id":"x","redirect_uris":["https://a.example","http://b.example"]}`: "redirect_uris[1]",
		`{"client_id":"x","scope":"a  b"}`:                                           "scope",
		`{"client_id":"x","owner":"nobody"}`:                                         "owner",
		`{"client_id":"x","token_endpoint_auth_method":"none","client_secret":"s"}`:  "client_secret",
		`{"client_id":"x","token_endpoint_auth_method":"private_key_jwt"}`:           "token_endpoint_auth_method",
		`{"client_id":"x","redirect_uri":"https://a.example"}`:                       "redirect_uri",
		`{"client_id":"x","redirect_uris":"https://a.example"}`:                      "redirect_uris",
	} {
		i.control("POST", "clients", body).wantProblem(member)
	}
}

// The control API decides authorization requests as the endpoint does.
func TestControlAuthorize(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	t.Run("approve", func(t *testing.T) {
		i := i.in(t)
		back := i.decideURL(authorization("web"), "alice", "approve").redirectTo()
		if back.Get("state") != "xyz" || back.Get("iss") != i.URL {
			t.Errorf("back with %v", back)
		}
		access, _ := i.post(i.endpoint("token"), exchangeOf("web", back.Get("code"))).wantToken()
		if who := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access); who.json["sub"] != "alice" {
			t.Errorf("a token for %s", who.body)
		}
	})
	t.Run("deny", func(t *testing.T) {
		if back := i.in(t).decideURL(authorization("web"), "bob", "deny").redirectTo(); back.Get("error") != "access_denied" || back.Get("state") != "xyz" {
			t.Errorf("back with %v", back)
		}
	})
	t.Run("implicit", func(t *testing.T) {
		request := authorization("legacy")
		request.Set("response_type", "token")
		if back := i.in(t).decideURL(request, "bob", "approve").redirectTo(); back.Get("access_token") == "" {
			t.Errorf("back with %v", back)
		}
	})
	t.Run("out of band", func(t *testing.T) {
		i := i.in(t)
		i.mustControl("POST", "clients", `{"client_id":"cli","client_secret":"cli-secret","redirect_uris":["`+outOfBand+`"]}`)
		r := i.decideURL(url.Values{"response_type": {"code"}, "client_id": {"cli"}}, "alice", "approve")
		if target, _ := r.json["redirect_to"].(string); !strings.HasPrefix(target, i.URL+"/oauth/authorize/native?code=") {
			t.Errorf("back at %s", target)
		}
	})

	// What goes to the client from the endpoint goes to redirect_to, and what
	// is a page there is a problem here: word by word.
	alice := i.as("alice")
	for _, row := range []struct {
		name   string
		change url.Values
	}{
		{"no client", url.Values{"client_id": nil}},
		{"unknown client", url.Values{"client_id": {"nobody"}}},
		{"another redirect_uri", url.Values{"redirect_uri": {"https://evil.example/"}}},
		{"two redirect_uris", url.Values{"redirect_uri": {"https://cb.example/cb", "https://cb.example/cb"}}},
		{"no response_type", url.Values{"response_type": nil}},
		{"another response_type", url.Values{"response_type": {"id_token"}}},
		{"implicit by another client", url.Values{"response_type": {"token"}}},
		{"two states", url.Values{"state": {"a", "b"}}},
		{"too much scope", url.Values{"scope": {"read admin"}}},
		{"malformed scope", url.Values{"scope": {"read  write"}}},
		{"plain PKCE", url.Values{"code_challenge_method": {"plain"}}},
		{"another response_mode", url.Values{"response_mode": {"web_message"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			request := authorization("web")
			for name, values := range row.change {
				request[name] = values
			}
			endpoint, control := alice.authorize(request), i.in(t).decideURL(request, "alice", "approve")
			if endpoint.StatusCode == http.StatusSeeOther {
				if got := control.json["redirect_to"]; got != endpoint.Header.Get("Location") {
					t.Errorf("got %v, want %s", got, endpoint.Header.Get("Location"))
				}
				return
			}
			control.wantProblem("url")
			explanation := regexp.MustCompile(`id="error-description"[^>]*>([^<]*)<`).FindStringSubmatch(endpoint.body)
			if explanation == nil || !strings.Contains(control.json["error"].(string), explanation[1]) {
				t.Errorf("got %s, want what the page says: %q", control.body, explanation)
			}
		})
	}

	good := i.endpoint("authorize") + "?" + authorization("web").Encode()
	port := i.URL[strings.LastIndexByte(i.URL, ':'):]
	for origin, reached := range map[string]bool{
		"": true, i.URL: true, "http://localhost" + port: true, "http://[::1]" + port: true, "http://GRANTLING" + port: true,
		"https://127.0.0.1" + port: false, "http://127.0.0.1": false, "http://127.0.0.1:1": false, "http://other" + port: false, "//evil.example": false,
		"https://evil.example": false,
	} {
		body, _ := json.Marshal(map[string]string{"url": origin + i.path("authorize") + "?" + authorization("web").Encode(), "username": "alice", "decision": "approve"})
		if r := i.control("POST", "authorize", string(body)); reached {
			r.redirectTo()
		} else {
			r.wantProblem("url: is not the authorization endpoint of this server, " + i.endpoint("authorize"))
		}
	}
	for _, row := range []struct{ url, username, decision, member string }{
		{good, "nobody", "approve", "username"},
		{good, "", "approve", "username"},
		{good, "alice", "", "decision"},
		{good, "alice", "maybe", "decision"},
		{"", "alice", "approve", "url: is missing"},
		{"http://[", "alice", "approve", "url"},
		{i.endpoint("token") + "?" + authorization("web").Encode(), "alice", "approve", "url"},
		{i.URL + "/consent?" + authorization("web").Encode(), "alice", "approve", "url"},
		{i.URL + "/nowhere", "alice", "approve", "url"},
	} {
		body, _ := json.Marshal(map[string]string{"url": row.url, "username": row.username, "decision": row.decision})
		i.control("POST", "authorize", string(body)).wantProblem(row.member)
	}
	i.control("POST", "authorize", `{"url":"x","user":"alice"}`).wantProblem("user")
}

func TestControlTokens(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	t.Run("for a user", func(t *testing.T) {
		i := i.in(t)
		endpoint := i.post(i.endpoint("token"), exchangeOf("web", i.code("web")))
		minted := i.mustControl("POST", "tokens", `{"client_id":"web","username":"alice","scope":"read write"}`)
		for name, value := range endpoint.json {
			if strings.HasSuffix(name, "_token") {
				continue
			}
			if minted.json[name] != value {
				t.Errorf("%s is %v, from the token endpoint it is %v", name, minted.json[name], value)
			}
		}
		if len(minted.json) != len(endpoint.json) {
			t.Errorf("minted: %s", minted.body)
		}
		access, refresh := minted.wantToken()
		i.wantAlive(access, refresh)
		i.refresh("web", refresh).wantToken()
		i.refresh("web", refresh).wantError(400, "invalid_grant")
		i.wantDead(access)
	})
	t.Run("for the client itself", func(t *testing.T) {
		i := i.in(t)
		r := i.mustControl("POST", "tokens", `{"client_id":"web","scope":"read"}`)
		access, refresh := r.wantToken()
		if told := i.introspect(access).json; refresh != "" || told["username"] != nil || told["scope"] != "read" {
			t.Errorf("%s introspects as %v", r.body, told)
		}
	})
	t.Run("with a lifetime", func(t *testing.T) {
		i := i.in(t)
		r := i.mustControl("POST", "tokens", `{"client_id":"web","username":"alice","expires_in":86400}`)
		access, _ := r.wantToken()
		told := i.introspect(access).json
		if r.json["expires_in"] != 86400.0 || told["exp"].(float64)-told["iat"].(float64) != 86400 {
			t.Errorf("%s introspects as %v", r.body, told)
		}
	})
	t.Run("beyond the refresh token's", func(t *testing.T) {
		i := startControlled(t)
		access, _ := i.mustControl("POST", "tokens", `{"client_id":"web","username":"alice","expires_in":31536000}`).wantToken()
		i.mustControl("POST", "clock", `{"advance":"8000h"}`)
		i.sweepAll()
		i.wantAlive(access)
	})
	t.Run("expired", func(t *testing.T) {
		i := i.in(t)
		r := i.mustControl("POST", "tokens", `{"client_id":"web","username":"alice","expires_in":-60}`)
		access, refresh := r.wantToken()
		i.wantDead(access)
		if r.json["expires_in"] != -60.0 {
			t.Errorf("minted: %s", r.body)
		}
		i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
		again, _ := i.refresh("web", refresh).wantToken()
		i.wantAlive(again)
	})
	t.Run("for the client itself, as its service has it", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "sharesight")
		if err := i.server.openControl(); err != nil {
			t.Fatal(err)
		}
		access, _ := i.mustControl("POST", "tokens", `{"client_id":"web"}`).json["access_token"].(string)
		if r := i.get("/api/v2/my_user.json", "Authorization", "Bearer "+access); r.StatusCode != http.StatusOK {
			t.Errorf("the owner's: status %d: %s", r.StatusCode, r.body)
		}
		i.control("POST", "tokens", `{"client_id":"other"}`).wantProblem("client_id: this client has no owner")
		i = startProfile(t, "trackmania")
		if err := i.server.openControl(); err != nil {
			t.Fatal(err)
		}
		token, _ := i.mustControl("POST", "tokens", `{"client_id":"web","scope":"clubs"}`).json["access_token"].(string)
		if _, payload := claimsOf(t, token); fmt.Sprint(payload["scopes"]) != "[]" {
			t.Errorf("claims %v", payload)
		}
	})
	t.Run("R171/with exp in the token", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "trackmania")
		if err := i.server.openControl(); err != nil {
			t.Fatal(err)
		}
		for _, expiresIn := range []float64{60, 86400, -60} {
			before := float64(time.Now().Unix())
			r := i.mustControl("POST", "tokens", fmt.Sprintf(`{"client_id":"web","username":"alice","expires_in":%v}`, expiresIn))
			access, _ := r.json["access_token"].(string)
			_, payload := claimsOf(t, access)
			exp, _ := payload["exp"].(float64)
			iat, _ := payload["iat"].(float64)
			if r.json["expires_in"] != expiresIn || exp < before+expiresIn || exp > before+expiresIn+60 || iat > exp || payload["nbf"] != iat {
				t.Errorf("%s: iat %v, exp %v", r.body, iat-before, exp-before)
			}
			if status := i.get("/api/user", "Authorization", "Bearer "+access).StatusCode; (status == 200) != (expiresIn > 0) {
				t.Errorf("expires_in %v: status %d", expiresIn, status)
			}
		}
	})
	for body, member := range map[string]string{
		`{"username":"alice"}`:                                            "client_id",
		`{"client_id":"nothing","username":"alice"}`:                      "client_id",
		`{"client_id":"web","username":"nobody"}`:                         "username",
		`{"client_id":"web","username":"alice","scope":"admin"}`:          "scope",
		`{"client_id":"web","username":"alice","scope":"a\"b"}`:           "scope",
		`{"client_id":"web","username":"alice","expires_in":0}`:           "expires_in",
		`{"client_id":"web","username":"alice","expires_in":"60"}`:        "expires_in",
		`{"client_id":"web","username":"alice","expires_in":1.5}`:         "expires_in",
		`{"client_id":"web","username":"alice","expires_in":99999999999}`: "expires_in",
		`{"client_id":"native"}`:                                          "username",
		`{"client_id":"rs"}`:                                              "username",
		`{"client_id":"web","user":"alice"}`:                              "user",
	} {
		i.control("POST", "tokens", body).wantProblem(member)
	}
}

// TestControlReset uses everything, resets, and wants every answer to be the
// one that a fresh start gives.
func TestControlReset(t *testing.T) {
	t.Parallel()
	fresh, used := startControlled(t), startControlled(t)

	access, refresh := used.tokens("web")
	session := used.as("alice")
	consent := session.authorize(authorization("other"))
	code := used.code("web")
	used.mustControl("POST", "users", `{"username":"alice","password":"changed"}`)
	used.mustControl("POST", "users", `{"username":"carol","password":"p"}`)
	used.mustControl("DELETE", "users/bob", "")
	used.mustControl("POST", "clients", `{"client_id":"web","redirect_uris":["https://new.example/"]}`)
	used.mustControl("POST", "clients", `{"client_id":"new","redirect_uris":["https://new.example/"]}`)
	used.mustControl("DELETE", "clients/other", "")
	used.mustControl("POST", "faults", `{"endpoint":"token","times":0,"status":503}`)
	for range secretTries + 1 {
		used.post(used.endpoint("introspect"), url.Values{"client_id": {"rs"}, "client_secret": {"wrong"}, "token": {"x"}})
	}
	for range passwordTries + 1 {
		used.browser().signIn("alice", "wrong")
	}
	used.mustControl("POST", "clock", `{"advance":"1h"}`)
	used.mustControl("POST", "reset", "")

	if n := used.issued(); n != 0 {
		t.Errorf("%d records are left", n)
	}
	volatile := regexp.MustCompile(`http://127\.0\.0\.1:\d+|http%3A%2F%2F127\.0\.0\.1%3A\d+|[A-Za-z0-9_-]{43}|[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[0-9:.]+Z|"duration_ms":[0-9.]+|"(iat|exp|expires)":"?\d+"?|id=\\"expires\\" value=\\"\d+|value="\d{10}"`)
	same := func(what string, send func(i *instance) *reply) {
		t.Helper()
		var told [2]string
		for n, i := range []*instance{fresh, used} {
			r := send(i)
			header := r.Header.Clone()
			for _, name := range []string{"Date", "Content-Length", "Set-Cookie"} {
				header.Del(name)
			}
			h, _ := json.Marshal(header)
			told[n] = volatile.ReplaceAllString(fmt.Sprintf("%d %s %s", r.StatusCode, h, r.body), "*")
		}
		if told[0] != told[1] {
			at := 0 // where they begin to differ
			for at < min(len(told[0]), len(told[1])) && told[0][at] == told[1][at] {
				at++
			}
			context := func(s string) string { return s[max(0, at-60):min(len(s), at+60)] }
			t.Errorf("%s: after a start …%s…\nafter a reset …%s…", what, context(told[0]), context(told[1]))
		}
	}
	for _, path := range []string{"", "clock", "faults", "requests", "requests/latest"} {
		same("control "+path, func(i *instance) *reply { return i.control("GET", path, "") })
	}
	for name, paths := range fresh.server.profile.Endpoints {
		same("GET "+name, func(i *instance) *reply { return i.get(i.URL + paths[0]) })
		same("POST "+name, func(i *instance) *reply { return i.post(i.URL+paths[0], url.Values{"client_id": {"web"}}) })
	}
	for _, path := range []string{"/", "/login", "/healthz", "/nowhere"} {
		same("GET "+path, func(i *instance) *reply { return i.get(path) })
	}
	for _, username := range []string{"alice", "bob", "carol"} {
		password := map[string]string{"alice": "wonderland", "bob": "builder", "carol": "p"}[username]
		same("sign-in of "+username, func(i *instance) *reply { return i.browser().signIn(username, password) })
	}
	same("a session of before", func(i *instance) *reply {
		b := i.browser()
		b.client.Jar = session.client.Jar
		return b.authorize(authorization("web"))
	})
	same("a consent page of before", func(i *instance) *reply {
		b := i.browser()
		b.client.Jar = session.client.Jar
		return b.decide(consent, "approve")
	})
	same("a code of before", func(i *instance) *reply { return i.post(i.endpoint("token"), exchangeOf("web", code)) })
	same("a refresh token of before", func(i *instance) *reply { return i.refresh("web", refresh) })
	same("an access token of before", func(i *instance) *reply {
		return i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access)
	})
	same("introspection", func(i *instance) *reply { return i.introspect(access) })
	for _, clientID := range []string{"web", "other", "native", "legacy", "new"} {
		same("a decision for "+clientID, func(i *instance) *reply { return i.decideURL(authorization(clientID), "bob", "approve") })
		same("an exchange for "+clientID, func(i *instance) *reply {
			back := i.decideURL(authorization(clientID), "alice", "approve")
			if back.json["redirect_to"] == nil {
				return back
			}
			return i.post(i.endpoint("token"), exchangeOf(clientID, back.redirectTo().Get("code")))
		})
	}
	same("a password grant", func(i *instance) *reply {
		return i.post(i.endpoint("token"), withClient("legacy", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wonderland"}}))
	})
	same("minted tokens", func(i *instance) *reply {
		return i.control("POST", "tokens", `{"client_id":"web","username":"alice"}`)
	})
	same("a fault", func(i *instance) *reply {
		return i.control("POST", "faults", `{"endpoint":"token","error":"invalid_grant"}`)
	})
	same("a staged answer", func(i *instance) *reply { return i.refresh("web", refresh) })
	same("the log", func(i *instance) *reply { return i.control("GET", "requests", "") })
}

// listening runs the command with arguments and returns its URL.
func listening(t *testing.T, getenv func(string) string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stderr, ended := new(lockedBuffer), make(chan int, 1)
	line := make(lines, 1)
	go func() {
		ended <- run(ctx, append([]string{"-addr", "127.0.0.1:0", "-db", memory}, args...), getenv, line, stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case url := <-line:
		return strings.TrimSpace(url)
	case status := <-ended:
		ended <- status
		t.Fatalf("exit status %d: %s", status, stderr)
		return ""
	}
}

// lines is a standard output whose writes can be waited for.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func noEnvironment(string) string { return "" }

func TestControlFlags(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args []string
		want int // exit status; -1: it runs
	}{
		{[]string{"-control"}, -1},
		{[]string{"-control", "-addr", "localhost:0"}, -1},
		{[]string{"-control", "-addr", "[::1]:0"}, -1},
		{[]string{"-control", "-addr", ":0"}, 2},
		{[]string{"-control", "-addr", "0.0.0.0:0"}, 2},
		{[]string{"-control", "-addr", "[::]:0"}, 2},
		{[]string{"-control", "-addr", "192.0.2.1:0"}, 2},
		{[]string{"-control", "-addr", "auth.example:0"}, 2},
		{[]string{"-control", "-addr", ":0", "-control-host", "grantling"}, -1},
		{[]string{"-addr", ":0"}, -1},
	} {
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			t.Parallel()
			if slices.Contains(row.args, "[::1]:0") {
				l, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Skip("no IPv6 here")
				}
				l.Close()
			}
			if row.want < 0 {
				base := listening(t, noEnvironment, row.args...)
				r, err := http.Get(base + "/_control/clock")
				if err != nil {
					t.Fatal(err)
				}
				r.Body.Close()
				if want := slices.Contains(row.args, "-control"); want != (r.StatusCode == http.StatusOK) {
					t.Errorf("status %d", r.StatusCode)
				}
				return
			}
			stderr := new(lockedBuffer)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got := run(ctx, append([]string{"-db", memory}, row.args...), noEnvironment, new(lockedBuffer), stderr)
			if got != row.want || strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), "-control-host") {
				t.Errorf("exit status %d, standard error %q", got, stderr)
			}
		})
	}
}

// Later fixtures files add to earlier ones and win over them.
func TestControlFixtures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := file("first.json", `{"users":[{"username":"alice","password":"one","name":"One"}],"clients":[
		{"client_id":"web","client_secret":"one","redirect_uris":["https://one.example/"]},
		{"client_id":"job","client_secret":"job","redirect_uris":[]}]}`)
	second := file("second.json", `{"users":[{"username":"bob","password":"two"},{"username":"alice","password":"two"}],"clients":[
		{"client_id":"web","client_secret":"two","redirect_uris":["https://two.example/"],"owner":"alice"}]}`)
	want := func(t *testing.T, base string, both bool) {
		t.Helper()
		grants := func(clientID, secret string) bool {
			r, err := http.PostForm(base+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret}})
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			return r.StatusCode == http.StatusOK
		}
		if !grants("web", "two") || grants("web", "one") || grants("job", "job") != both {
			t.Errorf("web with one: %v, with two: %v; job: %v", grants("web", "one"), grants("web", "two"), grants("job", "job"))
		}
	}
	t.Run("flags", func(t *testing.T) {
		t.Parallel()
		want(t, listening(t, noEnvironment, "-fixtures", first, "-fixtures", second), true)
	})
	environment := func(name string) string {
		return map[string]string{"GRANTLING_FIXTURES": first + string(os.PathListSeparator) + second}[name]
	}
	t.Run("environment", func(t *testing.T) {
		t.Parallel()
		want(t, listening(t, environment), true)
	})
	t.Run("a flag wins over the environment", func(t *testing.T) {
		t.Parallel()
		want(t, listening(t, environment, "-fixtures", second), false)
	})
	t.Run("an error names the file", func(t *testing.T) {
		t.Parallel()
		bad := file("bad.json", "{\n\"clients\":[{\"client_id\":\"x\",\n\"owner\":\"nobody\"}]}")
		stderr := new(lockedBuffer)
		if status := run(t.Context(), []string{"-addr", "127.0.0.1:0", "-db", memory, "-fixtures", first, "-fixtures", bad}, noEnvironment, new(lockedBuffer), stderr); status != 2 || !strings.Contains(stderr.String(), "bad.json:3: clients[0].owner") {
			t.Errorf("exit status %d: %s", status, stderr)
		}
	})
}

// The issuer of a server behind a mapped port is known only when it runs.
func TestControlIssuer(t *testing.T) {
	t.Parallel()
	t.Run("R193 what has it in it follows", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t, func(s *server) { s.loopback = true }) // Host is looked at
		if r := i.mustControl("POST", "issuer", `{"issuer":"http://localhost:49153"}`); r.body != `{"issuer":"http://localhost:49153"}`+"\n" {
			t.Errorf("answered %s", r.body)
		}
		for name, want := range map[string]string{
			"issuer":                 "http://localhost:49153",
			"authorization_endpoint": "http://localhost:49153/oauth/authorize",
			"token_endpoint":         "http://localhost:49153/oauth/token",
			"userinfo_endpoint":      "http://localhost:49153/userinfo",
		} {
			if got := i.get(i.endpoint("metadata")).json[name]; got != want {
				t.Errorf("%s is %v, want %s", name, got, want)
			}
		}
		if got := i.decideURL(authorization("web"), "alice", "approve").redirectTo().Get("iss"); got != "http://localhost:49153" {
			t.Errorf("iss is %s", got)
		}
		elsewhere, _ := json.Marshal(map[string]string{"url": "http://localhost:49153/oauth/authorize?" + authorization("web").Encode(), "username": "alice", "decision": "approve"})
		if r := i.control("POST", "authorize", string(elsewhere)); r.redirectTo().Get("code") == "" {
			t.Errorf("a URL there: %s", r.body)
		}
		i.control("POST", "authorize", `{"url":"http://other.example/","username":"alice","decision":"approve"}`).
			wantProblem("url: is not the authorization endpoint of this server, http://localhost:49153/oauth/authorize")
		b := i.browser()
		start := b.get("/")
		if !strings.Contains(start.body, "http://localhost:49153/oauth/token") || strings.Contains(start.body, i.URL) {
			t.Errorf("the start page has %s", start.body)
		}
		page := b.get("/login")
		if got := start.Header.Get("Set-Cookie") + page.Header.Get("Set-Cookie"); !strings.HasPrefix(got, "grantling-49153=") {
			t.Errorf("the cookie is %s", got)
		}
		if r := b.post("/login", page.form(credentials("alice", "wonderland")), "Origin", "http://localhost:49153"); r.StatusCode != http.StatusSeeOther {
			t.Errorf("a sign-in from there: status %d", r.StatusCode)
		}
		if r := i.get("/healthz", "Host", "auth.example"); r.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("Host auth.example before: status %d", r.StatusCode)
		}
		i.mustControl("POST", "issuer", `{"issuer":"https://auth.example/"}`)
		if r := i.get("/healthz", "Host", "auth.example"); r.StatusCode != http.StatusOK {
			t.Errorf("Host auth.example after: status %d", r.StatusCode)
		}
		if got := i.get(i.endpoint("metadata")).json["token_endpoint"]; got != "https://auth.example/oauth/token" {
			t.Errorf("the token endpoint is %v", got)
		}
		if got := i.get("/login").Header.Get("Set-Cookie"); !strings.HasPrefix(got, "__Host-grantling-=") || !strings.Contains(got, "; Secure") {
			t.Errorf("the cookie is %s", got)
		}
	})
	t.Run("R193 pages of the issuer before it are strangers", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		read := func() int {
			return i.get("/_control/clock", "Origin", "http://old.example:1", "Sec-Fetch-Site", "cross-site").StatusCode
		}
		i.mustControl("POST", "issuer", `{"issuer":"http://old.example:1"}`)
		if status := read(); status != 200 {
			t.Errorf("status %d", status)
		}
		i.mustControl("POST", "issuer", `{"issuer":"`+i.URL+`"}`)
		if status := read(); status != 403 {
			t.Errorf("afterwards: status %d", status)
		}
	})
	t.Run("R193 it is refused with another path, and when it is none", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		for body, want := range map[string]string{
			`{"issuer":"http://localhost:1/tenant"}`: "issuer: must have the same path as before: none",
			`{}`:                                     "issuer: is missing",
			`{"issuer":"localhost:1"}`:               `issuer "localhost:1": is not a URL with https:// or http://`,
			`{"issuer":"http://localhost:1/?a"}`:     `issuer "http://localhost:1/?a": has a query or a fragment (RFC 8414 §2)`,
			`{"issuer":"http://[fe80::1%25eth0]:1"}`: `issuer "http://[fe80::1%25eth0]:1": has a host with a zone, which means something on this machine only`,
			`{"issuer":1}`:                           "body:1: issuer: must be a string",
		} {
			if r := i.control("POST", "issuer", body); r.StatusCode != http.StatusBadRequest || r.json["error"] != want {
				t.Errorf("%s: status %d: %s, want %s", body, r.StatusCode, r.body, want)
			}
		}
		if got := i.get(i.endpoint("metadata")).json["issuer"]; got != i.URL {
			t.Errorf("the issuer is %v", got)
		}
		i.server.base = "/tenant"
		i.must(i.server.setIssuer("http://localhost:1/tenant"))
		if r := i.browser().do("POST", "/tenant/_control/issuer", `{"issuer":"http://localhost:1/"}`); r.json["error"] != "issuer: must have the same path as before: /tenant" {
			t.Errorf("without the path: %s", r.body)
		}
		if r := i.browser().do("POST", "/tenant/_control/issuer", `{"issuer":"http://localhost:2/tenant"}`); r.json["issuer"] != "http://localhost:2/tenant" {
			t.Errorf("with the path: %s", r.body)
		}
	})
	t.Run("R193 a reset leaves it", func(t *testing.T) {
		t.Parallel()
		i := startControlled(t)
		i.mustControl("POST", "issuer", `{"issuer":"http://localhost:49153"}`)
		i.mustControl("POST", "reset", "")
		if got := i.get(i.endpoint("metadata")).json["issuer"]; got != "http://localhost:49153" {
			t.Errorf("the issuer is %v", got)
		}
	})
}
