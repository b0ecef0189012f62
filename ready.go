package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// readyTime is how long -ready asks.
const readyTime = 10 * time.Second

// asksIssuer reports whether -issuer is given, but not -addr: then -ready asks there.
func asksIssuer(flags *flag.FlagSet) bool {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given["issuer"] && !given["addr"]
}

// healthURL is where -ready asks for the server's health.
func (o *options) healthURL() (string, error) {
	if o.byIssuer {
		return strings.TrimSuffix(o.issuer, "/") + "/healthz", nil
	}
	if _, port, _ := net.SplitHostPort(o.addr); port == "0" {
		return "", usageError{errors.New("-ready needs the port that the server listens on: set -addr or -issuer")}
	}
	return o.baseURL(o.addr) + "/healthz", nil
}

// waitUntilReady asks for /healthz until the server answers, as the health check
// of a container does.
func (o *options) waitUntilReady(ctx context.Context, through http.RoundTripper) error {
	at, err := o.healthURL()
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, readyTime)
	defer stop()
	var last error
	for {
		if err := askHealth(ctx, through, at); err == nil {
			return nil
		} else if last == nil || ctx.Err() == nil {
			last = err // rather than that time is up
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", last)
		case <-time.After(readyTime / 100):
		}
	}
}

func askHealth(ctx context.Context, through http.RoundTripper, at string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	response, err := through.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 100))
	if err == nil && (response.StatusCode != http.StatusOK || string(body) != healthy) {
		err = fmt.Errorf("%s: expected 200 OK %q, got %s %.20q", at, healthy, response.Status, body)
	}
	return err
}

// healthTransport asks without a proxy.
//
// Choice: it does not check the certificate. It sends no secret, and -addr rarely
// is a name that the certificate has.
var healthTransport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
