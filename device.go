package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// deviceGrant is the grant_type of a device that has no browser: its user
// goes to a page on another device and enters a code (RFC 8628 §3.4).
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

const (
	devicePath         = "/device" // of the page
	deviceCodeLifetime = 30 * 60   // seconds
	deviceInterval     = 5         // seconds between two polls (RFC 8628 §3.2)
	userCodeTries      = 10        // wrong user codes that a user may enter in a minute (RFC 8628 §5.1)
	userCodeLetters    = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength     = 8 // 34 bits
)

// maxDevices is how many device codes are kept.
//
// Choice: the newest stay, since anybody can ask for one and must not fill the disk.
const maxDevices = 1000

// deviceRequest is what a device asks for, in the record of its device code
// (RFC 8628 §3.1). The record has no grant before the user approves.
type deviceRequest struct {
	UserCode  string    `json:"user_code"` // eight letters, without the hyphen
	Client    clientRef `json:"client"`
	Scope     string    `json:"scope,omitempty"`
	Resources []string  `json:"resource,omitempty"`
	Denied    bool      `json:"denied,omitempty"`
	Interval  seconds   `json:"interval"` // between two polls
	Polled    unixTime  `json:"polled,omitempty"`
}

// newUserCode returns a user code of consonants, which make no words and are hard
// to mistake (RFC 8628 §6.1).
func newUserCode() string {
	var code []byte
	for b := make([]byte, 1); len(code) < userCodeLength; {
		rand.Read(b)
		if n := int(b[0]); n < 256/len(userCodeLetters)*len(userCodeLetters) { // so that all are equally likely
			code = append(code, userCodeLetters[n%len(userCodeLetters)])
		}
	}
	return string(code)
}

// parseUserCode reads a user code as people type it: in any case, with hyphens,
// spaces or without (RFC 8628 §6.1).
func parseUserCode(typed string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(userCodeLetters, r) {
			return r
		}
		return -1
	}, strings.ToUpper(typed))
}

// shown is the user code as people see it.
func (d *deviceRequest) shown() string { return d.UserCode[:4] + "-" + d.UserCode[4:] }

// handleDeviceAuthorization is the device authorization endpoint (RFC 8628 §3.1, §3.2).
func (s *server) handleDeviceAuthorization(w http.ResponseWriter, r *http.Request, x *exchange) error {
	body, c, err := s.clientRequest(r, x)
	if err != nil {
		return err
	}
	if !x.holds(grantTypeNotRegistered, c.mayUse(deviceGrant, s.profile)) {
		return unauthorizedClient(rfc6749("5.2"), grantTypeNotRegistered, "this client is not registered for the device grant").about("grant_type")
	}
	scope, err := c.grantableScope(body["scope"], s.profile, x)
	if err != nil {
		return err
	}
	if err := x.parseResources(x.tokenResources(), s.profile); err != nil {
		return err
	}
	presented := s.profile.CodeFormat.newCredential(nil)
	x.about(presented.id)
	code := &oneTime{stored: presented.stored(x.now), Expires: x.now.after(deviceCodeLifetime),
		Device: &deviceRequest{Client: refTo(c), Scope: scope, Resources: x.resources, Interval: deviceInterval}}
	if err := s.store.putDevice(code); err != nil {
		return err
	}
	d, err := s.decidedBeforehand(&authorizationRequest{values: body}, x)
	if d != nil && err == nil {
		err = s.decideDevice(code, c, d, x)
	}
	if err != nil {
		return err
	}
	page := s.url(devicePath)
	return s.writeJSON(w, http.StatusOK, object{
		{"device_code", presented.String()},
		{"user_code", code.Device.shown()},
		{"verification_uri", page},
		{"verification_uri_complete", page + "?user_code=" + code.Device.shown()},
		{"expires_in", deviceCodeLifetime},
		{"interval", deviceInterval},
	})
}

// poll refuses while the user has not decided, and after a denial
// (RFC 8628 §3.5). A device that asks too soon has to wait longer from then on.
//
// Choice: an interval may be a second short. Times are whole seconds here, and
// requests do not all take the same time.
func (d *deviceRequest) poll(decided bool, x *exchange) error {
	tooSoon := !decided && d.Polled != 0 && x.now < d.Polled.after(d.Interval-1)
	d.Polled = x.now
	switch {
	case !x.holds(pollTooSoon, !tooSoon):
		d.Interval += 5
		return verdict{slowDown(rfc8628("3.5"), pollTooSoon, "the device polls too often: it must wait five seconds longer between two requests from now on")}
	case !x.holds(userDenied, !d.Denied):
		return accessDenied(rfc8628("3.5"), userDenied, "the user denied the request").with(http.StatusBadRequest)
	case !x.holds(decisionPending, decided):
		return verdict{authorizationPending(rfc8628("3.5"), decisionPending, "the user has not decided yet; ask again after the interval")}
	}
	return nil
}

// decideDevice stores what the user decided (RFC 8628 §3.3).
func (s *server) decideDevice(code *oneTime, c *client, d *decision, x *exchange) error {
	x.ClientID, x.Username = c.ClientID, d.user.Username
	x.about(code.id)
	var g *grant
	if !d.deny {
		g = s.newGrant(d.user, c, code.Device.Scope, x)
		g.Resources, g.Expires = code.Device.Resources, later(g.Expires, code.Expires)
	}
	err := s.store.decideDevice(code.id, g)
	if !x.holds(answeredAlready, !errors.Is(err, errAnswered)) {
		return invalidRequest(rfc8628("3.3"), answeredAlready, "this user code has been answered already")
	}
	if !x.holds(unknownUserCode, !errors.Is(err, errUnknown)) {
		return noSuchUserCode()
	}
	return err
}

func noSuchUserCode() error {
	return invalidRequest(rfc8628("3.3"), unknownUserCode, "no device waits with this user code: it may be mistyped, or have expired").about("user_code").with(http.StatusUnprocessableEntity)
}

// findDevice returns the device code that belongs to a user code, and the client
// that waits with it.
func (s *server) findDevice(typed string, x *exchange) (*oneTime, *client, error) {
	found, err := s.store.devices(x.now)
	if err != nil {
		return nil, nil, err
	}
	at := slices.IndexFunc(found, func(w waitingDevice) bool { return w.code.Device.UserCode == parseUserCode(typed) })
	if !x.holds(unknownUserCode, at >= 0) {
		return nil, nil, noSuchUserCode()
	}
	return found[at].code, found[at].client, nil
}

// handleDevice is the page where the user enters the code that the device shows,
// and decides (RFC 8628 §3.3).
//
// Choice: a link with the code in it leads to the same question. The page shows
// the code again, so that the user can compare it with the device (RFC 8628 §5.4).
func (s *server) handleDevice(w http.ResponseWriter, r *http.Request, x *exchange) error {
	form, faulty := newValues(x.query.values, rfc6749("3.1"))
	if r.Method == http.MethodPost {
		form, faulty = newValues(x.form, rfc6749("3.2"))
	}
	if err := x.checkFaulty(faulty, "user_code"); err != nil {
		return err
	}
	shown := pageData{"Typed": form["user_code"], "Refused": nil, "Client": nil, "Scope": nil, "Resources": nil, "Decision": ""}
	if form["user_code"] == "" {
		return s.writePage(w, x, http.StatusOK, "device.html", shown)
	}
	err := s.answerDevice(form, r.Method == http.MethodPost, shown, x)
	var refused *oauthError
	switch {
	case err == nil:
		return s.writePage(w, x, http.StatusOK, "device.html", shown)
	case errors.As(err, &refused) && (refused.Reason == unknownUserCode || refused.Reason == guessedTooOften):
		x.refused(refused)
		setRetryAfter(w, refused)
		shown["Refused"] = refused
		return s.writePage(w, x, refused.Status, "device.html", shown)
	}
	return err
}

// answerDevice finds what a user code stands for, and does what the user decided,
// if anything yet. It fills in what the page shows.
func (s *server) answerDevice(form values, posted bool, shown pageData, x *exchange) error {
	var code *oneTime
	var c *client
	var wrong error
	_, wait, err := s.userCodes.guess(x.visitor.user.Username, userCodeTries, 1, x.now, func() (bool, error) { // a right code gives back one try only: otherwise users could enter their own codes to get more guesses
		if code, c, wrong = s.findDevice(form["user_code"], x); errors.Is(wrong, errStorage) {
			return false, wrong
		}
		return wrong == nil, nil
	})
	if !x.holds(guessedTooOften, wait == 0) {
		return tooManyGuesses(accessDenied, rfc8628("5.1"), wait)
	}
	if err = cmp.Or(err, wrong); err != nil {
		return err
	}
	x.ClientID = c.ClientID
	x.about(code.id)
	shown["Typed"], shown["Client"] = code.Device.shown(), c
	shown["Scope"], shown["Resources"] = strings.Fields(code.Device.Scope), code.Device.Resources
	switch answer := form["decision"]; {
	case !posted || answer == "":
		if !x.holds(answeredAlready, !code.decided()) {
			return invalidRequest(rfc8628("3.3"), answeredAlready, "this user code has been answered already")
		}
		return nil
	case !x.holds(decisionMissing, answer == "approve" || answer == "deny"):
		return invalidRequest(rfc8628("3.3"), decisionMissing, "decision must be approve or deny")
	default:
		shown["Decision"] = answer
		return s.decideDevice(code, c, &decision{user: x.visitor.user, deny: answer == "deny"}, x)
	}
}

// The verbs of the store.

// decided reports whether the user has answered what a device code asks for.
func (o *oneTime) decided() bool { return o.Device.Denied || o.Grant != grantKey{} }

// putDevice stores a device code, with a user code that no other had a moment ago.
func (s *store) putDevice(code *oneTime) error {
	others, err := view(s, func(t *tx) ([]*oneTime, error) { return all[oneTime](t, bucketDevices) })
	if err != nil {
		return err
	}
	isTaken := func(o *oneTime) bool { return o.Device.UserCode == code.Device.UserCode }
	for code.Device.UserCode = newUserCode(); slices.ContainsFunc(others, isTaken); {
		code.Device.UserCode = newUserCode()
	}
	over := len(others) - maxDevices + 1
	oldest := slices.DeleteFunc(others, (*oneTime).decided)
	oldest = oldest[:min(max(0, over), len(oldest), s.most())]
	return s.update(func(t *tx) error {
		for _, o := range oldest {
			t.delete(bucketDevices, o.id[:])
		}
		t.put(bucketDevices, code.id[:], code)
		return nil
	})
}

// waitingDevice is a device code that has not expired, and the client that has it.
type waitingDevice struct {
	code   *oneTime
	client *client
}

// devices returns all device codes that have not expired, the oldest first.
func (s *store) devices(now unixTime) ([]waitingDevice, error) {
	return view(s, func(t *tx) (found []waitingDevice, err error) {
		codes, err := all[oneTime](t, bucketDevices)
		for _, code := range codes {
			c, failed := t.registered(code.Device.Client.split())
			if err = cmp.Or(err, failed); c != nil && !code.Expires.expired(now) {
				found = append(found, waitingDevice{code, c})
			}
		}
		return found, err
	})
}

// decideDevice stores the user's answer to a device code: a grant, or nil for a
// denial. A second one is errAnswered.
func (s *store) decideDevice(id uuid.UUID, g *grant) error {
	return s.update(func(t *tx) error {
		code, err := read[oneTime](t, bucketDevices, id[:])
		switch {
		case err != nil || code == nil: // just swept
			return cmp.Or(err, errUnknown)
		case code.decided():
			return errAnswered
		}
		if code.Device.Denied = g == nil; g != nil {
			code.Grant = g.key
			t.delete(bucketLists, listKey(listUnused, g.key.client().String()))
			t.putIssued(issuance{grant: g})
		}
		t.put(bucketDevices, id[:], code)
		return nil
	})
}

// The verbs of the control API.

// listDevices shows the devices that wait for a decision.
func (s *server) listDevices(_ *http.Request, x *exchange) (any, error) {
	found, err := s.store.devices(x.now)
	pending := []object{} // not null in JSON
	for _, w := range found {
		if !w.code.decided() {
			pending = append(pending, object{{"user_code", w.code.Device.shown()}, {"client_id", w.client.ClientID},
				{"scope", w.code.Device.Scope}, {"expires", w.code.Expires.UTC().Format(time.RFC3339)}})
		}
	}
	return pending, err
}

type deviceDecision struct {
	UserCode string `json:"user_code" required:"true"`
	Username string `json:"username" required:"true"`
	Decision string `json:"decision" required:"true" one:"approve deny"`
}

// answerForDevice decides by user code, without a browser.
func (s *server) answerForDevice(asked *deviceDecision, _ *http.Request, x *exchange) (any, error) {
	u, err := s.store.userNamed(asked.Username)
	if u == nil {
		return nil, cmp.Or(err, wrong("username", "no such user"))
	}
	code, c, err := s.findDevice(asked.UserCode, x)
	if err == nil {
		err = s.decideDevice(code, c, &decision{user: u, deny: asked.Decision == "deny"}, x)
	}
	if told := new(oauthError); errors.As(err, &told) {
		return nil, wrong("user_code", told.Description)
	}
	return nil, err
}
