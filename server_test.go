package main

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestLoopbackHost is R182: a page on the web that has its own name resolved to
// this machine (DNS rebinding) is not answered.
func TestLoopbackHost(t *testing.T) {
	t.Parallel()
	i := startControlled(t, func(s *server) { s.loopback, s.autoApprove = true, "alice"; s.setIssuer("http://Login.example:9096/") })
	i.server.hosts = []string{"grantling", ""}
	for host, served := range map[string]bool{
		"localhost": true, "localhost:1": true, "LOCALHOST": true, "localhost.": true, "localhost.:9096": true,
		"127.0.0.1": true, "127.0.0.1:80": true, "127.0.0.1.": true, "127.0.0.1.:80": true, "127.9.8.7:80": true, "[::1]": true, "[::1]:80": true,
		"login.example": true, "login.example:80": true, "login.example.:80": true, "grantling": true, "grantling:80": true, "GRANTLING.": true,
		"evil.example": false, "evil.example:9096": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "x.localhost": false,
		"evil-login.example": false, "192.0.2.1": false, "0.0.0.0:80": false, "[::]:80": false, "[2001:db8::1]": false, ".": false, ":80": false,
	} {
		for _, path := range []string{"/oauth/authorize?" + authorization("web").Encode(), "/", "/healthz", "/.well-known/oauth-authorization-server", "/nowhere", "/_control/clock"} {
			t.Run("R182 "+host+" "+path[:min(len(path), 20)], func(t *testing.T) {
				r := i.in(t).get(path, "Host", host)
				isIssuers := strings.HasPrefix(host, "login.example") && strings.HasPrefix(path, "/_control/") // answers under -control-host alone
				if got := r.StatusCode != http.StatusMisdirectedRequest; got != served || isIssuers && r.StatusCode != http.StatusForbidden {
					t.Errorf("status %d: %s", r.StatusCode, r.body)
				}
				if !served && (r.Header.Get("Location") != "" || r.Header.Get("Set-Cookie") != "" || r.Header.Get("Access-Control-Allow-Origin") != "") {
					t.Errorf("%v", r.Header)
				}
			})
		}
	}
	t.Run("R182 nothing is done", func(t *testing.T) {
		i := i.in(t)
		grant := withClient("web", map[string][]string{"grant_type": {"client_credentials"}})
		for _, method := range []string{"POST", "OPTIONS", "DELETE"} {
			for path, body := range map[string]string{"/oauth/token": grant.Encode(), "/_control/reset": "{}", "/login": "username=alice"} {
				if r := i.browser().do(method, path, body, "Host", "evil.example"); r.StatusCode != 421 || r.json["access_token"] != nil {
					t.Errorf("%s %s: status %d: %s", method, path, r.StatusCode, r.body)
				}
			}
		}
		if kept := i.mustControl("GET", "requests", "").body; strings.Contains(kept, `"status":421`) {
			t.Errorf("%s", kept)
		}
	})
	t.Run("R182 says what would be right", func(t *testing.T) {
		r := i.in(t).get("/", "Host", "evil.example")
		if want := `{"error":"misdirected_request","error_description":"Host must be localhost, a loopback address, the host of the issuer http://Login.example:9096/ or one of -control-host","error_uri":"http://Login.example:9096/explain/unknown-host"}` + "\n"; r.body != want {
			t.Errorf("%s", r.body)
		}
		page := i.in(t).get("/", "Host", "evil.example", "Accept", "text/html")
		if page.StatusCode != 421 || !strings.Contains(page.body, "<h1>This server does not use this name</h1>") || strings.Contains(page.body, "evil") {
			t.Errorf("status %d: %s", page.StatusCode, page.body)
		}
	})
	t.Run("R182 the command", func(t *testing.T) {
		for addr, want := range map[string]int{"127.0.0.1:0": 421, "localhost:0": 421, "0.0.0.0:0": 200, ":0": 200} {
			base := listening(t, noEnvironment, "-addr", addr, "-control-host", "grantling")
			for host, want := range map[string]int{"evil.example": want, "grantling:9096": 200, "localhost": 200} {
				req, _ := http.NewRequest("GET", base+"/healthz", nil)
				req.Host = host
				r, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				r.Body.Close()
				if r.StatusCode != want {
					t.Errorf("-addr %s: Host %s: status %d", addr, host, r.StatusCode)
				}
			}
		}
	})
}

// TestPreflight is R190.
func TestPreflight(t *testing.T) {
	t.Parallel()
	i := start(t)
	for asked, want := range map[string]string{
		"": "Authorization, Content-Type",
		"mcp-protocol-version, traceparent,x-requested-with": "Authorization, Content-Type, mcp-protocol-version, traceparent, x-requested-with",
		"x y, a:b, \"q\", , x-ok, ä":                         "Authorization, Content-Type, x-ok",
		strings.Repeat("x,", 100):                            "Authorization, Content-Type" + strings.Repeat(", x", 100),
	} {
		for _, endpoint := range []string{"metadata", "token", "revoke", "tokeninfo", "userinfo"} {
			t.Run("R190 "+endpoint+" "+asked[:min(len(asked), 20)], func(t *testing.T) {
				r := i.in(t).browser().do("OPTIONS", i.path(endpoint), "", "Origin", "https://cb.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", asked)
				if got := r.Header.Get("Access-Control-Allow-Headers"); r.StatusCode != 204 || got != want {
					t.Errorf("status %d, %q, want %q", r.StatusCode, got, want)
				}
				if r.Header["Access-Control-Allow-Credentials"] != nil {
					t.Error("with credentials")
				}
			})
		}
	}
}

// TestUnknownPaths is R191: a person gets a page, a program JSON.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"rfc6749", "figshare", "mastodon", "trackmania", "sharesight"} {
		i := startProfile(t, profile)
		inJSON := `{"error":"not_found","error_description":"there is no such page"}` + "\n"
		if profile == "rfc6749" {
			inJSON = `{"error":"not_found","error_description":"there is no such page","error_uri":"` + i.URL + `/explain/unknown-page"}` + "\n"
		}
		for _, accept := range []string{"", "*/*", "application/json", "text/html,application/xhtml+xml,*/*;q=0.8"} {
			t.Run("R191 "+profile+" Accept: "+accept, func(t *testing.T) {
				for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
					r := i.in(t).browser().do(method, "/api/v2/nowhere", "", "Accept", accept, "Origin", "https://cb.example")
					isPage := strings.Contains(r.body, "<h1>There is no such page</h1>")
					if r.StatusCode != 404 || isPage != strings.Contains(accept, "html") || !isPage && profile != "trackmania" && r.body != inJSON ||
						!isPage && r.json["error"] != "not_found" || r.Header.Get("Access-Control-Allow-Origin") != "*" {
						t.Errorf("%s: status %d, %v: %s", method, r.StatusCode, r.Header, r.body)
					}
				}
			})
		}
		t.Run("R191 "+profile+" preflight", func(t *testing.T) {
			r := i.in(t).browser().do("OPTIONS", "/api/v2/nowhere", "", "Origin", "https://cb.example", "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization")
			if r.StatusCode != 204 || !strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), "PATCH") || r.Header.Get("Access-Control-Allow-Headers") != "Authorization, Content-Type, authorization" {
				t.Errorf("status %d, %v", r.StatusCode, r.Header)
			}
		})
	}
	t.Run("R191 no OpenID Provider", func(t *testing.T) {
		t.Parallel()
		for issuer, metadata := range map[string]string{
			"https://as.example":         "https://as.example/.well-known/oauth-authorization-server",
			"https://as.example/tenant/": "https://as.example/.well-known/oauth-authorization-server/tenant",
		} {
			i := start(t).in(t).behind(issuer)
			for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/openid-configuration/tenant", "/tenant/.well-known/openid-configuration"} {
				r := i.get(path, "Accept", "text/html")
				if want := `{"error":"not_found","error_description":"this is an OAuth 2.0 server, not an OpenID Provider; its metadata is at ` + metadata + `","error_uri":"` + strings.TrimSuffix(issuer, "/") + `/explain/no-openid-provider"}` + "\n"; r.StatusCode != 404 || r.body != want {
					t.Errorf("%s: status %d: %s", path, r.StatusCode, r.body)
				}
			}
		}
		if r := startProfile(t, "figshare").get("/.well-known/openid-configuration"); r.json["error_description"] != "this is an OAuth 2.0 server, not an OpenID Provider" {
			t.Errorf("figshare: %s", r.body)
		}
	})
}

// TestIssuerAsGiven is R192.
func TestIssuerAsGiven(t *testing.T) {
	t.Parallel()
	t.Run("R192 a slash at the end", func(t *testing.T) {
		t.Parallel()
		for issuer, base := range map[string]string{"http://as.example/": "", "http://as.example/t/": "/t", "http://as.example": "", "http://as.example/t": "/t"} {
			i := start(t).behind(issuer)
			r := i.get("/.well-known/oauth-authorization-server" + base)
			if r.json["issuer"] != issuer || r.json["token_endpoint"] != "http://as.example"+base+"/oauth/token" {
				t.Errorf("%s: %s", issuer, r.body)
			}
			if body := strings.ReplaceAll(r.body+i.get(base+"/").body, "://", ":"); strings.Contains(body, "example//") || strings.Contains(body, "t//") {
				t.Errorf("%s: a double slash in %s", issuer, body)
			}
			i.server.autoApprove = "alice"
			back := i.get(base + "/oauth/authorize?" + authorization("web").Encode())
			if back.param("code") == "" || back.param("iss") != issuer {
				t.Errorf("%s: back to %s", issuer, back.location())
			}
			access, _ := i.post(base+"/oauth/token", exchangeOf("web", back.param("code"))).wantToken()
			if r := i.post(base+"/oauth/introspect", withClient("rs", map[string][]string{"token": {access}})); r.json["iss"] != issuer {
				t.Errorf("%s: introspection: %s", issuer, r.body)
			}
		}
	})
	t.Run("R192 answers of the services", func(t *testing.T) {
		t.Parallel()
		for _, profile := range []string{"mastodon", "sharesight"} {
			i := startProfile(t, profile).behind("http://as.example/")
			for _, resource := range i.server.profile.Resources {
				i.server.autoApprove = "alice"
				filled := string(resource.Answer.fill(serverFacts.of(i.server)))
				if strings.Contains(filled, "example//") {
					t.Errorf("%s: %s", profile, filled)
				}
			}
		}
	})
	t.Run("R192 the command", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if got := listening(t, noEnvironment, "-addr", l.Addr().String(), "-issuer", "http://"+l.Addr().String()+"/t/"); got != "http://"+l.Addr().String()+"/t" {
			t.Errorf("URL %s", got)
		}
		for issuer, want := range map[string]string{
			"http://h ":     `issuer "http://h ": has spaces or control characters`,
			" http://h":     `issuer " http://h": has spaces or control characters`,
			"http://h/a b":  `issuer "http://h/a b": has spaces or control characters`,
			"http://h/\x01": `issuer "http://h/\x01": has spaces or control characters`,
			"http://h/.well-known/oauth-authorization-server":   `issuer "http://h/.well-known/oauth-authorization-server": is the URL of a metadata document; the issuer has no /.well-known/ (RFC 8414 §3)`,
			"http://h/t/.well-known/oauth-authorization-server": `issuer "http://h/t/.well-known/oauth-authorization-server": is the URL of a metadata document; the issuer has no /.well-known/ (RFC 8414 §3)`,
			"http://h//":                `issuer "http://h//": has a path with //, dots or characters that must be encoded`,
			"http://h/a//b":             `issuer "http://h/a//b": has a path with //, dots or characters that must be encoded`,
			"http://h/a/..":             `issuer "http://h/a/..": has a path with //, dots or characters that must be encoded`,
			"http://h/%2F":              `issuer "http://h/%2F": has a path with //, dots or characters that must be encoded`,
			"http://h/t%20x":            `issuer "http://h/t%20x": has a path with //, dots or characters that must be encoded`,
			"http://h/{x}":              `issuer "http://h/{x}": has a path with //, dots or characters that must be encoded`,
			"http://é.example":          `issuer "http://é.example": has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)`,
			"http://[fe80::1%25eth0]:1": `issuer "http://[fe80::1%25eth0]:1": has a host with a zone, which means something on this machine only`,
			"http://h:99999":            `issuer "http://h:99999": has a port above 65535`,
			"http://u@h":                `issuer "http://u@h": contains a user name`,
			"http://h/?a":               `issuer "http://h/?a": has a query or a fragment (RFC 8414 §2)`,
			"http://h/#a":               `issuer "http://h/#a": has a query or a fragment (RFC 8414 §2)`,
		} {
			stderr := new(lockedBuffer)
			status := run(t.Context(), []string{"-db", memory, "-addr", "127.0.0.1:0", "-issuer", issuer}, noEnvironment, new(lockedBuffer), stderr)
			if status != 2 || stderr.String() != "grantling: "+want+"\n" {
				t.Errorf("%q: exit status %d: %s", issuer, status, stderr)
			}
		}
	})
}

// TestRevocationAnswer: RFC 7009 §2.2 lets clients ignore the body, but some parse it.
func TestRevocationAnswer(t *testing.T) {
	t.Parallel()
	i := start(t)
	access, _ := i.tokens("web")
	for _, token := range []string{access, access, "unknown"} {
		r := i.post(i.endpoint("revoke"), withClient("web", map[string][]string{"token": {token}}))
		if r.StatusCode != 200 || r.body != "{}\n" || !slices.Equal(r.Header["Content-Type"], []string{"application/json"}) {
			t.Errorf("status %d, %v: %q", r.StatusCode, r.Header, r.body)
		}
	}
}
