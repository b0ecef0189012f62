package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-mastodon"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// startService runs the binary as one of the services, with alice approving
// all that the clients app, public and legacy ask for.
func startService(t *testing.T, profile string) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fixtures.json")
	fixtures := `{
  "users": [{"username": "alice", "password": "wonderland", "name": "Alice Liddell", "email": "alice@example.com"}],
  "clients": [
    {"client_id": "app", "client_secret": "app-secret", "client_name": "App", "owner": "alice",
     "redirect_uris": ["http://127.0.0.1/callback", "urn:ietf:wg:oauth:2.0:oob"]},
    {"client_id": "public", "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/callback"]},
    {"client_id": "legacy", "client_secret": "legacy-secret", "redirect_uris": [], "grant_types": ["password", "refresh_token"]}
  ]
}`
	if err := os.WriteFile(file, []byte(fixtures), 0o600); err != nil {
		t.Fatal(err)
	}
	return startIn(t, t.TempDir(), "-db", ":memory:", "-fixtures", file, "-profile", profile, "-auto-approve", "alice")
}

// redirected opens an authorization URL as a browser does, and returns where it is sent.
func redirected(t *testing.T, authorizationURL string) *url.URL {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(authorizationURL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	location, err := res.Location()
	if err != nil {
		t.Fatalf("%s: status %d: %v", authorizationURL, res.StatusCode, err)
	}
	return location
}

// service is what a client must know of a service.
type service struct {
	profile, authorize, token, user string
	scopes                          []string
	lifetime                        time.Duration // 0: for ever
	refresh, client                 bool          // grants
	says                            string        // in the user's answer
	revoke                          string        // "": the service has none
}

var services = []service{
	{"figshare", "/account/applications/authorize", "/v2/token", "/v2/account", []string{"all"}, time.Hour, true, false, `"first_name":"Alice"`, ""},
	{"mastodon", "/oauth/authorize", "/oauth/token", "/api/v1/accounts/verify_credentials", []string{"read", "write"}, 0, false, true, `"username":"alice"`, "/oauth/revoke"},
	{"trackmania", "/oauth/authorize", "/api/access_token", "/api/user", []string{"clubs"}, time.Hour, true, true, `"displayName":"Alice Liddell"`, ""},
	{"sharesight", "/oauth2/authorize", "/oauth2/token", "/api/v2/my_user.json", nil, 30 * time.Minute, true, true, `"name":"Alice Liddell"`, "/oauth2/revoke"},
}

// wantUser wants alice at the user endpoint.
func (s service) wantUser(t *testing.T, client *http.Client, base string) {
	t.Helper()
	body, err := json.Marshal(getJSON(t, client, base+s.user))
	if err != nil || !strings.Contains(string(body), s.says) {
		t.Errorf("%s: got %s %v, want %s", s.user, body, err, s.says)
	}
}

// wantLifetime wants a bearer token of the service.
func (s service) wantLifetime(t *testing.T, token *oauth2.Token, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	left := time.Until(token.Expiry)
	if s.lifetime == 0 {
		left = 0
	}
	if !token.Valid() || token.Type() != "Bearer" || token.Expiry.IsZero() != (s.lifetime == 0) || left > s.lifetime || left < s.lifetime-time.Minute {
		t.Errorf("type %s, expiry %v; want Bearer and %v", token.Type(), token.Expiry, s.lifetime)
	}
}

// TestServicesOAuth2 is golang.org/x/oauth2 against each service.
func TestServicesOAuth2(t *testing.T) {
	t.Parallel()
	for _, s := range services {
		base := startService(t, s.profile).URL
		for name, style := range map[string]oauth2.AuthStyle{"auto-detect": oauth2.AuthStyleAutoDetect, "in header": oauth2.AuthStyleInHeader, "in params": oauth2.AuthStyleInParams} {
			t.Run(s.profile+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := &oauth2.Config{ClientID: "app", ClientSecret: "app-secret", RedirectURL: "http://127.0.0.1:8080/callback", Scopes: s.scopes,
					Endpoint: oauth2.Endpoint{AuthURL: base + s.authorize, TokenURL: base + s.token, AuthStyle: style}}
				answer := redirected(t, c.AuthCodeURL("xyz")).Query()
				if answer.Get("state") != "xyz" {
					t.Errorf("redirected with %v", answer)
				}
				token, err := c.Exchange(t.Context(), answer.Get("code"))
				s.wantLifetime(t, token, err)
				s.wantUser(t, c.Client(t.Context(), token), base)
				_, err = c.Exchange(t.Context(), answer.Get("code"))
				if err == nil {
					t.Error("a code works twice")
				}
				if s.refresh != (token.RefreshToken != "") {
					t.Errorf("refresh token %q", token.RefreshToken)
				}
				if s.refresh {
					token, err = c.Exchange(t.Context(), redirected(t, c.AuthCodeURL("xyz")).Query().Get("code"))
					s.wantLifetime(t, token, err)
					expired := *token
					expired.Expiry = time.Now().Add(-time.Minute)
					fresh, err := c.TokenSource(t.Context(), &expired).Token()
					s.wantLifetime(t, fresh, err)
					s.wantUser(t, c.Client(t.Context(), fresh), base)
				}
				client := clientcredentials.Config{ClientID: "app", ClientSecret: "app-secret", TokenURL: base + s.token, Scopes: s.scopes, AuthStyle: style}
				token, err = client.Token(t.Context())
				if !s.client {
					wantRefused(t, err, 400, "unsupported_grant_type", "")
				} else if s.wantLifetime(t, token, err); token.RefreshToken != "" {
					t.Error("client credentials gave a refresh token")
				}
			})
		}
	}
	t.Run("figshare/password", func(t *testing.T) {
		t.Parallel()
		s := services[0]
		base := startService(t, s.profile).URL
		c := &oauth2.Config{ClientID: "legacy", ClientSecret: "legacy-secret", Endpoint: oauth2.Endpoint{TokenURL: base + s.token}}
		token, err := c.PasswordCredentialsToken(t.Context(), "alice", "wonderland")
		s.wantLifetime(t, token, err)
		s.wantUser(t, c.Client(t.Context(), token), base)
		_, err = c.PasswordCredentialsToken(t.Context(), "alice", "guess")
		wantRefused(t, err, 400, "invalid_grant", "")
	})
}

// TestGoMastodon is github.com/mattn/go-mastodon, from registering an
// application to revoking a token.
func TestGoMastodon(t *testing.T) {
	t.Parallel()
	base := startService(t, "mastodon").URL
	ctx := t.Context()
	app, err := mastodon.RegisterApp(ctx, &mastodon.AppConfig{Server: base, ClientName: "Go", Scopes: "read write follow", Website: "https://app.example"})
	if err != nil {
		t.Fatal(err)
	}
	client := mastodon.NewClient(&mastodon.Config{Server: base, ClientID: app.ClientID, ClientSecret: app.ClientSecret})
	if err := client.GetAppAccessToken(ctx, app.RedirectURI); err != nil {
		t.Fatal(err)
	}
	if verified, err := client.VerifyAppCredentials(ctx); err != nil || verified.Name != "Go" || verified.Website != "https://app.example" {
		t.Errorf("the app is %v %v", verified, err)
	}
	if _, err := client.GetAccountCurrentUser(ctx); err == nil || !strings.Contains(err.Error(), "This method requires an authenticated user") {
		t.Errorf("the app's token: %v", err)
	}
	code := redirected(t, app.AuthURI)
	if code.Path != "/oauth/authorize/native" {
		t.Errorf("redirected to %s", code)
	}
	if err := client.GetUserAccessToken(ctx, code.Query().Get("code"), app.RedirectURI); err != nil {
		t.Fatal(err)
	}
	if account, err := client.GetAccountCurrentUser(ctx); err != nil || account.Username != "alice" || account.DisplayName != "Alice Liddell" {
		t.Errorf("the account is %v %v", account, err)
	}
	if instance, err := client.GetInstance(ctx); err != nil || instance.Title != "Mastodon" {
		t.Errorf("the instance is %v %v", instance, err)
	}
	token := client.Config.AccessToken
	if err := client.RevokeToken(ctx); err != nil {
		t.Fatal(err)
	}
	client.Config.AccessToken = token
	if _, err := client.GetAccountCurrentUser(ctx); err == nil || !strings.Contains(err.Error(), "The access token was revoked") {
		t.Errorf("after revoking: %v", err)
	}
	if err := client.GetUserAccessToken(ctx, "another", app.RedirectURI); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("another code: %v", err)
	}
}

// node runs a script, which fails if anything is not as it wants.
func node(t *testing.T, script string, args ...string) {
	t.Helper()
	needPackages(t)
	if output, err := exec.CommandContext(t.Context(), "node", append([]string{script}, args...)...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", script, err, output)
	}
}

// TestMasto is masto of npm.
func TestMasto(t *testing.T) {
	t.Parallel()
	node(t, "masto.mjs", startService(t, "mastodon").URL)
}

// TestMegalodon is megalodon of npm, which first asks what software a server runs.
func TestMegalodon(t *testing.T) {
	t.Parallel()
	node(t, "megalodon.mjs", startService(t, "mastodon").URL)
}

// TestSimpleOAuth2 is simple-oauth2 of npm, with each kind of body that the service takes.
func TestSimpleOAuth2(t *testing.T) {
	t.Parallel()
	own := service{"rfc6749", "/oauth/authorize", "/oauth/token", "/userinfo", []string{"read"}, time.Hour, true, true, `"sub":"alice"`, "/oauth/revoke"}
	for _, s := range append(slices.Clone(services), own) {
		base := startService(t, s.profile).URL
		for _, format := range []string{"form", "json"} {
			if format == "json" && (s.profile == "trackmania" || s.profile == "rfc6749") {
				continue // they take forms only
			}
			for _, method := range []string{"header", "body"} {
				t.Run(s.profile+"/"+format+"/"+method, func(t *testing.T) {
					t.Parallel()
					node(t, "simple-oauth2.mjs", base, s.authorize, s.token, s.user, strings.Join(s.scopes, " "), format, method,
						strconv.FormatBool(s.refresh), strconv.FormatBool(s.client), s.says, s.revoke)
				})
			}
		}
	}
}

// shell runs a curl command as a service's page gives it. Variables stand
// where the page has words to be replaced. It returns the JSON of the answer.
func (s *server) shell(t *testing.T, status int, command string, variables map[string]string) map[string]any {
	t.Helper()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte("silent\nshow-error\nwrite-out = \"\\n%{http_code}\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Env = append(os.Environ(), "CURL_HOME="+home, "HOME="+home, "BASE="+s.URL)
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	output, err := cmd.CombinedOutput()
	body, code, _ := strings.Cut(strings.TrimSpace(string(output)), "\n\n")
	var answer map[string]any
	if err != nil || code != strconv.Itoa(status) || json.Unmarshal([]byte(body), &answer) != nil {
		t.Fatalf("%s: %v\n%s\nwant status %d", command, err, output, status)
	}
	return answer
}

func text(answer map[string]any, name string) string {
	value, _ := answer[name].(string)
	return value
}

// TestMastodonCurl goes through the commands of Mastodon's pages.
func TestMastodonCurl(t *testing.T) {
	t.Parallel()
	s := startService(t, "mastodon")
	app := s.shell(t, 200, `curl -X POST \
	-F 'client_name=Test Application' \
	-F 'redirect_uris=urn:ietf:wg:oauth:2.0:oob' \
	-F 'scopes=read write push' \
	-F 'website=https://myapp.example' \
	$BASE/api/v1/apps`, nil)
	v := map[string]string{"client_id": text(app, "client_id"), "client_secret": text(app, "client_secret")}
	if app["name"] != "Test Application" || app["website"] != "https://myapp.example" || app["redirect_uri"] != "urn:ietf:wg:oauth:2.0:oob" {
		t.Errorf("registered %v", app)
	}
	v["token"] = text(s.shell(t, 200, `curl -X POST \
	-F "client_id=$client_id" \
	-F "client_secret=$client_secret" \
	-F 'redirect_uri=urn:ietf:wg:oauth:2.0:oob' \
	-F 'grant_type=client_credentials' \
	$BASE/oauth/token`, v), "access_token")
	if verified := s.shell(t, 200, `curl \
	-H "Authorization: Bearer $token" \
	$BASE/api/v1/apps/verify_credentials`, v); verified["name"] != "Test Application" {
		t.Errorf("verified %v", verified)
	}
	v["code"] = redirected(t, s.URL+"/oauth/authorize?client_id="+v["client_id"]+"&scope=read+write+push&redirect_uri=urn:ietf:wg:oauth:2.0:oob&response_type=code").Query().Get("code")
	user := s.shell(t, 200, `curl -X POST \
	-F "client_id=$client_id" \
	-F "client_secret=$client_secret" \
	-F 'redirect_uri=urn:ietf:wg:oauth:2.0:oob' \
	-F 'grant_type=authorization_code' \
	-F "code=$code" \
	-F 'scope=read write push' \
	$BASE/oauth/token`, v)
	v["token"] = text(user, "access_token")
	if user["token_type"] != "Bearer" || user["scope"] != "read write push" || len(user) != 4 {
		t.Errorf("token answer %v", user)
	}
	const verify = `curl \
	-H "Authorization: Bearer $token" \
	$BASE/api/v1/accounts/verify_credentials`
	if account := s.shell(t, 200, verify, v); account["username"] != "alice" {
		t.Errorf("account %v", account)
	}
	s.shell(t, 200, `curl -X POST \
	-F "client_id=$client_id" \
	-F "client_secret=$client_secret" \
	-F "token=$token" \
	$BASE/oauth/revoke`, v)
	s.shell(t, 401, verify, v)
}

// TestBothWaysCurl is what a client sends that authenticates in the header and
// in the body at once, and one that still has an old token in the header.
func TestBothWaysCurl(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ profile, authorize, command string }{
		{"figshare", "/account/applications/authorize", `curl -u "$client_id:$client_secret" -d grant_type=authorization_code -d client_id="$client_id" -d client_secret="$client_secret" \
	-d code="$code" -d redirect_uri="$redirect_uri" $BASE/v2/token`},
		{"trackmania", "/oauth/authorize", `curl -H "Authorization: Bearer OLD" -d grant_type=authorization_code -d client_id="$client_id" -d client_secret="$client_secret" \
	-d code="$code" -d redirect_uri="$redirect_uri" $BASE/api/access_token`},
	} {
		s := startService(t, c.profile)
		v := map[string]string{"client_id": "app", "client_secret": "app-secret", "redirect_uri": "http://127.0.0.1/callback"}
		v["code"] = redirected(t, s.URL+c.authorize+"?response_type=code&client_id=app&state=xyz&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback").Query().Get("code")
		if answer := s.shell(t, 200, c.command, v); text(answer, "access_token") == "" || text(answer, "token_type") != "bearer" {
			t.Errorf("%s: %v", c.profile, answer)
		}
	}
}

// TestSharesightCurl goes through the commands of Sharesight's page.
func TestSharesightCurl(t *testing.T) {
	t.Parallel()
	s := startService(t, "sharesight")
	v := map[string]string{"client_id": "app", "client_secret": "app-secret", "redirect_uri": "http://127.0.0.1/callback"}
	wantAnswer := func(answer map[string]any, members int) {
		t.Helper()
		if answer["token_type"] != "bearer" || answer["expires_in"] != 1800.0 || answer["created_at"] == nil || len(answer) != members {
			t.Errorf("token answer %v", answer)
		}
		v["token"], v["refresh_token"] = text(answer, "access_token"), text(answer, "refresh_token")
		if user, _ := s.shell(t, 200, `curl -H "Authorization: Bearer $token" $BASE/api/v2/my_user.json`, v)["user"].(map[string]any); user["name"] != "Alice Liddell" {
			t.Errorf("user %v", user)
		}
	}
	v["code"] = redirected(t, s.URL+"/oauth2/authorize?response_type=code&client_id=app&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback").Query().Get("code")
	wantAnswer(s.shell(t, 200, `curl -F grant_type=authorization_code -F client_id="$client_id" -F client_secret="$client_secret" -F code="$code" -F redirect_uri="$redirect_uri" -X POST $BASE/oauth2/token`, v), 5)
	wantAnswer(s.shell(t, 200, `curl -F grant_type=refresh_token -F client_id="$client_id" -F client_secret="$client_secret" -F refresh_token="$refresh_token" -X POST $BASE/oauth2/token`, v), 5)
	wantAnswer(s.shell(t, 200, `curl -F grant_type=client_credentials -F client_id="$client_id" -F client_secret="$client_secret" -X POST $BASE/oauth2/token`, v), 4)

	// An application that is not confidential: neither secret nor verifier.
	v["client_id"] = "public"
	v["code"] = redirected(t, s.URL+"/oauth2/authorize?response_type=code&client_id=public&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback").Query().Get("code")
	wantAnswer(s.shell(t, 200, `curl -F grant_type=authorization_code -F client_id="$client_id" -F code="$code" -F redirect_uri="$redirect_uri" -X POST $BASE/oauth2/token`, v), 5)
}
