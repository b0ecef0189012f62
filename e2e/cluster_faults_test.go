package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestClusterFaults is R243: members and servers are killed and paused in turn, the
// leader too, and then more members than an etcd can do without.
func TestClusterFaults(t *testing.T) {
	during := time.Minute
	if long {
		during = 5 * time.Minute
	}
	t.Run("R243 kill and pause each in turn", func(t *testing.T) {
		etcd := startEtcd(t, 3)
		servers := startReplicas(t, etcd, "", "-auto-approve", "alice", "-log", "off")
		l := startLoad(t, servers)
		defer func() {
			for _, m := range etcd {
				m.wake()
			}
			l.wake(0)
			l.wake(1)
		}()
		l.serves("at first", 0, 1)
		for round := 0; !t.Failed() && (round < 2 || time.Since(l.began) < during); round++ {
			l.faultsOfMembers(etcd, round)
			l.faultsOfServers(round)
			l.lossOfQuorum(etcd, round)
		}
		l.stop()
		for n := range servers { // what was answered is there, at each of them
			eachOf(len(l.families), func(i int) {
				if f := l.families[i-1]; len(f.access) > 1 {
					l.about(f, n, ask{what: "look", n: len(f.access) - 1})
				}
			})
		}
		l.check()
	})
}

// TestLostAnswers: what was written although its answer was lost happens once, and
// what is asked for again does not happen later.
func TestLostAnswers(t *testing.T) {
	times := 400
	if long {
		times = 10_000
	}
	t.Run("R243 answers of etcd get lost, and requests come late", func(t *testing.T) {
		etcd := startEtcd(t, 3)
		var hosts []string
		for _, m := range etcd {
			ts := httptest.NewServer(unreliable("http://" + m.client))
			t.Cleanup(ts.Close)
			hosts = append(hosts, strings.TrimPrefix(ts.URL, "http://"))
		}
		db := "etcd://" + strings.Join(hosts, ",")
		servers := []*replica{startReplica(t, db, "-auto-approve", "alice"), startReplica(t, db, "-auto-approve", "alice")}
		l := startLoad(t, servers)
		l.counts(l.served, times, "it does not serve", []int{0, 1})
		l.stop()
		l.check()
	})
}

// unreliable is in front of a member. Of some transactions that write, it loses the
// answer; some it sends later, when nobody waits for it any more.
func unreliable(member string) http.Handler {
	target, _ := url.Parse(member)
	proxy := httputil.NewSingleHostReverseProxy(target)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		later := r.Clone(context.Background())
		later.Body = io.NopCloser(bytes.NewReader(body))
		switch dice := rand.IntN(100); {
		case dice < 60 || !bytes.Contains(body, []byte("request_put")):
			proxy.ServeHTTP(w, later)
			return
		case dice < 80:
			proxy.ServeHTTP(httptest.NewRecorder(), later)
		default:
			go func() {
				time.Sleep(rand.N(200 * time.Millisecond))
				proxy.ServeHTTP(httptest.NewRecorder(), later)
			}()
		}
		panic(http.ErrAbortHandler) // which closes the connection
	})
}

// TestStopWithoutEtcd: containers are killed ten seconds after they were asked to stop.
func TestStopWithoutEtcd(t *testing.T) {
	t.Run("R243 a server stops in time when all members are gone", func(t *testing.T) {
		etcd := startEtcd(t, 1)
		r := startReplica(t, "etcd://"+etcd.hosts(0))
		a := newAgent(30 * time.Second)
		a.must(t, 200, r.URL+"/oauth/token", job(), "")
		etcd[0].kill()
		if got := a.must(t, 503, r.URL+"/oauth/token", job(), ""); got.header.Get("Retry-After") == "" || got.text("error") != "temporarily_unavailable" {
			t.Errorf("%v, %s", got.header, got.body)
		}
		l, err := net.Listen("tcp", etcd[0].client)
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan bool)
		go func() {
			defer close(asked)
			defer l.Close()
			a.send(r.URL+"/oauth/token", job(), "")
		}()
		conn, err := l.Accept() // now that waits for etcd
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
		began := time.Now()
		r.stop()
		if took, status := time.Since(began), r.cmd.ProcessState.ExitCode(); status != 0 || took > 9*time.Second {
			t.Errorf("exit status %d after %v", status, took)
		}
		<-asked
	})
}

// faultsOfMembers ends one member after the other, and then the leader, and pauses
// them likewise. Servers move on to the next one, and so each fault meets them.
func (l *load) faultsOfMembers(etcd cluster, round int) {
	for _, pause := range []bool{false, true} {
		for n := range len(etcd) + 1 {
			m, name := etcd.leader(l.T), "the leader"
			if n < len(etcd) {
				m, name = etcd[n], etcd[n].name
			}
			name = fmt.Sprintf("round %d, %s, pause %t", round, name, pause)
			l.Log(time.Since(l.began).Round(time.Millisecond), name)
			if pause {
				m.pause()
			} else {
				m.kill()
			}
			l.serves(name, 0, 1)
			if pause {
				m.wake()
			} else {
				m.start()
			}
			etcd.leader(l.T)
			l.serves("after "+name, 0, 1)
		}
	}
}

// faultsOfServers ends or pauses one server after the other.
func (l *load) faultsOfServers(round int) {
	for n, r := range l.servers {
		other := len(l.servers) - 1 - n
		name := fmt.Sprintf("round %d, server %d", round, n+1)
		l.Log(time.Since(l.began).Round(time.Millisecond), name)
		r.kill()
		l.serves(name, other)
		r.start(l.T)
		l.serves("after "+name, 0, 1)
		l.pause(n)
		l.serves(name+" paused", other)
		l.wake(n)
		l.serves("after pause of "+name, 0, 1)
	}
}

// lossOfQuorum ends two of three members, or pauses them. Both servers say 503 until
// the members are back.
func (l *load) lossOfQuorum(etcd cluster, round int) {
	name := fmt.Sprintf("round %d, no quorum", round)
	l.Log(time.Since(l.began).Round(time.Millisecond), name)
	lost := cluster{etcd[round/2%3], etcd[(round/2+1)%3]}
	for _, m := range lost {
		if round%2 == 0 {
			m.kill()
		} else {
			m.pause()
		}
	}
	l.refuses(name)
	for _, m := range lost {
		if round%2 == 0 {
			m.start()
		} else {
			m.wake()
		}
	}
	etcd.leader(l.T)
	l.serves("after "+name, 0, 1)
}
