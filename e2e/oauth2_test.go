package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// endpoint is the server's, as golang.org/x/oauth2 wants it.
func (s *server) endpoint(style oauth2.AuthStyle) oauth2.Endpoint {
	return oauth2.Endpoint{AuthURL: s.URL + "/oauth/authorize", TokenURL: s.URL + "/oauth/token", AuthStyle: style}
}

func (s *server) web() *oauth2.Config {
	return &oauth2.Config{ClientID: "web", ClientSecret: webSecret, RedirectURL: "http://localhost:8080/callback",
		Scopes: []string{"read", "write"}, Endpoint: s.endpoint(oauth2.AuthStyleInHeader)}
}

func (s *server) native() *oauth2.Config {
	return &oauth2.Config{ClientID: "native", RedirectURL: "http://127.0.0.1:8080/callback",
		Scopes: []string{"read", "write"}, Endpoint: s.endpoint(oauth2.AuthStyleInHeader)}
}

func (s *server) legacy() *oauth2.Config {
	return &oauth2.Config{ClientID: "legacy", ClientSecret: "legacy-secret", Endpoint: s.endpoint(oauth2.AuthStyleInHeader)}
}

func (s *server) job() *clientcredentials.Config {
	return &clientcredentials.Config{ClientID: "job", ClientSecret: "job-secret", TokenURL: s.URL + "/oauth/token",
		Scopes: []string{"read"}, AuthStyle: oauth2.AuthStyleInHeader}
}

// authStyles are the ways in which a client may authenticate.
var authStyles = map[string]oauth2.AuthStyle{
	"auto-detect": oauth2.AuthStyleAutoDetect,
	"in header":   oauth2.AuthStyleInHeader,
	"in params":   oauth2.AuthStyleInParams,
}

// newCode returns a code of alice's, from a server with -auto-approve alice.
func newCode(t *testing.T, c *oauth2.Config, verifier string) string {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(c.AuthCodeURL("xyz", oauth2.S256ChallengeOption(verifier)))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	location, err := res.Location()
	if err != nil {
		t.Fatalf("status %d: %v", res.StatusCode, err)
	}
	answer := location.Query()
	if !strings.HasPrefix(location.String(), c.RedirectURL+"?") || answer.Get("state") != "xyz" || answer.Get("code") == "" {
		t.Fatalf("redirected to %s", location)
	}
	return answer.Get("code")
}

// wantToken wants a token that lasts an hour.
func wantToken(t *testing.T, token *oauth2.Token, err error, scope string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	left := time.Until(token.Expiry)
	if !token.Valid() || token.Type() != "Bearer" || left < 59*time.Minute || left > time.Hour || token.Extra("scope") != scope {
		t.Errorf("type %s, %v left, scope %v, want Bearer, an hour, %s", token.Type(), left, token.Extra("scope"), scope)
	}
}

// getJSON wants status 200 and returns the members of the answer.
func getJSON(t *testing.T, client *http.Client, url string) map[string]any {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var members map[string]any
	if err := json.NewDecoder(res.Body).Decode(&members); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v %v", url, res.StatusCode, members, err)
	}
	return members
}

// wantRefused wants an error of the token endpoint (RFC 6749 §5.2).
func wantRefused(t *testing.T, err error, status int, code, mentions string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	switch {
	case !errors.As(err, &refused):
		t.Errorf("got %v, want an *oauth2.RetrieveError", err)
	case refused.Response.StatusCode != status || refused.ErrorCode != code || !strings.Contains(refused.ErrorDescription, mentions):
		t.Errorf("got %d %v, want %d %s with a description that mentions %q", refused.Response.StatusCode, refused, status, code, mentions)
	}
}

func TestOAuth2(t *testing.T) {
	t.Parallel()
	s := start(t, "-auto-approve", "alice")
	for client, config := range map[string]func() *oauth2.Config{"confidential": s.web, "public": s.native} {
		for name, style := range authStyles {
			t.Run("4.1.3/"+client+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := config()
				c.Endpoint.AuthStyle = style
				verifier := oauth2.GenerateVerifier()
				first, err := c.Exchange(t.Context(), newCode(t, c, verifier), oauth2.VerifierOption(verifier))
				wantToken(t, first, err, "read write")
				if sub := getJSON(t, c.Client(t.Context(), first), s.URL+"/userinfo")["sub"]; sub != "alice" {
					t.Errorf("the token stands for %v", sub)
				}

				expired := *first
				expired.Expiry = time.Now().Add(-time.Minute)
				second, err := c.TokenSource(t.Context(), &expired).Token()
				wantToken(t, second, err, "read write")
				if second.AccessToken == first.AccessToken || second.RefreshToken == first.RefreshToken {
					t.Error("refreshing gave an old token")
				}
				getJSON(t, c.Client(t.Context(), second), s.URL+"/userinfo")
				_, err = c.TokenSource(t.Context(), &expired).Token()
				wantRefused(t, err, 400, "invalid_grant", "used before")
			})
		}
	}
	for name, style := range authStyles {
		t.Run("4.3.2/password/"+name, func(t *testing.T) {
			t.Parallel()
			c := s.legacy()
			c.Endpoint.AuthStyle = style
			token, err := c.PasswordCredentialsToken(t.Context(), "alice", "wonderland")
			wantToken(t, token, err, "read")
			if sub := getJSON(t, c.Client(t.Context(), token), s.URL+"/userinfo")["sub"]; sub != "alice" {
				t.Errorf("the token stands for %v", sub)
			}
			token.Expiry = time.Now().Add(-time.Minute)
			token, err = c.TokenSource(t.Context(), token).Token()
			wantToken(t, token, err, "read")
		})
		t.Run("4.4.2/client credentials/"+name, func(t *testing.T) {
			t.Parallel()
			c := s.job()
			c.AuthStyle = style
			token, err := c.Token(t.Context())
			wantToken(t, token, err, "read")
			if token.RefreshToken != "" {
				t.Error("there is a refresh token") // R117
			}
			if id := getJSON(t, c.Client(t.Context()), s.URL+"/oauth/token/info")["client_id"]; id != "job" {
				t.Errorf("the token is of client %v", id)
			}
		})
	}
}

// exchange is a client about to redeem a fresh code.
type exchange struct {
	*oauth2.Config
	ctx      context.Context
	code     string
	verifier oauth2.AuthCodeOption
}

func (x exchange) redeem() (*oauth2.Token, error) { return x.Exchange(x.ctx, x.code, x.verifier) }

// TestRetrieveError begins from the one valid exchange; each row changes one thing.
func TestRetrieveError(t *testing.T) {
	t.Parallel()
	s := start(t, "-auto-approve", "alice")
	for _, row := range []struct {
		name           string
		ask            func(x exchange) (*oauth2.Token, error)
		status         int
		code, mentions string
	}{
		{"4.1.3/another code", func(x exchange) (*oauth2.Token, error) {
			x.code = "another"
			return x.redeem()
		}, 400, "invalid_grant", "code"},
		{"4.1.2 R95 code used twice", func(x exchange) (*oauth2.Token, error) {
			if token, err := x.redeem(); err != nil {
				return token, err
			}
			return x.redeem()
		}, 400, "invalid_grant", "used before"},
		{"4.1.3 R93 code of another client", func(x exchange) (*oauth2.Token, error) {
			x.Config = s.native()
			return x.redeem()
		}, 400, "invalid_grant", "another client"},
		{"4.1.3 R94 another redirect_uri", func(x exchange) (*oauth2.Token, error) {
			x.RedirectURL = "http://localhost:8081/callback"
			return x.redeem()
		}, 400, "invalid_grant", "redirect_uri"},
		{"RFC 7636 4.6/another verifier", func(x exchange) (*oauth2.Token, error) {
			x.verifier = oauth2.VerifierOption(oauth2.GenerateVerifier())
			return x.redeem()
		}, 400, "invalid_grant", "code_verifier"},
		{"RFC 7636 4.6/no verifier", func(x exchange) (*oauth2.Token, error) {
			return x.Exchange(x.ctx, x.code)
		}, 400, "invalid_grant", "code_verifier"},
		{"5.2/unknown client", func(x exchange) (*oauth2.Token, error) {
			x.ClientID = "nobody"
			return x.redeem()
		}, 401, "invalid_client", "client"},
		{"5.2 R87 wrong secret", func(x exchange) (*oauth2.Token, error) {
			x.ClientSecret = "guess"
			return x.redeem()
		}, 401, "invalid_client", "secret"},
		{"3.2.1 R87 no secret", func(x exchange) (*oauth2.Token, error) {
			x.ClientSecret = ""
			return x.redeem()
		}, 401, "invalid_client", "secret"},
		{"6/another refresh token", func(x exchange) (*oauth2.Token, error) {
			return x.TokenSource(x.ctx, &oauth2.Token{RefreshToken: "another"}).Token()
		}, 400, "invalid_grant", "refresh token"},
		{"6/refresh token of another client", func(x exchange) (*oauth2.Token, error) {
			token, err := x.redeem()
			if err != nil {
				return token, err
			}
			return s.legacy().TokenSource(x.ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
		}, 400, "invalid_grant", "another client"},
		{"4.3.2/wrong password", func(x exchange) (*oauth2.Token, error) {
			return s.legacy().PasswordCredentialsToken(x.ctx, "alice", "guess")
		}, 400, "invalid_grant", "password"},
		{"5.2/grant that the client did not register", func(x exchange) (*oauth2.Token, error) {
			return x.PasswordCredentialsToken(x.ctx, "alice", "wonderland")
		}, 400, "unauthorized_client", "grant type"},
		{"3.3/scope beyond the client's", func(x exchange) (*oauth2.Token, error) {
			job := s.job()
			job.Scopes = []string{"admin"}
			return job.Token(x.ctx)
		}, 400, "invalid_scope", "scope"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			verifier := oauth2.GenerateVerifier()
			x := exchange{s.web(), t.Context(), newCode(t, s.web(), verifier), oauth2.VerifierOption(verifier)}
			_, err := row.ask(x)
			wantRefused(t, err, row.status, row.code, row.mentions)
		})
	}
}

// A client that finds out by trying how to authenticate sends its code more
// than once: a failed authentication must not spend it.
func TestFailedAuthenticationLeavesCode(t *testing.T) {
	t.Parallel()
	s := start(t, "-auto-approve", "alice")
	c := s.web()
	verifier := oauth2.GenerateVerifier()
	code := newCode(t, c, verifier)
	wrong := s.web()
	wrong.ClientSecret = "guess"
	wrong.Endpoint.AuthStyle = oauth2.AuthStyleAutoDetect
	_, err := wrong.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantRefused(t, err, 401, "invalid_client", "secret")
	token, err := c.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	wantToken(t, token, err, "read write")
}
