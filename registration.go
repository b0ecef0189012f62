package main

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// registration is how clients register themselves (RFC 7591). The members of a
// client have their RFC 7591 names here; the service may call them otherwise.
type registration struct {
	Parameters map[string]string `json:"parameters" keys:"$metadata"` // what the service calls each member
	Required   []string          `json:"required" one:"$metadata"`
	Scope      string            `json:"scope"`                       // of a client that asks for none
	MaxLength  map[string]int    `json:"max_length" keys:"$metadata"` // in characters; absent: no limit
	Answer     shape             `json:"answer" facts:"$registration facts"`
}

// registrationFacts are the placeholders of the registration's answer.
var registrationFacts = func() factsOf[registered] {
	all := factsOf[registered]{
		"client_secret": func(r registered) fact { return text(r.secret) },
		"scope":         func(r registered) fact { return text(r.Scope) },
	}
	addFacts(all, serverFacts, func(r registered) *server { return r.server })
	return addFacts(all, clientFacts, func(r registered) *client { return r.client })
}()

// registered is a new client and its secret.
type registered struct {
	*client
	server *server
	secret string
}

// clientMetadata is what clients can register about themselves (RFC 7591 §2).
var clientMetadata = []string{"client_name", "client_uri", "redirect_uris", "scope"}

// registrationTries is how many clients one source may register in a minute.
const registrationTries = 1000

// handleRegistration makes a confidential client.
func (s *server) handleRegistration(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if x.wrong != nil {
		return x.wrong
	}
	if wait := s.registrations.try(source(r), registrationTries, x.now); !x.holds(guessedTooOften, wait == 0) {
		return tooManyGuesses(unavailable, section("RFC 7591 §5"), wait)
	}
	metadata, err := s.profile.parseClientMetadata(x.form, x.lists, x)
	if err != nil {
		return err
	}
	c, secret := newClient(metadata, s.profile, nil)
	c.RegisteredBy = itself
	if err := s.store.register(nil, []*client{c}); err != nil {
		return err
	}
	x.ClientID = c.ClientID
	return s.writeJSON(w, http.StatusOK, s.profile.Registration.Answer.fill(registrationFacts.of(registered{c, s, secret})))
}

// parseClientMetadata reads what a client says about itself (RFC 7591 §2). A list
// is text with one element a line or, as in Ruby on Rails, several parameters whose
// names end in [].
func (p *profile) parseClientMetadata(form url.Values, lists map[string]bool, x *exchange) (*clientFixture, error) {
	g := p.Registration
	value := func(name string) string {
		parameter := g.Parameters[name]
		return strings.Join(slices.Concat(form[parameter], form[parameter+"[]"]), "\n")
	}
	refused := func(name string, why reason, problem string) error {
		return invalidClientMetadata(section("RFC 7591 §3.2.2"), why, g.Parameters[name]+" "+problem).about(name)
	}
	for _, name := range slices.Sorted(maps.Keys(g.Parameters)) {
		parameter := g.Parameters[name]
		if texts, isList := lists[parameter]; !x.holds(metadataInvalid, !isList || texts && (name == "redirect_uris" || name == "scope")) {
			return nil, refused(name, metadataInvalid, "must be a string")
		}
		if n := len(form[parameter]); !x.holds(parameterTwice, n == 0 || n == 1 && !form.Has(parameter+"[]")) {
			return nil, refused(name, parameterTwice, "occurs more than once")
		}
	}
	for _, name := range g.Required {
		if !x.holds(parameterMissing, strings.TrimSpace(value(name)) != "") {
			return nil, refused(name, parameterMissing, "is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.MaxLength)) {
		if !x.holds(metadataTooLong, utf8.RuneCountInString(value(name)) <= g.MaxLength[name]) {
			return nil, refused(name, metadataTooLong, "is too long")
		}
	}
	f := &clientFixture{metadata: metadata{
		ClientID:     newClientSecret(), // as hard to guess as those of the services
		Name:         value("client_name"),
		URI:          value("client_uri"),
		RedirectURIs: strings.Fields(value("redirect_uris")),
		Scope:        cmp.Or(strings.ReplaceAll(value("scope"), "\n", " "), g.Scope),
	}}
	if wrong := f.problems(p); len(wrong) > 0 {
		name, _, _ := strings.Cut(wrong[0].member, "[")
		problem := uriProblem{wrong[0].error, metadataInvalid}
		errors.As(wrong[0].error, &problem)
		x.holds(problem.why, false)
		return nil, refused(name, problem.why, problem.Error())
	}
	return f, nil
}

// answerParameters are what the server adds to a redirect URI. The URI must not
// have them itself.
var answerParameters = []string{"code", "state", "iss", "error", "error_description", "error_uri", "access_token", "token_type", "expires_in", "scope"}

// browserSchemes are schemes that browsers handle themselves.
var browserSchemes = []string{"about", "blob", "chrome", "data", "file", "filesystem", "ftp", "javascript", "jar", "resource", "vbscript", "view-source", "ws", "wss"}

// uriProblem is why a redirect URI cannot be registered.
type uriProblem struct {
	error
	why reason
}

// checkRedirectURI refuses redirect URIs that cannot work or are dangerous
// (RFC 6749 §3.1.2, RFC 8252 §7, RFC 9700 §2.6). The error is a uriProblem.
func checkRedirectURI(uri string, p *profile) (first error) {
	if uri == outOfBand {
		return nil
	}
	refuse := func(isWrong bool, why reason, text string) {
		if isWrong && first == nil {
			first = uriProblem{errors.New(text), why}
		}
	}
	notInURIs := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\\\"<>^`{|}", r) }
	refuse(len(uri) > 2048, metadataTooLong, "is longer than 2048 characters")
	refuse(strings.ContainsFunc(uri, notInURIs), redirectURIMalformed, "has characters that a URI cannot have")
	refuse(strings.Contains(uri, "#"), redirectURIFragment, "has a fragment (RFC 6749 §3.1.2)")
	u, err := url.Parse(uri)
	if err != nil {
		u = new(url.URL)
	}
	refuse(u.Scheme == "", redirectURIRelative, "is not an absolute URI (RFC 6749 §3.1.2)")
	query, err := url.ParseQuery(u.RawQuery)
	refuse(err != nil, redirectURIMalformed, "has a malformed query")
	for _, name := range answerParameters {
		refuse(query.Has(name), redirectURIParameter, "has a parameter "+name+", which the server adds itself")
	}
	refuse(!isASCII(u.Host), redirectURIMalformed, "has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)")
	if u.Scheme == "https" || u.Scheme == "http" {
		refuse(u.Hostname() == "", redirectURIRelative, "has no host")
		refuse(u.User != nil, redirectURIMalformed, "contains a user name")
		refuse(strings.Contains(u.Host, "*"), redirectURIMalformed, "has a wildcard: redirect URIs are compared exactly (RFC 9700 §2.1)")
		refuse(u.Scheme == "http" && !isLoopbackURI(uri) && !p.allowsHost(u.Hostname()), redirectURIInsecure,
			"is http on a host other than 127.0.0.1, [::1] and localhost: use https (RFC 9700 §2.6), or allow the host with -redirect-host")
	} else if !strings.Contains(u.Scheme, ".") {
		const neither = "that is neither https nor a reversed domain name such as com.example.app (RFC 8252 §7.1)"
		refuse(u.Opaque != "", redirectURIWithoutScheme, "has no scheme, or one "+neither) // localhost:8080/cb
		refuse(!p.AnyScheme || slices.Contains(browserSchemes, u.Scheme), redirectURIScheme, "has a scheme "+neither)
	}
	return first
}

// allowsHost reports whether the operator allows http redirect URIs on a host.
//
// Deviation: RFC 9700 §2.6 allows http on loopback only. Services in containers
// have names instead, and no certificates.
func (p *profile) allowsHost(host string) bool {
	return slices.ContainsFunc(p.redirectHosts, func(name string) bool {
		if parent, below := strings.CutPrefix(name, "*"); below { // .localhost
			return len(host) > len(parent) && strings.EqualFold(host[len(host)-len(parent):], parent)
		}
		return strings.EqualFold(host, name)
	})
}

// nearMisses are the usual differences between redirect URIs, each with a
// function that removes it.
var nearMisses = []struct {
	what    string
	without func(uri string) string
}{
	{"the slash at its end", func(uri string) string { return strings.TrimSuffix(uri, "/") }},
	{"upper and lower case", strings.ToLower},
	{"its scheme, http or https", func(uri string) string { return strings.Replace(uri, "https://", "http://", 1) }},
	{"its port", func(uri string) string { return portOfURI.ReplaceAllString(uri, "$1$2") }},
	{"the loopback host (localhost, 127.0.0.1 and [::1] are not the same)", strings.NewReplacer("://127.0.0.1", "://localhost", "://[::1]", "://localhost").Replace},
}

// onlyBy says that two redirect URIs differ only by one of nearMisses, or returns "".
func onlyBy(one, other string) string {
	for _, miss := range nearMisses {
		if miss.without(one) == miss.without(other) {
			return " only by " + miss.what
		}
	}
	return ""
}

var portOfURI = regexp.MustCompile(`^(https?://[^/?]*):[0-9]+($|[/?])`)
