package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// responseModes are the ways in which an answer of a response type may go back to
// the client. The first is the one for requests that do not say.
// RFC 6749 §4.1.2, RFC 6749 §4.2.2
//
// Choice: response_mode is for codes. An access token stays in the fragment, which
// no server gets to see.
func (p *profile) responseModes(responseType string) []string {
	switch {
	case responseType == "token" && !p.ImplicitInQuery:
		return []string{"fragment"}
	case responseType == "token" || p.ResponseModes == nil:
		return []string{"query"}
	default:
		return p.ResponseModes
	}
}

// Modes lists the response modes for pages and errors.
func (p *profile) Modes(responseType string) string {
	return strings.Join(p.responseModes(responseType), " or ")
}

// responseMode is how the answer to a request goes back, errors included: as the
// request says, if it may, and otherwise as usual.
func (a *authorizationRequest) responseMode(p *profile) string {
	modes, asked := p.responseModes(a.responseType), a.values["response_mode"]
	if slices.Contains(modes, asked) && (asked != "form_post" || a.takesForms()) {
		return asked
	}
	return modes[0]
}

// takesForms reports whether a browser can send a form to the redirect URI. The
// URI of an app only opens it, and out of band there is none.
func (a *authorizationRequest) takesForms() bool {
	u, err := url.Parse(a.redirectURI)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http")
}

// checkResponseMode refuses a response_mode that this request cannot have.
func (a *authorizationRequest) checkResponseMode(p *profile, x *exchange) error {
	asked := a.values["response_mode"]
	if x.holds(responseModeWrong, asked == "" || asked == a.responseMode(p)) {
		return nil
	}
	description := "response_mode must be " + p.Modes(a.responseType) + " with this response_type, or be left out"
	if slices.Contains(p.responseModes(a.responseType), asked) {
		description = "response_mode form_post needs a redirect URI of http or https, which a browser can send a form to"
	}
	return invalidRequest(rfc6749("4.1.2"), responseModeWrong, description).about("response_mode")
}

// writeFormPost answers with a form that the browser sends to the client at once,
// or when its button is pressed.
// OAuth 2.0 Form Post Response Mode §2
func (s *server) writeFormPost(w http.ResponseWriter, x *exchange, request *authorizationRequest, answer parameters) {
	request.posted = answer
	w.Header().Set("Referrer-Policy", "origin") // the client may check Origin, which would be null
	fields := make(map[string]string)
	for _, parameter := range answer {
		fields[parameter.name] = parameter.value
	}
	err := s.writePage(w, x, http.StatusOK, "form_post.html", pageData{
		"Client": request.client, "Host": redirectHost(request.redirectURI), "URI": request.redirectURI, "Fields": fields,
	})
	if err != nil {
		panic(err) // the server's own template
	}
}
