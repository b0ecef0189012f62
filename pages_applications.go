package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// accountRequest is a request for one of the account pages.
type accountRequest struct {
	*visitor
	*http.Request
}

// account guards an account page: who is not signed in gets the sign-in page,
// and a form counts only with its token (RFC 6749 §10.12).
func (s *server) account(handle func(http.ResponseWriter, *accountRequest, *exchange) error) func(http.ResponseWriter, *http.Request, *exchange) error {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		v, err := s.visitor(r, x.now)
		if err != nil {
			return err
		}
		if v.user == nil {
			status := http.StatusOK
			if r.Method == http.MethodPost {
				status = http.StatusForbidden
			}
			return s.writeSignIn(w, v, status, signIn{Continue: s.localTarget(r.URL.RequestURI())})
		}
		x.username = v.user.Username
		a := &accountRequest{visitor: v, Request: r}
		if r.Method == http.MethodPost {
			if x.wrong != nil {
				return x.wrong
			}
			if err := v.checkFormToken(x.form.Get("form_token")); err != nil {
				return err
			}
		}
		return handle(w, a, x)
	}
}

// accountPage is what the account pages show beside their own.
type accountPage struct {
	User  *user
	Token string // of the forms
	Here  string // the path of this page, without the issuer's
}

// Current is the aria-current of a link to a page: page where this is that
// page, and true where this is one of those below it.
func (p accountPage) Current(path string) string {
	switch {
	case p.Here == path:
		return "page"
	case strings.HasPrefix(p.Here, path+"/"):
		return "true"
	default:
		return ""
	}
}

func (s *server) accountPage(v *visitor, r *http.Request) accountPage {
	return accountPage{v.user, v.formToken(), strings.TrimPrefix(r.URL.Path, s.base)}
}

// maxApplications is how many applications a user may register.
const maxApplications = 50

// part is a part of a list, as much as one page shows, with the numbers of the
// parts beside it; 0: there is none.
type part[T any] struct {
	Entries                []T
	Number, Previous, Next int
}

// partOf returns the part of a list that number names, or else the last one
// before, with size entries.
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

// How many entries a page has: none is longer than 64 KB then.
const (
	applicationsPerPage = 25
	authorizedPerPage   = 10
)

// noApplication answers for another owner's application as for none.
func noApplication() error {
	return notFound(rfc9110("15.5.5"), noSuchApplication, "you have no such application").
		helped(help{"You have no such application", "It may have been deleted already.", "/account/applications", "Your applications"})
}

// handleApplications lists the user's applications.
func (s *server) handleApplications(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	owned, err := s.store.clientsOf(a.user.Username, noLimit)
	if err != nil {
		return err
	}
	slices.SortStableFunc(owned, func(a, b *client) int {
		return strings.Compare(strings.ToLower(a.displayName()), strings.ToLower(b.displayName()))
	})
	return s.writePage(w, http.StatusOK, "applications.html", struct {
		accountPage
		Applications part[*client]
		Full         bool
	}{s.accountPage(a.visitor, a.Request), partOf(owned, x.query.values.Get("page"), applicationsPerPage), len(owned) >= maxApplications})
}

// applicationForm is a form that describes an application, with what is wrong
// with it. Its fields have the metadata names of RFC 7591 §2.
type applicationForm struct {
	Name, URI, Description string
	RedirectURIs           string // one a line, without the out-of-band one
	OutOfBand              bool
	Public                 bool
	GrantTypes             []string
	Scope                  []string
	ID                     string // of this form, where it is for a new application
	Version                string // of the application that is changed

	Grants   []grantType // to choose from
	Scopes   []scope     // likewise; none: any
	Problem  string      // of the whole form
	Problems []problem   // of single fields, in their order
}

// problem is what is wrong with a field, whose label within a sentence is Label.
type problem struct{ Field, Label, Text string }

// Wrong is what is wrong with a field, or nil.
func (f applicationForm) Wrong(field string) *problem {
	n := slices.IndexFunc(f.Problems, func(p problem) bool { return p.Field == field })
	if n < 0 {
		return nil
	}
	return &f.Problems[n]
}

// Mark returns the attributes of a field's control, which lead to the problem.
func (f applicationForm) Mark(field string) template.HTMLAttr {
	if f.Wrong(field) == nil {
		return ""
	}
	return `aria-invalid="true" ` + f.Lead(field)
}

// Lead returns the attributes of a control that is one of the field's several.
func (f applicationForm) Lead(field string) template.HTMLAttr {
	switch {
	case f.Wrong(field) == nil:
		return ""
	case field == f.Problems[0].Field:
		return template.HTMLAttr(`aria-describedby="` + field + `-problem" autofocus`)
	default:
		return template.HTMLAttr(`aria-describedby="` + field + `-problem"`)
	}
}

func (f applicationForm) HasGrant(name string) bool { return slices.Contains(f.GrantTypes, name) }
func (f applicationForm) HasScope(name string) bool { return slices.Contains(f.Scope, name) }
func (f applicationForm) ScopeText() string         { return joinScope(f.Scope) }

// blankForm offers what most applications need.
func (s *server) blankForm() applicationForm {
	f := applicationForm{ID: uuid.NewString(), Grants: s.profile.grantTypes(), Scopes: s.profile.Scopes}
	for _, name := range []string{"authorization_code", "refresh_token"} {
		if slices.Contains(s.profile.Grants, name) {
			f.GrantTypes = append(f.GrantTypes, name)
		}
	}
	if f.Scope = strings.Fields(s.profile.defaultScope()); len(f.Scope) == 0 {
		f.Scope = s.profile.scopeNames()
	}
	return f
}

// formOf describes an application as it is.
func (s *server) formOf(c *client) applicationForm {
	f := applicationForm{
		Name:        c.Name,
		URI:         c.URI,
		Description: c.Description,
		OutOfBand:   slices.Contains(c.RedirectURIs, outOfBand),
		Public:      c.public(),
		Scope:       strings.Fields(c.Scope),
		Version:     c.version(),
		Grants:      s.profile.grantTypes(),
		Scopes:      s.profile.Scopes,
	}
	f.RedirectURIs = strings.Join(slices.DeleteFunc(slices.Clone(c.RedirectURIs), func(uri string) bool { return uri == outOfBand }), "\n")
	for _, name := range s.profile.Grants {
		if c.mayUse(name, s.profile) {
			f.GrantTypes = append(f.GrantTypes, name)
		}
	}
	if c.Scope == "" {
		f.Scope = s.profile.scopeNames()
	}
	return f
}

// formFrom reads a form that was sent. What it has no field for, such as
// secret and owner, cannot be set by it.
func (s *server) formFrom(sent url.Values) applicationForm {
	return applicationForm{
		Name:         strings.TrimSpace(sent.Get("client_name")),
		URI:          strings.TrimSpace(sent.Get("client_uri")),
		Description:  strings.TrimSpace(strings.ReplaceAll(sent.Get("description"), "\r\n", "\n")),
		RedirectURIs: strings.ReplaceAll(sent.Get("redirect_uris"), "\r\n", "\n"),
		OutOfBand:    sent.Get("out_of_band") != "",
		Public:       sent.Get("token_endpoint_auth_method") == "none",
		GrantTypes:   sent["grant_types"],
		Scope:        strings.Fields(strings.Join(sent["scope"], " ")),
		ID:           sent.Get("form_id"),
		Version:      sent.Get("version"),
		Grants:       s.profile.grantTypes(),
		Scopes:       s.profile.Scopes,
	}
}

// maxRedirectURIs is how long all redirect URIs together may be, in characters.
const maxRedirectURIs = 4096

// client makes of the form a client, which takes the place of existing if that
// is not nil, and its secret, if one was made. The checks are those of every
// registration (RFC 6749 §2, §3.1.2) and, for those who fill in a form, that
// nothing is left out. The error is memberErrors that name the fields.
func (f applicationForm) client(p *profile, clientID, owner string, existing *client) (*client, string, error) {
	fixture := &clientFixture{ClientID: clientID, ClientName: f.Name, ClientURI: f.URI, Owner: owner,
		RedirectURIs: []string{}, GrantTypes: []string{}, Scope: joinScope(f.Scope)}
	if f.Public {
		fixture.TokenEndpointAuthMethod = "none"
	}
	uris := strings.Split(f.RedirectURIs, "\n")
	if f.OutOfBand {
		uris = append(uris, outOfBand)
	}
	for _, uri := range uris {
		if uri = strings.TrimSpace(uri); uri != "" && !slices.Contains(fixture.RedirectURIs, uri) {
			fixture.RedirectURIs = append(fixture.RedirectURIs, uri)
		}
	}
	for _, name := range p.Grants {
		if slices.Contains(f.GrantTypes, name) {
			fixture.GrantTypes = append(fixture.GrantTypes, name)
		}
	}
	problems := fixture.problems(p)
	problems.add(f.Name == "", "client_name", "is missing: it is what people are asked about")
	description := strings.ReplaceAll(f.Description, "\n", " ")
	problems.add(!isTextOf(500, description) || !isOpen(description), "description", "must be text of at most 500 characters, none of them invisible")
	problems.add(len(strings.Join(fixture.RedirectURIs, "\n")) > maxRedirectURIs, "redirect_uris", "are longer than 4096 characters together")
	problems.add((f.HasGrant("authorization_code") || f.HasGrant("implicit")) && len(fixture.RedirectURIs) == 0,
		"redirect_uris", "are missing: give at least one, or tick out of band, for the grants that go through the browser")
	problems.add(f.Public && f.HasGrant("client_credentials"),
		"grant_types", "cannot have client credentials: a public application has none (RFC 6749 §4.4)")
	// One without any would be a resource server, which sees the tokens of all.
	problems.add(len(fixture.GrantTypes) == 0 && (existing == nil || !existing.resourceServer()), "grant_types", "are missing: tick at least one")
	problems.add(len(fixture.Scope) == 0 && len(p.Scopes) > 0, "scope", "is missing: tick at least one")
	if len(problems) > 0 {
		return nil, "", problems
	}
	c, secret := newClient(fixture, p, existing)
	c.Description, c.RegisteredBy = f.Description, aUser
	return c, secret, nil
}

// withProblems notes what is wrong with the form, one thing a field, in words
// for who filled it in.
func (f applicationForm) withProblems(all memberErrors) applicationForm {
	for _, field := range []problem{{Field: "client_name", Label: "name"}, {Field: "client_uri", Label: "website"}, {Field: "description", Label: "description"},
		{Field: "redirect_uris", Label: "redirect URIs"}, {Field: "grant_types", Label: "grants"}, {Field: "scope", Label: "scope"}} {
		for _, m := range all {
			if m.member == field.Field {
				field.Text = "The " + field.Label + " " + m.error.Error() + "."
			} else if number, found := strings.CutPrefix(m.member, field.Field+"["); found {
				n, _ := strconv.Atoi(strings.TrimSuffix(number, "]"))
				field.Text = fmt.Sprintf("Redirect URI %d %v.", n+1, m.error)
			}
			if field.Text != "" {
				f.Problems = append(f.Problems, field)
				break
			}
		}
	}
	return f
}

// version tells one state of what the form shows from another.
func (c *client) version() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q", c.Name, c.URI, c.Description, c.RedirectURIs, c.GrantTypes, c.Scope))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// applicationPage shows a form for a new application, or for one there is.
type applicationPage struct {
	accountPage
	Client   *client // nil: a new one
	Form     applicationForm
	Examples []example
	Done     string // what has just been done, in a word; see handleEditApplication
}

func (s *server) writeApplication(w http.ResponseWriter, status int, a *accountRequest, p applicationPage) error {
	p.accountPage = s.accountPage(a.visitor, a.Request)
	if p.Client != nil {
		p.Examples = s.examples(a.visitor, p.Client, "")
	}
	return s.writePage(w, status, "application.html", p)
}

// handleNewApplication registers an application.
func (s *server) handleNewApplication(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	page := applicationPage{Form: s.blankForm()}
	if a.Method != http.MethodPost {
		return s.writeApplication(w, http.StatusOK, a, page)
	}
	page.Form = s.formFrom(x.form)
	// A form that is sent twice, as a reload does, makes one application: its
	// client_id is that form's, and nobody's to choose.
	clientID := uuid.NewSHA1(uuid.Nil, []byte(a.mac("application", x.form.Encode()))).String()
	c, secret, err := page.Form.client(s.profile, clientID, a.user.Username, nil)
	if err == nil {
		err = s.store.addClient(c, maxApplications)
	}
	var problems memberErrors
	switch {
	case errors.As(err, &problems):
		page.Form = page.Form.withProblems(problems)
		return s.writeApplication(w, http.StatusUnprocessableEntity, a, page)
	case errors.Is(err, errRegistered):
		x.clientID = clientID
		seeOther(w, s.applicationURL(clientID, "registered"))
		return nil
	case errors.Is(err, errTooMany):
		page.Form.Problem = fmt.Sprintf("You have %d applications, which is as many as one may: delete one first.", maxApplications)
		return s.writeApplication(w, http.StatusUnprocessableEntity, a, page)
	case err != nil:
		return err
	}
	x.clientID = c.ClientID
	return s.writeRegistered(w, a, c, secret, "is registered")
}

// writeRegistered shows an application's secret, this once, and how to use it.
func (s *server) writeRegistered(w http.ResponseWriter, a *accountRequest, c *client, secret, what string) error {
	return s.writePage(w, http.StatusOK, "registered.html", struct {
		accountPage
		Client       *client
		Secret, What string
		Examples     []example
	}{s.accountPage(a.visitor, a.Request), c, secret, what, s.examples(a.visitor, c, secret)})
}

// ownClient returns the user's application of a client_id.
func (s *server) ownClient(a *accountRequest, clientID string) (*client, error) {
	c, err := s.store.clientNamed(clientID)
	if err == nil && (c == nil || c.Owner != a.user.Username) {
		err = noApplication()
	}
	return c, err
}

// changeApplication changes the user's application, or deletes it if change
// returns nil.
func (s *server) changeApplication(a *accountRequest, clientID string, change func(*client) (*client, error)) error {
	err := s.store.changeClient(a.user.Username, clientID, change)
	if errors.Is(err, errUnknown) {
		return noApplication()
	}
	return err
}

// errChanged keeps a form from undoing what another one has just done.
var errChanged = errors.New("the application was changed meanwhile")

// applicationURL leads to an application; done is what has just been done with it.
func (s *server) applicationURL(clientID, done string) string {
	return s.base + "/account/applications/edit?" + parameters{{"done", done}, {"id", clientID}}.encode()
}

// handleEditApplication shows an application to its owner, and changes it.
func (s *server) handleEditApplication(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	id := x.query.values.Get("id")
	if a.Method == http.MethodPost {
		id = x.form.Get("id")
	}
	c, err := s.ownClient(a, id)
	if err != nil {
		return err
	}
	x.clientID = c.ClientID
	page := applicationPage{Client: c, Form: s.formOf(c), Done: x.query.values.Get("done")}
	if a.Method != http.MethodPost {
		return s.writeApplication(w, http.StatusOK, a, page)
	}
	page.Form = s.formFrom(x.form)
	err = s.changeApplication(a, id, func(c *client) (*client, error) {
		page.Form.Public = c.public() // fixed when it was registered
		changed, _, err := page.Form.client(s.profile, c.ClientID, c.Owner, c)
		switch stands := c.version(); {
		case err == nil && changed.version() == stands:
			return c, nil // saved already
		case page.Form.Version != stands:
			page.Form.Version = stands
			return nil, errChanged
		default:
			return changed, err
		}
	})
	var problems memberErrors
	switch {
	case errors.As(err, &problems):
		page.Form = page.Form.withProblems(problems)
		return s.writeApplication(w, http.StatusUnprocessableEntity, a, page)
	case errors.Is(err, errChanged):
		page.Form.Problem = "The application was changed while you were here. Nothing was saved: compare, then save again to make it as it stands below."
		return s.writeApplication(w, http.StatusConflict, a, page)
	case err != nil:
		return err
	}
	seeOther(w, s.applicationURL(id, "saved"))
	return nil
}

// handleRegenerateSecret gives an application a new secret; the old one is no
// good any more.
func (s *server) handleRegenerateSecret(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	secret := newClientSecret()
	var changed *client
	err := s.changeApplication(a, x.form.Get("id"), func(c *client) (*client, error) {
		if c.public() {
			return nil, invalidRequest(rfc6749("2.1"), secretOfPublicClient, "a public application has no secret")
		}
		c.SecretHash = hashSecret(secret)
		changed = c
		return c, nil
	})
	if err != nil {
		return err
	}
	x.clientID = changed.ClientID
	return s.writeRegistered(w, a, changed, secret, "has a new secret")
}

// handleDeleteApplication removes an application, and with it all that was
// issued to it.
func (s *server) handleDeleteApplication(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	if err := s.changeApplication(a, x.form.Get("id"), func(*client) (*client, error) { return nil, nil }); err != nil {
		return err
	}
	seeOther(w, s.base+"/account/applications")
	return nil
}

// handleAuthorized lists the applications that may act for the user, the last
// used first among those of a page.
func (s *server) handleAuthorized(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	clients, err := s.store.grantees(a.user.ID)
	if err != nil {
		return err
	}
	type row struct {
		*permission
		Asked []scope
	}
	var rows []row
	shown := partOf(clients, x.query.values.Get("page"), authorizedPerPage)
	for _, registration := range shown.Entries {
		of, err := s.store.permission(a.user.ID, registration, x.now)
		if err != nil {
			return err
		}
		if of != nil {
			rows = append(rows, row{of, s.profile.described(of.Scope)})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(max(b.Used, b.Since), max(a.Used, a.Since)) })
	return s.writePage(w, http.StatusOK, "authorized.html", struct {
		accountPage
		Applications part[row]
	}{s.accountPage(a.visitor, a.Request), part[row]{rows, shown.Number, shown.Previous, shown.Next}})
}

// handleRevokeAuthorized ends all that the user granted to an application:
// codes, tokens and the consent.
func (s *server) handleRevokeAuthorized(w http.ResponseWriter, a *accountRequest, x *exchange) error {
	c, err := s.store.clientNamed(x.form.Get("id"))
	if err == nil && c != nil {
		x.clientID = c.ClientID
		err = s.store.revokeGrants(a.user.ID, c.ID)
	}
	if err != nil {
		return err
	}
	seeOther(w, s.base+"/account/authorized?"+parameters{{"page", x.form.Get("page")}}.encode())
	return nil
}
