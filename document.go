package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// document is a JSON file that people write: a profile or fixtures. It knows the
// place of each value, so that every error can name the line.
type document struct {
	file    string
	data    []byte
	decoder *json.Decoder
	offsets map[string]int64 // of values, in bytes, by path, such as clients[0].scope
}

// parseDocument decodes the file's content into a pointer to a struct. It skips
// a byte order mark, which some editors write (RFC 8259 §8.1). It is stricter than
// encoding/json: it refuses invalid UTF-8, keys that the struct does not have in
// exactly this spelling, and repeated keys. Errors name file, line and key.
func parseDocument(file string, data []byte, into any) (*document, error) {
	data = bytes.TrimRight(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n") // so that an early end has the last line
	d := &document{file, data, json.NewDecoder(bytes.NewReader(data)), make(map[string]int64)}
	for n, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return nil, fmt.Errorf("%s:%d: this line is not UTF-8", file, n+1)
		}
	}
	if offset, err := checkDepth(data); err != nil {
		return nil, d.errorAt(int64(offset), err)
	}
	err := json.Unmarshal(data, into)
	if malformed := (*json.SyntaxError)(nil); errors.As(err, &malformed) {
		return nil, d.syntaxError(malformed)
	}
	d.decoder.UseNumber()
	problem := d.walk("", reflect.TypeOf(into))
	if misfit := (*json.UnmarshalTypeError)(nil); errors.As(err, &misfit) {
		must := forms[misfit.Type.Kind()]
		if rules, ok := reflect.Zero(misfit.Type).Interface().(interface{ form() string }); ok {
			must = rules.form()
		}
		for path, offset := range d.offsets {
			if offset == misfit.Offset { // walk has come this far without a problem
				problem = d.problem(path, errors.New("must be "+must))
			}
		}
	}
	return d, cmp.Or(problem, err)
}

// syntaxError says what is wrong with the JSON, in the words of those who write it by
// hand.
func (d *document) syntaxError(malformed *json.SyntaxError) error {
	at := max(0, malformed.Offset-1)
	before := bytes.TrimRight(d.data[:at], " \t\r\n")
	found, _ := utf8.DecodeRune(d.data[at:])
	isAfterValue := strings.HasSuffix(malformed.Error(), "after object key:value pair") || strings.HasSuffix(malformed.Error(), "after array element")
	switch {
	case len(d.data) == 0:
		return d.errorAt(0, errors.New("there is nothing in it"))
	case int(malformed.Offset) >= len(d.data) && strings.HasPrefix(malformed.Error(), "unexpected end"):
		return d.errorAt(malformed.Offset, errors.New("it ends early: a bracket or a quote is not closed"))
	case strings.ContainsRune("'`“”„‘’«»", found):
		return d.errorAt(at, fmt.Errorf("%c must be a straight double quote, \"", found))
	case found == '/' || found == '#':
		return d.errorAt(at, errors.New("JSON has no comments"))
	case isAfterValue && strings.ContainsRune(`"{[`, found):
		return d.errorAt(int64(len(before)), errors.New("a comma is missing at the end"))
	case strings.ContainsRune("]}", found) && bytes.HasSuffix(before, []byte(",")):
		return d.errorAt(int64(len(before)), errors.New("the comma at the end is one too many"))
	}
	return d.errorAt(malformed.Offset, malformed)
}

// maxDepth is how deep JSON may be nested. The functions that read JSON call
// themselves for each level.
const maxDepth = 64

var errTooDeep = fmt.Errorf("nested more than %d levels deep", maxDepth)

// checkDepth refuses JSON that is nested too deep, and returns where. It only
// looks at brackets outside of strings.
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

// errorAt adds the file and the line of an offset to an error.
func (d *document) errorAt(offset int64, problem error) error {
	line := 1 + bytes.Count(d.data[:min(int(offset), len(d.data))], []byte("\n"))
	return fmt.Errorf("%s:%d: %w", d.file, line, problem)
}

// problem adds the file and the line of a value to what is wrong with it.
func (d *document) problem(path string, problem error) error {
	return d.errorAt(d.offset(path), memberError{path, problem})
}

// first returns the problem that comes first in the file, or nil.
func (d *document) first(all memberErrors) error {
	if len(all) == 0 {
		return nil
	}
	m := slices.MinFunc(all, func(a, b memberError) int { return cmp.Compare(d.offset(a.member), d.offset(b.member)) })
	return d.problem(m.member, m.error)
}

// offset is the place of a value or, if it is missing, of what should hold it.
func (d *document) offset(path string) int64 {
	for {
		if offset, ok := d.offsets[path]; ok || path == "" {
			return offset
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// walk notes the place of each value in a value that is to be decoded into a t. It
// stops at the first bad key. The JSON is well-formed, so that reading it cannot fail.
func (d *document) walk(path string, t reflect.Type) (err error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		t = reflect.TypeFor[any]() // it knows its own form
	}
	token, _ := d.decoder.Token()
	d.offsets[path] = d.decoder.InputOffset()
	switch token {
	case nil:
		if path == "" { // elsewhere null counts as absent
			return d.problem("", errors.New("must be an object"))
		}
	case json.Delim('{'):
		for err == nil && d.decoder.More() {
			err = d.walkMember(path, t)
		}
		d.decoder.Token() // }
	case json.Delim('['):
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		for i := 0; err == nil && d.decoder.More(); i++ {
			err = d.walk(index(path, i), t)
		}
		d.decoder.Token() // ]
	}
	return err
}

// walkMember walks through a key and its value in an object.
func (d *document) walkMember(path string, t reflect.Type) error {
	token, _ := d.decoder.Token()
	name := token.(string)
	path = below(path, name)
	_, twice := d.offsets[path]
	d.offsets[path] = d.decoder.InputOffset()
	if twice {
		return d.problem(path, errors.New("this key occurs twice"))
	}
	switch t.Kind() {
	case reflect.Map:
		return d.walk(path, t.Elem())
	case reflect.Struct:
		var known []string
		for _, field := range reflect.VisibleFields(t) {
			switch key := jsonKey(field); key {
			case "": // not the document's
			case name:
				return d.walk(path, field.Type)
			default:
				known = append(known, key)
			}
		}
		return d.problem(path, unknownKey(known))
	default:
		return d.walk(path, t)
	}
}

// forms say what a value must be, by what it is to be decoded into.
var forms = map[reflect.Kind]string{
	reflect.Struct: "an object",
	reflect.Map:    "an object",
	reflect.Slice:  "an array",
	reflect.String: "a string",
	reflect.Bool:   "true or false",
	reflect.Int:    "a whole number below 2^63, without quotes",
	reflect.Int64:  "a whole number below 2^63, without quotes",
	reflect.Uint64: "a whole number, not negative",
}

// jsonKey is the key of a field in JSON, or "".
func jsonKey(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return key
}

func unknownKey(known []string) error {
	return errors.New("unknown key; expected one of " + strings.Join(known, ", "))
}

// below is the path of a member of an object.
func below(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

// index is the path of an element of a list.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// memberError is what is wrong with the value at a path, such as
// clients[0].scope. Without a path it is about the whole document.
type memberError struct {
	member string
	error
}

func (e memberError) Error() string {
	if e.member == "" {
		return e.error.Error()
	}
	return e.member + ": " + e.error.Error()
}

func wrong(member, problem string) error { return memberError{member, errors.New(problem)} }

// memberErrors are all problems of a document.
type memberErrors []memberError

func (e memberErrors) Error() string { return e[0].Error() }

// first returns the first problem, or nil.
func (e memberErrors) first() error {
	if len(e) == 0 {
		return nil
	}
	return e[0]
}

// add adds a problem if there is one.
func (e *memberErrors) add(isWrong bool, member, problem string) {
	if isWrong {
		*e = append(*e, memberError{member, errors.New(problem)})
	}
}

// addBelow adds the problems of the value at a path.
func (e *memberErrors) addBelow(path string, problems memberErrors) {
	for _, m := range problems {
		*e = append(*e, memberError{below(path, m.member), m.error})
	}
}

// oneOf adds a problem if a word is not a known one.
func (e *memberErrors) oneOf(member, word string, known []string) {
	e.add(!slices.Contains(known, word), member, fmt.Sprintf("%q is unknown; expected one of %s", word, strings.Join(known, ", ")))
}

// tagProblems checks a struct by the tags of its fields, in their order:
//
//	required:"true"      it is neither absent nor empty
//	one:"a b"            it, each element of the list or each value of the object is one of these words
//	keys:"a b"           each key of the object is one of these words
//	from:"1" to:"600"    it is a number in this range; without to there is no upper end
//	text:"255"           it is text of at most this many characters
//	rule:"RFC 6749 §3"   the section that the range comes from
//	empty:"false"        a list that is there has elements
//	facts:"a b"          placeholders in it have one of these names
//	headers:"true"       it is an object of header fields
//
// Absent values pass unless they are required. $grants instead of words stands
// for the list of that name in wordLists.
func tagProblems(value any) (all memberErrors) {
	all.check("", reflect.ValueOf(value), "")
	return all
}

// check checks the value at a path by the tag of its field.
func (e *memberErrors) check(path string, v reflect.Value, tag reflect.StructTag) {
	switch v = reflect.Indirect(v); v.Kind() {
	case reflect.Struct:
		if s, isShape := v.Interface().(shape); isShape {
			e.checkFacts(path, s.value, tag)
		}
		for _, field := range reflect.VisibleFields(v.Type()) {
			if key := jsonKey(field); key != "" {
				e.checkField(below(path, key), v.FieldByIndex(field.Index), field.Tag)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			e.check(index(path, i), v.Index(i), tag)
		}
	case reflect.Map:
		if tag.Get("headers") == "true" {
			e.checkHeaders(path, v.Interface().(map[string]string))
		}
		for member := v.MapRange(); member.Next(); {
			at := below(path, member.Key().String())
			if known := words(tag.Get("keys")); len(known) > 0 && !slices.Contains(known, member.Key().String()) {
				*e = append(*e, memberError{at, unknownKey(known)})
			}
			e.check(at, member.Value(), tag)
		}
	case reflect.String:
		e.checkFacts(path, v.String(), tag)
		if known := words(tag.Get("one")); len(known) > 0 {
			e.oneOf(path, v.String(), known)
		}
		most, err := strconv.Atoi(tag.Get("text"))
		e.add(err == nil && !isTextOf(most, v.String()), path, fmt.Sprintf("must be text of at most %d characters", most))
	case reflect.Int, reflect.Int64:
		from, hasNone := strconv.ParseInt(tag.Get("from"), 10, 64)
		to, endless := strconv.ParseInt(tag.Get("to"), 10, 64)
		must := fmt.Sprintf("must be %d to %d", from, to)
		if endless != nil {
			must = fmt.Sprintf("must be at least %d", from)
		}
		if rule := tag.Get("rule"); rule != "" {
			must += " (" + rule + ")"
		}
		e.add(hasNone == nil && (v.Int() < from || endless == nil && v.Int() > to), path, must)
	}
}

// checkField checks whether a field is present, and then its value.
func (e *memberErrors) checkField(path string, v reflect.Value, tag reflect.StructTag) {
	required := tag.Get("required") == "true"
	switch {
	case v.IsZero() && !required:
	case v.IsZero() && !v.CanInt():
		e.add(true, path, "is missing")
	case (required || tag.Get("empty") == "false") && v.Kind() == reflect.Slice && v.Len() == 0:
		e.add(true, path, "is empty")
	default:
		e.check(path, v, tag)
	}
}

// words are the words that a tag lists, or nil.
func words(tag string) []string {
	if name, isName := strings.CutPrefix(tag, "$"); isName {
		return wordLists[name]
	}
	return strings.Fields(tag)
}
