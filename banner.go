package main

import (
	"fmt"
	"slices"
	"text/template"
)

// banner is what the server prints when it starts.
type banner struct {
	Issuer, Profile, Data string
	Secrets               map[string]string // made for clients of fixtures, by client_id
	Password, Secret      string            // alice's and demo's, if this start made them
	Example               *example          // how demo gets a token; nil: it cannot
}

var bannerTemplate = template.Must(template.ParseFS(templateFiles, "templates/banner.txt"))

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

// demoExample shows how demo gets a token for alice with the first grant of the
// profile that it may use. It is nil if there is none.
func (s *server) demoExample(demo *client, secret string) *example {
	alice := &visitor{cookie: credential{text: newClientSecret()}, user: &user{Username: "alice"}}
	for _, e := range s.examplesOf(alice, demo, secret) {
		if e.Grant != "refresh_token" { // another grant must come first
			return &e
		}
	}
	return nil
}

// furnish stores the users and clients that the server starts with, and prints
// how to begin: those of the fixtures or, in an empty store, alice and demo.
func (s *server) furnish(files []*fixtures, o *options, stderr *outlet) error {
	b := &banner{Issuer: s.issuer(), Profile: s.profile.Name, Data: o.db}
	if o.db == memory {
		b.Data = "memory"
	}
	users, clients, err := s.beginnings(files, b)
	if err != nil {
		return err
	}
	if s.autoApprove != "" && !slices.ContainsFunc(users, func(u *user) bool { return u.Username == s.autoApprove }) {
		switch u, err := s.store.userNamed(s.autoApprove); {
		case err != nil:
			return err
		case u == nil:
			return usageError{fmt.Errorf("-auto-approve %s: no such user", s.autoApprove)}
		}
	}
	// Print before storing: a start that is interrupted here then loses neither
	// password nor secret.
	if err := bannerTemplate.Execute(stderr, b); err != nil {
		return err
	}
	stderr.flush()
	if err := s.store.register(users, clients); err != nil {
		return err
	}
	return s.warnOwnerless(files)
}

// beginnings makes the users and clients that a start stores, and fills in the
// banner.
func (s *server) beginnings(files []*fixtures, b *banner) (users []*user, clients []*client, err error) {
	if files != nil {
		users, clients, b.Secrets, err = s.prepareFixtures(files...)
		return users, clients, err
	}
	empty, err := s.store.empty()
	if err != nil {
		return nil, nil, err
	}
	if empty {
		b.Password = newPassword()
		alice := s.newUser(&userFixture{Username: "alice", Password: b.Password, Name: "Alice"}, nil)
		demo, secret := newDemo(s.profile)
		b.Secret, b.Example = secret, s.demoExample(demo, secret)
		return []*user{alice}, []*client{demo}, nil
	}
	demo, err := s.store.clientNamed("demo")
	if err != nil || demo == nil {
		return nil, nil, err
	}
	alice, err := s.store.userNamed("alice")
	if alice != nil {
		b.Example = s.demoExample(demo, "")
	}
	return nil, nil, err
}
