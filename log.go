package main

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// outlet is standard output or standard error, which nobody need read: writing
// to it never blocks and never fails. What is written waits for a goroutine,
// which runs as long as there is something.
type outlet struct {
	to  io.Writer
	log *slog.Logger // tells what was dropped; nil: nobody is told

	mu      sync.Mutex
	waiting []byte
	dropped int           // writes that found no room, and were not told of yet
	done    chan struct{} // closed when all is written; nil: nothing is being written
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

// drain writes what waits until nothing does. That nobody reads any more is no
// error: what is written then is lost.
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

// flush waits until everything is written, and not for long.
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

// openLog makes a log of the format that writes to the outlet.
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

// news tells what is said for the first time in an hour from what is repeated.
// Its zero value is ready.
type news struct {
	mu   sync.Mutex
	told map[string]unixTime
}

func (n *news) isNews(text string, now unixTime) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, found := n.told[text]; found && at <= now && now < at+60*60 {
		return false
	}
	if n.told == nil || len(n.told) >= maxNews {
		n.told = make(map[string]unixTime)
	}
	n.told[text] = now
	return true
}

// maxNews is how many texts are remembered before all are forgotten.
const maxNews = 10_000

// newsLog is a log of net/http's, which says once a second that it cannot
// accept connections.
type newsLog struct {
	news
	log *slog.Logger
}

func (l *newsLog) Write(line []byte) (int, error) {
	if text := strings.TrimSpace(string(line)); l.isNews(text, unixTime(realTime().Unix())) {
		l.log.Warn(text)
	}
	return len(line), nil
}
