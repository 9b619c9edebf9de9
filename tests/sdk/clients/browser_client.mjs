// Replays the scenario with a published browser client in Chromium: `browser_client.mjs segment|segment-batching|rudder|
// rudder-beacon`, scenario on stdin. Prints the ids that the clients made up as JSON.
//
// Every visitor of the scenario is a browser context of its own (own cookies, own storage). The page and the client's
// script come from a loopback server that this program runs, on another origin than the gateway, so that the browser
// asks for permission (CORS) as it would on a customer's site. A request to anywhere else is refused and reported.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import path from 'node:path';

const modules = process.env.SEGUE_SDK_MODULES;
const gateway = process.env.SEGUE_URL;
const require = createRequire(`${modules}/`);
const { chromium } = require('playwright-core');
const deliveryMsMax = 30_000;

const scripts = {
  segment: '@segment/analytics-next/dist/umd/index.js',
  rudder: '@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js',
};

const [variant] = process.argv.slice(2);
const family = variant.startsWith('segment') ? 'segment' : 'rudder';

// Serves the page, the client's script and whatever chunks that script asks for.
function serve() {
  const script = path.join(modules, 'node_modules', scripts[family]);
  const page = new URL(`pages/${family}.html`, import.meta.url);
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const file = pathname === '/shop' ? page : path.join(path.dirname(script), path.basename(pathname));
    try {
      const body = readFileSync(file);
      response.writeHead(200, { 'content-type': pathname === '/shop' ? 'text/html; charset=utf-8' : 'text/javascript' });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

// Follows what a page sends to the gateway: which calls were answered with 200, and what went wrong.
function follow(context, origin) {
  const seen = { delivered: new Set(), beacons: [], faults: [] };
  context.on('response', async (response) => {
    const request = response.request();
    if (!request.url().startsWith(gateway) || request.method() !== 'POST') return;
    if (response.status() !== 200) {
      seen.faults.push(`${request.url()} answered ${response.status()}: ${await response.text().catch(() => '')}`);
      return;
    }
    const sent = request.postData();
    const calls = sent === null ? seen.beacons.shift() : JSON.parse(sent).batch ?? [JSON.parse(sent)];
    for (const call of calls ?? []) seen.delivered.add(call.messageId);
  });
  context.on('requestfailed', (request) => {
    if (request.url().startsWith(gateway)) seen.faults.push(`${request.url()} failed: ${request.failure()?.errorText}`);
  });
  context.on('console', (message) => {
    if (message.type() === 'error') seen.faults.push(`console: ${message.text()}`);
  });
  // Not by intercepting: the browser would then no longer ask the gateway for permission (CORS preflight).
  context.on('request', (request) => {
    const asked = new URL(request.url());
    if (asked.protocol !== 'data:' && ![gateway, origin].includes(asked.origin)) {
      seen.faults.push(`asked for ${request.url()}, which is neither the page nor the gateway`);
    }
  });
  return seen;
}

// Waits until `count` calls were answered with 200. A client may try again after a failure, so a fault alone is no end.
async function untilDelivered(page, seen, count) {
  const end = Date.now() + deliveryMsMax;
  while (seen.delivered.size < count) {
    if (Date.now() > end) {
      throw new Error(`only ${seen.delivered.size} of ${count} calls were delivered; ${seen.faults.join('; ')}`);
    }
    await page.waitForEvent('response', { timeout: 200 }).catch(() => undefined);
  }
}

async function open(browser, origin) {
  const context = await browser.newContext();
  const seen = follow(context, origin);
  const page = await context.newPage();
  // The browser does not show the body of a beacon; the page notes it before the beacon leaves.
  await page.exposeFunction('noteBeacon', (body) => void seen.beacons.push(JSON.parse(body).batch));
  await page.goto(`${origin}/shop?utm_source=letter&utm_medium=email&utm_campaign=spring`);
  const settings = { gateway, writeKey: process.env.SEGUE_WRITE_KEY, variant };
  await page.evaluate((given) => globalThis.openClient(given), settings).catch((error) => {
    throw new Error(`the client did not start: ${error.message}; ${seen.faults.join('; ')}`);
  });
  return { context, page, seen };
}

async function visit(browser, origin, steps, names) {
  const { context, page, seen } = await open(browser, origin);
  const anonymousId = await page.evaluate(() => globalThis.anonymousId());
  for (const step of steps) {
    const previous = step.type === 'alias' ? names[step.previous] : undefined;
    await page.evaluate(([s, n, p]) => globalThis.call(s, n, p), [step, names, previous]);
  }
  await untilDelivered(page, seen, steps.length);
  await context.close();
  return { anonymousId, faults: seen.faults };
}

const { names, steps } = JSON.parse(readFileSync(0, 'utf8'));
const server = await serve();
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.SEGUE_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    // Nothing outside this machine has a name.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
});
const faults = [];
try {
  for (const who of ['visitor', 'laptop', 'main']) {
    const visited = await visit(browser, origin, steps.filter((step) => step.who === who), names);
    names[who] = visited.anonymousId;
    faults.push(...visited.faults);
  }
} finally {
  await browser.close();
  server.close();
}
if (faults.length > 0) {
  console.error(`faults: ${faults.join('; ')}`);
  process.exit(1);
}
process.stdout.write(JSON.stringify({ names }));
