// A single-page app with oidc-client-ts, which runs in the browser. It shows what
// came of a sign-in as JSON, or the error.
const { issuer } = document.body.dataset;
const manager = new oidc.UserManager({
  authority: issuer,
  metadataUrl: issuer + "/.well-known/oauth-authorization-server",
  client_id: "native",
  redirect_uri: location.origin + "/callback",
  response_mode: "fragment",
  scope: "read write",
});
document.getElementById("sign-in").addEventListener("click", () => manager.signinRedirect({ state: "page 7" }));

async function signedIn() {
  const user = await manager.signinCallback();
  const { access_token, refresh_token, scope, token_type, state } = user;
  const headers = { Authorization: "Bearer " + access_token };
  const { sub } = await (await fetch(issuer + "/userinfo", { headers })).json();
  const refreshed = await manager.signinSilent(); // by its refresh token
  await manager.revokeTokens();
  const { status } = await fetch(issuer + "/userinfo", { headers: { Authorization: "Bearer " + refreshed.access_token } });
  return { scope, token_type, state, sub, isNew: refreshed.access_token !== access_token && refreshed.refresh_token !== refresh_token, status };
}

if (location.pathname === "/callback") {
  const outcome = document.getElementById("outcome");
  outcome.textContent = await signedIn().then(JSON.stringify, String);
}
