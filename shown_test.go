package main

import (
	"html"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// walk is what a page shows to try, as a person goes through it: links are
// opened and approved, commands are pasted into a shell with the words in
// capitals replaced.
type walk struct {
	*browser
	words map[string]string // by the word in capitals
}

// try does all that a page shows and returns the names of its grants, with
// "registered" for what leads to the registration of an application.
func (w *walk) try(page *reply) (tried []string) {
	w.Helper()
	shown := regexp.MustCompile(`(?s)<details.*?</details>|<ol class="path">.*?</ol>`).FindAllString(page.body, -1)
	for _, detail := range shown {
		title := "Authorization code" // the way to the first token
		if summary := regexp.MustCompile(`<summary>([^<]*)`).FindStringSubmatch(detail); summary != nil {
			title = strings.TrimSpace(summary[1])
		}
		link := regexp.MustCompile(`<a href="([^"]*)" target="_blank"`).FindStringSubmatch(detail)
		address := regexp.MustCompile(`data-copy="the URL">([^<]*)<`).FindStringSubmatch(detail)
		command := regexp.MustCompile(`data-copy="the command">([^<]*)<`).FindStringSubmatch(detail)
		switch {
		case strings.Contains(detail, "Register one"):
			title += ": none"
		case link != nil:
			if html.UnescapeString(address[1]) != w.URL+html.UnescapeString(link[1]) {
				w.Errorf("%s: the link is %s, the URL %s", title, link[1], address[1])
			}
			back := w.get(html.UnescapeString(link[1]))
			if strings.Contains(back.body, `name="decision"`) {
				back = w.decide(back, "approve")
			}
			if back.StatusCode != 303 || command == nil && back.param("access_token") == "" || command != nil && back.param("code") == "" {
				w.Fatalf("%s: %s leads to status %d, %s: %s", title, link[1], back.StatusCode, back.Header.Get("Location"), back.body)
			}
			// A code that this server does not show is in the address.
			if elsewhere := "http://"+back.location().Host != w.URL; elsewhere != strings.Contains(detail, "Your browser goes to") {
				w.Errorf("%s leads to %s: %s", title, back.location(), detail)
			}
			w.words["CODE"] = back.param("code")
			if command == nil {
				w.words["ACCESS_TOKEN"] = back.param("access_token")
			}
		case command == nil:
			continue // a new secret, or the end of an application
		}
		if command != nil {
			w.paste(title, html.UnescapeString(command[1]))
		}
		tried = append(tried, title)
	}
	return tried
}

func (w *walk) paste(title, command string) {
	w.Helper()
	for word, value := range w.words {
		command = regexp.MustCompile(`\b`+word+`\b`).ReplaceAllLiteralString(command, value)
	}
	out, err := exec.Command("sh", "-c", strings.Replace(command, "curl ", "curl -sSf ", 1)).CombinedOutput()
	if err != nil {
		w.Errorf("%s: %s: %s %v", title, command, out, err)
	}
	for word, member := range map[string]string{"ACCESS_TOKEN": "access_token", "REFRESH_TOKEN": "refresh_token"} {
		if match := regexp.MustCompile(`"` + member + `":"([^"]*)"`).FindSubmatch(out); match != nil {
			if title != "Client credentials" { // such a token stands for nobody
				w.words[word] = string(match[1])
			}
		} else if word == "ACCESS_TOKEN" && strings.Contains(command, "grant_type") {
			w.Errorf("%s: %s: no token: %s", title, command, out)
		}
	}
}

// startBare runs a server as a profile, without the clients of the tests.
func startBare(t *testing.T, profile string) *instance {
	t.Helper()
	i := startProfile(t, profile)
	for _, clientID := range []string{"web", "other", "native", "native2", "legacy", "rs"} {
		i.must(i.server.store.deleteClient(clientID))
	}
	return i
}

// TestShown is R202: what the pages show to try works in every profile.
func TestShown(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil || runtime.GOOS == "windows" {
		t.Skip("no curl, or no shell that it is for")
	}
	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(readme(t))[1]
	const demo = `{"users": [{"username": "alice", "password": "wonderland"}], "clients": [{"client_id": "demo", "token_endpoint_auth_method": "none",
		"redirect_uris": ["urn:ietf:wg:oauth:2.0:oob", "http://127.0.0.1/callback"], "grant_types": ["authorization_code", "refresh_token"]}]}`
	const use = "Use a token"
	for profile, want := range map[string]struct{ demo, readme, own []string }{
		"rfc6749": {
			[]string{"Authorization code", "Refresh token", "Client credentials: none", "Implicit: none", "Password: none", use},
			[]string{"Authorization code", "Refresh token", "Client credentials", "Implicit: none", "Password: none", use},
			[]string{"Authorization code", "Refresh token", "Client credentials", "Implicit", "Password"},
		},
		"figshare": {
			[]string{"Authorization code", "Refresh token", "Implicit: none", "Password: none", use},
			[]string{"Authorization code", "Refresh token", "Implicit: none", "Password: none", use},
			[]string{"Authorization code", "Refresh token", "Implicit", "Password"},
		},
		"mastodon": {
			[]string{"Authorization code", "Client credentials: none", use},
			[]string{"Authorization code", "Client credentials", use},
			[]string{"Authorization code", "Client credentials"},
		},
		"trackmania": {
			[]string{"Authorization code", "Refresh token", "Client credentials: none", use},
			[]string{"Authorization code", "Refresh token", "Client credentials", use},
			[]string{"Authorization code", "Refresh token", "Client credentials"},
		},
		"sharesight": {
			[]string{"Authorization code", "Refresh token", "Client credentials: none", use},
			[]string{"Authorization code", "Refresh token", "Client credentials", use},
			[]string{"Authorization code", "Refresh token", "Client credentials"},
		},
	} {
		for name, row := range map[string]struct {
			fixtures string
			want     []string
		}{"first start": {demo, want.demo}, "fixtures of the README": {example, want.readme}} {
			t.Run("R202 "+profile+", "+name, func(t *testing.T) {
				t.Parallel()
				i := startBare(t, profile)
				folder := t.TempDir()
				writeFile(t, folder, "fixtures.json", row.fixtures)
				f, err := loadFixtures(filepath.Join(folder, "fixtures.json"), i.server.profile)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := i.server.applyFixtures(f); err != nil {
					t.Fatal(err)
				}
				w := &walk{i.as("alice"), map[string]string{"CLIENT_SECRET": "web-secret", "PASSWORD": "wonderland"}}
				if got := w.try(w.get("/")); !slices.Equal(got, row.want) {
					t.Errorf("there is %q to try, want %q", got, row.want)
				}
			})
		}
		t.Run("R202 "+profile+", one's own application", func(t *testing.T) {
			t.Parallel()
			i := startBare(t, profile)
			i.furnish(demo)
			w := &walk{i.as("alice"), map[string]string{"PASSWORD": "wonderland"}}
			// All that the form has to tick.
			form := url.Values{"client_name": {"Notes"}, "redirect_uris": {"https://notes.example/cb"}, "out_of_band": {"yes"}, "token_endpoint_auth_method": {"client_secret_basic"}}
			for _, box := range regexp.MustCompile(`type="checkbox" name="(grant_types|scope)" value="([^"]*)"`).FindAllStringSubmatch(w.get("/account/applications/new").body, -1) {
				form.Add(box[1], box[2])
			}
			page := w.fill("/account/applications/new", form)
			if got := w.try(page); !slices.Equal(got, want.own) {
				t.Errorf("there is %q to try, want %q", got, want.own)
			}
			w.words["CLIENT_SECRET"] = shownSecret.FindStringSubmatch(page.body)[1]
			id := shownID.FindStringSubmatch(page.body)[1]
			if got := w.try(w.get("/account/applications/edit?id=" + id)); !slices.Equal(got, want.own) {
				t.Errorf("there is %q to try, want %q", got, want.own)
			}
		})
	}
}

// TestShownWithoutCodes is R202 where the profile has no grant that goes
// through the browser.
func TestShownWithoutCodes(t *testing.T) {
	t.Parallel()
	t.Run("R202 client credentials only", func(t *testing.T) {
		t.Parallel()
		i := startProfile(t, "rfc6749", func(s *server) { s.profile.Grants = []string{"client_credentials"} })
		for _, page := range []*reply{i.get("/"), i.as("alice").get("/account/applications/edit?id=web")} {
			page.contains("grant_type=client_credentials")
			if strings.Contains(page.body, "response_type=") || strings.Contains(page.body, "CODE") || strings.Contains(page.body, "Authorization code") {
				t.Errorf("it shows a grant that is refused: %s", page.body)
			}
		}
	})
}

// TestExpected is R202 on the error page: it expects nothing that the profile
// refuses.
func TestExpected(t *testing.T) {
	t.Parallel()
	const either = "code; or token, if the application is registered for the implicit grant and the redirect URI is not out of band"
	for name, row := range map[string]struct {
		change                     func(*profile)
		responseType, responseMode string
	}{
		"implicit grant":          {func(*profile) {}, either, "query or fragment or form_post for response_type code, fragment for token; or leave it out"},
		"implicit grant in query": {func(p *profile) { p.ImplicitInQuery = true }, either, "query or fragment or form_post; or leave it out"},
		"without implicit grant":  {func(p *profile) { p.Grants = []string{"authorization_code"} }, "code", "query or fragment or form_post; or leave it out"},
	} {
		t.Run("R202 "+name, func(t *testing.T) {
			t.Parallel()
			i := startProfile(t, "rfc6749", func(s *server) { row.change(s.profile) })
			i.furnish(`{"clients": [{"client_id": "cli", "client_secret": "x", "redirect_uris": ["` + outOfBand + `"]}]}`)
			b := i.as("alice")
			for name, expected := range map[string]string{"response_type": row.responseType, "response_mode": row.responseMode} {
				page := b.authorize(authorization("web", "client_id", "cli", "redirect_uri", outOfBand, "scope", absent, name, "foo"))
				if !strings.Contains(page.body, "<dt>Expected</dt><dd>"+expected+"</dd>") {
					t.Errorf("%s: not %q: %s", name, expected, page.body)
				}
			}
		})
	}
}
