package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// registering returns an instance with more clients: client_id, redirect URI,
// client_id, redirect URI. All are public.
func registering(t *testing.T, client ...string) *instance {
	t.Helper()
	i := start(t)
	for n := 0; n < len(client); n += 2 {
		fixture, err := json.Marshal(map[string]any{"clients": []any{map[string]any{
			"client_id": client[n], "redirect_uris": []string{client[n+1]}, "token_endpoint_auth_method": "none"}}})
		if err != nil {
			t.Fatal(err)
		}
		i.furnish(string(fixture))
	}
	return i
}

// TestRedirectHost: http redirect URIs may name the hosts of -redirect-host,
// wherever a client is registered.
func TestRedirectHost(t *testing.T) {
	t.Parallel()
	const refused = "is http on a host other than 127.0.0.1, [::1] and localhost: use https (RFC 9700 §2.6), or allow the host with -redirect-host"
	allow := func(names ...string) func(*server) {
		return func(s *server) { s.profile.redirectHosts = names }
	}
	// Each registers a client with one redirect URI and returns what is wrong, or "".
	ways := map[string]func(i *instance, uri string) string{
		"fixtures": func(i *instance, uri string) string {
			_, err := i.load(`{"clients": [{"client_id": "new", "redirect_uris": ["` + uri + `"]}]}`)
			if err == nil {
				return ""
			}
			_, problem, _ := strings.Cut(err.Error(), "fixtures.json:1: clients[0].redirect_uris[0]: ")
			return problem
		},
		"control": func(i *instance, uri string) string {
			problem, _ := i.control("POST", "clients", `{"client_id": "new", "redirect_uris": ["`+uri+`"]}`).json["error"].(string)
			return strings.TrimPrefix(problem, "redirect_uris[0]: ")
		},
		"application": func(i *instance, uri string) string {
			form := registrationForm()
			form.Set("redirect_uris", uri)
			page := i.as("alice").fill("/account/applications/new", form)
			if strings.Contains(page.body, "Redirect URI 1 "+refused+".") {
				return refused
			}
			page.contains("Field notes")
			return ""
		},
		"registration": func(i *instance, uri string) string {
			problem, _ := i.post("/api/v1/apps", url.Values{"client_name": {"New"}, "redirect_uris": {uri}}).json["error"].(string)
			if problem == "Validation failed: Redirect URI must be an HTTPS/SSL URI." {
				return refused
			}
			return problem
		},
	}
	for way, register := range ways {
		begin := func(t *testing.T, names ...string) *instance {
			profile := "rfc6749"
			if way == "registration" {
				profile = "mastodon"
			}
			i := startProfile(t, profile, allow(names...))
			i.must(i.server.openControl())
			return i
		}
		t.Run("R194 without the flag, "+way, func(t *testing.T) {
			t.Parallel()
			if problem := register(begin(t), "http://web:3000/cb"); problem != refused {
				t.Errorf("got %q, want %q", problem, refused)
			}
		})
		t.Run("R194 with the flag, "+way, func(t *testing.T) {
			t.Parallel()
			i := begin(t, "web", "*.localhost")
			for _, uri := range []string{"http://web:3000/cb", "http://web/cb", "http://WEB/cb", "http://app.localhost:8080/cb", "http://a.b.localhost/cb", "http://localhost/cb"} {
				if problem := register(i, uri); problem != "" {
					t.Errorf("%s: %s", uri, problem)
				}
			}
			for _, uri := range []string{"http://web.example/cb", "http://a.web/cb", "http://web2/cb", "http://localhost.example/cb", "http://notlocalhost/cb", "http://.localhost/cb"} {
				if problem := register(i, uri); problem != refused {
					t.Errorf("%s: got %q, want %q", uri, problem, refused)
				}
			}
		})
	}
	t.Run("R194 the port is not free, and the log warns", func(t *testing.T) {
		t.Parallel()
		i := start(t, allow("web", "localhosts"))
		i.must(i.server.openControl())
		for clientID, uri := range map[string]string{"one": "http://web:3000/cb", "two": "http://localhosts/cb"} {
			i.mustControl("POST", "clients", `{"client_id": "`+clientID+`", "redirect_uris": ["`+uri+`"]}`)
		}
		other := authorization("one")
		other.Set("redirect_uri", "http://web:3001/cb")
		i.as("alice").authorize(other).wantPage(http.StatusBadRequest)
		for _, request := range []url.Values{authorization("one"), authorization("two")} {
			request.Del("redirect_uri")
			request.Set("state", request.Get("client_id"))
			i.decideURL(request, "alice", "approve").redirectTo()
			records := i.records("")
			if got := fmt.Sprint(records[len(records)-1].Warnings); got != "[redirect_uri is http on a host that is not loopback]" {
				t.Errorf("warnings %s", got)
			}
		}
	})
}

// TestRedirectURI sends redirect URIs that resemble the registered one.
func TestRedirectURI(t *testing.T) {
	t.Parallel()
	i := registering(t,
		"query", "https://cb.example/cb?foo=bar&b=1",
		"slash", "https://cb.example/",
		"host", "https://cb.example",
		"portless", "http://127.0.0.1/cb",
		"port", "http://127.0.0.1:8443/cb",
		"six", "http://[::1]/cb",
		"sixport", "http://[::1]:8443/cb",
		"localhost", "http://localhost/cb",
		"loopquery", "http://127.0.0.1?x=1",
		"bare", "http://127.0.0.1",
		"tls", "https://127.0.0.1/cb",
		"app", "com.example.app:/cb",
	)
	alice := i.as("alice")

	for _, refused := range []struct {
		name     string
		clientID string
		uris     []string
	}{
		{"3.1.2.3 R17 simple string comparison", "web", []string{
			"https://cb.example/cb/", "https://cb.example/cb1", "https://cb.example/c", "https://cb.example/CB", "https://cb.example/Cb",
			"https://cb.example/c%62", "https://cb.example/%63b", "https://cb.example//cb", "https://cb.example/cb;x", "https://cb.example/cb;",
			"https://cb.example/cb ", " https://cb.example/cb", "https://cb.example/cb\u00a0", "https://cb.example/./cb", "https://cb.example/cb/.",
			"https://cb.example/", "https://cb.example", "https://cb.example/other/cb", "https://cb.example/cb.html", "https://cb.example/cb,https://evil.example/",
			"https://cb.example/cb https://evil.example/",
		}},
		{"3.1.2.3 R17 of a URI that ends with a slash", "slash", []string{"https://cb.example", "https://cb.example//", "https://cb.example/x", "https://cb.example/?"}},
		{"3.1.2.3 R17 of a URI without a path", "host", []string{"https://cb.example/", "https://cb.example.evil.example", "https://cb.example:443", "https://cb.example@evil.example"}},
		{"3.1.2.3 R17 of a private-use scheme", "app", []string{"com.example.app:/", "com.example.app:/cb/", "com.example.app://cb", "com.example.app:cb", "com.example.App:/cb", "com.example.app2:/cb"}},

		{"3.1.2.3 R18 query added", "web", []string{"https://cb.example/cb?", "https://cb.example/cb?x=1", "https://cb.example/cb&x=1", "https://cb.example/cb%3fx=1"}},
		{"3.1.2.3 R18 query changed", "query", []string{
			"https://cb.example/cb", "https://cb.example/cb?", "https://cb.example/cb?b=1&foo=bar", "https://cb.example/cb?foo=bar", "https://cb.example/cb?foo=bar&b=1&x=1",
			"https://cb.example/cb?foo=bar&b=1&", "https://cb.example/cb?foo=bar&b=2", "https://cb.example/cb?foo=bar&B=1", "https://cb.example/cb?foo=b%61r&b=1",
			"https://cb.example/cb?x=1&foo=bar&b=1", "https://cb.example/cb?foo=bar&amp;b=1", "https://cb.example/cb??foo=bar&b=1",
		}},

		{"3.1.2 R19 fragment", "web", []string{"https://cb.example/cb#x", "https://cb.example/cb#", "https://cb.example/#/cb", "https://cb.example/cb%23x"}},
		{"3.1.2 R19 fragment, loopback", "native", []string{"http://127.0.0.1/cb#", "http://127.0.0.1/cb#x", "http://127.0.0.1:80#/cb", "http://127.0.0.1#/cb", "http://127.0.0.1#@evil.example/cb"}},

		{"9700 2.1 R20 other hosts", "web", []string{
			"https://evilcb.example/cb", "https://x.cb.example/cb", "https://cb.example.evil.example/cb", "https://cb.example:443/cb", "https://cb.example:/cb",
			"https://CB.EXAMPLE/cb", "https://Cb.example/cb", "HTTPS://cb.example/cb", "https://cb.example./cb", "http://cb.example/cb", "https://cb.exampl\u0435/cb",
			"https://cb\u3002example/cb", "https://cb.example\u200b/cb", "https://xn--cb-.example/cb", "https://cb-example/cb", "https://cbxexample/cb", "https://example/cb", "https://cb%2eexample/cb",
		}},

		{"9700 4.1.3 R22 user names", "web", []string{
			"https://cb.example@evil.example/cb", "https://cb.example%40evil.example/cb", "https://cb.example:443@evil.example/cb", "https://u:p@cb.example/cb",
			"https://u@cb.example/cb", "https://@cb.example/cb", "https://:@cb.example/cb", "https://evil.example/@cb.example/cb", "https://evil.example#@cb.example/cb",
			"https://evil.example?@cb.example/cb", "https://evil.example/https://cb.example/cb",
		}},
		{"9700 4.1.3 R22 user names, loopback", "native", []string{
			"http://127.0.0.1:80@evil.example/cb", "http://127.0.0.1:80%40evil.example/cb", "http://127.0.0.1%25@evil.example/cb", "http://127.0.0.1%40evil.example/cb",
			"http://127.0.0.1@evil.example/cb", "http://127.0.0.1:@evil.example/cb", "http://127.0.0.1:80:80@evil.example/cb", "http://127.0.0.1.evil.example/cb",
			"http://127.0.0.1:80.evil.example/cb", "http://127.0.0.1:80\\@evil.example/cb", "http://127.0.0.1\\@evil.example/cb", "http://127.0.0.1;@evil.example/cb",
		}},

		{"3986 R23 backslashes, schemes and white space", "web", []string{
			`https:\\cb.example/cb`, `https://cb.example\@evil.example/cb`, `https://cb.example\cb`, `https:/\cb.example/cb`, "https:cb.example/cb", "https:/cb.example/cb",
			"https:///cb.example/cb", "https:evil.example", "//cb.example/cb", "/cb", "cb", "cb.example/cb", "\thttps://cb.example/cb", "https://cb.example/cb\t", "ht\ntps://cb.example/cb",
			"https://cb.example/\tcb", "https:// cb.example/cb", "javascript:alert(1)", "data:text/html,x", "*", ".", "?", "%",
		}},

		{"8252 7.3 R25 more than the port", "port", []string{
			"http://127.0.0.1/Cb", "http://127.0.0.1/cb?x=1", "http://127.0.0.1/cb?", "http://127.0.0.1/x/../cb", "http://127.0.0.1/cb/", "http://127.0.0.1//cb", "http://127.0.0.1/c%62",
			"http://127.0.0.1", "http://127.0.0.1:8443", "http://u@127.0.0.1/cb", "http://u:p@127.0.0.1:8443/cb", "http://127.1/cb", "http://127.0.1/cb", "http://0x7f.1/cb",
			"http://2130706433/cb", "http://0177.0.0.1/cb", "http://127.000.000.001/cb", "http://127.0.0.2/cb", "http://127.0.0.11/cb", "http://127.0.0.1./cb", "http://0.0.0.0/cb",
			"http://[::ffff:127.0.0.1]/cb", "http://[::1]/cb", "http://localhost/cb", "HTTP://127.0.0.1/cb", "Http://127.0.0.1:8443/cb",
			"http://127.0.0.1:99999/cb", "http://127.0.0.1:65536/cb", "http://127.0.0.1:000080/cb", "http://127.0.0.1:" + strings.Repeat("0", 3000) + "80/cb", "http://127.0.0.1:a/cb", "http://127.0.0.1:80a/cb", "http://127.0.0.1:-1/cb", "http://127.0.0.1:+80/cb",
			"http://127.0.0.1:0x50/cb", "http://127.0.0.1: 80/cb", "http://127.0.0.1:80:80/cb", "http://127.0.0.1:\u0661/cb", "http://127.0.0.1:99999999999999999999/cb",
			"http:127.0.0.1/cb", "http:/127.0.0.1/cb", "http:///127.0.0.1/cb", "ws://127.0.0.1/cb",
		}},
		{"8252 7.3 R25 more than the port, IPv6", "six", []string{
			"http://[0:0:0:0:0:0:0:1]/cb", "http://[::01]/cb", "http://[::1%25lo]/cb", "http://[::1]evil.example/cb", "http://::1/cb", "http://[::2]/cb",
			"http://127.0.0.1/cb", "http://localhost/cb", "http://[::1]/Cb", "http://[::1]:99999/cb", "http://[::1]:a/cb", "http://[::1]:80@evil.example/cb",
		}},
		{"8252 7.3 R25 more than the port, localhost", "localhost", []string{
			"http://LOCALHOST/cb", "http://localhost./cb", "http://localhost.evil.example/cb", "http://localhost:80@evil.example/cb", "http://127.0.0.1/cb", "http://[::1]/cb", "https://localhost/cb", "http://localhost/",
		}},
		{"8252 7.3 R25 more than the port, query", "loopquery", []string{"http://127.0.0.1", "http://127.0.0.1:80", "http://127.0.0.1:80?x=2", "http://127.0.0.1:80/?x=1", "http://127.0.0.1?x=1&y=1"}},
		{"8252 7.3 R25 more than the port, no path", "bare", []string{"http://127.0.0.1/", "http://127.0.0.1:80/", "http://127.0.0.1?", "http://127.0.0.1.evil.example", "http://127.0.0.11"}},

		{"8252 7.3 R26 a port, but not http on loopback", "web", []string{"https://cb.example:9/cb", "https://cb.example:8443/cb", "http://127.0.0.1/cb", "http://localhost/cb", "http://127.0.0.1:9/cb"}},
		{"8252 7.3 R26 a port, https on loopback", "tls", []string{"https://127.0.0.1:9/cb", "https://127.0.0.1:443/cb", "http://127.0.0.1/cb", "http://127.0.0.1:9/cb"}},
	} {
		t.Run(refused.name, func(t *testing.T) {
			t.Parallel()
			for _, uri := range refused.uris {
				b := alice.in(t)
				r := b.authorize(authorization(refused.clientID, "redirect_uri", uri))
				if r.StatusCode != http.StatusBadRequest {
					t.Errorf("%q is accepted", uri)
				}
				r.wantNowhere(http.StatusBadRequest, "evil.example")
			}
		})
	}

	// R21: sent as they are, and encoded once more.
	for _, path := range []string{
		"/cb/../x", "/cb%2F..%2Fx", "/cb/%2e%2e%2Fx", "/cb/%2E%2E/x", "/cb/%2e%2e/x", "/cb/.%2e/x", "/cb/..%2Fx", "/cb/..%252Fx", "/cb/%252e%252e/x", "/cb/%252e%252e%252fx",
		"/cb/;/../../x", "/cb/;/../x", "/cb/..;/x", "/cb;/../x", "/cb%3B/../x", "/cb/..%5Cx", "/cb%5C..%5Cx", "/cb/..%255Cx", "/cb%0A%0D/../x", "/cb%00/../x", "/cb%20/../x",
		"/cb%09/../x", "/cb/.././x", "/cb//../x", "/cb/x/../../x", "/cb/..%c0%afx", "/cb/%c0%ae%c0%ae/x", "/cb/%u002e%u002e/x", "/cb/..//x", "/cb/../cb", "/x/../cb", "/cb/.", "/cb/x",
		"/cb%3F/../x", "/cb%23/../x", "/cb%26/../x", "/%2e%2e/cb", "/.%2e/cb", "/../cb",
	} {
		t.Run("9700 4.1.3 R21 "+path, func(t *testing.T) {
			t.Parallel()
			query := authorization("web", "redirect_uri", absent).Encode() + "&redirect_uri="
			alice.in(t).authorizeRaw(query+"https://cb.example"+path).wantNowhere(http.StatusBadRequest, "evil.example")
			alice.in(t).authorizeRaw(query+url.QueryEscape("https://cb.example"+path)).wantNowhere(http.StatusBadRequest, "evil.example")
		})
	}

	for _, accepted := range []struct {
		name     string
		clientID string
		uris     []string
	}{
		{"3.1.2.3 R17 the registered one", "web", []string{"https://cb.example/cb"}},
		{"3.1.2.3 R18 the registered query", "query", []string{"https://cb.example/cb?foo=bar&b=1"}},
		{"8252 7.3 R24 any port", "portless", []string{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb"}},
		{"8252 7.3 R24 any other port", "port", []string{"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:8443/cb"}},
		{"8252 7.3 R24 any port, IPv6", "six", []string{"http://[::1]/cb", "http://[::1]:51004/cb", "http://[::1]:1/cb"}},
		{"8252 7.3 R24 any other port, IPv6", "sixport", []string{"http://[::1]/cb", "http://[::1]:51004/cb", "http://[::1]:1/cb"}},
		{"8252 7.3 R24 any port, localhost", "localhost", []string{"http://localhost/cb", "http://localhost:51004/cb"}},
		{"8252 7.3 R24 any port, query without a path", "loopquery", []string{"http://127.0.0.1?x=1", "http://127.0.0.1:51004?x=1"}},
		{"8252 7.3 R24 any port, no path", "bare", []string{"http://127.0.0.1", "http://127.0.0.1:51004"}},
		{"8252 7.1 R29 private-use scheme", "app", []string{"com.example.app:/cb"}},
	} {
		t.Run(accepted.name, func(t *testing.T) {
			t.Parallel()
			for _, uri := range accepted.uris {
				b := alice.in(t)
				r := b.approve(authorization(accepted.clientID, "redirect_uri", uri))
				separator := "?"
				if strings.Contains(uri, "?") {
					separator = "&"
				}
				if location := r.Header.Get("Location"); !strings.HasPrefix(location, uri+separator+"code=") {
					t.Errorf("%s: status %d, Location %s", uri, r.StatusCode, location)
					continue
				}
				form := exchangeOf(accepted.clientID, r.param("code"))
				if accepted.clientID != "web" {
					form.Del("client_secret")
				}
				form.Set("redirect_uri", uri)
				b.post(b.endpoint("token"), form).wantToken()
			}
		})
	}
	t.Run("8252 7.3 R25 no port behind the colon, and port 0", func(t *testing.T) {
		t.Parallel()
		for _, uri := range []string{"http://127.0.0.1:/cb", "http://127.0.0.1:0/cb"} {
			r := alice.in(t).authorize(authorization("port", "redirect_uri", uri))
			if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: status %d", uri, r.StatusCode)
			}
		}
	})
}

// R27: what is registered stands in the Location byte by byte.
func TestRedirectURIBytesAreKept(t *testing.T) {
	t.Parallel()
	for name, uri := range map[string]string{
		"3.1.2 R27 encoded path and query": "https://cb.example/a%2Fb?foo=bar%20baz+q",
		"3.1.2 R27 odd but valid":          "https://cb.example:443/A/../%7eb;x=1/?a=%e9&&b=",
		"3.1.2 R27 bare question mark":     "https://cb.example/cb?",
		"3.1.2 R27 no value":               "https://cb.example/cb?x",
		"3.1.2 R27 capitals":               "https://CB.Example/",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := registering(t, "app", uri)
			b := i.as("alice")
			prefix := uri + "&"
			if !strings.Contains(uri, "?") {
				prefix = uri + "?"
			}
			for _, request := range []url.Values{authorization("app", "redirect_uri", uri), authorization("app", "redirect_uri", absent)} {
				for _, r := range []*reply{b.approve(request), b.decide(b.authorize(request), "deny")} {
					location := r.Header.Get("Location")
					rest, found := strings.CutPrefix(location, prefix)
					answer, err := url.ParseQuery(rest)
					if !found || err != nil || answer.Get("state") != "xyz" || answer.Get("iss") != i.URL || answer.Has("code") == answer.Has("error") {
						t.Errorf("Location %s", location)
					}
				}
			}
		})
	}
	t.Run("4.2.2 R27 implicit", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		const uri = "https://cb.example/a%2Fb?foo=bar%20baz+q"
		i.furnish(`{"clients": [{"client_id": "spa", "token_endpoint_auth_method": "none", "grant_types": ["implicit"], "redirect_uris": ["` + uri + `"]}]}`)
		r := i.as("alice").approve(authorization("spa", "redirect_uri", uri, "response_type", "token"))
		if location := r.Header.Get("Location"); !strings.HasPrefix(location, uri+"#access_token=") {
			t.Errorf("Location %s", location)
		}
	})
}

// R19, R28, R29: redirect URIs that cannot be registered.
func TestRedirectURIRegistration(t *testing.T) {
	t.Parallel()
	p, err := loadProfile("rfc6749")
	if err != nil {
		t.Fatal(err)
	}
	register := func(t *testing.T, uri string) error {
		t.Helper()
		data, err := json.MarshalIndent(map[string]any{"clients": []any{map[string]any{
			"client_id": "app", "redirect_uris": []string{"https://cb.example/cb", uri}}}}, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "fixtures.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = loadFixtures(file, p)
		return err
	}
	for _, refused := range []struct {
		name string
		why  string
		uris []string
	}{
		{"3.1.2 R19 fragment", "has a fragment", []string{"https://cb.example/cb#x", "https://cb.example/cb#", "http://127.0.0.1/cb#", "com.example.app:/cb#"}},
		{"3.1.2 R28 parameters that are the server's", "which the server adds itself", []string{
			"https://cb.example/cb?code=attacker&state=x", "https://cb.example/cb?code", "https://cb.example/cb?state=x", "https://cb.example/cb?x=1&iss=https://evil.example",
			"https://cb.example/cb?error=x", "https://cb.example/cb?error_description=x", "https://cb.example/cb?%63ode=x", "http://127.0.0.1/cb?access_token=x", "com.example.app:/cb?code=x",
		}},
		{"3.1.2 R29 relative", "", []string{"/cb", "cb", "//x", "//cb.example/cb", "localhost:80/cb", "127.0.0.1:80/cb", "localhost/cb", "?x", ".", ""}},
		{"3.1.2 R29 no host", "", []string{"https:", "https:cb.example/cb", "https:/cb", "https://", "https:///cb", "https://:443/cb", "http:127.0.0.1/cb"}},
		{"9700 4.1.3 R29 user name", "user name", []string{"https://u@cb.example/cb", "https://u:p@cb.example/cb", "https://@cb.example/cb"}},
		{"8252 8.4 R29 dangerous schemes", "scheme", []string{
			"javascript:alert(1)", "JavaScript:alert(1)", "javascript://cb.example/%0aalert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:https://cb.example/x",
			"about:blank", "ftp://cb.example/", "ws://127.0.0.1/", "view-source:https://cb.example/", "mailto:a@cb.example",
		}},
		{"8252 7.1 R29 scheme without a dot", "scheme", []string{"myapp:/cb", "myapp://cb", "urn:ietf:wg:oauth:2.0:oob:auto"}},
		{"9700 2.6 R29 http", "is http", []string{
			"http://cb.example/cb", "HTTP://cb.example/cb", "http://127.0.0.2/cb", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/", "http://0.0.0.0/cb", "http://127.1/", "http://LOCALHOST/cb",
			"http://127.0.0.1:65536/cb", "http://127.0.0.1:008080/cb", "http://[::2]/cb", "http://2130706433/",
		}},
		{"5890 2.3.2.1 R65 host that hides itself", "is not ASCII", []string{"https://good.example%E2%80%AE.evil.example/", "https://%C3%A9.example/", "com.example.app://%E2%80%AEmoc/"}},
		{"9700 2.1 R29 wildcard", "wildcard", []string{"https://*.x/", "https://*/", "https://cb.*/cb"}},
		{"A.6 R29 no URI characters", "", []string{
			"https://cb.example/\x00", "https://cb.example/\r\n", "https://cb.example/\t", "https://cb.example/ x", " https://cb.example/", "https://cb.example/\x7f", "https://cb.example/é",
			"https://cb.example\\@evil.example/", `https:\\cb.example`, `https://cb.example/"`, "https://cb.example/<x>", "https://cb.example/%zz", "https://cb.example/cb?x=%zz", "https://cb.example/cb?a;b",
			"https://cb.example/{x}", "https://cb.example:a/",
		}},
		{"3.1.2 R29 longer than 2 KB", "longer", []string{"https://cb.example/" + strings.Repeat("x", 2048)}},
	} {
		t.Run(refused.name, func(t *testing.T) {
			t.Parallel()
			for _, uri := range refused.uris {
				err := register(t, uri)
				if err == nil {
					t.Errorf("%q can be registered", uri)
				} else if !strings.Contains(err.Error(), "fixtures.json:7: clients[0].redirect_uris[1]: ") || !strings.Contains(err.Error(), refused.why) {
					t.Errorf("%q: %v", uri, err)
				}
			}
		})
	}
	for _, uri := range []string{
		"https://cb.example", "https://cb.example/cb", "https://cb.example:8443/cb?foo=bar&b=1", "https://cb.example/cb?", "http://127.0.0.1/cb", "http://127.0.0.1:8443/cb", "http://[::1]/cb", "http://localhost:3000/cb",
		"com.example.app:/cb", "com.example.app://cb", outOfBand, "https://cb.example/" + strings.Repeat("x", 2048-len("https://cb.example/")),
	} {
		t.Run("3.1.2 R29 accepted", func(t *testing.T) {
			t.Parallel()
			if err := register(t, uri); err != nil {
				t.Errorf("%s: %v", uri, err)
			}
		})
	}
}
