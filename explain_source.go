package main

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// sourceFiles are the files in which requests are refused.
//
//go:embed authorize.go clients.go clients_documents.go clients_metadata.go device.go errors.go errors_reasons.go fixtures.go grants.go metadata.go origins.go pages.go pages_applications.go
//go:embed pages_signin.go parameters.go redirect.go resource.go response_modes.go server.go store.go tokens.go users.go
var sourceFiles embed.FS

func sourceOf(file string) string {
	return string(must(sourceFiles.ReadFile(file))) // the list has it
}

// decider is a function of this server, as it is written.
type decider struct {
	Function, File string
	Lines          []sourceLine
	Marks          bool // a line is marked
}

// sourceLine is a line of a file. It is marked if it names the reason.
type sourceLine struct {
	Number int
	Text   string
	Marked bool
}

// findSource finds a function or method with its comment, and marks the lines that
// match. gofmt puts its end at the beginning of a line.
func findSource(function, file string, named *regexp.Regexp) (*decider, error) {
	data, err := sourceFiles.ReadFile(file)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(data), "\n")
	from := slices.IndexFunc(lines, regexp.MustCompile(`^func (\([^)]*\) )?`+regexp.QuoteMeta(function)+`[(\[]`).MatchString)
	if from < 0 {
		return nil, fmt.Errorf("%s has no function %q", file, function)
	}
	to := from
	for isWhole := strings.HasSuffix(lines[from], "}"); !isWhole && lines[to] != "}"; to++ {
	}
	for from > 0 && strings.HasPrefix(lines[from-1], "//") {
		from--
	}
	found := &decider{Function: function, File: file}
	for i, line := range lines[from : to+1] {
		marked := named.MatchString(line) && !strings.HasPrefix(line, "//")
		found.Lines = append(found.Lines, sourceLine{from + i + 1, line, marked})
		found.Marks = found.Marks || marked
	}
	return found, nil
}

// namesOf matches what the source calls a reason: its variable, and the error of
// the store that the variable's refusal is for.
func namesOf(why reason) *regexp.Regexp {
	return regexp.MustCompile(`\b(?:` + strings.Join(reasonNames()[why], "|") + `)\b`)
}

var reasonNames = sync.OnceValue(func() map[reason][]string {
	names, of := make(map[reason][]string), make(map[string]reason)
	for _, match := range regexp.MustCompile(`(?m)^\t(\w+) += newReason\("(.*)"\)`).FindAllStringSubmatch(sourceOf("errors_reasons.go"), -1) {
		why := reason(match[2])
		names[why], of[match[1]] = []string{match[1]}, why
	}
	refused := regexp.MustCompile(`(?m)^\t(err\w+): +\w+\(\w+\("[0-9.]+"\), (\w+),`)
	for _, match := range refused.FindAllStringSubmatch(sourceOf("grants.go")+sourceOf("tokens.go"), -1) {
		why := of[match[2]]
		names[why] = append(names[why], match[1])
	}
	return names
})
