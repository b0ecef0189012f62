package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// balancer is in front of servers. It asks each for /healthz all the time, and sends
// requests to those that answer. One that takes no connection is not asked again
// before it is healthy.
type balancer struct {
	URL     string
	servers []*backend
	next    atomic.Uint32
}

type backend struct {
	host    string
	healthy atomic.Bool
	took    atomic.Int64 // requests
}

func newBalancer(t *testing.T, servers []*replica) *balancer {
	b := new(balancer)
	for _, r := range servers {
		to := &backend{host: strings.TrimPrefix(r.URL, "http://")}
		b.servers = append(b.servers, to)
		go to.watch(t)
	}
	ts := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.Host = "http", r.In.Host },
		Transport: b,
	})
	t.Cleanup(ts.Close)
	b.URL = ts.URL
	return b
}

// toServer makes a connection for each request: one that is kept may be closed by a
// server that stops, at the moment in which a request is sent on it.
var toServer = &http.Transport{DisableKeepAlives: true}

func (b *balancer) RoundTrip(r *http.Request) (response *http.Response, err error) {
	body := []byte(nil)
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	err = errors.New("no server is healthy")
	for range 2 * len(b.servers) {
		to := b.servers[int(b.next.Add(1))%len(b.servers)]
		if !to.healthy.Load() {
			continue
		}
		out := r.Clone(r.Context())
		out.URL.Host, out.Body = to.host, io.NopCloser(bytes.NewReader(body))
		response, err = toServer.RoundTrip(out)
		if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
			to.healthy.Store(false)
			continue
		}
		to.took.Add(1)
		break
	}
	return response, err
}

// watch asks for the health of a server, until the test ends.
func (to *backend) watch(t *testing.T) {
	client := http.Client{Transport: toServer} // a slow answer is no stop
	for t.Context().Err() == nil {
		response, err := client.Get("http://" + to.host + "/healthz")
		if err == nil {
			response.Body.Close()
		}
		to.healthy.Store(err == nil && response.StatusCode == 200)
		time.Sleep(100 * time.Millisecond)
	}
}

// TestRollingRestart is R245.
func TestRollingRestart(t *testing.T) {
	rounds := 2
	if long {
		rounds = 25
	}
	etcd := startEtcd(t, 3)
	t.Run("R245 both servers one by one, under load", func(t *testing.T) {
		servers := startReplicas(t, etcd, "", "-log", "off", "-auto-approve", "alice")
		b := newBalancer(t, servers)
		for _, to := range b.servers {
			within(t, 10*time.Second, "a server is not healthy", to.healthy.Load)
		}
		a := newAgent(30 * time.Second)
		a.signIn(t, b.URL, "alice", "wonderland")
		old := a.must(t, 200, b.URL+"/oauth/token", redemption(a.code(t, b.URL)), "").text("access_token")
		var answered atomic.Int64
		want := func(status int, target string, form url.Values, token string) *answer {
			got, err := a.send(b.URL+target, form, token)
			switch {
			case err != nil:
				t.Error(err)
				return new(answer)
			case got.status != status:
				t.Errorf("%s: status %d, want %d: %s", target, got.status, status, got.body)
			}
			answered.Add(1)
			return got
		}
		done, workers := make(chan struct{}), sync.WaitGroup{}
		stop := sync.OnceFunc(func() { close(done); workers.Wait() })
		defer stop()
		for range 6 {
			workers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					everything(t, want, old)
				}
			})
		}
		more := func(counter *atomic.Int64) {
			n := counter.Load() + 50
			within(t, 20*time.Second, "there is no load", func() bool { return counter.Load() >= n })
		}
		for range rounds {
			for n, r := range servers {
				more(&b.servers[n].took)
				r.cmd.Process.Signal(syscall.SIGTERM)
				within(t, 5*time.Second, "it does not say that it stops", func() bool {
					got, err := a.send(r.URL+"/healthz", nil, "")
					return err == nil && got.status == 503 && got.body == "stopping\n"
				})
				a.must(t, 200, r.URL+"/oauth/token", job(), "") // for those who do not know yet
				r.cmd.Wait()                                    // a second signal would end it at once
				more(&answered)
				r.start(t)
				more(&b.servers[n].took)
			}
		}
		stop()
		t.Logf("%d requests were answered during %d restarts", answered.Load(), rounds*len(servers))
	})
}

// everything asks for what a client asks for. old is a token from before.
func everything(t *testing.T, want func(status int, target string, form url.Values, token string) *answer, old string) {
	token := want(200, "/oauth/token", redemption(want(303, authorization(), nil, "").param("code")), "")
	token = want(200, "/oauth/token", refreshing(token.text("refresh_token")), "")
	want(200, "/userinfo", nil, token.text("access_token"))
	want(200, "/oauth/revoke", revocation(token.text("refresh_token")), "")
	want(401, "/userinfo", nil, token.text("access_token"))
	want(200, "/oauth/token/info", nil, old)
	if page := want(200, "/", nil, ""); !strings.Contains(page.body, "Sign out <bdi>alice") {
		t.Error("alice is not signed in any more")
	}
}
