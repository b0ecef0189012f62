// masto against the Mastodon profile: node masto.mjs URL
import assert from "node:assert/strict";
import { createOAuthAPIClient, createRestAPIClient } from "masto";

const url = process.argv[2];
const redirectUri = "urn:ietf:wg:oauth:2.0:oob";
const anonymous = createRestAPIClient({ url });
const oauth = createOAuthAPIClient({ url });

const app = await anonymous.v1.apps.create({
  clientName: "masto",
  redirectUris: redirectUri,
  scopes: "read write",
  website: "https://app.example",
});
assert.equal(app.name, "masto");
const credentials = { clientId: app.clientId, clientSecret: app.clientSecret, redirectUri };

const own = await oauth.token.create({ grantType: "client_credentials", ...credentials });
assert.equal(own.tokenType, "Bearer");
assert.equal(own.scope, "read");
const asApp = createRestAPIClient({ url, accessToken: own.accessToken });
assert.equal((await asApp.v1.apps.verifyCredentials()).website, "https://app.example");
await assert.rejects(asApp.v1.accounts.verifyCredentials(), {
  statusCode: 422,
  message: "This method requires an authenticated user",
});

const query = new URLSearchParams({
  response_type: "code",
  client_id: app.clientId,
  redirect_uri: redirectUri,
  scope: "read write",
});
const redirect = await fetch(`${url}/oauth/authorize?${query}`, { redirect: "manual" });
const code = new URL(redirect.headers.get("location"), url).searchParams.get("code");
const token = await oauth.token.create({ grantType: "authorization_code", code, ...credentials });
assert.equal(token.scope, "read write");
assert.ok(Math.abs(token.createdAt - Date.now() / 1000) < 60);
const asUser = createRestAPIClient({ url, accessToken: token.accessToken });
const account = await asUser.v1.accounts.verifyCredentials();
assert.equal(account.username, "alice");
assert.equal(account.source.privacy, "public");
assert.equal((await asUser.v1.instance.fetch()).title, "Mastodon");
assert.equal((await asUser.v2.instance.fetch()).domain, new URL(url).host);

await assert.rejects(oauth.token.create({ grantType: "authorization_code", code, ...credentials }), {
  statusCode: 400,
  message: "invalid_grant",
});
await oauth.revoke({ ...credentials, token: own.accessToken });
await assert.rejects(asApp.v1.apps.verifyCredentials(), { statusCode: 401, message: "The access token was revoked" });
