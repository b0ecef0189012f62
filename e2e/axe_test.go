package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// axe is axe-core, which finds what stands in the way of people who use a
// screen reader, a keyboard or their eyes in another way than most.
var axe = sync.OnceValues(func() (string, error) {
	source, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	return string(source), err
})

// resize shows the page at a size, in light or dark.
func (b *tab) resize(width, height int64, scheme string) {
	b.Helper()
	run(b, chromedp.EmulateViewport(width, height))
	run(b, func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return chromedp.Void{}, err
	})
}

func await(p *runtime.EvaluateParams) { p.AwaitPromise = new(true) }

// audit wants the page to have no violation in four forms, to fit each of
// them, and to be usable by keyboard alone. With GRANTLING_SCREENSHOTS=DIR it
// leaves pictures there.
func (b *tab) audit(name string) {
	b.Helper()
	needPackages(b.T)
	source, err := axe()
	if err != nil {
		b.Fatal(err)
	}
	b.tabThrough(name)
	run(b, chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(); scrollTo(0, 0)"))
	run(b, chromedp.Evaluate[chromedp.Void](source))
	for _, size := range []struct{ width, height int64 }{{360, 740}, {1280, 800}} {
		for _, scheme := range []string{"light", "dark"} {
			b.resize(size.width, size.height, scheme)
			form := fmt.Sprintf("%s-%d-%s", name, size.width, scheme)
			if width := run(b, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); width > size.width {
				b.Errorf("%s is %d pixels wide", form, width)
			}
			violations := run(b, chromedp.Evaluate[[]string](`axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + ": " + n.failureSummary)))`, await))
			for _, violation := range violations {
				b.Errorf("%s: %s", form, violation)
			}
			if dir := os.Getenv("GRANTLING_SCREENSHOTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, form+".png"), run(b, chromedp.FullScreenshot(100)), 0o644); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.resize(1280, 800, "light")
}

// tabThrough wants the Tab key to reach every control that can be seen, and
// each to show that it has the focus.
func (b *tab) tabThrough(name string) {
	b.Helper()
	controls := run(b, chromedp.Evaluate[int](`
		window.controls = new Set([...document.querySelectorAll("a[href], button, input:not([type=hidden]), textarea, select, summary, [tabindex]")]
			.filter(e => e.checkVisibility() && !(e.type === "radio" && !e.checked)));
		document.activeElement.blur();
		controls.size`))
	for range controls + 2 { // the browser's own, and back to the top
		run(b, chromedp.KeyEvent("\t"))
		problem := run(b, chromedp.Evaluate[string](`(() => {
			const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
			if (e === document.body) return "";
			controls.delete(e);
			if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "the focus is not seen on " + e.outerHTML;
			if (box.bottom <= 0 || box.top >= innerHeight) return "out of sight: " + e.outerHTML;
			return "";
		})()`))
		if problem != "" {
			b.Errorf("%s: %s", name, problem)
		}
	}
	for _, missed := range run(b, chromedp.Evaluate[[]string](`[...controls].map(e => e.outerHTML)`)) {
		b.Errorf("%s: the Tab key does not reach %s", name, missed)
	}
}

// The names that test a page: markup, length, another direction, pictures.
var names = []string{
	`<script>alert(1)</script>`,
	"Notebook of the Botanical Society of Upper and Lower Grantle",
	"مذكرات الحقل",
	"🌱 Sprout",
}

// TestEveryPage goes through all pages as they look with everything in them.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := newTab(t)
	b.open(s.URL)
	b.audit("start")
	b.open(s.URL + "/account/applications")
	b.audit("sign-in")
	b.signIn("alice", "guess")
	b.audit("sign-in-wrong")
	b.fill("input[name=password]", "wonderland")
	b.click("main form button")
	b.audit("applications-none")
	b.open(s.URL + "/account/authorized")
	b.audit("authorized-none")
	b.open(s.URL)
	b.audit("start-signed-in")
	b.open(s.URL + "/explain/")
	b.audit("explanations")
	b.open(s.URL + "/explain/code-used")
	b.audit("explain")

	b.open(s.URL + "/account/applications/new")
	b.audit("new")
	b.fill("[name=client_name]", "Field notes")
	b.fill("[name=client_uri]", "notes.example")
	b.fill("[name=redirect_uris]", "http://notes.example/callback")
	b.press("[value=authorization_code]")
	b.press("[value=refresh_token]")
	if status := b.click("main form p button"); status != http.StatusUnprocessableEntity {
		t.Errorf("status %d", status)
	}
	b.audit("new-wrong")
	for _, name := range names {
		b.open(s.URL + "/account/applications/new")
		b.fill("[name=client_name]", name)
		b.fill("[name=client_uri]", "https://notes.example/about")
		b.fill("[name=description]", "Keeps notes of the field.")
		b.fill("[name=redirect_uris]", "http://127.0.0.1:8080/callback")
		b.fill("[name=scope]", "read write")
		run(b, chromedp.Click(chromedp.CSS("[name=out_of_band]"), chromedp.NodeVisible))
		b.click("main form p button")
		b.wantText("h1", name)
		if name == names[0] {
			b.audit("registered")
		}
		link := run(b, chromedp.Evaluate[string](`document.querySelector("details a").href`))
		b.open(link)
		b.wantText("h1", name)
		b.audit("consent-" + strings.Fields(strings.Trim(name, "<>🌱 "))[0][:2])
		b.click("button[value=approve]")
		b.wantText("main", name)
	}
	b.audit("code")
	b.open(s.URL + "/account/applications")
	b.audit("applications")
	b.click(".rows a")
	run(b, chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach(d => d.open = true)`))
	b.audit("application")
	b.open(s.URL + "/account/applications/new")
	b.fill("[name=client_name]", "Field notes")
	b.fill("[name=redirect_uris]", "http://127.0.0.1:8080/callback")
	b.click("main form p button")
	run(b, chromedp.Reload())
	b.audit("application-sent-twice")
	b.open(s.URL + "/account/authorized")
	b.audit("authorized")

	b.open(s.web().AuthCodeURL("xyz"))
	b.audit("consent")
	b.open(s.ask("xyz", "http://127.0.0.1:8080/callback", oauth2.GenerateVerifier()))
	b.audit("consent-public")
}

// TestEveryError is for the pages that nobody wants to see.
func TestEveryError(t *testing.T) {
	t.Parallel()
	s := start(t)
	b := newTab(t)
	c := s.web()
	c.RedirectURL = "https://evil.example/callback"
	for name, url := range map[string]string{
		"error-redirect-uri": c.AuthCodeURL("xyz"),
		"error-client":       s.URL + "/oauth/authorize?response_type=code&client_id=none",
		"error-not-found":    s.URL + "/none",
	} {
		b.open(url)
		b.audit(name)
	}
	b.open(s.URL + "/login")
	second := b.second()
	second.open(s.URL + "/login")
	second.signIn("alice", "wonderland")
	b.signIn("alice", "wonderland")
	b.audit("sign-in-out-of-date")
	b.open(s.ask("xyz", "http://127.0.0.1:8080/callback", oauth2.GenerateVerifier()))
	second.open(s.URL + "/login")
	second.signIn("alice", "wonderland")
	b.click("button[value=approve]")
	b.audit("error-out-of-date")
}

// TestEveryDevicePage is for the page where the user of a device enters its code.
func TestEveryDevicePage(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := s.native()
	c.Endpoint.DeviceAuthURL = s.URL + "/oauth/device_authorization"
	b := newTab(t)
	b.open(s.URL + "/device")
	b.signIn("alice", "wonderland")
	b.audit("device")
	b.fill("[name=user_code]", "BCDF-GHJK")
	if status := b.click("main form button"); status != http.StatusUnprocessableEntity {
		t.Errorf("status %d", status)
	}
	b.audit("device-wrong")
	for decision, heading := range map[string]string{"approve": "Device connected", "deny": "Access denied"} {
		d, err := c.DeviceAuth(t.Context(), oauth2.SetAuthURLParam("resource", "https://api.example/notes"))
		if err != nil {
			t.Fatal(err)
		}
		b.open(d.VerificationURIComplete)
		b.audit("device-consent")
		b.click("button[value=" + decision + "]")
		b.wantText("h1", heading)
		b.audit("device-" + decision)
		b.open(d.VerificationURIComplete)
		b.audit("error-device-answered")
	}
}

// TestFormPostPage is for the page that sends the answer to the client as a form,
// which stays where a client says nothing.
func TestFormPostPage(t *testing.T) {
	t.Parallel()
	s := start(t)
	asked := make(chan string, 10)
	client := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.PostFormValue("state")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(client.Close)
	c := s.native()
	c.RedirectURL = client.URL + "/callback"
	b := newTab(t)
	b.open(c.AuthCodeURL("xyz", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()), oauth2.SetAuthURLParam("response_mode", "form_post")))
	b.signIn("alice", "wonderland")
	b.click("button[value=approve]")
	if state := <-asked; state != "xyz" {
		t.Errorf("the client gets the state %q", state)
	}
	b.wantText("h1", "Back to Native app")
	b.audit("form-post")
}
