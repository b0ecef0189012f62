package main

import (
	"maps"
	"slices"
	"strings"
)

// errorForm is how a refusal is told. What is absent stays as it is.
type errorForm struct {
	Status      int               `json:"status"`
	Error       string            `json:"error"`
	Description string            `json:"description"`
	Hint        string            `json:"hint"`
	Body        *shape            `json:"body"`
	Headers     map[string]string `json:"headers"` // an empty one is not sent
	By          string            `json:"by"`      // at the authorization endpoint: page, json or redirect
}

// isErrorKey reports whether a key of errors may say something: *, a code, or a
// reason, perhaps with the parameter that it is about, or the grant type that
// has one; each perhaps at an endpoint.
func isErrorKey(key string) bool {
	is := func(key string) bool {
		return key == "*" || slices.Contains(errorCodes, key) || slices.ContainsFunc(errorReasons, func(reason string) bool {
			parameter, found := strings.CutPrefix(key, reason+" ")
			return key == reason || found && (isParameter[parameter] || slices.Contains(registrationMembers, parameter) || slices.Contains(grantNames, parameter))
		})
	}
	endpoint, rest, _ := strings.Cut(key, " ")
	return is(key) || is(rest) && slices.Contains(slices.Concat(endpointNames, resourceNames), endpoint)
}

// told is a refusal in the profile's words.
type told struct {
	*refusal
	hint    string
	state   string // of the authorization request
	body    *shape
	ownBody bool // body is said for this endpoint in particular
	headers map[string]string
	by      string
}

// tell words a refusal as the profile's errors say for this endpoint.
func (p *profile) tell(endpoint string, r *refusal) told {
	words := *r
	t := told{refusal: &words, headers: make(map[string]string)}
	keys := []string{"*", r.Code, r.Reason, r.Reason + " " + r.Parameter}
	for _, key := range slices.Clone(keys) {
		keys = append(keys, endpoint+" "+key)
	}
	for i, key := range keys {
		form, ok := p.Errors[key]
		if !ok {
			continue
		}
		if form.Body != nil {
			t.body, t.ownBody = form.Body, i >= len(keys)/2
		}
		if form.By != "" {
			t.by = form.By
		}
		maps.Copy(t.headers, form.Headers)
		if r.Status >= 500 {
			continue // the server's own failure is never told as another's
		}
		if form.Status != 0 {
			words.Status = form.Status
		}
		if form.Error != "" {
			words.Code = form.Error
		}
		if form.Description != "" {
			words.Description = form.Description
		}
		if form.Hint != "" {
			t.hint = form.Hint
		}
	}
	f := t.facts()
	words.Description = fillText(words.Description, f)
	if r.Parameter == "" && strings.Contains(t.hint, "${parameter") {
		t.hint = "" // there is nothing to name
	}
	t.hint = fillText(t.hint, f)
	return t
}

// errorFacts are the placeholders of error answers; descriptions and hints
// know ${parameter}.
var errorFacts = []string{"error", "description", "hint", "status", "parameter", "state"}

func (t told) facts() facts {
	f := facts{"description": t.Description, "status": t.Status}
	for name, value := range map[string]string{"error": t.Code, "hint": t.hint, "parameter": t.Parameter, "state": t.state} {
		if value != "" {
			f[name] = value
		}
	}
	return f
}
