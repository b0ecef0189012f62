// Package client shows how to test an OAuth client in Go: go test ./examples/go
package client

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grantling/grantling/grantlingtest"
)

// server runs for all tests of the package.
var server grantlingtest.Server

func TestMain(m *testing.M) {
	os.Exit(grantlingtest.Run(m, &server, grantlingtest.Options{Args: []string{"-fixtures", "../fixtures.json"}}))
}

// token is the client under test. It sends a form to the token endpoint, and
// tries once more if that is busy.
func token(endpoint string, form url.Values) (answer grantlingtest.Token, err error) {
	for range 2 {
		request, _ := http.NewRequest("POST", endpoint, strings.NewReader(form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth("web", "web-secret")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return answer, err
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return answer, json.NewDecoder(response.Body).Decode(&answer)
		} else if response.StatusCode != http.StatusServiceUnavailable {
			return answer, fmt.Errorf("the token endpoint says %s", response.Status)
		}
	}
	return answer, fmt.Errorf("the token endpoint is busy")
}

func TestSignIn(t *testing.T) {
	srv := server.In(t)
	t.Cleanup(srv.Reset)
	state, verifier := rand.Text(), rand.Text()+rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	callback, _ := url.Parse(srv.Approve(srv.Endpoint("authorize")+"?"+url.Values{
		"response_type": {"code"}, "client_id": {"web"}, "state": {state}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}.Encode(), "alice"))
	if callback.Query().Get("state") != state {
		t.Fatalf("another state in %s", callback)
	}
	if _, err := token(srv.Endpoint("token"), url.Values{"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}, "code_verifier": {verifier}}); err != nil {
		t.Fatal(err)
	}

	requests := srv.Requests(grantlingtest.Filter{})
	if len(requests) != 2 || requests[1].Flow != requests[0].Flow {
		t.Errorf("the server saw %+v", requests)
	}
	for _, request := range requests {
		if len(request.Warnings) > 0 {
			t.Errorf("%s: %v", request.Endpoint, request.Warnings)
		}
	}
}

func TestRefresh(t *testing.T) {
	srv := server.In(t)
	t.Cleanup(srv.Reset)
	first := srv.Token("web", "alice", "")
	srv.Advance(2 * time.Hour) // the access token expires
	srv.Fail(grantlingtest.Fault{Endpoint: "token", Status: 503})
	second, err := token(srv.Endpoint("token"), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}})
	if err != nil || second.AccessToken == first.AccessToken {
		t.Fatalf("%+v after %+v: %v", second, first, err)
	}

	requests := srv.Requests(grantlingtest.Filter{Endpoint: "token"})
	if len(requests) != 2 || requests[0].Status != 503 || requests[1].Status != 200 {
		t.Errorf("the server saw %+v", requests)
	}
}
