package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// authorizationRequest is the request of RFC 6749 §4.1.1 and §4.2.1.
type authorizationRequest struct {
	query  string // as received, in printable ASCII
	values values
	faulty map[string]*oauthError

	// Known before anything may be sent to the redirect URI.
	client          *client
	resources       []string // as sent
	redirectURI     string   // where the answer goes
	sentRedirectURI string   // redirect_uri as sent, empty if it was not

	// Known once the rest has been parsed.
	responseType  string
	state         string
	scope         string
	codeChallenge string
	prompt        []string // OpenID Connect Core §3.1.2.1

	posted parameters // the answer, if a form sends it to the client
}

// asked is a hash of what the user is asked: may this registration of the client
// have this scope at this redirect URI? A request can leave out both; then they
// are the client's, which may change before the user answers.
func (a *authorizationRequest) asked() string {
	sum := sha256.Sum256([]byte(a.client.ID.String() + " " + a.redirectURI + " " + a.scope))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (a *authorizationRequest) prompts(value string) bool { return slices.Contains(a.prompt, value) }

// parseClientAndRedirectURI is the first half of parsing: which client asks, and
// where the answer goes. Its errors are shown to the user, because the redirect
// URI cannot be trusted yet (RFC 6749 §4.1.2.1).
func (s *server) parseClientAndRedirectURI(q query, x *exchange) (*authorizationRequest, error) {
	q.text = escapeBytes(q.text)
	if !x.holds(requestTooLong, len(q.text) <= maxQuery && len(url.QueryEscape(q.text)) <= maxCarried) {
		return nil, invalidRequest(rfc9110("15.5.15"), requestTooLong, "the authorization request is too long: it may have 32 KB, or less if much of it is percent-encoded").
			with(http.StatusRequestURITooLong)
	}
	if !x.holds(queryMalformed, q.err == nil) {
		return nil, q.err
	}
	v, faulty := newValues(q.values, rfc6749("3.1"))
	if err := x.checkFaulty(faulty, "client_id", "redirect_uri"); err != nil {
		return nil, err
	}
	if !x.holds(parameterMissing, v["client_id"] != "") {
		return nil, missing(rfc6749("4.1.1"), "client_id")
	}
	c, err := s.clientNamed(v["client_id"], x)
	if err != nil {
		return nil, err
	}
	if !x.holds(unknownClient, c != nil) {
		return nil, invalidClient(rfc6749("4.1.2.1"), unknownClient, "this server has no client with this client_id").about("client_id").with(http.StatusBadRequest)
	}
	// An error here is not sent to an unregistered URI (RFC 6749 §3.1.2.4).
	redirectURI, err := c.redirectURIFor(v["redirect_uri"], x)
	if err != nil {
		return nil, err
	}
	return &authorizationRequest{query: q.text, values: v, faulty: faulty,
		client: c, resources: q.values["resource"], redirectURI: redirectURI, sentRedirectURI: v["redirect_uri"]}, nil
}

// escapeBytes percent-encodes what is not printable ASCII, which pages and headers
// cannot carry (RFC 3986 §2.1).
func escapeBytes(query string) string {
	var b strings.Builder
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// The longest authorization request, in bytes: in the URL, and encoded again in
// the forms of sign-in and consent, whose other fields must fit into maxBody too.
const (
	maxQuery   = 32 << 10
	maxCarried = 48 << 10
)

// parseParameters is the second half. Its errors are sent to the redirect URI.
func (a *authorizationRequest) parseParameters(p *profile, x *exchange) error {
	a.responseType = a.values["response_type"] // tells where an error goes
	a.state = a.values["state"]
	a.prompt = strings.Fields(a.values["prompt"])
	for name, prompt := range p.PromptParameters {
		if isTrue(a.values[name]) {
			a.prompt = append(a.prompt, prompt)
		}
	}
	if err := x.checkFaulty(a.faulty, slices.Sorted(maps.Keys(a.faulty))...); err != nil {
		return err
	}
	switch a.responseType {
	case "code":
		if !x.holds(grantTypeNotRegistered, a.client.mayUse("authorization_code", p)) {
			return unauthorizedClient(rfc6749("4.1.2.1"), grantTypeNotRegistered, "this client is not registered for the authorization code grant").about("response_type")
		}
	case "token":
		if !x.holds(responseTypeUnsupported, slices.Contains(p.Grants, "implicit")) {
			return unsupportedResponseType(rfc6749("4.2.2.1"), responseTypeUnsupported, "response_type must be code: this server has no implicit grant").about("response_type")
		}
		if !x.holds(grantTypeNotRegistered, a.client.mayUse("implicit", p)) {
			return unauthorizedClient(rfc6749("4.2.2.1"), grantTypeNotRegistered, "this client is not registered for the implicit grant; RFC 9700 advises the code grant with PKCE").about("response_type")
		}
		if !x.holds(tokenOutOfBand, a.redirectURI != outOfBand) {
			return invalidRequest(rfc6749("4.2.2"), tokenOutOfBand, "an access token cannot be shown out of band: use response_type code").about("response_type")
		}
	case "":
		return missing(rfc6749("3.1.1"), "response_type")
	default:
		must := "response_type must be code"
		if slices.Contains(p.Grants, "implicit") {
			must += ", or token for clients of the implicit grant"
		}
		return unsupportedResponseType(rfc6749("3.1.1"), responseTypeUnsupported, must).about("response_type")
	}
	if err := a.checkResponseMode(p, x); err != nil {
		return err
	}
	scope, err := a.client.grantableScope(a.values["scope"], p, x)
	if err != nil {
		return err
	}
	a.scope = scope
	if err := x.parseResources(a.resources, p); err != nil {
		return err
	}
	if a.responseType == "code" {
		if err := a.parseCodeChallenge(p, x); err != nil {
			return err
		}
	}
	if !x.holds(promptNoneNotAlone, !a.prompts("none") || len(a.prompt) == 1) {
		return invalidRequest(openID("3.1.2.1"), promptNoneNotAlone, "prompt none cannot be combined with other values").about("prompt")
	}
	return nil
}

// parseCodeChallenge is PKCE's part of the request (RFC 7636 §4.3). Public
// clients must use it (RFC 9700 §2.1.1).
//
// Deviation: a profile can make it optional, as its service does.
//
// Choice: S256 only. With plain, anybody who reads the request can redeem the code.
func (a *authorizationRequest) parseCodeChallenge(p *profile, x *exchange) error {
	challenge, method := a.values["code_challenge"], a.values["code_challenge_method"]
	switch {
	case !x.holds(methodWithoutChallenge, challenge != "" || method == ""):
		return invalidRequest(rfc7636("4.3"), methodWithoutChallenge, "code_challenge_method is sent without code_challenge").about("code_challenge_method")
	case !x.holds(pkceMissing, challenge != "" || !a.client.public() || p.PKCEOptional):
		return invalidRequest(rfc9700("2.1.1"), pkceMissing, "code_challenge is missing: public clients must use PKCE").about("code_challenge")
	case challenge == "":
		return nil
	case !x.holds(methodNotS256, method != ""):
		return invalidRequest(rfc7636("4.3"), methodNotS256, "code_challenge_method must be S256; without it the method is plain, which this server refuses").about("code_challenge_method")
	case !x.holds(methodNotS256, method == "S256"):
		return invalidRequest(rfc7636("4.3"), methodNotS256, "code_challenge_method must be exactly S256").about("code_challenge_method")
	case !x.holds(challengeMalformed, len(challenge) == 43 && isUnreserved(challenge)):
		return invalidRequest(rfc7636("4.2"), challengeMalformed, "code_challenge must be the base64url encoding of a SHA-256 hash: 43 characters without padding").about("code_challenge")
	}
	a.codeChallenge = challenge
	return nil
}

// handleAuthorize is the authorization endpoint (RFC 6749 §3.1). It finds the
// client and the user, asks the user, and redirects back to the client.
func (s *server) handleAuthorize(w http.ResponseWriter, r *http.Request, x *exchange) error {
	if x.wrong != nil && r.Method == http.MethodPost {
		return x.wrong
	}
	request, err := s.parseClientAndRedirectURI(x.authorizationQuery(), x)
	if err != nil {
		return err
	}
	x.request, x.ClientID = request, request.client.ClientID
	if r.Method == http.MethodPost {
		// The same by GET, for which sign-in, reload and the back button work.
		seeOther(w, r.URL.EscapedPath()+"?"+request.query)
		return nil
	}
	invalid := request.parseParameters(s.profile, x)

	if d, err := s.decidedBeforehand(request, x); d != nil || err != nil {
		if err := cmp.Or(err, invalid); err != nil {
			return sentBack{err, request}
		}
		return s.decide(w, x, request, d)
	}
	v, err := s.visitor(r, x)
	if err != nil {
		return request.refusedUnasked(v, err)
	}
	if v.user != nil {
		x.Username = v.user.Username
	}
	ask := signInPage{Username: request.values["login_hint"], Continue: r.URL.EscapedPath() + "?" + request.query}
	switch {
	// An anonymous browser is not redirected with an error: the link may be made
	// only to send it elsewhere (RFC 9700 §4.11.2).
	case v.user == nil && invalid != nil && request.prompts("none"):
		return invalid
	case v.user == nil && invalid != nil:
		return s.writeSignIn(w, x, http.StatusOK, ask)
	case invalid != nil:
		return request.refusedUnasked(v, invalid)
	case !x.holds(loginNeeded, v.user != nil || !request.prompts("none")):
		return request.refusedUnasked(v, loginRequired(openID("3.1.2.6"), loginNeeded, "nobody is signed in, and prompt none forbids a sign-in page").about("prompt"))
	case v.user == nil, request.prompts("login"), request.prompts("select_account"):
		ask.Continue = r.URL.EscapedPath() + "?" + s.profile.withoutSignIn(request.query)
		return s.writeSignIn(w, x, http.StatusOK, ask)
	default:
		return s.consent(w, x, request, v)
	}
}

// sentBack is an error that is redirected to the client, whose redirect URI is
// known to be good (RFC 6749 §4.1.2.1). Any other error is shown on a page.
type sentBack struct {
	error
	request *authorizationRequest
}

// refusedUnasked is for an error that comes before the user was asked anything.
// It is redirected only to a client that the operator or this user registered.
// Anybody else may have registered a client only to redirect users with such
// errors (RFC 9700 §4.11.2).
//
// Deviation: OpenID Connect Core §3.1.2.6 redirects to every client for prompt=none.
func (a *authorizationRequest) refusedUnasked(v *visitor, err error) error {
	if c := a.client; c.RegisteredBy != operator && (v.user == nil || c.Owner != v.user.Username) {
		return err
	}
	return sentBack{err, a}
}

// authorizationQuery is the authorization request of an exchange. A parameter in
// both URL and body is a duplicate.
func (x *exchange) authorizationQuery() query {
	if x.Method != http.MethodPost {
		return x.query
	}
	all := maps.Clone(x.query.values)
	for name, values := range x.form {
		all[name] = slices.Concat(all[name], values)
	}
	return query{all.Encode(), all, x.query.err}
}

// decision is the user's answer to an authorization request.
type decision struct {
	user    *user
	deny    bool
	answers *pendingConsent // the question, or nil if nobody was asked
}

// decidedBeforehand returns the decision if nobody needs to be asked, or nil. With
// -auto-approve, login_hint can name another user than the flag's.
func (s *server) decidedBeforehand(request *authorizationRequest, x *exchange) (*decision, error) {
	if x.decided != nil || s.autoApprove == "" {
		return x.decided, nil
	}
	if hint := request.values["login_hint"]; hint != "" {
		if u, err := s.store.userNamed(hint); u != nil || err != nil {
			return &decision{user: u}, err
		}
	}
	u, err := s.store.userNamed(s.autoApprove)
	if !x.holds(approverGone, u != nil || err != nil) {
		err = accessDenied(rfc6749("4.1.2.1"), approverGone, "the user of -auto-approve does not exist any more")
	}
	return &decision{user: u}, err
}

// consent asks the user, unless the answer is known.
//
// Choice: consent is remembered for confidential clients, while something granted
// with it lives, for scopes that it covers. A public client cannot prove that it
// is the client the user agreed to (RFC 6749 §10.2), and in the implicit grant no
// client can.
func (s *server) consent(w http.ResponseWriter, x *exchange, request *authorizationRequest, v *visitor) error {
	remembered := false
	if request.responseType == "code" && !request.client.public() && !request.prompts("consent") {
		var err error
		remembered, err = s.store.consented(v.user.ID, request.client.ID, x.now, func(g *grant) bool { return s.profile.remembers(g, request.scope) && g.coversResources(x.resources) })
		if err != nil {
			return request.refusedUnasked(v, err)
		}
	}
	switch {
	case remembered:
		return s.decide(w, x, request, &decision{user: v.user})
	case !x.holds(consentNeeded, !request.prompts("none")):
		return request.refusedUnasked(v, consentRequired(openID("3.1.2.6"), consentNeeded, "the user has not agreed to this yet, and prompt none forbids a consent page").about("prompt"))
	default:
		return s.writeConsent(w, x, pendingConsent{uuid.Must(uuid.NewV7()), request.asked(), x.now.after(consentLifetime), request.query})
	}
}

// consentLifetime is how long a user may look at the consent page, in seconds.
const consentLifetime = 30 * 60

// pendingConsent is an authorization request between the consent page and the
// user's decision. The page's form carries it; a MAC under the visitor's cookie
// binds it to the browser session that was asked. The server stores nothing until
// the decision, then the id, so that there is no second one.
type pendingConsent struct {
	id      uuid.UUID
	asked   string // see authorizationRequest.asked
	expires unixTime
	query   string
}

func (p pendingConsent) mac(v *visitor) string {
	return v.mac("consent", p.id.String(), p.asked, strconv.FormatInt(int64(p.expires), 10), p.query)
}

// handleConsent takes the user's decision. It parses and checks the request again:
// the client, its redirect URIs or scope may have changed.
func (s *server) handleConsent(w http.ResponseWriter, r *http.Request, x *exchange) error {
	form, err := x.body()
	if err != nil {
		return err
	}
	v := x.visitor
	id, _ := uuid.Parse(form["id"])
	expires, _ := strconv.ParseInt(form["expires"], 10, 64)
	pending := pendingConsent{id, form["asked"], unixTime(expires), form["request"]}
	if !x.holds(formOfAnotherSignIn, v.user != nil && sameMAC(pending.mac(v), form["mac"])) {
		return accessDenied(rfc6749("10.12"), formOfAnotherSignIn, "this form belongs to another sign-in")
	}
	x.Username = v.user.Username
	if !x.holds(consentExpired, !pending.expires.expired(x.now)) {
		return invalidRequest(rfc6749("4.1.1"), consentExpired, "this request has expired")
	}
	request, err := s.parseClientAndRedirectURI(parseQuery(pending.query), x)
	if err != nil {
		return err
	}
	x.request, x.ClientID = request, request.client.ClientID
	switch invalid := request.parseParameters(s.profile, x); {
	case !x.holds(clientChanged, invalid == nil && request.asked() == pending.asked || invalid != nil && request.sentRedirectURI != ""):
		return invalidRequest(rfc6749("4.1.1"), clientChanged, "the client has changed since the user was asked")
	case invalid != nil:
		return sentBack{invalid, request}
	}
	if !x.holds(decisionMissing, form["decision"] == "approve" || form["decision"] == "deny") {
		return invalidRequest(rfc6749("4.1.1"), decisionMissing, "decision must be approve or deny")
	}
	return s.decide(w, x, request, &decision{v.user, form["decision"] == "deny", &pending})
}

// decide does what the user decided: it issues a code (RFC 6749 §4.1.2) or an
// access token (RFC 6749 §4.2.2) and sends the browser back with it, or with
// access_denied. After a second decision the browser stays: the client already
// has an answer.
func (s *server) decide(w http.ResponseWriter, x *exchange, request *authorizationRequest, d *decision) error {
	x.Username = d.user.Username
	var issued issuance
	var answer parameters
	if !d.deny {
		g := s.newGrant(d.user, request.client, request.scope, x)
		g.Consented = true
		issue := s.newCode
		if request.responseType == "token" {
			issue = s.implicitGrant
		}
		issued, answer = issue(request, g, x)
	}
	issued.answers = d.answers
	switch err := s.store.issue(issued); {
	case !x.holds(answeredAlready, !errors.Is(err, errAnswered)):
		return invalidRequest(rfc6749("4.1.1"), answeredAlready, "this request has been answered already")
	case err != nil:
		return sentBack{err, request}
	case !x.holds(userDenied, !d.deny):
		return sentBack{accessDenied(rfc6749("4.1.2.1"), userDenied, "the user denied the request"), request}
	}
	if request.state != "" {
		answer = append(answer, parameters{{"state", request.state}}...)
	}
	s.redirect(w, x, request, answer)
	return nil
}

// newCode makes an authorization code, with all that the exchange will check, and
// the parameters of the redirect (RFC 6749 §4.1.2, RFC 7636 §4.4).
func (s *server) newCode(request *authorizationRequest, g *grant, x *exchange) (issuance, parameters) {
	c := s.profile.CodeFormat.newCredential(nil)
	x.about(c.id)
	code := &oneTime{
		stored:        c.stored(x.now),
		Grant:         g.key,
		Expires:       x.now.after(s.profile.CodeLifetime), // at most ten minutes (RFC 6749 §4.1.2)
		RedirectURI:   request.sentRedirectURI,
		CodeChallenge: request.codeChallenge,
	}
	g.Expires = later(g.Expires, code.Expires)
	return issuance{grant: g, code: code}, parameters{{"code", c.text}}
}

// redirect sends the browser back to the client: the one place where a
// redirect to a client is built. The registered URI's bytes stay as they are
// (RFC 6749 §3.1.2), and iss tells which server answers (RFC 9207 §2).
func (s *server) redirect(w http.ResponseWriter, x *exchange, request *authorizationRequest, answer parameters) {
	location := request.redirectURI
	if location == outOfBand {
		location = s.base + s.profile.Endpoints["oob"][0] + "?" + answer[:1].encode() // only the code: no client is there to check state
	} else {
		if s.profile.Iss {
			answer = append(answer, parameters{{"iss", s.issuer()}}...)
		}
		separator := "?"
		switch mode := request.responseMode(s.profile); {
		case mode == "form_post":
			s.writeFormPost(w, x, request, answer)
			return
		case mode == "fragment":
			separator = "#"
		case strings.Contains(location, "?"):
			separator = "&"
		}
		location += separator + answer.encode()
	}
	seeOther(w, location)
}

// seeOther redirects with 303, which turns a POST with a decision or a
// password into a GET without it (RFC 9700 §4.12).
func seeOther(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}
