package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

//go:embed profiles
var profileFiles embed.FS

// profile is what differs between the services that grantling stands in for.
type profile struct {
	Name      string              `json:"name"`
	Title     string              `json:"title"`     // what pages call the service
	Endpoints map[string][]string `json:"endpoints"` // paths, by the names of the control API; the first is advertised

	Grants       []string `json:"grants"` // grant types, and implicit
	Scopes       []scope  `json:"scopes"` // none: any scope token will do
	DefaultScope string   `json:"default_scope"`

	// Lifetimes in seconds; 0 is for ever.
	CodeLifetime           seconds `json:"code_lifetime"`
	AccessTokenLifetime    seconds `json:"access_token_lifetime"`
	RefreshTokenLifetime   seconds `json:"refresh_token_lifetime"` // from one use to the next
	GrantLifetime          seconds `json:"grant_lifetime"`         // of all refreshing together
	TokenType              string  `json:"token_type"`
	RefreshEndsAccessToken bool    `json:"refresh_ends_access_token"` // the one issued before
}

// scope is a scope token with what people are told it allows.
type scope struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// loadProfile reads an embedded profile by its name, or a file.
func loadProfile(name string) (*profile, error) {
	file := name
	data, err := profileFiles.ReadFile("profiles/" + name + ".json")
	if err != nil {
		if data, err = os.ReadFile(name); err != nil {
			if !strings.ContainsAny(name, "./\\") {
				return nil, fmt.Errorf("profile %s: there is none of that name; there are %s", name, strings.Join(profileNames(), ", "))
			}
			return nil, fmt.Errorf("profile: %w", err)
		}
	}
	p := new(profile)
	d, err := parseDocument(file, data, p)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"authorize", "oob", "token"} {
		if len(p.Endpoints[name]) == 0 {
			return nil, d.errorAt("endpoints."+name, errors.New("is missing: nothing works without it"))
		}
	}
	return p, nil
}

func profileNames() []string {
	var names []string
	entries, err := profileFiles.ReadDir("profiles")
	if err != nil {
		panic(err) // embedded
	}
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), ".json"))
	}
	return names
}

// hasScope reports whether the profile knows a scope token.
func (p *profile) hasScope(token string) bool {
	return len(p.Scopes) == 0 || slices.ContainsFunc(p.Scopes, func(s scope) bool { return s.Name == token })
}

func (p *profile) scopeNames() []string {
	var names []string
	for _, s := range p.Scopes {
		names = append(names, s.Name)
	}
	return names
}

// describeScope is what people are told that a scope token allows.
func (p *profile) describeScope(token string) string {
	for _, s := range p.Scopes {
		if s.Name == token && s.Description != "" {
			return s.Description
		}
	}
	return ""
}
