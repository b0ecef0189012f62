package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// values are the parameters of a request: each once, none empty.
type values map[string]string

// newValues checks each parameter. One that occurs twice, which rule forbids
// (RFC 6749 §3.1, §3.2), or has forbidden characters (RFC 6749 Appendix A) is left
// out, and faulty says what is wrong with it.
func newValues(form url.Values, rule section) (v values, faulty map[string]*oauthError) {
	v, faulty = values{}, map[string]*oauthError{}
	for name, all := range form {
		isClean := isText(all[0]) || isCredential[name]
		switch {
		case !isParameter[name] && (len(all) > 1 || !isClean):
			// An unknown parameter is ignored (RFC 6749 §3.1).
		case len(all) > 1:
			faulty[name] = invalidRequest(rule, parameterTwice, name+" occurs more than once").about(name)
		case all[0] == "":
			// An empty one counts as not sent (RFC 6749 §3.1).
		case !isClean:
			faulty[name] = invalidRequest(rfc6749Appendix("A"), parameterNotText, name+" has control characters or is not UTF-8").about(name)
		default:
			v[name] = all[0]
		}
	}
	return v, faulty
}

// checkFaulty refuses the first of the named parameters that is faulty.
func (x *exchange) checkFaulty(faulty map[string]*oauthError, names ...string) error {
	for _, why := range []reason{parameterTwice, parameterNotText, parameterNotString} {
		for _, name := range names {
			if e := faulty[name]; !x.holds(why, e == nil || e.Reason != why) {
				return e
			}
		}
	}
	return nil
}

// sent is what a request says, parsed once.
type sent struct {
	query query
	form  url.Values // of the body; what is malformed is left out
	lists map[string]bool
	wrong error // what is wrong with the body
}

// query is the query of a URL, or an authorization request in the same form.
type query struct {
	text   string
	values url.Values // what is malformed is left out
	err    error
}

func parseQuery(text string) query {
	v, err := parseForm(text)
	switch {
	case errors.Is(err, errTooManyParameters):
		err = invalidRequest(rfc6749Appendix("B"), queryMalformed, "the query is "+err.Error())
	case err != nil:
		err = invalidRequest(rfc6749Appendix("B"), queryMalformed, "the parameters are not well-formed application/x-www-form-urlencoded")
	}
	return query{text, v, err}
}

// maxParameters is how many parameters, or values in JSON, a request may have.
const maxParameters = 1000

var errTooManyParameters = fmt.Errorf("too long: it may have %d parameters", maxParameters)

// parseForm reads application/x-www-form-urlencoded; what is malformed is left out.
func parseForm(text string) (url.Values, error) {
	if strings.Count(text, "&") >= maxParameters {
		return url.Values{}, errTooManyParameters
	}
	return url.ParseQuery(text)
}

// read parses the body of a request that has come to its route.
func (s *server) read(r *http.Request, x *exchange, to *route) {
	if r.Method == http.MethodPost || r.ContentLength != 0 {
		kinds, otherEmpty := to.bodies, s.profile.OtherBodiesEmpty
		if kinds == nil {
			kinds, otherEmpty = []string{"form"}, false
		}
		x.form, x.lists, x.wrong = x.parseBody(r, kinds, otherEmpty)
	}
}

// isCredential has the parameters that may contain any bytes: a wrong value is
// refused as unknown, not as malformed (RFC 7009 §2.2, RFC 7662 §2.2).
var isCredential = map[string]bool{"code": true, "device_code": true, "password": true, "refresh_token": true, "token": true}

func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// isParameter has the parameters that some endpoint knows.
var isParameter = map[string]bool{
	"access_token": true, "client_id": true, "client_secret": true, "code": true, "code_challenge": true,
	"code_challenge_method": true, "code_verifier": true, "device_code": true, "grant_type": true, "login_hint": true, "password": true,
	"prompt": true, "redirect_uri": true, "refresh_token": true, "response_mode": true, "response_type": true,
	"scope": true, "state": true, "token": true, "token_type_hint": true, "user_code": true, "username": true,
}

// body returns the parameters of a POST request. Those in the URL do not count
// (RFC 6749 §2.3.1, §3.2).
func (x *exchange) body() (values, error) {
	if x.wrong != nil {
		return nil, x.wrong
	}
	v, faulty := newValues(x.form, rfc6749("3.2"))
	for name := range x.lists {
		if isParameter[name] {
			faulty[name] = invalidRequest(rfc6749("3.2"), parameterNotString, name+" must be a string").about(name)
		}
	}
	return v, x.checkFaulty(faulty, slices.Sorted(maps.Keys(faulty))...)
}

// bodyTypes are the kinds of body that a profile may take, by media type.
var bodyTypes = map[string]string{
	"application/x-www-form-urlencoded": "form",
	"application/json":                  "json",
	"multipart/form-data":               "multipart",
}

// parseBody reads a body of one of the kinds. A body of another kind is refused,
// or counts as empty. lists has the parameters that are an array or an object in
// JSON: true for an array of strings. The form has these strings under the name
// followed by [].
func (x *exchange) parseBody(r *http.Request, kinds []string, otherEmpty bool) (form url.Values, lists map[string]bool, err error) {
	if !x.holds(bodyCompressed, r.Header.Get("Content-Encoding") == "") {
		return nil, nil, invalidRequest(rfc9110("15.5.16"), bodyCompressed, "the body must not be compressed").with(http.StatusUnsupportedMediaType)
	}
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	kind := bodyTypes[mediaType]
	isKind := err == nil && slices.Contains(kinds, kind)
	if !isKind && otherEmpty {
		return nil, nil, nil
	}
	if !x.holds(mediaTypeUnsupported, isKind) {
		return nil, nil, otherMediaType(mediaType, kinds)
	}
	body, err := readBody(r, x)
	if err != nil {
		return nil, nil, err
	}
	malformed := func(problem string) error {
		return invalidRequest(rfc6749Appendix("B"), bodyMalformed, "the body is "+problem)
	}
	switch isObject := strings.HasPrefix(strings.TrimSpace(body), "{"); {
	case kind == "form" && isObject && json.Valid([]byte(body)):
		if otherEmpty {
			return nil, nil, nil
		}
		return nil, nil, malformed("JSON, but Content-Type is " + mediaType)
	case kind == "form":
		form, err = parseForm(body)
	case kind == "json":
		form, lists, err = parseJSONForm(body)
		if err != nil && !isObject && strings.Contains(body, "=") {
			return nil, nil, malformed("a form, but Content-Type is " + mediaType)
		}
	case kind == "multipart":
		form, err = parseMultipartForm(body, parameters["boundary"])
	}
	switch {
	case errors.Is(err, errTooDeep), errors.Is(err, errTooManyParameters):
		return nil, nil, malformed(err.Error())
	case err != nil:
		return form, nil, malformed("not well-formed " + mediaType)
	}
	x.holds(bodyMalformed, true)
	return form, lists, nil
}

// otherMediaType refuses a body that is of none of the kinds.
func otherMediaType(sent string, kinds []string) error {
	wanted := slices.DeleteFunc(slices.Sorted(maps.Keys(bodyTypes)), func(t string) bool { return !slices.Contains(kinds, bodyTypes[t]) })
	description := "the body must be " + strings.Join(wanted, " or ")
	switch {
	case sent == "":
		description += ", but Content-Type is missing or malformed"
	case bodyTypes[sent] != "" && !slices.Contains(wanted, sent):
		description += ", not " + sent
	default:
		description += ", and Content-Type must say so"
	}
	return invalidRequest(rfc6749Appendix("B"), mediaTypeUnsupported, description).with(http.StatusUnsupportedMediaType)
}

// parseJSONForm reads an object whose members are the parameters. lists is as in
// parseBody.
func parseJSONForm(body string) (form url.Values, lists map[string]bool, err error) {
	if _, err := checkDepth(body); err != nil {
		return nil, nil, err
	}
	if strings.Count(body, ",") >= maxParameters {
		return nil, nil, errTooManyParameters
	}
	decoded, err := parseOrdered([]byte(body))
	if err != nil {
		return nil, nil, err
	}
	o, ok := decoded.(object)
	if !ok {
		return nil, nil, errors.New("not a JSON object")
	}
	form, lists = url.Values{}, make(map[string]bool)
	for _, m := range o {
		switch value := m.value.(type) {
		case nil:
		case []any:
			lists[m.name] = true
			for _, element := range value {
				text, isText := element.(string)
				lists[m.name] = lists[m.name] && isText
				form.Add(m.name+"[]", text)
			}
		case object:
			lists[m.name] = false
		default:
			form.Add(m.name, fmt.Sprint(value))
		}
	}
	return form, lists, nil
}

// parseMultipartForm reads the parts that are no files.
func parseMultipartForm(body, boundary string) (url.Values, error) {
	form, err := multipart.NewReader(strings.NewReader(body), boundary).ReadForm(maxBody)
	switch {
	case errors.Is(err, multipart.ErrMessageTooLarge): // it has more than maxParameters
		return nil, errTooManyParameters
	case err != nil:
		return nil, err
	}
	return form.Value, nil
}

func readBody(r *http.Request, x *exchange) (string, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case !x.holds(bodyTooLarge, !errors.As(err, &tooLarge)):
		return "", invalidRequest(rfc9110("15.5.14"), bodyTooLarge, "the body is larger than 64 KB").with(http.StatusRequestEntityTooLarge)
	case !x.holds(bodyIncomplete, err == nil):
		return "", invalidRequest(rfc9110("8.6"), bodyIncomplete, "the body ended early")
	}
	text := string(body)
	if x != nil {
		x.text = text
	}
	return text, nil
}

// isUnreserved reports whether s has only RFC 3986 §2.3's unreserved characters.
func isUnreserved(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~", r))
	})
}

// parameters are those of a redirect, in order.
type parameters []struct{ name, value string }

func (p parameters) encode() string {
	var b strings.Builder
	for i, parameter := range p {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(parameter.name + "=" + url.QueryEscape(parameter.value))
	}
	return b.String()
}

// isASCII reports whether s is printable ASCII.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// isTextOf reports whether s is text of at most so many characters.
func isTextOf(characters int, s string) bool {
	return utf8.RuneCountInString(s) <= characters && isText(s)
}
