package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const documentURL = "https://app.example/client.json"

// documentOf is the document of a client at a URL, with members changed.
func documentOf(t *testing.T, at, change string) string {
	t.Helper()
	members := map[string]any{"client_id": at, "client_name": "App", "redirect_uris": []string{"https://app.example/cb", "http://127.0.0.1/cb"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none"}
	if err := json.Unmarshal([]byte(change), &members); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// askAs asks for a code as the client that a URL describes.
func (b *browser) askAs(clientID string, change ...string) *reply {
	b.Helper()
	return b.authorize(authorization("web", append([]string{"client_id", clientID, "redirect_uri", "https://app.example/cb"}, change...)...))
}

// wantRefused wants a page that names the document and says what is wrong with it.
func (r *reply) wantRefused(clientID, description string) {
	r.i.Helper()
	r.wantErrorPage(http.StatusBadRequest, "invalid_client", description)
	if !strings.Contains(r.body, "<dt>Document</dt><dd><code>"+clientID+"</code></dd>") {
		r.i.Errorf("the page does not name %s: %s", clientID, r.body)
	}
}

// TestClientDocuments is draft-ietf-oauth-client-id-metadata-document.
func TestClientDocuments(t *testing.T) {
	t.Parallel()
	t.Run("R214 a document from fixtures, the whole way", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(`{"client_documents": {"` + documentURL + `": ` + documentOf(t, documentURL, `{}`) + `}}`)
		b := i.as("alice")
		if r := b.askAs(documentURL, "code_challenge", absent, "code_challenge_method", absent); r.StatusCode != 400 || !strings.Contains(r.body, "public clients must use PKCE") {
			t.Errorf("without PKCE: status %d: %s", r.StatusCode, r.body)
		}
		exchange := with(exchangeOf("native", b.decide(b.askAs(documentURL), "approve").param("code")), "client_id", documentURL, "redirect_uri", "https://app.example/cb")
		_, refresh := i.token(exchange).wantToken()
		i.token(with(refreshOf("native", refresh), "client_id", documentURL)).wantToken()
		if r := i.token(with(refreshOf("native", refresh), "client_id", documentURL, "client_secret", "x")); r.json["error"] != "invalid_client" {
			t.Errorf("with a secret: %s", r.body)
		}
	})
	t.Run("R214 a document from the control API, until a reset", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(`{"client_documents": {"https://app.example/kept.json": ` + documentOf(t, "https://app.example/kept.json", `{}`) + `}}`)
		i.must(i.server.openControl())
		i.mustControl("POST", "client-documents", `{"url":"`+documentURL+`","document":`+documentOf(t, documentURL, `{}`)+`}`)
		i.as("alice").askAs(documentURL).wantConsent()
		i.mustControl("POST", "client-documents", `{"url":"`+documentURL+`","document":`+documentOf(t, documentURL, `{"redirect_uris":["https://app.example/new"]}`)+`}`)
		if r := i.as("alice").askAs(documentURL); r.StatusCode != 400 || !strings.Contains(r.body, "redirect_uri is not one that this client registered") {
			t.Errorf("after the document changed: status %d: %s", r.StatusCode, r.body)
		}
		i.mustControl("POST", "reset", "")
		i.as("alice").askAs("https://app.example/kept.json").wantConsent()
		if _, ok := i.server.documents.givenFor(documentURL); ok {
			t.Error("a reset keeps the document")
		}
		for body, want := range map[string]string{
			`{"url":"https://app.example","document":{}}`:              "no host or no path",
			`{"url":"ftp://app.example/x","document":{}}`:              "must begin with https://, or be http on loopback",
			`{"url":"http://app.example/x","document":{}}`:             "must begin with https://, or be http on loopback",
			`{"url":"` + documentURL + `","document":[]}`:              "must be an object",
			`{"url":"` + documentURL + `"}`:                            "document: is missing",
			`{"document":{}}`:                                          "url: is missing",
			`{"url":"` + documentURL + `","document":{},"client":"x"}`: "unknown key",
		} {
			if r := i.browser().do("POST", "/_control/client-documents", body, "Content-Type", "application/json"); r.StatusCode != 400 || !strings.Contains(r.body, want) {
				t.Errorf("%s: status %d: %s", body, r.StatusCode, r.body)
			}
		}
	})
	for _, row := range []struct{ name, document, problem string }{
		{"another client_id", `{"client_id":"https://app.example/client.json/"}`, "its client_id is not the URL that it is at"},
		{"no client_id", `{"client_id":null}`, "its client_id is not the URL that it is at"},
		{"a list of client_ids", `{"client_id":["https://app.example/client.json"]}`, "its client_id is not the URL that it is at"},
		{"a secret", `{"client_secret":"x"}`, "it has a client_secret, which everybody could read"},
		{"a secret in a list", `{"client_secret":["x"]}`, "it has a client_secret, which everybody could read"},
		{"authentication by secret", `{"token_endpoint_auth_method":"client_secret_basic"}`, "its token_endpoint_auth_method is not none; this server takes only public clients this way"},
		{"authentication by key", `{"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://app.example/jwks"}`, "its token_endpoint_auth_method is not none; this server takes only public clients this way"},
		{"no redirect URI", `{"redirect_uris":[]}`, "redirect_uris is missing"},
		{"a redirect URI that is no list", `{"redirect_uris":"https://app.example/cb"}`, "redirect_uris must be an array of strings"},
		{"http", `{"redirect_uris":["http://app.example/cb"]}`, "redirect_uris[0] is http on a host other than 127.0.0.1, [::1] and localhost: use https (RFC 9700 §2.6), or allow the host with -redirect-host"},
		{"nested too deep", `{"jwks":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "it must be a JSON object of at most 1000 values, nested at most 64 levels deep"},
		{"a name that misleads", `{"client_name":"\u202eppA"}`, "client_name has invisible characters, or characters that reverse the text"},
	} {
		t.Run("R214 refused: "+row.name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			i.server.documents.give(map[string]json.RawMessage{documentURL: json.RawMessage(documentOf(t, documentURL, row.document))})
			i.browser().askAs(documentURL).wantRefused(documentURL, "the document of this client_id is not valid: "+row.problem)
			if c, err := i.server.store.clientNamed(documentURL); c != nil || err != nil {
				t.Errorf("it is stored: %+v, %v", c, err)
			}
		})
	}
	t.Run("R214 grants that a document cannot have are left out", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.server.documents.give(map[string]json.RawMessage{documentURL: json.RawMessage(documentOf(t, documentURL, `{"grant_types":["authorization_code","client_credentials","password","implicit"]}`))})
		i.as("alice").askAs(documentURL).wantConsent()
		if c, _ := i.server.store.clientNamed(documentURL); strings.Join(c.GrantTypes, " ") != "authorization_code" || !c.public() {
			t.Errorf("%+v", c)
		}
	})
	t.Run("R214 URLs that are none of a document", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		for clientID, problem := range map[string]string{
			"https://app.example":                             "the URL in client_id has no host or no path",
			"https:///client.json":                            "the URL in client_id has no host or no path",
			"https://app.example/client.json#x":               "the URL in client_id has a user name or a fragment",
			"https://app@127.0.0.1/client.json":               "the URL in client_id has a user name or a fragment",
			"https://app.example/a/../client.json":            "the URL in client_id has dots for a part of its path",
			"https://app.example/%2e/client.json":             "the URL in client_id has dots for a part of its path",
			"https://app.example:x/client.json":               "client_id is not a URL",
			"https://%D0%B0pp.example/client.json":            "the URL in client_id has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)",
			"https://app.example/" + strings.Repeat("x", 255): "client_id must be at most 255 characters of printable ASCII",
		} {
			i.in(t).browser().askAs(clientID).wantRefused(clientID, problem)
		}
		for _, clientID := range []string{"http://app.example/client.json", "ftp://app.example/x", "HTTPS://app.example/client.json", "http://127.0.0.1:1/client.json"} {
			i.browser().askAs(clientID).wantErrorPage(400, "invalid_client", "this server has no client with this client_id")
		}
		figshare := startProfile(t, "figshare")
		if figshare.server.isDocumentURL(documentURL) {
			t.Error("figshare has documents")
		}
	})
	t.Run("R214 a client of the operator's that is named by a URL", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.furnish(`{"clients": [{"client_id": "` + documentURL + `", "client_secret": "x", "redirect_uris": ["https://app.example/cb"]}]}`)
		i.as("alice").askAs(documentURL).wantConsent() // nothing is fetched
	})
	t.Run("R216 the consent page", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.server.documents.give(map[string]json.RawMessage{documentURL: json.RawMessage(documentOf(t, documentURL, `{}`))})
		page := i.as("alice").askAs(documentURL)
		if page.wantConsent(); !strings.Contains(page.body, "come from a document at <strong><bdi>app.example</bdi></strong>") ||
			!strings.Contains(page.body, "you go to <strong><bdi>app.example</bdi></strong>.") || !strings.Contains(page.body, "Unverified") || strings.Contains(page.body, "This device") {
			t.Errorf("%s", page.body)
		}
		page = i.as("alice").authorize(authorization("web", "client_id", documentURL, "redirect_uri", "http://127.0.0.1:8080/cb"))
		if page.wantConsent(); !strings.Contains(page.body, `you go to <strong><bdi>127.0.0.1:8080</bdi></strong> <span class="badge">This device</span>`) {
			t.Errorf("%s", page.body)
		}
		at := "https://app.example/secure.json"
		i.server.documents.give(map[string]json.RawMessage{at: json.RawMessage(documentOf(t, at, `{"redirect_uris":["https://localhost:8443/cb"]}`))})
		page = i.as("alice").authorize(authorization("web", "client_id", at, "redirect_uri", "https://localhost:8443/cb"))
		if page.wantConsent(); !strings.Contains(page.body, `you go to <strong><bdi>localhost:8443</bdi></strong> <span class="badge">This device</span>`) {
			t.Errorf("%s", page.body)
		}
		if page := i.as("alice").authorize(authorization("native")); strings.Contains(page.body, "This device") || strings.Contains(page.body, "document at") {
			t.Errorf("of another client: %s", page.body)
		}
	})
	t.Run("R212 listed where it works", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		if listed := i.get("/.well-known/oauth-authorization-server").json; listed["client_id_metadata_document_supported"] != true {
			t.Errorf("%v", listed)
		}
		i.server.profile.ClientDocuments = false
		if _, ok := i.get("/.well-known/oauth-authorization-server").json["client_id_metadata_document_supported"]; ok {
			t.Error("listed where it does not work")
		}
	})
}

// host is where a document is fetched from.
type host struct {
	*httptest.Server
	asked  atomic.Int32
	answer func(w http.ResponseWriter, r *http.Request)
}

// newHost serves over https on loopback, and lets a server on loopback trust it.
func newHost(t *testing.T, i *instance, answer func(w http.ResponseWriter, r *http.Request)) *host {
	t.Helper()
	h := &host{answer: answer}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		h.answer(w, r)
	}))
	t.Cleanup(h.Close)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	i.server.loopback = true
	i.server.documents.roots = x509.NewCertPool()
	i.server.documents.roots.AddCert(h.Certificate())
	return h
}

// namesTo is a resolver to which every name has this address.
func namesTo(t *testing.T, address ...string) *net.Resolver {
	t.Helper()
	var asked atomic.Int32
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			end := 12
			for question[end] != 0 {
				end += int(question[end]) + 1
			}
			end += 5
			kind := question[end-3] // 1: A, 28: AAAA
			at := netip.MustParseAddr(address[min(int(asked.Load()), len(address)-1)])
			answer := append([]byte{}, question[:end]...)
			answer[2], answer[3] = 0x81, 0x80
			clear(answer[6:12])
			if data := at.AsSlice(); at.Is4() == (kind == 1) {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
				answer = append(answer, data...)
				asked.Add(1)
			}
			_ = n
			conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestFetchDocument is R215: fetching attacked.
func TestFetchDocument(t *testing.T) {
	t.Parallel()
	asJSON := func(body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Write([]byte(body))
		}
	}
	t.Run("R215 R214 a document by https on loopback, of a server on loopback", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		h := newHost(t, i, nil)
		at := h.URL + "/client.json"
		h.answer = asJSON(documentOf(t, at, `{}`))
		i.as("alice").askAs(at).wantConsent()
		i.as("alice").askAs(at).wantConsent()
		if n := h.asked.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
		// Not of a server that others reach.
		i.server.loopback = false
		i.advance(time.Hour)
		i.as("alice").askAs(at).wantRefused(at, "the document of this client_id cannot be used: its host has an address that is not public")
		if n := h.asked.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
	})
	t.Run("R215 http on loopback, of a server on loopback", func(t *testing.T) {
		t.Parallel()
		i := start(t, func(s *server) { s.loopback = true })
		var at string
		plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asJSON(documentOf(t, at, `{}`))(w, r) }))
		defer plain.Close()
		at = plain.URL + "/client.json"
		i.as("alice").askAs(at).wantConsent()
	})
	for name, row := range map[string]struct {
		problem string
		answer  func(http.ResponseWriter, *http.Request)
	}{
		"a redirect": {"its host answers with a redirect, which is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other.json", http.StatusFound)
		}},
		"another status":  {"its host answers with status 404", http.NotFound},
		"HTML":            {"it is not application/json", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<!doctype html>")) }},
		"more than 16 KB": {"it is larger than 16 KB", asJSON(`{"a":"` + strings.Repeat("x", 16<<10) + `"}`)},
		"an endless body": {"it is larger than 16 KB", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1024))); err != nil {
					return
				}
			}
		}},
		"a header of 64 KB": {"the connection to its host fails", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) }},
		"half a body": {"the connection to its host fails", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("{"))
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run("R215 "+name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			h := newHost(t, i, row.answer)
			at := h.URL + "/client.json"
			for range 2 { // errors are not kept
				i.browser().askAs(at).wantRefused(at, "the document of this client_id cannot be used: "+row.problem)
			}
			if n := h.asked.Load(); n != 2 {
				t.Errorf("asked %d times", n)
			}
			h.answer = asJSON(documentOf(t, at, `{}`))
			i.as("alice").askAs(at).wantConsent()
		})
	}
	t.Run("R215 a slow host", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("takes five seconds")
		}
		i := start(t)
		h := newHost(t, i, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte("{"))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		began := time.Now()
		i.browser().askAs(h.URL+"/client.json").wantRefused(h.URL+"/client.json", "the document of this client_id cannot be used: its host takes longer than 5 seconds")
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("R215 a certificate that nobody trusts", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		h := newHost(t, i, http.NotFound)
		i.server.documents.roots = x509.NewCertPool()
		i.browser().askAs(h.URL+"/client.json").wantRefused(h.URL+"/client.json", "the document of this client_id cannot be used: the certificate of its host is not valid")
	})
	for _, address := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "[::]", "[::1]", "[fe80::1]", "[fd00::1]",
		"[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]", "localhost"} {
		t.Run("R215 the address "+address, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			at := "https://" + address + ":1/client.json"
			i.browser().askAs(at).wantRefused(at, "the document of this client_id cannot be used: its host has an address that is not public")
		})
	}
	for _, address := range []string{"127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"} {
		for _, loopback := range []bool{false, true} { // a name is never loopback but localhost
			t.Run(fmt.Sprint("R215 a name that resolves to ", address, ", on loopback: ", loopback), func(t *testing.T) {
				t.Parallel()
				i := start(t, func(s *server) { s.loopback = loopback })
				i.server.documents.resolver = namesTo(t, address)
				i.browser().askAs(documentURL).wantRefused(documentURL, "the document of this client_id cannot be used: its host has an address that is not public")
			})
		}
	}
	t.Run("R215 which addresses are public", func(t *testing.T) {
		t.Parallel()
		for address, want := range map[string]bool{"8.8.8.8": true, "1.1.1.1": true, "172.32.0.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
			"172.31.255.255": false, "192.0.2.1": false, "198.19.0.1": false, "203.0.113.9": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false,
			"2001:db8::1": false, "2001::1": false, "2002:0808:0808::1": false, "ff02::1": false, "fec0::1": false, "::": false, "::8.8.8.8": false, "64:ff9b::808:808": false, "fe80::1%eth0": false, "2606:4700::1111%eth0": false} {
			if got := isPublic(netip.MustParseAddr(address)); got != want {
				t.Errorf("%s: %t", address, got)
			}
		}
		if isPublic(netip.Addr{}) {
			t.Error("no address is public")
		}
	})
	t.Run("R215 rebinding: each connection is looked at", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		i.server.documents.resolver = namesTo(t, "203.0.113.1", "127.0.0.1") // the first is not public either, and is not reached
		for range 3 {
			i.browser().askAs(documentURL).wantRefused(documentURL, "the document of this client_id cannot be used: its host has an address that is not public")
		}
	})
	for name, row := range map[string]struct {
		header, value string
		life          time.Duration
	}{
		"no header":          {"X", "y", time.Minute},
		"no-store":           {"Cache-Control", "no-store, max-age=600", time.Minute},
		"a second":           {"Cache-Control", "max-age=1", time.Minute},
		"ten minutes":        {"Cache-Control", "public, max-age=600", 10 * time.Minute},
		"a year":             {"Cache-Control", "max-age=31536000", 24 * time.Hour},
		"more than a number": {"Cache-Control", "max-age=99999999999999999999", 24 * time.Hour},
		"less than nothing":  {"Cache-Control", "max-age=-1", time.Minute},
	} {
		t.Run("R215 kept as its headers say, "+name, func(t *testing.T) {
			t.Parallel()
			i := start(t)
			h := newHost(t, i, nil)
			at := h.URL + "/client.json"
			h.answer = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(row.header, row.value)
				asJSON(documentOf(t, at, fmt.Sprintf(`{"client_name":"App %d"}`, h.asked.Load())))(w, r)
			}
			b := i.as("alice")
			code := b.decide(b.askAs(at), "approve").param("code")
			i.advance(row.life - 20*time.Second)
			b.askAs(at)
			if n := h.asked.Load(); n != 1 {
				t.Errorf("fetched %d times before %v", n, row.life)
			}
			i.advance(21 * time.Second)
			// The token endpoint takes the client as it was.
			i.token(with(exchangeOf("native", code), "client_id", at, "redirect_uri", "https://app.example/cb"))
			if n := h.asked.Load(); n != 1 {
				t.Errorf("the token endpoint fetches")
			}
			if page := i.as("alice").askAs(at); h.asked.Load() != 2 || !strings.Contains(page.body, "App 2") {
				t.Errorf("fetched %d times after %v: %s", h.asked.Load(), row.life, page.body)
			}
		})
	}
	t.Run("R215 no other endpoint tells what runs on loopback", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		h := newHost(t, i, http.NotFound)
		for _, clientID := range []string{h.URL + "/client.json", "http://127.0.0.1:1/client.json", strings.Replace(h.URL, "https", "http", 1) + "/client.json"} {
			r := i.token(with(exchangeOf("native", "x"), "client_id", clientID))
			if r.StatusCode != 400 || r.json["error"] != "invalid_client" || r.json["error_description"] != "the document of this client_id cannot be used: its host has an address that is not public" {
				t.Errorf("%s: status %d: %s", clientID, r.StatusCode, r.body)
			}
		}
		if n := h.asked.Load(); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("R215 R183 clients that documents describe are bounded, changed ones too", func(t *testing.T) {
		t.Parallel()
		i := start(t, inMemory(t))
		give := func(at, name string) {
			i.server.documents.give(map[string]json.RawMessage{at: json.RawMessage(documentOf(t, at, `{"client_name":"`+name+`"}`))})
			i.browser().askAs(at)
		}
		give(documentURL, "Old")
		give(documentURL, "New")
		for n := range maxUnused {
			c := &client{metadata: metadata{ClientID: fmt.Sprint("many-", n)}, RegisteredBy: itself}
			i.must(i.server.store.register(nil, []*client{c}))
		}
		if c, err := i.server.store.clientNamed(documentURL); c != nil || err != nil {
			t.Errorf("it is kept: %+v, %v", c, err)
		}
	})
	t.Run("R215 many at once", func(t *testing.T) {
		t.Parallel()
		i := start(t)
		h := newHost(t, i, nil)
		at := h.URL + "/client.json"
		h.answer = asJSON(documentOf(t, at, `{}`))
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				if r := i.browser().askAs(at); r.StatusCode >= 400 {
					t.Errorf("status %d: %s", r.StatusCode, r.body)
				}
			})
		}
		all.Wait()
	})
}
