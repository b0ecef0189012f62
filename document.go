package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// document is a JSON file that people write: profile or fixtures. It knows on
// which line each value stands, so that every complaint can say where.
type document struct {
	file  string
	data  []byte
	lines map[string]int // by path: clients[0].scope
}

// parseDocument decodes the file's content into a pointer to a struct. A byte
// order mark, which some editors put first, is skipped (RFC 8259 §8.1). Unlike
// encoding/json it refuses what is not UTF-8, keys that the struct does not
// have, so spelt, and keys that occur twice. Errors name file, line and key.
func parseDocument(file string, data []byte, into any) (*document, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	d := &document{file, data, make(map[string]int)}
	for offset := 0; offset < len(data); {
		r, size := utf8.DecodeRune(data[offset:])
		if r == utf8.RuneError && size == 1 {
			return nil, fmt.Errorf("%s:%d: this line is not UTF-8", file, d.line(int64(offset)))
		}
		offset += size
	}
	if offset, err := checkDepth(data); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", file, d.line(int64(offset)), err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := d.walk(decoder, "", reflect.TypeOf(into)); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("%s:%d: there is something behind the end of the JSON object", file, d.line(decoder.InputOffset()))
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// maxDepth is how deep JSON may be nested, wherever it is read. What reads it
// calls itself for each level.
const maxDepth = 64

var errTooDeep = fmt.Errorf("nested more than %d levels deep", maxDepth)

// checkDepth refuses JSON that is nested too deep, and tells where that begins.
// It reads no more of JSON than which brackets stand in no string.
func checkDepth[text string | []byte](data text) (offset int, err error) {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i, errTooDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return 0, nil
}

// errorAt says what is wrong with the value at a path.
func (d *document) errorAt(path string, problem error) error {
	at := path
	for d.lines[at] == 0 && at != "" {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)] // a key that is missing: where it should be
	}
	line := max(d.lines[at], 1)
	if path == "" {
		return fmt.Errorf("%s:%d: %w", d.file, line, problem)
	}
	return fmt.Errorf("%s:%d: %s: %w", d.file, line, path, problem)
}

// problem says what is wrong with the value at a path, or with a member of it.
func (d *document) problem(path string, err error) error {
	var m memberError
	if errors.As(err, &m) {
		path, err = strings.TrimPrefix(path+"."+m.member, "."), m.error
	}
	return d.errorAt(path, err)
}

func (d *document) line(offset int64) int {
	return 1 + bytes.Count(d.data[:min(int(offset), len(d.data))], []byte("\n"))
}

// walk reads one value, which is to be decoded into a t.
func (d *document) walk(decoder *json.Decoder, path string, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		t = reflect.TypeFor[any]() // it knows its own form
	}
	token, err := decoder.Token()
	if err != nil {
		return d.syntaxError(decoder, err)
	}
	d.lines[path] = d.line(decoder.InputOffset())
	if must := misfit(token, t); must != "" && (token != nil || path == "") { // null: as if it were absent
		return d.errorAt(path, errors.New("must be "+must))
	}
	switch token {
	case json.Delim('{'):
		for decoder.More() {
			if err := d.walkMember(decoder, path, t); err != nil {
				return err
			}
		}
	case json.Delim('['):
		element := t
		if t.Kind() == reflect.Slice {
			element = t.Elem()
		}
		for i := 0; decoder.More(); i++ {
			if err := d.walk(decoder, path+"["+strconv.Itoa(i)+"]", element); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if _, err := decoder.Token(); err != nil {
		return d.syntaxError(decoder, err)
	}
	return nil
}

// misfit returns what must stand where a value is decoded into a t, or "" if
// one that begins with the token can.
func misfit(token json.Token, t reflect.Type) string {
	var fits bool
	var must string
	switch t.Kind() {
	case reflect.Interface:
		fits = true
	case reflect.Struct, reflect.Map:
		fits, must = token == json.Delim('{'), "an object"
	case reflect.Slice:
		fits, must = token == json.Delim('['), "an array"
		if rules, ok := reflect.Zero(t).Interface().(interface{ form() string }); ok {
			must = rules.form()
		}
	case reflect.String:
		_, fits = token.(string)
		must = "a string"
	case reflect.Bool:
		_, fits = token.(bool)
		must = "true or false"
	case reflect.Uint64:
		number, _ := token.(json.Number)
		_, err := strconv.ParseUint(string(number), 10, t.Bits())
		fits, must = err == nil, "a whole number, not negative"
	default:
		number, _ := token.(json.Number)
		_, err := strconv.ParseInt(string(number), 10, t.Bits())
		fits, must = err == nil, "a whole number below 2^63"
	}
	if fits {
		return ""
	}
	return must
}

func (d *document) walkMember(decoder *json.Decoder, path string, t reflect.Type) error {
	token, err := decoder.Token()
	if err != nil {
		return d.syntaxError(decoder, err)
	}
	name, _ := token.(string)
	path = strings.TrimPrefix(path+"."+name, ".")
	line := d.line(decoder.InputOffset())
	if d.lines[path] != 0 {
		return fmt.Errorf("%s:%d: %s: this key occurs twice", d.file, line, path)
	}
	switch t.Kind() {
	case reflect.Map:
		return d.walk(decoder, path, t.Elem())
	case reflect.Interface:
		return d.walk(decoder, path, t)
	}
	var known []string
	for _, field := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch tag {
		case "": // not the document's
		case name:
			return d.walk(decoder, path, field.Type)
		default:
			known = append(known, tag)
		}
	}
	return fmt.Errorf("%s:%d: %s: unknown key; here stand %s", d.file, line, path, strings.Join(known, ", "))
}

func (d *document) syntaxError(decoder *json.Decoder, err error) error {
	offset := decoder.InputOffset()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the JSON ends early")
	}
	return fmt.Errorf("%s:%d: %w", d.file, d.line(offset), err)
}

// memberError is what is wrong with one member of a fixture.
type memberError struct {
	member string
	error
}

func (e memberError) Error() string { return e.member + ": " + e.error.Error() }
func (e memberError) Unwrap() error { return e.error }

func wrong(member, problem string) error { return memberError{member, errors.New(problem)} }

// memberErrors are all that is wrong with a fixture, in the order of its members.
type memberErrors []memberError

func (e memberErrors) Error() string { return e[0].Error() }

// add adds a problem if there is one.
func (e *memberErrors) add(isWrong bool, member, problem string) {
	if isWrong {
		*e = append(*e, memberError{member, errors.New(problem)})
	}
}
