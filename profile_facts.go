package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// fact is the value of a placeholder.
type fact struct {
	kind   int
	text   string
	number int64
	list   []string
}

const (
	nothing = iota
	aText
	aNumber
	aList
)

// text is a fact, or nothing if it is empty.
func text(s string) fact { return fact{kind: min(len(s), aText), text: s} }

func number[N ~int | ~int64 | ~uint64](n N) fact { return fact{kind: aNumber, number: int64(n)} }

func list(elements []string) fact { return fact{kind: aList, list: elements} }

func (v fact) String() string {
	switch v.kind {
	case aNumber:
		return strconv.FormatInt(v.number, 10)
	case aList:
		return fmt.Sprint(v.list)
	}
	return v.text
}

func (v fact) appendJSON(b []byte) []byte {
	switch v.kind {
	case nothing:
		return append(b, "null"...)
	case aText:
		return appendText(b, v.text)
	case aNumber:
		return strconv.AppendInt(b, v.number, 10)
	}
	b = append(b, '[')
	for i, element := range v.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, element)
	}
	return append(b, ']')
}

// facts returns the value of a placeholder.
type facts func(name string) fact

// factsOf are the placeholders of an answer about a T, with their values.
type factsOf[T any] map[string]func(about T) fact

// names are the placeholders, for profiles to be checked against.
func (known factsOf[T]) names() []string { return slices.Sorted(maps.Keys(known)) }

func (known factsOf[T]) of(about T) facts {
	return func(name string) fact {
		if value := known[name]; value != nil {
			return value(about)
		}
		return fact{}
	}
}

// addFacts adds the placeholders of a part of what an answer is about; none of
// them has a value where the part is nil.
func addFacts[T, P any](all factsOf[T], known factsOf[*P], part func(about T) *P) factsOf[T] {
	for name, value := range known {
		all[name] = func(about T) fact {
			if p := part(about); p != nil {
				return value(p)
			}
			return fact{}
		}
	}
	return all
}

// serverFacts are the placeholders that need no token.
var serverFacts = factsOf[*server]{
	"issuer":   func(s *server) fact { return text(s.issuer()) },
	"base_url": func(s *server) fact { return text(s.url("")) },
	"host": func(s *server) fact {
		_, host, _ := strings.Cut(s.url(""), "://")
		return text(host)
	},
}

// clientFacts describe a client. A name that ends in _text is a number as text.
var clientFacts = factsOf[*client]{
	"client_id":          func(c *client) fact { return text(c.ClientID) },
	"client_name":        func(c *client) fact { return text(c.displayName()) },
	"client_uri":         func(c *client) fact { return text(c.URI) },
	"client_number":      func(c *client) fact { return number(accountNumber("client " + c.ClientID)) },
	"client_number_text": func(c *client) fact { return text(number(accountNumber("client " + c.ClientID)).String()) },
	"client_scopes":      func(c *client) fact { return list(strings.Fields(c.Scope)) },
	"redirect_uri":       func(c *client) fact { return text(strings.Join(c.RedirectURIs, "\n")) },
	"redirect_uris":      func(c *client) fact { return list(c.RedirectURIs) },
}

// userFacts describe the resource owner.
var userFacts = factsOf[*user]{
	"username":     func(u *user) fact { return text(u.Username) },
	"name":         func(u *user) fact { return text(u.Name) },
	"display_name": func(u *user) fact { return text(u.displayName()) },
	"first_name": func(u *user) fact {
		first, _, _ := strings.Cut(u.displayName(), " ")
		return text(first)
	},
	"last_name": func(u *user) fact {
		_, last, _ := strings.Cut(u.displayName(), " ")
		return text(last)
	},
	"email":               func(u *user) fact { return text(u.Email) },
	"account_uuid":        func(u *user) fact { return text(accountUUID(u.Username).String()) },
	"account_number":      func(u *user) fact { return number(accountNumber(u.Username)) },
	"account_number_text": func(u *user) fact { return text(number(accountNumber(u.Username)).String()) },
}

// described is a token that an answer is about.
type described struct {
	*bearer
	server    *server
	tokenType string
	now       unixTime
}

// resourceFacts are the placeholders in answers of resources and introspection.
var resourceFacts = func() factsOf[described] {
	all := factsOf[described]{
		"access_token": func(d described) fact { return text(d.text) },
		"token_type":   func(d described) fact { return text(d.tokenType) },
		"scope":        func(d described) fact { return text(d.scope) },
		"scopes":       func(d described) fact { return list(strings.Fields(d.scope)) },
		"aud":          func(d described) fact { return audience(d.resources) },
		"iat":          func(d described) fact { return number(d.issued) },
		"exp":          func(d described) fact { return d.ifExpires(d.expires) },
		"expires_in":   func(d described) fact { return d.ifExpires(d.expires - d.now) },
	}
	addFacts(all, serverFacts, func(d described) *server { return d.server })
	addFacts(all, clientFacts, func(d described) *client { return d.client })
	return addFacts(all, userFacts, func(d described) *user { return d.user })
}()

// ifExpires is a time of a token, or nothing for one that never expires.
func (d described) ifExpires(time unixTime) fact {
	if d.expires == 0 {
		return fact{}
	}
	return number(time)
}
