// megalodon against the Mastodon profile: node megalodon.mjs URL
import assert from "node:assert/strict";
import megalodon from "megalodon";

const url = process.argv[2];
const { default: generator, detector } = megalodon;

assert.equal(await detector(url), "mastodon");
const anonymous = generator("mastodon", url);
const app = await anonymous.registerApp("megalodon", { scopes: ["read", "write"], website: "https://app.example" });
const redirect = await fetch(app.url, { redirect: "manual" });
const code = new URL(redirect.headers.get("location"), url).searchParams.get("code");
const token = await anonymous.fetchAccessToken(app.client_id, app.client_secret, code);
assert.equal(token.scope, "read write");

const user = generator("mastodon", url, token.access_token);
assert.equal((await user.verifyAccountCredentials()).data.username, "alice");
assert.equal((await user.getInstance()).data.title, "Mastodon");
await user.revokeToken(app.client_id, app.client_secret, token.access_token);
await assert.rejects(user.verifyAccountCredentials(), /401/);
