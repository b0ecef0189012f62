package main

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed explanations
var explanationFiles embed.FS

// explanation is what people are told about a reason. Its text is
// explanations/SLUG.md, in the form that parseExplanation reads.
type explanation struct {
	Reason  reason
	Title   string
	Check   string    // what the server looked at, as something that is so
	Rules   []section // the one that the refusal cites, and others
	Answer  string
	Decides []*decider
	Related []reason
	Try     string // the step of the playground where one can provoke it, or ""

	What, Rule, Causes []string // paragraphs, and the causes with the likeliest first
	Scene              []string // before the two requests
	Wrong, Right       *sample  // nil: no request shows it
}

// sample is a request that shows what is wrong, or right.
type sample struct {
	Title string
	Lines []sampleLine
}

// sampleLine is a line of a request. Mark is "-" or "+" where wrong and right differ.
type sampleLine struct{ Mark, Text string }

// explanations has that of each reason. It is read when somebody asks first.
var explanations = sync.OnceValue(func() map[reason]*explanation {
	all := make(map[reason]*explanation)
	for _, why := range reasons {
		text := must(explanationFiles.ReadFile("explanations/" + why.slug() + ".md")) // a test compares files and reasons
		all[why] = must(parseExplanation(why, string(text)))                          // and reads them all
	}
	return all
})

// parseExplanation reads the text about a reason: a title, lines with a name and a
// colon, and sections.
func parseExplanation(why reason, text string) (*explanation, error) {
	head, rest, _ := strings.Cut(text, "\n\n## ")
	title, lines, _ := strings.Cut(head, "\n")
	e := &explanation{Reason: why, Title: strings.TrimPrefix(title, "# ")}
	said := make(map[string]string)
	for line := range strings.SplitSeq(lines, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		said[name] = value
	}
	e.Check, e.Try, e.Answer = said["check"], said["try"], codeInAnswer.ReplaceAllString(said["answer"], "`$0`")
	for rule := range strings.SplitSeq(said["rule"], ", ") {
		e.Rules = append(e.Rules, section(rule))
	}
	named := namesOf(why)
	for function := range strings.SplitSeq(said["decides"], ", ") {
		name, file, _ := strings.Cut(function, " in ")
		found, err := findSource(name, file, named)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", why.slug(), err)
		}
		e.Decides = append(e.Decides, found)
	}
	for slug := range strings.SplitSeq(said["related"], ", ") {
		i := slices.IndexFunc(reasons, func(other reason) bool { return other.slug() == slug })
		if i < 0 {
			return nil, fmt.Errorf("%s: related: no reason is %q", why.slug(), slug)
		}
		e.Related = append(e.Related, reasons[i])
	}
	for part := range strings.SplitSeq(rest, "\n## ") {
		name, body, _ := strings.Cut(part, "\n")
		switch name {
		case "What happened":
			e.What = paragraphs(body)
		case "The rule":
			e.Rule = paragraphs(body)
		case "Usual causes":
			for _, cause := range paragraphs(body) {
				e.Causes = append(e.Causes, causeNumber.ReplaceAllString(cause, ""))
			}
		case "Wrong and right":
			e.parseSamples(body)
		default:
			return nil, fmt.Errorf("%s: the section %q is unknown", why.slug(), name)
		}
	}
	if e.Title == "" || e.Check == "" || e.Answer == "" || len(e.What) == 0 || len(e.Rule) == 0 || len(e.Causes) == 0 || (e.Wrong == nil) != (e.Right == nil) {
		return nil, fmt.Errorf("%s: a part is missing", why.slug())
	}
	return e, nil
}

var causeNumber = regexp.MustCompile(`^[0-9]+\. `)

// paragraphs are the lines of a text that are not empty.
func paragraphs(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return line == "" })
}

// parseSamples reads the two requests, whose lines are indented, and what comes
// before them.
func (e *explanation) parseSamples(text string) {
	samples := make(map[string]*sample)
	var current *sample
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		kind, title, _ := strings.Cut(line, ": ")
		sent, isSent := strings.CutPrefix(line, "    ")
		switch {
		case kind == "wrong" || kind == "right":
			current = &sample{Title: title}
			samples[kind] = current
		case current != nil && (isSent || line == ""):
			l := sampleLine{Text: sent}
			if len(sent) > 1 && strings.Contains("-+", sent[:1]) && sent[1] == ' ' {
				l = sampleLine{sent[:1], sent[2:]}
			}
			current.Lines = append(current.Lines, l)
		case line != "":
			e.Scene = append(e.Scene, line)
		}
	}
	e.Wrong, e.Right = samples["wrong"], samples["right"]
}

var (
	codeInAnswer = regexp.MustCompile(`\b(?:[0-9]{3}|[a-z]+_[a-z_]+)\b`)
	codeInText   = regexp.MustCompile("`([^`]+)`")
	strongInText = regexp.MustCompile(`\*\*(.+?)\*\*`)
)

// marked makes HTML of a text of the explanations, with its `code` and **bold**.
func marked(text string) template.HTML {
	escaped := template.HTMLEscapeString(text)
	escaped = codeInText.ReplaceAllString(escaped, "<code>$1</code>")
	return template.HTML(strongInText.ReplaceAllString(escaped, "<strong>$1</strong>"))
}

// Link is where an RFC has the section, behind rfc-editor.org/rfc/, or "" for
// another document.
func (s section) Link() string {
	number, at, _ := strings.Cut(strings.TrimPrefix(string(s), "RFC "), " ")
	switch {
	case !strings.HasPrefix(string(s), "RFC "):
		return ""
	case strings.HasPrefix(at, "Appendix "):
		return "rfc" + number + "#appendix-" + strings.TrimPrefix(at, "Appendix ")
	default:
		return "rfc" + number + "#section-" + strings.TrimPrefix(at, "§")
	}
}

// addExplanations adds the routes of the pages that explain.
func (s *server) addExplanations(add func(path, methods string, handle handler)) {
	for _, path := range []string{"/explain/", "/explain"} { // people leave out the slash
		add(path, "GET", s.visited(s.handleExplanations))
	}
	for _, why := range reasons {
		add("/explain/"+why.slug(), "GET", s.visited(s.handleExplanation(why)))
	}
}

// handleExplanations lists all refusals.
func (s *server) handleExplanations(w http.ResponseWriter, r *http.Request, x *exchange) error {
	return s.writePage(w, x, http.StatusOK, "explanations.html", reasonGroups())
}

// handleExplanation explains one.
func (s *server) handleExplanation(why reason) handler {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		e := explanations()[why]
		lesson, _, _ := strings.Cut(e.Try, "#")
		_, _, plays := s.findRoute(http.MethodGet, s.base+"/playground/"+lesson)
		return s.writePage(w, x, http.StatusOK, "explain.html", struct {
			*explanation
			Case  *refusedCase
			Plays bool // the playground has the step
		}{e, s.findCase(r, x, why), plays && e.Try != ""})
	}
}

// refusedCase is a recorded exchange that was refused for the reason of a page.
type refusedCase struct {
	*loggedRequest
	Earlier *loggedRequest // the last before it that presented the same code or token, or nil
	Token   string         // the public id of that
	Apart   time.Duration
}

// findCase finds the exchange that the query names, for those who may use the
// inspector.
func (s *server) findCase(r *http.Request, x *exchange, why reason) *refusedCase {
	id, err := strconv.Atoi(x.query.values.Get("exchange"))
	_, _, inspects := s.findRoute(http.MethodGet, s.base+"/inspect")
	if err != nil || !inspects || s.guardPrivate(r) != nil {
		return nil
	}
	q := &s.eras.now().requests
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.IndexFunc(q.kept, func(l *loggedRequest) bool { return l.ID == id && l.Reason == why.slug() })
	if at < 0 {
		return nil
	}
	found := &refusedCase{loggedRequest: q.kept[at]}
	for _, earlier := range slices.Backward(q.kept[:at]) {
		for _, p := range found.presented {
			if earlier.Reason == "" && slices.ContainsFunc(earlier.presented, func(e seen) bool { return e.id == p.id }) {
				found.Earlier, found.Token, found.Apart = earlier, p.id.String(), found.at.Sub(earlier.at)
				return found
			}
		}
	}
	return found
}

// Link is the name of the page with the exchange.
func (c *refusedCase) Link() string { return cmp.Or(c.Flow, "x"+strconv.Itoa(c.ID)) }

// Shown is the function that decides, to be shown first: one that names the reason.
func (e *explanation) Shown() *decider {
	i := slices.IndexFunc(e.Decides, func(f *decider) bool { return f.Marks })
	return e.Decides[max(i, 0)]
}

// Others are the functions that it works with.
func (e *explanation) Others() []*decider {
	return slices.DeleteFunc(slices.Clone(e.Decides), func(f *decider) bool { return f == e.Shown() })
}

// Kin are the explanations of related reasons.
func (e *explanation) Kin() (kin []*explanation) {
	for _, why := range e.Related {
		kin = append(kin, explanations()[why])
	}
	return kin
}

// reasonGroup is a part of the list of reasons, under its comment there.
type reasonGroup struct {
	Title        string
	Explanations []*explanation
}

// reasonGroups are all reasons, as errors_reasons.go groups them.
func reasonGroups() (groups []*reasonGroup) {
	for _, match := range regexp.MustCompile(`(?m)^\t// (.*)\.$|newReason\("(.*)"\)`).FindAllStringSubmatch(sourceOf("errors_reasons.go"), -1) {
		if match[1] != "" {
			groups = append(groups, &reasonGroup{Title: match[1]})
			continue
		}
		last := groups[len(groups)-1]
		last.Explanations = append(last.Explanations, explanations()[reason(match[2])])
	}
	return groups
}

// Clock is the time of day of an exchange.
func (l *loggedRequest) Clock() string { return l.at.Format("15:04:05") }

// Ago is how long after the earlier exchange it came.
func (c *refusedCase) Ago() string {
	if c.Apart < 50*time.Millisecond {
		return "a moment"
	}
	if c.Apart < time.Minute {
		return strconv.FormatFloat(c.Apart.Seconds(), 'f', 1, 64) + " s"
	}
	return c.Apart.Round(time.Second).String()
}
