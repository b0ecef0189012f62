package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClusterDatabase is R240: all is kept, and every server has it.
func TestClusterDatabase(t *testing.T) {
	etcd := startEtcd(t, 3)
	db := "etcd://" + etcd.hosts(0)
	t.Run("R240 a flow goes over both servers, and on after a restart", func(t *testing.T) { flow(t, startReplicas(t, etcd, "flow")) })
	t.Run("R240 servers sign tokens with the same keys", func(t *testing.T) {
		profile := filepath.Join(t.TempDir(), "signed.json")
		write(t, profile, []byte(`{"extends": "rfc6749", "access_token_format": {"encoding": "jwt"}}`))
		servers := startReplicas(t, etcd, "signed", "-profile", profile)
		a := newAgent(30 * time.Second)
		token := a.must(t, 200, servers[0].URL+"/oauth/token", job(), "").text("access_token")
		a.must(t, 200, servers[1].URL+"/oauth/token/info", nil, token)
		one, two := a.must(t, 200, servers[0].URL+"/.well-known/jwks.json", nil, ""), a.must(t, 200, servers[1].URL+"/.well-known/jwks.json", nil, "")
		if keys, _ := one.told["keys"].([]any); len(keys) == 0 || one.body != two.body {
			t.Errorf("%s, and %s", one.body, two.body)
		}
	})
	t.Run("R240 two prefixes know nothing of each other", func(t *testing.T) {
		one, two := startReplica(t, db+"/a"), startReplica(t, db+"/ab")
		a := newAgent(30 * time.Second)
		token := a.must(t, 200, one.URL+"/oauth/token", job(), "").text("access_token")
		a.must(t, 401, two.URL+"/oauth/token/info", nil, token)
	})
	t.Run("R240 no quorum", func(t *testing.T) {
		for _, m := range etcd[1:] {
			m.pause()
			defer m.wake()
		}
		wantNoStart(t, "no answer from etcd", "-db", db)
	})
}

// flow asks servers by turns for all that is kept, and stops and starts them.
func flow(t *testing.T, servers []*replica) {
	a, one, two := newAgent(30*time.Second), servers[0].URL, servers[1].URL
	a.signIn(t, one, "alice", "wonderland")
	consent := a.must(t, 200, two+authorization(), nil, "").form(url.Values{"decision": {"approve"}})
	code := a.must(t, 303, one+"/consent", consent, "").param("code")
	first := a.must(t, 200, two+"/oauth/token", redemption(code), "")
	second := a.must(t, 200, one+"/oauth/token", refreshing(first.text("refresh_token")), "")
	if who := a.must(t, 200, two+"/userinfo", nil, second.text("access_token")); who.text("email") != "alice@example.com" {
		t.Errorf("%s", who.body)
	}
	app := a.register(t, one, "Notes")
	if page := a.must(t, 200, two+"/account/applications", nil, ""); !strings.Contains(page.body, "Notes") {
		t.Errorf("no application Notes: %s", page.body)
	}
	polls := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"native"}}
	device := a.device(t, one)
	polls.Set("device_code", device.text("device_code"))
	a.must(t, 400, one+"/oauth/token", polls, "") // nobody has decided
	page := a.must(t, 200, two+"/device?user_code="+device.text("user_code"), nil, "")
	a.must(t, 200, one+"/device", page.form(url.Values{"user_code": {device.text("user_code")}, "decision": {"approve"}}), "")
	connected := a.must(t, 200, two+"/oauth/token", polls, "").text("access_token")

	for _, r := range servers { // both are gone at the same time
		r.stop()
	}
	for _, r := range servers {
		r.flags = r.flags[:len(r.flags)-2] // without fixtures
		r.start(t)
	}
	a.must(t, 200, one+"/userinfo", nil, connected)
	a.must(t, 200, two+"/oauth/introspect", url.Values{"client_id": {"web"}, "client_secret": {webSecret}, "token": {connected}}, "")
	a.must(t, 400, one+"/oauth/token", polls, "") // it has been used
	if page := a.must(t, 200, one+"/account/applications", nil, ""); !strings.Contains(page.body, "Notes") {
		t.Errorf("alice or her application is gone: %s", page.body)
	}
	app.Set("grant_type", "client_credentials")
	a.must(t, 200, two+"/oauth/token", app, "")
	a.must(t, 200, two+"/oauth/revoke", revocation(second.text("refresh_token")), "")
	a.must(t, 401, one+"/userinfo", nil, second.text("access_token"))
	a.must(t, 303, one+"/logout", a.must(t, 200, one, nil, "").form(nil), "")
	if page := a.must(t, 200, two+"/account/applications", nil, ""); !strings.Contains(page.body, "<h1>Sign in</h1>") {
		t.Error("alice is signed in at the other server, after she signed out")
	}
}

// TestNoDatabase is R240: a server that cannot use etcd says why.
func TestNoDatabase(t *testing.T) {
	etcd := startEtcd(t, 3)
	db := "etcd://" + etcd.hosts(0)
	t.Run("R240 keys of something else are left as they are", func(t *testing.T) {
		etcd.ctl(t, "put", "theirs/config", "x")
		wantNoStart(t, "etcd, under theirs/: it was not made by grantling", "-db", db+"/theirs")
		if got := etcd.ctl(t, "get", "--prefix", "theirs"); got != "theirs/config\nx\n" {
			t.Errorf("%q", got)
		}
	})
	etcd.ctl(t, "put", "newer/grantling/version", "99")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	nobody := freePorts(t, 1)[0]
	for name, row := range map[string]struct{ db, says string }{
		"an address where nobody listens": {"etcd://" + nobody, "connection refused"},
		"an address that is not etcd":     {"etcd://" + strings.TrimPrefix(other.URL, "http://"), "does not answer as etcd does: 404"},
		"an address that does not answer": {"etcd://" + silent.Addr().String(), "no answer from etcd"},
		"TLS where there is none":         {"etcds://" + etcd[0].client, "is it etcd:// or, for TLS, etcds://?"},
		"a format that is newer":          {db + "/newer", `etcd, under newer/: it has format "99"; this grantling reads`},
		"a user where there is none":      {"etcd://alice:wonderland@" + etcd[0].client, "authentication is not enabled"},
	} {
		t.Run("R240 "+name, func(t *testing.T) {
			t.Parallel()
			wantNoStart(t, row.says, "-db", row.db)
		})
	}
	t.Run("R240 one of three members answers", func(t *testing.T) {
		address := "etcd://" + nobody + "," + silent.Addr().String() + "," + etcd[0].client + "/turns"
		server := startReplica(t, address)
		newAgent(10*time.Second).must(t, 200, server.URL+"/oauth/token", job(), "")
	})
}

// register registers an application through the page, and returns its credentials.
func (a *agent) register(t *testing.T, server, name string) url.Values {
	t.Helper()
	form := a.must(t, 200, server+"/account/applications/new", nil, "").form(url.Values{"client_name": {name}, "redirect_uris": {nativeURI}, "token_endpoint_auth_method": {"client_secret_basic"},
		"grant_types": {"authorization_code", "client_credentials"}})
	page := a.must(t, 200, server+"/account/applications/new", form, "")
	credentials := url.Values{}
	for _, id := range []string{"client_id", "client_secret"} {
		_, rest, _ := strings.Cut(page.body, `id="`+id+`"`)
		_, rest, _ = strings.Cut(rest, ">")
		value, _, _ := strings.Cut(rest, "<")
		credentials.Set(id, strings.TrimSpace(value))
	}
	return credentials
}

// wantNoStart wants a server that ends within three seconds, with exit status 1 and
// one line that says why.
func wantNoStart(t *testing.T, says string, flags ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	began := time.Now()
	output, _ := cmd.CombinedOutput()
	took := time.Since(began)
	line := string(output)
	if cmd.ProcessState.ExitCode() != 1 || strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "grantling: ") || !strings.Contains(line, says) || took > 3*time.Second {
		t.Errorf("exit status %d after %v, want 1 and a line with %q: %s", cmd.ProcessState.ExitCode(), took, says, line)
	}
	t.Log(strings.TrimSpace(line))
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	folder      string
}

// newAuthority makes an authority of this name, with its certificate in a file.
func newAuthority(t *testing.T, folder, name string) *authority {
	t.Helper()
	a := &authority{folder: folder}
	a.certificate, a.key = a.sign(t, name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// file is the path of a certificate, or a key, that was made.
func (a *authority) file(name string) string { return filepath.Join(a.folder, name+".pem") }

// sign makes a certificate for 127.0.0.1, which serves both ends of a connection, and
// its key: NAME.pem and NAME-key.pem.
func (a *authority) sign(t *testing.T, name string, made *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made.Subject.Organization = []string{name}
	made.SerialNumber = big.NewInt(time.Now().UnixNano())
	made.NotBefore, made.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = made, key
	}
	der, err := x509.CreateCertificate(rand.Reader, made, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.file(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, a.file(name+"-key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed, key
}

// TestClusterAccess is R240 where members require TLS, a client certificate and a password.
func TestClusterAccess(t *testing.T) {
	ca := newAuthority(t, t.TempDir(), "ca")
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	ca.sign(t, "member", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: both})
	ca.sign(t, "staging", &x509.Certificate{ExtKeyUsage: both[1:]})
	ca.sign(t, "named", &x509.Certificate{ExtKeyUsage: both[1:], Subject: pkix.Name{CommonName: "staging"}})
	stranger := newAuthority(t, t.TempDir(), "stranger")
	stranger.sign(t, "staging", &x509.Certificate{ExtKeyUsage: both[1:]})
	etcd := startEtcd(t, 1, "--cert-file", ca.file("member"), "--key-file", ca.file("member-key"), "--client-cert-auth", "--trusted-ca-file", ca.file("ca"))
	ctl := func(args ...string) {
		t.Helper()
		etcd.ctl(t, append([]string{"--cacert", ca.file("ca"), "--cert", ca.file("staging"), "--key", ca.file("staging-key")}, args...)...)
	}
	ctl("user", "add", "root:root-password")
	ctl("user", "add", "staging:p@ss:w/ord")
	ctl("role", "add", "staging")
	ctl("role", "grant-permission", "--prefix", "staging", "readwrite", "staging/")
	ctl("user", "grant-role", "staging", "staging")
	ctl("user", "grant-role", "root", "root")
	ctl("auth", "enable")

	at := etcd[0].client + "/staging"
	trust := []string{"-etcd-ca", ca.file("ca")}
	show := append(trust[:1:1], ca.file("ca"), "-etcd-cert", ca.file("staging"), "-etcd-key", ca.file("staging-key"))
	t.Run("R240 TLS, a client certificate and a password", func(t *testing.T) {
		servers := []*replica{startReplica(t, "etcds://staging:p@ss:w/ord@"+at, show...), startReplica(t, "etcds://staging:p@ss:w/ord@"+at, show...)}
		a := newAgent(30 * time.Second)
		token := a.must(t, 200, servers[0].URL+"/oauth/token", job(), "").text("access_token")
		a.must(t, 200, servers[1].URL+"/oauth/token/info", nil, token)
		if shown := servers[0].stderr(t); strings.Contains(shown, "p@ss") || !strings.Contains(shown, "data in etcds://"+at) {
			t.Errorf("it says %s", shown)
		}
		etcd[0].kill() // and it forgets who has signed in
		etcd[0].start()
		for _, r := range servers {
			within(t, 20*time.Second, "a server does not come back to its member", func() bool {
				got, err := a.send(r.URL+"/oauth/token/info", nil, token)
				return err == nil && got.status == 200
			})
		}
	})
	for name, row := range map[string]struct {
		db, says string
		flags    []string
	}{
		"a wrong password":                 {"etcds://staging:other@" + at, "invalid user ID or password", show},
		"no password":                      {"etcds://" + at, "-db needs USER:PASSWORD@ before the host", show},
		"another's prefix":                 {"etcds://staging:p@ss:w/ord@" + etcd[0].client + "/theirs", "the user needs a role that may read and write the prefix theirs/", show},
		"no authority":                     {"etcds://staging:p@ss:w/ord@" + at, "certificate signed by unknown authority", nil},
		"another authority":                {"etcds://staging:p@ss:w/ord@" + at, "signed by unknown authority", []string{"-etcd-ca", stranger.file("stranger")}},
		"no client certificate":            {"etcds://staging:p@ss:w/ord@" + at, "bad certificate", trust},
		"a client certificate of another":  {"etcds://staging:p@ss:w/ord@" + at, "bad certificate", append(trust[:2:2], "-etcd-cert", stranger.file("staging"), "-etcd-key", stranger.file("staging-key"))},
		"plain HTTP where TLS is required": {"etcd://staging:p@ss:w/ord@" + at, "is it etcd:// or, for TLS, etcds://?", nil},
		// etcd's gateway takes no client certificate that has a common name, once there are users.
		"a client certificate with a name": {"etcds://staging:p@ss:w/ord@" + at, "CommonName", append(trust[:2:2], "-etcd-cert", ca.file("named"), "-etcd-key", ca.file("named-key"))},
	} {
		t.Run("R240 "+name, func(t *testing.T) {
			t.Parallel()
			wantNoStart(t, row.says, append(row.flags[:len(row.flags):len(row.flags)], "-db", row.db)...)
		})
	}
}
