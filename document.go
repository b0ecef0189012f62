package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// document is a JSON file that people write: profile or fixtures. It knows on
// which line each value stands, so that every complaint can say where.
type document struct {
	file  string
	data  []byte
	lines map[string]int // by path: clients[0].scope
}

// parseDocument decodes the file's content into a pointer to a struct. Unlike
// encoding/json it refuses keys that the struct does not have, so spelt, and
// keys that occur twice. Errors name file, line and key.
func parseDocument(file string, data []byte, into any) (*document, error) {
	d := &document{file, data, make(map[string]int)}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	if err := d.walk(decoder, "", reflect.TypeOf(into)); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("%s:%d: there is something behind the end of the JSON object", file, d.line(decoder.InputOffset()))
	}
	err := json.Unmarshal(data, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("%s:%d: %s: a JSON %s cannot stand here", file, d.line(wrong.Offset), wrong.Field, wrong.Value)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d, nil
}

// errorAt says what is wrong with the value at a path.
func (d *document) errorAt(path string, problem error) error {
	at := path
	for d.lines[at] == 0 && at != "" {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)] // a key that is missing: where it should be
	}
	return fmt.Errorf("%s:%d: %s: %w", d.file, max(d.lines[at], 1), path, problem)
}

func (d *document) line(offset int64) int {
	return 1 + strings.Count(string(d.data[:min(int(offset), len(d.data))]), "\n")
}

// walk reads one value, which is to be decoded into a t.
func (d *document) walk(decoder *json.Decoder, path string, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := decoder.Token()
	if err != nil {
		return d.syntaxError(decoder, err)
	}
	d.lines[path] = d.line(decoder.InputOffset())
	switch token {
	case json.Delim('{'):
		for decoder.More() {
			if err := d.walkMember(decoder, path, t); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for i := 0; decoder.More(); i++ {
			element := t
			if t.Kind() == reflect.Slice {
				element = t.Elem()
			}
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
	case reflect.Struct:
		fields := reflect.VisibleFields(t)
		var known []string
		for _, field := range fields {
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if tag == name {
				return d.walk(decoder, path, field.Type)
			}
			if tag != "" {
				known = append(known, tag)
			}
		}
		return fmt.Errorf("%s:%d: %s: unknown key; here stand %s", d.file, line, path, strings.Join(known, ", "))
	case reflect.Map:
		return d.walk(decoder, path, t.Elem())
	default:
		return d.walk(decoder, path, t) // the decoder will say that no object can stand here
	}
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
