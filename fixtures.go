package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fixtures are the users and clients of a file.
type fixtures struct {
	Users   []userFixture   `json:"users"`
	Clients []clientFixture `json:"clients"`
	// ClientDocuments are answered instead of fetching them, by URL.
	ClientDocuments map[string]json.RawMessage `json:"client_documents"`
}

// userFixture is a user in a file, and in the control API.
type userFixture struct {
	Username string `json:"username" required:"true" text:"255"`
	Password string `json:"password,omitempty" required:"true"`
	Name     string `json:"name" text:"255"`
	Email    string `json:"email" text:"255"`
}

// clientFixture is a client in a file, and in the control API.
type clientFixture struct {
	metadata
	ClientSecret            string `json:"client_secret,omitempty" text:"1024"`
	TokenEndpointAuthMethod string `json:"token_endpoint_auth_method,omitempty" one:"none client_secret_basic client_secret_post"`

	place func(memberError) error // adds file and line; nil: it comes from no file
}

// loadFixtures reads and checks a file. Errors name file, line and key.
func loadFixtures(file string, p *profile) (*fixtures, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("fixtures: %w", err)
	}
	f := new(fixtures)
	d, err := parseDocument(file, data, f)
	if err != nil {
		return nil, err
	}
	var all memberErrors
	seen := make(map[string]bool)
	for i, u := range f.Users {
		at := index("users", i)
		all.addBelow(at, u.problems())
		all.add(seen["user "+u.Username], at+".username", "occurs twice")
		seen["user "+u.Username] = true
	}
	for i, c := range f.Clients {
		at := index("clients", i)
		all.addBelow(at, c.problems(p))
		all.add(seen["client "+c.ClientID], at+".client_id", "occurs twice")
		seen["client "+c.ClientID] = true
		f.Clients[i].place = func(m memberError) error { return d.problem(below(at, m.member), m.error) }
	}
	all = append(all, checkGiven(f.ClientDocuments)...)
	return f, d.first(all)
}

// problems returns all that is wrong with a user.
func (u *userFixture) problems() memberErrors {
	all := tagProblems(u)
	all.add(strings.TrimSpace(u.Username) != u.Username, "username", "must not begin or end with a space")
	all.add(utf8.RuneCountInString(u.Password) > maxPassword, "password", "is longer than 1024 characters")
	return all
}

// problems returns all that is wrong with a client.
func (c *clientFixture) problems(p *profile) memberErrors {
	all := tagProblems(c)
	all.add(len(c.ClientID) > 255 || !isASCII(c.ClientID),
		"client_id", "must be at most 255 characters of printable ASCII (RFC 6749 Appendix A.1)")
	all.add(!isOpen(c.Name), "client_name", "has invisible characters, or characters that reverse the text")
	all.add(c.Name != "" && !isVisible(c.Name), "client_name", "has no visible characters")
	all.add(c.public() && c.ClientSecret != "", "client_secret", "cannot go with token_endpoint_auth_method none: a public client has no secret")
	if c.URI != "" {
		u, err := url.Parse(c.URI)
		all.add(err != nil || len(c.URI) > 2048 || u.Host == "" || u.Scheme != "https" && u.Scheme != "http",
			"client_uri", "must be a URL with https:// or http://, of at most 2048 characters")
		// People are shown the host, so that letters which look alike would mislead them.
		all.add(err == nil && !isASCII(u.Host),
			"client_uri", "has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)")
	}
	for i, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri, p); err != nil {
			all = append(all, memberError{index("redirect_uris", i), err})
		}
	}
	if c.Scope != "" {
		tokens, err := parseScope(c.Scope, nil)
		all.add(err != nil, "scope", "must be at most 100 scope tokens of printable ASCII, 2000 characters in all, with one space between them")
		_, unknown := p.canonicalScope(tokens)
		all.add(unknown != "", "scope", fmt.Sprintf("has %q, which is not in the profile's list: %s", unknown, strings.Join(p.scopeNames(), ", ")))
	}
	return all
}

// isOpen reports whether a name has no control or format characters, except those
// that join or separate letters and emoji.
func isOpen(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) && r != '\u200c' && r != '\u200d'
	})
}

// isVisible reports whether a name has a visible character.
func isVisible(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && !strings.ContainsRune("\u115f\u1160\u2800\u3164\uffa0", r)
	})
}

func (c *clientFixture) public() bool { return c.TokenEndpointAuthMethod == "none" }

// newClient is a client of the operator, made of a fixture, with its scope in the
// profile's spelling. existing is the client of that client_id, or nil; its tokens
// stay valid. secret is what was made here, or empty.
func newClient(f *clientFixture, p *profile, existing *client) (c *client, secret string) {
	tokens, _ := p.canonicalScope(strings.Fields(f.Scope))
	c = &client{metadata: f.metadata, RegisteredBy: operator}
	c.Scope = joinScope(tokens)
	if existing != nil {
		c.Description = existing.Description
	}
	switch {
	case f.public():
	case f.ClientSecret != "":
		c.SecretHash = hashSecret(f.ClientSecret)
	case existing != nil && !existing.public():
		c.SecretHash = existing.SecretHash
	default:
		secret = newClientSecret()
		c.SecretHash = hashSecret(secret)
	}
	return c, secret
}

// applyFixtures creates or replaces the users and clients of files, all or none.
// It returns the secrets that it made, by client_id.
func (s *server) applyFixtures(files ...*fixtures) (map[string]string, error) {
	users, clients, secrets, err := s.prepareFixtures(files...)
	if err != nil {
		return nil, err
	}
	s.hashPasswords(users)
	return secrets, s.store.register(users, clients)
}

// prepareFixtures makes the users and clients of files, but does not store them,
// nor hash new passwords. Client documents hold at once. Later files add to earlier
// ones, and win where both have the same.
func (s *server) prepareFixtures(files ...*fixtures) (users []*user, clients []*client, secrets map[string]string, err error) {
	byUsername := make(map[string]*userFixture)
	byClientID := make(map[string]*clientFixture)
	for _, f := range files {
		for _, u := range f.Users {
			byUsername[u.Username] = &u
		}
		for _, c := range f.Clients {
			byClientID[c.ClientID] = &c
		}
		s.documents.give(f.ClientDocuments)
	}
	secrets = make(map[string]string)
	for _, clientID := range slices.Sorted(maps.Keys(byClientID)) {
		f := byClientID[clientID]
		if f.Owner != "" && byUsername[f.Owner] == nil {
			if owner, err := s.store.userNamed(f.Owner); owner == nil {
				return nil, nil, nil, cmp.Or(err, error(usageError{f.ownerError("no such user")}))
			}
		}
		existing, err := s.store.clientNamed(clientID)
		if err != nil {
			return nil, nil, nil, err
		}
		c, secret := newClient(f, s.profile, existing)
		if secret != "" {
			secrets[clientID] = secret
		}
		clients = append(clients, c)
	}
	for username, f := range byUsername {
		existing, err := s.store.userNamed(username)
		if err != nil {
			return nil, nil, nil, err
		}
		u := &user{Username: username, Name: f.Name, Email: f.Email, newPassword: f.Password}
		if existing != nil {
			u.Password, u.oldSalt = existing.Password, existing.Password.Salt
		}
		users = append(users, u)
	}
	return users, clients, secrets, nil
}

// warnOwnerless logs clients that act for a user by client credentials, if it is
// not clear for which user.
func (s *server) warnOwnerless(files []*fixtures) error {
	if !s.profile.ClientActsForOwner {
		return nil
	}
	for _, f := range files {
		for _, described := range f.Clients {
			c, _ := newClient(&described, s.profile, nil)
			if c.Owner != "" || !c.mayUse("client_credentials", s.profile) {
				continue
			}
			if u, err := s.store.ownerOf(c); u != nil || err != nil {
				return err
			}
			s.log.Warn(described.ownerError("is missing: client credentials act for a user, and there is not exactly one").Error())
		}
	}
	return nil
}

// ownerError says what is wrong with the owner.
func (c *clientFixture) ownerError(problem string) error {
	m := memberError{"owner", errors.New(problem)}
	if c.place == nil {
		return m
	}
	return c.place(m)
}
