package e2e

import (
	"html"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// form has the hidden fields of a page, and more.
func (a *answer) form(more url.Values) url.Values {
	form := url.Values{}
	for _, field := range fieldOfPage.FindAllStringSubmatch(a.body, -1) {
		form.Set(field[1], html.UnescapeString(field[2]))
	}
	for name, values := range more {
		form[name] = values
	}
	return form
}

// signIn signs a user of the fixtures in through the page.
func (a *agent) signIn(t *testing.T, server, username, password string) {
	t.Helper()
	page := a.must(t, 200, server+"/login", nil, "")
	a.must(t, 303, server+"/login", page.form(url.Values{"username": {username}, "password": {password}}), "")
}

// code asks a server with -auto-approve for a code.
func (a *agent) code(t *testing.T, server string) string {
	t.Helper()
	got := a.must(t, 303, server+authorization(), nil, "")
	code := got.param("code")
	if code == "" {
		t.Fatalf("no code in %s", got.header.Get("Location"))
	}
	return code
}

// device asks for a device code at a server, which -auto-approve approves at once.
func (a *agent) device(t *testing.T, server string) *answer {
	t.Helper()
	return a.must(t, 200, server+"/oauth/device_authorization", url.Values{"client_id": {"native"}}, "")
}

// race sends the same form to servers 32 times at once, and returns the one answer
// that has a status. All others must have the other one.
func (a *agent) race(t *testing.T, all []*replica, path string, form func(n int) url.Values, wins, loses int) (winner *answer) {
	t.Helper()
	var mu sync.Mutex
	statuses := make(map[int]int)
	var refused string
	atOnce(32, func(n int) {
		got, err := a.send(all[n%len(all)].URL+path, form(n), "")
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			t.Error(err)
		case got.status == wins:
			winner = got
			statuses[wins]++
		default:
			refused = got.body
			statuses[got.status]++
		}
	})
	if winner == nil || statuses[wins] != 1 || statuses[loses] != 31 {
		t.Fatalf("%s: answers by status %v, want 1 of %d and 31 of %d; the last refusal: %.300s", path, statuses, wins, loses, refused)
	}
	return winner
}

// TestRacesOverServers is R241: what works once works once, also if two servers are
// asked for it at the same moment.
func TestRacesOverServers(t *testing.T) {
	const rounds = 20
	etcd := startEtcd(t, 3)
	a := newAgent(30 * time.Second)
	same := func(form url.Values) func(int) url.Values { return func(int) url.Values { return form } }
	all := startReplicas(t, etcd, "races", "-auto-approve", "alice")
	wantDead := func(t *testing.T, token string) {
		t.Helper()
		for _, r := range all {
			a.must(t, 401, r.URL+"/oauth/token/info", nil, token)
		}
	}
	t.Run("R241 a code", func(t *testing.T) {
		for n := range rounds {
			code := a.code(t, all[n%2].URL)
			won := a.race(t, all, "/oauth/token", same(redemption(code)), 200, 400)
			wantDead(t, won.text("access_token")) // RFC 6749 §4.1.2: a second use revokes
		}
	})
	t.Run("R241 a refresh token", func(t *testing.T) {
		for n := range rounds {
			first := a.must(t, 200, all[n%2].URL+"/oauth/token", redemption(a.code(t, all[n%2].URL)), "")
			won := a.race(t, all, "/oauth/token", same(refreshing(first.text("refresh_token"))), 200, 400)
			wantDead(t, won.text("access_token")) // RFC 9700 §4.14.2
			a.must(t, 400, all[n%2].URL+"/oauth/token", refreshing(won.text("refresh_token")), "")
		}
	})
	t.Run("R241 a device code", func(t *testing.T) {
		for n := range rounds {
			form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"native"}}
			form.Set("device_code", a.device(t, all[n%2].URL).text("device_code"))
			won := a.race(t, all, "/oauth/token", same(form), 200, 400)
			wantDead(t, won.text("access_token"))
		}
	})
	t.Run("R241 consent", func(t *testing.T) {
		all := startReplicas(t, etcd, "consent")
		a.signIn(t, all[0].URL, "alice", "wonderland")
		for n := range rounds {
			page := a.must(t, 200, all[n%2].URL+authorization(), nil, "")
			forms := []url.Values{page.form(url.Values{"decision": {"approve"}}), page.form(url.Values{"decision": {"deny"}})}
			won := a.race(t, all, "/consent", func(n int) url.Values { return forms[n/2%2] }, 303, 400)
			if code, denied := won.param("code"), won.param("error"); (code == "") == (denied != "access_denied") {
				t.Errorf("the browser goes to %s", won.header.Get("Location"))
			}
		}
	})
}

// TestRevocationOverServers is R242: what one server has revoked is dead at the other
// when the answer is there, although that knew it alive just before.
func TestRevocationOverServers(t *testing.T) {
	etcd := startEtcd(t, 3)
	all := startReplicas(t, etcd, "", "-auto-approve", "alice")
	a := newAgent(30 * time.Second)
	t.Run("R242 500 revocations", func(t *testing.T) {
		var alive atomic.Int64
		eachOf(500, func(n int) {
			one, other := all[n%2].URL, all[(n+1)%2].URL
			want := func(status int, target string, form url.Values, token string) *answer {
				got, err := a.send(target, form, token)
				switch {
				case err != nil:
					t.Error(err)
					return new(answer)
				case got.status == 200 && status == 401:
					alive.Add(1)
				case got.status != status:
					t.Errorf("%s: status %d, want %d: %s", target, got.status, status, got.body)
				}
				return got
			}
			// By turns a token of a client alone, and a refresh token with all of its grant.
			form, revoked := job(), "access_token"
			if n/2%2 == 0 {
				form, revoked = redemption(want(303, one+authorization(), nil, "").param("code")), "refresh_token"
			}
			issued := want(200, one+"/oauth/token", form, "")
			token := issued.text("access_token")
			want(200, other+"/oauth/token/info", nil, token)
			ends := revocation(issued.text(revoked))
			if revoked == "access_token" {
				ends.Set("client_id", "job")
				ends.Set("client_secret", "job-secret")
			}
			want(200, one+"/oauth/revoke", ends, "")
			want(401, other+"/oauth/token/info", nil, token)
		})
		if alive.Load() > 0 {
			t.Errorf("%d of 500 tokens were alive at the other server after they were revoked", alive.Load())
		}
	})
}
