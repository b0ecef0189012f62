package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// peakMemory is the most memory that the process has held, in bytes.
func (p *process) peakMemory() int {
	p.Helper()
	if runtime.GOOS != "linux" {
		p.Skip("only Linux tells")
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		p.Fatal(err)
	}
	match := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if match == nil {
		p.Fatalf("no peak in %s", status)
	}
	kilobytes, _ := strconv.Atoi(string(match[1]))
	return kilobytes << 10
}

// TestDepth is R180: JSON may be nested 64 levels deep, wherever it is read.
func TestDepth(t *testing.T) {
	t.Parallel()
	t.Run("R180 what is nested deep costs no memory", func(t *testing.T) {
		t.Parallel()
		for profile, paths := range map[string][]string{
			"figshare":   {"/v2/token"},
			"mastodon":   {"/oauth/token", "/oauth/revoke", "/api/v1/apps", "/_control/clients"},
			"sharesight": {"/oauth2/token", "/oauth2/revoke"},
		} {
			p := launch(t, t.TempDir(), "-db", memory, "-profile", profile, "-control", "-log", "off")
			for range 3 {
				for _, path := range paths {
					p.floodDeep(path)
				}
			}
			if peak := p.peakMemory(); peak > 64<<20 {
				t.Errorf("%s: %d MiB", profile, peak>>20)
			}
		}
	})
	t.Run("R180 bodies", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon")
		if err := i.server.openControl(); err != nil {
			t.Fatal(err)
		}
		deep := func(levels int) string { // the object is a level too
			return `{"grant_type":"client_credentials","client_id":"web","client_secret":"web-secret","other":"]}\"[{","x":` +
				strings.Repeat(`{"a":[`, (levels-1)/2) + strings.Repeat("[", (levels-1)%2) + strings.Repeat("]", (levels-1)%2) + strings.Repeat("]}", (levels-1)/2) + "}"
		}
		for levels, want := range map[int]int{64: 200, 65: 400, 1000: 400} {
			if r := i.browser().do("POST", "/oauth/token", deep(levels), "Content-Type", "application/json"); r.StatusCode != want {
				t.Errorf("%d levels: status %d: %s", levels, r.StatusCode, r.body)
			}
		}
		r := i.control("POST", "users", `{"username":`+strings.Repeat("[", 65)+strings.Repeat("]", 65)+`}`)
		if r.StatusCode != 400 || r.body != `{"error":"body:1: nested more than 64 levels deep"}`+"\n" {
			t.Errorf("control: status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R180 very many parameters", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "mastodon")
		multipart := func(n int) string {
			return strings.Repeat("--b\r\nContent-Disposition:form-data;name=p\r\n\r\n\r\n", n) + "--b--\r\n"
		}
		for _, test := range []struct{ contentType, few, many string }{
			{"application/x-www-form-urlencoded", strings.Repeat("p&", 900), strings.Repeat("p&", 1000)},
			{"application/json", `{"p":[` + strings.Repeat("0,", 900) + "0]}", `{"p":[` + strings.Repeat("0,", 1000) + "0]}"},
			{"multipart/form-data; boundary=b", multipart(900), multipart(1001)},
		} {
			few := i.browser().do("POST", "/oauth/revoke", test.few, "Content-Type", test.contentType)
			many := i.browser().do("POST", "/oauth/revoke", test.many, "Content-Type", test.contentType)
			if few.StatusCode == 400 || many.StatusCode != 400 || !strings.Contains(many.body, "it may have 1000 parameters") {
				t.Errorf("%s: %d, then %d: %s", test.contentType, few.StatusCode, many.StatusCode, many.body)
			}
		}
		file := "--b\r\nContent-Disposition:form-data;name=grant_type;filename=f\r\n\r\npassword\r\n--b--\r\n"
		if r := i.browser().do("POST", "/oauth/token", file, "Content-Type", "multipart/form-data; boundary=b"); !strings.Contains(r.body, "Missing required parameter: grant_type") {
			t.Errorf("a file is taken as a parameter: status %d: %s", r.StatusCode, r.body)
		}
		if r := i.get("/oauth/authorize?" + strings.Repeat("p&", 1000)); r.StatusCode != 400 || !strings.Contains(r.body, "the query is too long: it may have 1000 parameters") {
			t.Errorf("query: status %d: %s", r.StatusCode, r.body)
		}
		if r := i.post("/oauth/authorize?"+strings.Repeat("p&", 1000), authorization("web")); r.StatusCode != 400 || !strings.Contains(r.body, "the query is too long") {
			t.Errorf("with a body: status %d: %s", r.StatusCode, r.body)
		}
	})
	t.Run("R180 files", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		deep := "{\n\"users\":\n" + strings.Repeat("[", 65000) + strings.Repeat("]", 65000) + "}"
		if err := os.WriteFile(filepath.Join(folder, "deep.json"), []byte(deep), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, flag := range []string{"-fixtures", "-profile"} {
			args := []string{"-db", memory, flag, "./deep.json"}
			status, _, stderr := runToEnd(t, command(t, folder, nil, args...))
			if status != 2 || stderr != "grantling: ./deep.json:3: nested more than 64 levels deep\n" {
				t.Errorf("%s: exit status %d: %.300s", flag, status, stderr)
			}
		}
	})
	t.Run("R180 an array or object is no string", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "figshare", plainErrors)
		for _, name := range []string{"grant_type", "client_id", "client_secret", "code", "redirect_uri", "refresh_token", "password", "scope"} {
			for _, value := range []string{`[]`, `["a"]`, `["a","b"]`, `{}`, `{"a":"b"}`, `[[1]]`} {
				r := i.browser().do("POST", "/v2/token", `{"`+name+`":`+value+`}`, "Content-Type", "application/json")
				if r.StatusCode != 400 || r.json["error_description"] != name+" must be a string" {
					t.Errorf("%s %s: status %d, %s", name, value, r.StatusCode, r.body)
				}
			}
		}
		// What the endpoint does not know is nothing to it.
		r := i.browser().do("POST", "/v2/token", `{"grant_type":"x","metadata":{"a":[1]}}`, "Content-Type", "application/json")
		if r.json["error"] != "unsupported_grant_type" {
			t.Errorf("status %d: %s", r.StatusCode, r.body)
		}
	})
}

// floodDeep sends a hundred deeply nested bodies at once.
func (p *process) floodDeep(path string) {
	p.Helper()
	body := `{"a":` + strings.Repeat("[", 65000)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			r, err := http.Post(p.URL+path, "application/json", strings.NewReader(body))
			if err != nil {
				p.Error(err)
				return
			}
			r.Body.Close()
			if r.StatusCode != http.StatusBadRequest {
				p.Errorf("%s: status %d", path, r.StatusCode)
			}
		})
	}
	all.Wait()
}

// plainErrors has a server tell errors as RFC 6749 §5.2 does, and not in the
// words of its profile.
func plainErrors(s *server) { s.profile.Errors = nil }

// TestUnknownBytes is R204: what the server does not know cannot stand in the way.
func TestUnknownBytes(t *testing.T) {
	t.Parallel()
	i := start(t)
	request := "?" + authorization("native").Encode()
	for _, unknown := range []string{"%ff", "\xff", "%00", "%0d%0a", "\xff\xfe%80", "\xe4", "ä", "%C3%A4", "\"<'>", "{}", "^|`\\"} {
		t.Run("R204 consent with x="+url.QueryEscape(unknown), func(t *testing.T) {
			b := i.in(t).browser()
			page := b.get(b.path("authorize") + request + "&x=" + unknown)
			signedIn := b.post(page.action(), page.form(credentials("alice", "wonderland")))
			if location := signedIn.Header.Get("Location"); !isText(location) {
				t.Errorf("after sign-in to %q", location)
			}
			for name, consent := range map[string]*reply{
				"after sign-in": b.get(signedIn.Header.Get("Location")),
				"signed in":     b.get(b.path("authorize") + request + "&x=" + unknown),
			} {
				if back := b.decide(consent, "approve"); back.StatusCode != http.StatusSeeOther || back.param("code") == "" || back.param("state") != "xyz" {
					t.Errorf("%s: status %d: %s", name, back.StatusCode, back.body)
				}
			}
			posted := b.do("POST", b.path("authorize"), request[1:]+"&x="+unknown)
			if back := b.decide(b.get(posted.Header.Get("Location")), "approve"); back.param("code") == "" {
				t.Errorf("by POST: status %d: %s", back.StatusCode, back.body)
			}
		})
	}
}
