// Replays the scenario with each published client and holds what arrived against it; see ./run. One tenant per client.
//
// To add a client: a line in `clients`, and how it makes the calls in a file of clients/. Libraries that take our webhooks are `receivers`.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Api } from './api.mjs';
import { differences, unfinished } from './expect.mjs';
import { scenario } from './scenario.mjs';
import { Server, pause } from './server.mjs';
import { checkReceiver } from './standard_webhooks/check.mjs';

const node = process.execPath;
const python = process.env.SEGUE_SDK_PYTHON;
const indexedMsMax = 30_000;
const clientMsMax = 120_000;

const clients = [
  { name: 'segment-python', command: [python, 'python_client.py', 'segment'] },
  { name: 'segment-python-gzip', command: [python, 'python_client.py', 'segment-gzip'] },
  { name: 'rudder-python', command: [python, 'python_client.py', 'rudder'] },
  { name: 'segment-node', command: [node, 'node_client.mjs', 'segment'] },
  { name: 'rudder-node', command: [node, 'node_client.mjs', 'rudder'] },
  { name: 'segment-browser', command: [node, 'browser_client.mjs', 'segment'], browser: true },
  { name: 'segment-browser-batching', command: [node, 'browser_client.mjs', 'segment-batching'], browser: true },
  { name: 'rudder-browser', command: [node, 'browser_client.mjs', 'rudder'], browser: true },
  { name: 'rudder-browser-beacon', command: [node, 'browser_client.mjs', 'rudder-beacon'], browser: true },
];

const receivers = [
  { name: 'standard-webhooks-node', command: [node, 'receiver.mjs'], receiver: true },
  { name: 'standard-webhooks-python', command: [python, 'receiver.py'], receiver: true },
];

/** Runs one client to its end; gives the ids it used, or throws with what it printed. */
function replay(client, url, writeKey, given) {
  const [program, file, ...rest] = client.command;
  const script = fileURLToPath(new URL(`clients/${file}`, import.meta.url));
  const env = { ...process.env, SEGUE_URL: url, SEGUE_WRITE_KEY: writeKey };
  const child = spawn(program, [script, ...rest], { env, timeout: clientMsMax });
  let [printed, complaints] = ['', ''];
  child.stdout.on('data', (chunk) => (printed += chunk));
  child.stderr.on('data', (chunk) => (complaints += chunk));
  child.stdin.end(JSON.stringify(given));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(printed).names);
      else reject(new Error(`the client ended with ${code}: ${complaints.trim()}`));
    });
  });
}

// Waits until the pipeline is done and everything is as it must be, or the time is up. Then what still differs stands.
async function settle(api, client, names) {
  const end = Date.now() + indexedMsMax;
  for (;;) {
    const waiting = await unfinished(api);
    const found = waiting === undefined ? await differences(api, client, names) : [waiting];
    if (found.length === 0) return found;
    if (Date.now() <= end) {
      await pause(100);
      continue;
    }
    return waiting === undefined ? found : [waiting, ...(await differences(api, client, names))];
  }
}

async function check(server, client) {
  if (client.receiver) return checkReceiver(process.env.SEGUE_BIN, client.command);
  const tenant = `sdk-${client.name}`;
  server.command('tenant', 'create', tenant);
  const writeKey = server.command('key', 'create', '--tenant', tenant, '--kind', 'write').secret;
  const secret = server.command('key', 'create', '--tenant', tenant, '--kind', 'secret', '--role', 'editor').secret;
  const api = new Api(server.listen, secret);
  try {
    const given = scenario(client.name);
    const names = await replay(client, server.url, writeKey, given);
    return await settle(api, client, names);
  } finally {
    api.close();
  }
}

const wanted = process.argv.slice(2);
const all = [...clients, ...receivers];
const unknown = wanted.filter((name) => !all.some((client) => client.name === name));
if (unknown.length > 0) {
  console.error(`no client called ${unknown.join(', ')}; there are ${all.map((client) => client.name).join(', ')}`);
  process.exit(2);
}
const chosen = all.filter((client) => wanted.length === 0 || wanted.includes(client.name));
const runnable = chosen.filter((client) => !client.browser || process.env.SEGUE_CHROMIUM);

const server = await Server.start(process.env.SEGUE_BIN);
let right = 0;
try {
  console.log(`${'client'.padEnd(26)}${'seconds'.padStart(8)}  result`);
  for (const client of runnable) {
    const started = Date.now();
    const found = await check(server, client).catch((error) => [error.message]);
    const seconds = ((Date.now() - started) / 1000).toFixed(1);
    console.log(`${client.name.padEnd(26)}${seconds.padStart(8)}  ${found.length === 0 ? 'ok' : 'DIFFERENT'}`);
    for (const difference of found) console.log(`    ${difference}`);
    if (found.length === 0) right += 1;
  }
  if (right < runnable.length) console.log(`\nlog of segue run:\n${server.logTail()}`);
} finally {
  await server.stop();
}
if (runnable.length < chosen.length) console.log('left out: browser clients (no Chromium)');
console.log(`${right} clients of ${runnable.length} right`);
process.exit(right === runnable.length ? 0 : 1);
