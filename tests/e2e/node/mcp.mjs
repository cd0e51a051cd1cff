// The OAuth client of the Model Context Protocol's SDK: it knows the address of the API alone, and finds all the rest.
// usage: node mcp.mjs API_ADDRESS [CLIENT_METADATA_URL]; it reads from standard input where the user's browser came back to.
import { auth, extractWWWAuthenticateParams } from '@modelcontextprotocol/sdk/client/auth.js'
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'

const [api, clientMetadataUrl] = process.argv.slice(2)
const callback = 'http://127.0.0.1:53123/callback'
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const kept = {}
let asked

/** What an editor or an agent keeps between two runs. */
const provider = {
  redirectUrl: callback,
  clientMetadataUrl,
  clientMetadata: {
    client_name: 'An agent',
    redirect_uris: [callback],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  state: () => 'a-state',
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier },
  redirectToAuthorization: (address) => { asked = address },
}

const call = (token) => fetch(api, token && { headers: { authorization: `Bearer ${token}` } })
const audience = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).aud

const refused = await call()
assert.equal(refused.status, 401)
const { resourceMetadataUrl } = extractWWWAuthenticateParams(refused)
assert.equal(new URL(resourceMetadataUrl).pathname, '/.well-known/oauth-protected-resource/api')

assert.equal(await auth(provider, { serverUrl: api, resourceMetadataUrl }), 'REDIRECT')
const resource = asked.searchParams.get('resource')
assert.equal(resource, new URL('/api', api).href)
console.log(JSON.stringify({ authorize: asked.href }))
const { back } = JSON.parse((await lines.next()).value)
const answer = new URL(back).searchParams
assert.equal(answer.get('state'), 'a-state')

const authorizationCode = answer.get('code')
assert.equal(await auth(provider, { serverUrl: api, resourceMetadataUrl, authorizationCode }), 'AUTHORIZED')
const first = kept.tokens
assert.equal(audience(first.access_token), resource)
assert.equal((await call(first.access_token)).status, 200)

assert.equal(await auth(provider, { serverUrl: api, resourceMetadataUrl }), 'AUTHORIZED')
assert.notEqual(kept.tokens.refresh_token, first.refresh_token)
assert.equal(audience(kept.tokens.access_token), resource)
assert.equal((await call(kept.tokens.access_token)).status, 200)

console.log(JSON.stringify({ done: kept.client.client_id }))
process.exit(0)
