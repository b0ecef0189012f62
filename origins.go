package main

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strings"
)

// isAddressed reports whether a Host is loopback or one of the names.
func isAddressed(host string, names ...string) bool {
	host = strings.TrimSuffix(hostOf(host), ".")
	return isLoopback(host) || slices.ContainsFunc(names, func(name string) bool {
		return host != "" && strings.EqualFold(strings.TrimSuffix(name, "."), host)
	})
}

// misdirected refuses a request for another host. A web page could let its own
// name resolve to this machine, and would then have this server's origin.
func (s *server) misdirected() error {
	return misdirectedRequest(rfc9110("7.4"), hostUnknown, "Host must be localhost, a loopback address, the host of the issuer "+s.issuer()+" or one of -control-host")
}

// defaultHeader is the header of every answer. Assets replace Cache-Control.
var defaultHeader = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"X-Frame-Options":         {"DENY"},
	"Referrer-Policy":         {"same-origin"}, // no-referrer would send Origin: null with the forms
	"Content-Security-Policy": {contentSecurityPolicy},
	"Cache-Control":           {"no-store"}, // RFC 6749 §5.1
	"Pragma":                  {"no-cache"},
}

// contentSecurityPolicy has no form-action: browsers would apply it to the
// redirect that answers a form too, and that may lead to the client. The one
// script adds buttons that copy, sends the form that answers a client, and ignores
// a second press; every page works without it.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"

// allowAnyOrigin lets web pages of any origin read the answer, and reports
// whether the request was only a preflight. found is nil for an unknown path.
func (s *server) allowAnyOrigin(w http.ResponseWriter, r *http.Request, found *route, methods string) (isPreflight bool) {
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, Grantling-Fault")
	if r.Method != http.MethodOptions || found == nil && r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	header.Set("Access-Control-Allow-Methods", cmp.Or(methods, "GET, POST, PUT, PATCH, DELETE"))
	header.Set("Access-Control-Allow-Headers", allowedHeaders(r.Header.Get("Access-Control-Request-Headers")))
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowedHeaders are the header fields that web pages may send: those that
// endpoints read, and those that the browser asks for.
func allowedHeaders(asked string) string {
	names := []string{"Authorization", "Content-Type"}
	for name := range strings.SplitSeq(asked, ",") {
		if name = strings.TrimSpace(name); isToken(name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// hostOf returns the host of an address, without brackets.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
