package main

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exampleClients are those that the requests of the explanations name. Where it is
// not said otherwise, a secret is SECRET.
const exampleClients = `{"clients": [
  {"client_id": "demo", "token_endpoint_auth_method": "none", "redirect_uris": ["urn:ietf:wg:oauth:2.0:oob", "http://127.0.0.1/callback"]},
  {"client_id": "mobile", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/callback"]},
  {"client_id": "moved", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/callback"]},
  {"client_id": "narrowed", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/callback"], "scope": "read write"},
  {"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://app.example/callback"], "scope": "read write"},
  {"client_id": "service", "client_secret": "web-secret", "grant_types": ["client_credentials"]},
  {"client_id": "legacy", "client_secret": "web-secret", "redirect_uris": ["urn:ietf:wg:oauth:2.0:oob"], "grant_types": ["authorization_code", "implicit", "password"]},
  {"client_id": "partner", "client_secret": "p%61ss+word"},
  {"client_id": "orphan", "client_secret": "web-secret"},
  {"client_id": "owned", "client_secret": "web-secret", "owner": "alice"},
  {"client_id": "poster", "client_secret": "web-secret", "redirect_uris": ["https://app.example/callback"], "scope": "write"}
], "client_documents": {
  "https://app.example/client.json": {"client_id": "https://app.example/client.json", "client_name": "App", "redirect_uris": ["https://app.example/callback"]},
  "https://app.example/copy.json": {"client_id": "https://app.example/client.json", "client_name": "App", "redirect_uris": ["https://app.example/callback"]}
}}`

// The clients that change in an example.
const (
	movedClient    = `{"clients": [{"client_id": "moved", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/new"]}]}`
	narrowedClient = `{"clients": [{"client_id": "narrowed", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/callback"], "scope": "read"}]}`
)

// exampleWords are the words in capitals in the requests, with what makes their values.
var exampleWords = map[string]func(i *instance, request string) string{
	"SECRET":     func(*instance, string) string { return "web-secret" },
	"OLD_SECRET": func(*instance, string) string { return "old-secret" },
	"PASSWORD":   func(*instance, string) string { return "wonderland" },
	"VERIFIER":   func(*instance, string) string { return verifier },
	"CHALLENGE":  func(*instance, string) string { return challengeOf(verifier) },

	"CODE": func(i *instance, request string) string {
		if strings.Contains(request, "client_id=web") {
			return i.code("web", "redirect_uri", "https://app.example/callback")
		}
		return i.demoCode("demo")
	},
	"CODE_WITHOUT_PKCE": func(i *instance, _ string) string {
		return i.code("web", "redirect_uri", "https://app.example/callback", "code_challenge", absent, "code_challenge_method", absent)
	},
	"USED_CODE": func(i *instance, _ string) string {
		code := i.demoCode("demo")
		i.demoExchange("demo", code)
		return code
	},
	"EXPIRED_CODE": func(i *instance, _ string) string {
		defer i.advance(11 * time.Minute)
		return i.demoCode("demo")
	},
	"REVOKED_CODE": func(i *instance, _ string) string {
		defer i.withdraw()
		return i.demoCode("demo")
	},
	"CODE_TO_OLD_ADDRESS": func(i *instance, _ string) string {
		defer i.furnish(movedClient)
		return i.demoCode("moved")
	},
	"CODE_TO_NEW_ADDRESS": func(i *instance, _ string) string {
		i.furnish(movedClient)
		return i.code("moved", "redirect_uri", "http://127.0.0.1:8080/new")
	},

	"REFRESH_TOKEN":          func(i *instance, _ string) string { return i.demoTokens("demo").refresh },
	"REFRESH_TOKEN_FOR_READ": func(i *instance, _ string) string { return i.demoTokens("demo", "scope", "read").refresh },
	"OLD_REFRESH_TOKEN": func(i *instance, _ string) string {
		used := i.demoTokens("demo").refresh
		i.token(with(refreshOf("native", used), "client_id", "demo")).wantToken()
		return used
	},
	"NEW_REFRESH_TOKEN": func(i *instance, _ string) string {
		_, refresh := i.token(with(refreshOf("native", i.demoTokens("demo").refresh), "client_id", "demo")).wantToken()
		return refresh
	},
	"EXPIRED_REFRESH_TOKEN": func(i *instance, _ string) string {
		defer i.advance(31 * 24 * time.Hour)
		return i.demoTokens("demo").refresh
	},
	"REVOKED_REFRESH_TOKEN": func(i *instance, _ string) string {
		defer i.withdraw()
		return i.demoTokens("demo").refresh
	},
	"NARROWED_REFRESH_TOKEN": func(i *instance, _ string) string {
		defer i.furnish(narrowedClient)
		return i.demoTokens("narrowed").refresh
	},

	"DEVICE_CODE":         func(i *instance, _ string) string { return i.device("demo").approved("alice").code },
	"PENDING_DEVICE_CODE": func(i *instance, _ string) string { return i.device("demo").code },
	"USER_CODE":           func(i *instance, _ string) string { return i.device("demo").userCode },
	"POLLED_DEVICE_CODE": func(i *instance, _ string) string {
		d := i.device("demo")
		d.poll().wantError(400, "authorization_pending")
		return d.code
	},
	"EXPIRED_DEVICE_CODE": func(i *instance, _ string) string {
		defer i.advance(31 * time.Minute)
		return i.device("demo").code
	},
	"USED_DEVICE_CODE": func(i *instance, _ string) string {
		d := i.device("demo").approved("alice")
		d.poll().wantToken()
		return d.code
	},
	"REVOKED_DEVICE_CODE": func(i *instance, _ string) string {
		defer i.withdraw()
		return i.device("demo").approved("alice").code
	},

	"ACCESS_TOKEN":         func(i *instance, _ string) string { return i.demoTokens("demo").access },
	"ANOTHER_ACCESS_TOKEN": func(i *instance, _ string) string { return i.demoTokens("demo").access },
	"EXPIRED_ACCESS_TOKEN": func(i *instance, _ string) string {
		defer i.advance(61 * time.Minute)
		return i.demoTokens("demo").access
	},
	"REVOKED_ACCESS_TOKEN": func(i *instance, _ string) string {
		defer i.withdraw()
		return i.demoTokens("demo").access
	},
	"CLIENT_TOKEN": func(i *instance, _ string) string {
		access, _ := i.token(clientCredentialsOf("web")).wantToken()
		return access
	},
	"API_TOKEN": func(i *instance, _ string) string {
		return i.demoTokens("demo", "resource", "https://api.example/mcp").access
	},
	"TOKEN_FOR_READ":  func(i *instance, _ string) string { return i.demoTokens("demo", "scope", "read").access },
	"TOKEN_FOR_WRITE": func(i *instance, _ string) string { return i.demoTokens("demo", "scope", "write").access },
}

const demoCallback = "http://127.0.0.1:8080/callback"

// demoCode is a fresh code of alice's for a public client, as the explanations have it.
func (i *instance) demoCode(clientID string, change ...string) string {
	i.Helper()
	return i.code(clientID, append([]string{"redirect_uri", demoCallback}, change...)...)
}

func (i *instance) demoExchange(clientID, code string) (access, refresh string) {
	i.Helper()
	return i.token(with(exchangeOf("native", code), "client_id", clientID, "redirect_uri", demoCallback)).wantToken()
}

func (i *instance) demoTokens(clientID string, change ...string) (issued struct{ access, refresh string }) {
	i.Helper()
	issued.access, issued.refresh = i.demoExchange(clientID, i.demoCode(clientID, change...))
	return issued
}

// withdraw is alice revoking demo on the page "Authorized".
func (i *instance) withdraw() {
	i.Helper()
	alice := i.as("alice")
	page := alice.get("/account/authorized")
	alice.post("/account/authorized/revoke", page.form(url.Values{"id": {"demo"}}))
}

// example is a request of an explanation, as its lines say it.
func (i *instance) example(lines string) *http.Request {
	i.Helper()
	lines = regexp.MustCompile(`\b[A-Z][A-Z_]+\b`).ReplaceAllStringFunc(lines, func(word string) string {
		if makes, ok := exampleWords[word]; ok {
			return makes(i, lines)
		}
		return word
	})
	lines = regexp.MustCompile(`base64\((.*)\)`).ReplaceAllStringFunc(lines, func(call string) string {
		return base64.StdEncoding.EncodeToString([]byte(call[len("base64(") : len(call)-1]))
	})
	head, body, _ := strings.Cut(lines, "\n\n")
	if !strings.HasPrefix(body, "{") {
		body = strings.ReplaceAll(body, "\n", "&")
	}
	first, header, _ := strings.Cut(head, "\n")
	method, target, _ := strings.Cut(first, " ")
	for line := range strings.Lines(header) {
		if strings.HasPrefix(line, "?") || strings.HasPrefix(line, "&") {
			target += strings.TrimSuffix(line, "\n")
		}
	}
	path, query, _ := strings.Cut(target, "?")
	request := httptest.NewRequest(method, i.URL+path, strings.NewReader(body))
	request.URL.RawQuery = query
	if method == "POST" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for line := range strings.Lines(header) {
		switch name, value, isHeader := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); {
		case isHeader && name == "Host":
			request.Host = value
		case isHeader && name == "Authorization":
			request.Header.Add(name, value)
		case isHeader:
			request.Header.Set(name, value)
		}
	}
	return request
}

// Every wrong request of the explanations is refused for their reason, by their rule
// and with their answer, and every right one is answered. Only marked lines differ.
func TestExplainedRequests(t *testing.T) {
	t.Parallel()
	for why, e := range explanations() {
		if e.Wrong == nil {
			continue // no request shows it
		}
		t.Run(why.slug(), func(t *testing.T) {
			t.Parallel()
			if unmarked(e.Wrong) != unmarked(e.Right) {
				t.Error("wrong and right differ in lines without a mark")
			}
			wrong, profile := send(t, e, e.Wrong)
			if wrong.refusal == nil || wrong.refusal.Reason != why {
				t.Fatalf("wrong: refused with status %d for %v", wrong.Status, wrong.refusal)
			}
			if !slices.Contains(e.Rules, wrong.Section) {
				t.Errorf("the rule is %s, not %s", wrong.Section, e.Rules)
			}
			status := profile == "rfc6749" && wrong.Status >= 400 // others have their own, and a redirect has none
			if status && !strings.Contains(e.Answer, strconv.Itoa(wrong.Status)) || !strings.Contains(e.Answer, wrong.refusal.Code) {
				t.Errorf("the answer is %d %s, not %s", wrong.Status, wrong.refusal.Code, e.Answer)
			}
			if right, _ := send(t, e, e.Right); right.refusal != nil || right.Status >= 400 {
				t.Errorf("right: refused with status %d for %v", right.Status, right.refusal)
			}
		})
	}
}

// unmarked are the lines of a request that wrong and right share.
func unmarked(request *sample) (lines string) {
	for _, line := range request.Lines {
		if line.Mark == "" && line.Text != "" {
			lines += line.Text + "\n"
		}
	}
	return lines
}

// send sends a request of an explanation to a server of the profile that the scene
// names, and returns the exchange and the profile.
func send(t *testing.T, e *explanation, shown *sample) (noted *exchange, profile string) {
	t.Helper()
	scene := strings.Join(e.Scene, "\n")
	profile = "rfc6749"
	if _, named, ok := strings.Cut(scene, "runs with the profile `"); ok {
		profile, _, _ = strings.Cut(named, "`")
	}
	i := startProfile(t, profile, func(s *server) { s.loopback = true })
	clients := exampleClients
	if !i.server.profile.hasScope("write") {
		clients = regexp.MustCompile(`, "scope": "[^"]*"`).ReplaceAllString(clients, "")
	}
	i.furnish(clients)
	var lines []string
	for _, line := range shown.Lines {
		lines = append(lines, line.Text)
	}
	request := i.example(strings.Join(lines, "\n"))
	if !strings.Contains(scene, "Nobody is signed in.") {
		for _, cookie := range i.as("alice").client.Jar.Cookies(request.URL) {
			request.AddCookie(cookie)
		}
	}
	return observed{t, i.server}.observe(httptest.NewRecorder(), request), profile
}

// What no client can cause: the server has no time, or fails.
func TestServersOwnFailures(t *testing.T) {
	t.Parallel()
	i := start(t)
	i.server.routes["/fails"] = []*route{{methods: "POST", fail: i.server.writeError, handle: func(http.ResponseWriter, *http.Request, *exchange) error {
		return errors.New("a detail")
	}}}
	for range cap(i.server.hashing) {
		i.server.hashing <- struct{}{} // all are busy
	}
	for _, test := range []struct {
		why    reason
		path   string
		form   url.Values
		status int
		body   string
	}{
		{serverBusy, i.path("token"), passwordOf("legacy", "alice", "wonderland"), 503, `{"error":"temporarily_unavailable","error_description":"too many people are signing in; try again in a moment","error_uri":"` + i.URL + `/explain/server-busy"}`},
		{serverFailed, "/fails", nil, 500, `{"error":"server_error","error_description":"the server failed; its log says why","error_uri":"` + i.URL + `/explain/server-failed"}`},
	} {
		ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer hangUp()
		request := httptest.NewRequestWithContext(ctx, "POST", i.URL+test.path, strings.NewReader(test.form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		x := observed{t, i.server}.observe(w, request)
		if x.refusal == nil || x.refusal.Reason != test.why || w.Code != test.status || w.Body.String() != test.body+"\n" {
			t.Errorf("%s: refused for %v: status %d, %s", test.why, x.refusal, w.Code, w.Body)
		}
	}
}
