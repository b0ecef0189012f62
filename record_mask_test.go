package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// credentialsIn are the parts of a text that can be a credential: in base64url or
// hex, or a JSON Web Token.
func credentialsIn(text string) (found []string) {
	isOther := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r))
	}
	for field := range strings.FieldsFuncSeq(text, isOther) {
		if strings.HasPrefix(field, "eyJ") {
			found = append(found, strings.TrimRight(field, "."))
		}
		for part := range strings.SplitSeq(field, ".") {
			if len(part) == 43 || len(part) == 64 {
				found = append(found, part)
			}
		}
	}
	return found
}

// knownSecrets are the secrets of the fixtures, and what they may look like.
var knownSecrets = sync.OnceValue(func() map[string][]string {
	known := make(map[string][]string)
	for _, secret := range []string{"wonderland", "builder", "web-secret", "other-secret", "legacy-secret", "rs-secret", verifier} {
		known[secret] = formsOf(secret)
	}
	return known
})

// secretsOf are the secrets that an exchange had, as far as they can be known, and
// what they may look like.
func secretsOf(p *profile, x *exchange) map[string][]string {
	secrets := maps.Clone(knownSecrets())
	said := []string{x.text, x.query.text, string(x.answer), x.Path}
	for _, values := range x.header {
		said = append(said, values...)
	}
	for _, text := range said {
		for _, found := range credentialsIn(text) {
			if secrets[found] != nil {
				continue
			}
			id := p.findID(found)
			if c, ok := cookieFormat.parse(found); ok && id == uuid.Nil {
				id = c.id
			}
			if isRecent(id) {
				secrets[found] = formsOf(found)
			}
		}
	}
	return secrets
}

// saysOpenly reports whether a request has a secret where none belongs. The server
// cannot know that it is one.
func saysOpenly(x *exchange, secret string) bool {
	for _, form := range []url.Values{x.form, x.query.values, parseQuery(x.form.Get("request")).values, url.Values(x.header)} {
		for name, values := range form {
			isForSecrets := strings.Contains(name, "secret") || name == "password" || name == "code_verifier" || name == "Authorization"
			for _, value := range values {
				if !isForSecrets && strings.Contains(value, secret) {
					return true
				}
			}
		}
	}
	return false
}

// formsOf are a secret raw, encoded and cut.
func formsOf(secret string) []string {
	forms := []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))}
	for _, client := range []string{"web", "other", "legacy", "rs"} {
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(client+":"+secret)))
	}
	if len(secret) >= 43 {
		forms = append(forms, secret[len(secret)/2:], secret[22:], secret[:23])
	}
	return forms
}

// text is all that is kept of a request.
func (l *loggedRequest) text() string {
	said, _ := json.Marshal(l)
	return fmt.Sprintf("%s %+v %+v %+v %s %v %v", said, l.request, l.answer, l.unsent, l.staged, l.presented, l.given)
}

// wantNoSecrets wants nothing secret in what is recorded of an exchange.
func (o observed) wantNoSecrets(x *exchange) {
	q := &x.era.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.kept) == 0 {
		return
	}
	told := q.kept[len(q.kept)-1].text()
	for secret, forms := range secretsOf(o.profile, x) {
		for _, form := range forms {
			openly := func() bool {
				return saysOpenly(x, form) || knownSecrets()[secret] != nil && saysOpenly(x, secret)
			}
			if strings.Contains(told, form) && !openly() {
				o.Errorf("the record of %s %s has %q of %q: %s", x.Method, x.Path, form, secret, told)
				return
			}
		}
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	c := format{Encoding: "base64url"}.newCredential(nil)
	hexed := format{Encoding: "hex"}.newCredential(nil)
	id, hexID := c.id.String(), hexed.id.String()
	for text, want := range map[string]string{
		c.text:                    id + "…",
		"x" + c.text + "y":        "x" + id + "…",
		"a=" + c.text + "&b":      "a=" + id + "…&b",
		c.text + " " + hexed.text: id + "… " + hexID + "…",
		c.text[:30]:               id + "…",
		c.text[:21]:               c.text[:21],
		hexed.text[:40]:           hexID + "…",
		hexed.text[:32]:           hexed.text[:32],
		id:                        id,
		challengeOf(verifier):     challengeOf(verifier),
		"A0":                      "A0",
		strings.Repeat("A", 100):  strings.Repeat("A", 100),
		strings.Repeat("0", 100):  strings.Repeat("0", 100),
		"t=eyJhbGciOiJSUzI1NiJ9." + strings.Repeat("x", 40) + ".sig!": "t=…!",
	} {
		if got := scrub(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}
