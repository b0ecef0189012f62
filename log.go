package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// outlet is standard output or standard error. Writing to it never blocks or
// fails, even if nobody reads it. A goroutine passes the text on, and ends when
// nothing is left.
type outlet struct {
	to  io.Writer
	log *slog.Logger // for the number of dropped lines; nil: not logged

	mu      sync.Mutex
	waiting []byte
	dropped int           // writes that found no room and are not yet logged
	done    chan struct{} // closed when all is written; nil: nothing waits
}

// maxWaiting is how many bytes wait for the reader.
const maxWaiting = 1 << 20

// flushTime is how long the process waits for the reader of its last lines.
const flushTime = time.Second

func (o *outlet) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting)+len(p) > maxWaiting {
		o.dropped++
		return len(p), nil
	}
	o.waiting = append(o.waiting, p...)
	if o.done == nil {
		o.done = make(chan struct{})
		go o.drain()
	}
	return len(p), nil
}

// drain writes until nothing waits. Text that nobody reads is lost without an
// error.
func (o *outlet) drain() {
	for {
		o.mu.Lock()
		text, dropped := o.waiting, o.dropped
		o.waiting, o.dropped = nil, 0
		if len(text) == 0 {
			close(o.done)
			o.done = nil
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		o.to.Write(text)
		if dropped > 0 && o.log != nil {
			o.log.Warn("lines were dropped: nobody read them in time", "lines", dropped)
		}
	}
}

// flush waits until everything is written, at most flushTime.
func (o *outlet) flush() {
	o.mu.Lock()
	done := o.done
	o.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(flushTime):
	}
}

// openLog makes a log that writes to the outlet in the format of -log.
func (o *outlet) openLog(format string) *slog.Logger {
	switch format {
	case "json":
		o.log = slog.New(slog.NewJSONHandler(o, nil))
	case "off":
		return slog.New(slog.DiscardHandler)
	default:
		o.log = slog.New(slog.NewTextHandler(o, nil))
	}
	return o.log
}

// logHourly logs a line, but the same one only once an hour.
func (s *server) logHourly(level slog.Level, message string, details ...any) {
	if s.logged.try(fmt.Sprint(message, details), 1, unixTime(s.clock.now().Unix())) == 0 {
		s.log.Log(context.Background(), level, message, details...)
	}
}

// serverLog is the log of net/http's server, which repeats the same line every
// second while it cannot accept connections.
type serverLog struct{ *server }

func (l serverLog) Write(line []byte) (int, error) {
	l.logHourly(slog.LevelWarn, strings.TrimSpace(string(line)))
	return len(line), nil
}

// recorder notes the status of an answer and, for the record, its body.
type recorder struct {
	http.ResponseWriter
	x *exchange
}

func (w *recorder) WriteHeader(status int) {
	w.x.Status = cmp.Or(w.x.Status, status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.x.Status = cmp.Or(w.x.Status, http.StatusOK)
	if w.x.era != nil {
		w.x.keepAnswer(b)
	}
	return w.ResponseWriter.Write(b)
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// record logs an exchange, also for the control API and the inspector.
func (s *server) record(w *recorder, r *http.Request, took time.Duration) {
	x := w.x
	if x.era != nil {
		s.logRequest(x, r, w.Header(), took)
	}
	level := slog.LevelInfo
	if x.failure != nil {
		level = slog.LevelError
	}
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	m := masker{profile: s.profile}
	attributes := []slog.Attr{slog.String("method", shorten(x.Method)), slog.String("path", shorten(m.path(x.Path))), slog.Int("status", x.Status)}
	add := func(name, value string) {
		if value != "" {
			attributes = append(attributes, slog.String(name, scrub(value)))
		}
	}
	add("endpoint", x.Endpoint)
	add("client_id", x.ClientID)
	add("grant_type", x.GrantType)
	add("username", x.Username)
	add("fault", x.Fault)
	add("error", x.Error)
	add("error_description", x.ErrorDescription)
	add("section", string(x.Section))
	add("reason", x.Reason)
	if x.failure != nil {
		add("failure", x.failure.Error())
	}
	attributes = append(attributes, slog.Float64("duration_ms", float64(took.Microseconds())/1000))
	s.log.LogAttrs(context.Background(), level, "request", attributes...)
}
