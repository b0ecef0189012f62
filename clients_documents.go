package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// clientDocuments are Client ID Metadata Documents: a client_id is the URL of what a
// client says about itself (draft-ietf-oauth-client-id-metadata-document-03).
// Fetching them is the only time that the server calls others.
type clientDocuments struct {
	mu       sync.Mutex
	given    map[string]json.RawMessage // by URL: answered instead of fetching
	fresh    map[string]unixTime        // until when what is stored of a document need not be fetched again
	fetching chan struct{}              // one value for each fetch

	resolver *net.Resolver  // nil: the machine's
	roots    *x509.CertPool // nil: the machine's
}

// The limits of a fetch, and of how long a document is not fetched again, in seconds.
const (
	documentTime    = 5 * time.Second
	maxDocument     = 16 << 10
	maxFetching     = 64
	maxFresh        = 10_000
	minDocumentLife = 60
	maxDocumentLife = 24 * 60 * 60
)

func newClientDocuments() *clientDocuments {
	return &clientDocuments{given: make(map[string]json.RawMessage), fresh: make(map[string]unixTime), fetching: make(chan struct{}, maxFetching)}
}

// documentMembers are the members of a document, by their own names in every profile.
var documentMembers = func() *registration {
	g := &registration{Parameters: make(map[string]string), MaxLength: map[string]int{"redirect_uris": 8000}}
	for _, name := range clientMetadata {
		g.Parameters[name] = name
	}
	return g
}()

// isDocumentURL reports whether a client_id is meant as the URL of a document.
//
// Deviation: the draft has https alone. A server on loopback also takes http on
// loopback, where a client that is being written has no certificate.
func (s *server) isDocumentURL(clientID string) bool {
	return s.profile.ClientDocuments && (strings.HasPrefix(clientID, "https://") || s.loopback && isLoopbackURI(clientID))
}

// clientNamed returns a client, or nil. If client_id is the URL of a document, the
// authorization endpoint uses the document as it is now. Other endpoints use the client
// as it was stored, if it was. x is nil for a request that was parsed before.
func (s *server) clientNamed(clientID string, x *exchange) (*client, error) {
	c, err := s.store.clientNamed(clientID)
	switch {
	case err != nil || !s.isDocumentURL(clientID):
		return c, err
	case x == nil, c != nil && (c.RegisteredBy != itself || x.Endpoint != "authorize" || s.documents.isFresh(clientID, x.now)):
		return c, nil
	}
	if err := checkDocumentURL(clientID); !x.holds(documentURLMalformed, err == nil) {
		return nil, documentError("3", documentURLMalformed, clientID, err.Error())
	}
	body, isGiven := s.documents.givenFor(clientID)
	life := seconds(0)
	if !isGiven {
		// Web pages can read the answers of other endpoints, and would learn what runs here.
		body, life, err = s.documents.fetch(clientID, s.loopback && x.Endpoint == "authorize")
		if !x.holds(documentUnreachable, err == nil) {
			return nil, documentError("5", documentUnreachable, clientID, "the document of this client_id cannot be used: "+err.Error())
		}
	}
	f, err := s.profile.parseDocumentOf(clientID, body)
	if !x.holds(documentInvalid, err == nil) {
		return nil, documentError("4", documentInvalid, clientID, "the document of this client_id is not valid: "+err.Error())
	}
	described, _ := newClient(f, s.profile, c)
	described.RegisteredBy = itself
	if c == nil || !reflect.DeepEqual(c.metadata, described.metadata) {
		if err := s.store.register(nil, []*client{described}); err != nil {
			return nil, err
		}
	}
	if !isGiven {
		s.documents.keep(clientID, x.now.after(life))
	}
	return s.store.clientNamed(clientID)
}

func documentError(number string, why reason, at, description string) error {
	return invalidClient(clientDocument(number), why, description).about("client_id", at).with(http.StatusBadRequest)
}

// checkDocumentURL refuses URLs that no document has.
func checkDocumentURL(at string) error {
	u, err := url.Parse(at)
	if err != nil {
		return errors.New("client_id is not a URL")
	}
	isDots := func(segment string) bool { return segment == "." || segment == ".." }
	switch {
	case len(at) > 255 || !isASCII(at):
		return errors.New("client_id must be at most 255 characters of printable ASCII")
	case u.Hostname() == "" || u.Path == "":
		return errors.New("the URL in client_id has no host or no path")
	case !isASCII(u.Host):
		return errors.New("the URL in client_id has a host that is not ASCII: write it as xn--… (RFC 5890 §2.3.2.1)")
	case u.User != nil || strings.Contains(at, "#"):
		return errors.New("the URL in client_id has a user name or a fragment")
	case slices.ContainsFunc(strings.Split(u.Path, "/"), isDots):
		return errors.New("the URL in client_id has dots for a part of its path")
	}
	return nil
}

// all returns the documents that are given.
func (d *clientDocuments) all() map[string]json.RawMessage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.given)
}

func (d *clientDocuments) givenFor(at string) (json.RawMessage, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, ok := d.given[at]
	return body, ok
}

// give answers URLs with documents from now on.
func (d *clientDocuments) give(documents map[string]json.RawMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(d.given, documents)
	for at := range documents {
		delete(d.fresh, at)
	}
}

// forget replaces the given documents, and has all others fetched again.
func (d *clientDocuments) forget(given map[string]json.RawMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.given, d.fresh = maps.Clone(given), make(map[string]unixTime)
}

func (d *clientDocuments) isFresh(at string, now unixTime) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.fresh[at]
	return ok && !until.expired(now)
}

func (d *clientDocuments) keep(at string, until unixTime) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.fresh) >= maxFresh {
		clear(d.fresh) // they are fetched again
	}
	d.fresh[at] = until
}

// parseDocumentOf reads what a document says about a client. The client is public:
// everybody can read the document.
func (p *profile) parseDocumentOf(clientID string, body []byte) (*clientFixture, error) {
	form, lists, err := parseJSONForm(string(body))
	_, isList := lists["client_secret"]
	switch {
	case err != nil:
		return nil, errors.New("it must be a JSON object of at most 1000 values, nested at most 64 levels deep")
	case form.Get("client_id") != clientID || len(form["client_id"]) != 1:
		return nil, errors.New("its client_id is not the URL that it is at")
	case isList || form.Has("client_secret") || form.Has("client_secret_expires_at"):
		return nil, errors.New("it has a client_secret, which everybody could read")
	case form.Has("token_endpoint_auth_method") && form.Get("token_endpoint_auth_method") != "none":
		return nil, errors.New("its token_endpoint_auth_method is not none; this server takes only public clients this way")
	}
	form.Set("token_endpoint_auth_method", "none")
	f, err := p.parseClientMetadata(documentMembers, &exchange{sent: sent{form: form, lists: lists}})
	if refused := (*oauthError)(nil); errors.As(err, &refused) {
		return nil, errors.New(refused.Description)
	}
	if f != nil {
		f.ClientID = clientID
	}
	return f, err
}

// fetch fetches a document, from loopback only if mayLoopback, and says how long it is
// good for. The error is for the client's author.
func (d *clientDocuments) fetch(at string, mayLoopback bool) (body []byte, life seconds, err error) {
	select {
	case d.fetching <- struct{}{}:
		defer func() { <-d.fetching }()
	case <-time.After(documentTime):
		return nil, 0, errors.New("this server is fetching too many other documents; try again in a moment")
	}
	ctx, stop := context.WithTimeout(context.Background(), documentTime)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, 0, errors.New("its URL is malformed")
	}
	request.Header.Set("Accept", "application/json")
	transport := d.transport(mayLoopback && isLoopback(request.URL.Hostname()))
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request) // follows no redirect
	if err != nil {
		return nil, 0, fetchProblem(err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	err = cmp.Or(err, ctx.Err()) // a host that sees the connection end may end its answer in time
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode/100 == 3:
		return nil, 0, errors.New("its host answers with a redirect, which is not followed")
	case response.StatusCode != http.StatusOK:
		return nil, 0, fmt.Errorf("its host answers with status %d", response.StatusCode)
	case err != nil:
		return nil, 0, fetchProblem(err)
	case len(body) > maxDocument:
		return nil, 0, errors.New("it is larger than 16 KB")
	case mediaType != "application/json":
		return nil, 0, errors.New("it is not application/json")
	}
	return body, documentLife(response.Header), nil
}

// errNotPublic is an address that documents are not fetched from.
var errNotPublic = errors.New("the address is not public")

// transport connects to public addresses only, or to loopback ones only. It looks at
// the address when it connects: a name may resolve to another one each time.
func (d *clientDocuments) transport(toLoopback bool) *http.Transport {
	dialer := &net.Dialer{Resolver: d.resolver, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if isFine := toLoopback && at.Addr().Unmap().IsLoopback() || !toLoopback && isPublic(at.Addr()); err != nil || !isFine {
			return errNotPublic
		}
		return nil
	}}
	return &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: d.roots},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxDocument}
}

// notPublic are the blocks of IPv4 and of globalUnicast that have no public hosts, and
// the IPv6 blocks that contain an IPv4 address (the special-purpose registries of
// RFC 6890).
var notPublic = func() (all []netip.Prefix) {
	for block := range strings.FieldsSeq(`0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
		192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3 2001::/23 2001:db8::/32 2002::/16 3fff::/20`) {
		all = append(all, netip.MustParsePrefix(block))
	}
	return all
}()

// globalUnicast is all of IPv6 that is given to public hosts (RFC 4291 §2.4).
var globalUnicast = netip.MustParsePrefix("2000::/3")

func isPublic(at netip.Addr) bool {
	at = at.Unmap() // IPv4 within IPv6
	return at.IsValid() && at.Zone() == "" && (at.Is4() || globalUnicast.Contains(at)) &&
		!slices.ContainsFunc(notPublic, func(block netip.Prefix) bool { return block.Contains(at) })
}

// fetchProblem says in a few words why a fetch failed. It tells nothing about this
// server's network.
func fetchProblem(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, errNotPublic):
		return errors.New("its host has an address that is not public")
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("its host takes longer than 5 seconds")
	case errors.As(err, new(*net.DNSError)):
		return errors.New("its host has no address")
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return errors.New("the certificate of its host is not valid")
	}
	return errors.New("the connection to its host fails")
}

// documentLife is for how many seconds a document may be kept, as its host says
// (RFC 9111 §5.2.2.1), within limits.
func documentLife(header http.Header) seconds {
	life := 0
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(header["Cache-Control"], ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return minDocumentLife
		case "max-age":
			life, _ = strconv.Atoi(strings.Trim(value, `"`))
		}
	}
	return seconds(min(max(life, minDocumentLife), maxDocumentLife))
}

// givenDocument is a document in the control API.
type givenDocument struct {
	URL      string          `json:"url" required:"true"`
	Document json.RawMessage `json:"document" required:"true"`
}

// putDocument answers a URL with a document instead of fetching it.
func (s *server) putDocument(asked *givenDocument, _ *http.Request, _ *exchange) (any, error) {
	given := map[string]json.RawMessage{asked.URL: asked.Document}
	if err := checkGiven(given).first(); err != nil {
		return nil, err
	}
	s.documents.give(given)
	return asked, nil
}

// checkGiven refuses documents that no client_id leads to. What is wrong with the
// document itself is told where it is used, as if it had been fetched.
func checkGiven(documents map[string]json.RawMessage) (all memberErrors) {
	for at, document := range documents {
		if err := checkDocumentURL(at); err != nil {
			all = append(all, memberError{below("client_documents", at), err})
		}
		all.add(!strings.HasPrefix(at, "https://") && !isLoopbackURI(at), below("client_documents", at), "must begin with https://, or be http on loopback")
		all.add(!strings.HasPrefix(string(document), "{"), below("client_documents", at), "must be an object")
	}
	return all
}
