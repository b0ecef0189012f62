package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// tripper answers requests in the place of a server.
type tripper func(r *http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// TestReady is R224: a health check needs nothing but the binary.
func TestReady(t *testing.T) {
	t.Parallel()
	t.Run("R224 of a running server", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		certificate(t, folder, "mine")
		for name, args := range map[string][]string{
			"plain":             nil,
			"issuer elsewhere":  {"-issuer", "https://as.example/tenant"},
			"https":             {"-tls-cert", "mine.crt", "-tls-key", "mine.key"},
			"issuer and itself": {"-issuer", "http://127.0.0.1:1"},
		} {
			cmd := command(t, folder, nil, append([]string{"-addr", "127.0.0.1:0", "-db", memory}, args...)...)
			p := begin(t, cmd).ready()
			address := p.listening()
			var tls []string
			if strings.HasPrefix(name, "https") {
				tls = args[:4]
			}
			for _, ask := range []struct{ env, args []string }{
				{nil, []string{"-addr", address}},
				{[]string{"GRANTLING_ADDR=" + address, "GRANTLING_ISSUER=http://127.0.0.1:1"}, nil},
				{[]string{"GRANTLING_ADDR=127.0.0.1:1"}, []string{"-issuer", map[bool]string{true: "https://", false: "http://"}[tls != nil] + address}},
			} {
				status, out, errs := runToEnd(t, command(t, folder, ask.env, append(append(ask.args, tls...), "-ready")...))
				if status != 0 || out+errs != "" {
					t.Errorf("%s: %q %q: exit status %d: %s%s", name, ask.env, ask.args, status, out, errs)
				}
			}
			p.stop()
		}
	})
	t.Run("R224 before and during the start", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var asked []string
			began := time.Now()
			err := (&options{addr: ":9096"}).waitUntilReady(t.Context(), tripper(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, r.URL.String())
				answer := httptest.NewRecorder()
				switch len(asked) {
				case 1, 2:
					return nil, errors.New("connection refused")
				case 3:
					answer.WriteHeader(http.StatusServiceUnavailable)
				}
				io.WriteString(answer, "ok\n")
				return answer.Result(), nil
			}))
			if err != nil || len(asked) != 4 || asked[3] != "http://127.0.0.1:9096/healthz" || time.Since(began) != 300*time.Millisecond {
				t.Errorf("%v, asked %q in %v", err, asked, time.Since(began))
			}
		})
	})
	another := func(*http.Request) (*http.Response, error) {
		answer := httptest.NewRecorder()
		io.WriteString(answer, "<html>It works on this port!")
		return answer.Result(), nil
	}
	for name, row := range map[string]struct {
		answer tripper
		says   string
	}{
		"nothing listens":         {func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, "connection refused"},
		"a server that hangs":     {func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }, "context deadline exceeded"},
		"another program answers": {another, `expected 200 OK "ok\n", got 200 OK "<html>It works on th"`},
	} {
		t.Run("R224 ten seconds, "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := (&options{addr: "127.0.0.1:9096"}).waitUntilReady(t.Context(), row.answer)
				if err == nil || time.Since(began) != 10*time.Second || err.Error() != "not ready: http://127.0.0.1:9096/healthz: "+row.says {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
	t.Run("R224 the exit status", func(t *testing.T) {
		t.Parallel()
		stopped, stop := context.WithCancel(t.Context())
		stop()
		for _, row := range []struct {
			args   []string
			status int
			says   string
		}{
			{[]string{"-ready", "-addr", "127.0.0.1:1"}, 1, "grantling: not ready: http://127.0.0.1:1/healthz: "},
			{[]string{"-ready", "-addr", "127.0.0.1:0"}, 2, "grantling: -ready needs the port that the server listens on: set -addr or -issuer\n"},
		} {
			var out, errs lockedBuffer
			if status := run(stopped, row.args, func(string) string { return "" }, &out, &errs); status != row.status || out.String() != "" || !strings.HasPrefix(errs.String(), row.says) || strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("%q: status %d: %s%s", row.args, status, out.String(), errs.String())
			}
		}
		if _, err := os.Stat("grantling.db"); err == nil {
			t.Error("it opens the database")
		}
	})
	t.Run("R224 /healthz at the root and behind the issuer's path", func(t *testing.T) {
		t.Parallel()
		i := start(t).behind("https://as.example/tenant")
		for _, path := range []string{"/healthz", "/tenant/healthz"} {
			if r := i.get(path); r.StatusCode != 200 || r.body != "ok\n" {
				t.Errorf("%s: status %d: %s", path, r.StatusCode, r.body)
			}
		}
		if r := i.get("/login"); r.StatusCode != http.StatusNotFound {
			t.Errorf("/login: status %d", r.StatusCode)
		}
	})
}
