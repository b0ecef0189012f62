package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// FuzzRedirectURI: what matches a registered URI leads to the same place, and
// what may be registered carries an answer to where it says.
func FuzzRedirectURI(f *testing.F) {
	for _, pair := range [][2]string{
		{"https://cb.example/cb", "https://cb.example/cb"},
		{"https://cb.example/cb?a=b", "https://cb.example/cb?a=b&c=d"},
		{"https://cb.example", "https://cb.example/"},
		{"https://cb.example/cb", "https://cb.example:443/cb"},
		{"https://cb.example/cb", "https://cb.example/cb/../evil"},
		{"https://cb.example/cb", "https://cb.example\\@evil.example/cb"},
		{"https://cb.example/a;b?c;d", "https://cb.example/%2e%2e?"},
		{"http://127.0.0.1/cb", "http://127.0.0.1:49152/cb"},
		{"http://127.0.0.1:1/cb?a=b", "http://127.0.0.1:65535/cb?a=b"},
		{"http://127.0.0.1/cb", "http://127.0.0.1:65536/cb"},
		{"http://127.0.0.1/cb", "http://127.0.0.1:/cb"},
		{"http://127.0.0.1/cb", "http://127.0.0.1:+80/cb"},
		{"http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb"},
		{"http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb"},
		{"http://127.0.0.1", "http://127.0.0.1#@evil.example"},
		{"http://localhost/cb", "http://localhost:80/cb"},
		{"http://[::1]/cb", "http://[::1]:80/cb"},
		{"http://[::1]/cb", "http://[::1%25lo]:80/cb"},
		{"com.example.app:/cb", "com.example.app:/cb?"},
		{"com.example.app:cb", "com.example.app://cb"},
		{"javascript:alert(1)", "data:text/html,x"},
		{outOfBand, outOfBand},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, registered, requested string) {
		matches := matchRedirectURI(registered, requested)
		switch {
		case matches != matchRedirectURI(requested, registered):
			t.Error("matching depends on which is which")
		case registered == requested && !matches:
			t.Error("it does not match itself")
		}
		if checkRedirectURI(registered, new(profile)) != nil || registered == outOfBand {
			return
		}
		u, err := url.Parse(registered)
		if err != nil || !u.IsAbs() || strings.ContainsAny(registered, "# \\\"<>\r\n\t") {
			t.Fatalf("%q was accepted: %v", registered, err)
		}
		if slices.Contains([]string{"javascript", "data", "vbscript", "file", "blob", "about"}, u.Scheme) {
			t.Errorf("scheme %s was accepted", u.Scheme)
		}
		loopback := slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname())
		if u.Scheme == "http" && !loopback || (u.Scheme == "http" || u.Scheme == "https") && (u.Hostname() == "" || u.User != nil) {
			t.Errorf("%q was accepted", registered)
		}

		// The answer stands behind it and changes nothing else.
		separator := "?"
		if strings.Contains(registered, "?") {
			separator = "&"
		}
		to, err := url.Parse(registered + separator + parameters{{"code", "a+b&c"}, {"state", "#"}}.encode())
		if err != nil {
			t.Fatal(err)
		}
		if to.Scheme != u.Scheme || to.Host != u.Host || to.Path != u.Path || to.Opaque != u.Opaque {
			t.Errorf("the answer goes to %s", to)
		}
		query := to.Query()
		if got := query["code"]; len(got) != 1 || got[0] != "a+b&c" || query.Get("state") != "#" {
			t.Errorf("the client sees %q", query)
		}

		if !matches || registered == requested {
			return
		}
		// Other than by its bytes only a loopback URI matches, with another port.
		q, err := url.Parse(requested)
		if err != nil {
			t.Fatalf("%q matches %q: %v", requested, registered, err)
		}
		if port, err := strconv.Atoi(q.Port()); q.Port() != "" && (err != nil || port > 65535) {
			t.Errorf("port %s", q.Port())
		}
		q.Host, u.Host = strings.TrimSuffix(q.Host, ":"+q.Port()), strings.TrimSuffix(u.Host, ":"+u.Port())
		if !loopback || u.Scheme != "http" || q.User != nil || *q != *u {
			t.Errorf("%q matches %q", requested, registered)
		}
	})
}

// FuzzBasic: credentials that are accepted have one spelling in base64, and
// whatever a client encodes comes out as it was.
func FuzzBasic(f *testing.F) {
	for _, header := range []string{
		"Basic d2ViOndlYi1zZWNyZXQ=", "basic  d2ViOg==", "Basic d2Vi", "Basic d2ViOg", "Basic d2ViOh==", "Basic d2Vi\r\nOg==",
		"Basic", "Basic ", "Bearer d2ViOg==", "Basic JTAwOiV6eg==", "Basic YSUzQWI6YytkJTIw", "Basic Og==", "Basic Ojo6",
	} {
		f.Add(header, "web", "s:e+c r%et")
	}
	f.Fuzz(func(t *testing.T, header, id, secret string) {
		encoded := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id) + ":" + url.QueryEscape(secret)))
		if got, err := parseBasic("Basic "+encoded, nil); err != nil || got != (clientCredentials{id, secret, url.QueryEscape(secret)}) {
			t.Errorf("%q, %q came out as %q, %v", id, secret, got, err)
		}

		got, err := parseBasic(header, nil)
		if err != nil {
			if asOAuthError(err).Code != "invalid_client" || got != (clientCredentials{}) {
				t.Errorf("refused with %v and %q", err, got)
			}
			return
		}
		scheme, rest, _ := strings.Cut(header, " ")
		raw, err := base64.StdEncoding.DecodeString(rest[len(rest)-len(strings.TrimLeft(rest, " ")):])
		if !strings.EqualFold(scheme, "basic") || err != nil || base64.StdEncoding.EncodeToString(raw) != strings.TrimLeft(rest, " ") {
			t.Errorf("%q was accepted", header)
		}
		if !bytes.Contains(raw, []byte(":")) {
			t.Errorf("%q was accepted without a colon", raw)
		}
	})
}

// FuzzValues: a parameter has the one value that was sent, or none.
func FuzzValues(f *testing.F) {
	for _, encoded := range []string{
		"", "grant_type=authorization_code&code=a%2Bb&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb", "scope=read+write", "state=", "state",
		"state=a&state=a", "state=a&state=", "unknown=a&unknown=b", "unknown=%00", "state=%00", "state=%ff", "password=%00%ff", "token=%00%ff", "password=a&password=b",
		"scope[]=a", "%73tate=a&state=b", "a;b", "state=%zz", "%", "&&", "=a", "state=%E2%80%AE",
	} {
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		form, err := url.ParseQuery(encoded)
		q := parseQuery(encoded)
		if strings.Count(encoded, "&") >= maxParameters {
			if q.err == nil || len(q.values) > 0 {
				t.Errorf("too many parameters were read: %v", q.err)
			}
			return
		}
		if (q.err != nil) != (err != nil) {
			t.Fatalf("parseQuery: %v; url.ParseQuery: %v", q.err, err)
		}
		v, faulty := newValues(q.values, "")
		for name, value := range v {
			if sent := form[name]; len(sent) != 1 || sent[0] != value || value == "" {
				t.Errorf("%s is %q, and %q was sent", name, value, sent)
			}
			if !isCredential[name] && !isText(value) {
				t.Errorf("%s is %q", name, value)
			}
			if _, found := faulty[name]; found {
				t.Errorf("%s is at fault and has a value", name)
			}
		}
		for name := range isParameter {
			sent, known := form[name]
			if _, found := faulty[name]; known && !found && v[name] == "" && sent[0] != "" || len(sent) > 1 && !found {
				t.Errorf("%s=%q has vanished", name, sent)
			}
		}
		// Nothing is left that another reader takes differently.
		again := url.Values{}
		for name, value := range v {
			again.Set(name, value)
		}
		if w, faulty := newValues(parseQuery(again.Encode()).values, ""); len(faulty) > 0 || len(w) != len(v) {
			t.Errorf("%q becomes %q, %q, %v", v, w, faulty, err)
		}
	})
}

// FuzzDocument: a file is refused with its name and a line that it has, or
// understood as a strict reader does.
func FuzzDocument(f *testing.F) {
	for _, data := range []string{
		instanceFixtures, clientFixtures, "{}", "", " ", "null", "[]", "3", `"x"`, "{", "{}{}", "{}\n\n3", "\ufeff{}",
		`{"users": null}`, `{"users": [null]}`, "{\"users\": [{\n\"username\": 3}]}", `{"users": {}}`, `{"users": [[]]}`, `{"Users": []}`,
		`{"users": [], "users": []}`, `{"users": [], "\u0075sers": []}`, `{"": 1}`, `{"a.b": 1}`, "{\"a\\nb\": 1}", `{"document": {}}`,
		`{"clients": [{"redirect_uris": ["a", 3]}]}`, `{"clients": [{"redirect_uris": [[[[[]]]]]}]}`, "{\"users\": [{\"username\": \"\xff\"}]}",
		`{"users": [{"username": true}]}`, `{"users": [null, 1e3]}`,
	} {
		f.Add([]byte(data))
	}
	position := regexp.MustCompile(`^fixtures\.json:([0-9]+): (?s:.+)`)
	f.Fuzz(func(t *testing.T, data []byte) {
		into := new(fixtures)
		d, err := parseDocument("fixtures.json", data, into)
		lines := 1 + bytes.Count(data, []byte("\n"))
		if err != nil {
			match := position.FindStringSubmatch(err.Error())
			if match == nil {
				t.Fatalf("no line in %q", err)
			}
			if line, err := strconv.Atoi(match[1]); err != nil || line < 1 || line > lines {
				t.Errorf("line %s of %d", match[1], lines)
			}
			return
		}
		data = bytes.TrimPrefix(data, []byte("\ufeff")) // which is skipped
		strict := json.NewDecoder(bytes.NewReader(data))
		strict.DisallowUnknownFields()
		if err := strict.Decode(new(fixtures)); err != nil || !json.Valid(data) || bytes.TrimLeft(data, " \t\r\n")[0] != '{' {
			t.Errorf("accepted, and a strict reader says %v", err)
		}
		for path, offset := range d.offsets {
			if offset < 1 || offset > int64(len(data)) {
				t.Errorf("%s is at %d of %d", path, offset, len(data))
			}
		}
		p, err := loadProfile("rfc6749")
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range into.Users {
			u.problems()
		}
		for _, c := range into.Clients {
			c.problems(p)
		}
	})
}
