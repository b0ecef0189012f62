package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestJose is jose of npm, which verifies signed access tokens by the keys that the
// server lists.
func TestJose(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "ES256"} {
		t.Run("R217 R218 "+alg, func(t *testing.T) {
			t.Parallel()
			profile := filepath.Join(t.TempDir(), "signed.json")
			members := `{"extends": "rfc6749", "access_token_format": {"encoding": "jwt", "alg": "` + alg + `"}}`
			if err := os.WriteFile(profile, []byte(members), 0o600); err != nil {
				t.Fatal(err)
			}
			node(t, "jose.mjs", start(t, "-profile", profile, "-control").URL, alg)
		})
	}
}
