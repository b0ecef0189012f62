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

// token asks the token endpoint, as a small client does, and once more when
// that is busy.
func token(base string, form url.Values) (answer grantlingtest.Token, err error) {
	for range 2 {
		request, _ := http.NewRequest("POST", base+"/oauth/token", strings.NewReader(form.Encode()))
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

func TestClient(t *testing.T) {
	fixtures, _ := os.ReadFile("../fixtures.json")
	srv := grantlingtest.Start(t, grantlingtest.Options{Fixtures: string(fixtures)})

	state, verifier := rand.Text(), rand.Text()+rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	callback, _ := url.Parse(srv.Approve(srv.URL+"/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {"web"}, "state": {state}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}.Encode(), "alice"))
	if callback.Query().Get("state") != state {
		t.Fatalf("another state in %s", callback)
	}
	first, err := token(srv.URL, url.Values{"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}, "code_verifier": {verifier}})
	if err != nil {
		t.Fatal(err)
	}

	srv.Advance(2 * time.Hour) // the access token expires
	srv.Fail(grantlingtest.Fault{Endpoint: "token", Status: 503})
	if _, err := token(srv.URL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}}); err != nil {
		t.Fatal(err)
	}

	requests := srv.Requests(grantlingtest.Filter{})
	if len(requests) != 4 || requests[2].Status != 503 || requests[3].Status != 200 || requests[3].Flow != requests[0].Flow {
		t.Errorf("the server saw %+v", requests)
	}
	for _, request := range requests {
		if len(request.Warnings) > 0 {
			t.Errorf("%s: %v", request.Endpoint, request.Warnings)
		}
	}
}
