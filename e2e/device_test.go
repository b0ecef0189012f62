package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// TestDeviceAuth: golang.org/x/oauth2 gets its token as a device, while a person
// approves in Chromium.
func TestDeviceAuth(t *testing.T) {
	t.Parallel()
	s := start(t, "-control")
	c := s.native()
	c.Endpoint.DeviceAuthURL = s.URL + "/oauth/device_authorization"
	ask := func(t *testing.T) *oauth2.DeviceAuthResponse {
		t.Helper()
		d, err := c.DeviceAuth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(d.Expiry); d.Interval != 5 || left < 29*time.Minute || left > 30*time.Minute || d.VerificationURI != s.URL+"/device" {
			t.Errorf("%+v", d)
		}
		return d
	}
	t.Run("R219 in a browser", func(t *testing.T) {
		t.Parallel()
		d, b := ask(t), newTab(t)
		type answer struct {
			*oauth2.Token
			error
		}
		got := make(chan answer, 1)
		go func() {
			token, err := c.DeviceAccessToken(t.Context(), d)
			got <- answer{token, err}
		}()
		b.open(d.VerificationURI)
		b.signIn("alice", "wonderland")
		b.look("device")
		b.fill("input[name=user_code]", strings.ToLower(strings.ReplaceAll(d.UserCode, "-", "")))
		if status := b.click("main form button"); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
		b.wantText("#user-code", d.UserCode)
		b.look("device-consent")
		b.click("button[value=approve]")
		b.wantText("h1", "Device connected")
		b.look("device-connected")
		a := <-got
		wantToken(t, a.Token, a.error, "read write")
	})
	t.Run("R220 denied by the control API", func(t *testing.T) {
		t.Parallel()
		d := ask(t)
		d.Interval = 1 // the first poll is soon
		s.control(t, "POST", "device", `{"user_code":"`+d.UserCode+`","username":"alice","decision":"deny"}`)
		_, err := c.DeviceAccessToken(t.Context(), d)
		if refused := new(oauth2.RetrieveError); !errors.As(err, &refused) || refused.ErrorCode != "access_denied" {
			t.Errorf("%v", err)
		}
	})
}
