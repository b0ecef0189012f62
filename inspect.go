package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// inspectPath is the path of the inspector, below the issuer's path.
const inspectPath = "/inspect"

// inspector is the state of the inspector.
type inspector struct {
	streams atomic.Int64 // that are open
}

// isLocal reports whether only this machine reaches the server, so that the
// inspector is on unless a flag says otherwise.
//
// Choice: behind a proxy it is off. A proxy often rewrites Host, so that requests
// from anywhere look as if they came from this machine.
func (s *server) isLocal() bool { return s.loopback && isLoopback(s.issuerHost()) }

// openInspector records exchanges from now on, and serves the pages that show them.
func (s *server) openInspector() {
	if s.eras.now() == nil {
		s.eras.begin()
	}
	s.inspector = new(inspector)
	s.routes = s.newRoutes()
}

// inspectorPages adds the routes.
func (s *server) inspectorPages(page func(path, methods string, handle handler)) {
	page(inspectPath, "GET", s.watching(s.handleInspect))
	page(inspectPath+"/*", "GET", s.watching(s.handleFlow))
	page(inspectPath+"/events", "GET", s.watching(s.inspector.handleEvents))
}

// watching guards the pages that show what clients send: they answer where the
// control API would. What such a page is asked is not recorded.
func (s *server) watching(handle handler) handler {
	return func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		x.watched, x.era = x.era, nil
		if err := s.guardPrivate(r); err != nil {
			return err
		}
		w.Header().Set("Content-Security-Policy", contentSecurityPolicy+"; connect-src 'self'")
		if _, err := s.visitor(r, x); err != nil {
			return err
		}
		return handle(w, r, x)
	}
}

// flowsPerPage keeps the list short enough to be read.
const flowsPerPage = 100

// flowFilter is what the list of flows is asked for.
type flowFilter struct{ ClientID, Outcome string }

// With is the query that asks for another outcome.
func (f flowFilter) With(outcome string) template.URL {
	query := url.Values{}
	if f.ClientID != "" {
		query.Set("client_id", f.ClientID)
	}
	if outcome != "" {
		query.Set("outcome", outcome)
	}
	return template.URL(query.Encode()) // every & and = is meant
}

// outcomeTab is a link to the flows of one outcome.
type outcomeTab struct {
	Class, Name string
	Count       int
}

// handleInspect lists the flows.
func (s *server) handleInspect(w http.ResponseWriter, r *http.Request, x *exchange) error {
	kept := x.watched.requests.snapshot()
	all, err := s.flows(kept, x.now)
	if err != nil {
		return err
	}
	asked := flowFilter{x.query.values.Get("client_id"), x.query.values.Get("outcome")}
	var shown []*flow
	clients, counts := make(map[string]string), make(map[string]int)
	for _, f := range all {
		id := f.ClientID()
		if id != "" && clients[id] == "" {
			if clients[id], err = s.nameOf(id); err != nil {
				return err
			}
		}
		f.Client = clients[id]
		if asked.ClientID != "" && asked.ClientID != id {
			continue
		}
		counts[""]++
		if f.Outcome.Class != "" {
			counts[f.Outcome.Class]++
		}
		if asked.Outcome == "" || asked.Outcome == f.Outcome.Class {
			shown = append(shown, f)
		}
	}
	if asked.ClientID != "" && clients[asked.ClientID] == "" {
		clients[asked.ClientID] = asked.ClientID
	}
	var tabs []outcomeTab
	for _, o := range outcomes {
		tabs = append(tabs, outcomeTab{o.Class, o.Name, counts[o.Class]})
	}
	moved := ""
	if _, offset := s.clock.read(); offset != 0 {
		moved = clockWords(offset)
	}
	return s.writePage(w, x, http.StatusOK, "inspect.html", pageData{
		"Flows": partOf(shown, x.query.values.Get("page"), flowsPerPage), "Tabs": tabs, "Clients": clients, "Asked": asked,
		"Clock": moved, "Newest": newest(kept),
	})
}

// nameOf is what people call a client: its name, if it exists.
func (s *server) nameOf(clientID string) (string, error) {
	c, err := s.store.clientNamed(clientID)
	if c == nil {
		return clientID, err
	}
	return c.displayName(), nil
}

// newest is the id of the newest request, or 0.
func newest(kept []*loggedRequest) int {
	if len(kept) == 0 {
		return 0
	}
	return kept[len(kept)-1].ID
}

// findFlow returns a flow, and those before and after it; nil if it is not there.
// The id of any of its exchanges finds it too.
func (s *server) findFlow(id string, kept []*loggedRequest, now unixTime) (found, newer, older *flow, err error) {
	all, err := s.flows(kept, now)
	at := slices.IndexFunc(all, func(f *flow) bool {
		return f.ID == id || slices.ContainsFunc(f.Exchanges, func(l *loggedRequest) bool { return "x"+strconv.Itoa(l.ID) == id })
	})
	if at < 0 {
		return nil, nil, nil, err
	}
	if at > 0 {
		newer = all[at-1]
	}
	if at+1 < len(all) {
		older = all[at+1]
	}
	found = all[at]
	found.Client, err = s.nameOf(found.ClientID())
	return found, newer, older, err
}

// noFlow answers for a flow that is not kept.
var noFlow = notFound(rfc9110("15.5.5"), noSuchPage, "there is no such flow, or it is not kept any more")

// handleFlow shows one flow, as a page or as text.
func (s *server) handleFlow(w http.ResponseWriter, r *http.Request, x *exchange) error {
	id, asText := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, s.base+inspectPath+"/"), ".txt")
	kept := x.watched.requests.snapshot()
	f, newer, older, err := s.findFlow(id, kept, x.now)
	switch {
	case err != nil:
		return err
	case f == nil:
		return noFlow
	case asText:
		return s.writeTranscript(w, f)
	case f.ID != id:
		seeOther(w, s.base+inspectPath+"/"+f.ID+"#"+id)
		return nil
	}
	return s.writePage(w, x, http.StatusOK, "inspect_flow.html", pageData{
		"Flow": s.shown(f), "Newer": newer, "Older": older, "Newest": newest(kept),
	})
}

// flowAnswer is a flow as the control API tells it.
func (s *server) flowAnswer(r *http.Request, x *exchange) (any, error) {
	kept := s.eras.now().requests.snapshot()
	f, _, _, err := s.findFlow(r.PathValue("flow"), kept, x.now)
	if f == nil {
		return nil, cmp.Or(err, noSuch("no flow has this id"))
	}
	credentials := []object{}
	for _, n := range allOf(f.Family) {
		told := object{{"id", n.ID.String()}, {"kind", n.Kind}, {"state", n.State}, {"reason", n.because()}}
		if n.From != nil {
			told.add("from", n.From.ID.String())
		}
		credentials = append(credentials, told)
	}
	return object{{"flow", f.ID}, {"outcome", f.Outcome.Words}, {"requests", f.Exchanges}, {"credentials", credentials}}, err
}

// because is why a code or a token is in its state, in one line.
func (n *credentialNode) because() string {
	var b strings.Builder
	for _, piece := range n.Why {
		b.WriteString(piece.Text)
		if piece.Exchange != nil {
			b.WriteString("request " + strconv.Itoa(piece.Exchange.ID))
		}
	}
	return strings.TrimSpace(b.String())
}

// Limits of the streams of events.
const (
	maxStreams   = 200
	streamBeat   = 15 * time.Second       // an open stream says something at least so often
	streamPause  = 100 * time.Millisecond // between two batches
	slowestWrite = 5 * time.Second        // a reader that takes longer is dropped
)

// handleEvents sends one server-sent event for each finished exchange. It reads
// the log as everybody does and has no queue, so a slow reader costs nothing.
func (i *inspector) handleEvents(w http.ResponseWriter, r *http.Request, x *exchange) error {
	defer i.streams.Add(-1)
	if i.streams.Add(1) > maxStreams {
		return temporarilyUnavailable(serverBusy, "too many event streams are open")
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(x.watched, cancel)()
	q := &x.watched.requests
	after := q.latestID()
	for _, id := range []string{x.query.values.Get("after"), r.Header.Get("Last-Event-ID")} {
		if n, err := strconv.Atoi(id); err == nil {
			after = min(n, after)
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return nil
	}
	connection := http.NewResponseController(w)
	connection.SetReadDeadline(time.Time{})
	say := func(text string) error {
		connection.SetWriteDeadline(realTime().Add(slowestWrite))
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return connection.Flush()
	}
	if say("retry: 1000\n\n") != nil {
		return nil
	}
	for ctx.Err() == nil {
		beat, stop := context.WithTimeout(ctx, streamBeat)
		picked := q.pick(beat, "", "", after)
		stop()
		text := ": still here\n\n"
		if len(picked) > 0 {
			after = picked[len(picked)-1].ID
			text = eventsOf(picked)
		}
		if ctx.Err() == nil && say(text) != nil {
			return nil
		}
		select { // a busy server sends many at once
		case <-ctx.Done():
		case <-time.After(streamPause):
		}
	}
	return nil
}

// latestID is the id of the newest request.
func (q *requests) latestID() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last
}

// eventsOf are the events of finished exchanges.
func eventsOf(picked []*loggedRequest) string {
	var b strings.Builder
	for _, l := range picked {
		if l.isShown() {
			data, _ := json.Marshal(object{{"id", l.ID}, {"flow", cmp.Or(l.Flow, "x"+strconv.Itoa(l.ID))}, {"endpoint", l.Endpoint}, {"method", l.Method},
				{"path", l.Path}, {"client_id", l.ClientID}, {"status", l.Status}, {"error", l.Error}, {"reason", l.Reason}})
			fmt.Fprintf(&b, "id: %d\nevent: exchange\ndata: %s\n\n", l.ID, data)
		}
	}
	return cmp.Or(b.String(), ": not shown\n\n")
}
