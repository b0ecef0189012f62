package main

import (
	"cmp"
	"maps"
	"net/http"
)

// registrationFacts are the placeholders of the registration's answer.
var registrationFacts = func() factsOf[registered] {
	all := make(factsOf[registered])
	addFacts(all, serverFacts, func(r registered) *server { return r.server })
	addFacts(all, clientFacts, func(r registered) *client { return r.client })
	maps.Copy(all, factsOf[registered]{
		"client_name":         func(r registered) fact { return text(r.Name) }, // empty for a client without a name, where clientFacts has the client_id
		"client_id_issued_at": func(r registered) fact { return number(r.issued) },
		"client_secret":       func(r registered) fact { return text(r.secret) },
		"client_secret_expires_at": func(r registered) fact {
			if r.public() {
				return fact{}
			}
			return number(0) // never
		},
		"token_endpoint_auth_method": func(r registered) fact { return text(r.authMethod) },
		"grant_types":                func(r registered) fact { return list(r.GrantTypes) },
		"response_types":             func(r registered) fact { return list(responseTypesOf(r.GrantTypes)) },
		"scope":                      func(r registered) fact { return text(r.Scope) },
	})
	return all
}()

// registered is a new client and its secret.
type registered struct {
	*client
	server             *server
	secret, authMethod string
	issued             unixTime
}

// registrationTries is how many clients one source may register in a minute.
const registrationTries = 1000

// handleRegistration makes a client, public or confidential (RFC 7591 §3).
//
// Choice: registration is open to everybody (RFC 7591 §3): a client library meets
// the server without anything set up. Nothing is shown to people as verified.
func (s *server) handleRegistration(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if x.wrong != nil {
		return x.wrong
	}
	_, wait, err := s.registrations.guess(source(r), registrationTries, 0, x.now, func() (bool, error) { return false, nil }) // each counts
	if err != nil {
		return err
	}
	if !x.holds(guessedTooOften, wait == 0) {
		return tooManyGuesses(unavailable, rfc7591("5"), wait)
	}
	f, err := s.profile.parseClientMetadata(s.profile.Registration, x)
	if err != nil {
		return err
	}
	c, secret := newClient(f, s.profile, nil)
	c.RegisteredBy = itself
	if err := s.store.register(nil, []*client{c}); err != nil {
		return err
	}
	x.ClientID = c.ClientID
	answer := registered{c, s, secret, f.TokenEndpointAuthMethod, x.now}
	return s.writeJSON(w, cmp.Or(s.profile.Registration.Status, http.StatusCreated), s.profile.Registration.Answer.fill(registrationFacts.of(answer)))
}
