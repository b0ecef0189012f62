package e2e

import (
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLimitsOverServers is R244: a guess counts at all servers, wherever it is made.
func TestLimitsOverServers(t *testing.T) {
	etcd := startEtcd(t, 3)
	all := startReplicas(t, etcd, "")
	a := newAgent(time.Minute)
	a.signIn(t, all[0].URL, "bob", "builder")
	device := a.must(t, 200, all[0].URL+"/oauth/device_authorization", url.Values{"client_id": {"native"}}, "")
	login := a.must(t, 200, all[0].URL+"/login", nil, "").form(nil)
	with := func(form url.Values, name, value string) url.Values {
		changed := url.Values{}
		for n, values := range form {
			changed[n] = values
		}
		changed.Set(name, value)
		return changed
	}
	alice := with(login, "username", "alice")
	for name, row := range map[string]struct {
		path         string
		form         url.Values
		guess, right string // the parameter
		limit        int    // of guesses in a minute
		wrong        int    // the status
	}{
		"client secrets":                      {"/oauth/token", job(), "client_secret", "job-secret", 50, 401},
		"passwords":                           {"/login", alice, "password", "wonderland", 10, 422},
		"passwords at the token endpoint":     {"/oauth/token", url.Values{"grant_type": {"password"}, "client_id": {"legacy"}, "client_secret": {"legacy-secret"}, "username": {"bob"}}, "password", "builder", 10, 400},
		"user codes":                          {"/device", login, "user_code", device.text("user_code"), 10, 422},
		"client secrets while it introspects": {"/oauth/introspect", url.Values{"client_id": {"web"}, "token": {"x"}}, "client_secret", webSecret, 50, 401},
	} {
		t.Run("R244 "+name, func(t *testing.T) {
			guesses := 2*row.limit + 20
			began := time.Now()
			var mu sync.Mutex
			statuses := make(map[int]int)
			atOnce(guesses, func(n int) {
				guess := with(row.form, row.guess, "BCDF-BC"+strconv.Itoa(n))
				got, err := a.send(all[n%2].URL+row.path, guess, "")
				for err == nil && strings.Contains(got.body, "too many people are signing in") { // it was not looked at
					got, err = a.send(all[n%2].URL+row.path, guess, "")
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				statuses[got.status]++
				if wait, err := strconv.Atoi(got.header.Get("Retry-After")); got.status == 429 && (err != nil || wait < 1 || wait > 60) {
					t.Errorf("429 has Retry-After %q", got.header.Get("Retry-After"))
				}
			})
			if took := time.Since(began); took > 50*time.Second {
				t.Fatalf("%d guesses took %v, and so the minute is over", guesses, took)
			}
			if statuses[row.wrong] != row.limit || statuses[429] != guesses-row.limit {
				t.Errorf("answers by status %v, want %d of %d and %d of 429", statuses, row.limit, row.wrong, guesses-row.limit)
			}
			for _, r := range all { // what is right has to wait as well
				a.must(t, 429, r.URL+row.path, with(row.form, row.guess, row.right), "")
			}
		})
	}
	t.Run("R244 no -control", func(t *testing.T) {
		refused := exec.CommandContext(t.Context(), binary, "-addr", "127.0.0.1:0", "-control", "-db", "etcd://"+etcd.hosts(0))
		output, err := refused.CombinedOutput()
		if line := string(output); refused.ProcessState.ExitCode() != 2 || strings.Count(line, "\n") != 1 || !strings.Contains(line, "-control and -db etcd://… do not go together") {
			t.Errorf("%v: %s", err, output)
		}
	})
}
