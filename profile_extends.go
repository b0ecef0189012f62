package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// extend returns a built-in profile with the document's members in place of its own.
// A table by name, such as endpoints, keeps the entries that the document lacks.
//
// Choice: a list or an answer is replaced as a whole, because its order counts.
func (d *document) extend(name string) (*profile, error) {
	if !slices.Contains(profileNames(), name) {
		return nil, d.problem("extends", fmt.Errorf("%q is unknown; expected one of %s", name, strings.Join(profileNames(), ", ")))
	}
	p, err := loadProfile(name)
	if err != nil {
		return nil, err
	}
	// encoding/json decodes into what is there, also into the elements of a list.
	fields := reflect.ValueOf(p).Elem()
	for _, field := range reflect.VisibleFields(fields.Type()) {
		end, isOwn := d.offsets[jsonKey(field)]
		isNull := bytes.HasSuffix(d.data[:end], []byte("null")) // then it counts as absent
		if isOwn && !isNull && field.IsExported() && field.Type.Kind() != reflect.Map {
			fields.FieldByIndex(field.Index).SetZero()
		}
	}
	return p, json.Unmarshal(d.data, p) // it was decoded before
}
