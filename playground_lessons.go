package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// curriculum is the lessons of the playground, as data.
type curriculum struct {
	Lessons []lesson          `json:"lessons"`
	Members map[string]string `json:"members"` // of answers, and what each means
}

// lesson walks through one grant or endpoint.
type lesson struct {
	Path     string `json:"path"` // below that of the playground
	Title    string `json:"title"`
	Short    string `json:"short"` // the title in the list
	Grant    string `json:"grant"`
	Endpoint string `json:"endpoint"` // that the profile must have too, or ""
	Outdated bool   `json:"outdated"`
	Steps    []step `json:"steps"`
}

// step is one thing that a client does. Kind is one of
//
//	compute  hashes the verifier
//	visit    sends the browser to an endpoint, from where it comes back
//	open     opens a page, from where nothing comes back
//	back     looks at what came back
//	keep     takes a token out of the browser's address
//	post     sends a form to an endpoint
//	get      shows an access token to an endpoint
type step struct {
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`
	Title      string          `json:"title"`
	Text       string          `json:"text"`
	Done       string          `json:"done"` // what has happened after it
	Endpoint   string          `json:"endpoint"`
	Page       string          `json:"page"`  // instead of an endpoint
	Basic      bool            `json:"basic"` // client_id and client_secret go into the Authorization header
	Needs      string          `json:"needs"` // a placeholder that must have a value before
	Lacks      string          `json:"lacks"` // what is said until then
	First      string          `json:"first"` // the lesson that makes the value
	Parameters []stepParameter `json:"parameters"`
	Breaks     []breakage      `json:"breaks"`
}

// stepParameter is a parameter of a request, whose value may have placeholders.
type stepParameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Means string `json:"means"`
}

// breakage sends a step with something wrong in it.
type breakage struct {
	Name   string            `json:"name"`
	Label  string            `json:"label"`
	Text   string            `json:"text"`
	Needs  string            `json:"needs"`
	Lacks  string            `json:"lacks"`
	Change map[string]string `json:"change"`
	Twice  bool              `json:"twice"` // sends it again if it is refused
	Why    string            `json:"why"`   // explains it where the server refuses nothing
}

// taught is templates/lessons.json. It is read when the playground is on.
var taught = sync.OnceValue(func() (c curriculum) {
	const file = "templates/lessons.json"
	must(parseDocument(file, must(templateFiles.ReadFile(file)), &c)) // embedded, and tested
	return c
})

// lessons are those that the profile has everything for.
func (s *server) lessons() (all []*lesson) {
	for _, l := range taught().Lessons {
		l.Steps = slices.DeleteFunc(slices.Clone(l.Steps), func(st step) bool { return st.Endpoint != "" && s.advertised(st.Endpoint) == "" })
		if slices.Contains(s.profile.Grants, l.Grant) && (l.Endpoint == "" || s.advertised(l.Endpoint) != "") {
			all = append(all, &l)
		}
	}
	return all
}

func (l *lesson) step(name string) *step {
	if i := slices.IndexFunc(l.Steps, func(st step) bool { return st.Name == name }); i >= 0 {
		return &l.Steps[i]
	}
	return nil
}

// stepAfter is the step after one that sends the browser away.
func (l *lesson) stepAfter(name string) *step {
	return &l.Steps[slices.IndexFunc(l.Steps, func(st step) bool { return st.Name == name })+1]
}

func (st *step) breakage(name string) *breakage {
	if i := slices.IndexFunc(st.Breaks, func(b breakage) bool { return b.Name == name }); i >= 0 {
		return &st.Breaks[i]
	}
	return nil
}

// path is where the request of a step goes.
func (s *server) path(st *step) string {
	if st.Page != "" {
		return s.base + st.Page
	}
	return s.base + s.profile.paths(st.Endpoint)[0]
}

// fact is the value of a placeholder, or "" if there is none yet.
func (p *player) fact(name string) string {
	switch name {
	case "callback":
		return p.callback
	case "redirect_uri":
		return cmp.Or(p.facts[name], p.callback)
	case "other_redirect_uri":
		return p.otherRedirectURI()
	case "code_challenge":
		return challengeFor(p.facts["code_verifier"])
	case "other_verifier":
		return challengeFor("another one than " + p.facts["code_verifier"]) // 43 good characters
	case "unknown_token":
		return p.unknownToken()
	case "scope":
		return p.s.exampleScope(p.s.playgroundClient(publicPlayer))
	case "confidential_scope":
		return p.s.exampleScope(p.s.playgroundClient(confidentialPlayer))
	case "wider_scope":
		return p.widerScope()
	case "client_secret":
		return p.s.playground.secret
	case "username":
		return p.username
	default:
		return p.facts[name]
	}
}

// challengeFor is the S256 challenge of a verifier (RFC 7636 §4.2).
func challengeFor(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// otherRedirectURI is registered too, but not the one that was sent.
func (p *player) otherRedirectURI() string {
	for _, uri := range p.s.playgroundClient(publicPlayer).RedirectURIs {
		if !matchRedirectURI(uri, p.fact("redirect_uri")) {
			return uri
		}
	}
	return ""
}

// unknownToken is the access token with one character of its secret changed.
func (p *player) unknownToken() string {
	token := p.facts["access_token"]
	if token == "" {
		return ""
	}
	at, other := len(token)-5, "A"
	if token[at] == 'A' {
		other = "B"
	}
	return token[:at] + other + token[at+1:]
}

// widerScope is what was granted and one token more, or "" if the profile has no
// more or does not look at the scope.
func (p *player) widerScope() string {
	granted := p.facts["granted_scope"]
	if p.s.profile.TokenScopeIgnored {
		return ""
	}
	for _, token := range append(p.s.profile.scopeNames(), "write", "admin") {
		if _, ok := p.s.profile.findScope(token); ok && !covers(granted, token) {
			return strings.TrimSpace(granted + " " + token)
		}
	}
	return ""
}

// fill replaces the placeholders of a text. complete is false if one has no value.
func (p *player) fill(text string) (filled string, complete bool) {
	var b strings.Builder
	complete = true
	for literal, name := range pieces(text) {
		b.WriteString(literal)
		if name != "" {
			value := p.fact(name)
			b.WriteString(value)
			complete = complete && value != ""
		}
	}
	return b.String(), complete
}

// isHidden has the parameters whose values are never in a URL.
var isHidden = map[string]bool{"access_token": true, "client_secret": true, "code": true, "code_verifier": true,
	"device_code": true, "password": true, "refresh_token": true, "token": true}

// shown is a value as pages show it: of a code or a token its public id, of a
// secret and a password nothing.
func (p *player) shown(name, value string) string {
	switch {
	case name == "password":
		return ""
	case name == "code_verifier" || name == "code_challenge": // may look like a token
		return value
	case name == "client_secret" && value == p.s.playground.secret:
		return "…"
	}
	if id := p.s.profile.findID(value); id != uuid.Nil {
		return p.hold(value, id)
	}
	return value
}

// whole is the value that a shown one stands for.
func (p *player) whole(name, shown string) string {
	if name == "client_secret" && shown == "…" {
		return p.s.playground.secret
	}
	for _, credential := range slices.Backward(p.credentials) {
		if shown == p.s.profile.findID(credential).String()+"…" {
			return credential
		}
	}
	return shown
}

// edit notes what a form changes in the parameters of a step.
func (p *player) edit(st *step, form url.Values) {
	for _, parameter := range st.Parameters {
		if !form.Has(parameter.Name) || parameter.Name == "password" {
			continue
		}
		value := form.Get(parameter.Name)
		standard, _ := p.fill(parameter.Value)
		isChanged := value != p.shown(parameter.Name, standard)
		place := st.Name + "." + parameter.Name
		switch {
		case st.Kind == "compute":
			p.facts[parameter.Name] = shorten(value)
		case isHidden[parameter.Name]:
			delete(p.edits, p.lesson.Path+"."+place)
			if isChanged && len(p.edits) < maxEdits {
				p.edits[p.lesson.Path+"."+place] = p.whole(parameter.Name, shorten(value))
			}
		case isChanged:
			p.query.Set(place, value)
		default:
			p.query.Del(place)
		}
	}
}

// value is that of a parameter: the one that was set, or else the standard one.
func (p *player) value(st *step, parameter stepParameter) (value string, isChanged bool) {
	place := st.Name + "." + parameter.Name
	if edited, ok := p.edits[p.lesson.Path+"."+place]; ok {
		return edited, true
	}
	if p.query.Has(place) && !isHidden[parameter.Name] {
		return p.query.Get(place), true
	}
	value, _ = p.fill(parameter.Value)
	return value, false
}

// sent are the parameters that a step sends, with what a break changes. Empty ones
// are not sent.
func (p *player) sent(st *step, broken *breakage) (all parameters) {
	for _, parameter := range st.Parameters {
		value, _ := p.value(st, parameter)
		all.set(parameter.Name, value)
	}
	if broken != nil {
		for name, value := range broken.Change {
			value, _ = p.fill(value)
			all.set(name, value)
		}
	}
	return slices.DeleteFunc(all, func(one struct{ name, value string }) bool { return one.value == "" })
}

func (p parameters) get(name string) string {
	for _, one := range p {
		if one.name == name {
			return one.value
		}
	}
	return ""
}

func (p *parameters) set(name, value string) {
	for i := range *p {
		if (*p)[i].name == name {
			(*p)[i].value = value
			return
		}
	}
	*p = append(*p, parameters{{name, value}}...)
}

// What the page shows of a lesson.

type lessonPage struct {
	*lesson
	Lessons []*lesson
	Shown   []stepShown
	Link    string // the URL of the lesson
}

type stepShown struct {
	*step
	Open, Missing bool
	Fields        []fieldShown
	Request       requestShown
	Hash          string // of the verifier, in hexadecimal
	Outcome       *outcome
	Ended         string // why what the outcome brought works no more, or ""
	Breaks        []breakShown
	Challenge     string
}

type fieldShown struct{ Name, Value, Standard, Means string }

// Changed reports whether the value is not the standard one.
func (f fieldShown) Changed() bool { return f.Value != f.Standard }

type breakShown struct {
	*breakage
	Missing bool
	Outcome *outcome
}

// page is what the page shows of the lesson now.
func (p *player) page(lessons []*lesson, r *http.Request) lessonPage {
	shown := lessonPage{lesson: p.lesson, Lessons: lessons, Link: p.url()}
	for i := range p.lesson.Steps {
		shown.Shown = append(shown.Shown, p.step(&p.lesson.Steps[i], r))
	}
	open := max(0, slices.IndexFunc(p.lesson.Steps, func(st step) bool { return st.Name == p.latest[p.lesson.Path] }))
	shown.Shown[open].Open = true
	return shown
}

func (p *player) step(st *step, r *http.Request) stepShown {
	shown := stepShown{step: st, Missing: st.Needs != "" && p.fact(st.Needs) == "", Outcome: p.outcomes[p.key(st.Name, nil)]}
	if shown.Outcome != nil && shown.Outcome.token != "" {
		var ended *oauthError
		if _, err := p.s.findToken(shown.Outcome.token, newExchange(r, p.s.clock.now())); errors.As(err, &ended) {
			shown.Ended = ended.Description
		}
	}
	var all parameters
	for _, parameter := range st.Parameters {
		value, _ := p.value(st, parameter)
		standard, _ := p.fill(parameter.Value)
		f := fieldShown{parameter.Name, p.shown(parameter.Name, value), p.shown(parameter.Name, standard), parameter.Means}
		if f.Name == "state" && value == p.facts["sent_state"] {
			f.Means += "; this one has been sent, and the next request gets another"
		}
		shown.Fields = append(shown.Fields, f)
		if f.Value != "" {
			all.set(f.Name, f.Value)
		}
	}
	shown.Request = p.s.requestShown(st, all, r)
	if st.Kind == "compute" {
		sum := sha256.Sum256([]byte(p.facts["code_verifier"]))
		shown.Hash, shown.Challenge = hex.EncodeToString(sum[:]), p.fact("code_challenge")
	}
	for i := range st.Breaks {
		broken := &st.Breaks[i]
		possible := true
		for _, change := range broken.Change {
			_, complete := p.fill(change)
			possible = possible && complete
		}
		missing := broken.Needs != "" && p.fact(broken.Needs) == ""
		if possible || missing {
			shown.Breaks = append(shown.Breaks, breakShown{broken, missing, p.outcomes[p.key(st.Name, broken)]})
		}
	}
	return shown
}
