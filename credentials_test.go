package main

import (
	"encoding/base64"
	"fmt"
	"math/bits"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
)

// chiSquare measures how far counts are from all being the same.
func chiSquare(counts []int) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	expected := float64(total) / float64(len(counts))
	var sum float64
	for _, n := range counts {
		sum += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	return sum
}

// TestCredentialsAreRandom is RFC 6749 §10.10: the 16 bytes behind the public
// id are random (R120).
func TestCredentialsAreRandom(t *testing.T) {
	t.Parallel()
	t.Run("10.10 R120 tokens and codes", func(t *testing.T) {
		const samples = 1700 // of each of three kinds
		i := start(t, func(s *server) { s.autoApprove = "alice" })
		b := i.browser()
		issued := map[string][]string{}
		for range samples {
			access, refresh := b.post(i.endpoint("token"), passwordOf("legacy", "alice", "wonderland")).wantToken()
			issued["access token"] = append(issued["access token"], access)
			issued["refresh token"] = append(issued["refresh token"], refresh)
			issued["code"] = append(issued["code"], b.authorize(authorization("web")).param("code"))
		}
		seen := make(map[string]bool)
		for kind, credentials := range issued {
			var counts [16][256]int
			for _, credential := range credentials {
				if seen[credential] {
					t.Fatalf("%s %s was issued before", kind, credential)
				}
				seen[credential] = true
				raw, err := base64.RawURLEncoding.DecodeString(credential)
				if err != nil || len(raw) != 32 || len(credential) != 43 {
					t.Fatalf("%s %q is not 32 bytes in base64url", kind, credential)
				}
				for position, value := range raw[16:] {
					counts[position][value]++
				}
			}
			for position := range counts {
				// 255 degrees of freedom: more than 450 comes once in 10^12 runs.
				if x := chiSquare(counts[position][:]); x > 450 {
					t.Errorf("%s: byte %d of the secret is not random: chi-square is %.0f, should be near 255", kind, position, x)
				}
			}
		}
	})
}

// TestClientSecretsAreRandom is RFC 6749 §10.10 for the secrets that the
// server makes (R120).
func TestClientSecretsAreRandom(t *testing.T) {
	t.Parallel()
	t.Run("10.10 R120 client secrets", func(t *testing.T) {
		i := start(t)
		const clients = 20
		f := &fixtures{}
		for n := range clients {
			f.Clients = append(f.Clients, clientFixture{metadata: metadata{ClientID: fmt.Sprintf("client-%d", n)}})
		}
		secrets, err := i.server.applyFixtures(f)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		ones := 0
		for clientID, secret := range secrets {
			if seen[secret] {
				t.Errorf("%s has the secret of another client", clientID)
			}
			seen[secret] = true
			raw, err := base64.RawURLEncoding.DecodeString(secret)
			if err != nil || len(raw) != 32 {
				t.Fatalf("secret %q is not 32 bytes in base64url", secret)
			}
			for _, b := range raw {
				ones += bits.OnesCount8(b)
			}
			for n := range clients {
				other := fmt.Sprintf("client-%d", n)
				r := i.token(url.Values{"grant_type": {"client_credentials"}}, "Authorization", basicHeader(other, secret))
				if other == clientID {
					r.wantToken()
				} else {
					r.wantError(http.StatusUnauthorized, "invalid_client")
				}
			}
		}
		if len(seen) != clients {
			t.Errorf("%d secrets for %d clients", len(seen), clients)
		}
		// 5120 fair bits: the standard deviation is 36.
		if all := clients * 256; ones < all/2-250 || ones > all/2+250 {
			t.Errorf("%d of %d bits are set", ones, all)
		}
	})
}

// misspelt returns near misses of a credential, none of which is it.
func misspelt(credential string) []string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	others := []string{
		strings.ToUpper(credential), strings.ToLower(credential),
		credential + "=", credential + "==", credential + " ", " " + credential, credential + "%20", credential + "%3D", credential + "\t",
		credential + ".", credential + "," + credential, credential + credential, `"` + credential + `"`,
		credential[:42] + "=", "%" + fmt.Sprintf("%02X", credential[0]) + credential[1:],
		credential[:20] + "\n" + credential[20:], credential[:20] + "\r\n" + credential[20:], credential + "\n", credential + "\x00",
	}
	if raw, err := base64.RawURLEncoding.DecodeString(credential); err == nil {
		others = append(others, base64.StdEncoding.EncodeToString(raw), base64.URLEncoding.EncodeToString(raw), string(raw), fmt.Sprintf("%x", raw))
	}
	for n := range credential {
		others = append(others, credential[:n]+credential[n+1:])                                                // cut
		others = append(others, credential[:n]+string(alphabet[(n+7)%len(alphabet)])+credential[n:])            // extended
		others = append(others, credential[:n]+string(swapCase(credential[n]))+credential[n+1:])                // in other case
		others = append(others, credential[:n]+"%"+fmt.Sprintf("%02x", credential[n])+credential[n+1:])         // percent-encoded
		others = append(others, credential[:n]+strings.NewReplacer("-", "+", "_", "/").Replace(credential[n:])) // of the other alphabet
	}
	for _, c := range alphabet {
		others = append(others, credential[:42]+string(c), credential+string(c)) // siblings in the last character
	}
	near := others[:0]
	for _, other := range others {
		if other != credential {
			near = append(near, other)
		}
	}
	return near
}

func swapCase(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return c ^ 0x20
	}
	return c
}

// TestCredentialsAreExact tries every near miss of codes and tokens (R121).
func TestCredentialsAreExact(t *testing.T) {
	t.Parallel()
	i := start(t)
	access, refresh := i.tokens("web")
	code := i.code("web")

	t.Run("10.10 R121 access token", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		b := i.browser()
		for _, other := range misspelt(access) {
			if i.alive(other) {
				t.Errorf("introspection: %q passes", other)
			}
			// HTTP itself strips blanks around a header and refuses control characters in it.
			if strings.ContainsFunc(other, unicode.IsControl) || strings.TrimSpace(other) == access {
				continue
			}
			for _, resource := range []string{"userinfo", "tokeninfo"} {
				if r := b.get(i.endpoint(resource), "Authorization", "Bearer "+other); r.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s: %q: status %d", resource, other, r.StatusCode)
				}
			}
			b.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {other}}))
		}
		i.wantAlive(access)
	})
	t.Run("10.10 R121 refresh token", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, other := range misspelt(refresh) {
			i.refresh("web", other).wantError(http.StatusBadRequest, "invalid_grant")
			if i.alive(other) {
				t.Errorf("introspection: %q passes", other)
			}
			i.post(i.endpoint("revoke"), withClient("web", url.Values{"token": {other}}))
		}
		i.wantAlive(refresh)
		i.refresh("web", refresh).wantToken()
	})
	t.Run("10.10 R121 code", func(t *testing.T) {
		t.Parallel()
		i := i.in(t)
		for _, other := range misspelt(code) {
			i.token(exchangeOf("web", other)).wantError(http.StatusBadRequest, "invalid_grant")
		}
		i.token(exchangeOf("web", code)).wantToken()
	})
}

// TestExpiry is RFC 6749 §4.2.2's and §5.1's expires_in: at that second the
// token is dead everywhere (R122).
func TestExpiry(t *testing.T) {
	t.Parallel()
	t.Run("5.1 R122 a token is dead everywhere at once", func(t *testing.T) {
		i := start(t)
		if lifetime := i.server.profile.AccessTokenLifetime; lifetime <= 0 || lifetime > 3600 {
			t.Errorf("by default access tokens live for %d seconds", lifetime)
		}
		i = start(t, func(s *server) { s.profile.AccessTokenLifetime = 60 })
		answer := i.token(exchangeOf("web", i.code("web")))
		access, refresh := answer.wantToken()
		own, _ := i.token(clientCredentialsOf("web")).wantToken()
		described := i.introspect(access).json
		if answer.json["expires_in"] != 60.0 || described["exp"].(float64)-described["iat"].(float64) != 60 {
			t.Errorf("expires_in is %v, and introspection says %v", answer.json["expires_in"], described)
		}
		use := func(token string) int {
			return i.get(i.endpoint("tokeninfo"), "Authorization", "Bearer "+token).StatusCode
		}
		i.advance(50 * time.Second)
		i.wantAlive(access, own, refresh)
		if use(access) != http.StatusOK || use(own) != http.StatusOK {
			t.Error("a token is dead before it expires")
		}
		i.advance(10 * time.Second)
		if use(access) != http.StatusUnauthorized || use(own) != http.StatusUnauthorized {
			t.Error("an expired token can be used")
		}
		if r := i.get(i.endpoint("userinfo"), "Authorization", "Bearer "+access); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("userinfo: status %d", r.StatusCode)
		}
		i.wantDead(access, own)
		i.wantAlive(refresh)
		i.refresh("web", refresh).wantToken()
	})
}
