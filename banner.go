package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"text/template"
)

// bannerTemplate is what the server prints when it starts.
var bannerTemplate = template.Must(template.ParseFS(templateFiles, "templates/banner.txt"))

// furnish stores the users and clients that the server starts with, and prints
// how to begin: those of the fixtures or, in an empty store, alice and demo.
func (s *server) furnish(files []*fixtures, o *options, stderr *outlet) error {
	empty, err := s.store.empty()
	if err != nil {
		return err
	}
	var password string // alice's, if this start makes her
	if empty && files == nil {
		password = newPassword()
		files = []*fixtures{firstFixtures(s.profile, password)}
	}
	users, clients, secrets, err := s.prepareFixtures(files...)
	if err != nil {
		return err
	}
	var example *example // how demo gets a token; nil: it cannot
	if o.fixtures == nil {
		if example, err = s.demoExample(clients, secrets["demo"]); err != nil {
			return err
		}
	}
	if s.autoApprove != "" && !slices.ContainsFunc(users, func(u *user) bool { return u.Username == s.autoApprove }) {
		if u, err := s.store.userNamed(s.autoApprove); err != nil {
			return err
		} else if u == nil {
			return usageError{fmt.Errorf("-auto-approve %s: no such user; a file of -fixtures can make one", s.autoApprove)}
		}
	}
	// Print before storing: a start that is interrupted here then loses neither
	// password nor secret.
	if err := bannerTemplate.Execute(stderr, pageData{
		"Issuer": s.issuer(), "Profile": s.profile.Name, "Data": o.shownDB(),
		"Secrets": secrets, "Password": password, "AutoApprove": s.autoApprove, "Example": example, "Inspect": o.inspect != nil && *o.inspect, "Inspector": s.url("/inspect"),
	}); err != nil {
		return err
	}
	stderr.flush()
	// The password of a first start was shown, and must not get lost. The control
	// API stores users again as they are now, and hashing is quick in memory.
	if o.fixtures == nil || o.control || o.db == memory {
		s.hashPasswords(users)
	} else {
		s.afterStart = s.hashLater(users)
	}
	if password == "" {
		err = s.store.register(users, clients)
	} else if err = s.store.registerFirst(users, clients); errors.Is(err, errNotFirst) {
		err = errors.New("another server has just made alice, with another password than this: start again")
	}
	if err != nil {
		return err
	}
	if password != "" {
		s.firstPassword = users[0].Password.Salt
	}
	return s.warnOwnerless(files)
}

// firstFixtures are alice and demo. demo is a public client or, where the profile
// has no authorization code grant, one with a secret that may use any other.
func firstFixtures(p *profile, password string) *fixtures {
	demo := clientFixture{metadata: metadata{ClientID: "demo", Name: "Demo application", RedirectURIs: []string{outOfBand, "http://127.0.0.1/callback"}, GrantTypes: p.Grants}}
	if slices.Contains(p.Grants, "authorization_code") {
		demo.GrantTypes, demo.TokenEndpointAuthMethod = []string{"authorization_code", "refresh_token", deviceGrant}, "none"
	}
	return &fixtures{Users: []userFixture{{Username: "alice", Password: password, Name: "Alice"}}, Clients: []clientFixture{demo}}
}

// demoExample shows how demo gets a token for alice with the first grant of the
// profile that it may use, or nil if there is none. made are the clients of a
// first start: at a later one both may be gone.
func (s *server) demoExample(made []*client, secret string) (*example, error) {
	if made == nil {
		demo, err := s.store.clientNamed("demo")
		alice, failed := s.store.userNamed("alice")
		if err := cmp.Or(err, failed); err != nil || demo == nil || alice == nil {
			return nil, err
		}
		made = []*client{demo}
	}
	alice := &visitor{cookie: credential{text: newClientSecret()}, user: &user{Username: "alice"}}
	for _, e := range s.examplesOf(alice, made[0], secret) {
		if e.Grant != "refresh_token" { // another grant must come first
			return &e, nil
		}
	}
	return nil, nil
}
