package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// outcome is what came of a step.
type outcome struct {
	Good    bool
	Said    string // the refusal in words, or ""
	Reason  string // its slug, or ""
	Answer  string // the first line
	Header  []string
	Body    string
	Members []memberShown
	Checks  []clientCheck // what the client looked at itself
	Took    string
	Logged  int // id of the exchange in the inspector, or 0
	Flow    string

	members object // of the answer, whole
	token   string // the access token in it, or ""
}

// memberShown is a member of an answer, and what it means.
type memberShown struct{ Name, Means string }

// clientCheck is a duty of the client.
type clientCheck struct {
	What string
	Rule section
	OK   bool
}

// requestShown is a request before it is sent.
type requestShown struct {
	Start  string // the first line up to the parameters
	Header []string
	Scheme string   // of the Authorization header, or ""
	Name   string   // of the client in it, for HTTP Basic
	Token  string   // in it, or the client's secret
	Pairs  []string // parameters, encoded
	InURL  bool     // where they are
}

// requestShown shows the request of a step with these parameters.
func (s *server) requestShown(st *step, all parameters, r *http.Request) requestShown {
	if st.Endpoint == "" && st.Page == "" {
		return requestShown{}
	}
	shown := requestShown{Start: strings.ToUpper(st.Kind) + " " + s.path(st), Header: []string{"Host: " + r.Host}}
	switch st.Kind {
	case "visit", "open":
		shown.Start, shown.InURL = "GET "+s.path(st)+"?", true
	case "get":
		shown.Scheme, shown.Token = s.schemeOf(st.Endpoint), all.get("access_token")
		return shown
	default:
		shown.Header = append(shown.Header, "Content-Type: application/x-www-form-urlencoded")
	}
	if st.Basic && all.get("client_secret") != "" {
		shown.Scheme, shown.Name, shown.Token = "Basic", all.get("client_id"), all.get("client_secret")
		all = all.without("client_id", "client_secret")
	}
	for _, one := range all {
		shown.Pairs = append(shown.Pairs, one.name+"="+strings.ReplaceAll(url.QueryEscape(one.value), url.QueryEscape("…"), "…"))
	}
	return shown
}

func (p parameters) without(names ...string) parameters {
	return slices.DeleteFunc(slices.Clone(p), func(one struct{ name, value string }) bool { return slices.Contains(names, one.name) })
}

// schemeOf is the Authorization scheme of a resource.
func (s *server) schemeOf(endpoint string) string {
	for _, resource := range s.profile.Resources {
		if resource.Endpoint == endpoint && len(resource.Schemes) > 0 {
			return resource.Schemes[0]
		}
	}
	return "Bearer"
}

// exchange sends the request of a step to this server itself, through all that
// every request goes through.
func (p *player) exchange(st *step, sent parameters, r *http.Request) *outcome {
	method, body := http.MethodGet, ""
	header := http.Header{"Accept": {"application/json"}}
	switch {
	case st.Kind == "get":
		header.Set("Authorization", p.s.schemeOf(st.Endpoint)+" "+sent.get("access_token"))
	case st.Basic && sent.get("client_secret") != "":
		basic := &http.Request{Header: header}
		basic.SetBasicAuth(url.QueryEscape(sent.get("client_id")), url.QueryEscape(sent.get("client_secret"))) // RFC 6749 §2.3.1
		sent = sent.without("client_id", "client_secret")
	}
	if st.Kind == "post" {
		method, body = http.MethodPost, sent.encode()
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	ctx, cancel := context.WithTimeout(r.Context(), exchangeTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, p.s.path(st), strings.NewReader(body))
	if err != nil {
		return &outcome{Said: "the request could not be made"}
	}
	request.Header, request.Host, request.RemoteAddr, request.TLS = header, r.Host, r.RemoteAddr, r.TLS
	x, answer := newExchange(request, p.s.clock.now()), &stagedAnswer{header: http.Header{}}
	began := realTime()
	p.s.serveAlone(answer, request, x)
	return p.outcome(answer, x, realTime().Sub(began))
}

// exchangeTime is how long the playground waits for an answer.
const exchangeTime = 10 * time.Second

// serveAlone answers a request that has no connection: one that is dropped gets no
// answer.
func (s *server) serveAlone(answer *stagedAnswer, request *http.Request, x *exchange) {
	defer func() {
		switch dropped := recover(); dropped {
		case nil:
		case http.ErrAbortHandler:
			*answer = stagedAnswer{}
		default:
			panic(dropped)
		}
	}()
	s.serve(answer, request, x)
}

// outcome shows an answer.
func (p *player) outcome(answer *stagedAnswer, x *exchange, took time.Duration) *outcome {
	if answer.status == 0 {
		return &outcome{Said: "no answer came"}
	}
	o := &outcome{Good: answer.status < 400, Answer: fmt.Sprint(answer.status, " ", http.StatusText(answer.status)),
		Took: fmt.Sprintf("%.1f ms", float64(took.Microseconds())/1000)}
	if x.logged != nil {
		o.Logged, o.Flow = x.logged.ID, x.logged.Flow
	}
	for _, name := range []string{"Content-Type", "Cache-Control", "WWW-Authenticate", "Retry-After", "Grantling-Fault"} {
		if value := answer.header.Get(name); value != "" {
			o.Header = append(o.Header, name+": "+value)
		}
	}
	if !o.Good {
		o.Said, o.Reason = x.ErrorDescription, x.Reason
		if x.refusal != nil && o.Said == "" {
			o.Said = x.refusal.Description
		}
	}
	decoded, _ := parseOrdered(answer.body)
	members, isObject := decoded.(object)
	if !isObject {
		o.Body = strings.TrimSpace(shorten(string(answer.body)))
		return o
	}
	o.members = members
	p.note(members)
	lines := []string{}
	for _, m := range members {
		lines = append(lines, fmt.Sprintf("%s: %s", must(marshalJSON(m.name)), must(marshalJSON(m.value))))
		if means := taught().Members[m.name]; means != "" {
			o.Members = append(o.Members, memberShown{m.name, means})
		}
	}
	o.Body = p.cover("{" + strings.Join(lines, ",\n ") + "}")
	return o
}

// note keeps the codes and tokens of an answer.
func (p *player) note(members object) {
	for _, m := range members {
		if text, isText := m.value.(string); isText {
			if id := p.s.profile.findID(text); id != uuid.Nil {
				p.hold(text, id)
			}
		}
	}
}

// cover replaces the codes and tokens in a text by their public ids.
func (p *player) cover(text string) string {
	for _, credential := range p.credentials {
		text = strings.ReplaceAll(text, credential, p.s.profile.findID(credential).String()+"…")
	}
	return strings.ReplaceAll(text, p.s.playground.secret, "…")
}

// learn takes from an answer what later steps need.
func (p *player) learn(st *step, sent parameters, o *outcome) {
	switch {
	case o.Good && st.Endpoint == "device_authorization":
		p.facts["device_code"], p.facts["user_code"] = o.members.text("device_code"), o.members.text("user_code")
		p.facts["waiting_code"], p.facts["used_device_code"] = p.facts["device_code"], ""
		p.forget()
		return
	case !o.Good || st.Endpoint != "token":
		return
	}
	if code := sent.get("code"); code != "" {
		p.facts["used_code"] = code
	}
	if code := sent.get("device_code"); code != "" {
		p.facts["used_device_code"], p.facts["waiting_code"] = code, ""
	}
	token := "access_token"
	if st.Basic {
		token = "client_token"
	} else {
		p.facts["granted_scope"] = cmp.Or(o.members.text("scope"), sent.get("scope"), p.facts["granted_scope"])
	}
	for _, m := range o.members {
		text, _ := m.value.(string)
		switch {
		case p.s.profile.findID(text) == uuid.Nil:
		case m.name == "refresh_token":
			p.facts["old_refresh_token"] = sent.get("refresh_token")
			p.facts["refresh_token"] = text
		default:
			p.facts[token], o.token = text, text
		}
	}
	p.forget()
}

// forget drops what was typed in place of codes and tokens in this lesson, because
// there are new ones.
func (p *player) forget() {
	maps.DeleteFunc(p.edits, func(place, _ string) bool { return strings.HasPrefix(place, p.lesson.Path+".") })
}

// keep takes the token that came in the fragment of the callback's URL, which the
// browser tells no server (RFC 6749 §4.2.2).
func (p *player) keep(st *step, sent parameters) {
	token := sent.get("access_token")
	id := p.s.profile.findID(token)
	o := &outcome{Good: id != uuid.Nil}
	if o.Good {
		p.hold(token, id)
		p.facts["implicit_token"] = token
		p.outcomes[p.key("authorize", nil)] = &outcome{Good: true} // it was answered with this
	} else {
		o.Said = "this is not a token of this server"
	}
	p.forget()
	p.outcomes[p.key(st.Name, nil)] = o
}

// cameBack looks at the answer that the browser brings (RFC 6749 §4.1.2), as a
// client should.
func (p *player) cameBack(away *trip, answer query) *outcome {
	v := answer.values
	credential := cmp.Or(v.Get("code"), v.Get("access_token"))
	if id := p.s.profile.findID(credential); id != uuid.Nil {
		p.hold(credential, id)
	}
	o := &outcome{Answer: "GET " + p.s.base + playgroundCallbackPath + "?" + p.cover(shorten(answer.text))}
	o.Checks = append(o.Checks, clientCheck{"state is the one that was sent", rfc6749("10.12"), away.state != "" && v.Get("state") == away.state})
	if p.s.profile.Iss {
		o.Checks = append(o.Checks, clientCheck{"iss is the server that was asked", "RFC 9207 §2.4", v.Get("iss") == p.s.issuer()})
	}
	o.Checks = append(o.Checks, clientCheck{"there is a code or a token, and no error", rfc6749("4.1.2"), credential != "" && !v.Has("error")})
	o.Good = !slices.ContainsFunc(o.Checks, func(c clientCheck) bool { return !c.OK })
	switch explained, isOurs := strings.CutPrefix(v.Get("error_uri"), p.s.url("/explain/")); {
	case v.Has("error"):
		o.Said = cmp.Or(v.Get("error_description"), v.Get("error"))
		if isOurs {
			o.Reason = explained
		}
	case !o.Good:
		o.Said = "the client throws this answer away, because it cannot tell that it is to its own request"
	}
	if away.broken != "" {
		return o
	}
	p.facts["came_back"] = "yes"
	delete(p.facts, "code")
	delete(p.facts, "used_code")
	if o.Good {
		fact := "code"
		if !v.Has("code") {
			fact = "implicit_token"
		}
		p.facts[fact], p.facts["redirect_uri"], p.facts["granted_scope"] = credential, away.redirectURI, away.scope
		p.forget()
	}
	return o
}
