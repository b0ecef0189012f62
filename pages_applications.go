package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// accountPages adds the routes of a user's own applications and permissions.
func (s *server) accountPages(page func(path, methods string, handle handler)) {
	page("/account/applications", "GET", s.account(s.handleApplications))
	page("/account/applications/new", "GET, POST", s.account(s.handleNewApplication))
	page("/account/applications/edit", "GET, POST", s.account(s.handleEditApplication))
	page("/account/applications/regenerate", "POST", s.account(s.handleRegenerateSecret))
	page("/account/applications/delete", "POST", s.account(s.handleDeleteApplication))
	page("/account/authorized", "GET", s.account(s.handleAuthorized))
	page("/account/authorized/revoke", "POST", s.account(s.handleRevokeAuthorized))
}

// maxApplications is how many applications a user may register.
const maxApplications = 50

// part is what one page shows of a list, with the numbers of the pages beside
// it; 0: there is none.
type part[T any] struct {
	Entries                []T
	Number, Previous, Next int
}

// partOf returns the part of a list that number names, or else the last one
// before it, with size entries.
func partOf[T any](all []T, number string, size int) part[T] {
	parts := max(1, (len(all)+size-1)/size)
	n, _ := strconv.Atoi(number)
	n = max(1, min(n, parts))
	p := part[T]{Entries: all[(n-1)*size : min(n*size, len(all))], Number: n, Previous: n - 1}
	if n < parts {
		p.Next = n + 1
	}
	return p
}

// How many entries a page has, so that none is longer than 64 KB.
const (
	applicationsPerPage = 25
	authorizedPerPage   = 10
)

// noApplication answers for another user's application as for none.
var noApplication = notFound(rfc9110("15.5.5"), noSuchApplication, "you have no such application")

// handleApplications lists the user's applications.
func (s *server) handleApplications(w http.ResponseWriter, r *http.Request, x *exchange) error {
	owned, err := s.store.clientsOf(x.Username, noLimit)
	if err != nil {
		return err
	}
	slices.SortStableFunc(owned, func(a, b *client) int {
		return strings.Compare(strings.ToLower(a.displayName()), strings.ToLower(b.displayName()))
	})
	return s.writePage(w, x, http.StatusOK, "applications.html", pageData{
		"Applications": partOf(owned, x.query.values.Get("page"), applicationsPerPage),
		"Full":         len(owned) >= maxApplications,
	})
}

// applicationForm is a form that describes an application, with what is wrong
// with it.
type applicationForm struct {
	clientFixture // what may be registered is checked in one place for all
	Description   string

	ID       string              // of the form, if it is for a new application
	Version  string              // of the application that is changed
	Problem  string              // of the whole form
	Problems map[string]*problem // of single fields, by name
}

// problem is what is wrong with a field.
type problem struct {
	Field, Text string
	Number      int  // of the redirect URI that it is about; 0: the whole field
	First       bool // in the form
}

// formOf describes an application as it is.
func (s *server) formOf(c *client) applicationForm {
	f := applicationForm{Description: c.Description, Version: c.version(), clientFixture: clientFixture{metadata: c.metadata}}
	f.Scope = cmp.Or(c.Scope, joinScope(s.profile.scopeNames()))
	if c.public() {
		f.TokenEndpointAuthMethod = "none"
	}
	f.GrantTypes = slices.DeleteFunc(slices.Clone(s.profile.Grants), func(grant string) bool { return !c.mayUse(grant, s.profile) })
	return f
}

// formFrom reads a form that was sent. What has no field, such as secret and
// owner, it cannot set.
func (s *server) formFrom(sent url.Values) applicationForm {
	f := applicationForm{
		clientFixture: clientFixture{TokenEndpointAuthMethod: sent.Get("token_endpoint_auth_method"), metadata: metadata{
			Name:         strings.TrimSpace(sent.Get("client_name")),
			URI:          strings.TrimSpace(sent.Get("client_uri")),
			RedirectURIs: []string{},
			GrantTypes:   slices.Clone(s.profile.Grants),
			Scope:        joinScope(strings.Fields(strings.Join(sent["scope"], " "))),
		}},
		Description: strings.TrimSpace(strings.ReplaceAll(sent.Get("description"), "\r\n", "\n")),
		ID:          sent.Get("form_id"),
		Version:     sent.Get("version"),
	}
	uris := strings.Split(sent.Get("redirect_uris"), "\n")
	if sent.Get("out_of_band") != "" {
		uris = append(uris, outOfBand)
	}
	for _, uri := range uris {
		if uri = strings.TrimSpace(uri); uri != "" && !slices.Contains(f.RedirectURIs, uri) {
			f.RedirectURIs = append(f.RedirectURIs, uri)
		}
	}
	f.GrantTypes = slices.DeleteFunc(f.GrantTypes, func(grant string) bool { return !slices.Contains(sent["grant_types"], grant) })
	return f
}

// client makes a client of the form, in the place of existing if that is not
// nil, and its secret, if it gets a new one. The checks are those of every
// registration (RFC 6749 §2, §3.1.2) and, for people who fill in a form, that
// nothing is left out. The error is memberErrors that name the fields.
func (f applicationForm) client(p *profile, existing *client) (*client, string, error) {
	problems := f.problems(p)
	problems.add(f.Name == "", "client_name", "is missing: people see it when they are asked to allow access")
	description := strings.ReplaceAll(f.Description, "\n", " ")
	problems.add(!isTextOf(500, description) || !isOpen(description), "description", "must be text of at most 500 characters, none of them invisible")
	problems.add(len(strings.Join(f.RedirectURIs, "\n")) > 4096, "redirect_uris", "are longer than 4096 characters together")
	problems.add((slices.Contains(f.GrantTypes, "authorization_code") || slices.Contains(f.GrantTypes, "implicit")) && len(f.RedirectURIs) == 0,
		"redirect_uris", "are missing: grants that go through the browser need at least one, or out of band")
	problems.add(f.public() && slices.Contains(f.GrantTypes, "client_credentials"),
		"grant_types", "cannot include client credentials for a public application (RFC 6749 §4.4)")
	// One without any would be a resource server, which sees the tokens of all.
	problems.add(len(f.GrantTypes) == 0 && (existing == nil || !existing.resourceServer()), "grant_types", "are missing: tick at least one")
	problems.add(f.Scope == "" && len(p.Scopes) > 0, "scope", "is missing: tick at least one")
	if len(problems) > 0 {
		return nil, "", problems
	}
	c, secret := newClient(&f.clientFixture, p, existing)
	c.Description, c.RegisteredBy = f.Description, aUser
	return c, secret, nil
}

// tell notes what is wrong with the form, one thing a field.
func (f *applicationForm) tell(all memberErrors) {
	f.Problems = make(map[string]*problem)
	for _, field := range []string{"client_name", "client_uri", "description", "redirect_uris", "grant_types", "scope"} {
		n := slices.IndexFunc(all, func(m memberError) bool { return m.member == field || strings.HasPrefix(m.member, field+"[") })
		if n < 0 {
			continue
		}
		p := &problem{Field: field, Text: all[n].error.Error(), First: len(f.Problems) == 0}
		if _, err := fmt.Sscanf(all[n].member, "redirect_uris[%d]", &p.Number); err == nil {
			p.Number++ // people count from 1
		}
		f.Problems[field] = p
	}
}

// version tells one state of what the form shows from another.
func (c *client) version() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q", c.Name, c.URI, c.Description, c.RedirectURIs, c.GrantTypes, c.Scope))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// writeForm shows the form of an application, or of a new one if c is nil. err
// is why nothing was saved; if that is not the form's fault, it is returned.
func (s *server) writeForm(w http.ResponseWriter, x *exchange, c *client, f applicationForm, err error) error {
	status := http.StatusUnprocessableEntity
	var problems memberErrors
	switch {
	case err == nil:
		status = http.StatusOK
	case errors.As(err, &problems):
		f.tell(problems)
	case errors.Is(err, errTooMany):
		f.Problem = fmt.Sprintf("You have %d applications already, the most a user may have. Delete one first.", maxApplications)
	case errors.Is(err, errChanged):
		status = http.StatusConflict
		f.Problem = "The application was changed while you were here. Nothing was saved. Check the form, then save again to make the application as you see it below."
	default:
		return err
	}
	shown := pageData{"Client": c, "Form": f, "Grants": s.profile.shownGrants(), "Scopes": s.profile.Scopes, "Done": x.query.values.Get("done"), "Examples": nil}
	if c != nil {
		shown["Examples"] = s.examplesOf(x.visitor, c, "")
	}
	return s.writePage(w, x, status, "application.html", shown)
}

// handleNewApplication registers an application.
func (s *server) handleNewApplication(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if r.Method != http.MethodPost {
		// What most applications need.
		c, _ := newClient(&clientFixture{metadata: metadata{GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: s.profile.defaultScope()}}, s.profile, nil)
		f := s.formOf(c)
		f.ID = uuid.NewString()
		return s.writeForm(w, x, nil, f, nil)
	}
	f := s.formFrom(x.form)
	// The client_id belongs to the form, so that one that is sent twice, as a
	// reload does, makes one application; and nobody can choose it.
	f.ClientID = uuid.NewSHA1(uuid.Nil, []byte(x.visitor.mac("application", x.form.Encode()))).String()
	f.Owner = x.Username
	c, secret, err := f.client(s.profile, nil)
	if err == nil {
		err = s.store.addClient(c, maxApplications)
	}
	if err != nil && !errors.Is(err, errRegistered) {
		return s.writeForm(w, x, nil, f, err)
	}
	x.ClientID = c.ClientID
	if err != nil {
		seeOther(w, s.applicationURL(c.ClientID, "registered"))
		return nil
	}
	return s.writeRegistered(w, x, c, secret, "is registered")
}

// writeRegistered shows an application's secret, this once, and how to use it.
func (s *server) writeRegistered(w http.ResponseWriter, x *exchange, c *client, secret, what string) error {
	return s.writePage(w, x, http.StatusOK, "registered.html", pageData{
		"Client": c, "Secret": secret, "What": what, "Examples": s.examplesOf(x.visitor, c, secret),
	})
}

// changeApplication changes the user's application that a form names, or deletes
// it if change returns nil.
func (s *server) changeApplication(x *exchange, change func(*client) (*client, error)) error {
	err := s.store.changeClient(x.Username, x.form.Get("id"), func(c *client) (*client, error) {
		x.ClientID = c.ClientID
		return change(c)
	})
	if !x.holds(noSuchApplication, !errors.Is(err, errUnknown)) {
		return noApplication
	}
	return err
}

// errChanged keeps a form from undoing what another one has just done.
var errChanged = errors.New("the application was changed meanwhile")

// applicationURL leads to an application; done is what has just been done with
// it: "saved", or "registered" by the same form.
func (s *server) applicationURL(clientID, done string) string {
	return s.base + "/account/applications/edit?" + parameters{{"done", done}, {"id", clientID}}.encode()
}

// handleEditApplication shows an application to its owner, and changes it.
func (s *server) handleEditApplication(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if r.Method != http.MethodPost {
		c, err := s.store.clientNamed(x.query.values.Get("id"))
		if err == nil && !x.holds(noSuchApplication, c != nil && c.Owner == x.Username) {
			err = noApplication
		}
		if err != nil {
			return err
		}
		x.ClientID = c.ClientID
		return s.writeForm(w, x, c, s.formOf(c), nil)
	}
	var c *client
	var f applicationForm
	err := s.changeApplication(x, func(found *client) (*client, error) {
		c, f = found, s.formFrom(x.form)
		f.ClientID, f.Owner = c.ClientID, c.Owner
		f.TokenEndpointAuthMethod = s.formOf(c).TokenEndpointAuthMethod // fixed when it was registered
		changed, _, err := f.client(s.profile, c)
		switch current := c.version(); {
		case err == nil && changed.version() == current:
			return c, nil // saved already
		case f.Version != current:
			f.Version = current
			return nil, errChanged
		default:
			return changed, err
		}
	})
	if err != nil {
		return s.writeForm(w, x, c, f, err)
	}
	seeOther(w, s.applicationURL(c.ClientID, "saved"))
	return nil
}

// handleRegenerateSecret gives an application a new secret; the old one stops
// working.
func (s *server) handleRegenerateSecret(w http.ResponseWriter, r *http.Request, x *exchange) error {
	secret := newClientSecret()
	var changed *client
	err := s.changeApplication(x, func(c *client) (*client, error) {
		if !x.holds(secretOfPublicClient, !c.public()) {
			return nil, invalidRequest(rfc6749("2.1"), secretOfPublicClient, "a public application has no secret")
		}
		c.SecretHash = hashSecret(secret)
		changed = c
		return c, nil
	})
	if err != nil {
		return err
	}
	return s.writeRegistered(w, x, changed, secret, "has a new secret")
}

// handleDeleteApplication removes an application, and with it all that was
// issued to it.
func (s *server) handleDeleteApplication(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if err := s.changeApplication(x, func(*client) (*client, error) { return nil, nil }); err != nil {
		return err
	}
	seeOther(w, s.base+"/account/applications")
	return nil
}

// handleAuthorized lists the applications that may act for the user; those of
// one page with the last used first.
func (s *server) handleAuthorized(w http.ResponseWriter, r *http.Request, x *exchange) error {
	clients, err := s.store.grantees(x.visitor.user.ID)
	if err != nil {
		return err
	}
	shown := partOf(clients, x.query.values.Get("page"), authorizedPerPage)
	var permissions []*permission
	for _, registration := range shown.Entries {
		p, err := s.store.permission(x.visitor.user.ID, registration, x.now)
		if err != nil {
			return err
		}
		if p != nil {
			permissions = append(permissions, p)
		}
	}
	slices.SortStableFunc(permissions, func(a, b *permission) int { return cmp.Compare(max(b.Used, b.Since), max(a.Used, a.Since)) })
	return s.writePage(w, x, http.StatusOK, "authorized.html", pageData{"Permissions": permissions, "Part": shown})
}

// handleRevokeAuthorized ends all that the user granted to an application:
// codes, tokens and the consent.
func (s *server) handleRevokeAuthorized(w http.ResponseWriter, r *http.Request, x *exchange) error {
	c, err := s.store.clientNamed(x.form.Get("id"))
	if err == nil && c != nil {
		x.ClientID = c.ClientID
		err = s.store.revokeGrants(x.visitor.user.ID, c.ID)
	}
	if err != nil {
		return err
	}
	seeOther(w, s.base+"/account/authorized?"+parameters{{"page", x.form.Get("page")}}.encode())
	return nil
}
