// Chromium, driven as a person uses it, types an address into the form and saves users in the admin.
// usage: node sign_in.mjs CHROMIUM URL PASSWORD PICTURES ADDRESS...; PICTURES is a folder for screenshots, or nothing.
import { chromium } from 'playwright-core'
import assert from 'node:assert/strict'

const [executablePath, url, password, pictures, ...addresses] = process.argv.slice(2)
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync']
const browser = await chromium.launch({ executablePath, args, headless: true })

async function picture(page, name) {
  if (!pictures) return
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    await page.screenshot({ path: `${pictures}/${name}-${colorScheme}.png` })
  }
}

for (const [number, address] of addresses.slice(0, 2).entries()) {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(`${url}/accounts/login/`)
  await page.getByLabel('E-mail address').fill(address)
  await page.getByLabel('Password').fill('wrong')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('alert').waitFor()
  assert.equal(await page.getByLabel('E-mail address').inputValue(), address, 'the form shows what was typed')
  await picture(page, `login-${number}`)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL(`${url}/`)
  const home = await page.locator('main').innerText()
  assert.ok(home.includes(`signed in as ${address}`), home)
  await picture(page, `home-${number}`)

  const device = (await context.cookies()).find((cookie) => cookie.name === 'known_device')
  assert.ok(device.httpOnly && device.sameSite === 'Lax')
  assert.ok(!(await page.evaluate('document.cookie')).includes('known_device'))

  if (number) continue
  // Each user's page in the admin: saved as it is shown.
  await page.goto(`${url}/admin/accounts/user/`)
  await picture(page, `list-${number}`)
  for (const other of addresses) {
    await page.getByRole('link', { name: other, exact: true }).click()
    assert.equal(await page.locator('input[name=email]').inputValue(), other)
    await page.locator('input[name=display_name]').fill('Saved')
    await picture(page, `user-${number}`)
    await page.getByRole('button', { name: 'Save', exact: true }).click()
    assert.match(await page.locator('.messagelist').innerText(), /was changed successfully/)
  }
}

// The admin's own sign-in takes them, too.
const page = await (await browser.newContext()).newPage()
await page.goto(`${url}/admin/login/?next=/admin/`)
await page.locator('input[name=username]').fill(addresses[0])
await page.locator('input[name=password]').fill(password)
await page.locator('input[type=submit]').click()
await page.getByText('Site administration').first().waitFor()
await browser.close()
console.log('done')
