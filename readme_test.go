package main

import (
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func readme(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// steady replaces what no two runs have in common.
func steady(text string) string {
	for _, r := range []struct{ pattern, name string }{
		{`[A-Za-z0-9_-]{43}`, "RANDOM"},
		{`([a-z2-7]{4}-){3}[a-z2-7]{4}`, "PASSWORD"},
		{`127\.0\.0\.1:\d+`, "ADDRESS"},
		{`(?m)^time=.*\n`, ""},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.name)
	}
	return text
}

// TestREADMETranscript does what the README's transcript does and compares
// every line.
func TestREADMETranscript(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil || runtime.GOOS == "windows" {
		t.Skip("no curl, or no shell that it is for")
	}
	match := regexp.MustCompile("(?s)```console\n(.*?)```").FindStringSubmatch(readme(t))
	if match == nil {
		t.Fatal("no transcript")
	}
	p := launch(t, t.TempDir())
	banner := p.said()
	shown := shownPassword.FindStringSubmatch(banner)
	target := regexp.MustCompile(`(?m)^ +(http\S+)$`).FindStringSubmatch(banner)
	exchange := shownCommand.FindStringSubmatch(banner)
	if shown == nil || target == nil || exchange == nil {
		t.Fatalf("banner: %s", banner)
	}
	b := p.browser()
	page := b.get(target[1])
	page = b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {shown[1]}}))
	page = b.decide(b.get(page.location().String()), "approve")
	code := page.param("code")

	transcript := "$ go run .\n" + banner + p.URL + "\n"
	run := func(command string) string {
		out, err := exec.Command("sh", "-c", command+" 2>/dev/null").Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		transcript += "$ " + command + "\n" + string(out)
		return string(out)
	}
	answer := run(strings.Replace(exchange[1], "CODE", code, 1))
	token := regexp.MustCompile(`"access_token":"([^"]*)"`).FindStringSubmatch(answer)
	if token == nil {
		t.Fatalf("no token: %s", answer)
	}
	run("curl -H 'Authorization: Bearer " + token[1] + "' " + p.URL + "/userinfo")
	if got, want := steady(transcript), steady(match[1]); got != want {
		t.Errorf("the README's transcript is\n%s\nwant\n%s", want, got)
	}
}

// TestREADMEShell: the line for test suites leaves the URL of a server that runs.
func TestREADMEShell(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no shell that it is for")
	}
	line := regexp.MustCompile(`(?m)^    (url=\$\( \(grantling .*)$`).FindStringSubmatch(readme(t))
	path, err := binary()
	if line == nil || err != nil {
		t.Fatal("no such line", err)
	}
	folder := t.TempDir()
	writeFile(t, folder, "fixtures.json", instanceFixtures)
	line[1] = strings.Replace(line[1], "(grantling", "("+path, 1)
	line[1] = strings.Replace(line[1], "&)", "& echo $! >pid)", 1)
	shell := exec.Command("sh", "-c", line[1]+`; curl -s "$url/healthz"; kill $(cat pid)`)
	shell.Dir = folder
	if out, err := shell.Output(); err != nil || string(out) != "ok\n" {
		t.Errorf("%s: %q, %v", line[1], out, err)
	}
}

// TestREADMEFlags: the README has every flag and no other.
func TestREADMEFlags(t *testing.T) {
	t.Parallel()
	var usage strings.Builder
	run(t.Context(), []string{"-h"}, func(string) string { return "" }, &usage, io.Discard)
	flags := make(map[string]bool)
	for _, match := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(usage.String(), -1) {
		flags[match[1]] = true
	}
	delete(flags, "version")
	for _, row := range regexp.MustCompile("(?m)^\\| (`-.*?) \\|").FindAllStringSubmatch(readme(t), -1) {
		for _, match := range regexp.MustCompile("`-([a-z-]+)").FindAllStringSubmatch(row[1], -1) {
			if name := match[1]; !flags[name] && name != "version" && name != "h" {
				t.Errorf("the README has a flag -%s, and the command has not", name)
			}
			delete(flags, match[1])
		}
	}
	for name := range flags {
		t.Errorf("the command has a flag -%s, and the README has not", name)
	}
}

// TestREADMEExamples: the README's fixtures and profile are good ones.
func TestREADMEExamples(t *testing.T) {
	t.Parallel()
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(examples) != 2 {
		t.Fatalf("there are %d examples", len(examples))
	}
	file := filepath.Join(t.TempDir(), "fixtures.json")
	if err := os.WriteFile(file, []byte(examples[0][1]), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := loadProfile("rfc6749")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loadFixtures(file, p); err != nil {
		t.Error(err)
	}
	if _, err := parseProfile("acme.json", []byte(examples[1][1])); err != nil {
		t.Error(err)
	}
}

// TestREADMEMap: every function, type and test that the README's map from sections
// to code names is there.
func TestREADMEMap(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(data)
	}
	rows := regexp.MustCompile(`(?m)^\| RFC .*$`).FindAllString(readme(t), -1)
	if len(rows) < 10 {
		t.Errorf("the map has %d rows", len(rows))
	}
	for _, row := range rows {
		for _, match := range regexp.MustCompile("`([A-Za-z][A-Za-z0-9]*)").FindAllStringSubmatch(row, -1) {
			if !regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type )` + match[1] + `\b`).MatchString(source.String()) {
				t.Errorf("no %s: %s", match[1], row)
			}
		}
	}
}
