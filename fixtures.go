package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// fixtures are users and clients that a file asks for.
type fixtures struct {
	Users   []userFixture   `json:"users"`
	Clients []clientFixture `json:"clients"`

	document *document // nil: they are not from a file
}

type userFixture struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Name     string `json:"name"`
	Email    string `json:"email"`
}

// clientFixture has the metadata names of RFC 7591 §2.
type clientFixture struct {
	ClientID                string   `json:"client_id"`
	ClientSecret            string   `json:"client_secret"`
	ClientName              string   `json:"client_name"`
	ClientURI               string   `json:"client_uri"`
	RedirectURIs            []string `json:"redirect_uris"`
	GrantTypes              []string `json:"grant_types"`
	Scope                   string   `json:"scope"`
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method"`
	Owner                   string   `json:"owner"`
}

// loadFixtures reads and checks a file. Errors name file, line and key.
func loadFixtures(file string, p *profile) (*fixtures, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("fixtures: %w", err)
	}
	f := new(fixtures)
	if f.document, err = parseDocument(file, data, f); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	check := func(path, key string, err error) error {
		if err == nil && seen[key] {
			err = wrong(strings.Fields(key)[0], "is there twice")
		}
		seen[key] = true
		if err != nil {
			return f.document.problem(path, err)
		}
		return nil
	}
	for i, u := range f.Users {
		if err := check(fmt.Sprintf("users[%d]", i), "username "+u.Username, u.check()); err != nil {
			return nil, err
		}
	}
	for i, c := range f.Clients {
		if err := check(fmt.Sprintf("clients[%d]", i), "client_id "+c.ClientID, c.check(p)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (u *userFixture) check() error {
	switch {
	case u.Username == "":
		return wrong("username", "is missing")
	case !isTextOf(maxUsername, u.Username) || strings.TrimSpace(u.Username) != u.Username:
		return wrong("username", "must be text of at most 255 characters without blanks around it")
	case u.Password == "":
		return wrong("password", "is missing")
	case utf8.RuneCountInString(u.Password) > maxPassword:
		return wrong("password", "is longer than 1024 characters")
	case !isTextOf(255, u.Name):
		return wrong("name", "must be text of at most 255 characters")
	case !isTextOf(255, u.Email):
		return wrong("email", "must be text of at most 255 characters")
	}
	return nil
}

// check returns the first of the problems, or nil.
func (c *clientFixture) check(p *profile) error {
	if all := c.problems(p); len(all) > 0 {
		return all[0]
	}
	return nil
}

// problems returns all that is wrong with a client, by member.
func (c *clientFixture) problems(p *profile) (all memberErrors) {
	all.add(c.ClientID == "", "client_id", "is missing")
	all.add(len(c.ClientID) > 255 || !isASCII(c.ClientID),
		"client_id", "must be at most 255 characters of printable ASCII (RFC 6749 Appendix A.1)")
	all.add(!isTextOf(1024, c.ClientSecret), "client_secret", "must be text of at most 1024 characters")
	all.add(!isTextOf(255, c.ClientName), "client_name", "must be text of at most 255 characters")
	all.add(!isOpen(c.ClientName), "client_name", "has invisible characters, or some that turn the text around")
	all.add(c.ClientName != "" && !isVisible(c.ClientName), "client_name", "has nothing that can be seen")
	all.add(!slices.Contains([]string{"", "none", "client_secret_basic", "client_secret_post"}, c.TokenEndpointAuthMethod),
		"token_endpoint_auth_method", "must be none, client_secret_basic or client_secret_post")
	all.add(c.public() && c.ClientSecret != "", "client_secret", "cannot go with token_endpoint_auth_method none: a public client has no secret")
	if c.ClientURI != "" {
		u, err := url.Parse(c.ClientURI)
		all.add(err != nil || len(c.ClientURI) > 2048 || u.Host == "" || u.Scheme != "https" && u.Scheme != "http",
			"client_uri", "must be a URL with https:// or http://, of at most 2048 characters")
		// The host is shown to people: no letter of it may look like another, or like none.
		all.add(err == nil && !isASCII(u.Host),
			"client_uri", "has a host with characters beyond ASCII: such names are written as xn--… (RFC 5890 §2.3.2.1)")
	}
	for i, name := range c.GrantTypes {
		all.add(!slices.Contains(grantNames, name) && !slices.Contains(foreignGrants, name), fmt.Sprintf("grant_types[%d]", i),
			fmt.Sprintf("%q is no grant type; there are %s", name, strings.Join(slices.Concat(grantNames, foreignGrants), ", ")))
	}
	for i, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri, p); err != nil {
			all = append(all, memberError{fmt.Sprintf("redirect_uris[%d]", i), err})
		}
	}
	if c.Scope != "" {
		tokens, err := parseScope(c.Scope)
		all.add(err != nil, "scope", "must be at most 100 scope tokens of printable ASCII, 2000 characters in all, with one blank between them")
		_, unknown := p.canonicalScope(tokens)
		all.add(unknown != "", "scope", fmt.Sprintf("has %q, which is not in the profile's list: %s", unknown, strings.Join(p.scopeNames(), ", ")))
	}
	return all
}

// isOpen reports whether a name is what it looks like: it has no control or
// format characters but those that join and part letters and emoji.
func isOpen(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) && r != '\u200c' && r != '\u200d'
	})
}

// isVisible reports whether there is something to see of a name.
func isVisible(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && !strings.ContainsRune("\u115f\u1160\u2800\u3164\uffa0", r)
	})
}

func (c *clientFixture) public() bool { return c.TokenEndpointAuthMethod == "none" }

// newUser is the account of a fixture; existing is the one of that name, or
// nil. Its tokens, and with the same password its sessions, live on.
func (s *server) newUser(f *userFixture, existing *user) *user {
	u := &user{Username: f.Username, Name: f.Name, Email: f.Email}
	if existing != nil {
		u.Password = existing.Password
		if u.Password.matches(f.Password) {
			return u
		}
	}
	u.Password = newPasswordHash(f.Password, s.hashRounds)
	return u
}

// newClient is the registration of a fixture, with its scope in the profile's
// spelling; existing is the one of that client_id, or nil: its tokens live on.
// It is the operator's unless the caller says otherwise.
// secret is one made here, or empty.
func newClient(f *clientFixture, p *profile, existing *client) (c *client, secret string) {
	tokens, _ := p.canonicalScope(strings.Fields(f.Scope))
	c = &client{
		ClientID:     f.ClientID,
		Name:         f.ClientName,
		URI:          f.ClientURI,
		RedirectURIs: f.RedirectURIs,
		GrantTypes:   f.GrantTypes,
		Scope:        joinScope(tokens),
		Owner:        f.Owner,
		RegisteredBy: operator,
	}
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

// applyFixtures creates or replaces the users and clients of files, all of
// them or none. It returns the secrets that it made, by client_id.
func (s *server) applyFixtures(files ...*fixtures) (map[string]string, error) {
	users, clients, secrets, err := s.prepareFixtures(files...)
	if err != nil {
		return nil, err
	}
	return secrets, s.store.register(users, clients)
}

// prepareFixtures makes the users and clients of files, of which later ones
// add to earlier ones and win over them, and stores nothing yet.
func (s *server) prepareFixtures(files ...*fixtures) (users []*user, clients []*client, secrets map[string]string, err error) {
	if err := s.checkOwners(files); err != nil {
		return nil, nil, nil, err
	}
	byUsername := make(map[string]*userFixture)
	byClientID := make(map[string]*clientFixture)
	for _, f := range files {
		for i := range f.Users {
			byUsername[f.Users[i].Username] = &f.Users[i]
		}
		for i := range f.Clients {
			byClientID[f.Clients[i].ClientID] = &f.Clients[i]
		}
	}
	existing := make(map[string]*user)
	for username := range byUsername {
		if existing[username], err = s.store.userNamed(username); err != nil {
			return nil, nil, nil, err
		}
	}
	var mu sync.Mutex
	var group sync.WaitGroup // the hashing takes a while
	for username, u := range byUsername {
		group.Go(func() {
			account := s.newUser(u, existing[username])
			mu.Lock()
			defer mu.Unlock()
			users = append(users, account)
		})
	}
	group.Wait()
	secrets = make(map[string]string)
	for _, f := range byClientID {
		existing, err := s.store.clientNamed(f.ClientID)
		if err != nil {
			return nil, nil, nil, err
		}
		c, secret := newClient(f, s.profile, existing)
		if secret != "" {
			secrets[c.ClientID] = secret
		}
		clients = append(clients, c)
	}
	return users, clients, secrets, nil
}

func hasUser(users []*user, username string) bool {
	return slices.ContainsFunc(users, func(u *user) bool { return u.Username == username })
}

// checkOwners refuses clients of users that neither a file nor the store has.
func (s *server) checkOwners(files []*fixtures) error {
	for _, f := range files {
		for i, c := range f.Clients {
			if c.Owner == "" || slices.ContainsFunc(files, func(f *fixtures) bool { return f.hasUser(c.Owner) }) {
				continue
			}
			switch u, err := s.store.userNamed(c.Owner); {
			case err != nil:
				return err
			case u == nil && f.document == nil:
				return wrong("owner", "names no user")
			case u == nil:
				return usageError{f.document.errorAt(fmt.Sprintf("clients[%d].owner", i), errors.New("names no user"))}
			}
		}
	}
	return nil
}

// warnOwnerless tells of clients whose client credentials are to act for a user
// when it is not clear for which.
func (s *server) warnOwnerless(files []*fixtures) error {
	if !s.profile.ClientActsForOwner {
		return nil
	}
	for _, f := range files {
		for i := range f.Clients {
			c, _ := newClient(&f.Clients[i], s.profile, nil)
			if c.Owner != "" || !c.mayUse("client_credentials", s.profile) {
				continue
			}
			if u, err := s.store.ownerOf(c); u != nil || err != nil {
				return err
			}
			s.log.Warn(f.document.errorAt(fmt.Sprintf("clients[%d].owner", i),
				errors.New("is missing: there is not just one user, and client credentials act for one")).Error())
		}
	}
	return nil
}

func (f *fixtures) hasUser(username string) bool {
	return slices.ContainsFunc(f.Users, func(u userFixture) bool { return u.Username == username })
}
