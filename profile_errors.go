package main

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// errorRules say how a profile words errors. Of the rules that match an error,
// the last one that sets a member wins.
type errorRules []errorRule

// errorRule says how some errors are worded. Absent members change nothing.
type errorRule struct {
	At   []string `json:"at" empty:"false" one:"$endpoints"` // absent: all
	When []string `json:"when" empty:"false"`                // codes, reasons, or a reason followed by a parameter or grant type; absent: every error

	Status      int               `json:"status" from:"400" to:"499" rule:"RFC 9110 §15.5"` // the client is to blame
	Error       string            `json:"error"`
	Description string            `json:"description" facts:"parameter detail"`
	Hint        string            `json:"hint" facts:"parameter detail description"` // left out if one of its placeholders has no value
	Body        *shape            `json:"body" facts:"$error facts"`
	Headers     map[string]string `json:"headers" headers:"true" facts:"$error facts"` // an empty one is not sent
	By          string            `json:"by" one:"page json redirect"`                 // at the authorization endpoint
}

// form describes the rules, for the error about a document of another form.
func (errorRules) form() string {
	return `an array of rules, such as [{"at": ["token"], "when": ["invalid_client", "missing redirect_uri"], "status": 400}]; the last one that matches wins`
}

// told is an error in the profile's words.
type told struct {
	*oauthError
	hint    string
	state   string // of the authorization request
	uri     string // of the page that explains it, or ""
	body    *shape
	ownBody bool // body is from a rule for this endpoint
	headers map[string]string
	by      string
}

// tell words an error as the profile's rules say for this endpoint.
func (p *profile) tell(endpoint string, e *oauthError) told {
	words := *e
	t := told{oauthError: &words, headers: make(map[string]string)}
	why := string(e.Reason)
	subjects := []string{e.Code, why, why + " " + e.Parameter, why + " " + e.Detail}
	isSubject := func(when string) bool { return slices.Contains(subjects, when) }
	for _, rule := range p.Errors {
		if rule.At != nil && !slices.Contains(rule.At, endpoint) || rule.When != nil && !slices.ContainsFunc(rule.When, isSubject) {
			continue
		}
		if rule.Body != nil {
			t.body, t.ownBody = rule.Body, rule.At != nil
		}
		t.by = cmp.Or(rule.By, t.by)
		for name, value := range rule.Headers {
			t.headers[http.CanonicalHeaderKey(name)] = value
		}
		if e.Status >= 500 {
			continue // no rule blames the client for the server's own failure
		}
		words.Status = cmp.Or(rule.Status, words.Status)
		words.Code = cmp.Or(rule.Error, words.Code)
		words.Description = cmp.Or(rule.Description, words.Description)
		t.hint = cmp.Or(rule.Hint, t.hint)
	}
	f := toldFacts.of(t)
	words.Description = fillText(words.Description, f)
	for _, name := range pieces(t.hint) {
		if name != "" && f(name).kind == nothing {
			t.hint = ""
		}
	}
	t.hint = fillText(t.hint, f)
	return t
}

// toldFacts are the placeholders of error answers; descriptions and hints know
// ${parameter} and ${detail}.
var toldFacts = factsOf[told]{
	"error":       func(t told) fact { return text(t.Code) },
	"description": func(t told) fact { return text(t.Description) },
	"hint":        func(t told) fact { return text(t.hint) },
	"status":      func(t told) fact { return number(t.Status) },
	"parameter":   func(t told) fact { return text(t.Parameter) },
	"detail":      func(t told) fact { return text(t.Detail) },
	"error_uri":   func(t told) fact { return text(t.uri) },
	"state":       func(t told) fact { return text(t.state) },
}

// isErrorSubject reports whether an error can match an element of when.
func isErrorSubject(when string) bool {
	return when != "" && statusOf[when] != 0 || slices.ContainsFunc(reasons, func(why reason) bool {
		behind, found := strings.CutPrefix(when, string(why)+" ")
		return when == string(why) || found && (isParameter[behind] || slices.Contains(slices.Concat(clientMetadata, grantNames), behind))
	})
}
