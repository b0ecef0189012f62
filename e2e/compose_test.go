package e2e

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// composed is the example of docs/machines.md, to be run on this machine.
type composed struct {
	*testing.T
	dir   string
	local *strings.Replacer // the names of the services to addresses here
}

func newComposed(t *testing.T) *composed {
	names := []string{"etcd-1:2379", "etcd-1:2380", "etcd-2:2379", "etcd-2:2380", "etcd-3:2379", "etcd-3:2380", "auth-1:9096", "auth-2:9096", "localhost:9096"}
	var local []string
	for n, address := range freePorts(t, len(names)) {
		local = append(local, names[n], address)
	}
	return &composed{t, t.TempDir(), strings.NewReplacer(local...)}
}

// run runs a command until the test ends.
func (c *composed) run(env []string, args ...string) {
	said, err := os.CreateTemp(c.dir, filepath.Base(args[0]))
	if err != nil {
		c.Fatal(err)
	}
	defer said.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if output, _ := os.ReadFile(said.Name()); c.Failed() {
			c.Logf("%v:\n%s", args, output[max(0, len(output)-2000):])
		}
	})
}

// TestComposeOfSeveral runs what docs/machines.md has, with the names of the services
// replaced by addresses of this machine: three members, two servers and the balancer.
func TestComposeOfSeveral(t *testing.T) {
	page, err := os.ReadFile("../docs/machines.md")
	if err != nil {
		t.Fatal(err)
	}
	c := newComposed(t)
	t.Run("R240 the compose file", func(t *testing.T) {
		c.T = t
		members := regexp.MustCompile(`(?m)^    command: >\n((?:      .*\n)+)`).FindAllStringSubmatch(string(page), -1)
		var env []string
		for _, match := range regexp.MustCompile(`(?m)^    (GRANTLING_\w+): "(.*)"$`).FindAllStringSubmatch(string(page), -1) {
			env = append(env, match[1]+"="+strings.Replace(c.local.Replace(match[2]), "/fixtures.json", filepath.Join(c.dir, "fixtures.json"), 1))
		}
		balancer := regexp.MustCompile("(?s)```haproxy\n(.*?)```").FindStringSubmatch(string(page))
		if len(members) != 3 || len(env) != 3 || balancer == nil {
			t.Fatalf("%d members, %d variables, balancer %q", len(members), len(env), balancer)
		}
		for _, member := range members {
			args := strings.Fields(member[1])
			for _, port := range []string{":2379", ":2380"} { // it listens on its own address only
				member[1] = strings.ReplaceAll(member[1], "0.0.0.0"+port, args[2]+port)
			}
			member[1] = strings.Replace(member[1], "/data", filepath.Join(c.dir, args[2]), 1)
			c.run(nil, strings.Fields(c.local.Replace(member[1]))...)
		}
		if err := os.WriteFile(filepath.Join(c.dir, "fixtures.json"), []byte(fixtures), 0o600); err != nil {
			t.Fatal(err)
		}
		within(t, 30*time.Second, "a member is not healthy", func() bool {
			return exec.Command("etcdctl", "--endpoints", c.local.Replace("etcd-1:2379,etcd-2:2379,etcd-3:2379"), "endpoint", "health").Run() == nil
		})
		for _, name := range []string{"auth-1:9096", "auth-2:9096"} {
			mine := append([]string{"GRANTLING_ADDR=" + c.local.Replace(name)}, env...)
			c.run(mine, binary)
			ready := exec.Command(binary, "-ready")
			ready.Env = mine[:1]
			if output, err := ready.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
		}
		config := strings.Replace(c.local.Replace(balancer[1]), "bind :9096", "bind "+c.local.Replace("localhost:9096"), 1)
		file := filepath.Join(c.dir, "haproxy.cfg")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		c.run(nil, "haproxy", "-db", "-f", file)
		c.throughBalancer()
	})
}

// throughBalancer issues a token at one server and revokes it at the other.
func (c *composed) throughBalancer() {
	base := "http://" + c.local.Replace("localhost:9096")
	ask := func(base, path string, form url.Values) (int, string) {
		reply, err := http.PostForm(base+path, form)
		if err != nil {
			return 0, err.Error()
		}
		defer reply.Body.Close()
		answer, _ := io.ReadAll(reply.Body)
		return reply.StatusCode, strings.TrimSpace(string(answer))
	}
	job := func(name, value string) url.Values {
		return url.Values{"client_id": {"job"}, "client_secret": {"job-secret"}, name: {value}}
	}
	issue := func() (string, bool) {
		status, answer := ask(base, "/oauth/token", job("grant_type", "client_credentials"))
		return answer, status == http.StatusOK
	}
	var answer string
	within(c.T, 30*time.Second, "the balancer does not serve", func() (ok bool) { answer, ok = issue(); return ok })
	for began := time.Now(); time.Since(began) < 2*time.Second; { // it checks both meanwhile: one that is down gets nothing
		if answer, ok := issue(); !ok {
			c.Fatalf("after the balancer's check: %s", answer)
		}
	}
	token := regexp.MustCompile(`"access_token":"(.*?)"`).FindStringSubmatch(answer)
	if token == nil {
		c.Fatalf("through the balancer: %s", answer)
	}
	for _, name := range []string{"auth-1:9096", "auth-2:9096"} {
		if _, answer := ask("http://"+c.local.Replace(name), "/oauth/introspect", job("token", token[1])); !strings.Contains(answer, `"active":true`) {
			c.Errorf("at %s: %s", name, answer)
		}
	}
	if status, answer := ask(base, "/oauth/revoke", job("token", token[1])); status != http.StatusOK {
		c.Errorf("revoking: %d %s", status, answer)
	}
	for _, name := range []string{"auth-1:9096", "auth-2:9096"} {
		if _, answer := ask("http://"+c.local.Replace(name), "/oauth/introspect", job("token", token[1])); answer != `{"active":false}` {
			c.Errorf("at %s, revoked: %s", name, answer)
		}
	}
}
