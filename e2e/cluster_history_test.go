package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// family is a code with all that comes of it. What is asked about it, and answered,
// is a history.
type family struct {
	mu      sync.Mutex
	spends  []string // the code, and the refresh token of each answer
	access  []string // nothing, and the access token of each answer
	history []porcupine.Operation
}

// ask is a request about a family: spend, revoke, drop or look, with a number.
type ask struct {
	what string
	n    int
	at   string // the server
}

// The answers to an ask. No answer, and 503, leave open whether it happened.
const (
	yes     = "yes"
	no      = "no"
	unclear = "unclear"
)

// fate is the state of a family: which of its codes and refresh tokens is the next to
// be spent, whether all has ended, and which access tokens were dropped alone.
type fate struct {
	next    int
	ended   bool
	dropped uint64
}

// familyModel is what a family may do, one request after the other:
//
//   - spend: a code or refresh token works once. A second use ends the family.
//   - revoke: it ends.
//   - drop: one access token ends, which has this number.
//   - look: an access token is alive until then.
var familyModel = porcupine.Model{
	Init: func() any { return fate{} },
	Step: func(state, input, output any) (bool, any) {
		f, a := state.(fate), input.(ask)
		want := no
		switch a.what {
		case "spend":
			switch {
			case a.n < f.next:
				f.ended = true
			case a.n == f.next && !f.ended:
				want = yes
				f.next++
			}
		case "revoke":
			want, f.ended = yes, true
		case "drop":
			want, f.dropped = yes, f.dropped|1<<a.n
		case "look":
			if !f.ended && f.dropped&(1<<a.n) == 0 {
				want = yes
			}
		}
		return output == want || output == unclear, f
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %v", input, output) },
}

// TestFamilyModel shows what a history must not have.
func TestFamilyModel(t *testing.T) {
	// Each is "call return what number answer".
	for name, row := range map[string]struct {
		history []string
		want    porcupine.CheckResult
	}{
		"a chain":                              {[]string{"1 2 spend 0 yes", "3 4 spend 1 yes", "5 6 look 1 yes", "7 8 look 2 yes"}, porcupine.Ok},
		"a code with two winners":              {[]string{"1 4 spend 0 yes", "2 3 spend 0 yes"}, porcupine.Illegal},
		"a refresh token with two winners":     {[]string{"1 2 spend 0 yes", "3 6 spend 1 yes", "4 5 spend 1 yes"}, porcupine.Illegal},
		"a code that is lost":                  {[]string{"1 2 spend 0 no"}, porcupine.Illegal},
		"a token that is lost":                 {[]string{"1 2 spend 0 yes", "3 4 look 1 no"}, porcupine.Illegal},
		"a refresh token that is lost":         {[]string{"1 2 spend 0 yes", "3 4 spend 1 no"}, porcupine.Illegal},
		"revoked and alive":                    {[]string{"1 2 spend 0 yes", "3 4 revoke 1 yes", "5 6 look 1 yes"}, porcupine.Illegal},
		"dropped and alive":                    {[]string{"1 2 spend 0 yes", "3 4 drop 1 yes", "5 6 look 1 yes"}, porcupine.Illegal},
		"alive while it is revoked":            {[]string{"1 2 spend 0 yes", "3 6 revoke 1 yes", "4 5 look 1 yes"}, porcupine.Ok},
		"dead, and alive again":                {[]string{"1 2 spend 0 yes", "3 8 revoke 1 yes", "4 5 look 1 no", "6 7 look 1 yes"}, porcupine.Illegal},
		"a second use that ends nothing":       {[]string{"1 2 spend 0 yes", "3 4 spend 0 no", "5 6 look 1 yes"}, porcupine.Illegal},
		"an unclear use that happened":         {[]string{"1 99 spend 0 unclear", "2 3 spend 0 no"}, porcupine.Ok},
		"an unclear use that did not happen":   {[]string{"1 99 spend 0 unclear", "2 3 spend 0 yes", "4 5 look 1 yes"}, porcupine.Ok},
		"an unclear use that happens and does": {[]string{"1 99 spend 0 unclear", "2 3 spend 0 no", "4 5 spend 0 yes"}, porcupine.Illegal},
	} {
		t.Run("R243 "+name, func(t *testing.T) {
			var history []porcupine.Operation
			for _, line := range row.history {
				var o porcupine.Operation
				var a ask
				var output string
				fmt.Sscan(line, &o.Call, &o.Return, &a.what, &a.n, &output)
				o.Input, o.Output = a, output
				history = append(history, o)
			}
			if got := porcupine.CheckOperationsTimeout(familyModel, history, time.Minute); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

// load asks servers about families, and keeps the histories.
type load struct {
	*testing.T
	*agent
	servers []*replica
	began   time.Time
	done    chan struct{}
	workers sync.WaitGroup

	// By server: how many answers it gave to what was asked, and how many 503; and
	// what ends when the server is paused, so that those who asked it give up.
	served, refused []atomic.Int64
	awake           []atomic.Pointer[awake]

	mu       sync.Mutex
	families []*family
}

// awake lasts until a server is paused.
type awake struct {
	context.Context
	end func()
}

// startLoad begins to ask, until stop.
func startLoad(t *testing.T, servers []*replica) *load {
	l := &load{T: t, agent: newAgent(15 * time.Second), servers: servers, began: time.Now(), done: make(chan struct{}),
		served: make([]atomic.Int64, len(servers)), refused: make([]atomic.Int64, len(servers)), awake: make([]atomic.Pointer[awake], len(servers))}
	for n := range servers {
		l.wake(n)
	}
	t.Cleanup(l.stop)
	for range 6 {
		l.workers.Go(func() {
			for {
				select {
				case <-l.done:
					return
				default:
					l.live(rand.IntN(2) * 2)
				}
			}
		})
	}
	return l
}

func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.workers.Wait()
}

// pause stops a server in the middle of what it does.
func (l *load) pause(n int) {
	pause(l.T, l.servers[n].cmd)
	l.awake[n].Load().end()
}

// wake lets a server go on.
func (l *load) wake(n int) {
	ctx, end := context.WithCancel(context.Background())
	l.awake[n].Store(&awake{ctx, end})
	l.servers[n].cmd.Process.Signal(syscall.SIGCONT)
}

// live begins a family and asks about it, from so many more sides at once.
func (l *load) live(more int) {
	n := rand.IntN(len(l.servers))
	got := l.request(n, authorization(), nil, "")
	if got == nil || got.param("code") == "" {
		return
	}
	f := &family{spends: []string{got.param("code")}, access: []string{""}}
	l.mu.Lock()
	l.families = append(l.families, f)
	l.mu.Unlock()
	var sides sync.WaitGroup
	for range 1 + more {
		sides.Go(func() {
			for range 12 / (1 + more) {
				l.about(f, rand.IntN(len(l.servers)), f.any())
			}
		})
	}
	sides.Wait()
}

// any is something to ask about a family.
func (f *family) any() ask {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := len(f.spends) - 1
	some := 0 // an access token, or a refresh token
	if last > 0 {
		some = 1 + rand.IntN(last)
	}
	switch dice := rand.IntN(100); {
	case dice < 50 || some == 0:
		return ask{what: "spend", n: last}
	case dice < 53:
		return ask{what: "spend", n: rand.IntN(last + 1)}
	case dice < 58:
		return ask{what: "revoke", n: some}
	case dice < 66:
		return ask{what: "drop", n: some}
	default:
		return ask{what: "look", n: some}
	}
}

// about asks a server something about a family, and keeps what it answers.
func (l *load) about(f *family, n int, a ask) {
	a.at = l.servers[n].URL
	f.mu.Lock()
	spent, access := f.spends[a.n], f.access[a.n]
	f.mu.Unlock()
	path, form, token, wrong := "/oauth/token", url.Values(nil), "", 400
	switch {
	case a.what == "spend" && a.n == 0:
		form = redemption(spent)
	case a.what == "spend":
		form = refreshing(spent)
	case a.what == "revoke":
		path, form = "/oauth/revoke", revocation(spent)
	case a.what == "drop":
		path, form = "/oauth/revoke", revocation(access)
	default:
		path, token, wrong = "/oauth/token/info", access, 401
	}
	o := porcupine.Operation{Input: a, Call: int64(time.Since(l.began)), Return: math.MaxInt64, Output: unclear}
	got := l.request(n, path, form, token)
	switch {
	case got == nil && a.what == "look":
		return
	case got == nil:
	case got.status == 200:
		o.Output = yes
	case got.status == wrong && (wrong == 401 || got.text("error") == "invalid_grant"):
		o.Output = no
	default:
		l.Errorf("%+v: status %d: %s", a, got.status, got.body)
	}
	if got != nil {
		o.Return = int64(time.Since(l.began))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history = append(f.history, o)
	if a.what == "spend" && o.Output == yes {
		if len(f.spends) != a.n+1 {
			l.Errorf("%+v was answered, and there were %d already", a, len(f.spends))
			return
		}
		f.spends = append(f.spends, got.text("refresh_token"))
		f.access = append(f.access, got.text("access_token"))
	}
}

// request asks one of the servers. It returns nil if it is not clear whether that
// happened: without an answer, and after 503.
func (l *load) request(n int, path string, form url.Values, token string) *answer {
	ctx := context.Context(l.awake[n].Load())
	if ctx.Err() != nil {
		var cancel func()
		ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
	}
	got, err := l.sendUntil(ctx, l.servers[n].URL+path, form, token)
	switch {
	case err != nil:
		if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
			time.Sleep(5 * time.Millisecond) // it is not there
		}
		return nil
	case got.status == 503 && got.header.Get("Retry-After") != "", got.param("error") == "server_error":
		l.refused[n].Add(1)
		return nil
	case got.status >= 500:
		l.Errorf("%s: status %d, %v: %s", path, got.status, got.header, got.body)
		return nil
	}
	l.served[n].Add(1)
	return got
}

// serves waits until each of these servers has answered more of what was asked.
func (l *load) serves(when string, which ...int) {
	l.Helper()
	l.counts(l.served, 50, when+": it does not serve", which)
}

// refuses waits until both servers have answered 503.
func (l *load) refuses(when string) {
	l.Helper()
	l.counts(l.refused, 2, when+": it does not say 503", []int{0, 1})
}

func (l *load) counts(counters []atomic.Int64, more int, otherwise string, which []int) {
	l.Helper()
	for _, n := range which {
		want := counters[n].Load() + int64(more)
		within(l.T, 20*time.Second+time.Duration(more)*50*time.Millisecond, fmt.Sprintf("%s: server %d", otherwise, n+1), func() bool { return counters[n].Load() >= want })
	}
}

// check compares each history with the model.
func (l *load) check() {
	l.Helper()
	operations, open, bad := 0, 0, 0
	for _, f := range l.families {
		operations += len(f.history)
		for _, o := range f.history {
			if o.Output == unclear {
				open++
			}
		}
		if result := porcupine.CheckOperationsTimeout(familyModel, f.history, 20*time.Second); result != porcupine.Ok {
			var lines strings.Builder
			for _, o := range f.history {
				fmt.Fprintf(&lines, "%12.6f %12.6f %v\n", float64(o.Call)/1e9, float64(o.Return)/1e9, familyModel.DescribeOperation(o.Input, o.Output))
			}
			l.Errorf("the history of a family is %s:\n%s", result, &lines)
			if bad++; bad == 5 {
				break
			}
		}
	}
	l.Logf("%d requests about %d families, %d of them unclear", operations, len(l.families), open)
}
