// A page with oidc-client-ts in Chromium: sign in, sign in with another browser, renew silently, twice.
// usage: node silent_renew.mjs ISSUER CHROMIUM; it prints what the ID token says at first and after each renewal.
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { chromium } from 'playwright-core'

const [issuer, executablePath] = process.argv.slice(2)
const library = readFileSync(new URL('./node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js', import.meta.url))
const page = `<!doctype html><title>app</title><script src="/library.js"></script><script>
  const manager = new oidc.UserManager({
    authority: ${JSON.stringify(issuer)}, client_id: 'web', redirect_uri: location.origin + '/callback',
    scope: 'openid users:read offline_access', automaticSilentRenew: false, filterProtocolClaims: false,
  })
  const signedIn = location.search ? manager.signinCallback().then((user) => user.profile) : null
</script>`
const app = createServer((request, response) => {
  const isScript = request.url === '/library.js'
  response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html')
  response.end(isScript ? library : page)
})
await new Promise((listening) => app.listen(0, '127.0.0.1', listening))
const address = `http://127.0.0.1:${app.address().port}/callback`

/** Fill in the log-in page. */
async function logIn(tab) {
  await tab.fill('input[name=username]', 'alice@example.com')
  await tab.fill('input[name=password]', 'correct horse')
  await tab.click('form button')
}

const browser = await chromium.launch({
  executablePath,
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    '--disable-web-security', // Only https origins can be allowed to read tokens, and this app is on loopback.
  ],
})
try {
  const tab = await (await browser.newContext()).newPage()
  await tab.goto(address)
  await tab.evaluate(() => { manager.signinRedirect() })
  await tab.waitForSelector('input[name=password]')
  await logIn(tab)
  await tab.click('button[value=allow]')
  await tab.waitForURL(`${address}?**`)
  const said = [await tab.evaluate(() => signedIn)]
  for (let round = 0; round < 2; round += 1) {
    await sleep(1100) // auth_time counts seconds.
    const elsewhere = await (await browser.newContext()).newPage()
    await elsewhere.goto(`${issuer}/accounts/login/`)
    await logIn(elsewhere)
    await elsewhere.waitForURL(`${issuer}/`)
    said.push(await tab.evaluate(() => manager.signinSilent().then((user) => user.profile)))
  }
  console.log(JSON.stringify(said))
} finally {
  await browser.close()
  app.close()
}
