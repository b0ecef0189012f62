package main

import (
	"bytes"
	"encoding/json"
	"errors"
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
	var err error
	s.value, err = decodeOrdered(decoder)
	return err
}

// decodeOrdered decodes one JSON value, with objects as object.
func decodeOrdered(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := object{}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			value, err := decodeOrdered(decoder)
			if err != nil {
				return nil, err
			}
			o.add(name.(string), value)
		}
		_, err = decoder.Token()
		return o, err
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			value, err := decodeOrdered(decoder)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = decoder.Token()
		return list, err
	}
	return token, nil
}

// has reports whether the value is an object with a member of that name.
func (s shape) has(name string) bool {
	o, _ := s.value.(object)
	return slices.ContainsFunc(o, func(m member) bool { return m.name == name })
}

// facts are what placeholders stand for. A fact that is nil is not known.
type facts map[string]any

// fill returns the value with every placeholder replaced.
func (s shape) fill(f facts) any { return fill(s.value, f) }

// parameters returns the members of an object, filled, as what a redirect carries.
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

// attempt is a placeholder, or what somebody meant to be one.
var attempt = regexp.MustCompile(`\$\{[^}]*\}?`)

// placeholders calls check with each placeholder, and with what looks like one,
// and returns its first error.
func (s shape) placeholders(check func(text string) error) error {
	return eachPlaceholder(s.value, check)
}

// mentions reports whether a placeholder of this name is there.
func (s shape) mentions(name string) bool {
	found := errors.New("found")
	return s.placeholders(func(text string) error {
		if strings.Trim(text, "${?}") == name {
			return found
		}
		return nil
	}) != nil
}

func eachPlaceholder(value any, check func(text string) error) error {
	switch value := value.(type) {
	case object:
		for _, m := range value {
			if err := eachPlaceholder(m.value, check); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range value {
			if err := eachPlaceholder(element, check); err != nil {
				return err
			}
		}
	case string:
		for _, text := range attempt.FindAllString(value, -1) {
			if err := check(text); err != nil {
				return err
			}
		}
	}
	return nil
}
