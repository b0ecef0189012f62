package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// benchmarked is a server on a database file, as the command starts it.
func benchmarked(b *testing.B) *server {
	b.Helper()
	p, err := loadProfile("rfc6749")
	if err != nil {
		b.Fatal(err)
	}
	st, err := openStore(filepath.Join(b.TempDir(), "grantling.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.close() })
	s, err := newServer(p, st, "http://127.0.0.1:9096", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	f := &fixtures{Clients: []clientFixture{{ClientID: "web", ClientSecret: "web-secret", Scope: "read write"}}}
	if _, err := s.applyFixtures(f); err != nil {
		b.Fatal(err)
	}
	return s
}

// ask sends a form to the handler, without a network between.
func ask(b *testing.B, s *server, endpoint string, form string) string {
	r := httptest.NewRequest("POST", s.profile.Endpoints[endpoint][0], strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Errorf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// BenchmarkToken issues durable access tokens by client credentials.
func BenchmarkToken(b *testing.B) {
	form := clientCredentialsOf("web").Encode()
	b.Run("1", func(b *testing.B) {
		s := benchmarked(b)
		for b.Loop() {
			ask(b, s, "token", form)
		}
	})
	b.Run("64", func(b *testing.B) {
		s := benchmarked(b)
		b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				ask(b, s, "token", form)
			}
		})
	})
}

// BenchmarkIntrospect asks about a live token.
func BenchmarkIntrospect(b *testing.B) {
	s := benchmarked(b)
	_, after, _ := strings.Cut(ask(b, s, "token", clientCredentialsOf("web").Encode()), `"access_token":"`)
	token, _, _ := strings.Cut(after, `"`)
	form := withClient("web", url.Values{"token": {token}}).Encode()
	if answer := ask(b, s, "introspect", form); !strings.Contains(answer, `"active":true`) {
		b.Fatal(answer)
	}
	for b.Loop() {
		ask(b, s, "introspect", form)
	}
}
