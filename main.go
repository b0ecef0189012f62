// Grantling is a small OAuth 2.0 authorization server: to try a login on your
// laptop while you write a client, for test suites, and to read beside RFC 6749.
//
//	grantling                                  # a server with a user and a client, on 127.0.0.1:9096
//	grantling -fixtures fixtures.json          # with your users and clients
//	grantling -db :memory: -addr 127.0.0.1:0   # for a test: leaves nothing behind
//
// It prints one line on standard output, the base URL, as soon as it answers
// requests.
//
// # Reading order
//
//	main.go                flags, start, stop
//	server.go              the route table, and what happens to every request
//	parameters.go          what a request says, RFC 6749 §3.1, §3.2, Appendix B
//	authorize.go           the authorization endpoint, RFC 6749 §3.1, §4.1.1, §4.1.2, §4.2; PKCE, RFC 7636 §4.3
//	grants.go              the token endpoint, RFC 6749 §3.2, §4.1.3, §4.3, §4.4, §5, §6
//	clients.go             clients, their authentication, redirect URIs, RFC 6749 §2, §3.1.2
//	tokens.go              using, describing and ending tokens, RFC 6750, 7662, 7009
//	errors.go              every error and how it is written, RFC 6749 §4.1.2.1, §5.2, RFC 6750 §3
//	credentials.go         codes, tokens and secrets, and how they look, RFC 6749 §1.4, §10.10
//	store.go               grants, codes and tokens, how long they live, and the verbs on them
//
// That is the core. The rest can be skipped:
//
//	errors_reasons.go      what can be wrong, in one list
//	store_*.go             users and clients, transactions, the file, etcd, the sweeper
//	users.go               users, passwords, guess limits, RFC 6749 §10.10
//	refresh.go             which refresh token follows another, RFC 6749 §6, RFC 9700 §4.14.2
//	response_modes.go      how an answer goes back to the client: in the query, the fragment or a form
//	device.go              devices without a browser, and the page where their user decides, RFC 8628
//	resource.go            where a token is for, RFC 8707
//	jwt.go                 access tokens that are signed, and their keys, RFC 9068, RFC 7517
//	metadata.go            the issuer and what it tells of itself, RFC 8414
//	origins.go             which hosts and origins may call, and what browsers may do with answers
//	pages.go, pages_*.go   what people see; their sign-in and its sessions, RFC 6749 §10.12
//	profile.go, profile_*  what differs between services, as data
//	clients_documents.go   clients that a URL describes, and the fetching of it
//	clients_metadata.go    what clients say about themselves, RFC 7591 §2
//	registration.go        clients that register themselves, RFC 7591
//	redirect.go            which redirect URIs may be registered, and what two of them differ by
//	record.go, record_*    what is kept of requests and answers, without secrets
//	explain.go, explain_*  why requests are refused: explanations/, and the functions that decide
//	playground*.go         a client that shows each grant step by step
//	inspect.go, inspect_*  the pages that show flows, exchange by exchange
//	control.go, control_*  the control API for test suites, and its faults
//	fixtures.go            users and clients from a file
//	document.go            JSON files whose errors name line and key
//	ready.go               -ready, for health checks
//	clock.go               the server's time, which tests can move
//	banner.go, log.go      what a start stores and prints, and the log
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

func main() {
	// The collector lets the heap double, and would collect a few megabytes too often.
	// Nothing touches these, so they take no memory.
	ballast := make([]byte, 12<<20)
	signal.Ignore(syscall.SIGPIPE) // nobody has to read what it prints
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	runtime.KeepAlive(ballast)
	os.Exit(status)
}

// options are the command's flags.
type options struct {
	addr, db, profile, issuer, autoApprove, log string
	tlsCert, tlsKey, etcdCA, etcdCert, etcdKey  string
	fixtures, controlHosts, redirectHosts       []string
	control, stopWithStdin, ready, version      bool
	byIssuer                                    bool  // -ready asks at -issuer, not at -addr
	inspect                                     *bool // nil: where address and issuer are loopback
}

// usageError is a mistake of the caller: exit status 2.
type usageError struct{ error }

// run is the command: it returns when ctx is done and requests in flight have
// been answered, with the exit status.
func run(ctx context.Context, args []string, getenv func(string) string, out, errs io.Writer) int {
	stdout, stderr := &outlet{to: out}, &outlet{to: errs}
	defer stdout.flush()
	defer stderr.flush()
	o, err := parseOptions(args, getenv, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && o.version:
		info, _ := debug.ReadBuildInfo() // the go command puts it into every program
		fmt.Fprintln(stdout, "grantling", info.Main.Version)
		return 0
	case err == nil && o.ready:
		err = o.waitUntilReady(ctx, healthTransport)
	case err == nil:
		err = serve(ctx, o, stdout, stderr)
	}
	if err == nil {
		return 0
	}
	// One line, even if it quotes something with more.
	fmt.Fprintln(stderr, "grantling:", strings.Join(strings.FieldsFunc(err.Error(), unicode.IsControl), " "))
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// parseOptions reads the flags. Each but -version and -ready is also an environment
// variable; the flag wins.
func parseOptions(args []string, getenv func(string) string, stdout io.Writer) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("grantling", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:9096", "listen on `HOST:PORT`; port 0 takes a free one")
	flags.StringVar(&o.db, "db", "grantling.db", "keep everything in `FILE`; :memory: keeps nothing,\netcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/PREFIX] is for several servers, etcds:// with TLS")
	flags.StringVar(&o.etcdCA, "etcd-ca", "", "the authority that signed etcd's certificates is in `FILE` (default: the system's)")
	flags.StringVar(&o.etcdCert, "etcd-cert", "", "show etcd the client certificate in `FILE`")
	flags.StringVar(&o.etcdKey, "etcd-key", "", "the key of -etcd-cert is in `FILE`")
	flags.StringVar(&o.profile, "profile", "rfc6749", "behave as `NAME|FILE` says, a JSON file or one of\n"+strings.Join(profileNames(), ", "))
	flags.Func("fixtures", "create or replace the users and clients in `FILE`; repeat it for more, later files win", func(file string) error {
		o.fixtures = append(o.fixtures, file)
		return nil
	})
	flags.StringVar(&o.issuer, "issuer", "", "the base `URL` that others reach this server by (default: http:// and the address)")
	flags.StringVar(&o.autoApprove, "auto-approve", "", "answer authorization requests at once as if `USER` had allowed them")
	flags.BoolFunc("control", "serve the control API for test suites under "+controlPath, setBool(&o.control))
	flags.Func("control-host", "comma-separated `NAMES` that the control API, and a server on loopback, also answer to", func(list string) (err error) {
		o.controlHosts, err = parseHosts(list, "")
		return err
	})
	flags.Func("redirect-host", "comma-separated `NAMES` that http redirect URIs may have besides loopback;\n*.localhost allows all below it", func(list string) (err error) {
		o.redirectHosts, err = parseHosts(list, "*.")
		return err
	})
	flags.BoolFunc("inspect", "serve the inspector and the playground (default: where address and issuer are loopback)", func(text string) error {
		o.inspect = new(bool)
		return setBool(o.inspect)(text)
	})
	flags.BoolFunc("stop-with-stdin", "stop when standard input ends, as it does when the parent process dies", setBool(&o.stopWithStdin))
	flags.StringVar(&o.tlsCert, "tls-cert", "", "serve HTTPS with the certificate in `FILE`")
	flags.StringVar(&o.tlsKey, "tls-key", "", "the certificate's key is in `FILE`")
	flags.StringVar(&o.log, "log", "text", "log to standard error as `FORMAT`: text, json or off")
	flags.BoolFunc("ready", "do not serve: wait until the server at -addr (or -issuer) answers,\nten seconds at most; the exit status is 0 or 1", setBool(&o.ready))
	flags.BoolFunc("version", "print the version and exit", setBool(&o.version))
	err := flags.Parse(args)
	o.byIssuer = asksIssuer(flags) // before the environment has a say
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "usage: grantling [flags]")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		fmt.Fprintln(stdout, "Each flag but -version and -ready is also an environment variable, GRANTLING_ADDR for -addr; the flag wins.")
		return nil, err
	case err != nil && strings.HasPrefix(err.Error(), "flag provided but not defined"):
		err = fmt.Errorf("%w; grantling -help lists the flags", err)
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: %s", flags.Arg(0), hintFor(flags.Arg(0)))
	case err == nil:
		err = cmp.Or(setFromEnvironment(flags, getenv), o.check())
		o.byIssuer = o.byIssuer || asksIssuer(flags)
	}
	if err != nil {
		return nil, usageError{err}
	}
	return o, nil
}

// hintFor is what to write instead of an argument that is no flag.
func hintFor(argument string) string {
	switch {
	case slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "0", "1"}, argument):
		return "a switch takes its value with =, as in -control=true"
	case strings.HasSuffix(argument, ".json"):
		return "each file of fixtures has its own -fixtures, and a profile has -profile"
	}
	return "grantling -help lists the flags"
}

// setBool is for a flag that is true or false.
func setBool(to *bool) func(string) error {
	return func(text string) error {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be true or false")
		}
		*to = on
		return nil
	}
}

// setFromEnvironment sets the flags that the command line did not.
func setFromEnvironment(flags *flag.FlagSet, getenv func(string) string) (wrong error) {
	given := map[string]bool{"version": true, "ready": true} // images set GRANTLING_VERSION for their own ends
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	flags.VisitAll(func(f *flag.Flag) {
		name := "GRANTLING_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		values := []string{getenv(name)}
		if given[f.Name] || values[0] == "" {
			return
		}
		if f.Name == "fixtures" {
			values = filepath.SplitList(values[0])
		}
		for _, value := range values {
			if err := flags.Set(f.Name, value); err != nil {
				wrong = cmp.Or(wrong, fmt.Errorf("%s: invalid value %q: %w", name, value, err))
			}
		}
	})
	return wrong
}

// check refuses options that cannot work.
func (o *options) check() error {
	_, port, _ := net.SplitHostPort(o.addr)
	_, badPort := strconv.ParseUint(port, 10, 16)
	_, badIssuer := checkIssuer(o.issuer)
	switch {
	case o.addr == "" || o.db == "":
		return errors.New("-addr and -db cannot be empty")
	case badPort != nil:
		return fmt.Errorf("-addr %q must be HOST:PORT, with a port from 0 to 65535", o.addr)
	case o.issuer != "" && badIssuer != nil:
		return badIssuer
	case !slices.Contains([]string{"text", "json", "off"}, o.log):
		return fmt.Errorf("-log must be text, json or off, not %q", o.log)
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case (o.etcdCert == "") != (o.etcdKey == ""):
		return errors.New("-etcd-cert and -etcd-key go together")
	case o.etcdCA+o.etcdCert != "" && !strings.HasPrefix(o.db, "etcds://"):
		return errors.New("-etcd-ca, -etcd-cert and -etcd-key are for -db etcds://…")
	case !isEtcd(o.db) && (strings.Contains(o.db, "://") || strings.HasPrefix(strings.ToLower(o.db), "etcd:")):
		return errors.New("-db must be a file, etcd://HOST:PORT or, for TLS, etcds://HOST:PORT")
	case o.db == "memory" || strings.HasPrefix(o.db, ":") && o.db != memory:
		return fmt.Errorf("-db %q: expected :memory:, or ./%s for a file of this name", o.db, o.db)
	case o.control && isEtcd(o.db):
		return errors.New("-control and -db etcd://… do not go together: clock, faults and request log are in one process, and the other servers would not know of them")
	case o.control && o.controlHosts == nil && !isLoopback(hostOf(o.addr)):
		return fmt.Errorf("-control on %s, which is not loopback, needs -control-host too", o.addr)
	}
	return nil
}

// parseHosts splits a list of host names, each of which may begin with wildcard.
func parseHosts(list, wildcard string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		host := strings.TrimPrefix(name, wildcard)
		if host == "" || strings.ContainsAny(host, " /*") || !isASCII(host) || hostOf(host) != host {
			return nil, fmt.Errorf("%q must be a host name without a port, such as app", name)
		}
	}
	return names, nil
}

// loadPair loads the certificate and key that two flags name.
func loadPair(certFlag, cert, keyFlag, key string) ([]tls.Certificate, error) {
	if cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFlag, keyFlag, err)
	}
	return []tls.Certificate{pair}, nil
}

func isEtcd(db string) bool {
	return strings.HasPrefix(db, "etcd://") || strings.HasPrefix(db, "etcds://")
}

// shownDB is -db without the name and the password of a user.
func (o *options) shownDB() string {
	if at := strings.LastIndexByte(o.db, '@'); isEtcd(o.db) && at >= 0 {
		return strings.SplitAfter(o.db, "//")[0] + o.db[at+1:]
	}
	return o.db
}

// openStore opens what -db names.
func (o *options) openStore() (*store, error) {
	if !isEtcd(o.db) {
		return openStore(o.db)
	}
	config := new(tls.Config)
	var err error
	if config.Certificates, err = loadPair("-etcd-cert", o.etcdCert, "-etcd-key", o.etcdKey); err != nil {
		return nil, usageError{err}
	}
	if o.etcdCA != "" {
		authorities, err := os.ReadFile(o.etcdCA)
		if err != nil {
			return nil, usageError{fmt.Errorf("-etcd-ca: %w", err)}
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, usageError{fmt.Errorf("-etcd-ca: %s has no certificate in PEM", o.etcdCA)}
		}
	}
	address, err := parseEtcdAddress(o.db)
	if err != nil {
		return nil, usageError{fmt.Errorf("-db: %w", err)}
	}
	st, err := openEtcd(address, config)
	says := func(end string) bool { return err != nil && strings.HasSuffix(err.Error(), end) }
	switch {
	case says("EOF"):
		err = fmt.Errorf("%w: is it etcd:// or, for TLS, etcds://?", err)
	case address.user == "" && (says("user name is empty") || says("permission denied")):
		err = fmt.Errorf("%w: -db needs USER:PASSWORD@ before the host", err)
	case says("permission denied"):
		err = fmt.Errorf("%w: the user needs a role that may read and write the prefix %s", err, address.prefix)
	}
	return st, err
}

// etcdAddress is where etcd keeps the records: etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/PREFIX],
// or etcds:// for TLS.
type etcdAddress struct {
	members        []string // their URLs
	prefix         string   // of all keys, with a slash at the end
	user, password string   // or both ""
}

func parseEtcdAddress(text string) (a etcdAddress, err error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 { // a password may have all characters
		a.user, a.password, _ = strings.Cut(rest[:at], ":")
		if rest = rest[at+1:]; a.user == "" || a.password == "" {
			return a, errors.New("expected USER:PASSWORD before the @")
		}
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if number, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || name == "" || number == 0 {
			return a, fmt.Errorf("%q must be HOST:PORT, such as etcd.example:2379", host)
		}
		a.members = append(a.members, strings.Replace(scheme, "etcd", "http", 1)+"://"+host)
	}
	a.prefix = cmp.Or(strings.Trim(prefix, "/"), "grantling") + "/"
	return a, nil
}

// read reads the files that the flags name, before anything is touched.
func (o *options) read() (p *profile, files []*fixtures, certificates []tls.Certificate, err error) {
	if p, err = loadProfile(o.profile); err != nil {
		return
	}
	p.redirectHosts = o.redirectHosts
	for _, name := range o.fixtures {
		file, err := loadFixtures(name, p)
		if err != nil {
			return nil, nil, nil, err
		}
		files = append(files, file)
	}
	certificates, err = loadPair("-tls-cert", o.tlsCert, "-tls-key", o.tlsKey)
	return
}

// serve starts the server and stops it when ctx is done.
func serve(ctx context.Context, o *options, stdout, stderr *outlet) error {
	p, files, certificates, err := o.read()
	if err != nil {
		return usageError{err}
	}
	// The address before the database: a start that cannot listen must not leave
	// a new database behind, with a password that nobody has seen.
	listener, err := net.Listen("tcp", o.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: stop the other program, or take another -addr (port 0 is any free one)", err)
	}
	if err != nil {
		return err
	}
	defer listener.Close()
	st, err := o.openStore()
	if err != nil {
		return err
	}
	defer st.close()
	s, err := newServer(p, st, cmp.Or(o.issuer, o.baseURL(listener.Addr().String())), stderr.openLog(o.log))
	if err != nil {
		return err
	}
	if err := s.openKeys(false, unixTime(s.clock.now().Unix())); err != nil {
		return err
	}
	s.autoApprove = o.autoApprove
	s.loopback = listener.Addr().(*net.TCPAddr).IP.IsLoopback()
	s.hosts = o.controlHosts
	if o.db == memory {
		s.hashRounds = memoryRounds
	}
	o.inspect = cmp.Or(o.inspect, new(s.isLocal()))
	if err := s.furnish(files, o, stderr); err != nil {
		return err
	}
	if o.control {
		if err := s.openControl(); err != nil {
			return err
		}
	}
	if *o.inspect {
		s.openInspector()
		s.openPlayground()
	}
	if o.stopWithStdin {
		var stop context.CancelCauseFunc
		ctx, stop = context.WithCancelCause(ctx)
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop(errors.New("standard input has ended"))
		}()
	}
	if s.autoApprove != "" && !isLoopback(hostOf(o.addr)) {
		s.log.Warn("-auto-approve on an address that is not loopback: anyone who reaches it gets codes and tokens", "username", s.autoApprove, "address", o.addr)
	}
	fmt.Fprintln(stdout, s.url("")) // the listener keeps connections until they are answered
	if certificates != nil {
		listener = tls.NewListener(listener, &tls.Config{Certificates: certificates, NextProtos: []string{"h2", "http/1.1"}})
	}
	return s.answer(ctx, listener)
}

// answer answers requests until ctx is done, and then those in flight.
func (s *server) answer(ctx context.Context, listener net.Listener) error {
	h := s.newHTTPServer()
	h.RegisterOnShutdown(s.eras.end)
	var background sync.WaitGroup
	defer background.Wait()
	sweepCtx, stopSweeping := context.WithCancel(ctx)
	defer stopSweeping()
	background.Go(func() { s.sweepForever(sweepCtx) })
	if s.afterStart != nil {
		// A stop right after the start lets it come to its end, if there is time.
		late, giveUp := context.WithCancel(context.Background())
		context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, giveUp) })
		background.Go(func() { s.afterStart(late) })
	}

	served := make(chan error, 1)
	go func() { served <- h.Serve(listener) }()
	s.log.Info("listening", "address", listener.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.log.Info("stopping", "reason", context.Cause(ctx).Error())
	if s.store.shared() { // another server can take over: go on until the balancer knows
		s.stopping.Store(true)
		time.Sleep(handOverTime)
	}
	patience, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if h.Shutdown(patience) != nil {
		s.log.Warn("stopped before all requests were answered")
		h.Close()
	}
	return nil
}

// handOverTime is how long a server of several goes on answering after a stop, while
// /healthz says that it is not healthy. Balancers ask about once a second.
const handOverTime = 1500 * time.Millisecond

// stopTime is how long requests in flight may take after a stop. The whole stop
// takes less than the ten seconds that container runtimes allow.
const stopTime = 7 * time.Second

// newHTTPServer limits what one connection can cost: a client that sends or
// reads too slowly is cut off.
func (s *server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:           s,
		ErrorLog:          log.New(serverLog{s}, "", 0),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    48 << 10, // an authorization request with a state of 8 KB passes
		// OPTIONS * goes where everything goes: through the check of Host.
		DisableGeneralOptionsHandler: true,
	}
}

// baseURL is the URL of the address listened on: with the host of -addr, or
// loopback where that is all addresses.
func (o *options) baseURL(addr string) string {
	scheme := "http://"
	if o.tlsCert != "" {
		scheme = "https://"
	}
	host, _, _ := net.SplitHostPort(o.addr)
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	_, port, _ := net.SplitHostPort(addr)
	return scheme + net.JoinHostPort(host, port)
}
