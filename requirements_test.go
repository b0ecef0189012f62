package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// requirements are the ids that a test is expected for: the first and the last of
// those that follow each other.
var requirements = [][2]int{{1, 225}, {240, 245}}

// noTestOf are the requirements without a subtest of their own, and why.
var noTestOf = map[string]string{
	"R92": "comparisons in constant time are seen by reading: a measurement on a busy machine would show noise",
}

// TestRequirements: each requirement's id is in the name of a subtest at the
// first level below its test, so that `go test -run '/R96'` runs it.
func TestRequirements(t *testing.T) {
	t.Parallel()
	found := make(map[string]bool)
	for _, pattern := range []string{"*_test.go", "e2e/*_test.go", "grantlingtest/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Walk(firstLevel(func(name string) {
				for _, id := range regexp.MustCompile(`\bR[0-9]+\b`).FindAllString(name, -1) {
					found[id] = true
				}
			}), file)
		}
	}
	for _, r := range requirements {
		for n := r[0]; n <= r[1]; n++ {
			id := fmt.Sprint("R", n)
			if reason, excused := noTestOf[id]; !found[id] && !excused {
				t.Errorf("no subtest at the first level has %s in its name", id)
			} else if excused && reason == "" {
				t.Errorf("%s has no test and no reason", id)
			}
		}
	}
}

// firstLevel walks a test file, and calls itself with what may name a subtest
// at the first level: strings that are no messages of a test, up to their
// first slash, outside the functions of subtests.
type firstLevel func(name string)

func (f firstLevel) Visit(node ast.Node) ast.Visitor {
	switch node := node.(type) {
	case *ast.CallExpr:
		method, ok := node.Fun.(*ast.SelectorExpr)
		switch {
		case !ok:
		case method.Sel.Name == "Run" && len(node.Args) == 2:
			ast.Walk(f, node.Args[0])
			return nil
		case slices.Contains([]string{"Error", "Errorf", "Fatal", "Fatalf", "Log", "Logf", "Skip", "Skipf"}, method.Sel.Name):
			return nil
		}
	case *ast.BasicLit:
		if text, err := strconv.Unquote(node.Value); err == nil && node.Kind == token.STRING {
			name, _, _ := strings.Cut(text, "/")
			f(name)
		}
	}
	return f
}
