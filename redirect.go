package main

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

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
