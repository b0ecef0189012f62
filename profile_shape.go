package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// shape is the form of a JSON answer in a profile: any JSON value, in which
// strings may have placeholders.
//
//	"${name}"    the value, whatever its type; null if there is none
//	"${name?}"   the value; without one the member is left out
//	"a ${name}"  the value as text within a text
//
// Members keep their order.
type shape struct{ value any }

var placeholder = regexp.MustCompile(`\$\{([a-z_]+)(\?)?\}`)

func (s *shape) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	s.value = decodeOrdered(decoder)
	return nil
}

// decodeOrdered decodes one JSON value, with objects as object. There are no
// errors: json.Unmarshal checks the syntax before it calls UnmarshalJSON.
func decodeOrdered(decoder *json.Decoder) any {
	token, _ := decoder.Token()
	switch token {
	case json.Delim('{'):
		o := object{}
		for decoder.More() {
			name, _ := decoder.Token()
			o.add(name.(string), decodeOrdered(decoder))
		}
		decoder.Token() // }
		return o
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			list = append(list, decodeOrdered(decoder))
		}
		decoder.Token() // ]
		return list
	}
	return token
}

// has reports whether the value is an object with a member of that name.
func (s shape) has(name string) bool {
	o, _ := s.value.(object)
	return o.index(name) >= 0
}

// facts are the values of placeholders; nil is unknown.
type facts map[string]any

// fill returns the value with every placeholder replaced.
func (s shape) fill(f facts) any { return fill(s.value, f) }

// parameters returns the members of an object, filled, for a redirect.
func (s shape) parameters(f facts) parameters {
	var p parameters
	filled, _ := s.fill(f).(object)
	for _, m := range filled {
		p = append(p, parameters{{m.name, fmt.Sprint(m.value)}}...)
	}
	return p
}

func fill(value any, f facts) any {
	switch value := value.(type) {
	case object:
		filled := object{}
		for _, m := range value {
			if text, ok := m.value.(string); ok {
				if match := placeholder.FindStringSubmatch(text); match != nil && match[0] == text && match[2] == "?" && f[match[1]] == nil {
					continue
				}
			}
			filled.add(m.name, fill(m.value, f))
		}
		return filled
	case []any:
		filled := []any{}
		for _, element := range value {
			filled = append(filled, fill(element, f))
		}
		return filled
	case string:
		if match := placeholder.FindStringSubmatch(value); match != nil && match[0] == value {
			return f[match[1]]
		}
		return fillText(value, f)
	}
	return value
}

// fillText replaces the placeholders of a text.
func fillText(text string, f facts) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		if known := f[strings.Trim(p, "${?}")]; known != nil {
			return fmt.Sprint(known)
		}
		return ""
	})
}

// attempt matches a placeholder, and what looks like one.
var attempt = regexp.MustCompile(`\$\{[^}]*\}?`)

// placeholders returns every attempt at a placeholder in a value of a shape.
func placeholders(value any) (found []string) {
	switch value := value.(type) {
	case object:
		for _, m := range value {
			found = append(found, placeholders(m.value)...)
		}
	case []any:
		for _, element := range value {
			found = append(found, placeholders(element)...)
		}
	case string:
		found = attempt.FindAllString(value, -1)
	}
	return found
}

// object is a JSON object whose members keep the order in which they are added.
type object []member

type member struct {
	name  string
	value any
}

func (o *object) add(name string, value any) { *o = append(*o, member{name, value}) }

// text is the value of a member if it is text, or "".
func (o object) text(name string) (text string) {
	if i := o.index(name); i >= 0 {
		text, _ = o[i].value.(string)
	}
	return text
}

// index is the place of a member, or -1.
func (o object) index(name string) int {
	return slices.IndexFunc(o, func(m member) bool { return m.name == name })
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := marshalJSON(m.name) // text always succeeds
		value, err := marshalJSON(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshalJSON leaves & as it is, so that URLs can be copied out of the JSON.
func marshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// resourceFacts are the placeholders in answers of resources and introspection.
// A name that ends in _text is a number as text.
var resourceFacts = append([]string{
	"access_token", "token_type", "scope", "scopes", "iat", "exp", "expires_in",
	"client_id", "client_name", "client_uri", "client_number", "client_number_text", "client_scopes", "redirect_uri", "redirect_uris",
	"username", "name", "display_name", "first_name", "last_name", "email", "account_uuid", "account_number", "account_number_text",
}, openFacts...)

// openFacts are the placeholders that need no token.
var openFacts = []string{"issuer", "base_url", "host"}

// serverFacts are the values of openFacts.
func (s *server) serverFacts() facts {
	_, host, _ := strings.Cut(s.url(""), "://")
	return facts{"issuer": s.issuer(), "base_url": s.url(""), "host": host}
}

// bearerFacts are the values of resourceFacts for a token.
func (s *server) bearerFacts(b *bearer, tokenType string, now unixTime) facts {
	f := s.serverFacts()
	set := func(name, value string) {
		if value != "" {
			f[name] = value
		}
	}
	set("access_token", b.text)
	set("token_type", tokenType)
	set("scope", b.scope)
	f["scopes"] = strings.Fields(b.scope)
	f["iat"] = b.issued
	if b.expires != 0 {
		f["exp"], f["expires_in"] = b.expires, b.expires-now
	}
	set("client_id", b.client.ClientID)
	set("client_name", b.client.displayName())
	set("client_uri", b.client.URI)
	f["client_number"] = accountNumber("client " + b.client.ClientID)
	f["client_number_text"] = fmt.Sprint(f["client_number"])
	f["client_scopes"] = strings.Fields(b.client.Scope)
	set("redirect_uri", strings.Join(b.client.RedirectURIs, "\n"))
	f["redirect_uris"] = append([]string{}, b.client.RedirectURIs...) // never null
	if u := b.user; u != nil {
		first, last, _ := strings.Cut(u.displayName(), " ")
		set("username", u.Username)
		set("name", u.Name)
		set("display_name", u.displayName())
		set("first_name", first)
		set("last_name", last)
		set("email", u.Email)
		set("account_uuid", accountUUID(u.Username).String())
		f["account_number"] = accountNumber(u.Username)
		f["account_number_text"] = fmt.Sprint(f["account_number"])
	}
	return f
}
