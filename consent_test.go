package main

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantNoCode wants a page and, in case the answer lies, no consent to web that
// would be remembered.
func (b *browser) wantNoCode(r *reply, status int) {
	b.Helper()
	r.wantPage(status)
	b.authorize(authorization("web", "prompt", "none")).wantRedirect("consent_required", "xyz")
}

// signOut signs out by the button of the start page.
func (b *browser) signOut() {
	b.Helper()
	page := b.get("/")
	if r := b.post(page.action(), page.form(nil)); page.action() != "/logout" || r.StatusCode != http.StatusSeeOther {
		b.Fatalf("sign-out: status %d: %s", r.StatusCode, r.body)
	}
}

// text is the text of the page's element with an id.
func (r *reply) text(id string) string {
	r.i.Helper()
	match := regexp.MustCompile(`id="` + id + `"[^>]*>([^<]*)</`).FindStringSubmatch(r.body)
	if match == nil {
		r.i.Fatalf("status %d has no text with id %s: %s", r.StatusCode, id, r.body)
	}
	return html.UnescapeString(match[1])
}

// subject is whom the code of an answer stands for.
func (r *reply) subject(clientID string) any {
	r.i.Helper()
	access, _ := r.i.post(r.i.endpoint("token"), exchangeOf(clientID, r.param("code"))).wantToken()
	return r.i.get(r.i.endpoint("userinfo"), "Authorization", "Bearer "+access).json["sub"]
}

// R58: a decision needs the page that it is made on, and the browser that got it.
func TestConsentForgery(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(b *browser, page *reply) *reply{
		"no MAC": func(b *browser, page *reply) *reply {
			form := page.form(url.Values{"decision": {"approve"}})
			form.Del("mac")
			return b.post(page.action(), form)
		},
		"an empty form": func(b *browser, page *reply) *reply {
			return b.post(page.action(), url.Values{"decision": {"approve"}})
		},
		"the MAC of another session": func(b *browser, page *reply) *reply {
			other := b.instance.as("alice").authorize(authorization("web"))
			return b.post(page.action(), page.form(url.Values{"decision": {"approve"}, "mac": other.form(nil)["mac"]}))
		},
		"the page of another session": func(b *browser, page *reply) *reply {
			return b.decide(b.instance.as("alice").authorize(authorization("web")), "approve")
		},
		"another Origin": func(b *browser, page *reply) *reply {
			return b.post(page.action(), page.form(url.Values{"decision": {"approve"}}), "Origin", "https://evil.example")
		},
		"Origin null": func(b *browser, page *reply) *reply {
			return b.post(page.action(), page.form(url.Values{"decision": {"approve"}}), "Origin", "null")
		},
		"cross-site": func(b *browser, page *reply) *reply {
			return b.post(page.action(), page.form(url.Values{"decision": {"approve"}}), "Sec-Fetch-Site", "cross-site")
		},
		"same-site": func(b *browser, page *reply) *reply {
			return b.post(page.action(), page.form(url.Values{"decision": {"approve"}}), "Sec-Fetch-Site", "same-site")
		},
	} {
		t.Run("10.12 R58 "+name, func(t *testing.T) {
			t.Parallel()
			b := start(t).as("alice")
			b.wantNoCode(forge(b, b.authorize(authorization("web"))), http.StatusForbidden)
		})
	}
	t.Run("10.12 R58 denial", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		page := b.authorize(authorization("web"))
		form := page.form(url.Values{"decision": {"deny"}})
		b.post(page.action(), form, "Origin", "https://evil.example").wantPage(http.StatusForbidden)
		form.Del("mac")
		b.post(page.action(), form).wantPage(http.StatusForbidden)
	})
	t.Run("10.12 R58 GET", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		page := b.authorize(authorization("web"))
		form := page.form(url.Values{"decision": {"approve"}})
		b.wantNoCode(b.get(page.action()+"?"+form.Encode()), http.StatusMethodNotAllowed)
		b.authorizeRaw(authorization("web").Encode() + "&" + form.Encode()).wantConsent()
	})
	t.Run("10.12 R58 no decision", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		for _, decision := range [][]string{nil, {""}, {"yes"}, {"APPROVE"}, {"approve", "deny"}, {"approve", "approve"}} {
			page := b.authorize(authorization("web"))
			b.wantNoCode(b.post(page.action(), page.form(url.Values{"decision": decision})), http.StatusBadRequest)
		}
	})
	t.Run("10.12 R58 the honest browser", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		page := b.authorize(authorization("web"))
		r := b.post(page.action(), page.form(url.Values{"decision": {"approve"}}), "Origin", b.URL, "Sec-Fetch-Site", "same-origin")
		if r.param("code") == "" {
			t.Errorf("no code in %s", r.location())
		}
	})
}

// R59, R61: a page belongs to the session that it was made for.
func TestConsentSession(t *testing.T) {
	t.Parallel()
	i := start(t)
	alice, bob := i.as("alice"), i.as("bob")
	t.Run("10.12 R59 of another user", func(t *testing.T) {
		t.Parallel()
		page := alice.in(t).authorize(authorization("web"))
		bob.in(t).wantNoCode(bob.in(t).decide(page, "approve"), http.StatusForbidden)
		alice.in(t).wantNoCode(bob.in(t).decide(page, "deny"), http.StatusForbidden)
	})
	t.Run("10.12 R59 of nobody", func(t *testing.T) {
		t.Parallel()
		page := alice.in(t).authorize(authorization("web"))
		alice.in(t).wantNoCode(i.in(t).browser().decide(page, "approve"), http.StatusForbidden)
	})
	t.Run("10.12 R61 after sign-out", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		page := b.authorize(authorization("web"))
		b.signOut()
		b.decide(page, "approve").wantPage(http.StatusForbidden)
		b.signIn("bob", "builder")
		b.wantNoCode(b.decide(page, "approve"), http.StatusForbidden)
		b.signOut()
		b.signIn("alice", "wonderland")
		b.wantNoCode(b.decide(page, "approve"), http.StatusForbidden)
	})
	t.Run("10.12 R61 after another sign-in", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		page := b.authorize(authorization("web"))
		b.signIn("bob", "builder")
		b.wantNoCode(b.decide(page, "approve"), http.StatusForbidden)
	})
	t.Run("10.12 R59 switching the user", func(t *testing.T) {
		t.Parallel()
		b := i.in(t).as("alice")
		page := b.authorize(authorization("native"))
		action := regexp.MustCompile(`<button form="consent" formaction="([^"]*)"`).FindStringSubmatch(page.body)
		if action == nil {
			t.Fatalf("no button: %s", page.body)
		}
		r := b.post(action[1], page.form(nil))
		r = b.continueAs("bob", "builder", b.get(b.URL+r.Header.Get("Location")))
		if got := b.decide(r, "approve").subject("native"); got != "bob" {
			t.Errorf("the code is %v's", got)
		}
	})
}

// R60: what the user saw is what is granted.
func TestConsentFields(t *testing.T) {
	t.Parallel()
	i := start(t)
	alice := i.as("alice")
	request := authorization("native", "scope", "read")
	for name, change := range map[string]url.Values{
		"id":                {"id": {"0198c0de-0000-7000-8000-000000000000"}},
		"no id":             {"id": {""}},
		"expires":           {"expires": {"9999999999"}},
		"never expires":     {"expires": {"0"}},
		"another client":    {"request": {authorization("web").Encode()}},
		"another redirect":  {"request": {authorization("native", "scope", "read", "redirect_uri", "http://127.0.0.1:9/cb").Encode()}},
		"another state":     {"request": {authorization("native", "scope", "read", "state", "abc").Encode()}},
		"another challenge": {"request": {authorization("native", "scope", "read", "code_challenge", challengeOf("x")).Encode()}},
		"more scope":        {"request": {authorization("native", "scope", "read write").Encode()}},
		"less scope":        {"request": {authorization("native", "scope", absent).Encode()}},
		"another MAC":       {"mac": {strings.Repeat("A", 43)}},
		"an empty MAC":      {"mac": {""}},
	} {
		t.Run("4.1.1 R60 "+name, func(t *testing.T) {
			t.Parallel()
			b := alice.in(t)
			page := b.authorize(request)
			form := page.form(url.Values{"decision": {"approve"}})
			for name, value := range change {
				if !form.Has(name) {
					t.Fatalf("the form has no %s: %v", name, form)
				}
				form[name] = value
			}
			b.post(page.action(), form).wantPage(http.StatusForbidden)
		})
	}
	t.Run("4.1.1 R60 fields of other names", func(t *testing.T) {
		t.Parallel()
		b := alice.in(t)
		page := b.authorize(request)
		form := page.form(authorization("web"))
		form.Set("decision", "approve")
		form.Set("username", "bob")
		form.Set("state", "abc")
		form.Set("scope", "read write")
		r := b.post(page.action()+"?"+authorization("web").Encode(), form)
		if !strings.HasPrefix(r.Header.Get("Location"), redirectURIs["native"]+"?") || r.param("state") != "xyz" {
			t.Fatalf("Location %s", r.Header.Get("Location"))
		}
		answer := b.post(b.endpoint("token"), exchangeOf("native", r.param("code")))
		if answer.wantToken(); answer.json["scope"] != "read" {
			t.Errorf("scope %v", answer.json["scope"])
		}
	})
}

// R62: one decision a request, and not for ever.
func TestConsentOnce(t *testing.T) {
	t.Parallel()
	t.Run("4.1.1 R62 twice", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		page := b.authorize(authorization("native"))
		r := b.decide(page, "approve")
		b.decide(page, "approve").wantPage(http.StatusBadRequest)
		if got := r.subject("native"); got != "alice" {
			t.Errorf("the first code is %v's", got)
		}
		b.decide(page, "approve").wantPage(http.StatusBadRequest)
	})
	for _, row := range []struct {
		name          string
		first, second string
		between       func(i *instance, b *browser)
	}{
		{"deny, then approve", "deny", "approve", nil},
		{"approve, then deny", "approve", "deny", nil},
		{"deny, then deny", "deny", "deny", nil},
		{"approve again when the code has expired", "approve", "approve", func(i *instance, _ *browser) {
			i.advance(time.Duration(i.server.profile.CodeLifetime)*time.Second + time.Second)
			_, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix()))
			i.must(err)
		}},
		{"approve when the denial was long ago", "deny", "approve", func(i *instance, _ *browser) {
			i.advance(consentLifetime*time.Second - 5*time.Second)
			_, err := sweepRound(i.server.store, unixTime(i.server.clock.now().Unix()))
			i.must(err)
		}},
		{"R155 approve again what has been revoked", "approve", "approve", func(_ *instance, b *browser) {
			b.fill("/account/authorized/revoke", url.Values{"id": {"native"}})
		}},
	} {
		t.Run("4.1.1 R62 "+row.name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			b := i.as("alice")
			page := b.authorize(authorization("native"))
			if r := b.decide(page, row.first); r.StatusCode != http.StatusSeeOther {
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
			if row.between != nil {
				row.between(i, b)
			}
			before := dump(t, i.server.store)
			r := b.decide(page, row.second)
			r.wantPage(http.StatusBadRequest)
			r.contains("answered already")
			if !maps.Equal(before, dump(t, i.server.store)) {
				t.Error("something was issued")
			}
		})
	}
	t.Run("4.2.1 R62 implicit", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		page := b.authorize(authorization("legacy", "response_type", "token"))
		if b.decide(page, "approve").param("access_token") == "" {
			t.Error("no token")
		}
		b.decide(page, "approve").wantPage(http.StatusBadRequest)
	})
	t.Run("4.1.1 R62 at the same time", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		bothWin(t, 5, func(int) (approved bool) {
			page := b.authorize(authorization("native"))
			replies := make([]*reply, 16)
			atOnce(len(replies), func(n int) { replies[n] = b.decide(page, []string{"approve", "deny"}[n%2]) })
			answers := 0
			for _, r := range replies {
				if r.StatusCode != http.StatusSeeOther {
					r.wantPage(http.StatusBadRequest)
					continue
				}
				answers++
				if approved = r.param("error") != "access_denied"; approved {
					r.subject("native")
				}
			}
			if answers != 1 {
				t.Errorf("%d answers", answers)
			}
			return approved
		})
	})
	t.Run("4.1.1 R62 two tabs", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		one, two := b.authorize(authorization("native")), b.authorize(authorization("native2"))
		if got := b.decide(two, "approve").subject("native2"); got != "alice" {
			t.Errorf("the second tab's code is %v's", got)
		}
		if got := b.decide(one, "approve").subject("native"); got != "alice" {
			t.Errorf("the first tab's code is %v's", got)
		}
	})
	for _, decision := range []string{"approve", "deny"} {
		t.Run("4.1.1 R62 too late to "+decision, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			b := i.as("alice")
			early, late := b.authorize(authorization("native")), b.authorize(authorization("native"))
			i.advance(consentLifetime*time.Second - 5*time.Second)
			if r := b.decide(early, decision); r.StatusCode != http.StatusSeeOther {
				t.Errorf("in time: status %d", r.StatusCode)
			}
			i.advance(5 * time.Second)
			b.decide(late, decision).wantPage(http.StatusBadRequest)
		})
	}
}

// R63: what has changed while the page was open counts.
func TestConsentChecksAnew(t *testing.T) {
	t.Parallel()
	replaced := func(client string) func(*instance) {
		return func(i *instance) { i.furnish(`{"clients": [` + client + `]}`) }
	}
	for _, row := range []struct {
		name   string
		change func(*instance)
		want   string // status of a page, or the error of a redirect
	}{
		{"4.1.2.1 R63 client deleted", func(i *instance) { i.server.store.deleteClient("web") }, "400"},
		{"4.1.2.1 R63 client deleted and made anew", func(i *instance) {
			i.server.store.deleteClient("web")
			i.furnish(`{"clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read write"}]}`)
		}, "400"},
		{"4.1.2.1 R63 redirect URI removed", replaced(`{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/new"], "scope": "read write"}`), "400"},
		{"4.1.2.1 R63 all redirect URIs removed", replaced(`{"client_id": "web", "client_secret": "web-secret", "redirect_uris": [], "scope": "read write"}`), "400"},
		{"3.3 R63 scope removed", replaced(`{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read"}`), "invalid_scope"},
		{"4.1.2.1 R63 grant type removed", replaced(`{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "grant_types": ["client_credentials"]}`), "unauthorized_client"},
		{"4.1.2.1 R63 user deleted", func(i *instance) { i.server.store.deleteUser("alice") }, "403"},
	} {
		for _, decision := range []string{"approve", "deny"} {
			t.Run(row.name+", "+decision, func(t *testing.T) {
				t.Parallel()
				i := start(t)
				b := i.as("alice")
				page := b.authorize(authorization("web"))
				page.wantConsent()
				row.change(i)
				switch r := b.decide(page, decision); row.want {
				case "400":
					r.wantPage(http.StatusBadRequest)
				case "403":
					r.wantPage(http.StatusForbidden)
				default:
					r.wantRedirect(row.want, "xyz")
				}
			})
		}
	}
}

// R63, R65: what a request leaves out is what the user was shown, or nothing.
func TestConsentLeftOut(t *testing.T) {
	t.Parallel()
	const shown = `"redirect_uris": ["https://cb.example/cb"], "scope": "read write"`
	for name, replaced := range map[string]string{
		"another redirect URI":             `"redirect_uris": ["https://evil.example/cb"], "scope": "read write"`,
		"more scope":                       `"redirect_uris": ["https://cb.example/cb"], "scope": "read write admin"`,
		"less scope":                       `"redirect_uris": ["https://cb.example/cb"], "scope": "read"`,
		"another redirect URI and no code": `"redirect_uris": ["https://evil.example/cb"], "scope": "read write", "grant_types": ["client_credentials"]`,
		"nothing":                          shown,
	} {
		for _, decision := range []string{"approve", "deny"} {
			t.Run("4.1.1 R63 "+name+", "+decision, func(t *testing.T) {
				t.Parallel()
				i := start(t)
				i.furnish(`{"clients": [{"client_id": "web", "client_secret": "web-secret", ` + shown + `}]}`)
				alice := i.as("alice")
				page := alice.authorize(url.Values{"response_type": {"code"}, "client_id": {"web"}, "state": {"xyz"}})
				page.wantConsent()
				i.furnish(`{"clients": [{"client_id": "web", "client_secret": "web-secret", ` + replaced + `}]}`)
				if r := alice.decide(page, decision); name == "nothing" {
					r.location()
				} else {
					r.wantPage(http.StatusBadRequest)
				}
			})
		}
	}
}

// R64: whose consent is remembered, and for what.
func TestConsentRemembered(t *testing.T) {
	t.Parallel()
	t.Run("10.2 R64 confidential client", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		code := b.approve(authorization("web", "scope", "read")).param("code")
		i.post(i.endpoint("token"), exchangeOf("web", code)).wantToken()
		if r := b.authorize(authorization("web", "scope", "read")); r.param("code") == "" {
			t.Errorf("no code in %s", r.location())
		}
		b.authorize(authorization("web")).wantConsent()                                             // one more scope
		b.authorize(authorization("web", "scope", "write")).wantConsent()                           // another scope
		b.authorize(authorization("web", "scope", absent)).wantConsent()                            // all scopes
		b.authorize(authorization("web", "scope", "read", "prompt", "consent")).wantConsent()       // asked for
		b.authorize(authorization("other", "scope", "read")).wantConsent()                          // another client
		i.as("bob").authorize(authorization("web", "scope", "read")).wantConsent()                  // another user
		i.browser().authorize(authorization("web", "scope", "read")).wantSignIn()                   // nobody
		b.authorize(authorization("web", "scope", "bogus")).wantRedirect("invalid_scope", "xyz")    // not to be had
		b.authorize(authorization("web", "redirect_uri", "https://evil.example/cb")).wantPage(400)  // nor this
		b.authorize(authorization("web", "prompt", "none")).wantRedirect("consent_required", "xyz") // one more scope, silently
		b.decide(b.authorize(authorization("web")), "deny").wantRedirect("access_denied", "xyz")    // a denial is no consent
		b.authorize(authorization("web")).wantConsent()
	})
	t.Run("10.2 R64 subset of what was granted", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		b.approve(authorization("web"))
		for _, scope := range []string{"read", "write", "write read", ""} {
			if r := b.authorize(authorization("web", "scope", scope)); r.param("code") == "" {
				t.Errorf("scope %q: no code in %s", scope, r.location())
			}
		}
	})
	t.Run("8252 8.6 R64 public client", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		i.post(i.endpoint("token"), exchangeOf("native", b.approve(authorization("native")).param("code"))).wantToken()
		b.authorize(authorization("native")).wantConsent()
		b.authorize(authorization("native", "scope", "read")).wantConsent()
		b.authorize(authorization("native", "prompt", "none")).wantRedirect("consent_required", "xyz")
	})
	t.Run("4.3 R64 a password is no consent", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		_, refresh := i.token(passwordOf("legacy", "alice", "wonderland")).wantToken()
		b := i.as("alice")
		b.authorize(authorization("legacy")).wantConsent()
		i.refresh("legacy", refresh).wantToken()
		b.authorize(authorization("legacy")).wantConsent()
		b.authorize(authorization("legacy", "prompt", "none")).wantRedirect("consent_required", "xyz")
	})
	t.Run("10.2 R64 until it is revoked", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		_, refresh := i.post(i.endpoint("token"), exchangeOf("web", b.approve(authorization("web")).param("code"))).wantToken()
		i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {refresh}}))
		b.authorize(authorization("web")).wantConsent()
	})
	t.Run("10.2 R64 as long as it lives", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.as("alice").approve(authorization("web")) // a code that is never redeemed
		i.advance(10 * time.Minute)
		i.as("alice").authorize(authorization("web")).wantConsent()
	})
	t.Run("10.2 R64 of a client that was deleted and came again", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		b.approve(authorization("web"))
		if err := i.server.store.deleteClient("web"); err != nil {
			t.Fatal(err)
		}
		i.furnish(`{"clients": [{"client_id": "web", "redirect_uris": ["https://cb.example/cb"]}]}`)
		b.authorize(authorization("web")).wantConsent()
	})
}

// R65: what the page tells, and that nobody's name is markup.
func TestConsentPage(t *testing.T) {
	t.Parallel()
	t.Run("10.2 R65 tells who, what and where", func(t *testing.T) {
		t.Parallel()
		page := start(t).as("alice").authorize(authorization("web"))
		for _, want := range []string{"Web app", "cb.example", ">alice<", "Alice Liddell", ">read<", ">write<", `href="https://cb.example/"`} {
			if !strings.Contains(page.body, want) {
				t.Errorf("the page lacks %s: %s", want, page.body)
			}
		}
		// R42: nor is the page before the redirect kept or named to others.
		if page.Header.Get("Cache-Control") != "no-store" || page.Header.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("Cache-Control %s, Referrer-Policy %s", page.Header.Get("Cache-Control"), page.Header.Get("Referrer-Policy"))
		}
	})
	t.Run("4.1.1 R65 is small however long the request is", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		request := authorization("native", "state", strings.Repeat("&", 2000))
		page := b.authorize(request)
		page.wantConsent()
		if n := len(page.body) - len(html.EscapeString(request.Encode())); n > 5<<10 {
			t.Errorf("%d bytes beside the request", n)
		}
	})
	t.Run("10.2 R65 names the host of the request", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		if page := b.authorize(authorization("native", "redirect_uri", "http://127.0.0.1:51004/cb")); !strings.Contains(page.body, "127.0.0.1:51004<") {
			t.Errorf("%s", page.body)
		}
	})
	t.Run("10.2 R65 whom nobody answers for", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		alice, bob := i.as("alice"), i.as("bob")
		marked := func(i *instance, clientID, redirectURI, words string) {
			t.Helper()
			b := i.as("alice")
			request := authorization("web", "client_id", clientID, "redirect_uri", redirectURI)
			page := b.authorize(request)
			page.wantConsent()
			if got := strings.Contains(page.body, "Unverified"); got != (words != "") || !strings.Contains(page.body, words) {
				t.Errorf("%s: marked: %t: %s", clientID, got, page.body)
			}
			b.decide(page, "approve")
			if list := b.get("/account/authorized"); strings.Contains(list.body, "Unverified") != (words != "") {
				t.Errorf("%s in the list: %s", clientID, list.body)
			}
			b.fill("/account/authorized/revoke", url.Values{"id": {clientID}})
		}
		marked(i, "other", redirectURIs["other"], "")
		marked(i, "web", redirectURIs["web"], "")
		marked(i, "native", redirectURIs["native"], "cannot prove who it is")
		form := registrationForm()
		form.Set("client_uri", "https://google.com/")
		id, _ := bob.register(form)
		marked(i, id, "https://notes.example/cb", "A user of this server chose")
		i.must(i.server.store.deleteUser("bob"))
		marked(i, id, "https://notes.example/cb", "A user of this server chose")
		// A client that its owner has changed is in the owner's words, until the operator says it anew.
		alice.post("/account/applications/edit", alice.editForm("web", url.Values{"client_uri": {"https://google.com/"}}))
		marked(i, "web", redirectURIs["web"], "A user of this server chose")
		i.furnish(instanceFixtures)
		marked(i, "web", redirectURIs["web"], "")

		mastodon := startProfile(t, "mastodon")
		app := mastodon.post("/api/v1/apps", url.Values{"client_name": {"App"}, "redirect_uris": {"https://app.example/cb"}, "website": {"https://google.com/"}, "scopes": {"read write"}})
		marked(mastodon, app.json["client_id"].(string), "https://app.example/cb", "This application registered itself")
	})
	t.Run("10.14 R65 client_uri that is a script", func(t *testing.T) {
		t.Parallel()
		for _, uri := range []string{"javascript:alert(1)", "javascript://cb.example/%0aalert(1)", "data:text/html,x", "//cb.example/", "cb.example"} {
			if (&clientFixture{metadata: metadata{ClientID: "x", URI: uri}}).problems(new(profile)) == nil {
				t.Errorf("%s can be registered", uri)
			}
		}
	})
	for _, markup := range []string{"<img>", `"><svg>`, "'><svg>"} {
		t.Run("10.14 R65 the host of client_uri is "+markup, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			i.furnish(`{"clients": [{"client_id": "web", "client_secret": "web-secret", "client_uri": ` + strconv.Quote("https://"+markup+".example/") + `,
				"redirect_uris": ["https://cb.example/cb"], "owner": "alice"}]}`)
			b := i.browser()
			signIn := b.authorize(authorization("web"))
			b = i.as("alice")
			consent := b.authorize(authorization("web"))
			b.decide(consent, "approve")
			applications, authorized := b.get("/account/applications"), b.get("/account/authorized")
			for _, page := range []*reply{signIn, consent, applications, authorized, b.get("/account/applications/edit?id=web")} {
				if strings.Contains(page.body, markup) {
					t.Errorf("%s has markup: %s", page.Request.URL, page.body)
				}
			}
			for _, page := range []*reply{consent, applications, authorized} {
				if !strings.Contains(html.UnescapeString(page.body), ">"+markup+".example<") {
					t.Errorf("%s does not show the host: %s", page.Request.URL, page.body)
				}
			}
		})
	}
	for _, markup := range []string{`<img src=x onerror=1>`, `"><svg/onload=1>`, `'><svg/onload=1>`, `</title><script>x</script>`, `javascript:alert(1)`} {
		t.Run("10.14 R65 "+markup, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			name := strings.ReplaceAll(markup, `"`, `\"`)
			i.furnish(`{
				"users": [{"username": "` + name + `", "name": "` + name + `", "password": "x"}],
				"clients": [{"client_id": "` + name + `", "client_name": "` + name + `", "client_uri": "javascript:alert(1)",
					"redirect_uris": ["https://cb.example/cb", "` + outOfBand + `"]}]}`)
			scope := "any"
			if _, err := parseScope(markup, nil); err == nil {
				scope = markup
			}
			request := authorization("web", "client_id", markup, "state", markup, "scope", scope, "login_hint", markup, "redirect_uri", "https://cb.example/cb")
			b := i.browser()
			signIn := b.authorize(request)
			failed := b.post(signIn.action(), signIn.form(url.Values{"username": {markup}, "password": {"wrong"}}))
			consent := b.continueAs(markup, "x", signIn)
			consent.wantConsent()
			request.Set("redirect_uri", outOfBand)
			shown := b.approve(request)
			code := b.get(b.URL + shown.Header.Get("Location"))
			code.text("code")
			all := []*reply{signIn, failed, consent, code, b.get("/")}
			for parameter := range authorization("web") {
				all = append(all, b.authorize(authorization("web", parameter, markup)))
			}
			for _, parameter := range []string{"prompt", "response_mode", markup} {
				all = append(all, b.authorize(authorization("web", parameter, markup)))
			}
			// And as it is, without encoding.
			if raw := strings.ReplaceAll(markup, " ", "+"); strings.HasPrefix(raw, `"`) || strings.HasPrefix(raw, `'`) {
				raw = authorization("web", "state", absent).Encode() + "&state=" + raw + "&login_hint=" + raw
				all = append(all, b.authorizeRaw(raw), i.browser().authorizeRaw(raw))
			}
			for n, r := range all {
				r.body = strings.ReplaceAll(r.body, `<script src="/script.js?`, "") // the page's own
				for _, bad := range []string{"<img", "<svg", "<script", `href="javascript:`} {
					if strings.Contains(r.body, bad) {
						t.Errorf("page %d has %s: %s", n, bad, r.body)
					}
				}
			}
			if !strings.Contains(html.UnescapeString(consent.body), ">"+markup+"<") {
				t.Errorf("the page does not show the name: %s", consent.body)
			}
		})
	}
}

// The values of prompt (OpenID Connect Core §3.1.2.1).
func TestPrompt(t *testing.T) {
	t.Parallel()
	t.Run("OpenID 3.1.2.6/none", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		none := authorization("web", "prompt", "none")
		i.browser().authorize(none).wantRedirect("login_required", "xyz")
		b.authorize(none).wantRedirect("consent_required", "xyz")
		b.authorize(authorization("web", "prompt", "none login")).wantRedirect("invalid_request", "xyz")
		b.authorize(authorization("web", "prompt", "none", "redirect_uri", "https://evil.example/")).wantNowhere(400, "evil.example")
		b.approve(authorization("web"))
		if got := b.authorize(none).subject("web"); got != "alice" {
			t.Errorf("the code is %v's", got)
		}
	})
	t.Run("OpenID 3.1.2.1/consent", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		b.approve(authorization("web"))
		page := b.authorize(authorization("web", "prompt", "consent"))
		page.wantConsent()
		if r := b.decide(page, "approve"); r.param("code") == "" {
			t.Errorf("no code in %s", r.location())
		}
	})
	for _, prompt := range []string{"prompt=login", "prompt=select_account", "prompt=login+select_account", "prompt=login+consent", "prompt=consent%20login", "pr%6fmpt=%6cogin"} {
		t.Run("OpenID 3.1.2.1 "+prompt, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			b := i.as("alice")
			b.approve(authorization("web")) // so that only prompt asks for anything
			const state = "a%2Bb%20c+d%26%3d"
			query := authorization("web", "state", absent).Encode() + "&" + prompt + "&state=" + state
			// One sign-in is enough, whether someone is there or not.
			for _, b := range []*browser{b, i.browser()} {
				page := b.authorizeRaw(query)
				page.wantSignIn()
				r := b.continueAs("alice", "wonderland", page)
				if strings.Contains(prompt, "consent") {
					r.wantConsent()
					r = b.decide(r, "approve")
				}
				if got := r.param("state"); got != "a+b c d&=" || r.param("code") == "" {
					t.Errorf("after the sign-in: %s", r.location())
				}
			}
			// Another may sign in.
			page := b.continueAs("bob", "builder", b.authorizeRaw(query))
			if got := b.decide(page, "approve").subject("web"); got != "bob" {
				t.Errorf("the code is %v's", got)
			}
		})
	}
	t.Run("OpenID 3.1.2.1/values that mean nothing here", func(t *testing.T) {
		t.Parallel()
		b := start(t).as("alice")
		for _, prompt := range []string{"", "create", "LOGIN", " "} {
			b.authorize(authorization("web", "prompt", prompt)).wantConsent()
		}
	})
	t.Run("OpenID 3.1.2.1/login_hint", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		b := i.as("alice")
		for _, page := range []*reply{
			i.browser().authorize(authorization("web", "login_hint", "bob")),
			b.authorize(authorization("web", "login_hint", "bob", "prompt", "login")),
		} {
			page.wantSignIn()
			if !strings.Contains(page.body, `name="username" value="bob"`) {
				t.Errorf("the username is not filled in: %s", page.body)
			}
		}
		// A hint signs nobody in, and nobody out.
		if got := b.approve(authorization("web", "login_hint", "bob")).subject("web"); got != "alice" {
			t.Errorf("the code is %v's", got)
		}
	})
}

// With -auto-approve no page is shown.
func TestAutoApprove(t *testing.T) {
	t.Parallel()
	i := start(t, func(s *server) { s.autoApprove = "alice" })
	for _, row := range []struct {
		name    string
		request url.Values
		want    string
	}{
		{"4.1.2/confidential client", authorization("web"), "alice"},
		{"4.1.2/public client", authorization("native"), "alice"},
		{"4.1.2/login_hint of a user", authorization("web", "login_hint", "bob"), "bob"},
		{"4.1.2/login_hint of nobody", authorization("web", "login_hint", "carol"), "alice"},
		{"4.1.2/empty login_hint", authorization("web", "login_hint", ""), "alice"},
		{"4.1.2/prompt none", authorization("web", "prompt", "none"), "alice"},
		{"4.1.2/prompt login", authorization("web", "prompt", "login consent"), "alice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			r := i.browser().authorize(row.request)
			if r.StatusCode != http.StatusSeeOther || r.param("state") != "xyz" || r.param("iss") != i.URL {
				t.Fatalf("status %d, Location %s", r.StatusCode, r.Header.Get("Location"))
			}
			if got := r.subject(row.request.Get("client_id")); got != row.want {
				t.Errorf("the code is %v's, want %s's", got, row.want)
			}
		})
	}
	t.Run("4.2.2/implicit", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		r := i.browser().authorize(authorization("legacy", "response_type", "token", "login_hint", "bob"))
		who := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+r.param("access_token"))
		if who.json["sub"] != "bob" {
			t.Errorf("userinfo: %s", who.body)
		}
	})
	t.Run("4.1.2.1/errors", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		i.browser().authorize(authorization("web", "scope", "bogus")).wantRedirect("invalid_scope", "xyz")
		i.browser().authorize(authorization("web", "client_id", "nope")).wantPage(http.StatusBadRequest)
	})
	t.Run("4.1.2.1/the user is gone", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.autoApprove = "alice" })
		if err := i.server.store.deleteUser("alice"); err != nil {
			t.Fatal(err)
		}
		i.browser().authorize(authorization("web")).wantRedirect("access_denied", "xyz")
		if got := i.browser().authorize(authorization("web", "login_hint", "bob")).subject("web"); got != "bob" {
			t.Errorf("the code is %v's", got)
		}
	})
	t.Run("4.1.2/out of band", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.autoApprove = "alice" })
		i.furnish(outOfBandClient)
		b := i.browser()
		r := b.authorize(authorization("cli", "redirect_uri", outOfBand))
		b.get(b.URL + r.Header.Get("Location")).text("code")
	})
}

const outOfBandClient = `{"clients": [{"client_id": "cli", "client_name": "Command line", "token_endpoint_auth_method": "none",
	"redirect_uris": ["` + outOfBand + `"], "scope": "read write", "grant_types": ["authorization_code", "implicit"]}]}`

// The page that shows a code, to the one who is to carry it.
func TestOutOfBand(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(outOfBandClient)
	alice := i.as("alice")
	request := authorization("cli", "redirect_uri", outOfBand)
	redeem := func(i *instance, code string) *reply {
		form := exchangeOf("cli", code)
		form.Del("client_secret")
		form.Set("redirect_uri", outOfBand)
		return i.post(i.endpoint("token"), form)
	}
	t.Run("4.1.2/the code is the only text of its element", func(t *testing.T) {
		t.Parallel()
		b := alice.in(t)
		r := b.approve(request)
		page := b.get(b.URL + r.Header.Get("Location"))
		code := page.text("code")
		if r.StatusCode != http.StatusSeeOther || page.StatusCode != http.StatusOK || code != r.param("code") || !strings.Contains(page.body, "Command line") {
			t.Fatalf("Location %s leads to %s", r.Header.Get("Location"), page.body)
		}
		if strings.Contains(r.Header.Get("Location"), "iss") || strings.Contains(page.body, i.URL) { // R40
			t.Errorf("iss is shown: %s", page.body)
		}
		redeem(b.instance, code).wantToken()
		b.get(b.URL + r.Header.Get("Location")).wantPage(http.StatusBadRequest)
	})
	t.Run("3.1.2.3 R5 without redirect_uri", func(t *testing.T) {
		t.Parallel()
		b := alice.in(t)
		r := b.approve(authorization("cli", "redirect_uri", absent))
		b.get(b.URL + r.Header.Get("Location")).text("code")
	})
	t.Run("4.1.2/to nobody else", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		location := alice.in(t).approve(request).Header.Get("Location")
		i.browser().get(location).wantPage(http.StatusBadRequest)
		i.as("bob").get(location).wantPage(http.StatusBadRequest)
		for _, query := range []string{"", "?code=", "?code=nonsense", "?code=" + strings.Repeat("A", 43), "?code=%3Cscript%3E", "?%zz"} {
			alice.in(t).get(i.endpoint("oob") + query).wantPage(http.StatusBadRequest)
		}
	})
	t.Run("4.1.2/not when it has expired", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(outOfBandClient)
		b := i.as("alice")
		location := b.approve(request).Header.Get("Location")
		i.advance(10 * time.Minute)
		b.get(location).wantPage(http.StatusBadRequest)
	})
	t.Run("4.1.2.1/errors are shown", func(t *testing.T) {
		t.Parallel()
		b := alice.in(t)
		denied := b.decide(b.authorize(request), "deny")
		denied.wantPage(http.StatusForbidden)
		for want, r := range map[string]*reply{
			"access_denied":             denied,
			"invalid_scope":             b.authorize(authorization("cli", "redirect_uri", outOfBand, "scope", "bogus")),
			"consent_required":          b.authorize(authorization("cli", "redirect_uri", outOfBand, "prompt", "none")),
			"login_required":            i.in(t).browser().authorize(authorization("cli", "redirect_uri", outOfBand, "prompt", "none")),
			"invalid_request":           b.authorize(authorization("cli", "redirect_uri", outOfBand, "response_type", "token")), // R36: a token is never in a query
			"unsupported_response_type": b.authorize(authorization("cli", "redirect_uri", outOfBand, "response_type", "foo")),
		} {
			if r.Header.Get("Location") != "" || r.text("error") != want || r.text("error-description") == "" {
				t.Errorf("status %d, want a page with %s: %s", r.StatusCode, want, r.body)
			}
		}
	})
	t.Run("3.1.2.3/not registered", func(t *testing.T) {
		t.Parallel()
		alice.in(t).authorize(authorization("web", "redirect_uri", outOfBand)).wantPage(http.StatusBadRequest)
		alice.in(t).authorize(authorization("cli", "redirect_uri", outOfBand+":auto")).wantPage(http.StatusBadRequest)
	})
}

// An error page has the error and the explanation for programs, too.
func TestErrorPage(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(outOfBandClient)
	i.furnish(`{"clients": [{"client_id": "public", "token_endpoint_auth_method": "none", "redirect_uris": ["` + outOfBand + `"]}]}`)
	b := i.as("alice")
	for _, row := range []struct {
		name   string
		query  string
		error  string
		naming string
		more   string
	}{
		{"4.1.2.1/unknown client", authorization("web", "client_id", "nope").Encode(), "invalid_client", "client_id", "client_id; the client_id of an application registered here; RFC 6749 §4.1.2.1"},
		{"4.1.1/no client_id", authorization("web", "client_id", absent).Encode(), "invalid_request", "client_id", "client_id; the client_id of an application registered here; RFC 6749 §4.1.1"},
		{"3.1.2.4 R3 names the problem", authorization("web", "redirect_uri", "https://evil.example/").Encode(), "invalid_request", "redirect_uri",
			"redirect_uri; one of the redirect URIs that the application registered, character by character; only the port of http on a loopback host may differ; RFC 6749 §3.1.2.3"},
		{"3.1/duplicate", authorization("web").Encode() + "&redirect_uri=x", "invalid_request", "redirect_uri occurs more than once", "redirect_uri; at most once; RFC 6749 §3.1"},
		{"A/not UTF-8", authorization("web", "client_id", "x\xff").Encode(), "invalid_request", "client_id has control characters or is not UTF-8", "client_id; text in UTF-8 without control characters; RFC 6749 Appendix A"},
		{"B/malformed", "%zz", "invalid_request", "x-www-form-urlencoded", "RFC 6749 Appendix B"},
		{"3.1/duplicate state, out of band", authorization("cli", "redirect_uri", outOfBand).Encode() + "&state=x", "invalid_request", "state occurs more than once", "state; at most once; RFC 6749 §3.1"},
		{"4.2.2.1/implicit, out of band", authorization("public", "redirect_uri", outOfBand, "response_type", "token").Encode(), "unauthorized_client", "implicit grant",
			"response_type; one whose grant the application is registered for; RFC 6749 §4.2.2.1"},
		{"3.3/scope, out of band", authorization("cli", "redirect_uri", outOfBand, "scope", "state").Encode(), "invalid_scope", "scope",
			"scope; scopes that this server has and the application is registered for, separated by single spaces; leave it out for the default; RFC 6749 §3.3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := b.in(t).authorizeRaw(row.query)
			r.wantPage(http.StatusBadRequest)
			if r.text("error") != row.error || !strings.Contains(r.text("error-description"), row.naming) {
				t.Errorf("error %s, explanation %s", r.text("error"), r.text("error-description"))
			}
			if got := r.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
				t.Errorf("Content-Type: %s", got)
			}
			var more []string
			for _, match := range regexp.MustCompile(`<dt>(Parameter|Expected|Rule)</dt><dd>(?:<code>)?([^<]*)<`).FindAllStringSubmatch(r.body, -1) {
				more = append(more, match[2])
			}
			if got := strings.Join(more, "; "); got != row.more {
				t.Errorf("the page says %q, want %q", got, row.more)
			}
		})
	}
}
