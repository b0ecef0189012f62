package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cluster is an etcd: its members, on free ports of loopback.
type cluster []*member

// member is a process of etcd. It can be killed, paused, and started again.
type member struct {
	*testing.T // which it does not outlive
	cluster
	name, folder string
	client, peer string // HOST:PORT
	scheme       string // for clients
	flags        []string
	cmd          *exec.Cmd
}

// freePorts returns addresses of loopback that nobody listens on.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// startEtcd starts so many members, with their data in folders of the test, and waits
// until they have a leader. It needs Debian's packages etcd-server and etcd-client.
func startEtcd(t *testing.T, members int, flags ...string) cluster {
	t.Helper()
	c := make(cluster, members)
	ports, scheme := freePorts(t, 2*members), "http://"
	if slices.Contains(flags, "--cert-file") {
		scheme = "https://"
	}
	for n := range c {
		c[n] = &member{T: t, cluster: c, name: fmt.Sprint("m", n+1), folder: t.TempDir(), client: ports[2*n], peer: ports[2*n+1], scheme: scheme, flags: flags}
	}
	for _, m := range c {
		m.start()
		t.Cleanup(m.kill)
	}
	for _, m := range c {
		within(t, 20*time.Second, m.name+" does not listen", func() bool {
			conn, err := net.Dial("tcp", m.client)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	if scheme == "http://" {
		c.leader(t)
	}
	return c
}

// start starts a member, also again with the data that it has.
func (m *member) start() {
	m.Helper()
	var peers []string
	for _, other := range m.cluster {
		peers = append(peers, other.name+"=http://"+other.peer)
	}
	m.cmd = exec.CommandContext(m.Context(), "etcd", append([]string{
		"--name", m.name, "--data-dir", filepath.Join(m.folder, "data"),
		"--listen-client-urls", m.scheme + m.client, "--advertise-client-urls", m.scheme + m.client,
		"--listen-peer-urls", "http://" + m.peer, "--initial-advertise-peer-urls", "http://" + m.peer,
		"--initial-cluster", strings.Join(peers, ","),
		"--heartbeat-interval", "50", "--election-timeout", "500",
		"--logger", "zap", "--log-level", "error", "--log-outputs", "/dev/null",
	}, m.flags...)...)
	if err := m.cmd.Start(); err != nil {
		m.Fatal(err)
	}
}

// kill ends a member as a power cut does, also while it is paused.
func (m *member) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

// pause is for wake to end.
func (m *member) pause() { m.Helper(); pause(m.T, m.cmd) }

func (m *member) wake() { m.cmd.Process.Signal(syscall.SIGCONT) }

// pause stops a process in the middle of what it does, and waits until it stands still.
func pause(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v is not paused: %v, %x", cmd, err, status)
	}
}

// ctl runs etcdctl against the members, and returns what it prints.
func (c cluster) ctl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "etcdctl", append([]string{"--endpoints", c.hosts(0)}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, output)
	}
	return string(output)
}

// status asks a member with plain HTTP who it is, and who leads.
func (m *member) status() (id, leader string, err error) {
	client := http.Client{Timeout: time.Second}
	response, err := client.Post("http://"+m.client+"/v3/maintenance/status", "application/json", strings.NewReader("{}"))
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	var status struct {
		Header struct {
			ID string `json:"member_id"`
		}
		Leader string
	}
	err = json.NewDecoder(response.Body).Decode(&status)
	return status.Header.ID, status.Leader, err
}

// leader waits until all members know the same leader, which is one of them.
func (c cluster) leader(t *testing.T) (leader *member) {
	t.Helper()
	within(t, 20*time.Second, "the members have no leader", func() bool {
		known := make(map[string]bool)
		leader = nil
		for _, m := range c {
			id, leads, err := m.status()
			if err != nil || leads == "" || leads == "0" {
				return false
			}
			if known[leads] = true; id == leads {
				leader = m
			}
		}
		return leader != nil && len(known) == 1
	})
	return leader
}

// within asks again and again whether something is so, because nothing tells of it.
func within(t *testing.T, limit time.Duration, otherwise string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v %s", limit, otherwise)
		}
	}
}

// hosts are the members' addresses, beginning with the nth.
func (c cluster) hosts(n int) string {
	var hosts []string
	for i := range c {
		hosts = append(hosts, c[(n+i)%len(c)].client)
	}
	return strings.Join(hosts, ",")
}

// replica is one of the servers that share a database. It can be started again where
// it was.
type replica struct {
	*server
	URL    string
	flags  []string
	folder string
}

// issuer is the base URL of all servers that share a database here.
const issuer = "http://grantling.localhost"

// startReplicas starts two servers that share a database under a prefix. Each asks
// another member first.
func startReplicas(t *testing.T, etcd cluster, prefix string, flags ...string) []*replica {
	t.Helper()
	one := startReplica(t, "etcd://"+etcd.hosts(0)+"/"+prefix, flags...)
	// Then the passwords of the fixtures are stored, and the other server keeps them.
	newAgent(30*time.Second).signIn(t, one.URL, "alice", "wonderland")
	return []*replica{one, startReplica(t, "etcd://"+etcd.hosts(1)+"/"+prefix, flags...)}
}

// startReplica starts a server with the fixtures, at an address that it keeps.
func startReplica(t *testing.T, db string, flags ...string) *replica {
	t.Helper()
	address, folder := freePorts(t, 1)[0], t.TempDir()
	write(t, filepath.Join(folder, "fixtures.json"), []byte(fixtures))
	r := &replica{URL: "http://" + address, folder: folder}
	r.flags = append([]string{"-addr", address, "-db", db, "-issuer", issuer, "-log", "json", "-fixtures", "fixtures.json"}, flags...)
	r.start(t)
	return r
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	r.server = startIn(t, r.folder, r.flags...)
}

// kill ends a server as a power cut does.
func (r *replica) kill() {
	r.ended = true
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// stop asks a server to stop, and waits until it has.
func (r *replica) stop() {
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.cmd.Wait()
}

// agent is a client or a browser that goes to whichever server it is told to. It
// keeps cookies and follows no redirects.
type agent struct{ http.Client }

func newAgent(patience time.Duration) *agent {
	jar, _ := cookiejar.New(nil)
	return &agent{http.Client{
		Jar: jar, Timeout: patience,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 32},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answer is an answer, read whole.
type answer struct {
	status int
	header http.Header
	body   string
	told   map[string]any // of a JSON object
}

// send sends a form or, if that is nil, asks with GET. token may be empty.
func (a *agent) send(target string, form url.Values, token string) (*answer, error) {
	return a.sendUntil(context.Background(), target, form, token)
}

// sendUntil is send that gives up when ctx is done.
func (a *agent) sendUntil(ctx context.Context, target string, form url.Values, token string) (*answer, error) {
	method, body := "GET", io.Reader(nil)
	if form != nil {
		method, body = "POST", strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := a.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	got := &answer{status: response.StatusCode, header: response.Header, body: string(content)}
	if bytes.HasPrefix(content, []byte("{")) {
		err = json.Unmarshal(content, &got.told)
	}
	return got, err
}

// must sends a request that is answered with this status.
func (a *agent) must(t *testing.T, status int, target string, form url.Values, token string) *answer {
	t.Helper()
	got, err := a.send(target, form, token)
	if err != nil {
		t.Fatal(err)
	}
	if got.status != status {
		t.Fatalf("%s: status %d, want %d: %s", target, got.status, status, got.body)
	}
	return got
}

// text is a member of the answer that is text.
func (a *answer) text(name string) string {
	text, _ := a.told[name].(string)
	return text
}

// param is a parameter of the redirect.
func (a *answer) param(name string) string {
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}

// The public client native, and the example of RFC 7636, Appendix B.
const (
	nativeURI = "http://127.0.0.1/callback"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// authorization is an authorization request of the public client native.
func authorization() string {
	return "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"native"}, "redirect_uri": {nativeURI},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}}.Encode()
}

func redemption(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {"native"}, "code": {code}, "redirect_uri": {nativeURI}, "code_verifier": {verifier}}
}

func refreshing(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {"native"}, "refresh_token": {token}}
}

func revocation(token string) url.Values {
	return url.Values{"client_id": {"native"}, "token": {token}}
}

// job is a request for a token of the client job.
func job() url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {"job"}, "client_secret": {"job-secret"}}
}

// atOnce calls do for each number below n, all released at the same moment.
func atOnce(n int, do func(int)) {
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-release
			do(i)
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}
