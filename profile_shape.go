package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
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
type shape struct {
	value    any // as written: object, []any, string, json.Number, bool or nil
	segments []segment
}

// segment is a piece of an answer: literal JSON, and the value after it.
type segment struct {
	isMember bool // of an object: a comma separates it from a member before it
	literal  string
	name     string // of the placeholder; "" for none
	optional bool   // without a value the literal is left out too
	inText   bool   // the value stands within quotation marks
}

func (s *shape) UnmarshalJSON(data []byte) error {
	value, err := parseOrdered(data)
	*s = newShape(value)
	return err
}

// newShape compiles a value, so that filling it only joins pieces of JSON.
func newShape(value any) shape {
	s := shape{value: value}
	s.compile(segment{}, value)
	return s
}

// compile adds the segments of a value. The first of them begins as p.
func (s *shape) compile(p segment, value any) {
	add := func(literal string) {
		p.literal += literal
		s.segments, p = append(s.segments, p), segment{}
	}
	switch value := value.(type) {
	case object:
		add("{")
		for _, m := range value {
			s.compile(segment{isMember: true, literal: string(appendText(nil, m.name)) + ":"}, m.value)
		}
		add("}")
	case []any:
		add("[")
		for i, element := range value {
			if i > 0 {
				add(",")
			}
			s.compile(segment{}, element)
		}
		add("]")
	case string:
		if match := placeholder.FindStringSubmatch(value); match != nil && match[0] == value {
			p.name, p.optional = match[1], match[2] != "" && p.isMember
			add("")
			return
		}
		p.literal += `"`
		for literal, name := range pieces(value) {
			p.name, p.inText = name, true
			add(within(literal))
		}
		add(`"`)
	default: // a number, true, false or null
		literal, _ := marshalJSON(value)
		add(string(literal))
	}
}

// fill returns the answer: the value with every placeholder replaced.
func (s shape) fill(f facts) json.RawMessage {
	b := make([]byte, 0, 512)
	for _, p := range s.segments {
		var v fact
		if p.name != "" {
			v = f(p.name)
		}
		if p.optional && v.kind == nothing {
			continue
		}
		if p.isMember && b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(b, p.literal...)
		switch {
		case p.inText:
			b = append(b, within(v.String())...)
		case p.name != "":
			b = v.appendJSON(b)
		}
	}
	return b
}

// has reports whether the value is an object with a member of that name.
func (s shape) has(name string) bool {
	o, _ := s.value.(object)
	return o.index(name) >= 0
}

// parameters returns the members of a filled object, for a redirect.
func (s shape) parameters(f facts) parameters {
	var p parameters
	filled, _ := parseOrdered(s.fill(f)) // JSON by construction
	o, _ := filled.(object)
	for _, m := range o {
		p = append(p, parameters{{m.name, fmt.Sprint(m.value)}}...)
	}
	return p
}

// fillText replaces the placeholders of a text.
func fillText(text string, f facts) string {
	var b strings.Builder
	for literal, name := range pieces(text) {
		b.WriteString(literal)
		if name != "" {
			b.WriteString(f(name).String())
		}
	}
	return b.String()
}

// pieces yields each literal of a text with the name of the placeholder after
// it, which is "" after the last one.
func pieces(text string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for more := true; more; {
			var literal, name string
			literal, text, more = strings.Cut(text, "${")
			name, text, _ = strings.Cut(text, "}")
			more = yield(literal, strings.TrimSuffix(name, "?")) && more
		}
	}
}

var placeholder = regexp.MustCompile(`\$\{([a-z_]+)(\?)?\}`)

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

// appendText appends a text as JSON, with &, < and > as they are.
func appendText(b []byte, text string) []byte {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '"' || r == '\\' }) {
		escaped, _ := marshalJSON(text) // text always succeeds
		return append(b, escaped...)
	}
	return append(append(append(b, '"'), text...), '"')
}

// within returns a text as JSON has it between quotation marks.
func within(text string) string {
	quoted := appendText(nil, text)
	return string(quoted[1 : len(quoted)-1])
}

// parseOrdered parses JSON, with objects as object and numbers as json.Number.
func parseOrdered(data []byte) (any, error) {
	if !json.Valid(data) { // find out why
		return nil, json.Unmarshal(data, new(any))
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decodeOrdered(decoder), nil
}

// decodeOrdered decodes one value of valid JSON.
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
