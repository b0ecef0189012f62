package grantlingtest_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/grantling/grantling/grantlingtest"
)

// The server that TestMain starts. In a test it is srv.In(t).
var srv grantlingtest.Server

func TestMain(m *testing.M) {
	os.Exit(grantlingtest.Run(m, &srv, grantlingtest.Options{
		Users:   []grantlingtest.User{{Username: "alice", Password: "wonderland"}},
		Clients: []grantlingtest.Client{{ClientID: "web", ClientSecret: "web-secret", RedirectURIs: []string{"https://web.example/callback"}}},
	}))
}

func Example() {
	// The client sends the browser here, and alice allows it.
	authorization := url.Values{"response_type": {"code"}, "client_id": {"web"}, "state": {"xyz"}}
	callback, _ := url.Parse(srv.Approve(srv.Endpoint("authorize")+"?"+authorization.Encode(), "alice"))
	fmt.Println(callback.Host, callback.Query().Get("state"))

	// The client redeems the code too late: it lives ten minutes.
	srv.Advance(11 * time.Minute)
	response, _ := http.PostForm(srv.Endpoint("token"), url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")},
		"client_id": {"web"}, "client_secret": {"web-secret"},
	})
	response.Body.Close()

	last := srv.WaitRequest(grantlingtest.Filter{Endpoint: "token"})
	fmt.Println(last.Status, last.Error, last.Section)
	// Output:
	// web.example xyz
	// 400 invalid_grant RFC 6749 §4.1.2
}
