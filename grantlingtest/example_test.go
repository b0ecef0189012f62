package grantlingtest_test

import (
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

// The server that TestMain starts. In a test it is srv.In(t).
var srv grantlingtest.Server

func TestMain(m *testing.M) {
	os.Exit(grantlingtest.Run(m, &srv, grantlingtest.Options{
		Users:   []grantlingtest.User{{Username: "alice", Password: "wonderland"}},
		Clients: []grantlingtest.Client{{ClientID: "web", ClientSecret: "web-secret", RedirectURIs: []string{"https://web.example/callback"}}},
	}))
}

// The client under test sends a form as web, and gets JSON.
func send(endpoint string, form url.Values) map[string]any {
	form.Set("client_id", "web")
	form.Set("client_secret", "web-secret")
	return decode(http.PostForm(srv.Endpoint(endpoint), form))
}

func decode(response *http.Response, err error) (answer map[string]any) {
	if err == nil {
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(&answer)
	}
	if err != nil {
		panic(err)
	}
	return answer
}

func Example() {
	// The client sends the browser here, and alice allows it.
	authorization := url.Values{"response_type": {"code"}, "client_id": {"web"}, "state": {"xyz"}}
	callback, _ := url.Parse(srv.Approve(srv.Endpoint("authorize")+"?"+authorization.Encode(), "alice"))
	fmt.Println(callback.Host, callback.Query().Get("state"))

	// The client redeems the code too late: it lives ten minutes.
	srv.Advance(11 * time.Minute)
	send("token", url.Values{"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}})

	last := srv.WaitRequest(grantlingtest.Filter{Endpoint: "token"})
	fmt.Println(last.Status, last.Error, last.Section)
	// Output:
	// web.example xyz
	// 400 invalid_grant RFC 6749 §4.1.2
}

// A device without a browser shows a code to its user, and polls (RFC 8628).
func ExampleServer_ApproveDevice() {
	device := send("device_authorization", url.Values{"scope": {"play"}})
	poll := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device["device_code"].(string)}}
	fmt.Println(send("token", poll)["error"])

	srv.ApproveDevice(device["user_code"].(string), "alice")
	srv.Advance(5 * time.Second) // the interval
	fmt.Println(send("token", poll)["scope"])
	// Output:
	// authorization_pending
	// play
}

// A client registers itself (RFC 7591).
func Example_registration() {
	client := decode(http.Post(srv.Endpoint("registration"), "application/json", strings.NewReader(
		`{"client_name": "New", "redirect_uris": ["https://new.example/callback"], "grant_types": ["authorization_code", "refresh_token"]}`)))
	fmt.Println(client["token_endpoint_auth_method"], client["grant_types"])

	authorization := url.Values{"response_type": {"code"}, "client_id": {client["client_id"].(string)}}
	callback, _ := url.Parse(srv.Approve(srv.Endpoint("authorize")+"?"+authorization.Encode(), "alice"))
	fmt.Println(callback.Host, callback.Query().Has("code"))
	// Output:
	// client_secret_basic [authorization_code refresh_token]
	// new.example true
}

// A client_id is the URL of a document about the client. The test gives the
// document, so nothing is fetched.
func Example_clientDocument() {
	const id = "https://app.example/client.json"
	srv.Control("POST", "client-documents", map[string]any{"url": id, "document": map[string]any{
		"client_id": id, "client_name": "App", "redirect_uris": []string{"https://app.example/callback"}, "token_endpoint_auth_method": "none",
	}}, nil)

	authorization := url.Values{"response_type": {"code"}, "client_id": {id}, "redirect_uri": {"https://app.example/callback"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	callback, _ := url.Parse(srv.Approve(srv.Endpoint("authorize")+"?"+authorization.Encode(), "alice"))
	token := decode(http.PostForm(srv.Endpoint("token"), url.Values{"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")},
		"client_id": {id}, "redirect_uri": {"https://app.example/callback"}, "code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}}))
	fmt.Println(token["token_type"])
	// Output:
	// Bearer
}

// A client says which API its token is for (RFC 8707), and the API reads it in aud.
func Example_resource() {
	token := send("token", url.Values{"grant_type": {"client_credentials"}, "resource": {"https://api.example/"}})
	fmt.Println(send("introspect", url.Values{"token": {token["access_token"].(string)}})["aud"])
	// Output:
	// https://api.example/
}

// With response_mode=form_post the browser sends the client a form. The test has
// no browser, and sends it itself.
func Example_formPost() {
	var browser struct {
		RedirectTo string `json:"redirect_to"`
		Form       map[string]string
	}
	authorization := url.Values{"response_type": {"code"}, "client_id": {"web"}, "state": {"xyz"}, "response_mode": {"form_post"}}
	srv.Control("POST", "authorize", map[string]string{
		"url": srv.Endpoint("authorize") + "?" + authorization.Encode(), "username": "alice", "decision": "approve",
	}, &browser)
	fmt.Println(browser.RedirectTo, browser.Form["state"], browser.Form["code"] != "")
	// Output:
	// https://web.example/callback xyz true
}
