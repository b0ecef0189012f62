package main

import "time"

// unixTime counts whole seconds since 1970, the NumericDate of RFC 7519 §2. The
// server dates everything in whole seconds, so that expires_in, exp and the moment
// of expiry agree. As an expiry, 0 means never.
type unixTime int64

// seconds is a lifetime; 0 means forever.
type seconds int64

// after returns when something of this lifetime, issued at t, expires.
func (t unixTime) after(lifetime seconds) unixTime {
	if lifetime == 0 {
		return 0
	}
	return t + unixTime(lifetime)
}

func (t unixTime) expired(now unixTime) bool { return t != 0 && t <= now }

// UTC is the time for pages to format.
func (t unixTime) UTC() time.Time { return time.Unix(int64(t), 0).UTC() }

// later returns the later of two expiries.
func later(a, b unixTime) unixTime {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// earlier returns the earlier of two expiries.
func earlier(a, b unixTime) unixTime {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// maxLifetime is the longest lifetime of a token, in seconds: a hundred years.
const maxLifetime seconds = 100 * 365 * 24 * 60 * 60
