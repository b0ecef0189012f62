package client

import (
	"net/url"
	"testing"

	"github.com/grantling/grantling/grantlingtest"
)

// TestLostAnswer: the answer to a refresh gets lost. The profile grace.json gives a
// client that asks again the same refresh token.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	srv := grantlingtest.Start(t, grantlingtest.Options{Args: []string{"-fixtures", "../fixtures.json", "-profile", "../grace.json"}})
	refresh := func(refreshToken string) (grantlingtest.Token, error) {
		return token(srv.Endpoint("token"), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}})
	}
	first := srv.Token("web", "alice", "")
	srv.Fail(grantlingtest.Fault{Name: "lost_answer"})
	if _, err := refresh(first.RefreshToken); err == nil {
		t.Fatal("the answer is there")
	}
	second, err := refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := refresh(second.RefreshToken); err != nil {
		t.Fatal(err)
	}
	if _, err := refresh(first.RefreshToken); err == nil { // now somebody else must have it
		t.Error("an old refresh token still works")
	}
}
