package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// behind serves the same users and clients once more, as a server with
// another issuer.
func (i *instance) behind(issuer string) *instance {
	i.Helper()
	s, err := newServer(i.server.profile, i.server.store, issuer, i.server.log)
	if err != nil {
		i.Fatal(err)
	}
	s.hashRounds = i.server.hashRounds
	ts := httptest.NewServer(s)
	i.Cleanup(ts.Close)
	return &instance{T: i.T, server: s, URL: ts.URL, log: i.log}
}

// cookie is the value of the browser's one cookie, or "".
func (b *browser) cookie() string {
	b.Helper()
	u, _ := url.Parse(b.URL)
	cookies := b.client.Jar.Cookies(u)
	if len(cookies) == 0 {
		return ""
	}
	if len(cookies) > 1 {
		b.Fatalf("more than one cookie: %v", cookies)
	}
	return cookies[0].Value
}

// withCookie is a browser that sends one cookie and keeps none.
func (i *instance) withCookie(value string) *browser {
	b := i.browser()
	b.client.Jar = nil
	b.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		r.Header.Set("Cookie", i.server.cookieName()+"="+value)
		return http.DefaultTransport.RoundTrip(r)
	})
	return b
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// signedIn reports whether the server knows the browser's user.
func (b *browser) signedIn() bool {
	b.Helper()
	request := authorization("web")
	request.Set("prompt", "none")
	return b.authorize(request).param("error") != "login_required"
}

// wantSignedIn wants somebody or nobody to be signed in.
func (b *browser) wantSignedIn(want bool) {
	b.Helper()
	if got := b.signedIn(); got != want {
		b.Errorf("signed in: %t, want %t", got, want)
	}
}

// credentials are what a user types.
func credentials(username, password string) url.Values {
	return url.Values{"username": {username}, "password": {password}}
}

// TestSignIn is RFC 6749 §10.12: R43.
func TestSignIn(t *testing.T) {
	t.Parallel()
	i := start(t)
	tests := []struct {
		name   string
		change func(b *browser, form url.Values)
		header []string
		want   int
	}{
		{"the one valid request", nil, nil, http.StatusSeeOther},
		{"from the page itself", nil, []string{"Origin", i.URL, "Sec-Fetch-Site", "same-origin"}, http.StatusSeeOther},
		{"R43 no token", func(b *browser, form url.Values) { form.Del("form_token") }, nil, http.StatusForbidden},
		{"R43 empty token", func(b *browser, form url.Values) { form.Set("form_token", "") }, nil, http.StatusForbidden},
		{"R43 token of another browser", func(b *browser, form url.Values) {
			form.Set("form_token", i.browser().get("/login").form(nil).Get("form_token"))
		}, nil, http.StatusForbidden},
		{"R43 token of a browser that is signed in", func(b *browser, form url.Values) {
			form.Set("form_token", i.as("bob").get("/login").form(nil).Get("form_token"))
		}, nil, http.StatusForbidden},
		{"R43 token without its cookie", func(b *browser, form url.Values) { b.client.Jar = i.browser().client.Jar }, nil, http.StatusForbidden},
		{"R43 from another site", nil, []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{"R43 from nowhere", nil, []string{"Origin", "null"}, http.StatusForbidden},
		{"R43 from another port", nil, []string{"Origin", "http://127.0.0.1:1"}, http.StatusForbidden},
		{"R43 cross-site", nil, []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"R43 same-site is not same-origin", nil, []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
	}
	for _, test := range tests {
		t.Run("10.12 "+test.name, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).browser()
			form := b.get("/login").form(credentials("alice", "wonderland"))
			if test.change != nil {
				test.change(b, form)
			}
			r := b.post("/login", form, test.header...)
			if r.StatusCode != test.want {
				t.Errorf("status %d, want %d: %s", r.StatusCode, test.want, r.body)
			}
			b.wantSignedIn(test.want == http.StatusSeeOther)
		})
	}
	t.Run("10.12 R43 the token from before the sign-in", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).browser()
		form := b.get("/login").form(credentials("alice", "wonderland"))
		b.post("/login", form)
		if form.Get("form_token") == b.get("/login").form(nil).Get("form_token") {
			t.Error("the token is the same after the sign-in")
		}
		if r := b.post("/login", form); r.StatusCode != http.StatusForbidden || r.action() != "/login" {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
		if r := i.in(t).browser().post("/login", form); r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, "or your browser does not keep cookies") {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
		b.post("/logout", form).wantPage(http.StatusForbidden)
		b.wantSignedIn(true)
	})
	t.Run("10.12 R44 the cookie is replaced", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, preset := range []string{newCredential().String(), "x", "AAAA"} {
			b := i.browser()
			u, _ := url.Parse(i.URL)
			b.client.Jar.SetCookies(u, []*http.Cookie{{Name: i.server.cookieName(), Value: preset, Path: "/"}})
			page := b.get("/login")
			before := b.cookie()
			if r := b.post("/login", page.form(credentials("alice", "wonderland"))); r.StatusCode != http.StatusSeeOther {
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
			b.wantSignedIn(true)
			if after := b.cookie(); after == preset || after == before {
				t.Errorf("the cookie is still %q", after)
			}
			i.withCookie(preset).wantSignedIn(false)
			i.withCookie(before).wantSignedIn(false)
			first := b.cookie()
			b.signIn("alice", "wonderland")
			i.withCookie(first).wantSignedIn(false) // a second sign-in ends the first session
		}
	})
}

// TestCookie is R45: RFC 6265's attributes.
func TestCookie(t *testing.T) {
	t.Parallel()
	i := start(t)
	check := func(t *testing.T, r *reply, name string, secure bool) string {
		t.Helper()
		cookies := r.Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%d cookies: %v", len(cookies), r.Header["Set-Cookie"])
		}
		c := cookies[0]
		if c.Name != name || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Secure != secure {
			t.Errorf("cookie %s", c.Raw)
		}
		if len(c.Value) < 22 { // 128 bits in base64url
			t.Errorf("cookie value %q is too short", c.Value)
		}
		return c.Value
	}
	signIn := func(t *testing.T, i *instance, name string, secure bool) {
		page := i.browser().get("/login")
		anonymous := check(t, page, name, secure)
		// By hand: a client on http would not send a Secure cookie.
		r := i.withCookie(anonymous).post("/login", page.form(credentials("alice", "wonderland")))
		session := check(t, r, name, secure)
		out := i.withCookie(session)
		r = out.post("/logout", out.get("/").form(nil))
		if c := r.Cookies(); len(c) != 1 || c[0].Name != name || c[0].MaxAge >= 0 || c[0].Path != "/" || c[0].Secure != secure {
			t.Errorf("signing out sets %v", r.Header["Set-Cookie"])
		}
	}
	t.Run("R45 http", func(t *testing.T) {
		t.Parallel()
		u, _ := url.Parse(i.URL)
		signIn(t, i.in(t), "grantling-"+u.Port(), false)
	})
	t.Run("R45 https", func(t *testing.T) {
		t.Parallel()
		signIn(t, i.in(t).behind("https://as.example"), "__Host-grantling-", true)
	})
}

// TestManyServers is R188: browsers send the cookies of a host to all its ports
// and, with __Host-, to all its paths.
func TestManyServers(t *testing.T) {
	t.Parallel()
	names := make(map[string]string)
	for issuer, want := range map[string]string{
		"http://localhost:9096":     "grantling-9096",
		"http://localhost:9097":     "grantling-9097",
		"http://localhost":          "grantling-",
		"http://localhost:9096/a":   "grantling-9096%2Fa",
		"http://localhost:9096/a-b": "grantling-9096%2Fa-b",
		"http://localhost:9096/a/b": "grantling-9096%2Fa%2Fb",
		"http://localhost/=;,":      "grantling-%2F%3D%3B%2C",
		"https://localhost:9443":    "__Host-grantling-9443",
		"https://localhost:9444/":   "__Host-grantling-9444",
		"https://localhost:9443/a":  "__Host-grantling-9443%2Fa",
	} {
		t.Run("R188 "+issuer, func(t *testing.T) {
			i := start(t).behind(issuer)
			cookies := i.get(i.server.base + "/login").Cookies()
			if len(cookies) != 1 || cookies[0].Name != want {
				t.Errorf("cookies %v, want one named %s", cookies, want)
			}
			if other := names[want]; other != "" {
				t.Errorf("%s has the same", other)
			}
			names[want] = issuer
		})
	}
	t.Run("R188 signed in at both", func(t *testing.T) {
		t.Parallel()
		// One jar for all, as a browser has one for a host. The first two are
		// of one port, and behind two paths.
		var servers []*instance
		for _, issuer := range []string{"https://localhost:9443/a", "https://localhost:9443/b", "https://localhost:9444", "https://localhost:9445"} {
			servers = append(servers, start(t).behind(issuer))
		}
		jar := make(map[string]string)
		send := func(i *instance, method, path string, form url.Values) *reply {
			var cookies []string
			for name, value := range jar {
				cookies = append(cookies, name+"="+value)
			}
			r := i.browser().do(method, i.server.base+path, form.Encode(), "Cookie", strings.Join(cookies, "; "))
			for _, c := range r.Cookies() {
				jar[c.Name] = c.Value
			}
			return r
		}
		for _, i := range servers {
			page := send(i, "GET", "/login", nil)
			if r := send(i, "POST", "/login", page.form(credentials("alice", "wonderland"))); r.StatusCode != http.StatusSeeOther {
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
		}
		for _, i := range servers {
			send(i, "GET", "/", nil).contains("You are signed in as <strong><bdi>alice</bdi></strong>")
		}
	})
}

// TestContinue is where a sign-in leads: R46, R47.
func TestContinue(t *testing.T) {
	t.Parallel()
	i := start(t)
	t.Run("R46 the page says where it leads, also when it comes back", func(t *testing.T) {
		t.Parallel()
		b := start(t).browser() // with its own tries
		page := b.authorize(authorization("web"))
		wants := func(page *reply) {
			t.Helper()
			page.contains(`to continue to <strong><bdi>Web app</bdi></strong> <span class="faint">at <bdi>cb.example</bdi></span>`)
		}
		wants(page)
		wants(b.post(page.action(), page.form(credentials("alice", "wrong"))))
		wants(b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {"wonderland"}, "form_token": {"old"}})))
		wants(b.get("/login?continue=" + url.QueryEscape(b.path("authorize")+"?"+authorization("web").Encode())))
		for range passwordTries {
			page = b.post(page.action(), page.form(credentials("alice", "wrong")))
		}
		page.contains("Too many failed tries")
		wants(page)
		page = b.get("/login?continue=" + url.QueryEscape(b.path("authorize")+"?"+authorization("web", "redirect_uri", "https://evil.example/cb").Encode()))
		if strings.Contains(page.body, "to continue to") || strings.Contains(page.body, "Web app") {
			t.Errorf("it leads nowhere: %s", page.body)
		}
	})
	evil := []string{
		"https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/%09/evil.example", "/\t/evil.example", "/%2F/evil.example",
		"///evil.example", "/.//evil.example", "https:evil.example", "http:///evil.example", "javascript:alert(1)", "data:text/html,x",
		"?x", "#x", "evil.example", "@evil.example", ".evil.example", " //evil.example", "/login\r\nLocation: https://evil.example",
		"//evil.example/oauth/authorize", "https://evil.example/login", "/%6cogin", "/logout", "/consent", "/nowhere",
		"http://" + strings.TrimPrefix(i.URL, "http://") + "@evil.example/login",
	}
	for _, target := range evil {
		t.Run(fmt.Sprintf("R46 %q", target), func(t *testing.T) {
			t.Parallel()
			b := i.in(t).browser()
			page := b.get("/login?continue="+url.QueryEscape(target), "Referer", "https://evil.example/login")
			if got := page.form(nil).Get("continue"); got != "/" {
				t.Errorf("the form carries %q", got)
			}
			form := page.form(credentials("alice", "wonderland"))
			form.Set("continue", target)
			if got := b.post("/login", form, "Referer", "https://evil.example/login").Header["Location"]; !slices.Equal(got, []string{"/"}) {
				t.Errorf("the sign-in leads to %q", got)
			}
			form = b.get("/").form(url.Values{"continue": {target}})
			if got := b.post("/logout", form, "Referer", "https://evil.example/").Header["Location"]; !slices.Equal(got, []string{"/"}) {
				t.Errorf("the sign-out leads to %q", got)
			}
		})
	}
	t.Run("R46 the request comes back byte by byte", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).browser()
		target := "/oauth/authorize?" + authorization("web").Encode() + "&extra=%2f+%2B%e4%3B'%22~(x)"
		page := b.get(target)
		if got := b.post(page.action(), page.form(credentials("alice", "wonderland"))).Header.Get("Location"); got != target {
			t.Errorf("the sign-in leads to\n%s, not to\n%s", got, target)
		}
	})
	// finish approves what is asked on the page, and redeems the code.
	finish := func(t *testing.T, b *browser, clientID string, page *reply) {
		t.Helper()
		back := b.decide(page, "approve")
		code := back.param("code")
		if !strings.HasPrefix(back.location().String(), redirectURIs[clientID]+"?") || code == "" || back.param("state") != "state of "+clientID {
			t.Fatalf("%s: back to %s", clientID, back.location())
		}
		for _, wrong := range []string{"web", "other"} {
			if wrong != clientID {
				b.instance.post(b.endpoint("token"), exchangeOf(wrong, code)).wantError(400, "invalid_grant")
			}
		}
		b.instance.post(b.endpoint("token"), exchangeOf(clientID, code)).wantToken()
	}
	request := func(clientID string) url.Values {
		r := authorization(clientID)
		r.Set("state", "state of "+clientID)
		return r
	}
	t.Run("R47 two tabs, sign-in in the second", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).browser()
		first := b.authorize(request("web"))
		second := b.authorize(request("other"))
		signedIn := b.post(second.action(), second.form(credentials("alice", "wonderland")))
		finish(t, b, "other", b.get(signedIn.location().String()))
		// The first tab's form is from before the sign-in; the page it was on is good.
		again := b.post(first.action(), first.form(credentials("alice", "wonderland")))
		again.contains("This page was out of date: you are already signed in as <strong><bdi>alice</bdi></strong>")
		if again.StatusCode != http.StatusForbidden {
			t.Errorf("status %d, %s", again.StatusCode, again.body)
		}
		finish(t, b, "web", b.continueAs("alice", "wonderland", again))
		on := regexp.MustCompile(`<a href="([^"]*)">Continue</a>`).FindStringSubmatch(again.body)
		b.get(html.UnescapeString(on[1])).location() // the consent is remembered
	})
	t.Run("R47 two tabs, two consent pages", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("bob")
		first, second := b.authorize(request("web")), b.authorize(request("other"))
		finish(t, b, "other", second)
		finish(t, b, "web", first)
	})
}

// TestPassword is who is let in: RFC 6749 §4.3.2, §10.10.
func TestPassword(t *testing.T) {
	t.Parallel()

	t.Run("10.10 R48 an unknown user and a wrong password look the same", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.browser()
		page := b.get("/login")
		answer := func(username string) string {
			r := b.post("/login", page.form(credentials(username, "guess")))
			r.Header.Del("Date")
			if r.Header.Get("Retry-After") != "" {
				r.Header.Set("Retry-After", "SECONDS") // from one's own first try on
			}
			return fmt.Sprintln(r.Status, r.Header, strings.ReplaceAll(r.body, username, "NAME"))
		}
		direct := func(username string) string {
			form := withClient("legacy", credentials(username, "guess"))
			form.Set("grant_type", "password")
			r := i.post(i.endpoint("token"), form)
			r.wantError(400, "invalid_grant")
			r.Header.Del("Date")
			return fmt.Sprintln(r.Status, r.Header, r.body)
		}
		if known, unknown := answer("alice"), answer("zelda"); known != unknown || !strings.HasPrefix(known, "422") {
			t.Errorf("on the page:\n%s\n%s", known, unknown)
		}
		if known, unknown := direct("alice"), direct("zelda"); known != unknown {
			t.Errorf("at the token endpoint:\n%s\n%s", known, unknown)
		}
		// Also once there have been too many.
		for range passwordTries {
			answer("alice")
			answer("zelda")
		}
		if known, unknown := answer("alice"), answer("zelda"); known != unknown || !strings.HasPrefix(known, "429") {
			t.Errorf("on the page, blocked:\n%s\n%s", known, unknown)
		}
	})

	t.Run("10.10 R49 an unknown user costs as much as a known one", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.hashRounds = 100_000 })
		b := i.browser()
		page := b.get("/login")
		// No machine does that many rounds in the time told below, and without
		// them an answer takes a tenth of it.
		least := time.Hour
		for range 5 {
			began := time.Now()
			b.post("/login", page.form(credentials("zelda", "guess")))
			least = min(least, time.Since(began))
		}
		if least < 5*time.Millisecond {
			t.Errorf("the fastest answer took %v", least)
		}
	})

	t.Run("10.10 R50 R54 guessing", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.browser()
		page := b.get("/login")
		try := func(username, password string) *reply {
			return b.post("/login", page.form(credentials(username, password)))
		}
		for n := range passwordTries {
			if r := try("alice", "guess "+strconv.Itoa(n)); r.StatusCode != http.StatusUnprocessableEntity {
				t.Fatalf("guess %d: status %d", n, r.StatusCode)
			}
		}
		blocked := try("alice", "wonderland")
		wait, err := strconv.Atoi(blocked.Header.Get("Retry-After"))
		if blocked.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > guessWindow {
			t.Fatalf("status %d, Retry-After %q", blocked.StatusCode, blocked.Header.Get("Retry-After"))
		}
		if again := try("alice", "guess"); again.body != blocked.body {
			t.Errorf("a right and a wrong password are told apart:\n%s\n%s", blocked.body, again.body)
		}
		if r := i.browser().signIn("alice", "wonderland"); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("without the cookie: status %d", r.StatusCode)
		}
		i.as("bob") // others are not concerned
		i.advance(time.Duration(wait) * time.Second)
		if r := try("alice", "wonderland"); r.StatusCode != http.StatusSeeOther {
			t.Errorf("after the time told: status %d: %s", r.StatusCode, r.body)
		}
	})

	t.Run("10.10 R51 parallel guesses", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.browser()
		page := b.get("/login")
		got := inParallel(50, func(n int) int {
			return b.post("/login", page.form(credentials("alice", "guess "+strconv.Itoa(n)))).StatusCode
		})
		if got[http.StatusUnprocessableEntity] != passwordTries || got[http.StatusTooManyRequests] != 50-passwordTries {
			t.Errorf("statuses %v", got)
		}
		if r := b.post("/login", page.form(credentials("alice", "wonderland"))); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("the right password then: status %d", r.StatusCode)
		}
	})

	t.Run("2.3.1 R51 parallel guesses at a client secret", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		got := inParallel(secretTries+20, func(n int) int {
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"web"}, "client_secret": {strconv.Itoa(n)}}
			return i.post(i.endpoint("token"), form).StatusCode
		})
		if got[http.StatusUnauthorized] != secretTries || got[http.StatusTooManyRequests] != 20 {
			t.Errorf("statuses %v", got)
		}
		right := withClient("web", url.Values{"grant_type": {"client_credentials"}})
		i.post(i.endpoint("token"), right).wantError(429, "invalid_client")
		i.advance(guessWindow * time.Second)
		i.post(i.endpoint("token"), right).wantToken()
	})

	t.Run("10.10 R51 a try that was never looked at is not counted", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.browser()
		page := b.get("/login")
		for range cap(i.server.hashing) {
			i.server.hashing <- struct{}{} // all are busy
		}
		got := inParallel(passwordTries+5, func(int) int {
			ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer hangUp()
			_, _, err := i.server.checkPassword(ctx, "alice", "guess", "127.0.0.1", unixTime(i.server.clock.now().Unix()))
			return asOAuthError(err).Status
		})
		if got[http.StatusServiceUnavailable] != passwordTries+5 {
			t.Errorf("statuses %v", got)
		}
		for range cap(i.server.hashing) {
			<-i.server.hashing
		}
		if r := b.post("/login", page.form(credentials("alice", "wonderland"))); r.StatusCode != http.StatusSeeOther {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})

	t.Run("10.10 R52 one spelling of a username", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.browser()
		page := b.get("/login")
		for _, spelling := range []string{
			"ALICE", "Alice", "alice ", " alice", "alice\t", "alice\x00", "\x00alice", "alice\n", "alice@example.com", "Alice Liddell",
			"ａｌｉｃｅ", "аlice", "alice\u200b", "\ufeffalice", "al\u0131ce", "alice\xff", "alice%00", "", "%",
		} {
			if r := b.post("/login", page.form(credentials(spelling, "wonderland"))); r.StatusCode == http.StatusSeeOther || r.StatusCode >= 500 {
				t.Errorf("%q: status %d", spelling, r.StatusCode)
			}
		}
		b.wantSignedIn(false)
		// The same name in other encodings spends the same tries.
		token := "&form_token=" + page.form(nil).Get("form_token") + "&password="
		for n, body := range slices.Repeat([]string{"username=alice", "username=%61lice", "username=%61%6C%69%63%65", "username=alic%65"}, 3)[:passwordTries] {
			if r := b.do("POST", "/login", body+token+"guess"); r.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("guess %d: status %d", n, r.StatusCode)
			}
		}
		if r := b.do("POST", "/login", "username=alice"+token+"wonderland"); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("status %d", r.StatusCode)
		}
	})

	t.Run("4.3.2 R53 one limit for page and token endpoint, whatever headers claim", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.browser()
		page := b.get("/login")
		elsewhere := func(n int) []string {
			ip := "203.0.113." + strconv.Itoa(n)
			return []string{"X-Forwarded-For", ip, "Forwarded", "for=" + ip, "X-Real-IP", ip, "True-Client-IP", ip, "CF-Connecting-IP", ip, "X-Client-IP", ip, "User-Agent", ip}
		}
		direct := func(username, password string, n int) *reply {
			form := withClient("legacy", credentials(username, password))
			form.Set("grant_type", "password")
			return i.post(i.endpoint("token"), form, elsewhere(n)...)
		}
		for n := range passwordTries {
			b.post("/login", page.form(credentials("alice", "guess")), elsewhere(n)...)
			direct("bob", "guess", n).wantError(400, "invalid_grant")
		}
		r := direct("alice", "wonderland", 100)
		r.wantError(429, "invalid_grant")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if r := b.post("/login", page.form(credentials("bob", "builder")), elsewhere(100)...); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("status %d on the page", r.StatusCode)
		}
	})

	t.Run("10.10 R54 guessing at many names", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for n := range sourceTries {
			i.token(passwordOf("legacy", "alice", "wonderland")).wantToken() // is no guess
			if n%2 == 0 {
				i.token(passwordOf("legacy", "nobody "+strconv.Itoa(n), "guess")).wantError(400, "invalid_grant")
			} else if r := i.browser().signIn("nobody "+strconv.Itoa(n), "guess"); r.StatusCode != http.StatusUnprocessableEntity {
				t.Fatalf("guess %d: status %d", n, r.StatusCode)
			}
		}
		blocked := i.browser().signIn("nobody", "guess")
		wait, err := strconv.Atoi(blocked.Header.Get("Retry-After"))
		if blocked.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > guessWindow {
			t.Fatalf("status %d, Retry-After %q", blocked.StatusCode, blocked.Header.Get("Retry-After"))
		}
		r := i.token(passwordOf("legacy", "alice", "wonderland"))
		r.wantError(429, "invalid_grant")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		now := unixTime(i.server.clock.now().Unix())
		if u, _, err := i.server.checkPassword(t.Context(), "alice", "wonderland", "192.0.2.1", now); u == nil {
			t.Errorf("from another source: %v", err)
		}
		i.advance(time.Duration(wait) * time.Second)
		i.token(passwordOf("legacy", "alice", "wonderland")).wantToken()
		i.as("bob")
	})

	t.Run("10.10 R54 guessing at one name does not shut out the others", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for range sourceTries + 1 {
			i.token(passwordOf("legacy", "alice", "guess"))
		}
		i.token(passwordOf("legacy", "bob", "builder")).wantToken()
	})

	t.Run("10.10 R54 right passwords that arrive together", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.hashRounds = 300 }) // not all at once
		now := unixTime(i.server.clock.now().Unix())
		refused := inParallel(sourceTries+50, func(int) int {
			if u, _, err := i.server.checkPassword(t.Context(), "alice", "wonderland", "loopback", now); u == nil {
				return asOAuthError(err).Status
			}
			return 0
		})
		if refused[0] != sourceTries+50 {
			t.Errorf("statuses %v", refused)
		}
	})

	t.Run("10.10 R54 a request that takes long does not begin a new minute", func(t *testing.T) {
		t.Parallel()
		var g limiter
		g.try("alice", 1, 100)
		if wait := g.try("alice", 1, 70); wait == 0 {
			t.Error("a request that began half a minute before the first try has tries of its own")
		}
		if wait := g.try("alice", 1, 100-guessWindow-1); wait != 0 {
			t.Errorf("after the clock was set back, %d seconds to wait", wait)
		}
	})

	t.Run("10.10 R54 what is remembered of guesses is bounded", func(t *testing.T) {
		t.Parallel()
		var g limiter
		for n := range maxKeys + 300 {
			if wait := g.try(strconv.Itoa(n), 1, 0); wait != 0 {
				t.Fatalf("the first try of %d has to wait", n)
			}
		}
		if len(g.tries) > maxKeys {
			t.Errorf("%d remembered", len(g.tries))
		}
		g.try("later", 1, guessWindow)
		if len(g.tries) != 1 {
			t.Errorf("%d remembered after the window", len(g.tries))
		}
	})

	t.Run("4.3.2 R55 passwords are compared whole", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		long, longest := strings.Repeat("0123456789", 10), strings.Repeat("x", maxPassword)
		i.furnish(`{"users": [
			{"username": "long", "password": "` + long + `"},
			{"username": "longest", "password": "` + longest + `"},
			{"username": "nul", "password": "a\u0000b"}]}`)
		digest := sha256.Sum256([]byte(long))
		for _, test := range []struct {
			username, password string
			want               int
		}{
			{"long", long, http.StatusSeeOther},
			{"long", long[:72] + strings.Repeat("z", 28), http.StatusUnprocessableEntity},
			{"long", long[:99], http.StatusUnprocessableEntity},
			{"long", long + "0", http.StatusUnprocessableEntity},
			{"long", string(digest[:]), http.StatusUnprocessableEntity}, // what HMAC makes of a long key
			{"longest", longest, http.StatusSeeOther},
			{"longest", longest[1:], http.StatusUnprocessableEntity},
			{"longest", longest + "x", http.StatusUnprocessableEntity},
			{"longest", strings.Repeat("x", maxBody/2), http.StatusUnprocessableEntity},
			{"longest", strings.Repeat("x", 1<<20), http.StatusRequestEntityTooLarge},
			{"nul", "a\x00b", http.StatusSeeOther},
			{"nul", "a", http.StatusUnprocessableEntity},
			{"nul", "a\x00c", http.StatusUnprocessableEntity},
			{"nul", "a\x00b\x00", http.StatusUnprocessableEntity}, // HMAC pads short keys with zeros
			{"alice", "wonderland\x00", http.StatusUnprocessableEntity},
			{"alice", "wonderland ", http.StatusUnprocessableEntity},
			{"alice", "Wonderland", http.StatusUnprocessableEntity},
			{"alice", "", http.StatusUnprocessableEntity},
		} {
			if r := i.browser().signIn(test.username, test.password); r.StatusCode != test.want {
				t.Errorf("%s, %.20q (%d bytes): status %d, want %d", test.username, test.password, len(test.password), r.StatusCode, test.want)
			}
		}
	})
}

// inParallel runs f n times at once and counts what it returns.
func inParallel(n int, f func(int) int) map[int]int {
	var mu sync.Mutex
	counts := make(map[int]int)
	atOnce(n, func(k int) {
		result := f(k)
		mu.Lock()
		defer mu.Unlock()
		counts[result]++
	})
	return counts
}

// TestSignOut is R56.
func TestSignOut(t *testing.T) {
	t.Parallel()
	i := start(t)
	tests := []struct {
		name, method string
		change       func(form url.Values)
		header       []string
		want         int
	}{
		{"the one valid request", "POST", nil, nil, http.StatusSeeOther},
		{"R56 GET", "GET", nil, nil, http.StatusMethodNotAllowed},
		{"R56 HEAD", "HEAD", nil, nil, http.StatusMethodNotAllowed},
		{"R56 DELETE", "DELETE", nil, nil, http.StatusMethodNotAllowed},
		{"R56 no token", "POST", func(form url.Values) { form.Set("form_token", "") }, nil, http.StatusForbidden},
		{"R56 token of another browser", "POST", func(form url.Values) {
			form.Set("form_token", i.as("bob").get("/").form(nil).Get("form_token"))
		}, nil, http.StatusForbidden},
		{"R56 from another site", "POST", nil, []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{"R56 cross-site", "POST", nil, []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
	}
	for _, test := range tests {
		t.Run("10.12 "+test.name, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).as("alice")
			cookie := b.cookie()
			form := b.get("/").form(nil)
			if test.change != nil {
				test.change(form)
			}
			target, body := "/logout", form.Encode()
			if test.method != "POST" {
				target, body = target+"?"+body, ""
			}
			if r := b.do(test.method, target, body, test.header...); r.StatusCode != test.want {
				t.Errorf("status %d, want %d: %s", r.StatusCode, test.want, r.body)
			}
			out := test.want == http.StatusSeeOther
			b.wantSignedIn(!out)
			i.in(t).withCookie(cookie).wantSignedIn(!out) // on the server too
		})
	}
	t.Run("R56 a new password ends all sessions", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		one, two, bob := i.as("alice"), i.as("alice"), i.as("bob")
		i.furnish(`{"users": [{"username": "alice", "password": "wonderland", "name": "Alice"}]}`)
		one.wantSignedIn(true) // the same password
		i.furnish(`{"users": [{"username": "alice", "password": "looking-glass"}]}`)
		one.wantSignedIn(false)
		two.wantSignedIn(false)
		bob.wantSignedIn(true)
		if r := one.signIn("alice", "wonderland"); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("the old password: status %d", r.StatusCode)
		}
		if r := two.signIn("alice", "looking-glass"); r.StatusCode != http.StatusSeeOther {
			t.Errorf("the new password: status %d", r.StatusCode)
		}
	})
	t.Run("R56 a user who is gone, or another of that name", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		if err := i.server.store.deleteUser("alice"); err != nil {
			t.Fatal(err)
		}
		b.wantSignedIn(false)
		i.furnish(`{"users": [{"username": "alice", "password": "wonderland"}]}`)
		b.wantSignedIn(false)
	})
}

// TestForeignCookie is R57: what is not a live session's cookie is nobody's.
func TestForeignCookie(t *testing.T) {
	t.Parallel()
	i := start(t)
	access, refresh := i.tokens("web")
	live := i.as("alice").cookie()
	name := i.server.cookieName()
	cookies := map[string]string{
		"access token":          name + "=" + access,
		"refresh token":         name + "=" + refresh,
		"code":                  name + "=" + i.code("web"),
		"client secret":         name + "=web-secret",
		"of a visitor":          name + "=" + i.browser().get("/login").Cookies()[0].Value,
		"long":                  name + "=" + strings.Repeat("x", 5000),
		"NUL":                   name + "=%00",
		"empty":                 name + "=",
		"nameless":              "=" + live,
		"not base64":            name + "=" + strings.Repeat("!", 43),
		"zeros":                 name + "=" + strings.Repeat("A", 43),
		"cut":                   name + "=" + live[:42],
		"extended":              name + "=" + live + "A",
		"padded":                name + "=" + live + "=",
		"id with other secret":  name + "=" + live[:22] + newCredential().String()[22:],
		"twice":                 name + "=" + live + "; " + name + "=" + live,
		"twice, foreign first":  name + "=" + access + "; " + name + "=" + live,
		"twice, foreign second": name + "=" + live + "; " + name + "=" + access,
		"other name":            "grantling=" + live,
		"other port's":          "grantling-1=" + live,
	}
	for test, cookie := range cookies {
		t.Run("R57 "+test, func(t *testing.T) {
			t.Parallel()
			b := i.in(t).browser()
			b.client.Jar = nil
			request := authorization("web")
			request.Set("prompt", "none")
			b.get(b.endpoint("authorize")+"?"+request.Encode(), "Cookie", cookie).wantRedirect("login_required", "xyz")
			for _, path := range []string{"/", "/login"} {
				if r := b.get(path, "Cookie", cookie); r.StatusCode != http.StatusOK {
					t.Errorf("%s: status %d", path, r.StatusCode)
				}
			}
		})
	}
	t.Run("R57 the one valid cookie", func(t *testing.T) {
		t.Parallel()
		i.in(t).withCookie(live).wantSignedIn(true)
	})
	t.Run("R57 expired", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		i.advance(time.Duration(sessionLifetime)*time.Second - 10*time.Second)
		b.wantSignedIn(true)
		i.advance(10 * time.Second)
		b.wantSignedIn(false)
	})
}
