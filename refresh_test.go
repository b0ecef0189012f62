package main

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRefreshByProfile: what a refresh does to the refresh token.
func TestRefreshByProfile(t *testing.T) {
	t.Parallel()
	const grace = `"refresh_token_grace": 30`
	t.Run("R223 a lost answer repeated within the grace", func(t *testing.T) {
		t.Parallel()
		for _, clientID := range []string{"web", "native"} {
			i := startExtended(t, grace)
			access1, refresh1 := i.tokens(clientID)
			access2, refresh2 := i.refresh(clientID, refresh1).wantToken()
			i.advance(25 * time.Second)
			access3, again := i.refresh(clientID, refresh1).wantToken()
			if again != refresh2 || refresh2 == refresh1 || access3 == access2 {
				t.Errorf("%s: the refresh tokens are %s, %s and %s, want the second again, with a new access token", clientID, refresh1, refresh2, again)
			}
			i.wantAlive(access1, access2, access3, refresh2)
			i.refresh(clientID, refresh2).wantToken()
		}
	})
	t.Run("R223 reuse after the grace ends the family", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace)
		access1, refresh1 := i.tokens("web")
		access2, refresh2 := i.refresh("web", refresh1).wantToken()
		i.advance(31 * time.Second)
		i.refresh("web", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(access1, access2, refresh1, refresh2)
	})
	t.Run("R223 reuse within the grace, after the next was used", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace)
		_, refresh1 := i.tokens("web")
		_, refresh2 := i.refresh("web", refresh1).wantToken()
		access3, refresh3 := i.refresh("web", refresh2).wantToken()
		i.refresh("web", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(access3, refresh2, refresh3)
	})
	t.Run("R223 a damaged record is no theft", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace)
		access1, refresh1 := i.tokens("web")
		_, refresh2 := i.refresh("web", refresh1).wantToken()
		next, _ := i.server.profile.RefreshTokenFormat.parse(refresh2)
		i.mustUpdate(func(t *tx) error { t.damage(bucketRefresh, next.id[:], "{"); return nil })
		i.failing("token", refreshOf("web", refresh1)).wantError(http.StatusServiceUnavailable, "temporarily_unavailable")
		i.wantAlive(access1)
	})
	t.Run("R223 a refusal within the grace changes nothing", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace)
		_, refresh1 := i.tokens("web")
		_, refresh2 := i.refresh("web", refresh1).wantToken()
		i.refresh("web", refresh1, "scope", "read admin").wantError(http.StatusBadRequest, "invalid_scope")
		i.refresh("other", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
		if _, again := i.refresh("web", refresh1).wantToken(); again != refresh2 {
			t.Errorf("got %s, want %s", again, refresh2)
		}
	})
	t.Run("R223 many at once get one family", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace)
		_, refresh1 := i.tokens("web")
		answers := make([]string, 32)
		var all sync.WaitGroup
		for n := range answers {
			all.Go(func() { answers[n], _ = i.refresh("web", refresh1).json["refresh_token"].(string) })
		}
		all.Wait()
		for _, answer := range answers {
			if answer == "" || answer != answers[0] {
				t.Errorf("got %q, want the same refresh token for all", answers)
				break
			}
		}
		i.wantAlive(answers[0])
	})
	t.Run("R223 the access token issued last ends, where a refresh ends one", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace+`, "refresh_ends_access_token": true`)
		access1, refresh1 := i.tokens("web")
		access2, _ := i.refresh("web", refresh1).wantToken()
		access3, refresh2 := i.refresh("web", refresh1).wantToken()
		i.wantDead(access1, access2)
		i.wantAlive(access3)
		access4, _ := i.refresh("web", refresh2).wantToken()
		i.wantDead(access3)
		i.wantAlive(access4)
	})
	t.Run("R223 the file does not have the token after", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, grace)
		_, refresh1 := i.tokens("web")
		_, refresh2 := i.refresh("web", refresh1).wantToken()
		for key, value := range dump(t, i.server.store) {
			if strings.Contains(value, refresh1) || strings.Contains(value, refresh2) {
				t.Errorf("%s: %s", key, value)
			}
		}
	})
	const keep = `"refresh_token_use": "keep"`
	t.Run("R223 keep", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, keep)
		access1, refresh1 := i.tokens("web")
		for range 3 {
			i.advance(20 * 24 * time.Hour) // each use prolongs it
			access, again := i.refresh("web", refresh1).wantToken()
			if again != refresh1 {
				t.Errorf("got %s, want %s again", again, refresh1)
			}
			i.wantAlive(access, refresh1)
		}
		i.wantDead(access1)
		i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {refresh1}}))
		i.refresh("web", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("R223 keep ends with the token and with the grant", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, keep+`, "refresh_token_lifetime": 100, "grant_lifetime": 150`)
		_, refresh1 := i.tokens("web")
		i.advance(90 * time.Second)
		i.refresh("web", refresh1).wantToken()
		i.advance(61 * time.Second)
		i.refresh("web", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("R223 keep is not for public clients", func(t *testing.T) {
		t.Parallel()
		i := startExtended(t, keep)
		_, refresh1 := i.tokens("native")
		access2, refresh2 := i.refresh("native", refresh1).wantToken()
		if refresh2 == refresh1 {
			t.Error("the refresh token is the same again")
		}
		i.refresh("native", refresh1).wantError(http.StatusBadRequest, "invalid_grant")
		i.wantDead(access2, refresh2)
	})
	t.Run("R223 errors of a profile", func(t *testing.T) {
		t.Parallel()
		for members, want := range map[string]string{
			`"refresh_token_use": "once"`: `own.json:1: refresh_token_use: "once" is unknown; expected one of rotate, keep`,
			`"refresh_token_grace": 3601`: `own.json:1: refresh_token_grace: must be 0 to 3600`,
			keep + `, ` + grace:           `own.json:1: refresh_token_grace: has no meaning with refresh_token_use keep`,
		} {
			_, err := parseProfile("own.json", []byte(`{"extends": "rfc6749", `+members+`}`))
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	})
}
