package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// readPage returns README.md or a page of docs.
func readPage(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readme(t *testing.T) string { return readPage(t, "README.md") }

// readPages returns README.md and all pages of docs, by file name.
func readPages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) < 5 {
		t.Fatalf("the pages of docs are %v, %v", files, err)
	}
	all := make(map[string]string)
	for _, file := range append(files, "README.md") {
		all[file] = readPage(t, file)
	}
	return all
}

// TestDocsLinks follows each link from one page to another file, and wants the
// README to be short and to lead to every page.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	if size := len(readme(t)); size > 11<<10 {
		t.Errorf("the README has %d bytes, more than 11 KB", size)
	}
	headings := make(map[string]bool)
	all := readPages(t)
	for file, text := range all {
		if file != "README.md" && !strings.Contains(all["README.md"], "]("+file+")") {
			t.Errorf("the README has no link to %s", file)
		}
		for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
			words := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(match[1]), "")
			headings[file+"#"+strings.ReplaceAll(words, " ", "-")] = true
		}
	}
	for file, text := range all {
		for _, match := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			path, heading, found := strings.Cut(match[1], "#")
			target := file
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(file), path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if found && !headings[target+"#"+heading] {
				t.Errorf("%s: %s has no heading %q", file, target, heading)
			}
		}
	}
}

// steady replaces what no two runs have in common.
func steady(text string) string {
	for _, r := range []struct{ pattern, name string }{
		{`[A-Za-z0-9_-]{43}`, "RANDOM"},
		{`127\.0\.0\.1:\d+`, "ADDRESS"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.name)
	}
	return text
}

// TestDocsTranscripts runs the commands of each page's transcripts in a shell,
// in an empty folder with the README's fixtures, and compares every line.
func TestDocsTranscripts(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil || runtime.GOOS == "windows" {
		t.Skip("no curl, or no shell that it is for")
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^\$ ((?:.*\\\n)*.*)$`)
	for file, text := range readPages(t) {
		var want, script strings.Builder
		for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(text, -1) {
			want.WriteString(block[1])
			for _, command := range commands.FindAllStringSubmatch(block[1], -1) {
				fmt.Fprintf(&script, "cat <<'THE END'\n$ %s\nTHE END\n%[1]s\n", command[1])
			}
		}
		if file == "README.md" {
			// Its line for test suites leaves the URL of a server that runs.
			line := regexp.MustCompile(`(?m)^    (url=\$\( \(grantling .*)$`).FindStringSubmatch(text)
			if line == nil || want.Len() == 0 {
				t.Fatal("no transcript, or no line for test suites")
			}
			script.WriteString(line[1] + "\ncurl -s $url/healthz\n")
			want.WriteString("ok\n")
		}
		if want.Len() == 0 {
			continue
		}
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			for _, line := range strings.Split(want.String(), "\n") {
				if len(line) > 100 {
					t.Errorf("%d columns, more than 100: %s", len(line), line)
				}
			}
			tools, folder := t.TempDir(), t.TempDir()
			writeFile(t, folder, "fixtures.json", regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(readme(t))[1])
			writeFile(t, tools, "grantling", "#!/bin/sh\necho $$ >>"+tools+"/pids\nexec "+path+` "$@"`+"\n")
			if err := os.Chmod(filepath.Join(tools, "grantling"), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				for _, pid := range strings.Fields(readPage(t, filepath.Join(tools, "pids"))) {
					if number, err := strconv.Atoi(pid); err == nil {
						if process, err := os.FindProcess(number); err == nil {
							process.Kill()
						}
					}
				}
			})
			stderr, err := os.Create(filepath.Join(tools, "stderr")) // a pipe would be open as long as a server is
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			shell := exec.Command("sh", "-c", script.String())
			shell.Stderr = stderr
			shell.Dir = folder
			shell.Env = append(os.Environ(), "PATH="+tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
			out, err := shell.Output()
			if got, want := steady(string(out)), steady(want.String()); err != nil || got != want {
				t.Errorf("%v: the transcript is\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}

// TestDocsFlags: the README has every flag, and no page has another one.
func TestDocsFlags(t *testing.T) {
	t.Parallel()
	var usage strings.Builder
	run(t.Context(), []string{"-h"}, func(string) string { return "" }, &usage, io.Discard)
	flags := []string{"h"}
	for _, match := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(usage.String(), -1) {
		flags = append(flags, match[1])
	}
	for _, name := range flags {
		if !regexp.MustCompile("(?m)^\\|.*`-" + name + "[ `]").MatchString(readme(t)) {
			t.Errorf("the README has no flag -%s", name)
		}
	}
	for file, text := range readPages(t) {
		for _, match := range regexp.MustCompile("`-([a-z-]+)[^`]*`").FindAllStringSubmatch(text, -1) {
			if !slices.Contains(flags, match[1]) {
				t.Errorf("%s has a flag -%s, and the command has not", file, match[1])
			}
		}
	}
}

// TestDocsServices: the example of a profile is a good one, and the page has
// every member of a profile and no other.
func TestDocsServices(t *testing.T) {
	t.Parallel()
	_, text, _ := strings.Cut(readPage(t, "docs/services.md"), "## A profile of your own")
	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(text)
	if example == nil {
		t.Fatal("no example")
	}
	if _, err := parseProfile("acme.json", []byte(example[1])); err != nil {
		t.Error(err)
	}
	known := make(map[string]bool)
	for _, shape := range []any{profile{}, scope{}, resource{}, registration{}, format{}, errorRule{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(shape)) {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				known[name] = true
				if !strings.Contains(text, "`"+name+"`") {
					t.Errorf("the page has no %s", name)
				}
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(text, -1) {
		for _, match := range regexp.MustCompile("`(.*?)`").FindAllStringSubmatch(row[1], -1) {
			if !known[match[1]] {
				t.Errorf("the page has %s, which no profile has", match[1])
			}
		}
	}
}

// TestDocsTesting: the page has every request of the control API, every named
// fault, and every member of faults and of the request log.
func TestDocsTesting(t *testing.T) {
	t.Parallel()
	text := readPage(t, "docs/testing.md")
	listed := startControlled(t).mustControl("GET", "", "").json
	for request := range listed["requests"].(map[string]any) {
		method, path, _ := strings.Cut(request, " ")
		if !regexp.MustCompile(`(?m)^\|[^|]*\b` + method + "[^|]*`" + regexp.QuoteMeta(path) + "`").MatchString(text) {
			t.Errorf("the page has no %s", request)
		}
	}
	for name := range listed["faults"].(map[string]any) {
		if !strings.Contains(text, "\n| `"+name+"` |") {
			t.Errorf("the page has no fault %s", name)
		}
	}
	for _, shape := range []any{fault{}, loggedRequest{}} {
		for field := range reflect.TypeOf(shape).Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && !strings.Contains(text, "`"+name+"`") {
				t.Errorf("the page has no %s", name)
			}
		}
	}
}

// declarations calls visit with each function, type, variable and constant of the
// package's files, tests included, by its own name or the first of its group.
func declarations(t *testing.T, visit func(name, file, comments string)) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		from := parsed.Name.End()
		for _, declared := range parsed.Decls {
			var comments strings.Builder
			for _, group := range parsed.Comments {
				if from < group.Pos() && group.Pos() < declared.End() {
					comments.WriteString(group.Text())
				}
			}
			from = declared.End()
			names := []*ast.Ident{}
			switch d := declared.(type) {
			case *ast.FuncDecl:
				names = append(names, d.Name)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						names = append(names, spec.Name)
					case *ast.ValueSpec:
						names = append(names, spec.Names...)
					}
				}
			}
			for n, name := range names {
				if n > 0 {
					comments.Reset()
				}
				visit(name.Name, file, comments.String())
			}
		}
	}
}

// TestDocsCode: everything that the map from sections to code names is there.
func TestDocsCode(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	declarations(t, func(name, _, _ string) { known[name] = true })
	text := readPage(t, "docs/code.md")
	if rows := regexp.MustCompile(`(?m)^\| RFC .*$`).FindAllString(text, -1); len(rows) < 15 {
		t.Errorf("the map has %d rows", len(rows))
	}
	known["fail"] = true // a member of route
	for _, match := range regexp.MustCompile("`([A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1) {
		if !known[match[1]] {
			t.Errorf("there is no %s", match[1])
		}
	}
}

// TestDocsTour: each step of the walk through a code exchange names a function of
// the file that it is about, and what the inspector shows beside it.
func TestDocsTour(t *testing.T) {
	t.Parallel()
	in := make(map[string]bool)
	declarations(t, func(name, file, _ string) { in[name+" in "+file] = true })
	_, tour, _ := strings.Cut(readPage(t, "docs/code.md"), "## One code exchange")
	tour, _, _ = strings.Cut(tour, "\n## ")
	steps := regexp.MustCompile(`(?s)\n\d\. \*\*(\w+\.go)\.\*\* (.*?)(\n\d\. |\n\n)`)
	n := 0
	for match := steps.FindStringSubmatchIndex(tour); match != nil; match = steps.FindStringSubmatchIndex(tour) {
		file, text := tour[match[2]:match[3]], tour[match[4]:match[5]]
		n++
		if first := regexp.MustCompile("`(\\w+)`").FindStringSubmatch(text); first == nil || !in[first[1]+" in "+file] {
			t.Errorf("step %d begins with %q, which is not in %s", n, first, file)
		}
		if !strings.Contains(text, "*In the inspector:*") {
			t.Errorf("step %d does not say what the inspector shows", n)
		}
		tour = tour[match[5]:]
	}
	if n != 6 {
		t.Errorf("the tour has %d steps", n)
	}
}

// TestDocsDecisions: the page has every Choice and Deviation of the code and no
// other, by the declaration that it is about.
func TestDocsDecisions(t *testing.T) {
	t.Parallel()
	marked := make(map[string]int)
	declarations(t, func(name, file, comments string) {
		if !strings.HasSuffix(file, "_test.go") {
			for _, match := range regexp.MustCompile(`\b(Choice|Deviation): `).FindAllStringSubmatch(comments, -1) {
				marked[match[1]+", `"+name+"`"]++
			}
		}
	})
	for _, match := range regexp.MustCompile("(?m)^- ((?:Choice|Deviation), `\\w+`): ").FindAllStringSubmatch(readPage(t, "docs/decisions.md"), -1) {
		marked[match[1]]--
	}
	for decision, n := range marked {
		switch {
		case n > 0:
			t.Errorf("the page has no %s", decision)
		case n < 0:
			t.Errorf("the code has no %s", decision)
		}
	}
}
