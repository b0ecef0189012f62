package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests run the real binary: its flags, what it prints, its exit status,
// and how it ends.

var binaryFolder string // empty: not built

// program builds grantling, once for all tests.
var program = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "grantling-test-*")
	if err != nil {
		return "", err
	}
	binaryFolder = folder
	path := filepath.Join(folder, "grantling.exe")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	// An httptest.Server that closes also closes the idle connections of
	// http.DefaultTransport, among them one whose answer another test is about
	// to get. Behind another type it does not find them.
	http.DefaultTransport = roundTripper(http.DefaultTransport.RoundTrip)
	http.DefaultClient.Timeout = patience
	debug.SetGCPercent(400) // much is allocated, and little of it lives
	// Some tests wait for processes and disks: four for each core keep it busy.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	}
	status := m.Run()
	// Every reason is that of some refusal, and its check is passed too, unless it is
	// noted only with the refusal.
	if whole := flag.Lookup("test.run").Value.String() + flag.Lookup("test.skip").Value.String() + flag.Lookup("test.list").Value.String(); whole == "" {
		for _, why := range reasons {
			if _, ok := provoked.Load(why); !ok {
				fmt.Printf("no test is refused for the reason %q\n", why)
				status = 1
			}
			if _, ok := passed.Load(why); !ok && !slices.Contains([]reason{redirectURIMalformed, redirectURIRelative, redirectURIFragment, redirectURIParameter, redirectURIWithoutScheme, redirectURIScheme, redirectURIInsecure, scopeSeparator, serverBusy, storageFailed, serverFailed}, why) {
				fmt.Printf("no test passes the check of %q\n", why)
				status = 1
			}
		}
	}
	os.RemoveAll(binaryFolder)
	os.Exit(status)
}

// patience is how long a process may take for what takes it no time.
const patience = 30 * time.Second

// command is a grantling in a folder, which gets its temporary files too.
func command(t *testing.T, folder string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = folder
	cmd.Env = append([]string{"TMPDIR=" + folder, "TMP=" + folder}, env...)
	return cmd
}

// process is a grantling of its own.
type process struct {
	*instance
	cmd    *exec.Cmd
	stdin  io.Closer
	out    *bufio.Reader // standard output behind the URL
	stderr string        // file
}

// begin starts a grantling and does not wait until it answers.
func begin(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p, err := loadProfile("rfc6749")
	if err != nil {
		t.Fatal(err)
	}
	return &process{&instance{T: t, server: &server{profile: p}}, cmd, stdin, bufio.NewReader(out), stderr.Name()}
}

// launch starts a grantling on a free port and waits for its URL.
func launch(t *testing.T, folder string, args ...string) *process {
	t.Helper()
	return begin(t, command(t, folder, nil, append([]string{"-addr", "127.0.0.1:0"}, args...)...)).ready()
}

// ready waits for the URL.
func (p *process) ready() *process {
	p.Helper()
	defer time.AfterFunc(patience, func() { p.cmd.Process.Kill() }).Stop()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.Fatalf("no URL on standard output (%v): %s", err, p.said())
	}
	p.URL = strings.TrimSuffix(line, "\n")
	return p
}

// said is what stands on standard error.
func (p *process) said() string {
	p.Helper()
	data, err := os.ReadFile(p.stderr)
	if err != nil {
		p.Fatal(err)
	}
	return string(data)
}

func (p *process) signal(s os.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// wait returns the exit status, or -1 after a signal. Standard output must
// have nothing but the URL.
func (p *process) wait() int {
	p.Helper()
	defer time.AfterFunc(patience, func() { p.cmd.Process.Kill() }).Stop()
	if rest, _ := io.ReadAll(p.out); p.URL != "" && len(rest) > 0 {
		p.Errorf("standard output goes on behind the URL: %q", rest)
	}
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) kill() {
	p.Helper()
	p.cmd.Process.Kill()
	p.wait()
}

// stop ends the process as Control-C does.
func (p *process) stop() {
	p.Helper()
	if runtime.GOOS == "windows" { // has no signals
		p.kill()
		return
	}
	p.signal(os.Interrupt)
	if status := p.wait(); status != 0 {
		p.Errorf("exit status %d after SIGINT, want 0: %s", status, p.said())
	}
}

// runToEnd runs a grantling that ends by itself.
func runToEnd(t *testing.T, cmd *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { cmd.Process.Kill() }).Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// wantFiles wants just these files in a folder.
func wantFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the folder has %q, want %q", got, want)
	}
}

func writeFile(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ownToken asks for a token by client credentials.
func (i *instance) ownToken(clientID string) *reply {
	i.Helper()
	return i.post(i.endpoint("token"), withClient(clientID, url.Values{"grant_type": {"client_credentials"}}))
}

// certificate writes a self-made one for 127.0.0.1 as name.crt and name.key.
func certificate(t *testing.T, folder, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, folder, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, folder, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secureBrowser trusts the certificate.
func (i *instance) secureBrowser(trusted *x509.Certificate) *browser {
	b := i.browser()
	pool := x509.NewCertPool()
	pool.AddCert(trusted)
	b.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	return b
}

// TestFlags sets every flag by the environment, and by the command line
// against another value in the environment.
func TestFlags(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	embedded, err := profileFiles.ReadFile("profiles/rfc6749.json")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, folder, "mine.json", strings.Replace(string(embedded), `"name": "rfc6749"`, `"name": "mine"`, 1))
	writeFile(t, folder, "fixtures.json", instanceFixtures)
	writeFile(t, folder, "none.json", "{}")
	trusted := certificate(t, folder, "mine")
	certificate(t, folder, "other")
	secure := func(p *process) {
		p.secureBrowser(trusted).get("/healthz")
	}
	healthy := func(p *process) { p.get("/healthz") }
	atEtcd := secureFakeEtcd(t, folder, "mine")
	// What every row has unless it is about that flag.
	usual := map[string]string{"addr": "127.0.0.1:0", "db": memory, "fixtures": "fixtures.json"}

	rows := []struct {
		flag, value, other string
		and                []string // other arguments
		check              func(*process)
	}{
		{"addr", "localhost:0", "127.0.0.1:0", nil, func(p *process) {
			if !strings.HasPrefix(p.URL, "http://localhost:") {
				p.Errorf("URL %s", p.URL)
			}
			p.get("/healthz")
		}},
		{"db", "mine.db", "other.db", nil, func(p *process) {
			if _, err := os.Stat(filepath.Join(folder, "mine.db")); err != nil {
				p.Error(err)
			}
			if _, err := os.Stat(filepath.Join(folder, "other.db")); err == nil {
				p.Error("other.db is there")
			}
			os.Remove(filepath.Join(folder, "mine.db"))
		}},
		{"profile", "mine.json", "rfc6749", nil, func(p *process) {
			if !strings.Contains(p.said(), "profile mine") {
				p.Errorf("banner: %s", p.said())
			}
		}},
		{"fixtures", "fixtures.json", "none.json", nil, func(p *process) { p.ownToken("web").wantToken() }},
		{"issuer", "https://login.example/tenant", "https://other.example", nil, func(p *process) {
			if p.URL != "https://login.example/tenant" {
				p.Errorf("URL %s", p.URL)
			}
		}},
		{"auto-approve", "alice", "bob", nil, func(p *process) {
			code := p.browser().authorize(authorization("web")).param("code")
			access, _ := p.post(p.endpoint("token"), exchangeOf("web", code)).wantToken()
			if who := p.get(p.endpoint("userinfo"), "Authorization", "Bearer "+access); who.json["sub"] != "alice" {
				p.Errorf("userinfo: %s", who.body)
			}
		}},
		{"control", "true", "false", nil, func(p *process) {
			if r := p.get("/_control/clock"); r.StatusCode != http.StatusOK {
				p.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		}},
		{"control-host", "grantling.test", "other.test", []string{"-control"}, func(p *process) {
			if r := p.get("/_control/clock", "Host", "grantling.test"); r.StatusCode != http.StatusOK {
				p.Errorf("status %d: %s", r.StatusCode, r.body)
			}
		}},
		{"redirect-host", "web,*.localhost", "other", []string{"-control"}, func(p *process) {
			p.mustControl("POST", "clients", `{"client_id": "new", "redirect_uris": ["http://web:3000/cb", "http://app.localhost/cb"]}`)
			p.control("POST", "clients", `{"client_id": "new", "redirect_uris": ["http://other/cb"]}`).wantProblem("redirect_uris[0]")
		}},
		{"inspect", "true", "false", nil, func(p *process) {
			if r := p.get("/playground/code"); r.StatusCode != http.StatusOK || !strings.Contains(p.said(), p.URL+"/inspect") {
				p.Errorf("status %d, banner %s", r.StatusCode, p.said())
			}
		}},
		{"inspect", "false", "true", nil, func(p *process) {
			if r := p.get("/playground/code"); r.StatusCode != http.StatusNotFound || strings.Contains(p.said(), "/inspect") {
				p.Errorf("status %d, banner %s", r.StatusCode, p.said())
			}
		}},
		{"stop-with-stdin", "true", "false", nil, func(p *process) {
			p.get("/healthz")
			p.stdin.Close()
			if status := p.wait(); status != 0 {
				p.Errorf("exit status %d", status)
			}
		}},
		{"etcd-ca", "mine.crt", "other.crt", []string{"-db", atEtcd, "-etcd-cert", "mine.crt", "-etcd-key", "mine.key"}, healthy},
		{"etcd-cert", "mine.crt", "other.crt", []string{"-db", atEtcd, "-etcd-ca", "mine.crt", "-etcd-key", "mine.key"}, healthy},
		{"etcd-key", "mine.key", "other.key", []string{"-db", atEtcd, "-etcd-ca", "mine.crt", "-etcd-cert", "mine.crt"}, healthy},
		{"tls-cert", "mine.crt", "other.crt", []string{"-tls-key", "mine.key"}, secure},
		{"tls-key", "mine.key", "other.key", []string{"-tls-cert", "mine.crt"}, secure},
		{"log", "json", "off", nil, func(p *process) {
			p.get("/healthz")
			p.stop()
			if !regexp.MustCompile(`(?m)^\{.*"path":"/healthz"`).MatchString(p.said()) {
				p.Errorf("log: %s", p.said())
			}
		}},
		{"log", "text", "json", nil, func(p *process) {
			p.get("/healthz")
			p.stop()
			if !regexp.MustCompile(`(?m)^time=.* path=/healthz`).MatchString(p.said()) {
				p.Errorf("log: %s", p.said())
			}
		}},
		{"log", "off", "json", nil, func(p *process) {
			p.get("/healthz")
			p.stop()
			if strings.Contains(p.said(), "healthz") {
				p.Errorf("log: %s", p.said())
			}
		}},
	}
	tested := []string{"version", "ready"} // by TestVersionAndHelp and TestReady
	for _, row := range rows {
		tested = append(tested, row.flag)
		args := slices.Clone(row.and)
		for name, value := range usual {
			if name != row.flag && !slices.Contains(row.and, "-"+name) {
				args = append(args, "-"+name, value)
			}
		}
		twin := "GRANTLING_" + strings.ToUpper(strings.ReplaceAll(row.flag, "-", "_")) + "="
		in := func(name string, cmd *exec.Cmd) {
			t.Run(row.flag+" "+row.value+" "+name, func(t *testing.T) {
				p := begin(t, cmd).ready()
				p.T = t
				row.check(p)
			})
		}
		in("environment", command(t, folder, []string{twin + row.value}, args...))
		in("command line wins", command(t, folder, []string{twin + row.other}, append(args, "-"+row.flag+"="+row.value)...))
	}
	_, help, _ := runToEnd(t, command(t, folder, nil, "-h"))
	for _, match := range regexp.MustCompile(`(?m)^  -(\S+)`).FindAllStringSubmatch(help, -1) {
		if !slices.Contains(tested, match[1]) {
			t.Errorf("-%s has no row here", match[1])
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		env, args []string
		want      string
	}{
		{"version", nil, []string{"-version"}, "grantling "},
		{"h", nil, []string{"-h"}, "usage: grantling"},
		{"help", nil, []string{"--help"}, "usage: grantling"},
		{"h beside a mistake in the environment", []string{"GRANTLING_CONTROL=perhaps"}, []string{"-h"}, "usage: grantling"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			status, stdout, stderr := runToEnd(t, command(t, folder, row.env, row.args...))
			if status != 0 || !strings.HasPrefix(stdout, row.want) || stderr != "" {
				t.Errorf("status %d, standard output %q, standard error %q", status, stdout, stderr)
			}
			wantFiles(t, folder)
		})
	}
}

// TestRefusedStart wants one line on standard error, nothing on standard
// output, and no file left behind.
func TestRefusedStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	files := t.TempDir()
	certificate(t, files, "mine")
	certificate(t, files, "other")
	at := func(name, content string) string {
		if content != "" {
			writeFile(t, files, name, content)
		}
		return filepath.Join(files, name)
	}
	const usage, failure = 2, 1
	for _, row := range []struct {
		name   string
		env    []string
		args   []string
		status int
		want   string // in the line
	}{
		{"unknown flag", nil, []string{"-prot"}, usage, "flag provided but not defined: -prot; grantling -help lists the flags"},
		{"unknown flag with a line break", nil, []string{"-a\nb"}, usage, "-a"},
		{"flag without its value", nil, []string{"-db"}, usage, "-db"},
		{"stray argument", nil, []string{"serve"}, usage, `unexpected argument "serve": grantling -help lists the flags`},
		{"switch with a value of its own", nil, []string{"-control", "true"}, usage, `unexpected argument "true": a switch takes its value with =, as in -control=true`},
		{"file without its flag", nil, []string{"-fixtures", "a.json", "b.json"}, usage, `unexpected argument "b.json": each file of fixtures has its own -fixtures, and a profile has -profile`},
		{"switch that is neither", nil, []string{"-control=yes"}, usage, "must be true or false"},
		{"switch that is neither in the environment", []string{"GRANTLING_INSPECT=off"}, nil, usage, `GRANTLING_INSPECT: invalid value "off": must be true or false`},
		{"database in a file named memory", nil, []string{"-db", "memory"}, usage, `-db "memory": expected :memory:, or ./memory for a file of this name`},
		{"database in a file named :mem:", nil, []string{"-db", ":mem:"}, usage, `-db ":mem:": expected :memory:, or ./:mem: for a file of this name`},
		{"flag that takes no value", nil, []string{"-version=perhaps"}, usage, "-version"},
		{"log", nil, []string{"-log", "xml"}, usage, `"xml"`},
		{"empty database name", nil, []string{"-db", ""}, usage, "-db"},
		{"empty address", nil, []string{"-addr", ""}, usage, "-addr"},
		{"etcd without its slashes", nil, []string{"-db", "etcd:/127.0.0.1:2379"}, usage, "-db must be a file, etcd://HOST:PORT"},
		{"etcd in capitals", nil, []string{"-db", "ETCD://127.0.0.1:2379"}, usage, "-db must be a file, etcd://HOST:PORT"},
		{"etcd as the web has it", nil, []string{"-db", "http://me:secret@127.0.0.1:2379"}, usage, "-db must be a file, etcd://HOST:PORT"},
		{"etcd user without a password", nil, []string{"-db", "etcd://me@127.0.0.1:2379"}, usage, "-db: expected USER:PASSWORD before the @"},
		{"etcd at port 0", nil, []string{"-db", "etcd://127.0.0.1:0"}, usage, `"127.0.0.1:0" must be HOST:PORT`},
		{"etcd at no port", nil, []string{"-db", "etcd://127.0.0.1:2379999"}, usage, `"127.0.0.1:2379999" must be HOST:PORT`},
		{"address without a port", nil, []string{"-addr", "localhost"}, usage, `-addr "localhost" must be HOST:PORT`},
		{"address with a name for a port", nil, []string{"-addr", "127.0.0.1:http"}, usage, `-addr "127.0.0.1:http" must be HOST:PORT`},
		{"address with a port too high", nil, []string{"-addr", "127.0.0.1:65536"}, usage, "-addr"},
		{"address in brackets without a port", nil, []string{"-addr", "[::1]"}, usage, "-addr"},
		{"control host with a port", nil, []string{"-control", "-control-host", "grantling:80"}, usage, `-control-host: "grantling:80" must be a host name without a port`},
		{"control hosts with blanks", nil, []string{"-control", "-control-host", "a, b"}, usage, `-control-host: " b"`},
		{"redirect host with a port", nil, []string{"-redirect-host", "web:3000"}, usage, `-redirect-host: "web:3000"`},
		{"redirect hosts with blanks", nil, []string{"-redirect-host", "web, app"}, usage, `-redirect-host: " app"`},
		{"redirect host that is a URL", nil, []string{"-redirect-host", "http://web"}, usage, `-redirect-host: "http://web"`},
		{"redirect host that is any", nil, []string{"-redirect-host", "*"}, usage, `-redirect-host: "*"`},
		{"redirect host with a star within", nil, []string{"-redirect-host", "web.*"}, usage, `-redirect-host: "web.*"`},
		{"no truth in the environment", []string{"GRANTLING_CONTROL=maybe"}, nil, usage, `GRANTLING_CONTROL: invalid value "maybe"`},

		{"issuer is no URL", nil, []string{"-issuer", "login.example"}, usage, "login.example"},
		{"issuer with a query (R145)", nil, []string{"-issuer", "https://login.example/?a=b"}, usage, "query"},
		{"issuer with a fragment (R145)", nil, []string{"-issuer", "https://login.example/#a"}, usage, "fragment"},

		{"unknown profile", nil, []string{"-profile", "nobody"}, usage, "profile: expected a file or one of figshare, mastodon,"},
		{"profile that is not there", nil, []string{"-profile", "no/file.json"}, usage, "profile: open no/file.json: no such file or directory"},
		{"profile with an unknown key", nil, []string{"-profile", at("key.json", "{\n\"name\": \"x\",\n\"colour\": 1}")}, usage, "key.json:3: colour:"},
		{"profile without endpoints", nil, []string{"-profile", at("bare.json", "{}")}, usage, "bare.json:1: "},

		{"fixtures that are not there", nil, []string{"-fixtures", "none.json"}, usage, "none.json"},
		{"fixtures with a bad value", nil, []string{"-fixtures", at("value.json", "{\"clients\": [\n{\"client_id\": \"a\",\n\"scope\": \"ä\"}]}")}, usage, "value.json:3: clients[0].scope:"},
		{"fixtures with a key of two lines", nil, []string{"-fixtures", at("lines.json", `{"a\nb": 1}`)}, usage, "lines.json:1: a"},

		{"auto-approve names nobody", nil, []string{"-db", memory, "-auto-approve", "nobody"}, usage, "-auto-approve nobody: no such user; a file of -fixtures can make one"},
		{"auto-approve names nobody of the fixtures", nil, []string{"-db", memory, "-fixtures", at("alice.json", instanceFixtures), "-auto-approve", "nobody"}, usage, "nobody"},
		{"owner is nobody", nil, []string{"-db", memory, "-fixtures", at("owner.json", "{\"clients\": [\n{\"client_id\": \"a\",\n\"owner\":\n\"nobody\"}]}")}, usage, "owner.json:4: clients[0].owner:"},

		{"certificate without its key", nil, []string{"-tls-cert", at("mine.crt", "")}, usage, "-tls-key"},
		{"key without its certificate", nil, []string{"-tls-key", at("mine.key", "")}, usage, "-tls-cert"},
		{"certificate that is not there", nil, []string{"-tls-cert", "none.crt", "-tls-key", at("mine.key", "")}, usage, "none.crt"},
		{"key of another certificate", nil, []string{"-tls-cert", at("mine.crt", ""), "-tls-key", at("other.key", "")}, usage, "private key"},

		{"address in use", nil, []string{"-addr", taken.Addr().String()}, failure, taken.Addr().String() + ": bind: address already in use: stop the other program, or take another -addr"},
		{"folder of the database is not there", nil, []string{"-db", "no/grantling.db"}, failure, "/no: no such file or directory; -db names another file, and :memory: keeps nothing"},
		{"database is a folder", nil, []string{"-db", "."}, failure, "database ."},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			args := append([]string{"-addr", "127.0.0.1:0"}, row.args...)
			status, stdout, stderr := runToEnd(t, command(t, folder, row.env, args...))
			if status != row.status || stdout != "" {
				t.Errorf("status %d and %q on standard output, want %d and nothing", status, stdout, row.status)
			}
			if line, found := strings.CutSuffix(stderr, "\n"); !found || strings.ContainsAny(line, "\r\n") || !strings.Contains(line, row.want) {
				t.Errorf("standard error is %q, want one line with %q", stderr, row.want)
			}
			wantFiles(t, folder)
		})
	}
}

// TestSecondProcess: who finds the database held by another process says so
// soon, and does it no harm (R167).
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	writeFile(t, folder, "fixtures.json", clientFixtures)
	first := launch(t, folder, "-fixtures", "fixtures.json")
	began := time.Now()
	status, stdout, stderr := runToEnd(t, command(t, folder, nil, "-addr", "127.0.0.1:0"))
	if status != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "in use by another process") {
		t.Errorf("status %d, standard output %q, standard error %q", status, stdout, stderr)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	first.ownToken("machine").wantToken()
	first.stop()
	launch(t, folder).ownToken("machine").wantToken()
}

// clientFixtures have no password, which takes a while to hash.
const clientFixtures = `{"clients": [{"client_id": "machine", "client_secret": "machine-secret", "scope": "read"}]}`

var (
	shownPassword = regexp.MustCompile(`password (\S+) \(shown once\)`)
	shownCommand  = regexp.MustCompile(`(?m)^ +(curl (?:.*\\\n)*.*)$`) // with the lines that a backslash continues
)

// finishFlow does what the banner says: opens its URL, signs in, approves, and
// pastes its curl command into a shell.
func (p *process) finishFlow(password string) {
	p.Helper()
	target := regexp.MustCompile(`(?m)^ +(http\S+)$`).FindStringSubmatch(p.said())
	curl := shownCommand.FindStringSubmatch(p.said())
	if target == nil || curl == nil {
		p.Fatalf("banner: %s", p.said())
	}
	b := p.browser()
	page := b.get(target[1])
	page = b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {password}}))
	page = b.decide(b.get(page.location().String()), "approve")
	page = b.get(page.location().String())
	code := regexp.MustCompile(`id="code">([^<]+)<`).FindStringSubmatch(page.body)
	if code == nil {
		p.Fatalf("no code in status %d: %s", page.StatusCode, page.body)
	}
	if _, err := exec.LookPath("curl"); err != nil || runtime.GOOS == "windows" {
		p.Skip("no curl, or no shell that it is for")
	}
	out, err := exec.Command("sh", "-c", strings.Replace(curl[1], "CODE", code[1], 1)).Output()
	if err != nil {
		p.Fatalf("%s: %v", curl[1], err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(out, &answer); err != nil || answer.AccessToken == "" {
		p.Fatalf("curl's answer: %s", out)
	}
	if who := p.get(p.endpoint("userinfo"), "Authorization", "Bearer "+answer.AccessToken); who.json["sub"] != "alice" {
		p.Errorf("userinfo: %s", who.body)
	}
}

// TestFirstStart: in an empty folder the banner leads through the flow; at the
// second start it does so again, with the password that was shown once.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first := launch(t, folder)
	shown := shownPassword.FindStringSubmatch(first.said())
	if shown == nil {
		t.Fatalf("no password in the banner: %s", first.said())
	}
	first.finishFlow(shown[1])
	if r := first.post("/oauth/device_authorization", url.Values{"client_id": {"demo"}}); r.StatusCode != http.StatusOK { // as in docs/testing.md
		t.Errorf("demo as a device: status %d: %s", r.StatusCode, r.body)
	}
	first.stop()
	wantFiles(t, folder, "grantling.db")

	second := launch(t, folder)
	if strings.Contains(second.said(), shown[1]) || shownPassword.MatchString(second.said()) {
		t.Errorf("the second banner shows a password: %s", second.said())
	}
	second.finishFlow(shown[1])
	second.stop()
	if strings.Contains(second.said(), shown[1]) {
		t.Error("the password is in the log") // R174
	}
}

// TestFirstStartAs: what the banner says leads to a token in every profile,
// whatever bodies and grants it has, and again at the next start.
func TestFirstStartAs(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil || runtime.GOOS == "windows" {
		t.Skip("no curl, or no shell that it is for")
	}
	parcels, err := os.ReadFile("testdata/parcels.json")
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	vary := func(name, old, new string) string {
		writeFile(t, files, name, strings.Replace(string(parcels), old, new, 1))
		return filepath.Join(files, name)
	}
	const grants, implicit = `["authorization_code", "refresh_token"]`, `"implicit_answer": {"access_token": "${access_token}"}`
	profiles := append(profileNames(),
		vary("json.json", `["json"]`, `["json"]`),
		vary("multipart.json", `["json"]`, `["multipart"]`),
		vary("client_credentials.json", grants, `["client_credentials"]`),
		vary("password.json", grants, `["password", "refresh_token"]`),
		vary("implicit.json", grants, `["implicit"], `+implicit),
		vary("implicit and password.json", grants, `["implicit", "password"], `+implicit))
	for _, profile := range profiles {
		t.Run("R202 "+filepath.Base(profile), func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			first := launch(t, folder, "-profile", profile)
			shown := shownPassword.FindStringSubmatch(first.said())
			if shown == nil {
				t.Fatalf("banner: %s", first.said())
			}
			secret := "none"
			if match := regexp.MustCompile(`client demo has the secret (\S+) \(shown once\)`).FindStringSubmatch(first.said()); match != nil {
				secret = match[1]
			}
			first.followBanner(shown[1], secret)
			first.stop()
			launch(t, folder, "-profile", profile).followBanner(shown[1], secret)
		})
	}
	t.Run("R202 from one profile to another", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		password := ""
		for _, profile := range profileNames() {
			p := launch(t, folder, "-profile", profile)
			if shown := shownPassword.FindStringSubmatch(p.said()); shown != nil {
				password = shown[1]
			}
			p.followBanner(password, "none")
			p.stop()
		}
	})
}

// followBanner does what the banner says, whatever that is, and wants an
// access token.
func (p *process) followBanner(password, secret string) {
	p.Helper()
	target := regexp.MustCompile(`(?m)^ +(http\S+)$`).FindStringSubmatch(p.said())
	curl := shownCommand.FindStringSubmatch(p.said())
	if target == nil && curl == nil {
		p.Fatalf("banner: %s", p.said())
	}
	code := ""
	if target != nil {
		b := p.browser()
		page := b.get(target[1])
		page = b.post(page.action(), page.form(url.Values{"username": {"alice"}, "password": {password}}))
		page = b.decide(b.get(page.location().String()), "approve")
		if curl == nil {
			if !strings.Contains(page.location().String(), "access_token=") {
				p.Errorf("the browser goes to %s", page.location())
			}
			return
		}
		code = page.param("code")
	}
	command := strings.NewReplacer("CODE", code, "PASSWORD", password, "CLIENT_SECRET", secret).Replace(curl[1])
	if out, err := exec.Command("sh", "-c", command).Output(); err != nil || !strings.Contains(string(out), `"access_token":"`) {
		p.Errorf("%s: %s %v", command, out, err)
	}
}

// TestBannerLeadsNowhere: nothing is printed to try where it would not work.
func TestBannerLeadsNowhere(t *testing.T) {
	t.Parallel()
	for name, fixtures := range map[string]string{
		"no alice":          `{"users": [{"username": "bob", "password": "builder"}], "clients": [{"client_id": "demo", "redirect_uris": ["urn:ietf:wg:oauth:2.0:oob"]}]}`,
		"no demo":           `{"users": [{"username": "alice", "password": "wonderland"}]}`,
		"demo cannot do it": `{"users": [{"username": "alice", "password": "wonderland"}], "clients": [{"client_id": "demo", "grant_types": []}]}`,
	} {
		t.Run("R202 "+name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			writeFile(t, folder, "fixtures.json", fixtures)
			launch(t, folder, "-fixtures", "fixtures.json").stop()
			p := launch(t, folder)
			if p.stop(); regexp.MustCompile(`(?m)^ +(http|curl)|alice|demo`).MatchString(p.said()) {
				t.Errorf("banner: %s", p.said())
			}
		})
	}
}

// TestFixturesShown: the fixtures that are shown start in every profile.
func TestFixturesShown(t *testing.T) {
	t.Parallel()
	examples, err := os.ReadFile("examples/fixtures.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, fixtures := range map[string]string{
		"README":   regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(readme(t))[1],
		"examples": string(examples),
	} {
		for _, profile := range profileNames() {
			t.Run("R202 "+name+" as "+profile, func(t *testing.T) {
				t.Parallel()
				folder := t.TempDir()
				writeFile(t, folder, "fixtures.json", fixtures)
				p := launch(t, folder, "-db", memory, "-fixtures", "fixtures.json", "-profile", profile, "-control")
				loaded, err := loadProfile(profile)
				if err != nil {
					t.Fatal(err)
				}
				request := url.Values{"response_type": {"code"}, "client_id": {"web"}, "redirect_uri": {"http://127.0.0.1:8080/callback"}}
				back := p.mustControl("POST", "authorize", `{"url":"`+p.URL+loaded.Endpoints["authorize"][0]+"?"+request.Encode()+`","username":"alice","decision":"approve"}`).redirectTo()
				r := p.post(loaded.Endpoints["token"][0], withClient("web", url.Values{"grant_type": {"authorization_code"}, "code": {back.Get("code")}, "redirect_uri": {"http://127.0.0.1:8080/callback"}}))
				if token, _ := r.json["access_token"].(string); r.StatusCode != http.StatusOK || token == "" {
					t.Errorf("status %d: %s", r.StatusCode, r.body)
				}
			})
		}
	}
}

// TestBannerOfFixtures: with fixtures there is no alice of the server's own.
func TestBannerOfFixtures(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	writeFile(t, folder, "fixtures.json", "{}")
	p := launch(t, folder, "-db", memory, "-fixtures", "fixtures.json")
	if shownPassword.MatchString(p.said()) || strings.Contains(p.said(), "demo") {
		t.Errorf("banner: %s", p.said())
	}
}

// The banner names the database, but a password in it is nobody's who reads the log.
func TestShownDatabase(t *testing.T) {
	t.Run("R240 without the password", func(t *testing.T) {
		for db, want := range map[string]string{
			"grantling.db":                       "grantling.db",
			"me@home.db":                         "me@home.db",
			"etcd://one:2379,two:2379/staging":   "etcd://one:2379,two:2379/staging",
			"etcds://me:secret@one:2379/staging": "etcds://one:2379/staging",
			"etcd://me:p@ss@one:2379,two:2379":   "etcd://one:2379,two:2379",
		} {
			if got := (&options{db: db}).shownDB(); got != want {
				t.Errorf("%s is shown as %s, want %s", db, got, want)
			}
		}
	})
}

// TestMemory: :memory: leaves no file behind, however the process ends.
func TestMemory(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process){"SIGINT": (*process).stop, "kill -9": (*process).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, files := t.TempDir(), t.TempDir()
			writeFile(t, files, "fixtures.json", clientFixtures)
			p := launch(t, folder, "-db", memory, "-fixtures", filepath.Join(files, "fixtures.json"))
			p.ownToken("machine").wantToken()
			end(p)
			wantFiles(t, folder)
		})
	}
}

// TestModeUnderUmask: nobody else may read the file, whatever the umask, and a
// looser mode is mended (R176).
func TestModeUnderUmask(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("file modes are not what protects files there")
	}
	folder, files := t.TempDir(), t.TempDir()
	writeFile(t, files, "fixtures.json", clientFixtures)
	loose := command(t, folder, nil)
	loose.Args = []string{"sh", "-c", `umask 0; exec "$0" -addr 127.0.0.1:0 -fixtures "$1"`, loose.Path, filepath.Join(files, "fixtures.json")}
	loose.Path = "/bin/sh"
	database := filepath.Join(folder, "grantling.db")
	check := func() {
		t.Helper()
		if info, err := os.Stat(database); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
	}
	p := begin(t, loose).ready()
	check()
	p.stop()
	if err := os.Chmod(database, 0o644); err != nil {
		t.Fatal(err)
	}
	launch(t, folder)
	check()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	trusted := certificate(t, folder, "mine")
	writeFile(t, folder, "fixtures.json", instanceFixtures)
	p := launch(t, folder, "-db", memory, "-fixtures", "fixtures.json", "-tls-cert", "mine.crt", "-tls-key", "mine.key")
	if !strings.HasPrefix(p.URL, "https://127.0.0.1:") {
		t.Fatalf("URL %s", p.URL)
	}
	b := p.secureBrowser(trusted)
	if r := b.signIn("alice", "wonderland"); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign-in: status %d: %s", r.StatusCode, r.body)
	} else if c := r.Cookies(); len(c) != 1 || !c[0].Secure || !strings.HasPrefix(c[0].Name, "__Host-") {
		t.Errorf("cookies %v", c)
	}
	back := b.approve(authorization("web"))
	if back.param("iss") != p.URL {
		t.Errorf("back to %s", back.location())
	}
	b.post(p.endpoint("token"), exchangeOf("web", back.param("code"))).wantToken()
	if r := b.get(p.endpoint("metadata")); r.json["issuer"] != p.URL || r.json["token_endpoint"] != p.endpoint("token") {
		t.Errorf("metadata: %s", r.body)
	}
}

// TestSignal: requests in flight are answered, what was answered is on disk,
// and nothing new is let in (R169).
func TestSignal(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	serve := func(t *testing.T) (folder string, p *process) {
		folder = t.TempDir()
		writeFile(t, folder, "fixtures.json", instanceFixtures)
		return folder, launch(t, folder, "-fixtures", "fixtures.json", "-auto-approve", "alice", "-log", "off")
	}
	for name, signal := range map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM} {
		t.Run("R169 "+name, func(t *testing.T) {
			t.Parallel()
			folder, p := serve(t)
			l, wait := p.startLoad()
			l.reach(60)
			p.signal(signal)
			if status := p.wait(); status != 0 {
				t.Errorf("exit status %d: %s", status, p.said())
			}
			wait()
			if l.cut > 0 {
				t.Errorf("%d answers with status 200 were cut", l.cut)
			}
			launch(t, folder, "-auto-approve", "alice", "-log", "off").wantKept(l)
		})
	}
	t.Run("R169 in flight", func(t *testing.T) {
		t.Parallel()
		folder, p := serve(t)
		r := p.hold()
		p.signal(syscall.SIGTERM)
		p.wantClosed()
		access, refresh := r.finish().wantToken()
		if status := p.wait(); status != 0 {
			t.Errorf("exit status %d: %s", status, p.said())
		}
		launch(t, folder).wantAlive(access, refresh)
	})
	t.Run("R169 a second signal ends at once", func(t *testing.T) {
		t.Parallel()
		_, p := serve(t)
		p.hold()
		p.signal(syscall.SIGTERM)
		p.wantClosed()
		go func() { // again, in case the second comes before the first is dealt with
			for p.cmd.Process.Signal(syscall.SIGTERM) == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}()
		if status := p.wait(); status != -1 {
			t.Errorf("exit status %d, want to see it killed by the signal", status)
		}
	})
	t.Run("R169 what a fault delays is not waited for", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		writeFile(t, folder, "fixtures.json", instanceFixtures)
		p := launch(t, folder, "-db", memory, "-fixtures", "fixtures.json", "-auto-approve", "alice", "-control")
		p.mustControl("POST", "faults", `{"endpoint":"token","delay":"10m"}`)
		h := p.hold()
		io.WriteString(h.conn, h.body)
		began := time.Now()
		p.signal(syscall.SIGTERM)
		if status, took := p.wait(), time.Since(began); status != 0 || took > 5*time.Second {
			t.Errorf("exit status %d after %v, want 0 at once", status, took)
		}
	})
	t.Run("R203 who does not finish is waited for seven seconds", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("takes seven seconds")
		}
		folder, p := serve(t)
		p.hold()
		began := time.Now()
		p.signal(syscall.SIGTERM)
		if status, took := p.wait(), time.Since(began); status != 0 || took < 6*time.Second || took > 9*time.Second {
			t.Errorf("exit status %d after %v, want 0 after 7s", status, took)
		}
		launch(t, folder).ownToken("web").wantToken()
	})
	t.Run("R203 the log says where it listens and why it stops", func(t *testing.T) {
		t.Parallel()
		for reason, end := range map[string]func(*process){
			`"interrupt signal received"`:  func(p *process) { p.signal(os.Interrupt) },
			`"terminated signal received"`: func(p *process) { p.signal(syscall.SIGTERM) },
			`"standard input has ended"`:   func(p *process) { p.stdin.Close() },
		} {
			p := launch(t, t.TempDir(), "-db", memory, "-stop-with-stdin", "-issuer", "https://login.example")
			address := p.listening()
			end(p)
			if status := p.wait(); status != 0 {
				t.Errorf("%s: exit status %d", reason, status)
			}
			for _, want := range []string{
				" level=INFO msg=listening address=" + address + "\n",
				" level=INFO msg=stopping reason=" + reason + "\n",
			} {
				if strings.Count(p.said(), want) != 1 {
					t.Errorf("the log has not %q once: %s", want, p.said())
				}
			}
		}
	})
}

// listening returns the address that the log says the server listens on.
func (p *process) listening() string {
	p.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if match := regexp.MustCompile(`msg=listening address=(127\.0\.0\.1:[1-9]\d*)\n`).FindStringSubmatch(p.said()); match != nil {
			return match[1]
		}
	}
	p.Fatalf("the log does not say where it listens: %s", p.said())
	return ""
}

// TestReader: nobody need read what the server prints.
func TestReader(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no signals to end it by")
	}
	ask := func(t *testing.T, address string, times int) {
		client := &http.Client{Transport: new(http.Transport), Timeout: patience}
		defer client.CloseIdleConnections()
		for n := range times {
			response, err := client.Get("http://" + address + "/oauth/token")
			if err != nil {
				t.Fatalf("request %d: %v", n, err)
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode != http.StatusMethodNotAllowed {
				t.Fatalf("request %d: status %d", n, response.StatusCode)
			}
		}
	}
	pipe := func(t *testing.T) (reader, writer *os.File) {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reader.Close(); writer.Close() })
		return reader, writer
	}
	// run starts a server, of which nobody reads standard error.
	run := func(t *testing.T, stdout *os.File) (cmd *exec.Cmd, stderr *os.File) {
		stderr, writer := pipe(t)
		stderr.SetReadDeadline(time.Now().Add(2 * patience))
		cmd = command(t, t.TempDir(), nil, "-addr", "127.0.0.1:0", "-db", memory, "-fixtures", filepath.Join(t.TempDir(), "none.json"))
		writeFile(t, filepath.Dir(cmd.Args[len(cmd.Args)-1]), "none.json", "{}")
		cmd.Stdout, cmd.Stderr = stdout, writer
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd, stderr
	}
	address := func(t *testing.T, stdout *os.File) string {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(strings.TrimPrefix(line, "http://"))
	}
	ends := func(t *testing.T, cmd *exec.Cmd) {
		cmd.Process.Signal(syscall.SIGTERM)
		if cmd.Wait(); cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("it ended with %v, want exit status 0", cmd.ProcessState)
		}
	}
	t.Run("R187 standard error is not read for 6,000 requests", func(t *testing.T) {
		t.Parallel()
		out, stdout := pipe(t)
		cmd, stderr := run(t, stdout)
		ask(t, address(t, out), 6_000)
		// Now it is read: what found no room is counted, and then there is room.
		log, text := bufio.NewReader(stderr), ""
		for told := false; !told; {
			line, err := log.ReadString('\n')
			if err != nil {
				t.Fatalf("the log ends without a count: %v", err)
			}
			text += line
			told = strings.Contains(line, "lines were dropped")
		}
		ends(t, cmd)
		rest, _ := io.ReadAll(log)
		text += string(rest)
		logged, dropped := strings.Count(text, " msg=request "), 0
		for _, match := range regexp.MustCompile(`level=WARN msg="lines were dropped: nobody read them in time" lines=(\d+)\n`).FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(match[1])
			dropped += n
		}
		if dropped == 0 || logged+dropped != 6_000 {
			t.Errorf("%d requests are logged and %d lines dropped, want 6,000 in all", logged, dropped)
		}
		if !strings.HasSuffix(text, " level=INFO msg=stopping reason=\"terminated signal received\"\n") {
			t.Errorf("the log ends with %q", text[max(0, len(text)-200):])
		}
	})
	t.Run("R187 standard error is closed", func(t *testing.T) {
		t.Parallel()
		out, stdout := pipe(t)
		cmd, stderr := run(t, stdout)
		at := address(t, out)
		stderr.Close()
		ask(t, at, 100)
		ends(t, cmd)
	})
	t.Run("R187 standard error is never read, not even at the end", func(t *testing.T) {
		t.Parallel()
		out, stdout := pipe(t)
		cmd, _ := run(t, stdout)
		ask(t, address(t, out), 1000)
		ends(t, cmd)
	})
	t.Run("R187 standard output is closed", func(t *testing.T) {
		t.Parallel()
		out, stdout := pipe(t)
		out.Close()
		cmd, stderr := run(t, stdout)
		log := bufio.NewReader(stderr)
		for {
			line, err := log.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if match := regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(line); match != nil {
				ask(t, match[1], 100)
				break
			}
		}
		ends(t, cmd)
	})
	t.Run("R187 standard output is full", func(t *testing.T) {
		t.Parallel()
		_, stdout := pipe(t)
		stdout.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		stdout.Write(make([]byte, 1<<20)) // as much as it takes
		stdout.SetWriteDeadline(time.Time{})
		cmd, stderr := run(t, stdout)
		for log := bufio.NewReader(stderr); ; {
			line, err := log.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if match := regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(line); match != nil {
				ask(t, match[1], 100)
				break
			}
		}
		ends(t, cmd)
	})
}

// TestEnvironment: what images set for their own ends means nothing here.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{"GRANTLING_VERSION=1.2", "GRANTLING_VERSION=true", "GRANTLING_H=true", "GRANTLING_HELP=1", "GRANTLING_READY=true"} {
		t.Run("R208 "+variable, func(t *testing.T) {
			t.Parallel()
			begin(t, command(t, t.TempDir(), []string{variable}, "-addr", "127.0.0.1:0", "-db", memory)).ready().get("/healthz")
		})
	}
}

// TestAutoApproveAddress: who opens -auto-approve to others is warned.
func TestAutoApproveAddress(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		address  string
		warnings int
	}{{"0.0.0.0:0", 1}, {":0", 1}, {"127.0.0.1:0", 0}, {"localhost:0", 0}} {
		t.Run("R209 "+row.address, func(t *testing.T) {
			t.Parallel()
			p := begin(t, command(t, t.TempDir(), nil, "-addr", row.address, "-db", memory, "-auto-approve", "alice")).ready()
			p.stop()
			if n := strings.Count(p.said(), "level=WARN"); n != row.warnings || strings.Count(p.said(), `level=WARN msg="-auto-approve`) != n {
				t.Errorf("%d warnings, want %d: %s", n, row.warnings, p.said())
			}
			if !strings.Contains(p.said(), "1. Open this URL. It is answered at once, as if alice had allowed it:\n") || strings.Contains(p.said(), "Allow access") || !shownPassword.MatchString(p.said()) {
				t.Errorf("the banner is %s", p.said())
			}
		})
	}
}

// held is a token request of which the server has the header.
type held struct {
	*process
	conn net.Conn
	in   *bufio.Reader
	body string
}

// hold sends the header of a token request and waits until the server asks
// for the body.
func (p *process) hold() *held {
	p.Helper()
	code := p.browser().authorize(authorization("web")).param("code")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	h := &held{p, conn, bufio.NewReader(conn), exchangeOf("web", code).Encode()}
	fmt.Fprintf(conn, "POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(h.body))
	if line, err := h.in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		p.Fatalf("got %q, %v, want to be told to continue", line, err)
	}
	h.in.ReadString('\n')
	return h
}

// finish sends the body and reads the answer.
func (h *held) finish() *reply {
	h.Helper()
	io.WriteString(h.conn, h.body)
	response, err := http.ReadResponse(h.in, nil)
	if err != nil {
		h.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		h.Fatal(err)
	}
	r := &reply{Response: response, i: h.instance, body: string(body)}
	json.Unmarshal(body, &r.json)
	return r
}

// wantClosed wants the server to accept no connection any more, soon.
func (p *process) wantClosed() {
	p.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			p.Fatal("the server still accepts connections")
		}
	}
}
