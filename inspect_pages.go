package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"
)

// habit is what a warning means.
type habit struct {
	Warning, Badge, Text string
	Rule                 section
}

// meaning is what a parameter is for.
type meaning struct{ Name, Meaning string }

// inspectTexts are what the inspector says of parameters and habits.
var inspectTexts = func() (texts struct {
	Parameters []meaning
	Habits     []habit
}) {
	if err := json.Unmarshal(must(templateFiles.ReadFile("templates/inspect.json")), &texts); err != nil {
		panic(err)
	}
	return texts
}()

// habitOf is what a warning means.
func habitOf(warning string) habit {
	i := slices.IndexFunc(inspectTexts.Habits, func(h habit) bool { return h.Warning == warning })
	return inspectTexts.Habits[i] // a test has them all
}

// Badges are the short names of the habits in a flow.
func (f *flow) Badges() []string { return badgesOf(f.Warnings()) }

// Badges are those of one exchange.
func (l *loggedRequest) Badges() []string { return badgesOf(l.Warnings) }

func badgesOf(warnings []string) (badges []string) {
	for _, w := range warnings {
		badges = append(badges, habitOf(w).Badge)
	}
	return badges
}

// reasonOf has each reason by its slug.
var reasonOf = sync.OnceValue(func() map[string]reason {
	all := make(map[string]reason)
	for _, why := range reasons {
		all[why.slug()] = why
	}
	return all
})

// Explained is the explanation of a refusal, or nil.
func (l *loggedRequest) Explained() *explanation { return explanations()[reasonOf()[l.Reason]] }

// Title says in a few words why a request was refused.
func (l *loggedRequest) Title() string {
	if e := l.Explained(); e != nil {
		return strings.ReplaceAll(e.Title, "`", "")
	}
	return cmp.Or(l.ErrorDescription, strings.ReplaceAll(l.Reason, "-", " "))
}

// lowerFirst makes a title a part of a sentence, unless it begins with a name.
func lowerFirst(title string) string {
	if len(title) < 2 || title[0] < 'A' || title[0] > 'Z' || title[1] < 'a' && title[1] != ' ' {
		return title
	}
	return strings.ToLower(title[:1]) + title[1:]
}

// shownFlow is a flow as the page shows it.
type shownFlow struct {
	*flow
	Steps   []*shownStep
	Habits  []shownHabit
	Formats map[string]format // of its codes and tokens
	Host    string            // of the server, as requests name it
}

// shownHabit is a habit, and the exchanges that have it.
type shownHabit struct {
	habit
	In []*loggedRequest
}

// shownStep is an exchange as the page shows it.
type shownStep struct {
	*loggedRequest
	Number      int
	After       string // since the first
	Lane        string // b-g: from the browser, c-g: from the client
	Call, Reply string // words beside the request and the status
	Parameters  []shownParameter
	Checks      []shownCheck
	Routine     []shownCheck // of the message itself, all passed
	Clock       string       // how the clock was moved before it, or ""
	Callback    string       // the request that the browser sends to the client after it, or ""
	Open        bool
}

type shownParameter struct {
	Name, Value, Meaning string
	Why                  []saying // of a code or a token
}

// shownCheck is a check. State is good, refused or waiting.
type shownCheck struct {
	State, Text string
	Rule        section
}

// isRoutine reports whether a check is about HTTP and encoding, and passed.
func (c shownCheck) isRoutine() bool {
	return c.State == "good" && (strings.HasPrefix(string(c.Rule), "RFC 9110") || strings.Contains(string(c.Rule), "Appendix"))
}

// shown makes what the page shows of a flow.
func (s *server) shown(f *flow) *shownFlow {
	shown := &shownFlow{flow: f, Formats: map[string]format{"code": s.profile.CodeFormat, "access_token": s.profile.AccessTokenFormat, "refresh_token": s.profile.RefreshTokenFormat}, Host: f.Exchanges[0].request.Header[0].Value}
	for i, l := range f.Exchanges {
		st := &shownStep{loggedRequest: l, Number: i + 1, After: sinceText(l.at.Sub(f.Exchanges[0].at)), Lane: "c-g", Call: l.callWords(), Reply: l.replyWords()}
		if slices.Contains([]string{"authorize", "oob", ""}, l.Endpoint) {
			st.Lane = "b-g"
		}
		if i > 0 && l.offset != f.Exchanges[i-1].offset {
			st.Clock = clockWords(l.offset - f.Exchanges[i-1].offset)
		}
		if l.Endpoint == "authorize" {
			st.Callback = l.callback()
		}
		st.Parameters = f.parametersOf(l)
		for _, c := range l.shownChecks() {
			if c.isRoutine() {
				st.Routine = append(st.Routine, c)
			} else {
				st.Checks = append(st.Checks, c)
			}
		}
		st.Open = l == f.decisive() && f.Outcome.Class == "refused"
		shown.Steps = append(shown.Steps, st)
	}
	for _, w := range f.Warnings() {
		h := shownHabit{habit: habitOf(w)}
		for _, l := range f.Exchanges {
			if slices.Contains(l.Warnings, w) {
				h.In = append(h.In, l)
			}
		}
		shown.Habits = append(shown.Habits, h)
	}
	return shown
}

// ref is a link to an exchange of a flow.
type ref struct{ ID, Number int }

// Ref is the link to an exchange.
func (f *flow) Ref(l *loggedRequest) *ref {
	if l == nil {
		return nil
	}
	return &ref{l.ID, f.Number(l)}
}

// shownSaying is a piece of a text, and the link after it or nil.
type shownSaying struct {
	Text string
	Ref  *ref
}

// Sayings are the pieces of a text with links.
func (f *flow) Sayings(text []saying) (shown []shownSaying) {
	for _, piece := range text {
		shown = append(shown, shownSaying{piece.Text, f.Ref(piece.Exchange)})
	}
	return shown
}

// shownNode is a code or a token in the tree.
type shownNode struct {
	Node               *credentialNode
	Name, Begins, Mark string
	Why                []shownSaying
	Children           []*shownNode
}

// Node makes what the page shows of a code or a token, and of what came of it.
func (f *shownFlow) Node(n *credentialNode) *shownNode {
	names := map[string]string{"code": "Code", "access_token": "Access token", "refresh_token": "Refresh token"}
	marks := map[string]string{"alive": "good", "revoked": "refused"}
	shown := &shownNode{Node: n, Name: names[n.Kind], Begins: n.Begins(f.Formats[n.Kind]), Mark: cmp.Or(marks[n.State], "ended"), Why: f.Sayings(n.Why)}
	if n.Twice() {
		shown.Mark = "refused"
	}
	for _, child := range n.Children {
		shown.Children = append(shown.Children, f.Node(child))
	}
	return shown
}

// Nodes are all codes and tokens of the flow, in the order of the tree.
func (f *shownFlow) Nodes() (nodes []*shownNode) {
	for _, n := range allOf(f.Family) {
		nodes = append(nodes, f.Node(n))
	}
	return nodes
}

// decisive is the newest exchange that was refused or failed, or nil.
func (f *flow) decisive() *loggedRequest {
	for _, l := range slices.Backward(f.Exchanges) {
		if l.Reason != "" || l.Status >= 400 || l.Status == 0 {
			return l
		}
	}
	return nil
}

// Refused is the exchange whose refusal is the outcome of the flow, or nil.
func (f *flow) Refused() *loggedRequest {
	if f.Outcome.Class != "refused" {
		return nil
	}
	return f.decisive()
}

// StagedIn are the exchanges that a fault changed.
func (f *flow) StagedIn() (all []*loggedRequest) {
	for _, l := range f.Exchanges {
		if l.Fault != "" {
			all = append(all, l)
		}
	}
	return all
}

// What templates show of an exchange.

func (l *loggedRequest) At() time.Time    { return l.at }
func (l *loggedRequest) Request() message { return l.request }
func (l *loggedRequest) Answer() message  { return l.answer }
func (l *loggedRequest) Unsent() message  { return l.unsent }
func (l *loggedRequest) Staged() string   { return l.staged }
func (l *loggedRequest) Decided() bool    { return l.decided }
func (l *loggedRequest) Bad() bool        { return l.Reason != "" || l.Status >= 400 || l.Error != "" }

// PageShown is what people call the page that was shown, or "".
func (l *loggedRequest) PageShown() string {
	switch l.page {
	case "login.html":
		return "sign-in page"
	case "consent.html":
		return "consent page"
	case "code.html":
		return "page with the code"
	case "form_post.html":
		return "form that sends the code"
	case "error.html":
		return "error page"
	case "":
		return ""
	}
	return "page"
}

// Own are the fields of an answer's header that not every answer has.
func (m message) Own() []field { return m.fields(false) }

// Common are those that every answer has.
func (m message) Common() []field { return m.fields(true) }

func (m message) fields(common bool) (fields []field) {
	all := m.Header
	if m.Usual {
		all = slices.Clone(all)
		for _, name := range slices.Sorted(maps.Keys(defaultHeader)) {
			all = append(all, field{name, defaultHeader[name][0]})
		}
	}
	for _, f := range all {
		_, isDefault := defaultHeader[f.Name]
		isCommon := isDefault && f.Name != "Cache-Control" || strings.HasPrefix(f.Name, "Access-Control-") || f.Name == "Date"
		if isCommon == common {
			fields = append(fields, f)
		}
	}
	return fields
}

// Bytes is the size of the body in words.
func (m message) Bytes() string {
	text := strconv.Itoa(m.Size)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text + " byte" + plural(m.Size)
}

// callWords say what a request asks for, beside its path.
func (l *loggedRequest) callWords() string {
	switch decision, _ := l.Params["decision"].(string); {
	case decision != "":
		return decision
	case l.Endpoint != "token":
		return ""
	}
	switch grant, _ := l.Params["grant_type"].(string); grant {
	case "authorization_code":
		return "code"
	case "refresh_token":
		return "refresh"
	case deviceGrant:
		return "device code"
	default:
		return strings.ReplaceAll(grant, "_", " ")
	}
}

// replyWords say what an answer brings, beside its status.
func (l *loggedRequest) replyWords() string {
	location := l.answer.value("Location")
	switch {
	case l.Reason != "" && l.Error != "":
		return l.Error + " · " + strings.ReplaceAll(l.Reason, "-", " ")
	case l.Reason != "":
		return strings.ReplaceAll(l.Reason, "-", " ")
	case l.page != "":
		return l.PageShown()
	case l.Endpoint == "" && location != "":
		return "back to the request"
	case location != "" && len(l.given) > 0:
		return "with a " + strings.ReplaceAll(kindOf(l.given[0].name), "_", " ")
	case location != "":
		return "redirect"
	case len(l.given) > 1:
		return "access and refresh token"
	case len(l.given) == 1:
		return strings.ReplaceAll(kindOf(l.given[0].name), "_", " ")
	case l.Endpoint == "device_authorization":
		return "device and user code"
	case l.Endpoint == "revoke":
		return "revoked"
	case l.Endpoint == "introspect" && strings.Contains(l.answer.Body, `"active":false`):
		return "not active"
	case l.Endpoint == "introspect":
		return "active"
	}
	return strings.TrimLeft(l.answer.Start, "0123456789 ")
}

// value is the first field of a header with this name, or "".
func (m message) value(name string) string {
	for _, f := range m.Header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// callback is the request that a browser sends to the client after a redirect, with
// its parameters cut, or "".
func (l *loggedRequest) callback() string {
	location := l.answer.value("Location")
	before, fragment, isFragment := strings.Cut(location, "#")
	u, err := url.Parse(before)
	if err != nil || u.Host == "" || u.Host == l.request.value("Host") {
		return ""
	}
	encoded := u.RawQuery
	if isFragment {
		encoded = fragment
	}
	var names []string
	for pair := range strings.SplitSeq(encoded, "&") {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name+"=…")
	}
	separator := "?"
	if isFragment {
		separator = "#"
	}
	return cmp.Or(u.EscapedPath(), "/") + separator + strings.Join(names, "&")
}

// shownChecks are the checks of an exchange, and the question that it ended with.
func (l *loggedRequest) shownChecks() (checks []shownCheck) {
	for _, c := range l.checks {
		e := explanations()[c.Reason]
		shown := shownCheck{"good", string(c.Reason), ""}
		if e != nil {
			shown.Text, shown.Rule = strings.ReplaceAll(e.Check, "`", ""), e.Rules[0]
		}
		if !c.OK {
			shown.State = "refused"
			if l.Section != "" && c.Reason.slug() == l.Reason {
				shown.Rule = l.Section
			}
		}
		checks = append(checks, shown)
	}
	switch {
	case l.page == "login.html" && l.Reason == "":
		checks = append(checks, shownCheck{"waiting", "who the user is: the sign-in page", rfc6749("3.1")})
	case l.page == "consent.html":
		checks = append(checks, shownCheck{"waiting", "whether the user agrees: the consent page", rfc6749("4.1.1")})
	}
	return checks
}

// parametersOf are the parameters of an exchange with their meaning, in the order
// in which they are explained.
func (f *flow) parametersOf(l *loggedRequest) (shown []shownParameter) {
	if value := l.request.value("Authorization"); value != "" {
		shown = append(shown, shownParameter{"Authorization", value, "who asks", f.whyOf(l, "Authorization")})
	}
	explained := slices.Clone(inspectTexts.Parameters)
	for _, name := range slices.Sorted(maps.Keys(l.Params)) {
		if !slices.ContainsFunc(explained, func(e meaning) bool { return e.Name == name }) {
			explained = append(explained, meaning{name, "not used by this server"})
		}
	}
	for _, e := range explained {
		p := shownParameter{Name: e.Name, Meaning: e.Meaning, Why: f.whyOf(l, e.Name)}
		switch value := l.Params[e.Name].(type) {
		case string:
			p.Value = value
		case []string:
			p.Value = strings.Join(value, ", ")
		default:
			continue // it was not sent
		}
		shown = append(shown, p)
	}
	return shown
}

// whyOf is what became of the code or the token that a parameter has, or nil.
func (f *flow) whyOf(l *loggedRequest, name string) []saying {
	for _, p := range l.presented {
		for _, n := range allOf(f.Family) {
			if p.name == name && n.ID == p.id {
				return n.Why
			}
		}
	}
	return nil
}

// sinceText is how long after the first exchange another came.
func sinceText(d time.Duration) string {
	seconds := d.Round(time.Millisecond).Seconds()
	minutes := int(seconds) / 60
	switch {
	case d < time.Minute:
		return fmt.Sprintf("+%.3f s", seconds)
	case d < time.Hour:
		return fmt.Sprintf("+%d:%04.1f", minutes, seconds-float64(60*minutes))
	default:
		return fmt.Sprintf("+%d h %02d:%04.1f", minutes/60, minutes%60, seconds-float64(60*minutes))
	}
}

// clockWords say how far the clock was moved.
func clockWords(by time.Duration) string {
	if by < 0 {
		return "clock was moved back by " + durationWords(-by)
	}
	return "clock was moved forward by " + durationWords(by)
}

func durationWords(d time.Duration) string {
	d = d.Round(time.Second)
	var words []string
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if n := d / unit.size; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, unit.name))
			d -= n * unit.size
		}
	}
	return cmp.Or(strings.Join(words, " "), "less than 1 s")
}

// transcriptTemplate is a flow as text, for a bug report.
var transcriptTemplate = template.Must(template.New("inspect.txt").Funcs(template.FuncMap{
	"line": func(text string) string { return strings.ReplaceAll(text, "\n", `\n`) },
}).ParseFS(templateFiles, "templates/inspect.txt"))

// writeTranscript writes what clients sent so that it cannot do anything in a terminal:
// each character that shows nothing as Go writes it.
func (s *server) writeTranscript(w http.ResponseWriter, f *flow) error {
	var text, safe strings.Builder
	if err := transcriptTemplate.Execute(&text, s.shown(f)); err != nil {
		return err
	}
	for _, r := range text.String() {
		if r == '\n' || strconv.IsGraphic(r) {
			safe.WriteRune(r)
		} else {
			safe.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := io.WriteString(w, safe.String())
	return err
}
