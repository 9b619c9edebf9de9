// Replays the scenario with a published Node client: `node_client.mjs segment|rudder`, scenario on stdin. Prints the ids
// that were used as JSON. Exits with 1 when the client reports a failed delivery.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.SEGUE_SDK_MODULES}/`);
const failures = [];

function makeSegment() {
  const { Analytics } = require('@segment/analytics-node');
  const client = new Analytics({ host: process.env.SEGUE_URL, writeKey: process.env.SEGUE_WRITE_KEY, maxRetries: 3 });
  client.on('error', (error) => failures.push(JSON.stringify(error)));
  const call = (type, message) => client[type](message);
  return { call, close: () => client.closeAndFlush({ timeout: 20_000 }) };
}

function makeRudder() {
  const Analytics = require('@rudderstack/rudder-sdk-node').default ?? require('@rudderstack/rudder-sdk-node');
  const client = new Analytics(process.env.SEGUE_WRITE_KEY, {
    dataPlaneUrl: process.env.SEGUE_URL,
    logLevel: 'error',
    errorHandler: (error) => failures.push(String(error)),
  });
  const call = (type, message) => client[type](message);
  return { call, close: () => client.flush() };
}

function message(step, names, loggedIn) {
  const who = { anonymousId: names[step.who] };
  if (step.who === 'main' && loggedIn) who.userId = names.user;
  switch (step.type) {
    case 'track': return { ...who, event: step.event, properties: step.properties };
    case 'page': return { ...who, name: step.name, properties: step.properties };
    case 'identify': return { ...who, traits: step.traits };
    case 'group': return { ...who, groupId: step.groupId, traits: step.traits };
    case 'alias': return { userId: who.userId, previousId: names[step.previous] };
    default: throw new Error(`the scenario has a call that this client does not know: ${step.type}`);
  }
}

const { names, steps } = JSON.parse(readFileSync(0, 'utf8'));
const client = process.argv[2] === 'segment' ? makeSegment() : makeRudder();
let loggedIn = false;
for (const step of steps) {
  loggedIn ||= step.login === true;
  client.call(step.type, message(step, names, loggedIn));
}
await client.close();
if (failures.length > 0) {
  console.error(`delivery failed: ${failures.join('; ')}`);
  process.exit(1);
}
process.stdout.write(JSON.stringify({ names }));
