package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

var update = flag.Bool("update", false, "write what the libraries say into docs/testing.md")

// said is what a library makes of a fault: an error, or the token that it
// takes the answer for.
type said struct {
	Error   string `json:"error"`
	Type    string `json:"type"`
	Expires bool   `json:"expires"` // it knows when
	Refresh bool   `json:"refresh"` // it has a refresh token
}

func (s said) String() string {
	switch {
	case s.Error != "":
		line, _, more := strings.Cut(s.Error, "\n")
		if more {
			line += " …"
		}
		return "``" + strings.ReplaceAll(line, "|", "\\|") + "``"
	case !s.Expires:
		return "takes the token, which never expires"
	case !s.Refresh:
		return "takes the token, which cannot be refreshed"
	case !strings.EqualFold(s.Type, "bearer"):
		return "takes the token, of type " + s.Type
	default:
		return "takes the token and notices nothing"
	}
}

// faults are the rows of the table.
var faults = []struct{ name, members string }{
	{"missing_expires_in", ""},
	{"expires_in_string", ""},
	{"no_refresh_token", ""},
	{"token_type_mac", ""},
	{"truncated_json", ""},
	{"slow_body", `,"delay":"8s"`}, // and a client that waits two
	{"lost_answer", ""},
	{"error_with_200", ""},
	{"html_error", ""},
	{"rate_limited", ""},
	{"expired_code", ""},
	{"already_used_code", ""},
	{"wrong_state", ""},
	{"wrong_iss", ""},
}

// TestFaults shows each named fault to two client libraries. What they say is
// the table of docs/testing.md.
func TestFaults(t *testing.T) {
	t.Parallel()
	var bodies []string
	for _, f := range faults {
		bodies = append(bodies, `{"name":"`+f.name+`"`+f.members+`}`)
	}
	listed := make(map[string]any)
	s := start(t, "-control")
	for name := range s.control(t, "GET", "", "")["faults"].(map[string]any) {
		listed[name] = true
	}
	for _, f := range faults {
		delete(listed, f.name)
	}
	if len(listed) > 0 {
		t.Errorf("no client has been shown %v", listed)
	}

	inGo := make([]said, len(faults))
	for n, body := range bodies {
		inGo[n] = s.goSays(t, body)
	}
	inNode := s.nodeSays(t, bodies)

	var table strings.Builder
	table.WriteString("| fault | golang.org/x/oauth2 | openid-client |\n| --- | --- | --- |\n")
	for n, f := range faults {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", f.name, inGo[n], inNode[n])
	}
	// As on the usual address.
	told := strings.ReplaceAll(table.String(), s.URL, "http://127.0.0.1:9096")

	const file = "../docs/testing.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin := bytes.Index(page, []byte("| fault |"))
	end := begin + bytes.Index(page[begin:], []byte("|\n\n")) + 2
	if *update {
		page = append(append(page[:begin:begin], told...), page[end:]...)
		if err := os.WriteFile(file, page, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := string(page[begin:end]); got != told {
		t.Errorf("%s has\n%s\nbut the libraries say (write it there with -update)\n%s", file, got, told)
	}
}

// control sends a request to the control API.
func (s *server) control(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	request, err := http.NewRequest(method, s.URL+"/_control/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	var answer map[string]any
	if err != nil || json.Unmarshal(data, &answer) != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s /_control/%s %s: status %d: %s", method, path, body, response.StatusCode, data)
	}
	return answer
}

// goSays walks through the authorization code grant with golang.org/x/oauth2.
func (s *server) goSays(t *testing.T, fault string) said {
	t.Helper()
	s.control(t, "POST", "faults", fault)
	c, verifier := s.native(), oauth2.GenerateVerifier()
	asked, _ := json.Marshal(map[string]string{"url": c.AuthCodeURL("xyz", oauth2.S256ChallengeOption(verifier)), "username": "alice", "decision": "approve"})
	back, err := url.Parse(s.control(t, "POST", "authorize", string(asked))["redirect_to"].(string))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}})
	token, err := c.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		return said{Error: err.Error()}
	}
	return said{Type: token.TokenType, Expires: !token.Expiry.IsZero(), Refresh: token.RefreshToken != ""}
}

// nodeSays does the same with openid-client, for all faults in turn.
func (s *server) nodeSays(t *testing.T, faults []string) []said {
	t.Helper()
	needPackages(t)
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"faults.mjs", s.URL}, faults...)...)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	var told []said
	if err != nil || json.Unmarshal(output, &told) != nil || len(told) != len(faults) {
		t.Fatalf("node: %v\n%s", err, output)
	}
	return told
}
