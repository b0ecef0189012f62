package main

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

// sourceFiles are the files in which requests are refused.
//
//go:embed authorize.go clients.go errors.go errors_reasons.go fixtures.go grants.go metadata.go origins.go pages.go pages_applications.go
//go:embed pages_signin.go parameters.go registration.go response_modes.go server.go store.go tokens.go users.go
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
	text := string(data)
	at := regexp.MustCompile(`(?ms)(?:^//[^\n]*\n)*^func (?:\([^)]*\) )?` + regexp.QuoteMeta(function) + `[(\[](?:[^\n]*\}|.*?\n\})$`).FindStringIndex(text)
	if at == nil {
		return nil, fmt.Errorf("%s has no function %q", file, function)
	}
	found := &decider{Function: function, File: file}
	number := 1 + strings.Count(text[:at[0]], "\n")
	for line := range strings.SplitSeq(text[at[0]:at[1]], "\n") {
		marked := named.MatchString(line) && !strings.HasPrefix(line, "//")
		found.Lines = append(found.Lines, sourceLine{number, line, marked})
		found.Marks = found.Marks || marked
		number++
	}
	return found, nil
}

// namesOf matches what the source calls a reason: its variable, and the error of
// the store that the variable's refusal is for.
func namesOf(why reason) *regexp.Regexp {
	declared := regexp.MustCompile(`(?m)^\t(\w+) += newReason\("` + regexp.QuoteMeta(string(why)) + `"\)`).FindStringSubmatch(sourceOf("errors_reasons.go"))
	names := declared[1:]
	refused := regexp.MustCompile(`(?m)^\t(err\w+): .*\b` + names[0] + `\b`)
	for _, file := range []string{"grants.go", "tokens.go"} {
		for _, match := range refused.FindAllStringSubmatch(sourceOf(file), -1) {
			names = append(names, match[1])
		}
	}
	return regexp.MustCompile(`\b(?:` + strings.Join(names, "|") + `)\b`)
}
