package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// message is a request or an answer as it was sent, without what is secret in it.
type message struct {
	Start  string // its first line; "" if nothing was sent
	Header []field
	Body   string // "" if there is none, or it is not kept
	Size   int    // of the body in bytes, as sent
	Usual  bool   // it has all of defaultHeader too
}

// field is a line of a header.
type field struct{ Name, Value string }

// masker takes what is secret out of the messages of one exchange, and notes the
// codes and tokens that it finds.
type masker struct {
	profile *profile
	own     bool // the message is this server's own answer
	found   []seen
	size    int // of what it made, roughly, in bytes
}

// request is the request as sent.
func (m *masker) request(r *http.Request, x *exchange) message {
	target := x.Path
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		target += "?" + r.URL.RawQuery
	}
	sent := message{Start: shorten(r.Method + " " + m.url(target) + " " + r.Proto), Size: len(x.text)}
	sent.Header = append([]field{{"Host", shorten(scrub(r.Host))}}, m.header(r.Header)...)
	if x.wrong == nil && len(x.text) <= maxKeptBody {
		sent.Body = m.body(r.Header.Get("Content-Type"), x.text)
	}
	m.size += len(sent.Start) + len(sent.Body)
	return sent
}

// answer is the answer as sent. Of a body that is no JSON and no text, such as a
// page, it keeps only the size.
func (m *masker) answer(status int, header http.Header, body []byte, size int) message {
	if status == 0 {
		return message{}
	}
	own := maps.Clone(header)
	sent := message{Start: strconv.Itoa(status) + " " + http.StatusText(status), Size: size, Usual: true}
	for name, usual := range defaultHeader {
		sent.Usual = sent.Usual && len(header[name]) == 1 && header[name][0] == usual[0]
	}
	if sent.Usual {
		for name := range defaultHeader {
			delete(own, name)
		}
	}
	sent.Header = m.header(own)
	if len(body) == size {
		sent.Body = m.body(header.Get("Content-Type"), string(body))
	}
	m.size += len(sent.Body)
	return sent
}

// header returns the fields of a header in the order of their names.
func (m *masker) header(header http.Header) (fields []field) {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			if len(fields) == maxShown {
				return fields
			}
			m.size += 32
			if usual := defaultHeader[name]; usual != nil && usual[0] == value {
				fields = append(fields, field{name, usual[0]})
				continue
			}
			f := field{shorten(scrub(name)), shorten(m.headerValue(name, value))}
			m.size += len(f.Name) + len(f.Value)
			fields = append(fields, f)
		}
	}
	return fields
}

// headerValue is a field of a header without what is secret in it.
func (m *masker) headerValue(name, value string) string {
	switch {
	case name == "Authorization":
		return m.authorization(value)
	case name == "Location" || name == "Referer":
		return m.url(value)
	case name == "Cookie":
		cookies := strings.Split(value, "; ")
		for i, cookie := range cookies {
			name, _, _ := strings.Cut(cookie, "=")
			cookies[i] = scrub(name) + "=…"
		}
		return strings.Join(cookies, "; ")
	case name == "Set-Cookie":
		cookie, attributes, _ := strings.Cut(value, ";")
		name, _, _ := strings.Cut(cookie, "=")
		return name + "=…;" + attributes
	}
	if isPlain[name] {
		return scrub(value)
	}
	for _, secret := range []string{"auth", "cookie", "token", "secret", "pass", "pwd", "key"} {
		if strings.Contains(strings.ToLower(name), secret) {
			return "…"
		}
	}
	return scrub(value)
}

// isPlain has the usual fields that hold no secret of their own.
var isPlain = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Cache-Control": true, "Content-Length": true, "Content-Type": true, "Date": true, "User-Agent": true,
	"Access-Control-Allow-Origin": true, "Access-Control-Expose-Headers": true, "Www-Authenticate": true,
}

// authorization is an Authorization header: of HTTP Basic the client_id, of a token
// the public id.
func (m *masker) authorization(value string) string {
	scheme, rest, _ := strings.Cut(value, " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case rest == "":
		return "…"
	case isBasic(value):
		if c, err := parseBasic(value, nil); err == nil {
			return scheme + " " + scrub(c.id) + ":…"
		}
	case strings.EqualFold(scheme, "Bearer"):
		if id := m.profile.findID(rest); id != uuid.Nil {
			m.note("Authorization", id)
			return scheme + " " + id.String() + "…"
		}
	}
	return scrub(scheme) + " …"
}

// pathEnd is where a query would begin if the client had not encoded it or left out its ?.
var pathEnd = regexp.MustCompile(`[&;]|%3[Ff]`)

// path is a path without what is secret in it.
func (m *masker) path(text string) string {
	if end := pathEnd.FindStringIndex(text); end != nil {
		return scrub(text[:end[0]]) + text[end[0]:end[1]] + m.form(text[end[1]:])
	}
	return scrub(text)
}

// url is a URL without what is secret in it.
func (m *masker) url(text string) string {
	before, fragment, hasFragment := strings.Cut(text, "#")
	path, query, hasQuery := strings.Cut(before, "?")
	masked := m.path(path)
	if hasQuery {
		masked += "?" + m.form(query)
	}
	if hasFragment {
		masked += "#" + m.form(fragment)
	}
	return masked
}

// form is application/x-www-form-urlencoded without what is secret in it.
// Everything else stays as it was sent.
func (m *masker) form(text string) string {
	var b strings.Builder
	n := 0
	for pair := range strings.SplitSeq(text, "&") {
		if n++; n > maxShown {
			b.WriteString("&…")
			break
		}
		if n > 1 {
			b.WriteByte('&')
		}
		name, value, _ := strings.Cut(pair, "=")
		shown, id, ok := m.value(name, value)
		switch {
		case !ok:
			b.WriteString("…")
		case shown == value:
			b.WriteString(scrub(pair))
		default:
			b.WriteString(scrub(name) + "=" + shown)
		}
		m.note(name, id)
	}
	return b.String()
}

// value is an encoded value: as it was sent if nothing in it is secret. It is not
// ok if it cannot be decoded.
func (m *masker) value(name, encoded string) (shown string, id uuid.UUID, ok bool) {
	name, failed := url.QueryUnescape(name)
	value, err := url.QueryUnescape(encoded)
	if failed != nil || err != nil || strings.Contains(encoded, ";") { // with one, the server takes no part of it
		return "", uuid.Nil, false
	}
	masked, id := m.profile.cutValue(name, value)
	switch {
	case masked == value && len(encoded) <= maxShownText:
		return encoded, id, true
	case id != uuid.Nil || masked == "…":
		return masked, id, true
	}
	return strings.ReplaceAll(url.QueryEscape(shorten(masked)), url.QueryEscape("…"), "…"), id, true
}

func (m *masker) note(name string, id uuid.UUID) {
	if id != uuid.Nil && len(m.found) < maxShown {
		m.found = append(m.found, seen{shorten(name), id})
	}
}

// body is a body without what is secret in it, or "" if it cannot be read.
func (m *masker) body(contentType, text string) string {
	mediaType, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	switch strings.TrimSpace(mediaType) {
	case "application/x-www-form-urlencoded":
		return m.form(text)
	case "text/plain":
		return strings.TrimSuffix(shorten(scrub(text)), "\n")
	case "application/json":
		if m.own && !strings.Contains(text, "secret") {
			return m.ownJSON(text)
		}
		if _, err := checkDepth(text); err != nil {
			return ""
		}
		value, err := parseOrdered([]byte(text))
		if err != nil {
			return ""
		}
		return string(must(marshalJSON(m.json("", value)))) // it was JSON before
	}
	return ""
}

// ownJSON is body for JSON that this server made, which has nothing secret but codes
// and tokens. It is quicker than to parse it.
func (m *masker) ownJSON(text string) string {
	for _, name := range []string{"access_token", "refresh_token"} {
		if _, after, ok := strings.Cut(text, `"`+name+`":"`); ok {
			value, _, _ := strings.Cut(after, `"`)
			m.note(name, m.profile.findID(value))
		}
	}
	return strings.TrimSuffix(scrub(text), "\n")
}

// json is a value of JSON without what is secret in it. name is that of the member
// that has it.
func (m *masker) json(name string, value any) any {
	switch value := value.(type) {
	case string:
		shown, id := m.profile.cutValue(name, value)
		m.note(name, id)
		return shorten(shown)
	case object:
		if shown, _ := m.profile.cutValue(name, "x"); shown == "…" {
			return shown
		}
		for i := range value {
			value[i] = member{scrub(value[i].name), m.json(value[i].name, value[i].value)}
		}
	case []any:
		for i := range value {
			value[i] = m.json(name, value[i])
		}
	case nil, bool:
	default: // a number
		if shown, _ := m.profile.cutValue(name, fmt.Sprint(value)); shown == "…" {
			return shown
		}
	}
	return value
}

// parameters are at most maxShown parameters for the log, each a text or a list.
func (m *masker) parameters(forms ...url.Values) map[string]any {
	shown, presented := m.profile.cut(forms...)
	for _, p := range presented {
		m.note(p.name, p.id)
	}
	parameters := make(map[string]any, len(shown))
	for name, values := range shown {
		if parameters[name] = values; len(values) == 1 {
			parameters[name] = values[0]
		}
		m.size += 64 + len(name) + 16*len(values)
		for _, value := range values {
			m.size += len(value)
		}
	}
	return parameters
}

// findID returns the public id in text that may be a code or a token, or uuid.Nil.
func (p *profile) findID(text string) uuid.UUID {
	for _, f := range []format{p.CodeFormat, p.AccessTokenFormat, p.RefreshTokenFormat} {
		if c, ok := f.parse(text); ok && c.id.Version() == 7 { // otherwise part of some other text
			return c.id
		}
	}
	return uuid.Nil
}

// cut returns at most maxShown parameters without secrets, and the public ids of
// the codes and tokens among them.
func (p *profile) cut(forms ...url.Values) (shown url.Values, presented []seen) {
	shown = make(url.Values)
	n := 0
	for _, form := range forms {
		for _, name := range slices.Sorted(maps.Keys(form)) {
			for _, value := range form[name] {
				if n++; n > maxShown {
					return shown, presented
				}
				value, id := p.cutValue(name, value)
				if id != uuid.Nil {
					presented = append(presented, seen{name, id})
				}
				at := shorten(scrub(name))
				shown[at] = append(shown[at], shorten(value))
			}
		}
	}
	return shown, presented
}

// cutValue returns the value of a parameter without secrets, and the public id of
// the code or token in it, or uuid.Nil.
func (p *profile) cutValue(name, value string) (string, uuid.UUID) {
	name = strings.ToLower(name)
	switch {
	case value == "": // nothing to hide
	case strings.Contains(name, "secret"), strings.Contains(name, "pass"), strings.Contains(name, "pwd"),
		slices.Contains([]string{"code_verifier", "client_assertion", "assertion", "mac", "form_token"}, name):
		return "…", uuid.Nil
	case slices.Contains(p.tokenParameters, name), name == "code", name == "device_code", name == "token", strings.HasSuffix(name, "_token"), name == "id_token_hint":
		if id := p.findID(value); id != uuid.Nil {
			return id.String() + "…", id
		}
		return "…", uuid.Nil
	case name == "request" || name == "continue": // holds an authorization request
		text := shorten(value)
		query := strings.Index(text, "?") + 1 // 0: there is no path before it
		if strings.Contains(text[query:], "=") {
			inner, _ := url.ParseQuery(text[query:]) // malformed pairs are left out
			shown, _ := p.cut(inner)
			return text[:query] + shown.Encode(), uuid.Nil
		}
	}
	if strings.Contains(value, "://") {
		return (&masker{profile: p}).url(shorten(value)), uuid.Nil
	}
	return scrub(value), uuid.Nil
}

// scrub cuts every code and token in a text down to its public id, wherever it
// stands. They are told from other text by the time in their id.
func scrub(text string) string {
	var b strings.Builder
	done := 0
	for i := 0; i < len(text); i++ {
		var id uuid.UUID
		var length int
		switch c := text[i]; {
		case c == 'A':
			id, length = beginsBase64(text[i:])
		case c == '0':
			id, length = beginsHex(text[i:])
		case c == 'e' && strings.HasPrefix(text[i:], "eyJ"): // a JSON Web Token begins like this
			length = runOf(text[i:], func(c byte) bool { return isBase64URL(c) || c == '.' })
			if length < 43 {
				length = 0
			}
		}
		if length == 0 {
			continue
		}
		b.WriteString(text[done:i])
		if id != uuid.Nil {
			b.WriteString(id.String())
		}
		b.WriteString("…")
		i += length - 1
		done = i + 1
	}
	if done == 0 {
		return text
	}
	b.WriteString(text[done:])
	return b.String()
}

// beginsBase64 returns the id that a text in base64url begins with, and how long
// the text is; 0 if it has no more than the id.
func beginsBase64(text string) (uuid.UUID, int) {
	if len(text) < 22 || text[8] < 'c' || text[8] > 'f' { // 7, the version
		return uuid.Nil, 0
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[:22] + "AA")
	if err != nil || !isRecent(uuid.UUID(raw[:16])) {
		return uuid.Nil, 0
	}
	return uuid.UUID(raw[:16]), runOf(text, isBase64URL)
}

// beginsHex is beginsBase64 for hexadecimal.
func beginsHex(text string) (uuid.UUID, int) {
	if len(text) < 33 || text[12] != '7' {
		return uuid.Nil, 0
	}
	raw, err := hex.DecodeString(text[:32])
	if err != nil || !isRecent(uuid.UUID(raw)) {
		return uuid.Nil, 0
	}
	length := runOf(text, func(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 })
	if length == 32 {
		return uuid.Nil, 0
	}
	return uuid.UUID(raw), length
}

// isRecent reports whether an id was made in the last twenty years, so that it is
// hardly a part of something else.
func isRecent(id uuid.UUID) bool {
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		return false
	}
	age := realTime().Sub(timeOf(id).UTC())
	return age > -24*time.Hour && age < 20*365*24*time.Hour
}

// runOf is how many bytes of the text, from its beginning, are of a kind.
func runOf(text string, kind func(byte) bool) int {
	for i := range len(text) {
		if !kind(text[i]) {
			return i
		}
	}
	return len(text)
}

func isBase64URL(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// shorten copies the beginning of a text, so that the request can be freed.
func shorten(text string) string {
	if len(text) <= maxShownText {
		return strings.Clone(text)
	}
	return strings.ToValidUTF8(text[:maxShownText], "") + "…"
}
