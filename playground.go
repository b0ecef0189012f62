package main

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// playground is the client that people play themselves: it walks through each
// grant against this very server, and shows all that it sends and gets.
type playground struct {
	secret string // of the confidential client

	mu        sync.Mutex
	notebooks map[string]*notebook // by the value of the browser's cookie
	keys      []string             // of the notebooks, the oldest first
}

const (
	playgroundPath         = "/playground"
	playgroundCallbackPath = playgroundPath + "/callback"
	publicPlayer           = "playground"              // client_id of the public client
	confidentialPlayer     = "playground-confidential" // of the one with a secret
)

// openPlayground serves the playground, and makes the server know its clients.
//
// Choice: the clients of the playground are built in. They are not stored and in
// no list, and what they were issued is dead while the playground is off. A
// registered client of the same name comes first.
func (s *server) openPlayground() {
	s.playground = &playground{secret: newClientSecret(), notebooks: make(map[string]*notebook)}
	s.store.builtIn = s.playgroundClient
	s.routes = s.newRoutes()
}

// playgroundPages adds the routes.
func (s *server) playgroundPages(page func(path, methods string, handle handler)) {
	page(playgroundPath, "GET", s.handlePlay(s.handlePlayground))
	page(playgroundCallbackPath, "GET", s.handlePlay(s.handleCallback))
	for _, l := range s.lessons() {
		page(playgroundPath+"/"+l.Path, "GET, POST", s.handlePlay(s.handleLesson(l)))
	}
}

// playgroundClient returns a client of the playground, or nil. Its id is the same at every
// start, so that grants of an earlier one go on.
func (s *server) playgroundClient(clientID string) *client {
	suits := func(grant string) bool { return grant != "client_credentials" }
	c := &client{ID: uuid.UUID{15: 1}, metadata: metadata{ClientID: clientID, Name: "Playground"}, RegisteredBy: operator}
	switch clientID {
	case publicPlayer:
		c.RedirectURIs = []string{s.url(playgroundCallbackPath)}
		for _, host := range []string{"127.0.0.1", "[::1]", "localhost"} {
			c.RedirectURIs = append(c.RedirectURIs, "http://"+host+s.base+playgroundCallbackPath)
		}
	case confidentialPlayer:
		c.ID, c.Name, c.SecretHash = uuid.UUID{15: 2}, "Playground with a secret", hashSecret(s.playground.secret)
		suits = func(grant string) bool { return grant == "client_credentials" }
	default:
		return nil
	}
	c.GrantTypes = slices.DeleteFunc(slices.Clone(s.profile.Grants), func(grant string) bool { return !suits(grant) })
	return c
}

// playgroundCallback is the redirect URI of the public client. On loopback it has
// the name that the browser uses, whose cookies it needs.
func (s *server) playgroundCallback(r *http.Request) string {
	if !s.https() && isLoopback(s.issuerHost()) && isLoopback(hostOf(r.Host)) {
		return "http://" + r.Host + s.base + playgroundCallbackPath
	}
	return s.url(playgroundCallbackPath)
}

// notebook is what one browser has come to in the playground. Codes, tokens and
// verifiers are here and not in URLs.
type notebook struct {
	mu          sync.Mutex
	facts       map[string]string   // by the placeholder that they fill
	credentials []string            // codes and tokens, found again by their public id; the newest last
	edits       map[string]string   // values that must not be in a URL, by lesson, step and parameter
	outcomes    map[string]*outcome // by lesson and step, and by lesson, step and break
	latest      map[string]string   // the step that was sent last, by lesson
	trip        *trip               // the authorization request that the browser is away with, or nil
}

// trip is an authorization request that the browser takes to the server.
type trip struct {
	lesson, step, broken string
	edits                url.Values // of the lesson's URL
	state, redirectURI   string     // as sent
	scope                string     // likewise
}

// How much the playground keeps. The oldest goes first.
const (
	maxNotebooks   = 100
	maxCredentials = 50
	maxEdits       = 100
)

// clear begins anew, with nothing but a fresh verifier and state.
func (n *notebook) clear() {
	n.facts = map[string]string{"code_verifier": newClientSecret(), "state": newState()}
	n.edits, n.outcomes, n.latest = make(map[string]string), make(map[string]*outcome), make(map[string]string)
	n.credentials, n.trip = nil, nil
}

func newState() string { return rand.Text()[:12] }

// notebook returns the notebook of a browser, which gets a new one if it has none.
//
// Choice: the playground keeps what people do there in memory, for the newest 100
// browsers. A URL has only what is no secret, and a link opens a lesson elsewhere
// with the same parameters and without the answers.
func (s *server) notebook(w http.ResponseWriter, r *http.Request) *notebook {
	p, name := s.playground, s.cookieName()+"-playground"
	p.mu.Lock()
	defer p.mu.Unlock()
	if cookie, err := r.Cookie(name); err == nil && p.notebooks[cookie.Value] != nil {
		return p.notebooks[cookie.Value]
	}
	if len(p.keys) == maxNotebooks {
		delete(p.notebooks, p.keys[0])
		p.keys = p.keys[1:]
	}
	key, n := rand.Text(), new(notebook)
	n.clear()
	p.keys, p.notebooks[key] = append(p.keys, key), n
	http.SetCookie(w, &http.Cookie{Name: name, Value: key, Path: "/", Secure: s.https(), HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return n
}

// hold keeps a code or a token and returns its public id, as pages show it.
func (n *notebook) hold(credential string, id uuid.UUID) string {
	if !slices.Contains(n.credentials, credential) {
		n.credentials = append(n.credentials, credential)
		n.credentials = n.credentials[max(0, len(n.credentials)-maxCredentials):]
	}
	return id.String() + "…"
}

// player is what a page of the playground works with.
type player struct {
	*notebook
	s        *server
	callback string
	username string
	lesson   *lesson
	query    url.Values // what was changed and is no secret, by step and parameter
}

// playHandler handles a page of the playground.
type playHandler func(p *player, w http.ResponseWriter, r *http.Request, x *exchange) error

// handlePlay makes its handler, which answers where the control API would.
func (s *server) handlePlay(handle playHandler) handler {
	return s.visited(func(w http.ResponseWriter, r *http.Request, x *exchange) error {
		if err := s.guardPrivate(r); err != nil {
			return err
		}
		p := &player{notebook: s.notebook(w, r), s: s, callback: s.playgroundCallback(r), username: "alice", query: maps.Clone(x.query.values)}
		if x.visitor.user != nil {
			p.username = x.visitor.user.Username
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return handle(p, w, r, x)
	})
}

// handlePlayground leads to the first lesson that the profile has.
func (s *server) handlePlayground(p *player, w http.ResponseWriter, r *http.Request, x *exchange) error {
	seeOther(w, s.base+playgroundPath+"/"+s.lessons()[0].Path)
	return nil
}

// handleLesson shows a lesson, or does what its form asks for and shows what came
// of it.
func (s *server) handleLesson(l *lesson) playHandler {
	return func(p *player, w http.ResponseWriter, r *http.Request, x *exchange) error {
		p.lesson = l
		if r.Method != http.MethodPost {
			return s.writePage(w, x, http.StatusOK, "playground.html", p.page(s.lessons(), r))
		}
		if x.wrong != nil {
			return x.wrong
		}
		if x.form.Get("do") == "restart" {
			p.clear()
			seeOther(w, s.base+playgroundPath+"/"+l.Path)
			return nil
		}
		st := l.step(x.form.Get("step"))
		if st == nil {
			return invalidRequest(rfc9110("15.5.1"), parameterMissing, "the form names no step of this lesson").about("step")
		}
		p.edit(st, x.form)
		p.latest[l.Path] = st.Name
		seeOther(w, cmp.Or(p.do(st, x.form, r), p.url()+"#"+st.Name))
		return nil
	}
}

// url is that of the lesson, with what was changed.
func (p *player) url() string {
	address := p.s.base + playgroundPath + "/" + p.lesson.Path
	if query := p.query.Encode(); query != "" {
		address += "?" + query
	}
	return address
}

// do does what a form asks for at a step. It returns where the browser goes, or ""
// for the lesson.
func (p *player) do(st *step, form url.Values, r *http.Request) string {
	broken := st.breakage(form.Get("break"))
	switch do := form.Get("do"); {
	case broken == nil && do != "send" && do != "new":
		return "" // the page shows the changes
	case st.Kind == "compute":
		if do == "new" {
			p.facts["code_verifier"] = newClientSecret()
		}
		return ""
	case st.Kind == "keep":
		p.keep(st, p.sent(st, nil))
		return ""
	case st.Kind == "visit":
		if p.facts["state"] == p.facts["sent_state"] { // each request has its own
			p.facts["state"] = newState()
		}
		return p.visit(st, broken, p.sent(st, broken))
	case st.Kind == "open":
		if broken == nil {
			p.outcomes[p.key(st.Name, nil)] = &outcome{Good: true}
		}
		return p.s.path(st) + "?" + p.sent(st, broken).encode()
	case st.Kind == "post" || st.Kind == "get":
		sent := p.sent(st, broken)
		if password := form.Get("password"); password != "" && broken == nil {
			sent.set("password", password)
		}
		o := p.exchange(st, sent, r)
		if broken != nil && broken.Twice {
			if o.Good {
				broken = nil // a good request, as it turns out
			} else {
				o = p.exchange(st, sent, r)
			}
		}
		p.outcomes[p.key(st.Name, broken)] = o
		if broken == nil || o.Good {
			p.learn(st, sent, o)
		}
	}
	return ""
}

// key is that of an outcome.
func (p *player) key(step string, broken *breakage) string {
	key := p.lesson.Path + "." + step
	if broken != nil {
		key += "." + broken.Name
	}
	return key
}

// visit sends the browser to the authorization endpoint, and remembers with what.
func (p *player) visit(st *step, broken *breakage, sent parameters) string {
	p.trip = &trip{lesson: p.lesson.Path, step: st.Name, edits: p.query, state: sent.get("state"), redirectURI: sent.get("redirect_uri"), scope: sent.get("scope")}
	if broken != nil {
		p.trip.broken = broken.Name
	}
	if p.trip.state == p.facts["state"] {
		p.facts["sent_state"] = p.trip.state
	}
	return p.s.path(st) + "?" + sent.encode()
}

// handleCallback is the redirect URI of the playground. It checks the answer as a
// client should, and shows it in the lesson that asked.
func (s *server) handleCallback(p *player, w http.ResponseWriter, r *http.Request, x *exchange) error {
	p.lesson = s.lessons()[0]
	answer := x.query.values
	away := p.trip
	if away == nil {
		p.query = nil
		seeOther(w, p.url()) // nobody asked for this answer
		return nil
	}
	p.trip = nil
	for _, l := range s.lessons() {
		if l.Path == away.lesson {
			p.lesson = l
		}
	}
	p.query = away.edits
	shown := p.lesson.stepAfter(away.step)
	if len(answer) == 0 || shown.Kind == "keep" && !answer.Has("error") && !answer.Has("access_token") {
		p.latest[away.lesson] = shown.Name
		seeOther(w, p.url()) // the browser takes the fragment along
		return nil
	}
	o := p.cameBack(away, x.query)
	asked := p.lesson.step(away.step)
	if broken := asked.breakage(away.broken); broken != nil {
		p.outcomes[p.key(asked.Name, broken)], shown = o, asked
	} else {
		p.outcomes[p.key(asked.Name, nil)], p.outcomes[p.key(shown.Name, nil)] = o, o
	}
	p.latest[away.lesson] = shown.Name
	seeOther(w, p.url()+"#"+shown.Name)
	return nil
}
