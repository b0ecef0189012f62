package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// long is set by LONG=1: the tests of load and abuse run at full length.
var long = os.Getenv("LONG") != ""

// proc reads a file of the server's process.
func (s *server) proc(t *testing.T, name string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("looks at the process in /proc")
	}
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// resident is the memory that the server uses, in bytes.
func (s *server) resident(t *testing.T) int {
	t.Helper()
	kib, err := strconv.Atoi(regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(s.proc(t, "status"))[1])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// anyNumber of descriptors may be open.
const anyNumber = math.MaxInt

// descriptors is how many the server has open. It waits until there are at most so
// many, or ten seconds.
func (s *server) descriptors(t *testing.T, most int) (open int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "fd"))
		if err != nil {
			t.Fatal(err)
		}
		if open = len(entries); open <= most || time.Now().After(deadline) {
			return open
		}
	}
}

// goroutines ends the server, and returns what its goroutines did, without those of
// the runtime.
func (s *server) goroutines(t *testing.T) []string {
	t.Helper()
	s.ended = true
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, dump, _ := strings.Cut(s.stderr(t), "SIGQUIT: quit")
		if dump, _, done := strings.Cut(dump, "\nrax "); done || time.Now().After(deadline) {
			return slices.DeleteFunc(strings.Split(dump, "\n\n"), func(stack string) bool {
				return !regexp.MustCompile(`(?m)^(main|net/http|os/signal)\.`).MatchString(stack)
			})
		}
	}
}

// wantIdle ends the server, which nobody asks any more. It wants no more than so
// many open descriptors, and no goroutine of a request.
func (s *server) wantIdle(t *testing.T, open int) {
	t.Helper()
	if left := s.descriptors(t, open); left > open {
		t.Errorf("%d descriptors are open, and %d were at first", left, open)
	}
	// main, two for signals, the listener, the sweeper, and one that writes the log.
	if got := s.goroutines(t); len(got) < 4 || len(got) > 6 {
		t.Errorf("%d goroutines: %s", len(got), strings.Join(got, "\n\n"))
	}
}

// eachOf calls do for each number below n, eight at a time.
func eachOf(n int, do func(int)) {
	var workers sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				do(i)
			}
		})
	}
	workers.Wait()
}

// TestBounded is R177: what is begun and not finished, and who signs in again and
// again, takes a bounded amount of memory.
func TestBounded(t *testing.T) {
	times := 4_000
	if long {
		times = 50_000
	}
	challenge := "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	authorize := "/oauth/authorize?response_type=code&client_id=native&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback" + challenge
	login := func(t *testing.T, s *server, client *http.Client) (cookie *http.Cookie, form url.Values) {
		t.Helper()
		response, err := client.Get(s.URL + "/login")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		page, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		token := fieldOfPage.FindSubmatch(page)
		return response.Cookies()[0], url.Values{"form_token": {string(token[2])}, "username": {"alice"}, "password": {"wonderland"}}
	}
	for name, prepare := range map[string]func(*testing.T, *server, *http.Client) func() (*http.Request, error){
		"abandoned authorizations": func(t *testing.T, s *server, client *http.Client) func() (*http.Request, error) {
			return func() (*http.Request, error) { return http.NewRequest("GET", s.URL+authorize, nil) }
		},
		"abandoned consents": func(t *testing.T, s *server, client *http.Client) func() (*http.Request, error) {
			cookie, form := login(t, s, client)
			request, _ := http.NewRequest("POST", s.URL+"/login", strings.NewReader(form.Encode()))
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.AddCookie(cookie)
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			session := response.Cookies()[0]
			return func() (*http.Request, error) {
				request, err := http.NewRequest("GET", s.URL+authorize, nil)
				request.AddCookie(session)
				return request, err
			}
		},
		"sign-ins": func(t *testing.T, s *server, client *http.Client) func() (*http.Request, error) {
			cookie, form := login(t, s, client)
			return func() (*http.Request, error) { // a browser that forgets its session, so that none is replaced
				request, err := http.NewRequest("POST", s.URL+"/login", strings.NewReader(form.Encode()))
				request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				request.AddCookie(cookie)
				return request, err
			}
		},
	} {
		t.Run("R177 "+name, func(t *testing.T) {
			s := start(t, "-log", "off")
			open := s.descriptors(t, anyNumber)
			client := &http.Client{
				Transport:     &http.Transport{MaxIdleConnsPerHost: 8},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			next := prepare(t, s, client)
			send := func(int) {
				request, err := next()
				if err != nil {
					t.Error(err)
					return
				}
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				io.Copy(io.Discard, response.Body)
				if response.StatusCode >= 400 {
					t.Errorf("status %d", response.StatusCode)
				}
			}
			eachOf(500, send)
			before := s.resident(t)
			eachOf(times, send)
			client.CloseIdleConnections()
			after := s.resident(t)
			t.Logf("%d MiB resident before %d of them, %d MiB after", before>>20, times, after>>20)
			// In the long run this finds a few hundred bytes each.
			if grown := after - before; grown > 32<<20 {
				t.Errorf("%d MiB more resident memory", grown>>20)
			}
			s.wantIdle(t, open)
		})
	}
}

// TestSlowSockets is R172: 300 connections that send or read too slowly do not
// keep honest clients waiting, and are cut off.
func TestSlowSockets(t *testing.T) {
	const head = "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n"
	const page = "GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n" // a thousand are more than buffers hold
	kinds := []struct {
		name, first, more string
		reads             bool
		within            time.Duration // of being cut off
	}{
		{"a header that does not end", head + "X-A: ", "a", true, 15 * time.Second},
		{"a body that does not end", head + "\r\n", "a", true, 35 * time.Second},
		{"who never reads", strings.Repeat(page, 1000), page, false, 100 * time.Second},
	}
	t.Run("R172 300 slow sockets", func(t *testing.T) {
		s := start(t, "-log", "off")
		address := strings.TrimPrefix(s.URL, "http://")
		open := s.descriptors(t, anyNumber)
		began := time.Now()
		var slow sync.WaitGroup
		var cut [3]atomic.Int64
		give := make(chan struct{})
		for n := range 300 {
			kind := n % len(kinds)
			slow.Go(func() {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				closed := make(chan struct{})
				if kinds[kind].reads {
					go func() {
						io.Copy(io.Discard, conn)
						close(closed)
					}()
				} else {
					conn.(*net.TCPConn).SetReadBuffer(4 << 10)
				}
				conn.SetWriteDeadline(time.Now().Add(time.Second))
				io.WriteString(conn, kinds[kind].first)
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for {
					select {
					case <-give:
						return
					case <-closed:
						cut[kind].Add(1)
						return
					case <-tick.C:
					}
					conn.SetWriteDeadline(time.Now().Add(time.Second))
					if _, err := io.WriteString(conn, kinds[kind].more); err != nil && !os.IsTimeout(err) {
						cut[kind].Add(1)
						return
					}
				}
			})
		}
		// Honest clients meanwhile, until those are cut off that must be.
		watched := kinds[:1]
		if long {
			watched = kinds
		}
		var mu sync.Mutex
		var took []time.Duration
		client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"job"}, "client_secret": {"job-secret"}}
		honest := func(int) {
			sent := time.Now()
			response, err := client.PostForm(s.URL+"/oauth/token", form)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			io.Copy(io.Discard, response.Body)
			if response.StatusCode != http.StatusOK {
				t.Errorf("status %d", response.StatusCode)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(sent))
		}
		for kind, watched := range watched {
			for !t.Failed() && cut[kind].Load() < 100 {
				if time.Since(began) > watched.within {
					t.Fatalf("%s: %d of 100 were cut off in %v", watched.name, cut[kind].Load(), watched.within)
				}
				eachOf(40, honest)
				time.Sleep(50 * time.Millisecond)
			}
			t.Logf("%s: all were cut off after %v", watched.name, time.Since(began).Round(time.Second))
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("p99 of %d token requests: %v", len(took), p99)
		if p99 > time.Second {
			t.Errorf("p99 is %v", p99)
		}
		close(give)
		slow.Wait()
		s.wantIdle(t, open)
	})
}

// TestStopUnderLoad is R169: a server that is stopped while 64 callers issue ends
// in time, cuts no answer, and the next one knows all tokens that were answered.
func TestStopUnderLoad(t *testing.T) {
	rounds := 2
	if long {
		rounds = 50
	}
	t.Run("R169 SIGTERM while 64 callers issue", func(t *testing.T) {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "fixtures.json"), []byte(fixtures), 0o600); err != nil {
			t.Fatal(err)
		}
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"job"}, "client_secret": {"job-secret"}}
		for range rounds {
			s := startIn(t, folder, "-fixtures", "fixtures.json", "-log", "off")
			var mu sync.Mutex
			var tokens []string
			var callers sync.WaitGroup
			some := make(chan struct{})
			for range 64 {
				callers.Go(func() {
					for {
						token, err := s.issue(form)
						if err != nil {
							t.Error(err)
						}
						if token == "" {
							return
						}
						mu.Lock()
						if tokens = append(tokens, token); len(tokens) == 1000 {
							close(some)
						}
						mu.Unlock()
					}
				})
			}
			select {
			case <-some:
			case <-time.After(30 * time.Second):
				t.Fatal("that is no load")
			}
			stopped := time.Now()
			s.cmd.Process.Signal(syscall.SIGTERM)
			callers.Wait()
			s.cmd.Wait()
			took := time.Since(stopped)
			if status := s.cmd.ProcessState.ExitCode(); status != 0 || took > 8*time.Second {
				t.Errorf("exit status %d after %v", status, took)
			}
			s = startIn(t, folder, "-log", "off")
			dead := atomic.Int64{}
			eachOf(len(tokens), func(n int) {
				request, _ := http.NewRequest("GET", s.URL+"/oauth/token/info", nil)
				request.Header.Set("Authorization", "Bearer "+tokens[n-1])
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				io.Copy(io.Discard, response.Body)
				if response.StatusCode != http.StatusOK {
					dead.Add(1)
				}
			})
			t.Logf("%d tokens, stopped after %v", len(tokens), took.Round(time.Millisecond))
			if dead.Load() > 0 {
				t.Errorf("%d of %d tokens that were answered are dead", dead.Load(), len(tokens))
			}
			s.cmd.Process.Signal(syscall.SIGTERM)
			s.cmd.Wait()
		}
	})
}

// issue asks for a token on a connection of its own. Without an answer, because the
// server is gone, the token is empty; a part of an answer is an error.
func (s *server) issue(form url.Values) (token string, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return "", nil
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetLinger(0)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	body := form.Encode()
	if _, err := fmt.Fprintf(conn, "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return "", nil
	}
	in := bufio.NewReader(conn)
	if _, err := in.Peek(1); err != nil {
		return "", nil
	}
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return "", fmt.Errorf("half an answer: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d, %w: %s", response.StatusCode, err, answer)
	}
	match := regexp.MustCompile(`"access_token":"([^"]+)"`).FindSubmatch(answer)
	if match == nil {
		return "", fmt.Errorf("no token in %s", answer)
	}
	return string(match[1]), nil
}
