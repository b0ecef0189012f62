// The MCP SDK's clients at an MCP server of the SDK, which introspects:
// node mcp.mjs URL @modelcontextprotocol/sdk|@modelcontextprotocol/client DOCUMENT
import assert from "node:assert/strict";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter } from "@modelcontextprotocol/sdk/server/auth/router.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

const [issuer, library, documentURL] = process.argv.slice(2);
const isFirst = library === "@modelcontextprotocol/sdk";
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = isFirst
  ? {
      ...(await import("@modelcontextprotocol/sdk/client/index.js")),
      ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
      ...(await import("@modelcontextprotocol/sdk/client/auth.js")),
    }
  : await import(library);
const oauthMetadata = await (await fetch(issuer + "/.well-known/oauth-authorization-server")).json();

async function post(url, init) {
  const response = await fetch(url, { method: "POST", ...init });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer;
}

// The MCP server is a client with no grant, which may introspect the tokens of all.
const own = await post(issuer + "/_control/clients", { body: JSON.stringify({ client_id: "mcp", grant_types: [], redirect_uris: [] }) });

async function verifyAccessToken(token) {
  const headers = { Authorization: "Basic " + btoa(`mcp:${own.client_secret}`) };
  const about = await post(oauthMetadata.introspection_endpoint, { headers, body: new URLSearchParams({ token }) });
  if (!about.active) throw new InvalidTokenError("not active");
  const { client_id: clientId, scope, exp: expiresAt, aud, sub } = about;
  return { token, clientId, scopes: scope.split(" "), expiresAt, resource: aud && new URL(aud), extra: { sub } };
}

const app = createMcpExpressApp();
const listener = app.listen(0, "127.0.0.1");
await new Promise((done) => listener.once("listening", done));
const resource = new URL(`http://127.0.0.1:${listener.address().port}/mcp`);
const resourceMetadataUrl = getOAuthProtectedResourceMetadataUrl(resource);
app.use(mcpAuthMetadataRouter({ oauthMetadata, resourceServerUrl: resource, scopesSupported: ["read"] }));
app.post(
  "/mcp",
  requireBearerAuth({ verifier: { verifyAccessToken }, requiredScopes: ["read"], expectedResource: resource, resourceMetadataUrl }),
  async (request, response) => {
    const server = new McpServer({ name: "whoami", version: "1.0.0" });
    server.registerTool("whoami", {}, ({ authInfo }) => ({ content: [{ type: "text", text: JSON.stringify(authInfo) }] }));
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
    await server.connect(transport);
    await transport.handleRequest(request, response, request.body);
  },
);
app.all("/mcp", (request, response) => response.sendStatus(405));

function newProvider(more, metadata) {
  const redirectUrl = "http://127.0.0.1:8080/callback";
  const kept = {};
  return {
    kept,
    redirectUrl,
    clientMetadata: {
      client_name: library,
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      ...metadata,
    },
    state: () => "xyz",
    clientInformation: () => kept.client,
    saveClientInformation: (client) => void (kept.client = client),
    tokens: () => kept.tokens,
    saveTokens: (tokens) => void (kept.tokens = tokens),
    codeVerifier: () => kept.verifier,
    saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
    discoveryState: () => kept.discovery,
    saveDiscoveryState: (discovery) => void (kept.discovery = discovery),
    redirectToAuthorization: (url) => void (kept.url = url),
    ...more,
  };
}

async function connect(authProvider) {
  const client = new Client({ name: "e2e", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(resource, { authProvider }));
  return client;
}

// authorize goes where the browser would, and returns with the code.
async function authorize(provider) {
  await assert.rejects(connect(provider), UnauthorizedError);
  const redirect = await fetch(provider.kept.url, { redirect: "manual" });
  assert.equal(redirect.status, 303, await redirect.text());
  const answer = new URL(redirect.headers.get("location")).searchParams;
  assert.equal(answer.get("state"), "xyz");
  assert.equal(answer.get("iss"), issuer);
  const transport = new StreamableHTTPClientTransport(resource, { authProvider: provider });
  await transport.finishAuth(isFirst ? answer.get("code") : answer);
}

async function whoami(client) {
  const { content } = await client.callTool({ name: "whoami", arguments: {} });
  return JSON.parse(content[0].text);
}

async function walk(provider) {
  await authorize(provider);
  const { kept } = provider;
  assert.equal(kept.url.searchParams.get("resource"), resource.href);
  const client = await connect(provider);
  const about = await whoami(client);
  assert.equal(about.token, kept.tokens.access_token);
  assert.equal(about.clientId, kept.client.client_id);
  assert.deepEqual(about.scopes, ["read"]);
  assert.equal(about.resource, resource.href);
  assert.equal(about.extra.sub, "alice");

  // The access token expires: the SDK refreshes, and nobody notices.
  const { refresh_token } = kept.tokens;
  await post(issuer + "/_control/clock", { body: '{"advance":"61m"}' });
  const later = await whoami(client);
  assert.notEqual(later.token, about.token);
  assert.equal(later.token, kept.tokens.access_token);
  assert.notEqual(kept.tokens.refresh_token, refresh_token);
  assert.equal(later.resource, resource.href);
  await client.close();
}

for (const token_endpoint_auth_method of ["none", "client_secret_basic", "client_secret_post"]) {
  const provider = newProvider({}, { token_endpoint_auth_method });
  await walk(provider);
  assert.equal(provider.kept.client.client_secret === undefined, token_endpoint_auth_method === "none");
}

const described = newProvider({ clientMetadataUrl: documentURL });
await walk(described);
assert.equal(described.kept.client.client_id, documentURL);

// A token for this server alone, or for another resource, is none for the MCP server.
for (const other of [undefined, new URL("https://other.example/mcp")]) {
  const provider = newProvider({ validateResourceURL: async () => other });
  await authorize(provider);
  assert.equal((await verifyAccessToken(provider.kept.tokens.access_token)).resource?.href, other?.href);
  await assert.rejects(connect(provider));
}

listener.close();
listener.closeAllConnections();
