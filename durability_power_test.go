package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A power cut loses what was not synced, which kill -9 cannot show. So the server
// runs under strace, and from what it wrote and synced the test makes the files
// that a power cut may leave.

// piece is one write to the file, or, without data, its new size.
type piece struct {
	data   []byte
	offset int
}

// stretch is what was written between two syncs. Until the second one has ended,
// each sector of it may be on disk or not, in any order.
type stretch struct {
	pieces []piece
	until  time.Time // when the second sync ended
	unsure bool      // the directory is not synced: the name may be lost
	named  bool      // the file was renamed to its name
}

// sector is what a disk writes whole. bbolt relies on no more: its meta pages fit
// in one, and they have a checksum.
const sector = 512

// meta reports whether the stretch is the meta page, which ends a transaction.
func (s stretch) meta() bool { return len(s.pieces) == 1 && s.pieces[0].offset < 2*os.Getpagesize() }

// all is the file after the stretch.
func (s stretch) all(before []byte) []byte {
	return s.some(before, sector, func() bool { return true })
}

// some is the file with some units of a stretch, as keep says.
func (s stretch) some(before []byte, unit int, keep func() bool) []byte {
	image := bytes.Clone(before)
	resize := func(size int) {
		image = append(image[:min(size, len(image))], make([]byte, max(0, size-len(image)))...)
	}
	for _, p := range s.pieces {
		if p.data == nil && keep() {
			resize(p.offset)
		}
		for n := 0; n < len(p.data); n += unit {
			if keep() {
				part := p.data[n:min(n+unit, len(p.data))]
				resize(max(len(image), p.offset+n+len(part)))
				copy(image[p.offset+n:], part)
			}
		}
	}
	return image
}

var (
	straced     = regexp.MustCompile(`^(\d+) +(\d+)\.(\d{6}) (.*)$`)
	straceEnd   = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
	straceCall  = regexp.MustCompile(`^(\w+)\((.*)\) += (-?\d+)[^<]*<(\d+\.\d+)>$`)
	straceFile  = regexp.MustCompile(`^\d+<([^>]*)>`)
	straceWrite = regexp.MustCompile(`^\d+<[^>]*>, "([^"]*)", (\d+), (\d+)$`)
)

// unescape reads text in which strace -xx writes every byte as \x00.
func unescape(text string) ([]byte, error) {
	return hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
}

// readTrace reads what strace saw of a database and its folder, from the first start on.
func readTrace(file, database string) (stretches []stretch, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<30)
	type call struct{ text, began string }
	open := make(map[string]call) // by thread
	now := stretch{}
	for lines.Scan() {
		line := straced.FindStringSubmatch(lines.Text())
		if line == nil {
			return nil, fmt.Errorf("strace: %.200s", lines.Text())
		}
		thread, c := line[1], call{line[4], line[2] + line[3]}
		if end := straceEnd.FindStringSubmatch(c.text); end != nil {
			c = call{open[thread].text + end[1], open[thread].began}
			delete(open, thread)
		}
		if text, unfinished := strings.CutSuffix(c.text, "<unfinished ...>"); unfinished {
			open[thread] = call{strings.TrimSuffix(text, " "), c.began}
			continue
		}
		match := straceCall.FindStringSubmatch(c.text)
		if match == nil {
			if strings.HasPrefix(c.text, "+++") || strings.HasPrefix(c.text, "---") {
				continue
			}
			return nil, fmt.Errorf("strace: %.200s", c.text)
		}
		began, err := strconv.ParseInt(c.began, 10, 64)
		took, err2 := time.ParseDuration(match[4] + "s")
		if err = cmp.Or(err, err2); err != nil {
			return nil, err
		}
		path := database
		if of := straceFile.FindStringSubmatch(match[2]); of != nil {
			name, err := unescape(of[1])
			if err != nil {
				return nil, err
			}
			path = string(name)
		}
		sync := match[1] == "fdatasync" || match[1] == "fsync"
		switch {
		case match[3] == "-1":
			return nil, fmt.Errorf("strace: %.200s", c.text)
		case sync && path == filepath.Dir(database):
			now.unsure = false
		case path != database && path != database+".new":
		case sync:
			now.until = time.UnixMicro(began).Add(took)
			stretches = append(stretches, now)
			now.pieces = nil
		case match[1] == "pwrite64":
			write := straceWrite.FindStringSubmatch(match[2])
			if write == nil {
				return nil, fmt.Errorf("strace: %.200s", c.text)
			}
			data, err := unescape(write[1])
			offset, err2 := strconv.Atoi(write[3])
			if err = errors.Join(err, err2); err != nil || strconv.Itoa(len(data)) != match[3] {
				return nil, fmt.Errorf("strace: %d bytes of %s: %w", len(data), match[3], err)
			}
			now.pieces = append(now.pieces, piece{data, offset})
		case match[1] == "ftruncate":
			_, size, _ := strings.Cut(match[2], ", ")
			n, err := strconv.Atoi(size)
			if err != nil {
				return nil, err
			}
			now.pieces = append(now.pieces, piece{nil, n})
		case strings.HasPrefix(match[1], "rename"):
			now.named, now.unsure = true, true
		default:
			return nil, fmt.Errorf("strace: %.200s", c.text)
		}
	}
	now.until = time.Now() // nothing more was synced
	return append(stretches, now), lines.Err()
}

// powerCuts makes files that a power cut may leave, parts of each stretch at
// random among them, and returns how many it found good before the first bad one.
func powerCuts(t *testing.T, stretches []stretch, parts int, oracles ...*oracle) (files int, err error) {
	path := filepath.Join(t.TempDir(), "grantling.db")
	// look opens one of them. The server may find it by its name, or while it is made.
	look := func(image []byte, name string, at time.Time) (state [32]byte, err error) {
		files++
		os.Remove(path)
		os.Remove(path + ".new")
		if err := os.WriteFile(name, image, 0o600); err != nil {
			return state, err
		}
		return examine(path, at, oracles...)
	}
	var synced []byte
	for n, s := range stretches {
		after := s.all(synced)
		if s.unsure || !s.named {
			for range parts {
				if _, err := look(s.some(synced, sector, func() bool { return rand.IntN(2) == 0 }), path+".new", s.until); err != nil {
					return files, fmt.Errorf("cut %d, while the file is made: %w", n, err)
				}
			}
		}
		if s.named {
			none, err := look(synced, path, s.until)
			if err != nil {
				return files, fmt.Errorf("cut %d, nothing of %d writes: %w", n, len(s.pieces), err)
			}
			all, err := look(after, path, s.until)
			if err != nil {
				return files, fmt.Errorf("cut %d, all of %d writes: %w", n, len(s.pieces), err)
			}
			for part := range parts {
				unit, kept := []int{sector, 4096}[part%2], []int{10, 50, 90}[part%3]
				image := s.some(synced, unit, func() bool { return rand.IntN(100) < kept })
				state, err := look(image, path, time.Time{}) // facts have been checked in both
				if err == nil && state != none && state != all {
					err = errors.New("neither as before nor as after")
				}
				if err != nil {
					return files, fmt.Errorf("cut %d, part of %d writes: %w", n, len(s.pieces), err)
				}
			}
		}
		synced = after
	}
	return files, nil
}

// TestPowerCut: what was answered is synced, and nothing is there by half,
// wherever the power is cut (R162).
func TestPowerCut(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace, which is for Linux")
	}
	folder := t.TempDir()
	fixtures, trace := filepath.Join(t.TempDir(), "fixtures.json"), filepath.Join(t.TempDir(), "trace")
	writeFile(t, filepath.Dir(fixtures), "fixtures.json", instanceFixtures)
	cmd := command(t, folder, nil, "-addr", "127.0.0.1:0", "-fixtures", fixtures, "-auto-approve", "alice", "-control", "-log", "off", "-stop-with-stdin")
	cmd.Args[0] = cmd.Path
	cmd.Args = append([]string{strace, "-f", "--seccomp-bpf", "-y", "-ttt", "-T", "-xx", "-s", "1000000000", "-o", trace, "-e",
		"trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,sync_file_range,ftruncate,fallocate,rename,renameat,renameat2"}, cmd.Args...)
	cmd.Path = strace
	p := begin(t, cmd).ready()
	bob := new(account)
	l, wait := p.startLoad(bob)
	for range rounds(t, 15) {
		l.reach(1)
	}
	p.stdin.Close()
	if status := p.wait(); status != 0 {
		t.Fatalf("exit status %d: %s", status, p.said())
	}
	wait()
	stretches, err := readTrace(trace, filepath.Join(folder, "grantling.db"))
	if err != nil {
		t.Fatal(err)
	}
	var end []byte
	for _, s := range stretches {
		end = s.all(end)
	}
	if file, err := os.ReadFile(filepath.Join(folder, "grantling.db")); err != nil || !bytes.Equal(file, end) {
		t.Fatalf("strace did not show all that was written: %d bytes, want %d, %v", len(end), len(file), err)
	}
	t.Run("R162 an answer is synced before it is sent", func(t *testing.T) {
		files, err := powerCuts(t, stretches, 6, &l.oracle, &bob.oracle)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%d families, %d facts, %d syncs, %d files", len(l.families), len(l.known)+len(bob.known), len(stretches)-1, files)
	})
	// The test is worth something if it fails without syncs.
	for name, lost := range map[string]func(before, after stretch) bool{
		"a lost sync of the pages is found":     func(_, after stretch) bool { return after.meta() },
		"a lost sync of the meta page is found": func(before, _ stretch) bool { return before.meta() },
	} {
		t.Run(name, func(t *testing.T) {
			fewer := stretches[:1:1]
			for _, s := range stretches[1:] {
				last := &fewer[len(fewer)-1]
				if len(fewer) > len(stretches)/2 && lost(*last, s) {
					last.pieces, last.until = slices.Concat(last.pieces, s.pieces), s.until
				} else {
					fewer = append(fewer, s)
				}
			}
			_, err := powerCuts(t, fewer, 6, &l.oracle, &bob.oracle)
			if err == nil {
				t.Error("it was not found")
			}
			t.Log(err)
		})
	}
}
