package main

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// flow is one authorization and all that came of it, or one exchange by itself.
type flow struct {
	ID        string           // x and the id of the exchange if it is by itself
	Exchanges []*loggedRequest // oldest first
	Family    []*credentialNode
	Outcome   standing
	Client    string // what people call it
}

// standing is how a flow stands. Class is refused, waiting, issued, ended or, if the
// flow is about no authorization, "".
type standing struct{ Class, Words string }

// outcomes are the classes that people can filter by, and their names.
var outcomes = []struct{ Class, Name string }{
	{"", "All"}, {"refused", "Refused"}, {"waiting", "In progress"}, {"issued", "Issued"}, {"ended", "Ended"},
}

// credentialNode is a code or a token of a flow.
type credentialNode struct {
	ID       uuid.UUID
	Kind     string // code, access_token or refresh_token
	State    string // alive, used, expired or revoked
	Why      []saying
	From     *credentialNode // that it was issued for, or nil
	Children []*credentialNode

	fate
	issuedIn *loggedRequest
	lost     bool             // the answer that had it was not sent
	shownIn  []*loggedRequest // that presented it at the token endpoint
}

// saying is a piece of a text, or a link to an exchange.
type saying struct {
	Text     string
	Exchange *loggedRequest
}

// snapshot returns what is kept, oldest first.
func (q *requests) snapshot() []*loggedRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.kept)
}

// isShown reports whether the inspector lists a request: all but pages that are
// part of no flow and refused nothing.
func (l *loggedRequest) isShown() bool {
	return l.Flow != "" || l.Endpoint != "" || l.Reason != "" && l.Path != "/favicon.ico"
}

// flows returns the flows of the requests kept, newest first. now tells which of
// their tokens have expired.
func (s *server) flows(kept []*loggedRequest, now unixTime) ([]*flow, error) {
	byID := make(map[string]*flow)
	var all []*flow
	for _, l := range slices.Backward(kept) {
		if !l.isShown() {
			continue
		}
		id := cmp.Or(l.Flow, "x"+strconv.Itoa(l.ID))
		if byID[id] == nil {
			byID[id] = &flow{ID: id}
			all = append(all, byID[id])
		}
		byID[id].Exchanges = append(byID[id].Exchanges, l)
	}
	var ids []uuid.UUID
	for _, f := range all {
		slices.Reverse(f.Exchanges)
		for _, l := range f.Exchanges {
			ids = append(ids, l.ids...)
		}
	}
	fates, err := s.store.fates(ids, now)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		f.grow(fates)
		f.Outcome = f.outcome()
	}
	return all, nil
}

// grow makes the family of a flow: what was issued for what.
func (f *flow) grow(fates map[uuid.UUID]fate) {
	nodes := make(map[uuid.UUID]*credentialNode)
	add := func(s seen, from *credentialNode, in *loggedRequest) *credentialNode {
		n := nodes[s.id]
		if n == nil {
			known, isKnown := fates[s.id]
			n = &credentialNode{ID: s.id, fate: known, From: from, issuedIn: in}
			n.Kind, n.State = cmp.Or(known.kind, kindOf(s.name)), known.state
			if !isKnown {
				n.State = "expired"
			}
			nodes[s.id] = n
			if from != nil {
				from.Children = append(from.Children, n)
			} else {
				f.Family = append(f.Family, n)
			}
		}
		return n
	}
	for _, l := range f.Exchanges {
		var from *credentialNode
		for _, p := range l.presented {
			if _, isKnown := fates[p.id]; !isKnown && nodes[p.id] == nil {
				continue // it may be of nobody
			}
			n := add(p, nil, nil)
			if l.Endpoint == "token" && !slices.Contains(n.shownIn, l) {
				n.shownIn = append(n.shownIn, l)
				from = n
			}
		}
		for _, g := range l.given {
			if slices.Contains(l.issued, g.id) {
				add(g, from, l).lost = l.answer.Start == ""
			}
		}
		for _, id := range l.issued { // in a page, whose text is not kept
			if _, isKnown := fates[id]; isKnown && nodes[id] == nil {
				add(seen{id: id}, from, l)
			}
		}
	}
	ended := f.endedIn()
	for _, n := range nodes {
		n.explain(ended)
	}
}

// kindOf is what a parameter or a member has.
func kindOf(name string) string {
	switch {
	case name == "code":
		return "code"
	case strings.Contains(name, "refresh"):
		return "refresh_token"
	default:
		return "access_token"
	}
}

// endedIn is the exchange that revoked the grant of a flow, or nil if none of these did.
func (f *flow) endedIn() *loggedRequest {
	for _, l := range f.Exchanges {
		isReuse := l.Reason == codeUsed.slug() || l.Reason == refreshTokenUsed.slug()
		if isReuse || l.Endpoint == "revoke" && l.Status == http.StatusOK && len(l.presented) > 0 {
			return l
		}
	}
	return nil
}

// explain says why a code or a token is in its state.
func (n *credentialNode) explain(ended *loggedRequest) {
	say := func(text string, in *loggedRequest) {
		if in != nil {
			n.Why = append(n.Why, saying{Text: text + " in "}, saying{Exchange: in}, saying{Text: ". "})
		} else if text != "" {
			n.Why = append(n.Why, saying{Text: text + ". "})
		}
	}
	switch {
	case n.issuedIn == nil:
		say("Issued before what is kept, or by the control API", nil)
	case n.lost:
		say("Issued, but the answer was not sent,", n.issuedIn)
	default:
		say("Issued", n.issuedIn)
	}
	for i, l := range n.shownIn {
		switch {
		case i == 0 && l.Reason == "":
			say("Used", l)
		case l.Reason == codeUsed.slug(), l.Reason == refreshTokenUsed.slug():
			say("Sent again", l)
		default:
			say("Sent and refused", l)
		}
	}
	if n.kind == "" { // the sweeper removes what is dead
		isUsed := len(n.shownIn) > 0 && n.shownIn[0].Reason == ""
		switch {
		case isUsed:
			n.State = "used"
		case ended != nil:
			n.State = "revoked"
		default:
			say("Its record is gone: it has expired, or its user, its client or its grant is gone", nil)
		}
		n.revoked = ended != nil
	}
	if n.State == "expired" && n.expires != 0 {
		say("Expired at "+n.expires.UTC().Format("15:04:05"), nil)
	}
	switch {
	case !n.revoked && n.State != "revoked":
	case ended != nil:
		say("Revoked", ended)
	default:
		say("Revoked by its user, by the profile's rules or by the control API", nil)
	}
}

// Twice reports whether it was used a second time.
func (n *credentialNode) Twice() bool {
	return slices.ContainsFunc(n.shownIn, func(l *loggedRequest) bool {
		return l.Reason == codeUsed.slug() || l.Reason == refreshTokenUsed.slug()
	})
}

// Begins is how it begins on the wire: the first 21 characters of base64url, which
// hold no secret bits, or "" in another encoding.
func (n *credentialNode) Begins(f format) string {
	if f.Encoding == "hex" || f.Encoding == "jwt" {
		return ""
	}
	return f.Prefix + base64.RawURLEncoding.EncodeToString(n.ID[:])[:21]
}

// all returns a family in the order of its tree.
func allOf(family []*credentialNode) (all []*credentialNode) {
	for _, n := range family {
		all = append(append(all, n), allOf(n.Children)...)
	}
	return all
}

// outcome says how a flow stands: by its last exchange that was more than the use
// of a token, or by the tokens themselves.
func (f *flow) outcome() standing {
	last := f.Exchanges[len(f.Exchanges)-1]
	for _, l := range slices.Backward(f.Exchanges) {
		if l.Reason != "" || !l.isUse() {
			last = l
			break
		}
	}
	switch {
	case last.Reason == userDenied.slug():
		return standing{"ended", "Denied by " + cmp.Or(last.Username, "the user")}
	case last.page == "login.html":
		return standing{"waiting", "Waits for somebody to sign in"}
	case last.Reason != "":
		return standing{"refused", "Refused: " + lowerFirst(last.Title())}
	case last.Status == 0:
		return standing{"refused", "Failed: no answer was sent"}
	case last.Status >= 400:
		return standing{"refused", "Failed: " + strconv.Itoa(last.Status) + " " + http.StatusText(last.Status)}
	case last.page == "consent.html":
		return standing{"waiting", "Waits for " + cmp.Or(last.Username, "the user") + " to decide"}
	case f.tokens() > 0:
		return f.outcomeOfTokens(last)
	case len(f.Family) > 0 && f.Family[0].State == "expired":
		return standing{"ended", "Code expired, never redeemed"}
	case len(f.Family) > 0 && f.Family[0].State == "revoked":
		return standing{"ended", "Code revoked, never redeemed"}
	case len(f.Family) > 0:
		return standing{"waiting", "Code issued, not redeemed yet"}
	case f.ID[0] == 'x':
		return standing{"", "Answered"}
	default:
		return standing{"waiting", "Waits for the browser"}
	}
}

// outcomeOfTokens is the outcome of a flow in which tokens were issued.
func (f *flow) outcomeOfTokens(last *loggedRequest) standing {
	alive, expired := false, true
	for _, n := range allOf(f.Family) {
		alive = alive || n.State == "alive"
		expired = expired && (n.State == "expired" || n.State == "used" && !n.revoked)
	}
	refreshed, refused := 0, 0
	for _, l := range f.Exchanges {
		if l.Reason != "" && l.page != "login.html" {
			refused++
		} else if l.GrantType == "refresh_token" && len(l.issued) > 0 {
			refreshed++
		}
	}
	words := "Tokens issued"
	if f.tokens() == 1 {
		words = "Token issued"
	}
	switch {
	case !alive && last.Endpoint == "revoke":
		return standing{"ended", "Revoked by the client"}
	case !alive && expired:
		return standing{"ended", words + ", expired by now"}
	case !alive:
		return standing{"ended", words + ", revoked by now"}
	}
	if refreshed > 0 {
		words += ", refreshed " + times(refreshed)
	}
	if refused > 0 {
		words += fmt.Sprintf(", after %d refusal%s", refused, plural(refused))
	}
	return standing{"issued", words}
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return strconv.Itoa(n) + " times"
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// tokens is how many tokens were issued.
func (f *flow) tokens() (n int) {
	for _, c := range allOf(f.Family) {
		if c.Kind != "code" {
			n++
		}
	}
	return n
}

// isUse reports whether an exchange only used or asked about a token.
func (l *loggedRequest) isUse() bool {
	return !slices.Contains([]string{"authorize", "oob", "token", "revoke", ""}, l.Endpoint)
}

// ClientID is the client of the flow: one that exists or, if none does, as it was
// asked for.
func (f *flow) ClientID() (id string) {
	for _, l := range f.Exchanges {
		claimed, _ := l.Params["client_id"].(string)
		id = cmp.Or(l.ClientID, id, claimed)
		if l.ClientID != "" {
			break
		}
	}
	return id
}

// Username is who the flow is for, or "".
func (f *flow) Username() (name string) {
	for _, l := range f.Exchanges {
		if l.Endpoint == "authorize" || l.Endpoint == "token" || name == "" {
			name = cmp.Or(l.Username, name)
		}
	}
	return name
}

// Grant says in words what the flow asks for.
func (f *flow) Grant() string {
	for _, l := range f.Exchanges {
		switch {
		case l.Endpoint == "authorize" && l.Params["response_type"] == "token":
			return "Implicit"
		case l.Endpoint == "authorize" && l.Params["code_challenge"] != nil:
			return "Code, PKCE"
		case l.Endpoint == "authorize" && l.Params["response_type"] == "code", l.GrantType == "authorization_code":
			return "Code"
		case l.GrantType == "password":
			return "Password"
		case l.GrantType == "client_credentials":
			return "Client credentials"
		case l.GrantType == "refresh_token":
			return "Refresh"
		case l.GrantType == deviceGrant:
			return "Device"
		}
	}
	first := f.Exchanges[0]
	if name, isEndpoint := endpointTitles[first.Endpoint]; isEndpoint {
		return name
	}
	return first.Method + " " + first.Path
}

// endpointTitles are the names of endpoints for a flow that has no grant.
var endpointTitles = map[string]string{
	"authorize": "Authorization", "oob": "Code shown", "token": "Token request", "revoke": "Revocation", "introspect": "Introspection", "device_authorization": "Device",
	"registration": "Registration", "userinfo": "User info", "tokeninfo": "Token info", "metadata": "Metadata",
}

// Warnings are those of all its exchanges, each once.
func (f *flow) Warnings() (all []string) {
	for _, l := range f.Exchanges {
		for _, w := range l.Warnings {
			if !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	return all
}

// Staged reports whether a fault changed one of its answers.
func (f *flow) Staged() bool {
	return slices.ContainsFunc(f.Exchanges, func(l *loggedRequest) bool { return l.Fault != "" })
}

// Last is its newest exchange.
func (f *flow) Last() *loggedRequest { return f.Exchanges[len(f.Exchanges)-1] }

// Number is the place of an exchange in the flow, from 1.
func (f *flow) Number(l *loggedRequest) int { return slices.Index(f.Exchanges, l) + 1 }
