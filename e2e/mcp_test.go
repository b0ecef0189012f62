package e2e

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
