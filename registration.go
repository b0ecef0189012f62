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

// registration is how clients register themselves, as RFC 7591 has it but with
// the service's own names.
type registration struct {
	Parameters map[string]string `json:"parameters" keys:"$registration"` // what the service calls them
	Required   []string          `json:"required" one:"$registration"`    // by their names here
	Scope      string            `json:"scope"`                           // of a client that asks for none
	MaxLength  map[string]int    `json:"max_length" keys:"$registration"` // in characters, by their names here; absent: no limit
	Answer     shape             `json:"answer"`
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

// registrationMembers are what clients can register about themselves.
var registrationMembers = []string{"client_name", "client_uri", "redirect_uris", "scope"}

// registrationTries is how many clients one source may register in a minute.
const registrationTries = 1000

// handleRegistration makes a confidential client.
func (s *server) handleRegistration(w http.ResponseWriter, r *http.Request, x *exchange) error {
	c, secret, err := s.registerClient(r, x)
	if err != nil {
		return err
	}
	x.clientID = c.ClientID
	return s.writeJSON(w, http.StatusOK, s.profile.Registration.Answer.fill(registrationFacts.of(registered{c, s, secret})))
}

func (s *server) registerClient(r *http.Request, x *exchange) (*client, string, error) {
	g := s.profile.Registration
	if x.wrong != nil {
		return nil, "", x.wrong
	}
	if wait := s.registrations.try(source(r), registrationTries, x.now); wait > 0 {
		return nil, "", tooManyGuesses(unavailable, section("RFC 7591 §5"), wait)
	}
	// A list is text with one element a line or, as in Ruby on Rails, several
	// parameters whose names end in [].
	value := func(name string) string {
		parameter := g.Parameters[name]
		return strings.Join(slices.Concat(x.form[parameter], x.form[parameter+"[]"]), "\n")
	}
	refused := func(name string, why reason, description string) error {
		return invalidClientMetadata(section("RFC 7591 §3.2.2"), why, g.Parameters[name]+" "+description).about(name)
	}
	for _, name := range slices.Sorted(maps.Keys(g.Parameters)) {
		parameter := g.Parameters[name]
		if texts, isList := x.lists[parameter]; isList && !(texts && (name == "redirect_uris" || name == "scope")) {
			return nil, "", refused(name, metadataInvalid, "must be a string")
		}
		if n := len(x.form[parameter]); n > 1 || n == 1 && x.form.Has(parameter+"[]") {
			return nil, "", refused(name, parameterTwice, "occurs more than once")
		}
	}
	for _, name := range g.Required {
		if strings.TrimSpace(value(name)) == "" {
			return nil, "", refused(name, parameterMissing, "is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.MaxLength)) {
		if utf8.RuneCountInString(value(name)) > g.MaxLength[name] {
			return nil, "", refused(name, metadataTooLong, "is too long")
		}
	}
	f := &clientFixture{
		ClientID:     newClientSecret(), // the services make theirs as hard to guess
		ClientName:   value("client_name"),
		ClientURI:    value("client_uri"),
		RedirectURIs: strings.Fields(value("redirect_uris")),
		Scope:        cmp.Or(strings.ReplaceAll(value("scope"), "\n", " "), g.Scope),
	}
	if wrong := f.problems(s.profile); len(wrong) > 0 {
		name, _, _ := strings.Cut(wrong[0].member, "[")
		var problem uriProblem
		if errors.As(wrong[0].error, &problem) {
			return nil, "", refused(name, problem.why, problem.text)
		}
		return nil, "", refused(name, metadataInvalid, wrong[0].error.Error())
	}
	c, secret := newClient(f, s.profile, nil)
	c.RegisteredBy = itself
	return c, secret, s.store.register(nil, []*client{c})
}

// answerParameters are what the server adds to a redirect URI. The URI must not
// have them itself.
var answerParameters = []string{"code", "state", "iss", "error", "error_description", "access_token", "token_type", "expires_in", "scope"}

// uriProblem is why a redirect URI cannot be registered.
type uriProblem struct {
	why  reason
	text string
}

func (p uriProblem) Error() string { return p.text }

// browserSchemes are schemes that browsers handle themselves.
var browserSchemes = []string{"about", "blob", "chrome", "data", "file", "filesystem", "ftp", "javascript", "jar", "resource", "vbscript", "view-source", "ws", "wss"}

// checkRedirectURI refuses redirect URIs that cannot work or are dangerous
// (RFC 6749 §3.1.2, RFC 8252 §7, RFC 9700 §2.6). The error is a uriProblem.
func checkRedirectURI(uri string, p *profile) error {
	if uri == outOfBand {
		return nil
	}
	u, err := url.Parse(uri)
	switch {
	case len(uri) > 2048:
		return uriProblem{metadataTooLong, "is longer than 2048 characters"}
	case strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\\\"<>^`{|}", r) }):
		return uriProblem{redirectURIMalformed, "has characters that a URI cannot have"}
	case strings.Contains(uri, "#"):
		return uriProblem{redirectURIFragment, "has a fragment (RFC 6749 §3.1.2)"}
	case err != nil || u.Scheme == "":
		return uriProblem{redirectURIRelative, "is not an absolute URI (RFC 6749 §3.1.2)"}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return uriProblem{redirectURIMalformed, "has a malformed query"}
	}
	for _, name := range answerParameters {
		if query.Has(name) {
			return uriProblem{redirectURIParameter, "has a parameter " + name + ", which the server adds itself"}
		}
	}
	if !isASCII(u.Host) {
		return uriProblem{redirectURIMalformed, "has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)"}
	}
	switch web := u.Scheme == "https" || u.Scheme == "http"; {
	case web && u.Hostname() == "":
		return uriProblem{redirectURIRelative, "has no host"}
	case web && u.User != nil:
		return uriProblem{redirectURIMalformed, "contains a user name"}
	case web && strings.Contains(u.Host, "*"):
		return uriProblem{redirectURIMalformed, "has a wildcard: redirect URIs are compared exactly (RFC 9700 §2.1)"}
	case u.Scheme == "http" && !isLoopbackURI(uri) && !p.allowsHost(u.Hostname()):
		return uriProblem{redirectURIInsecure, "is http on a host other than 127.0.0.1, [::1] and localhost: use https (RFC 9700 §2.6), or allow the host with -redirect-host"}
	case web || strings.Contains(u.Scheme, "."):
		return nil
	case u.Opaque != "": // localhost:8080/cb
		return uriProblem{redirectURIWithoutScheme, "has no scheme, or one that is neither https nor a reversed domain name such as com.example.app (RFC 8252 §7.1)"}
	case !p.AnyScheme || slices.Contains(browserSchemes, u.Scheme):
		return uriProblem{redirectURIScheme, "has a scheme that is neither https nor a reversed domain name such as com.example.app (RFC 8252 §7.1)"}
	}
	return nil
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

// onlyDifference returns which of nearMisses two redirect URIs differ by, or "".
func onlyDifference(one, other string) string {
	for _, miss := range nearMisses {
		if miss.without(one) == miss.without(other) {
			return miss.what
		}
	}
	return ""
}

var portOfURI = regexp.MustCompile(`^(https?://[^/?]*):[0-9]+($|[/?])`)
