package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// device is a client without a browser that waits for its user.
type device struct {
	*instance
	clientID string
	code     string // what it sends
	userCode string // what it shows
}

// device asks for a device code, as a client.
func (i *instance) device(clientID string, change ...string) *device {
	i.Helper()
	r := i.post(i.endpoint("device_authorization"), with(deviceClient(clientID, url.Values{}), change...))
	if r.StatusCode != http.StatusOK {
		i.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	return &device{i, clientID, r.json["device_code"].(string), r.json["user_code"].(string)}
}

// deviceClient is withClient, also for the public client demo.
func deviceClient(clientID string, form url.Values) url.Values {
	form = withClient(clientID, form)
	if clientID == "demo" {
		form.Del("client_secret")
	}
	return form
}

// poll asks for the token.
func (d *device) poll(change ...string) *reply {
	d.Helper()
	form := deviceClient(d.clientID, url.Values{"grant_type": {deviceGrant}, "device_code": {d.code}})
	return d.post(d.endpoint("token"), with(form, change...))
}

// answer is what a user answers on the page.
func (d *device) answer(b *browser, decision string) *reply {
	d.Helper()
	page := b.get("/device?user_code=" + d.userCode)
	if !strings.Contains(page.body, `name="decision"`) {
		return page
	}
	return b.post("/device", page.form(url.Values{"decision": {decision}}))
}

// approved is the device once a user has approved.
func (d *device) approved(username string) *device {
	d.Helper()
	if r := d.answer(d.as(username), "approve"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "<h1>Device connected</h1>") {
		d.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	return d
}

func TestDeviceAuthorization(t *testing.T) {
	t.Parallel()
	i := start(t)
	t.Run("R219 the whole flow", func(t *testing.T) {
		t.Parallel()
		transcript(t, i, `
		> POST /oauth/device_authorization
		>
		> client_id=native&scope=read
		< 200 OK
		< Cache-Control: no-store
		< Content-Type: application/json
		<
		< {"device_code":"{device}","user_code":"{user_code}","verification_uri":"{issuer}/device","verification_uri_complete":"{issuer}/device?user_code={user_code}","expires_in":1800,"interval":5}

		> POST /oauth/token
		>
		> client_id=native&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code={device}
		< 400 Bad Request
		< Cache-Control: no-store
		<
		< {"error":"authorization_pending",…}

		> GET /device
		< 200 OK
		<
		< …Sign in…

		> POST /login
		>
		> {page}&username=alice&password=wonderland
		< 303 See Other
		< Location: /device

		> GET /device
		< 200 OK
		<
		< …Enter the code…

		> POST /device
		>
		> {page}&user_code={user_code}
		< 200 OK
		<
		< …<bdi>native</bdi> asks for access…{user_code}…Allow it only if the device is in front of you…<code>read</code>…

		> POST /device
		>
		> {page}&decision=approve
		< 200 OK
		<
		< …Device connected…

		> POST /oauth/token
		>
		> client_id=native&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code={device}
		< 200 OK
		< Cache-Control: no-store
		<
		< {"access_token":"{access}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh}","scope":"read"}

		> GET /userinfo
		> Authorization: Bearer {access}
		< 200 OK
		<
		< {"sub":"alice",…}
`)
	})
	for _, row := range []struct {
		name   string
		form   url.Values
		status int
		code   string
	}{
		{"no client", url.Values{"scope": {"read"}}, 401, "invalid_client"},
		{"unknown client", url.Values{"client_id": {"nobody"}}, 401, "invalid_client"},
		{"no secret", url.Values{"client_id": {"web"}}, 401, "invalid_client"},
		{"wrong secret", url.Values{"client_id": {"web"}, "client_secret": {"guess"}}, 401, "invalid_client"},
		{"client of other grants", withClient("legacy", url.Values{}), 400, "unauthorized_client"},
		{"too much scope", withClient("web", url.Values{"scope": {"admin"}}), 400, "invalid_scope"},
		{"two scopes", withClient("web", url.Values{"scope": {"read", "write"}}), 400, "invalid_request"},
		{"confidential client", withClient("web", url.Values{}), 200, ""},
	} {
		t.Run("R219 3.1 "+row.name, func(t *testing.T) {
			t.Parallel()
			r := i.in(t).post("/oauth/device_authorization", row.form)
			if got, _ := r.json["error"].(string); r.StatusCode != row.status || got != row.code {
				t.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		})
	}
	t.Run("R219 3.1 POST only", func(t *testing.T) {
		i.in(t).get("/oauth/device_authorization").wantError(http.StatusMethodNotAllowed, "invalid_request")
	})
	t.Run("R219 6.1 user codes are eight consonants", func(t *testing.T) {
		seen := map[string]bool{}
		for range 1000 {
			code := newUserCode()
			if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{8}$`).MatchString(code) || seen[code] {
				t.Fatalf("%s", code)
			}
			seen[code] = true
		}
		if got := i.in(t).device("native").userCode; !regexp.MustCompile(`^[B-Z]{4}-[B-Z]{4}$`).MatchString(got) {
			t.Error(got)
		}
	})
	t.Run("R219 4 metadata", func(t *testing.T) {
		r := i.in(t).get("/.well-known/oauth-authorization-server")
		if r.json["device_authorization_endpoint"] != i.URL+"/oauth/device_authorization" || !strings.Contains(r.body, `"`+deviceGrant+`"`) {
			t.Error(r.body)
		}
	})
	t.Run("R216 the page names the host of a client's document", func(t *testing.T) {
		i := start(t)
		i.server.documents.give(map[string]json.RawMessage{documentURL: json.RawMessage(documentOf(t, documentURL, `{"grant_types":["`+deviceGrant+`"]}`))})
		d := i.device("native", "client_id", documentURL)
		if page := i.as("alice").get("/device?user_code=" + d.userCode); !strings.Contains(page.body, "come from a document at <strong><bdi>app.example</bdi></strong>") {
			t.Error(page.body)
		}
	})
	t.Run("R219 at most so many are kept", func(t *testing.T) {
		i := start(t, inMemory(t))
		connected, first := i.device("native").approved("alice"), i.device("native")
		i.must(i.server.store.update(func(t *tx) error {
			for range maxDevices - 2 {
				c := newCredential()
				t.put(bucketDevices, c.id[:], oneTime{stored: c.stored(1), Expires: 1, Device: &deviceRequest{UserCode: "BBBBBBBB"}})
			}
			return nil
		}))
		last := i.device("native")
		if n := count(t, i.server.store, bucketDevices); n != maxDevices {
			t.Errorf("%d device codes", n)
		}
		first.poll().wantError(400, "invalid_grant")
		last.poll().wantError(400, "authorization_pending")
		connected.poll().wantToken() // what the user allowed is not lost
	})
	for _, service := range []string{"figshare", "mastodon", "trackmania", "sharesight"} {
		t.Run("R219 not in "+service, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, service)
			if a, b := i.post("/oauth/device_authorization", url.Values{}), i.get("/device"); a.StatusCode != 404 || b.StatusCode != 404 {
				t.Errorf("status %d and %d", a.StatusCode, b.StatusCode)
			}
		})
	}
	for _, row := range []struct{ was, is string }{
		{`, "` + deviceGrant + `"`, ``},
		{`"device_authorization": ["/oauth/device_authorization"],`, ``},
	} {
		t.Run("R219 profile without "+row.was, func(t *testing.T) {
			data, err := profileFiles.ReadFile("profiles/rfc6749.json")
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseProfile("p.json", []byte(strings.Replace(string(data), row.was, row.is, 1)))
			if err == nil || !strings.Contains(err.Error(), "the device grant") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("R219 resources are asked for and granted", func(t *testing.T) {
		const resource = "https://api.example/"
		i := start(t)
		d := i.device("native", "resource", resource)
		alice := i.as("alice")
		if page := alice.get("/device?user_code=" + d.userCode); !strings.Contains(page.body, resource) {
			t.Errorf("%s", page.body)
		}
		d.answer(alice, "approve")
		d.poll("resource", "https://other.example/").wantError(400, "invalid_target")
		access, _ := d.poll().wantToken()
		if got := i.introspect(access).json["aud"]; got != resource {
			t.Errorf("aud is %v", got)
		}
		i.post("/oauth/device_authorization", withClient("native", url.Values{"resource": {"api"}})).wantError(400, "invalid_target")
	})
	t.Run("R219 -auto-approve", func(t *testing.T) {
		i := start(t, func(s *server) { s.autoApprove = "alice" })
		d := i.device("native", "login_hint", "bob")
		access, _ := d.poll().wantToken()
		if got := i.introspect(access).json["username"]; got != "bob" {
			t.Errorf("the token is %v's", got)
		}
		i.server.autoApprove = "nobody"
		r := i.post("/oauth/device_authorization", withClient("native", url.Values{}))
		r.wantError(http.StatusForbidden, "access_denied")
	})
}

// TestDevicePolling is the token endpoint's part (RFC 8628 §3.4, §3.5).
func TestDevicePolling(t *testing.T) {
	t.Parallel()
	type step func(d *device)
	const second = time.Second
	poll := func(status int, code string) step {
		return func(d *device) { d.Helper(); d.poll().wantError(status, code) }
	}
	wait := func(time time.Duration) step { return func(d *device) { d.advance(time) } }
	pending, slow := poll(400, "authorization_pending"), poll(400, "slow_down")
	token := func(d *device) { d.Helper(); d.poll().wantToken() }
	approve := func(d *device) { d.Helper(); d.approved("alice") }
	deny := func(d *device) {
		d.Helper()
		if r := d.answer(d.as("alice"), "deny"); !strings.Contains(r.body, "<h1>Access denied</h1>") {
			d.Fatalf("%s", r.body)
		}
	}
	for _, row := range []struct {
		name  string
		steps []step
	}{
		{"the interval is kept", []step{pending, wait(5 * second), pending, wait(5 * second), pending, approve, wait(5 * second), token}},
		{"too soon", []step{pending, wait(second), slow}},
		{"the interval grows by 5 seconds each time", []step{pending, slow, wait(5 * second), slow, wait(10 * second), slow, wait(20 * second), pending, wait(20 * second), pending}},
		{"a longer interval stays", []step{pending, slow, wait(10 * second), pending, wait(5 * second), slow}},
		{"approved at once", []step{approve, token}},
		{"approved after slow_down", []step{pending, slow, approve, token}},
		{"denied", []step{pending, deny, poll(400, "access_denied"), poll(400, "access_denied")}},
		{"expired while waiting", []step{wait(1790 * second), pending, wait(10 * second), poll(400, "expired_token")}},
		{"expired after the approval", []step{approve, wait(1800 * second), poll(400, "expired_token")}},
		{"expired after the denial", []step{deny, wait(1800 * second), poll(400, "expired_token")}},
		{"used", []step{approve, token, poll(400, "invalid_grant")}},
		{"withdrawn before the token", []step{approve, func(d *device) {
			alice := d.as("alice")
			alice.post("/account/authorized/revoke", alice.get("/account/authorized").form(url.Values{"id": {"native"}}))
		}, poll(400, "invalid_grant")}},
		{"user deleted", []step{approve, func(d *device) { d.must(d.server.store.deleteUser("alice")) }, poll(400, "invalid_grant")}},
		{"scope no longer registered", []step{approve, func(d *device) {
			d.furnish(`{"clients": [{"client_id": "native", "token_endpoint_auth_method": "none", "redirect_uris": [], "scope": "read"}]}`)
		}, poll(400, "invalid_scope")}},
		{"another client", []step{approve, func(d *device) {
			d.poll("client_id", "native2").wantError(400, "invalid_grant")
		}, token}},
		{"registered again", []step{approve, func(d *device) {
			d.must(d.server.store.deleteClient("native"))
			d.furnish(`{"clients": [{"client_id": "native", "token_endpoint_auth_method": "none", "redirect_uris": []}]}`)
		}, poll(400, "invalid_grant")}},
		{"no device_code", []step{func(d *device) { d.poll("device_code", absent).wantError(400, "invalid_request") }}},
		{"the user code", []step{func(d *device) { d.poll("device_code", d.userCode).wantError(400, "invalid_grant") }}},
		{"two device_codes", []step{func(d *device) {
			d.poll("device_code", d.code, "device_code", d.code).wantError(400, "invalid_request")
		}}},
		{"another code with the same id", []step{approve, func(d *device) {
			other := "A"
			if strings.HasSuffix(d.code, other) {
				other = "E"
			}
			d.poll("device_code", d.code[:len(d.code)-1]+other).wantError(400, "invalid_grant")
		}, token}},
		{"as an authorization code", []step{approve, func(d *device) {
			d.post("/oauth/token", exchangeOf("native", d.code)).wantError(400, "invalid_grant")
		}, token}},
		{"swept when expired", []step{approve, wait(1800 * second), func(d *device) {
			d.must(d.server.sweepSome(d.Context()))
			if n := count(d.T, d.server.store, bucketDevices); n != 0 {
				d.Errorf("%d device codes", n)
			}
			d.poll().wantError(400, "invalid_grant")
		}}},
		{"not swept while waiting", []step{func(d *device) { d.must(d.server.sweepSome(d.Context())) }, pending}},
	} {
		t.Run("R219 3.5 "+row.name, func(t *testing.T) {
			t.Parallel()
			d := start(t).device("native")
			for _, step := range row.steps {
				step(d)
			}
		})
	}
	t.Run("R219 5.2 a second use ends the tokens", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		d := i.device("web").approved("alice")
		access, refresh := d.poll().wantToken()
		i.wantAlive(access, refresh)
		d.poll().wantError(400, "invalid_grant")
		i.wantDead(access, refresh)
	})
}

// TestDevicePage is the page where the user decides (RFC 8628 §3.3).
func TestDevicePage(t *testing.T) {
	t.Parallel()
	i := start(t)
	for name, typed := range map[string]func(code string) string{
		"as shown":          func(code string) string { return code },
		"small letters":     strings.ToLower,
		"without a hyphen":  func(code string) string { return strings.ReplaceAll(code, "-", "") },
		"with spaces":       func(code string) string { return " " + strings.Join(strings.Split(code, ""), " ") + " " },
		"hyphens elsewhere": func(code string) string { return "-" + strings.ReplaceAll(code, "-", "_") },
	} {
		t.Run("R219 6.1 a code "+name, func(t *testing.T) {
			t.Parallel()
			d := i.in(t).device("native")
			b := d.as("alice")
			r := b.post("/device", b.get("/device").form(url.Values{"user_code": {typed(d.userCode)}}))
			if r.text("user-code") != d.userCode || !strings.Contains(r.body, `<span class="badge">Unverified</span>`) {
				t.Errorf("%s", r.body)
			}
		})
	}
	t.Run("R219 nobody is signed in", func(t *testing.T) {
		d := i.in(t).device("native")
		b := d.browser()
		signIn := b.get("/device?user_code=" + d.userCode)
		back := b.post("/login", signIn.form(url.Values{"username": {"alice"}, "password": {"wonderland"}}))
		if got := back.Header.Get("Location"); got != "/device?user_code="+d.userCode {
			t.Errorf("the sign-in leads to %s", got)
		}
		if r := d.post("/device", url.Values{"user_code": {d.userCode}, "decision": {"approve"}}); r.StatusCode != http.StatusForbidden {
			t.Errorf("status %d", r.StatusCode)
		}
		d.poll().wantError(400, "authorization_pending")
	})
	t.Run("R219 another user", func(t *testing.T) {
		d := i.in(t).device("native")
		b := d.as("alice")
		out := b.post("/logout", b.get("/device?user_code="+d.userCode).form(nil))
		if got := out.Header.Get("Location"); got != "/device?user_code="+d.userCode {
			t.Errorf("switching the user leads to %s", got)
		}
		if r := b.get(out.Header.Get("Location")); !strings.Contains(r.body, `name="password"`) {
			t.Errorf("%s", r.body)
		}
		d.poll().wantError(400, "authorization_pending")
	})
	t.Run("R219 a form needs its token", func(t *testing.T) {
		d := i.in(t).device("native")
		alice := d.as("alice")
		alice.post("/device", url.Values{"user_code": {d.userCode}, "decision": {"approve"}}).wantPage(http.StatusForbidden)
		if r := alice.get("/device?user_code=" + d.userCode + "&decision=approve"); !strings.Contains(r.body, `name="decision"`) {
			t.Errorf("%s", r.body)
		}
		d.poll().wantError(400, "authorization_pending")
	})
	t.Run("R219 another decision", func(t *testing.T) {
		d := i.in(t).device("native")
		d.answer(d.as("alice"), "maybe").wantErrorPage(400, "invalid_request", "decision must be approve or deny")
		d.poll().wantError(400, "authorization_pending")
	})
	t.Run("R219 two codes at once", func(t *testing.T) {
		d := i.in(t).device("native")
		d.as("alice").get("/device?user_code=" + d.userCode + "&user_code=x").wantPage(400)
	})
	t.Run("R219 a second decision", func(t *testing.T) {
		d := i.in(t).device("native")
		alice, bob := d.as("alice"), d.as("bob")
		page := bob.get("/device?user_code=" + d.userCode)
		d.answer(alice, "deny")
		bob.post("/device", page.form(url.Values{"decision": {"approve"}})).wantErrorPage(400, "invalid_request", "this user code has been answered already")
		answered := bob.get("/device?user_code=" + d.userCode)
		answered.wantErrorPage(400, "invalid_request", "this user code has been answered already")
		answered.contains("Your first answer has been sent to the device.")
		d.poll().wantError(400, "access_denied")
	})
	t.Run("R219 an expired code", func(t *testing.T) {
		i := start(t)
		d := i.device("native")
		alice := i.as("alice")
		page := alice.get("/device?user_code=" + d.userCode)
		i.advance(deviceCodeLifetime * time.Second)
		for _, r := range []*reply{alice.get("/device?user_code=" + d.userCode), alice.post("/device", page.form(url.Values{"decision": {"approve"}}))} {
			if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "No device waits with this code.") {
				t.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		}
		if n := count(t, i.server.store, bucketGrants); n != 0 {
			t.Errorf("%d grants", n)
		}
	})
	t.Run("R219 a client that is gone", func(t *testing.T) {
		i := start(t)
		d := i.device("native")
		i.must(i.server.store.deleteClient("native"))
		if r := i.as("alice").get("/device?user_code=" + d.userCode); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R219 5.1 guesses are limited", func(t *testing.T) {
		i := start(t)
		alice, bob := i.as("alice"), i.as("bob")
		for n := range userCodeTries {
			if n == 5 { // a right code between them does not help
				i.device("native").answer(alice, "approve")
			}
			if r := alice.get("/device?user_code=BBBB-BBBB"); r.StatusCode != http.StatusUnprocessableEntity {
				t.Fatalf("try %d: status %d", n, r.StatusCode)
			}
		}
		d := i.device("native")
		if r := alice.get("/device?user_code=" + d.userCode); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" || !strings.Contains(r.body, "Too many wrong codes.") {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
		if r := bob.get("/device?user_code=" + d.userCode); r.StatusCode != 200 {
			t.Errorf("bob: status %d", r.StatusCode)
		}
		i.advance(time.Minute)
		d.answer(alice, "approve")
		d.poll().wantToken()
	})
}

// TestDeviceRaces: one decision, one token answer.
func TestDeviceRaces(t *testing.T) {
	t.Parallel()
	t.Run("R219 32 polls at once", func(t *testing.T) {
		t.Parallel()
		for range 5 {
			i := start(t)
			d := i.device("native").approved("alice")
			replies := make([]*reply, 32)
			atOnce(len(replies), func(k int) { replies[k] = d.poll() })
			access, refresh := wantOne(i, replies)
			i.wantDead(access, refresh)
		}
	})
	t.Run("R219 32 polls of a device that waits", func(t *testing.T) {
		t.Parallel()
		d := start(t).device("native")
		replies := make([]*reply, 32)
		atOnce(len(replies), func(k int) { replies[k] = d.poll() })
		pending := 0
		for _, r := range replies {
			if r.json["error"] == "authorization_pending" {
				pending++
				continue
			}
			r.wantError(400, "slow_down")
		}
		if pending != 1 {
			t.Errorf("%d were on time", pending)
		}
		d.approved("alice").poll().wantToken()
	})
	t.Run("R219 two decisions on one code", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		alice, bob := i.as("alice"), i.as("bob")
		bothWin(t, 10, func(int) (approved bool) {
			d := i.device("native")
			page, other := alice.get("/device?user_code="+d.userCode), bob.get("/device?user_code="+d.userCode)
			var replies [2]*reply
			atOnce(2, func(k int) {
				if k == 0 {
					replies[0] = alice.post("/device", page.form(url.Values{"decision": {"approve"}}))
				} else {
					replies[1] = bob.post("/device", other.form(url.Values{"decision": {"deny"}}))
				}
			})
			approved = replies[0].StatusCode == 200
			if approved == (replies[1].StatusCode == 200) {
				t.Fatalf("status %d and %d", replies[0].StatusCode, replies[1].StatusCode)
			}
			if r := d.poll(); approved {
				r.wantToken()
			} else {
				r.wantError(400, "access_denied")
			}
			return approved
		})
	})
	t.Run("R219 approval against expiry", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		alice := i.as("alice")
		bothWin(t, 10, func(round int) (approved bool) {
			d := i.device("native")
			page := alice.get("/device?user_code=" + d.userCode)
			before := count(t, i.server.store, bucketGrants)
			var r *reply
			atOnce(2, func(k int) {
				if k == 0 {
					r = alice.post("/device", page.form(url.Values{"decision": {"approve"}}))
				} else {
					for range round % 4 { // sooner and later, so that both win
						i.get("/healthz")
					}
					i.advance(deviceCodeLifetime * time.Second)
				}
			})
			approved = r.StatusCode == 200
			if n := count(t, i.server.store, bucketGrants) - before; approved != (n == 1) || !approved && r.StatusCode != 422 {
				t.Fatalf("status %d, %d grants more", r.StatusCode, n)
			}
			d.poll().wantError(400, "expired_token")
			i.advance(-deviceCodeLifetime * time.Second)
			return approved
		})
	})
}

func TestDeviceControl(t *testing.T) {
	t.Parallel()
	i := startControlled(t)
	decide := func(userCode, username, decision string) *reply {
		t.Helper()
		body, _ := json.Marshal(map[string]string{"user_code": userCode, "username": username, "decision": decision})
		return i.control("POST", "device", string(body))
	}
	t.Run("R220 the whole flow without a browser", func(t *testing.T) {
		d := i.device("native", "scope", "read")
		r := i.mustControl("GET", "device", "")
		want := `[{"user_code":"` + d.userCode + `","client_id":"native","scope":"read","expires":"`
		if !strings.HasPrefix(r.body, want) || strings.Count(r.body, "user_code") != 1 {
			t.Errorf("%s", r.body)
		}
		d.poll().wantError(400, "authorization_pending")
		if r := decide(strings.ToLower(d.userCode), "bob", "approve"); r.StatusCode != 200 || r.body != "{}\n" {
			t.Errorf("%s", r.body)
		}
		if r := i.mustControl("GET", "device", ""); r.body != "[]\n" {
			t.Errorf("%s", r.body)
		}
		access, _ := d.poll().wantToken()
		if got := i.introspect(access); got.json["username"] != "bob" || got.json["scope"] != "read" {
			t.Errorf("%s", got.body)
		}
	})
	t.Run("R220 deny", func(t *testing.T) {
		d := i.device("native")
		decide(d.userCode, "alice", "deny")
		d.poll().wantError(400, "access_denied")
		decide(d.userCode, "alice", "approve").wantProblem("user_code")
	})
	t.Run("R220 what is wrong is named", func(t *testing.T) {
		d := i.device("native")
		decide("BBBB-BBBB", "alice", "approve").wantProblem("user_code")
		decide(d.userCode, "nobody", "approve").wantProblem("username")
		decide(d.userCode, "alice", "maybe").wantProblem("decision")
		d.poll().wantError(400, "authorization_pending")
	})
	t.Run("R220 a reset forgets", func(t *testing.T) {
		d := i.device("native")
		i.mustControl("POST", "reset", "")
		if r := i.mustControl("GET", "device", ""); r.body != "[]\n" {
			t.Errorf("%s", r.body)
		}
		d.poll().wantError(400, "invalid_grant")
	})
}
