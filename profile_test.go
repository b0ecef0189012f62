package main

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// answerCase is one thing that a service answers: whole, with all its members
// in their order. Its name ends in [A] where nobody has seen the service do
// so, and the answer is only likely.
type answerCase struct {
	name   string
	ask    func(i *instance) *reply
	status int
	body   string   // see wantAnswer
	header []string // name, value, name, value; an empty value: the header is not there
}

// testAnswers asks one running server for all of them.
func testAnswers(t *testing.T, i *instance, cases []answerCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := i.in(t)
			c.ask(i).wantAnswer(c.status, c.body, c.header...)
		})
	}
}

// answerPatterns may stand in the body of a wanted answer.
var answerPatterns = strings.NewReplacer(
	"<hex64>", "[0-9a-f]{64}",
	"<base64url43>", "[A-Za-z0-9_-]{43}",
	"<jwt>", `[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`,
	"<number>", "[0-9]+",
	"<uuid>", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
	"<text>", `[^"]+`,
)

// wantAnswer wants a JSON answer with exactly these bytes. Where the value
// cannot be known, the body has one of answerPatterns.
func (r *reply) wantAnswer(status int, body string, header ...string) {
	r.i.Helper()
	want := answerPatterns.Replace(regexp.QuoteMeta(body))
	if got := strings.TrimSuffix(r.body, "\n"); r.StatusCode != status || !regexp.MustCompile(`\A(?:`+want+`)\z`).MatchString(got) {
		r.i.Errorf("got  %d %s\nwant %d %s", r.StatusCode, got, status, body)
	}
	for n := 0; n < len(header); n += 2 {
		if got := r.Header.Get(header[n]); got != header[n+1] {
			r.i.Errorf("%s: %q, want %q", header[n], got, header[n+1])
		}
	}
}

// wantLocation wants a redirect to this URI, to the letter but for answerPatterns.
func (r *reply) wantLocation(location string) {
	r.i.Helper()
	want := answerPatterns.Replace(regexp.QuoteMeta(location))
	if got := r.Header.Get("Location"); r.StatusCode != 303 || !regexp.MustCompile(`\A(?:`+want+`)\z`).MatchString(got) {
		r.i.Errorf("got  %d %s: %s\nwant 303 %s", r.StatusCode, got, r.body, location)
	}
}

// wantErrorPage wants an error page with this text.
func (r *reply) wantErrorPage(status int, code, description string) {
	r.i.Helper()
	r.wantPage(status)
	if got := r.text("error"); got != code {
		r.i.Errorf("the page has error %q, want %q", got, code)
	}
	if got := r.text("error-description"); got != description {
		r.i.Errorf("the page says %q, want %q", got, description)
	}
}

// plain is the authorization request of a client that knows neither scope nor PKCE.
func plain(clientID string, change ...string) url.Values {
	request := authorization(clientID)
	for _, name := range []string{"scope", "code_challenge", "code_challenge_method"} {
		request.Del(name)
	}
	return but(request, change...)
}

// but changes parameters: name, value, name, value; an empty value takes one out.
func but(form url.Values, change ...string) url.Values {
	for n := 0; n < len(change); n += 2 {
		form.Set(change[n], change[n+1])
		if change[n+1] == "" {
			form.Del(change[n])
		}
	}
	return form
}

// plainCode returns a fresh code of alice's for a plain request.
func (i *instance) plainCode(clientID string, change ...string) string {
	i.Helper()
	r := i.as("alice").approve(plain(clientID, change...))
	code := r.param("code")
	if code == "" {
		i.Fatalf("no code in %s", r.location())
	}
	return code
}

// plainExchange is the one valid token request for it.
func plainExchange(clientID, code string, change ...string) url.Values {
	return but(exchangeOf(clientID, code), append([]string{"code_verifier", ""}, change...)...)
}

// plainTokens returns a fresh access and refresh token of alice's.
func (i *instance) plainTokens(clientID string, change ...string) (access, refresh string) {
	i.Helper()
	r := i.post(i.endpoint("token"), plainExchange(clientID, i.plainCode(clientID, change...)))
	access, _ = r.json["access_token"].(string)
	refresh, _ = r.json["refresh_token"].(string)
	if access == "" {
		i.Fatalf("no token: status %d, %s", r.StatusCode, r.body)
	}
	return access, refresh
}

// postJSON sends a form as a JSON object.
func (i *instance) postJSON(target string, form url.Values, header ...string) *reply {
	i.Helper()
	members := object{}
	for name := range form {
		members.add(name, form.Get(name))
	}
	data, err := members.MarshalJSON()
	if err != nil {
		i.Fatal(err)
	}
	return i.browser().do("POST", target, string(data), append([]string{"Content-Type", "application/json"}, header...)...)
}

// postMultipart sends a form as curl -F does.
func (i *instance) postMultipart(target string, form url.Values, header ...string) *reply {
	i.Helper()
	var b strings.Builder
	for name := range form {
		b.WriteString("--a-boundary\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + form.Get(name) + "\r\n")
	}
	b.WriteString("--a-boundary--\r\n")
	return i.browser().do("POST", target, b.String(), append([]string{"Content-Type", "multipart/form-data; boundary=a-boundary"}, header...)...)
}

// withBasic moves the client's authentication from a form to the header.
func withBasic(form url.Values) (url.Values, string, string) {
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(form.Get("client_id"))+":"+url.QueryEscape(form.Get("client_secret"))))
	return but(form, "client_id", "", "client_secret", ""), "Authorization", header
}
