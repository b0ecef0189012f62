package main

import (
	"sync"
	"time"
)

// clock is the server's only source of time.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	now, _ := c.read()
	return now
}

// read returns the time, and how far it is from the real time.
func (c *clock) read() (now time.Time, offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return realTime().Add(c.offset), c.offset
}

// realTime is the machine's time, for the clock and to measure how long something
// takes. Everything else uses the clock, which can be moved.
func realTime() time.Time { return time.Now() }
