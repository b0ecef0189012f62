// How to test an OAuth client in Node: GRANTLING=path/to/grantling node --test examples/node
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const fixtures = fileURLToPath(new URL('../fixtures.json', import.meta.url));
let server, url;

before(async () => {
  server = spawn(process.env.GRANTLING ?? 'grantling', // it stops when standard input ends, however this test does
    ['-addr', '127.0.0.1:0', '-db', ':memory:', '-control', '-stop-with-stdin', '-log', 'off', '-fixtures', fixtures],
    { stdio: ['pipe', 'pipe', 'inherit'] });
  url = await new Promise((resolve, reject) => {
    server.on('error', reject);
    server.stdout.once('data', (line) => resolve(String(line).trim()));
  });
});
after(() => server.stdin.end());

async function control(method, path, body) {
  const response = await fetch(`${url}/_control/${path}`, { method, body: body && JSON.stringify(body) });
  const answer = await response.json();
  assert.equal(response.status, 200, answer.error);
  return answer;
}

// The client under test: it asks the token endpoint, and once more when that is busy.
async function token(form) {
  for (let tries = 0; tries < 2; tries++) {
    const response = await fetch(`${url}/oauth/token`, {
      method: 'POST',
      headers: { Authorization: `Basic ${btoa('web:web-secret')}` },
      body: new URLSearchParams(form),
    });
    if (response.ok) return response.json();
    if (response.status !== 503) throw new Error((await response.json()).error);
  }
  throw new Error('the token endpoint is busy');
}

test('a client signs in, and refreshes when its token has expired', async () => {
  const state = randomBytes(16).toString('base64url');
  const verifier = randomBytes(32).toString('base64url');
  const authorization = `${url}/oauth/authorize?` + new URLSearchParams({
    response_type: 'code', client_id: 'web', state, code_challenge_method: 'S256',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
  });
  const { redirect_to } = await control('POST', 'authorize', { url: authorization, username: 'alice', decision: 'approve' });
  const callback = new URL(redirect_to).searchParams;
  assert.equal(callback.get('state'), state);
  const first = await token({ grant_type: 'authorization_code', code: callback.get('code'), code_verifier: verifier });

  await control('POST', 'clock', { advance: '2h' }); // the access token expires
  await control('POST', 'faults', { endpoint: 'token', status: 503 });
  const second = await token({ grant_type: 'refresh_token', refresh_token: first.refresh_token });
  assert.notEqual(second.access_token, first.access_token);

  const requests = await control('GET', 'requests');
  assert.deepEqual(requests.map((r) => [r.endpoint, r.status]), [['authorize', 303], ['token', 200], ['token', 503], ['token', 200]]);
  assert.equal(requests[3].flow, requests[0].flow);
  assert.deepEqual(requests.flatMap((r) => r.warnings), []);
});
