package grantlingtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// process is a server that runs.
type process struct {
	url      string
	log      log
	patience time.Duration
	cmd      *exec.Cmd
	stdin    io.Closer

	ended chan struct{} // closed when the process has ended
	err   error         // how it ended; to be read after that
}

// start runs a server and returns when it has told its URL. What fails comes
// with the last lines of standard error.
func start(o Options) (*process, error) {
	path := o.Binary
	if path == "" {
		b, err := theBinary()
		if err == nil {
			err = b.build()
		}
		if err != nil {
			return nil, fmt.Errorf("grantlingtest: %w", err)
		}
		path = b.path
	}
	args := []string{"-addr", "127.0.0.1:0", "-db", ":memory:", "-control", "-stop-with-stdin"}
	if o.Users != nil || o.Clients != nil {
		file, err := o.writeFixtures()
		if err != nil {
			return nil, fmt.Errorf("grantlingtest: %w", err)
		}
		defer os.Remove(file) // the server has read it when it tells its URL
		args = append(args, "-fixtures", file)
	}
	p := &process{patience: cmp.Or(o.patience, time.Minute), ended: make(chan struct{})}
	cmd := exec.Command(path, append(args, o.Args...)...)
	cmd.Stderr = &p.log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "GRANTLING_") })
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := cmp.Or(err1, err2); err != nil {
		return nil, fmt.Errorf("grantlingtest: %w", err)
	}
	p.cmd, p.stdin = cmd, stdin
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("grantlingtest: %w", err)
	}
	told := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(stdout)
		if line, err := lines.ReadString('\n'); err == nil {
			told <- strings.TrimSpace(line)
		}
		io.Copy(io.Discard, lines)
		p.err = cmd.Wait()
		close(p.ended)
	}()

	ctx, cancel := p.patient()
	defer cancel()
	select {
	case p.url = <-told:
		return p, nil
	case <-p.ended:
	case <-ctx.Done():
		defer p.kill()
	}
	return nil, fmt.Errorf("grantling did not start; %w", p.lastWords())
}

// writeFixtures writes the users and clients to a temporary file.
func (o Options) writeFixtures() (file string, err error) {
	content, err := json.Marshal(map[string]any{"users": append([]User{}, o.Users...), "clients": append([]Client{}, o.Clients...)})
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("", "grantlingtest-*.json") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	return f.Name(), errors.Join(err, f.Close())
}

// patient returns a context for what the server should do soon.
func (p *process) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), p.patience)
}

// stop ends the process. A process that ended before is an error.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return p.lastWords()
	default:
	}
	p.stdin.Close() // it stops at this
	ctx, cancel := p.patient()
	defer cancel()
	select {
	case <-p.ended:
		if p.err != nil {
			return p.lastWords()
		}
		return nil
	case <-ctx.Done():
		defer p.kill()
		return fmt.Errorf("grantling did not stop; %w", p.lastWords())
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// lastWords says whether the process runs, and what it logged last.
func (p *process) lastWords() error {
	const shown = 20
	state := "grantling runs, but does not answer"
	select {
	case <-p.ended:
		state = "grantling has ended (exit status 0)"
		if p.err != nil {
			state = fmt.Sprintf("grantling has ended (%v)", p.err)
		}
	case <-time.After(100 * time.Millisecond): // it may be about to end
	}
	lines := strings.Split(strings.TrimSpace(p.log.since(0)), "\n")
	return fmt.Errorf("%s; its log ends with:\n%s", state, strings.Join(lines[max(0, len(lines)-shown):], "\n"))
}

// log is what a process writes to standard error; it can be read meanwhile.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// since returns the log without its first n bytes.
func (l *log) since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text.Bytes()[n:])
}
