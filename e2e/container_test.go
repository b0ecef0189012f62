package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// image is an image that is built and unpacked.
type image struct {
	root   string // folder
	config struct {
		User        string
		Env         []string
		Entrypoint  []string
		WorkingDir  string
		Volumes     map[string]any
		Healthcheck struct{ Test []string }
	}
}

// newImage builds the image without a network, and unpacks it.
func newImage(t *testing.T) *image {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "image", "grantling"), ".")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if err := os.Mkdir(filepath.Join(dir, "image", "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	buildah := func(args ...string) []byte {
		cmd := exec.Command("buildah", append([]string{"--storage-driver", "vfs", "--root", filepath.Join(dir, "store"), "--runroot", filepath.Join(dir, "run")}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		var problem bytes.Buffer
		cmd.Stderr = &problem
		output, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", cmd, err, problem.String())
		}
		return output
	}
	buildah("build", "--isolation", "chroot", "--format", "docker", "-t", "grantling", "-f", "../Dockerfile", filepath.Join(dir, "image"))
	i := &image{root: root}
	var inspected struct {
		Docker struct{ Config any }
	}
	inspected.Docker.Config = &i.config
	if err := json.Unmarshal(buildah("inspect", "--type", "image", "grantling"), &inspected); err != nil {
		t.Fatal(err)
	}
	container := strings.TrimSpace(string(buildah("from", "grantling")))
	mounted := strings.TrimSpace(string(buildah("mount", container)))
	if output, err := exec.Command("cp", "-a", mounted, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, above := range []string{dir, filepath.Dir(dir)} { // user 65532 passes through
		os.Chmod(above, 0o755)
	}
	return i
}

// command is one in the image, by its user and in its environment.
func (i *image) command(t *testing.T, env, args []string) *exec.Cmd {
	t.Helper()
	var uid, gid uint32
	if _, err := fmt.Sscanf(i.config.User, "%d:%d", &uid, &gid); err != nil {
		t.Fatalf("user %q: %v", i.config.User, err)
	}
	return &exec.Cmd{Path: args[0], Args: args, Dir: i.config.WorkingDir, Env: append(append([]string{}, i.config.Env...), env...),
		SysProcAttr: &syscall.SysProcAttr{Chroot: i.root, Credential: &syscall.Credential{Uid: uid, Gid: gid}, Pdeathsig: syscall.SIGKILL}}
}

// TestContainer: the image is built without a network, and what is in it runs by
// itself.
func TestContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root folder")
	}
	i := newImage(t)
	// A port of the host: here the network is not the image's own.
	address := freePorts(t, 1)[0]
	port := strings.TrimPrefix(address, "127.0.0.1:")

	t.Run("R225 what is in it", func(t *testing.T) {
		entries, err := os.ReadDir(i.root)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		c := i.config
		if got := strings.Join(names, " "); got != "data grantling" || c.User != "65532:65532" || c.Volumes["/data"] == nil || strings.Join(c.Entrypoint, " ") != "/grantling" {
			t.Errorf("%s, %+v", got, c)
		}
		if env := strings.Join(c.Env, " "); !strings.Contains(env, "GRANTLING_ADDR=0.0.0.0:9096") || !strings.Contains(env, "GRANTLING_DB=/data/grantling.db") {
			t.Errorf("environment %s", env)
		}
		info, err := os.Stat(filepath.Join(i.root, "data"))
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65532 {
			t.Errorf("/data: %v, %v", info, err)
		}
	})
	page, err := os.ReadFile("../docs/containers.md")
	if err != nil {
		t.Fatal(err)
	}
	var composed []string
	for _, match := range regexp.MustCompile(`(?m)^      (GRANTLING_\w+): "(.*)"$`).FindAllStringSubmatch(string(page), -1) {
		composed = append(composed, match[1]+"="+match[2])
	}
	if err := os.WriteFile(filepath.Join(i.root, "fixtures.json"), []byte(fixtures), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string][]string{"as it is": nil, "as in the compose example": composed} {
		t.Run("R225 it runs "+name, func(t *testing.T) {
			env := append(env, "GRANTLING_ADDR=0.0.0.0:"+port) // the last one counts
			healthy := func() bool {
				return i.command(t, env, i.config.Healthcheck.Test[1:]).Run() == nil
			}
			cmd := i.command(t, env, i.config.Entrypoint)
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			defer func() {
				cmd.Process.Signal(syscall.SIGTERM)
				if err := <-ended; err != nil {
					t.Errorf("%v: %s", err, said.String())
				}
			}()
			if !healthy() {
				t.Fatalf("the health check fails: %s", said.String())
			}
			issuer := "http://127.0.0.1:" + port
			if env[0] != "GRANTLING_ADDR=0.0.0.0:"+port {
				issuer = "http://auth:9096"
			}
			if got := issuerAt(t, address); got != issuer {
				t.Errorf("issuer %s, want %s", got, issuer)
			}
			_, err := os.Stat(filepath.Join(i.root, "data", "grantling.db"))
			if isKept := err == nil; isKept != (name == "as it is") {
				t.Errorf("a database in /data: %t", isKept)
			}
			if name == "as it is" {
				os.Remove(filepath.Join(i.root, "data", "grantling.db"))
				return
			}
			// The way of a mapped port.
			request, _ := http.NewRequest("POST", "http://"+address+"/_control/issuer", strings.NewReader(`{"issuer":"http://localhost:49153"}`))
			request.Host = "localhost:49153"
			response, err := http.DefaultClient.Do(request)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", response, err)
			}
			response.Body.Close()
			if got := issuerAt(t, address); got != "http://localhost:49153" {
				t.Errorf("issuer %s after it was set", got)
			}
			if !healthy() {
				t.Error("the health check fails with another issuer")
			}
		})
	}
}

// issuerAt is the issuer in the metadata.
func issuerAt(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var metadata struct{ Issuer string }
	body, _ := io.ReadAll(response.Body)
	if err := json.Unmarshal(body, &metadata); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return metadata.Issuer
}
