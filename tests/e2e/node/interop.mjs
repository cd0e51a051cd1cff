// openid-client, a certified library of others, walks through every flow against a running server.
// usage: node interop.mjs ISSUER; it reads from standard input where to send the user's browser, and what came of it.
import * as client from 'openid-client'
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'

const issuer = new URL(process.argv[2])
const callback = 'http://127.0.0.1:53123/callback'
const options = { execute: [client.allowInsecureRequests] }
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** Ask the test to act as the user's browser; what it answers. */
async function browser(request) {
  console.log(JSON.stringify(request))
  return JSON.parse((await lines.next()).value)
}

// Authorization code with PKCE, and what follows from it.
const web = await client.discovery(issuer, 'web', undefined, client.None(), options)
assert.equal(web.serverMetadata().issuer, issuer.href.replace(/\/$/, ''))
assert.ok(web.serverMetadata().supportsPKCE())
const pkceCodeVerifier = client.randomPKCECodeVerifier()
const expectedState = client.randomState()
const expectedNonce = client.randomNonce()
const address = client.buildAuthorizationUrl(web, {
  redirect_uri: callback,
  scope: 'openid email users:read',
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
  code_challenge_method: 'S256',
  state: expectedState,
  nonce: expectedNonce,
})
const { back } = await browser({ authorize: address.href })
const tokens = await client.authorizationCodeGrant(web, new URL(back), { pkceCodeVerifier, expectedState, expectedNonce })
const subject = tokens.claims().sub
assert.equal(tokens.scope, 'openid email users:read')
assert.equal((await client.fetchUserInfo(web, tokens.access_token, subject)).email, 'alice@example.com')
const api = new URL('/api/v1/users/me', issuer)
const me = await client.fetchProtectedResource(web, tokens.access_token, api, 'GET')
assert.equal((await me.json()).email, 'alice@example.com')

const fresh = await client.refreshTokenGrant(web, tokens.refresh_token)
assert.notEqual(fresh.refresh_token, tokens.refresh_token)
await client.tokenRevocation(web, fresh.refresh_token)
await assert.rejects(client.refreshTokenGrant(web, fresh.refresh_token), { error: 'invalid_grant' })
const logout = client.buildEndSessionUrl(web, { id_token_hint: tokens.id_token })
assert.equal((await fetch(logout)).status, 200)

// Client credentials and introspection, with either way to show the secret.
for (const authentication of [client.ClientSecretBasic, client.ClientSecretPost]) {
  const machine = await client.discovery(issuer, 'machine', undefined, authentication('s'.repeat(43)), options)
  const own = await client.clientCredentialsGrant(machine, { scope: 'users:read' })
  assert.equal((await client.tokenIntrospection(machine, own.access_token)).active, true)
  await client.tokenRevocation(machine, own.access_token)
  assert.equal((await client.tokenIntrospection(machine, own.access_token)).active, false)
}

// A device: the library polls while the user answers.
const tv = await client.discovery(issuer, 'tv', undefined, client.None(), options)
const device = await client.initiateDeviceAuthorization(tv, { scope: 'openid users:read' })
await browser({ device: device.verification_uri_complete })
const seen = await client.pollDeviceAuthorizationGrant(tv, device)
assert.equal(seen.scope, 'openid users:read')

console.log(JSON.stringify({ done: true }))
process.exit(0)
