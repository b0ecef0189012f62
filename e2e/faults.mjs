// Walks through the authorization code grant with openid-client, once for each
// fault named on the command line, and prints what the library makes of it.
//
//	node faults.mjs http://127.0.0.1:9096 '{"name":"wrong_state"}' ...
import * as client from 'openid-client';

const [url, ...faults] = process.argv.slice(2);

async function control(path, body) {
  const response = await fetch(`${url}/_control/${path}`, { method: 'POST', body: JSON.stringify(body) });
  return response.json();
}

const config = await client.discovery(new URL(url), 'native', undefined, client.None(),
  { algorithm: 'oauth2', execute: [client.allowInsecureRequests] });
config.timeout = 2; // seconds

async function walk() {
  const state = client.randomState();
  const verifier = client.randomPKCECodeVerifier();
  const authorization = client.buildAuthorizationUrl(config, {
    redirect_uri: 'http://127.0.0.1:8080/callback', state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  const { redirect_to } = await control('authorize', { url: authorization.href, username: 'alice', decision: 'approve' });
  return client.authorizationCodeGrant(config, new URL(redirect_to), { pkceCodeVerifier: verifier, expectedState: state });
}

const told = [];
for (const fault of faults) {
  await control('faults', JSON.parse(fault));
  try {
    const token = await walk();
    told.push({ type: token.token_type, expires: token.expires_in !== undefined, refresh: token.refresh_token !== undefined });
  } catch (error) {
    const causes = [];
    for (let e = error; e instanceof Error; e = e.cause) {
      const code = e.error ?? e.code; // of OAuth, or the library's own
      const message = e.message.replace(/ in JSON at .*/, ' in JSON'); // which is told differently by each version of Node
      causes.push(typeof code === 'string' ? `${message} (${code})` : message);
    }
    told.push({ error: causes.join(': ') });
  }
}
console.log(JSON.stringify(told));
