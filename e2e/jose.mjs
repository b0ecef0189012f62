// jose verifies signed access tokens, before and after a new key:
// node jose.mjs URL ALG
import assert from "node:assert/strict";
import { createRemoteJWKSet, jwtVerify, SignJWT, exportSPKI, importJWK } from "jose";

const [issuer, alg] = process.argv.slice(2);
const metadata = await (await fetch(issuer + "/.well-known/oauth-authorization-server")).json();
const resource = "https://api.example/mcp";

async function newToken(...more) {
  const body = new URLSearchParams([["grant_type", "client_credentials"], ["client_id", "job"], ["client_secret", "job-secret"], ...more]);
  const response = await fetch(metadata.token_endpoint, { method: "POST", body });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer.access_token;
}

const keys = () => createRemoteJWKSet(new URL(metadata.jwks_uri));
const options = { issuer, audience: resource, typ: "at+jwt", algorithms: [alg], requiredClaims: ["sub", "client_id", "iat", "exp", "jti"] };
const cached = keys();

const first = await newToken(["resource", resource]);
const { payload } = await jwtVerify(first, cached, options);
assert.equal(payload.sub, "job");
assert.equal(payload.client_id, "job");
assert.equal(payload.scope, "read write");
await assert.rejects(jwtVerify(first, cached, { ...options, audience: issuer }), { code: "ERR_JWT_CLAIM_VALIDATION_FAILED" });
await jwtVerify(await newToken(), cached, { ...options, audience: issuer });
await jwtVerify(await newToken(["resource", resource], ["resource", "https://other.example/"]), cached, options);

// After a rotation a cached key set is too old for new tokens, and a fresh one has both keys.
assert.equal((await fetch(issuer + "/_control/keys", { method: "POST" })).status, 200);
const second = await newToken(["resource", resource]);
await assert.rejects(jwtVerify(second, cached, options), { code: "ERR_JWKS_NO_MATCHING_KEY" });
await cached.reload();
await jwtVerify(second, cached, options);
await jwtVerify(first, cached, options);

// What others sign with the public key is no token of the server.
const [jwk] = (await (await fetch(metadata.jwks_uri)).json()).keys;
const pem = new TextEncoder().encode(await exportSPKI(await importJWK(jwk, alg, { extractable: true })));
const forged = await new SignJWT(payload).setProtectedHeader({ alg: "HS256", typ: "at+jwt", kid: jwk.kid }).sign(pem);
const none = Buffer.from('{"alg":"none","typ":"at+jwt"}').toString("base64url") + "." + first.split(".")[1] + ".";
for (const token of [forged, none]) {
  assert.equal((await fetch(metadata.userinfo_endpoint, { headers: { Authorization: "Bearer " + token } })).status, 401);
}
