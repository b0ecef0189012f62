package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// banner is what a person reads first.
type banner struct {
	s     *server
	lines []string
}

func newBanner(s *server, o *options) *banner {
	b := &banner{s: s}
	where := o.db
	if o.db == memory {
		where = "memory"
	}
	b.line("grantling answers at %s (profile %s, data in %s)", s.issuer(), s.profile.Name, where)
	return b
}

func (b *banner) line(format string, args ...any) {
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
}

func (b *banner) writeTo(w io.Writer) { fmt.Fprintln(w, strings.Join(b.lines, "\n")) }

// newDemo is the client of a first start: a public one or, where the profile
// has no authorization code grant, one with a secret that may use any other.
func newDemo(p *profile) (c *client, secret string) {
	f := &clientFixture{ClientID: "demo", ClientName: "Demo application", RedirectURIs: []string{outOfBand, "http://127.0.0.1/callback"}}
	if slices.Contains(p.Grants, "authorization_code") {
		f.GrantTypes, f.TokenEndpointAuthMethod = []string{"authorization_code", "refresh_token"}, "none"
	} else {
		f.GrantTypes = p.Grants
	}
	return newClient(f, p, nil)
}

// demo tells how to get a token, by the first grant of the profile that the
// client can use. password is alice's and secret the client's; both are empty
// if they were shown before.
func (b *banner) demo(c *client, password, secret string) {
	alice := &visitor{cookie: credential{text: newClientSecret()}, user: &user{Username: "alice"}}
	for _, g := range b.s.profile.grantTypes() {
		if g.Name == "refresh_token" || !b.s.canTry(c, g.Name) {
			continue
		}
		e := b.s.example(alice, g, c, secret)
		b.line("")
		if secret != "" {
			b.line("client demo has the secret %s (shown once)", secret)
		}
		if e.URL != "" {
			b.walk(e, c, password)
			return
		}
		if password != "" {
			b.line("user alice has the password %s (shown once)", password)
		}
		b.line("To get a token, with what was shown in the place of words in capitals:")
		b.line("")
		b.line("   %s", e.Command)
		b.line("")
		return
	}
}

// walk tells how to go through a grant that begins in the browser.
func (b *banner) walk(e example, c *client, password string) {
	if password != "" {
		b.line("1. Open this URL and sign in as alice with the password %s (shown once):", password)
	} else {
		b.line("1. Open this URL and sign in as alice (her password was shown at the first start; without it, begin again with another -db):")
	}
	b.line("")
	b.line("   %s", e.URL)
	b.line("")
	switch {
	case e.Command == "":
		b.line("2. Approve. The token is in the address that the browser goes to, even if nothing answers there.")
	case slices.Contains(c.RedirectURIs, outOfBand):
		b.line("2. Approve, and put the code that you are shown in the place of CODE:")
	default:
		b.line("2. Approve, and put the code from the address that the browser goes to in the place of CODE:")
	}
	b.line("")
	if e.Command != "" {
		b.line("   %s", e.Command)
		b.line("")
	}
}
