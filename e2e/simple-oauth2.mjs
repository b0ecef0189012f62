// simple-oauth2 against a profile:
// node simple-oauth2.mjs URL AUTHORIZE TOKEN USER SCOPE form|json header|body REFRESH CLIENT SAYS REVOKE
import assert from "node:assert/strict";
import { AuthorizationCode, ClientCredentials } from "simple-oauth2";

const [tokenHost, authorizePath, tokenPath, userPath, scope, bodyFormat, authorizationMethod, refresh, client, says, revokePath] =
  process.argv.slice(2);
const config = {
  client: { id: "app", secret: "app-secret" },
  auth: { tokenHost, tokenPath, ...(revokePath && { revokePath }) },
  options: { bodyFormat, authorizationMethod },
};
const redirect_uri = "http://127.0.0.1:8080/callback";

async function wantUser(token) {
  const response = await fetch(tokenHost + userPath, { headers: { Authorization: `Bearer ${token.token.access_token}` } });
  const body = await response.text();
  assert.equal(response.status, 200, body);
  assert.ok(body.includes(says), body);
}

const flow = new AuthorizationCode({ ...config, auth: { ...config.auth, authorizePath } });

async function freshCode() {
  const redirect = await fetch(flow.authorizeURL({ redirect_uri, scope, state: "xyz" }), { redirect: "manual" });
  const answer = new URL(redirect.headers.get("location")).searchParams;
  assert.equal(answer.get("state"), "xyz");
  return answer.get("code");
}

const code = await freshCode();
const token = await flow.getToken({ code, redirect_uri });
assert.ok(!token.expired());
await wantUser(token);
if (refresh === "true") {
  const fresh = await token.refresh();
  assert.notEqual(fresh.token.access_token, token.token.access_token);
  assert.notEqual(fresh.token.refresh_token, token.token.refresh_token);
  await wantUser(fresh);
} else {
  assert.equal(token.token.refresh_token, undefined);
}
if (revokePath) {
  const own = await flow.getToken({ code: await freshCode(), redirect_uri });
  await own.revoke("access_token"); // parses the answer
  const { status } = await fetch(tokenHost + userPath, { headers: { Authorization: `Bearer ${own.token.access_token}` } });
  assert.ok(status === 401 || status === 403, `a revoked token: ${status}`);
}
await assert.rejects(flow.getToken({ code, redirect_uri }), (error) => error.output.statusCode === 400);

const own = new ClientCredentials(config).getToken({ scope });
if (client === "true") {
  assert.equal((await own).token.token_type.toLowerCase(), "bearer");
} else {
  await assert.rejects(own, (error) => error.data.payload.error === "unsupported_grant_type");
}
