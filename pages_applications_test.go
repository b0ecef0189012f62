package main

import (
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// registration is the one valid form for an application.
func registrationForm() url.Values {
	return url.Values{
		"client_name":                {"Field notes"},
		"client_uri":                 {"https://notes.example/"},
		"description":                {"Keeps notes.\r\nOf fields."},
		"token_endpoint_auth_method": {"client_secret_basic"},
		"redirect_uris":              {"https://notes.example/cb\r\n\r\nhttp://127.0.0.1/cb"},
		"out_of_band":                {"yes"},
		"grant_types":                {"authorization_code", "refresh_token"},
		"scope":                      {"read  write"},
	}
}

// account returns the form token of the user's pages.
func (b *browser) token() string {
	b.Helper()
	return b.get("/account/applications").form(nil).Get("form_token")
}

// fill sends a form of the account pages, with the hidden fields of a new one.
func (b *browser) fill(path string, form url.Values) *reply {
	b.Helper()
	form = cloneForm(form)
	form.Set("form_token", b.token())
	form.Set("form_id", uuid.NewString())
	return b.post(path, form)
}

func cloneForm(form url.Values) url.Values {
	clone := url.Values{}
	for name, values := range form {
		clone[name] = slices.Clone(values)
	}
	return clone
}

var (
	shownID     = regexp.MustCompile(`id="client_id">([^<]*)<`)
	shownSecret = regexp.MustCompile(`id="client_secret">([^<]*)<`)
)

// register registers an application and returns what its page shows.
func (b *browser) register(form url.Values) (clientID, secret string) {
	b.Helper()
	r := b.fill("/account/applications/new", form)
	match := shownID.FindStringSubmatch(r.body)
	if r.StatusCode != http.StatusOK || match == nil {
		b.Fatalf("registration: status %d: %s", r.StatusCode, r.body)
	}
	if s := shownSecret.FindStringSubmatch(r.body); s != nil {
		secret = s[1]
	}
	return match[1], secret
}

// editForm returns the form of an application as the page fills it in.
func (b *browser) editForm(clientID string, change url.Values) url.Values {
	b.Helper()
	page := b.get("/account/applications/edit?id=" + url.QueryEscape(clientID))
	if page.StatusCode != http.StatusOK {
		b.Fatalf("edit page: status %d: %s", page.StatusCode, page.body)
	}
	body := page.body[strings.Index(page.body, "<main"):]
	form := url.Values{}
	for _, tag := range regexp.MustCompile(`<input [^>]*>`).FindAllString(firstForm.FindString(body), -1) {
		attribute := func(name string) string {
			if match := regexp.MustCompile(` ` + name + `="([^"]*)"`).FindStringSubmatch(tag); match != nil {
				return html.UnescapeString(match[1])
			}
			return ""
		}
		if attribute("type") != "checkbox" || strings.Contains(tag, " checked") {
			form.Add(attribute("name"), attribute("value"))
		}
	}
	for _, match := range regexp.MustCompile(`(?s)<textarea [^>]* ?name="([^"]*)"[^>]*>\n(.*?)</textarea>`).FindAllStringSubmatch(body, -1) {
		form.Set(match[1], strings.ReplaceAll(html.UnescapeString(match[2]), "\n", "\r\n"))
	}
	for name, values := range change {
		form[name] = values
	}
	return form
}

func (i *instance) client(clientID string) *client {
	i.Helper()
	c, err := i.server.store.clientNamed(clientID)
	if err != nil {
		i.Fatal(err)
	}
	return c
}

func (r *reply) contains(texts ...string) {
	r.i.Helper()
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			r.i.Errorf("status %d, the page lacks %q: %s", r.StatusCode, text, r.body)
		}
	}
}

// TestApplications goes through the life of an application.
func TestApplications(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	id, secret := b.register(registrationForm())
	c := i.client(id)
	if c.Name != "Field notes" || c.URI != "https://notes.example/" || c.Description != "Keeps notes.\nOf fields." || c.Owner != "alice" ||
		c.Scope != "read write" || !slices.Equal(c.GrantTypes, []string{"authorization_code", "refresh_token"}) ||
		!slices.Equal(c.RedirectURIs, []string{"https://notes.example/cb", "http://127.0.0.1/cb", outOfBand}) {
		t.Fatalf("registered: %+v", c)
	}
	b.get("/account/applications").contains("Field notes", id, "notes.example", "Web app") // web is alice's too

	// It works.
	request := authorization("web")
	request.Set("client_id", id)
	request.Set("redirect_uri", "https://notes.example/cb")
	code := b.approve(request).param("code")
	form := exchangeOf("web", code)
	form.Set("client_id", id)
	form.Set("client_secret", secret)
	form.Set("redirect_uri", "https://notes.example/cb")
	access, _ := i.post(i.endpoint("token"), form).wantToken()

	// It is shown as it is, and a form that comes back as it was changes nothing.
	if r := b.post("/account/applications/edit", b.editForm(id, nil)); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("saved unchanged: status %d: %s", r.StatusCode, r.body)
	}
	if again := i.client(id); again.version() != c.version() || again.ID != c.ID || !slices.Equal(again.SecretHash, c.SecretHash) {
		t.Errorf("saved unchanged: %+v, was %+v", again, c)
	}
	r := b.post("/account/applications/edit", b.editForm(id, url.Values{"client_name": {"Lab notes"}}))
	b.get(r.location().String()).contains("Lab notes", "Saved")
	i.wantAlive(access)

	// A new secret takes the place of the old one.
	r = b.fill("/account/applications/regenerate", url.Values{"id": {id}})
	newSecret := shownSecret.FindStringSubmatch(r.body)[1]
	form.Set("code", b.approve(request).param("code"))
	i.post(i.endpoint("token"), form).wantError(http.StatusUnauthorized, "invalid_client")
	form.Set("client_secret", newSecret)
	i.post(i.endpoint("token"), form).wantToken()
	i.wantAlive(access)

	// And with the application everything is gone.
	r = b.fill("/account/applications/delete", url.Values{"id": {id}})
	if list := b.get(r.location().String()); strings.Contains(list.body, id) {
		t.Error("a deleted application is listed")
	}
	i.wantDead(access)
	b.get("/account/applications/edit?id=" + id).wantPage(http.StatusNotFound)
}

// TestApplicationOwner is R149: the owner and nobody else.
func TestApplicationOwner(t *testing.T) {
	t.Parallel()
	i := start(t)
	alice := i.as("alice")
	id, secret := alice.register(registrationForm())
	form := alice.editForm(id, url.Values{"client_name": {"Taken over"}})
	before := *i.client(id)
	unchanged := func(t *testing.T) {
		t.Helper()
		if after := i.client(id); after == nil || after.version() != before.version() || !slices.Equal(after.SecretHash, before.SecretHash) {
			t.Errorf("the application is now %+v", after)
		}
	}
	paths := []string{"/account/applications/edit", "/account/applications/regenerate", "/account/applications/delete"}
	bob := i.as("bob")
	bob.register(registrationForm())
	t.Run("R149 another user", func(t *testing.T) {
		bob := bob.in(t)
		if list := bob.get("/account/applications"); strings.Contains(list.body, id) {
			t.Errorf("bob sees alice's application: %s", list.body)
		}
		theirs := bob.get("/account/applications/edit?id=" + id)
		theirs.wantPage(http.StatusNotFound)
		if none := bob.get("/account/applications/edit?id=none"); none.body != theirs.body {
			t.Errorf("another's application differs from none: %s", theirs.body)
		}
		for _, path := range paths {
			bob.fill(path, form).wantPage(http.StatusNotFound)
			bob.fill(path, url.Values{"id": {"web"}}).wantPage(http.StatusNotFound)
		}
		unchanged(t)
	})
	t.Run("R149 an application without an owner", func(t *testing.T) {
		bob := bob.in(t)
		for _, path := range paths {
			bob.fill(path, url.Values{"id": {"other"}}).wantPage(http.StatusNotFound)
		}
	})
	t.Run("R149 a new user of the owner's name", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		id, _ := i.as("alice").register(registrationForm())
		i.must(i.server.store.deleteUser("alice"))
		i.furnish(`{"users": [{"username": "alice", "password": "wonderland"}]}`)
		alice := i.as("alice")
		if list := alice.get("/account/applications"); strings.Contains(list.body, id) || strings.Contains(list.body, "Web app") {
			t.Errorf("she has inherited: %s", list.body)
		}
		for _, path := range paths {
			alice.fill(path, url.Values{"id": {id}}).wantPage(http.StatusNotFound)
		}
		i.post(i.endpoint("token"), withClient("web", url.Values{"grant_type": {"client_credentials"}})).wantToken() // the client is there
	})
	t.Run("R149 anonymous", func(t *testing.T) {
		nobody := i.in(t).browser()
		for _, path := range []string{"/account/applications", "/account/applications/new", "/account/applications/edit?id=" + id, "/account/authorized"} {
			page := nobody.get(path)
			if page.action() != "/login" || strings.Contains(page.body, "Field notes") {
				t.Errorf("%s shows %s", path, page.body)
			}
			if got := page.form(nil).Get("continue"); got != path {
				t.Errorf("%s: after signing in one gets to %s", path, got)
			}
		}
		for _, path := range append(paths, "/account/applications/new", "/account/authorized/revoke") {
			if r := nobody.post(path, form); r.StatusCode != http.StatusForbidden || r.action() != "/login" {
				t.Errorf("%s: status %d: %s", path, r.StatusCode, r.body)
			}
		}
		unchanged(t)
	})
	t.Run("R149 other methods", func(t *testing.T) {
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			for _, path := range append(paths, "/account/applications") {
				if r := bob.do(method, path+"?id="+id, ""); r.StatusCode != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: status %d", method, path, r.StatusCode)
				}
			}
		}
		unchanged(t)
	})
	t.Run("R151 the secret is shown once", func(t *testing.T) {
		alice := alice.in(t)
		for _, path := range []string{"/", "/account/applications", "/account/applications/edit?id=" + id, "/account/authorized"} {
			if r := alice.get(path); strings.Contains(r.body, secret) {
				t.Errorf("%s shows the secret", path)
			}
		}
		if r := alice.post("/account/applications/edit", alice.editForm(id, url.Values{"client_name": {""}})); strings.Contains(r.body, secret) {
			t.Error("the refused form shows the secret")
		}
		if strings.Contains(i.log.String(), secret) {
			t.Error("the log has the secret")
		}
	})
}

// TestApplicationForms is R150: by POST, from this server's page, with the
// token of this sign-in.
func TestApplicationForms(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	id, _ := b.register(registrationForm())
	access, _ := i.tokens("web")
	before := i.client(id).version()
	token := b.token()
	edit := b.editForm(id, url.Values{"client_name": {"Forged"}})
	forms := map[string]url.Values{
		"/account/applications/new":        registrationForm(),
		"/account/applications/edit":       edit,
		"/account/applications/regenerate": {"id": {id}},
		"/account/applications/delete":     {"id": {id}},
		"/account/authorized/revoke":       {"id": {"web"}},
	}
	foreign := i.as("bob").token()
	for path, form := range forms {
		t.Run("R150 "+path, func(t *testing.T) {
			b := b.in(t)
			for name, wrong := range map[string]string{"without token": "", "token of bob": foreign, "token altered": token[1:] + "A"} {
				form := cloneForm(form)
				form.Set("form_token", wrong)
				if r := b.post(path, form); r.StatusCode != http.StatusForbidden {
					t.Errorf("%s: status %d", name, r.StatusCode)
				}
			}
			good := cloneForm(form)
			good.Set("form_token", token)
			if r := b.post(path, good, "Sec-Fetch-Site", "cross-site"); r.StatusCode != http.StatusForbidden {
				t.Errorf("from another site: status %d", r.StatusCode)
			}
			if r := b.post(path, good, "Origin", "https://evil.example"); r.StatusCode != http.StatusForbidden {
				t.Errorf("from another origin: status %d", r.StatusCode)
			}
			if r := b.get(path + "?" + good.Encode()); r.StatusCode != http.StatusMethodNotAllowed && r.StatusCode != http.StatusOK && r.StatusCode != http.StatusNotFound {
				t.Errorf("by GET: status %d", r.StatusCode)
			}
			if r := b.post(path+"?"+good.Encode(), url.Values{"x": {"y"}}); r.StatusCode != http.StatusForbidden {
				t.Errorf("from the URL: status %d", r.StatusCode)
			}
		})
	}
	if c := i.client(id); c == nil || c.version() != before {
		t.Errorf("the application is now %+v", c)
	}
	if owned, _ := i.server.store.clientsOf("alice", noLimit); len(owned) != 2 {
		t.Errorf("alice owns %d applications now", len(owned))
	}
	i.wantAlive(access)
}

// TestApplicationMassAssignment is R152: the form sets what it shows.
func TestApplicationMassAssignment(t *testing.T) {
	t.Parallel()
	t.Run("R152 the form sets what it shows", func(t *testing.T) {
		i := start(t)
		b := i.as("alice")
		more := url.Values{"id": {"chosen"}, "client_id": {"chosen"}, "client_secret": {"chosen-secret"}, "secret": {"chosen-secret"},
			"client_secret_hash": {"x"}, "owner": {"bob"}, "trusted": {"true"}, "skip_consent": {"true"}}
		form := registrationForm()
		for name, values := range more {
			form[name] = values
		}
		id, secret := b.register(form)
		check := func() {
			t.Helper()
			c := i.client(id)
			if id == "chosen" || i.client("chosen") != nil || c.Owner != "alice" || !slices.Equal(c.SecretHash, hashSecret(secret)) {
				t.Errorf("registered: %s %+v", id, c)
			}
		}
		check()
		delete(more, "id")
		more.Set("token_endpoint_auth_method", "none")
		if r := b.post("/account/applications/edit", b.editForm(id, more)); r.StatusCode != http.StatusSeeOther {
			t.Fatalf("status %d: %s", r.StatusCode, r.body)
		}
		check()
		if i.client(id).public() {
			t.Error("a confidential application became public")
		}
	})
}

// TestApplicationProblems is R29 and R153: what is wrong stands beside its
// field, nothing typed is lost and nothing is stored.
func TestApplicationProblems(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	before := dump(t, i.server.store)
	long := strings.Repeat("x", 3000)
	const (
		noScheme = "Redirect URI 1 has no scheme, or one that is neither https nor a reversed domain name such as com.example.app (RFC 8252 §7.1)."
		scheme   = "Redirect URI 1 has a scheme that is neither https nor a reversed domain name such as com.example.app (RFC 8252 §7.1)."
		insecure = "is http on a host other than 127.0.0.1, [::1] and localhost: use https (RFC 9700 §2.6), or allow the host with -redirect-host."
		name     = "The name must be text of at most 255 characters."
		website  = "The website must be a URL with https:// or http://, of at most 2048 characters."
		host     = "The website has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)."
		scopes   = "The scope must be at most 100 scope tokens of printable ASCII, 2000 characters in all, with one space between them."
	)
	for _, row := range []struct{ name, field, value, problem string }{
		{"R29 relative", "redirect_uris", "callback", "Redirect URI 1 is not an absolute URI (RFC 6749 §3.1.2)."},
		{"R29 without a scheme", "redirect_uris", "//evil.example/cb", "Redirect URI 1 is not an absolute URI (RFC 6749 §3.1.2)."},
		{"R29 host and port for a scheme", "redirect_uris", "localhost:80/cb", noScheme},
		{"R19 R29 fragment", "redirect_uris", "https://a.example/cb#x", "Redirect URI 1 has a fragment (RFC 6749 §3.1.2)."},
		{"R19 R29 empty fragment", "redirect_uris", "https://a.example/cb#", "Redirect URI 1 has a fragment (RFC 6749 §3.1.2)."},
		{"R29 javascript", "redirect_uris", "javascript:alert(1)", noScheme},
		{"R29 data", "redirect_uris", "data:text/html,x", noScheme},
		{"R29 vbscript", "redirect_uris", "vbscript:x", noScheme},
		{"R29 file", "redirect_uris", "file:///etc/passwd", scheme},
		{"R29 blob", "redirect_uris", "blob:https://a.example/x", noScheme},
		{"R29 about", "redirect_uris", "about:blank", noScheme},
		{"R29 http beyond loopback", "redirect_uris", "http://a.example/cb", "Redirect URI 1 " + insecure},
		{"R29 wildcard", "redirect_uris", "https://*.a.example/", "Redirect URI 1 has a wildcard: redirect URIs are compared exactly (RFC 9700 §2.1)."},
		{"R29 control character", "redirect_uris", "https://a.example/\x07", "Redirect URI 1 has characters that a URI cannot have."},
		{"R29 longer than 2 KB", "redirect_uris", "https://a.example/" + long, "Redirect URI 1 is longer than 2048 characters."},
		{"R29 scheme without a dot", "redirect_uris", "myapp:/cb", scheme},
		{"R28 parameter of the answer", "redirect_uris", "https://a.example/cb?code=x", "Redirect URI 1 has a parameter code, which the server adds itself."},
		{"R29 one bad among good ones", "redirect_uris", "https://a.example/cb\r\nhttp://b.example/cb\r\nhttps://c.example/cb", "Redirect URI 2 " + insecure},
		{"R153 no redirect URI", "redirect_uris", "", "The redirect URIs are missing: grants that go through the browser need at least one, or out of band."},
		{"R153 too many redirect URIs", "redirect_uris", strings.Repeat("https://a.example/"+long[:1900]+"1\r\n", 1) + "https://b.example/" + long[:1900] + "\r\nhttps://c.example/" + long[:1900],
			"The redirect URIs are longer than 4096 characters together."},
		{"R153 no name", "client_name", "", "The name is missing: people see it when they are asked to allow access."},
		{"R153 blank name", "client_name", "   ", "The name is missing: people see it when they are asked to allow access."},
		{"R153 name that turns around", "client_name", "\u202egnp.exe", "The name has invisible characters, or characters that reverse the text."},
		{"R153 name that leaves its place", "client_name", "Bank\u2069\u202e", "The name has invisible characters, or characters that reverse the text."},
		{"R153 invisible name", "client_name", "\u3164", "The name has no visible characters."},
		{"R153 long name", "client_name", strings.Repeat("é", 256), name},
		{"R153 control character in the name", "client_name", "a\x00b", name},
		{"R153 line break in the name", "client_name", "a\nb", name},
		{"R153 name that is not UTF-8", "client_name", "a\xffb", name},
		{"R65 website that is a script", "client_uri", "javascript:alert(1)", website},
		{"R65 website that reads backwards", "client_uri", "https://example.com\u202emoc.elgoog/", host},
		{"R65 website with an invisible letter", "client_uri", "https://goo\u200bgle.com/", host},
		{"R65 website with an encoded one", "client_uri", "https://goo%E2%81%A0gle.com/", host},
		{"R65 website with a Cyrillic letter", "client_uri", "https://g\u043eogle.com/", host},
		{"R153 website without a scheme", "client_uri", "notes.example", website},
		{"R153 long website", "client_uri", "https://a.example/" + long, website},
		{"R153 long description", "description", strings.Repeat("é", 501), "The description must be text of at most 500 characters, none of them invisible."},
		{"R153 description that turns around", "description", "a\u202eb", "The description must be text of at most 500 characters, none of them invisible."},
		{"R153 control character in the description", "description", "a\x1bb", "The description must be text of at most 500 characters, none of them invisible."},
		{"R153 scope that is none", "scope", `read "write"`, scopes},
		{"R177 scope of 101 tokens", "scope", repeated("read", 101), scopes},
		{"R177 scope of 2001 characters", "scope", strings.Repeat("r", 2001), scopes},
		{"R153 no grant", "grant_types", "none", "The grants are missing: tick at least one."},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := b.in(t)
			form := registrationForm()
			form.Set(row.field, row.value)
			form.Set("out_of_band", "")
			r := b.fill("/account/applications/new", form)
			if r.StatusCode != http.StatusUnprocessableEntity {
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
			if got := r.text(row.field + "-problem"); got != row.problem {
				t.Errorf("the problem is %q, want %q", got, row.problem)
			}
			problem := strings.Index(r.body, `id="`+row.field+`-problem"`)
			field := strings.Index(r.body, `name="`+row.field+`"`)
			if strings.Contains(r.body[min(problem, field):max(problem, field)], "<label for=") {
				t.Errorf("the problem does not stand beside %s: %s", row.field, r.body)
			}
			control := regexp.MustCompile(`<[a-z]+ id="` + row.field + `"[^>]*>`).FindString(r.body)
			if !strings.Contains(control, `aria-describedby="`+row.field+`-problem" autofocus`) {
				t.Errorf("the focus is not on what is wrong: %s", control)
			}
			r.contains(`role="alert">Nothing is registered yet. Check the <a href="#` + row.field + `">`)
			for name, values := range form {
				for _, value := range values {
					shown := html.EscapeString(strings.TrimSpace(regexp.MustCompile(`(\r\n)+`).ReplaceAllString(value, "\n")))
					if name != row.field && value != "" && !strings.Contains(html.UnescapeString(r.body), html.UnescapeString(strings.ReplaceAll(shown, "  ", " "))) {
						t.Errorf("%s=%q is lost", name, value)
					}
				}
			}
		})
	}
	t.Run("R153 everything at once", func(t *testing.T) {
		b := b.in(t)
		r := b.fill("/account/applications/new", url.Values{"client_uri": {"x"}, "description": {long}, "redirect_uris": {"x\r\ny"}, "scope": {`"`}})
		all := regexp.MustCompile(`id="([a-z_]+)-problem">`).FindAllStringSubmatch(r.body, -1)
		for n, field := range []string{"client_name", "client_uri", "description", "redirect_uris", "grant_types", "scope"} {
			if n >= len(all) || all[n][1] != field {
				t.Fatalf("problems of %q: %s", all, r.body)
			}
		}
		if n := strings.Count(r.body, " autofocus"); len(all) != 6 || n != 1 {
			t.Errorf("%d problems, %d fields want the focus: %s", len(all), n, r.body)
		}
		r.contains(`<a href="#client_name">name</a>, the <a href="#client_uri">website</a>, the <a href="#description">`)
	})
	t.Run("R153 as long as it may be", func(t *testing.T) {
		i := start(t)
		form := registrationForm()
		form.Set("client_name", strings.Repeat("é", 255))
		form.Set("description", strings.Repeat("é", 500))
		i.as("alice").register(form)
	})
	t.Run("R153 scope outside the profile", func(t *testing.T) {
		i := start(t, func(s *server) { s.profile.Scopes = []scope{{"read", "See your things"}, {"write", ""}} })
		b := i.as("alice")
		for name, change := range map[string]url.Values{"unknown": {"scope": {"read", "admin"}}, "none": {"scope": nil}} {
			form := registrationForm()
			form["scope"] = change["scope"]
			if r := b.fill("/account/applications/new", form); r.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("%s: status %d: %s", name, r.StatusCode, r.body)
			}
		}
		form := registrationForm()
		form["scope"] = []string{"read", "write"}
		id, _ := b.register(form)
		if c := i.client(id); c.Scope != "read write" {
			t.Errorf("scope %q", c.Scope)
		}
		b.get("/account/applications/edit?id="+id).contains(`name="scope" value="read" checked`, "See your things")
	})
	t.Run("4.4 client credentials of a public application", func(t *testing.T) {
		form := registrationForm()
		form.Set("token_endpoint_auth_method", "none")
		form.Add("grant_types", "client_credentials")
		r := b.fill("/account/applications/new", form)
		if got := r.text("grant_types-problem"); r.StatusCode != http.StatusUnprocessableEntity || got != "The grants cannot include client credentials for a public application (RFC 6749 §4.4)." {
			t.Errorf("status %d, the problem is %q", r.StatusCode, got)
		}
	})
	t.Run("R153 a body of 1 MB", func(t *testing.T) {
		form := registrationForm()
		form.Set("client_name", strings.Repeat("x", 1<<20))
		b.fill("/account/applications/new", form).wantPage(http.StatusRequestEntityTooLarge)
	})
	if !maps.Equal(before, dump(t, i.server.store)) {
		t.Error("something was stored")
	}
	t.Run("R153 edit", func(t *testing.T) {
		id, _ := b.register(registrationForm())
		before := i.client(id).version()
		r := b.post("/account/applications/edit", b.editForm(id, url.Values{"redirect_uris": {"http://evil.example/"}}))
		if r.StatusCode != http.StatusUnprocessableEntity || i.client(id).version() != before {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
		r.contains("http://evil.example/", `id="redirect_uris-problem"`, "Nothing is saved yet.")
	})
}

// R29: a scheme of one's own that is a reversed domain name works end to end
// (RFC 8252 §7.1); R151: a public application gets no secret.
func TestApplicationNative(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	form := registrationForm()
	form.Set("token_endpoint_auth_method", "none")
	form.Set("redirect_uris", "com.example.app:/cb")
	form.Set("client_uri", "")
	id, secret := b.register(form)
	if secret != "" || !i.client(id).public() {
		t.Errorf("the public application has the secret %q", secret)
	}
	b.fill("/account/applications/regenerate", url.Values{"id": {id}}).wantPage(http.StatusBadRequest)
	request := authorization("native")
	request.Set("client_id", id)
	request.Set("redirect_uri", "com.example.app:/cb")
	back := b.approve(request)
	if !strings.HasPrefix(back.Header.Get("Location"), "com.example.app:/cb?code=") {
		t.Fatalf("back to %s", back.Header.Get("Location"))
	}
	i.post(i.endpoint("token"), url.Values{"grant_type": {"authorization_code"}, "client_id": {id}, "code": {back.param("code")},
		"redirect_uri": {"com.example.app:/cb"}, "code_verifier": {verifier}}).wantToken()
	for _, path := range []string{"/account/applications", "/account/authorized"} {
		if r := b.get(path); strings.Contains(r.body, ":</bdi>") || !strings.Contains(r.body, "Field notes") {
			t.Errorf("an application without a website on %s: %s", path, r.body)
		}
	}
}

// R65, R153: whatever an application is called, it is text on every page.
func TestApplicationNames(t *testing.T) {
	t.Parallel()
	i := start(t)
	for _, name := range []string{`<img src=x onerror=1>`, `"><svg/onload=1>`, `</title><script>alert(1)</script>`, `' autofocus onfocus='x`,
		"مرحبا بالعالم", "🌱🪴 sprout", strings.Repeat("ab ", 20) + "!", "{{.Token}}", "javascript:alert(1)"} {
		t.Run("R65 R153 "+name, func(t *testing.T) {
			i := i.in(t)
			b := i.as("alice")
			form := registrationForm()
			form.Set("client_name", name)
			form.Set("description", name)
			r := b.fill("/account/applications/new", form)
			id := shownID.FindStringSubmatch(r.body)[1]
			request := authorization("web")
			request.Set("client_id", id)
			request.Set("redirect_uri", "https://notes.example/cb")
			anonymous := i.browser().authorize(request)
			consent := b.authorize(request)
			b.decide(consent, "approve")
			for _, page := range []*reply{r, anonymous, consent, b.get("/account/applications"), b.get("/account/applications/edit?id=" + id), b.get("/account/authorized")} {
				if page.StatusCode != http.StatusOK {
					t.Errorf("status %d: %s", page.StatusCode, page.body)
				}
				if strings.ContainsAny(name, `<>"'`) && strings.Contains(page.body, name) {
					t.Errorf("the name is markup in %s", page.body)
				}
				if !strings.Contains(html.UnescapeString(page.body), "<bdi>"+name+"</bdi>") {
					t.Errorf("the name is not isolated text: %s", page.body)
				}
			}
			b.fill("/account/applications/delete", url.Values{"id": {id}})
		})
	}
	t.Run("R153 the same name twice", func(t *testing.T) {
		b := i.in(t).as("alice")
		first, _ := b.register(registrationForm())
		second, _ := b.register(registrationForm())
		if first == second {
			t.Error("two applications are one")
		}
	})
}

// TestApplicationTakesEffect is R154: what a change takes away is gone for
// what is under way.
func TestApplicationTakesEffect(t *testing.T) {
	t.Parallel()
	i := start(t)
	for _, row := range []struct {
		name          string
		change        url.Values
		page          func(*reply)
		code, refresh string
	}{
		{"R154 redirect URI removed", url.Values{"redirect_uris": {"https://elsewhere.example/cb"}},
			func(r *reply) { r.wantPage(http.StatusBadRequest) }, "invalid_grant", ""},
		{"R154 scope removed", url.Values{"scope": {"read"}},
			func(r *reply) { r.wantRedirect("invalid_scope", "xyz") }, "invalid_scope", "invalid_scope"},
		{"R154 grant removed", url.Values{"grant_types": {"client_credentials"}},
			func(r *reply) { r.wantRedirect("unauthorized_client", "xyz") }, "unauthorized_client", "unauthorized_client"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			b := i.as("alice")
			id, secret := b.register(registrationForm())
			request := authorization("web")
			request.Set("client_id", id)
			request.Set("redirect_uri", "https://notes.example/cb")
			with := func(form url.Values) url.Values {
				form.Set("client_id", id)
				form.Set("client_secret", secret)
				if form.Has("redirect_uri") {
					form.Set("redirect_uri", "https://notes.example/cb")
				}
				return form
			}
			consent := b.authorize(request)
			_, refresh := i.post(i.endpoint("token"), with(exchangeOf("web", b.decide(b.authorize(request), "approve").param("code")))).wantToken()
			code := b.approve(request).param("code")

			if r := b.post("/account/applications/edit", b.editForm(id, row.change)); r.StatusCode != http.StatusSeeOther {
				t.Fatalf("status %d: %s", r.StatusCode, r.body)
			}
			row.page(b.decide(consent, "approve"))
			i.post(i.endpoint("token"), with(exchangeOf("web", code))).wantError(http.StatusBadRequest, row.code)
			r := i.post(i.endpoint("token"), with(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}))
			if row.refresh == "" {
				r.wantToken()
			} else {
				r.wantError(http.StatusBadRequest, row.refresh)
			}
		})
	}
}

// TestAuthorized is R155: revoking ends all that the user granted to the
// application, and nothing else.
func TestAuthorized(t *testing.T) {
	t.Parallel()
	i := start(t)
	alice, bob := i.as("alice"), i.as("bob")
	tokens := func(b *browser, clientID string) (access, refresh string) {
		t.Helper()
		return i.post(i.endpoint("token"), exchangeOf(clientID, b.approve(authorization(clientID)).param("code"))).wantToken()
	}
	first, refresh := tokens(alice, "web")
	i.advance(time.Hour)
	second, _ := tokens(alice, "web")
	elsewhere, _ := tokens(alice, "other")
	theirs, _ := tokens(bob, "web")
	held := alice.approve(authorization("web")).param("code")
	now := unixTime(i.server.clock.now().Unix()).UTC()

	page := alice.get("/account/authorized")
	page.contains("Web app", "cb.example", "<code>read</code>", "<code>write</code>", `value="web"`, `value="other"`,
		"last used "+now.Format("2 January 2006, 15:"), "Allowed "+now.Add(-time.Hour).Format("2 January 2006, 15:"))
	if strings.Contains(page.body, "native") {
		t.Errorf("an application that nobody allowed: %s", page.body)
	}
	if page := bob.get("/account/authorized"); strings.Contains(page.body, `value="other"`) || !strings.Contains(page.body, `value="web"`) {
		t.Errorf("bob sees %s", page.body)
	}

	r := alice.fill("/account/authorized/revoke", url.Values{"id": {"web"}})
	if after := alice.get(r.location().String()); strings.Contains(after.body, `value="web"`) || !strings.Contains(after.body, `value="other"`) {
		t.Errorf("after revoking: %s", after.body)
	}
	i.wantDead(first, second)
	i.refresh("web", refresh).wantError(http.StatusBadRequest, "invalid_grant")
	i.post(i.endpoint("token"), exchangeOf("web", held)).wantError(http.StatusBadRequest, "invalid_grant")
	i.wantAlive(elsewhere, theirs)
	if page := alice.authorize(authorization("web")); !strings.Contains(page.body, `name="decision"`) {
		t.Errorf("the consent is remembered: status %d", page.StatusCode)
	}
	// Again, and for what is not there: nothing to do.
	for _, id := range []string{"web", "none", ""} {
		if r := alice.fill("/account/authorized/revoke", url.Values{"id": {id}}); r.StatusCode != http.StatusSeeOther {
			t.Errorf("revoking %q: status %d: %s", id, r.StatusCode, r.body)
		}
	}
}

// Lists that are too long for one page are on several, each below 64 KB, on
// which nothing is missing.
func TestLongLists(t *testing.T) {
	t.Parallel()
	i := start(t)
	var clients, scope []string
	for n := range 20 {
		scope = append(scope, fmt.Sprintf("scope-&-%d", n))
	}
	for n := range 55 {
		clients = append(clients, fmt.Sprintf(`{"clients": [{"client_id": "c%02d", "client_name": "C%02d %s", "client_uri": "https://%s.example/", "redirect_uris": ["https://cb.example/cb"], "owner": "bob"}]}`,
			n, n, strings.Repeat("é", 250), strings.Repeat("w", 200)))
	}
	b := i.as("bob")
	for n := range clients {
		i.furnish(clients[n])
		b.approve(authorization("web", "client_id", fmt.Sprintf("c%02d", n), "scope", strings.Join(scope, " ")))
		i.advance(time.Second)
	}
	next := regexp.MustCompile(`<a href="(\?page=\d+)" rel="next">`)
	for path, entry := range map[string]*regexp.Regexp{
		"/account/authorized":   regexp.MustCompile(`name="id" value="(c\d\d)"`),
		"/account/applications": regexp.MustCompile(`<code>(c\d\d)</code>`),
	} {
		var seen []string
		pages, query := 0, ""
		for {
			r := b.get(path + query)
			if pages++; len(r.body) > 64<<10 {
				t.Errorf("%s%s has %d bytes", path, query, len(r.body))
			}
			for _, match := range entry.FindAllStringSubmatch(r.body, -1) {
				seen = append(seen, match[1])
			}
			if strings.Contains(r.body, `rel="prev"`) != (pages > 1) {
				t.Errorf("%s%s: the way back: %s", path, query, r.body)
			}
			match := next.FindStringSubmatch(r.body)
			if match == nil {
				if last := b.get(path + "?page=999"); last.body != r.body {
					t.Errorf("%s: a page behind the last one: %s", path, last.body)
				}
				break
			}
			query = match[1]
		}
		if path == "/account/authorized" {
			slices.Reverse(seen) // the newest is first
		}
		if len(seen) != len(clients) || !slices.IsSorted(seen) || pages < 2 {
			t.Errorf("%s shows %q on %d pages", path, seen, pages)
		}
		for _, query := range []string{"?page=0", "?page=-1", "?page=x", "?page="} {
			if b.get(path+query).body != b.get(path).body {
				t.Errorf("%s%s is not the first page", path, query)
			}
		}
	}
	// One stays on the page on which one revokes.
	if r := b.fill("/account/authorized/revoke", url.Values{"id": {"c20"}, "page": {"2"}}); r.location().RequestURI() != "/account/authorized?page=2" {
		t.Errorf("back to %s", r.location())
	}
}

// TestAuthorizedTimes: what was allowed and never used says so, and what has
// expired is not there.
func TestAuthorizedTimes(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	b.approve(authorization("web"))
	b.get("/account/authorized").contains("Web app", "not used yet")
	b.approve(url.Values{"response_type": {"token"}, "client_id": {"legacy"}, "redirect_uri": {redirectURIs["legacy"]}, "scope": {"read"}})
	b.get("/account/authorized").contains("legacy", "last used "+unixTime(i.server.clock.now().Unix()).UTC().Format("2 January 2006"))
	i.advance(2 * time.Hour)
	if page := b.get("/account/authorized"); strings.Contains(page.body, "Web app") || strings.Contains(page.body, "legacy") {
		t.Errorf("expired: %s", page.body)
	}
}

// TestAuthorizedBare: a token that is all that was issued with a permission ends
// it when it is revoked.
func TestAuthorizedBare(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	token := b.approve(authorization("legacy", "response_type", "token")).param("access_token")
	b.get("/account/authorized").contains(`value="legacy"`)
	i.revoke("legacy", token).wantRevoked()
	if page := b.get("/account/authorized"); strings.Contains(page.body, `value="legacy"`) {
		t.Errorf("it is still there: %s", page.body)
	}
}

// TestApplicationRaces is R159: a form that was filled in while another one
// was saved undoes nothing unseen, and parallel ones neither fail nor mix.
func TestApplicationRaces(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	id, _ := b.register(registrationForm())
	t.Run("R159 two forms", func(t *testing.T) {
		first := b.editForm(id, url.Values{"redirect_uris": {"https://new.example/cb"}})
		second := b.editForm(id, url.Values{"description": {"other words"}}) // still with the old redirect URI
		b.post("/account/applications/edit", first)
		r := b.post("/account/applications/edit", second)
		if r.StatusCode != http.StatusConflict || i.client(id).RedirectURIs[0] != "https://new.example/cb" {
			t.Fatalf("status %d, redirect URIs %q", r.StatusCode, i.client(id).RedirectURIs)
		}
		r.contains("other words", "https://notes.example/cb", `role="alert"`)
		// Having seen it one may insist.
		second.Set("version", regexp.MustCompile(`name="version" value="([^"]*)"`).FindStringSubmatch(r.body)[1])
		if r := b.post("/account/applications/edit", second); r.StatusCode != http.StatusSeeOther {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R159 saved twice", func(t *testing.T) {
		form := b.editForm(id, url.Values{"description": {"saved twice"}})
		for range 2 {
			if r := b.post("/account/applications/edit", form); r.StatusCode != http.StatusSeeOther || i.client(id).Description != "saved twice" {
				t.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		}
	})
	t.Run("R159 parallel edits", func(t *testing.T) {
		form := b.editForm(id, nil)
		saved := make(chan string, 32)
		var group sync.WaitGroup
		for n := range 32 {
			group.Go(func() {
				form := cloneForm(form)
				form.Set("client_name", strings.Repeat("x", n+1))
				if r := b.post("/account/applications/edit", form); r.StatusCode == http.StatusSeeOther {
					saved <- form.Get("client_name")
				} else if r.StatusCode != http.StatusConflict {
					t.Errorf("status %d: %s", r.StatusCode, r.body)
				}
			})
		}
		group.Wait()
		close(saved)
		if name := <-saved; name == "" || i.client(id).Name != name || len(saved) > 0 {
			t.Errorf("saved %q and %d more; the name is %q", name, len(saved), i.client(id).Name)
		}
	})
	t.Run("R159 delete and edit", func(t *testing.T) {
		bothWin(t, 20, func(round int) (edited bool) {
			id, _ := b.register(registrationForm())
			form := b.editForm(id, url.Values{"client_name": {"Back again"}})
			atOnce(2, func(k int) {
				if k == round%2 {
					edited = b.post("/account/applications/edit", form).StatusCode == http.StatusSeeOther
				} else {
					b.post("/account/applications/delete", url.Values{"id": {id}, "form_token": form["form_token"]})
				}
			})
			if i.client(id) != nil {
				t.Fatal("a deleted application is back")
			}
			return edited
		})
	})
	t.Run("R159 replaced by a public client meanwhile", func(t *testing.T) {
		i := start(t, inMemory(t))
		b := i.as("alice")
		form := b.editForm("web", url.Values{"client_name": {"Edited"}, "grant_types": {"authorization_code"}})
		leader, release := leadBlocked(i.server.store)
		replaced := updateQueued(i.server.store, func(t *tx) error {
			c, err := t.registered("web", i.client("web").ID)
			c.SecretHash = nil
			return errors.Join(err, t.putClient(c))
		})
		answer := make(chan *reply)
		go func() { answer <- b.post("/account/applications/edit", form) }()
		for waiting(i.server.store) < 2 {
			runtime.Gosched()
		}
		close(release)
		<-leader.done
		<-replaced.done
		if r, c := <-answer, i.client("web"); r.StatusCode != http.StatusSeeOther || c.Name != "Edited" || !c.public() {
			t.Errorf("status %d; the application is %+v: %s", r.StatusCode, c, r.body)
		}
	})
	t.Run("R159 one form many times", func(t *testing.T) {
		i := start(t)
		b := i.as("alice")
		form := registrationForm()
		form.Set("form_token", b.token())
		form.Set("form_id", regexp.MustCompile(`name="form_id" value="([^"]+)"`).FindStringSubmatch(b.get("/account/applications/new").body)[1])
		replies := make([]*reply, 8)
		var group sync.WaitGroup
		for n := range replies {
			group.Go(func() { replies[n] = b.post("/account/applications/new", form) })
		}
		group.Wait()
		shown := ""
		for _, r := range replies {
			if r.StatusCode == http.StatusOK {
				if shown != "" {
					t.Error("two secrets are shown")
				}
				shown = shownID.FindStringSubmatch(r.body)[1]
			}
		}
		for _, r := range replies {
			if r.StatusCode == http.StatusOK {
				continue
			}
			if r.StatusCode != http.StatusSeeOther || r.location().Query().Get("id") != shown {
				t.Fatalf("status %d, Location %s", r.StatusCode, r.Header.Get("Location"))
			}
			b.get(r.location().String()).contains("already registered", "create a new one below", shown)
		}
		if owned, _ := i.server.store.clientsOf("alice", noLimit); len(owned) != 2 { // web, and this one
			t.Errorf("alice owns %d applications", len(owned))
		}
		// The same words in a form that was loaded anew are another application,
		// and so are other words in this one.
		b.register(form)
		form.Set("client_name", "Lab notes")
		if r := b.post("/account/applications/new", form); r.StatusCode != http.StatusOK {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R177 the limit holds in parallel", func(t *testing.T) {
		token := b.token()
		var group sync.WaitGroup
		for n := range maxApplications + 10 {
			group.Go(func() {
				form := registrationForm()
				form.Set("form_token", token)
				form.Set("form_id", strconv.Itoa(n))
				if r := b.post("/account/applications/new", form); r.StatusCode != http.StatusOK && r.StatusCode != http.StatusUnprocessableEntity {
					t.Errorf("status %d: %s", r.StatusCode, r.body)
				}
			})
		}
		group.Wait()
		if owned, _ := i.server.store.clientsOf("alice", noLimit); len(owned) != maxApplications {
			t.Errorf("alice owns %d applications", len(owned))
		}
		list := b.get("/account/applications")
		if strings.Contains(list.body, `/account/applications/new"`) || len(list.body) > 15<<10 {
			t.Errorf("%d bytes: %s", len(list.body), list.body)
		}
	})
}

// TestAccountPages is R66, R67 and R68 on the account pages, and that every
// answer is small.
func TestAccountPages(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	id, _ := b.register(registrationForm())
	b.approve(authorization("web"))
	invalid := registrationForm()
	invalid.Set("client_name", "")
	foreign := regexp.MustCompile(`(?:src|href|action)="((?:[a-z]+:)?//[^"]*)"`)
	script := regexp.MustCompile(`<script[^>]*>`)
	for name, r := range map[string]*reply{
		"start":           b.get("/"),
		"start anonymous": i.get("/"),
		"sign-in":         i.get("/account/applications"),
		"applications":    b.get("/account/applications"),
		"new":             b.get("/account/applications/new"),
		"new with errors": b.fill("/account/applications/new", invalid),
		"registered":      b.fill("/account/applications/new", registrationForm()),
		"regenerated":     b.fill("/account/applications/regenerate", url.Values{"id": {id}}),
		"edit":            b.get("/account/applications/edit?id=" + id),
		"not there":       b.get("/account/applications/edit?id=none"),
		"refused":         b.post("/account/applications/new", registrationForm()),
		"authorized":      b.get("/account/authorized"),
	} {
		t.Run("R66 R67 R68 "+name, func(t *testing.T) {
			policy := r.Header.Get("Content-Security-Policy")
			for header, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
				"Referrer-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8"} {
				if got := r.Header.Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "form-action") {
				t.Errorf("Content-Security-Policy: %s", policy)
			}
			for _, tag := range script.FindAllString(r.body, -1) {
				if !strings.HasPrefix(tag, `<script src="/script.js?`) {
					t.Errorf("a script in the page: %s", tag)
				}
			}
			for _, match := range foreign.FindAllStringSubmatch(r.body, -1) {
				t.Errorf("the page refers to %s", match[1])
			}
			if len(r.body) > 15<<10 {
				t.Errorf("%d bytes", len(r.body))
			}
			section := map[string]string{"applications": "page", "new": "true", "registered": "true", "edit": "true", "authorized": "page"}[name]
			if current := regexp.MustCompile(`<a href="[^"]*" aria-current="(\w+)">`).FindStringSubmatch(r.body); section != "" && (current == nil || current[1] != section) {
				t.Errorf("aria-current: %q, want %q", current, section)
			}
			sheets := 1
			if strings.HasPrefix(name, "start") {
				sheets = 2 // that of the pages it leads to
			}
			if n := strings.Count(r.body, `rel="stylesheet"`); n != sheets {
				t.Errorf("%d stylesheets", n)
			}
		})
	}
}

// TestSecondPress: every page with a form has the script that ignores a second
// press while the first is under way; what it does is for a browser to tell.
func TestSecondPress(t *testing.T) {
	t.Parallel()
	i := start(t)
	b := i.as("alice")
	for name, page := range map[string]*reply{"sign in": i.get("/login"), "allow, deny": b.authorize(authorization("web")), "register": b.get("/account/applications/new")} {
		t.Run("R189 "+name, func(t *testing.T) {
			src := regexp.MustCompile(`<script src="([^"]*)" defer>`).FindStringSubmatch(page.body)
			if src == nil {
				t.Fatalf("no script: %s", page.body)
			}
			page.i = i.in(t)
			b.get(src[1]).contains(`addEventListener("submit"`, `addEventListener("pageshow"`)
		})
	}
}

// TestAssets: what pages refer to is there, and browsers keep it.
func TestAssets(t *testing.T) {
	t.Parallel()
	i := start(t)
	urls := regexp.MustCompile(`(?:src|href)="(/[a-z]+\.[a-z]+\?[^"]*)"`).FindAllStringSubmatch(i.get("/").body, -1)
	if len(urls) < 3 {
		t.Fatalf("the start page refers to %q", urls)
	}
	for _, match := range urls {
		r := i.get(match[1])
		if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Cache-Control"), "immutable") || len(r.body) == 0 {
			t.Errorf("%s: status %d, %v", match[1], r.StatusCode, r.Header)
		}
	}
}

// TestStartExamples: what the start page offers to try works as it stands.
func TestStartExamples(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.furnish(`{"clients": [{"client_id": "demo", "token_endpoint_auth_method": "none", "client_name": "Demo", "redirect_uris": ["` + outOfBand + `", "http://127.0.0.1/cb"]}]}`)
	b := i.as("alice")
	page := b.get("/")
	link := regexp.MustCompile(`href="(/oauth/authorize\?response_type=code[^"]*)"`).FindStringSubmatch(page.body)
	if link == nil {
		t.Fatalf("no link in %s", page.body)
	}
	consent := b.get(html.UnescapeString(link[1]))
	shown := b.get(b.decide(consent, "approve").location().String())
	code := regexp.MustCompile(`id="code">([^<]*)<`).FindStringSubmatch(shown.body)[1]
	// The page may be reloaded before the command is copied.
	command := regexp.MustCompile(`curl \S+ -d grant_type=authorization_code[^<]*`).FindString(html.UnescapeString(b.get("/").body))
	form := url.Values{}
	for _, argument := range regexp.MustCompile(`-d (\S+)`).FindAllStringSubmatch(command, -1) {
		name, value, _ := strings.Cut(argument[1], "=")
		value, _ = url.QueryUnescape(value)
		form.Set(name, strings.Replace(value, "CODE", code, 1))
	}
	i.post(i.endpoint("token"), form).wantToken()

	for _, want := range []string{"-u legacy:CLIENT_SECRET -d grant_type=password -d username=alice", "grant_type=client_credentials", "grant_type=refresh_token", "response_type=token&amp;client_id=legacy"} {
		page.contains(want)
	}
	page.contains("<code>demo</code> is also registered for <code>http://127.0.0.1/cb</code>, at any port")
	if strings.Contains(i.get("/").body, "client_id=web") {
		t.Error("an anonymous visitor is told of alice's client")
	}
	// An access token cannot be shown out of band.
	i.furnish(`{"clients": [{"client_id": "legacy", "client_secret": "legacy-secret", "grant_types": ["implicit"], "redirect_uris": ["` + outOfBand + `", "https://legacy.example/cb"]}]}`)
	i.get("/").contains("response_type=token&amp;client_id=legacy&amp;redirect_uri=https%3A%2F%2Flegacy.example%2Fcb")
	i.furnish(`{"clients": [{"client_id": "legacy", "client_secret": "legacy-secret", "grant_types": ["implicit"], "redirect_uris": ["` + outOfBand + `"]}]}`)
	if page := i.get("/"); strings.Contains(page.body, "response_type=token") {
		t.Errorf("an example that is refused: %s", page.body)
	}
	i.furnish(instanceFixtures)
	i.server.profile.Bodies = []string{"json"}
	i.furnish(`{"users": [{"username": "o'hara", "password": "tomorrow"}]}`)
	b = i.browser()
	b.signIn("o'hara", "tomorrow")
	b.get("/").contains(html.EscapeString(`-u legacy:CLIENT_SECRET -H 'Content-Type: application/json' -d '{"grant_type":"password","username":"o'\''hara","scope":"read write","password":"PASSWORD"}'`))
	i.must(i.server.store.deleteClient("legacy"))
	i.furnish(`{"clients": [{"client_id": "nowhere", "client_secret": "x", "redirect_uris": [], "grant_types": ["implicit"]}]}`)
	page = b.get("/")
	page.contains(`No application you can see may use this grant. <a href="/account/applications/new">Register one</a>.`)
	if strings.Contains(page.body, "CLIENT_ID") || strings.Contains(page.body, "response_type=token") {
		t.Errorf("an example without a client: %s", page.body)
	}
}

// A profile may lack endpoints: pages do without them.
func TestPagesWithoutEndpoints(t *testing.T) {
	t.Parallel()
	i := start(t, func(s *server) {
		endpoints := make(map[string][]string)
		for _, name := range []string{"authorize", "token", "oob"} {
			endpoints[name] = s.profile.Endpoints[name]
		}
		s.profile.Endpoints, s.profile.Resources = endpoints, nil
		s.routes = s.newRoutes()
	})
	b := i.as("alice")
	for _, path := range []string{"/", "/account/applications/new", "/account/applications/edit?id=web"} {
		if r := b.get(path); r.StatusCode != http.StatusOK || strings.Contains(r.body, "Bearer") {
			t.Errorf("%s: status %d: %s", path, r.StatusCode, r.body)
		}
	}
	delete(i.server.profile.Endpoints, "token")
	if r := b.get("/"); r.StatusCode != http.StatusOK {
		t.Errorf("status %d", r.StatusCode)
	}
}
