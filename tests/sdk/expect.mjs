// Holds what arrived against what the scenario says must be known afterwards. Each check gives a list of differences.
import { text } from './api.mjs';
import {
  callsTotal, expectedCounts, expectedNames, expectedProperties, expectedRevenue, expectedTraits, fill, stepsOfUser,
} from './scenario.mjs';

const total = { name: 'total', aggregation: 'AGGREGATION_TOTAL' };
const persons = { name: 'persons', aggregation: 'AGGREGATION_UNIQUE', unit: 'UNIT_PROFILE' };
const step = { property: 'step' };

const stepIn = (...steps) => ({
  compare: { field: step, operator: 'OPERATOR_IN', values: steps.map((name) => ({ string_value: name })) },
});

function differ(differences, what, found, expected) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) differences.push(`${what}: found ${a ?? 'nothing'}, expected ${b}`);
}

/** Undefined once the pipeline and the index have everything that was accepted, else what is still under way. */
export async function unfinished(api) {
  const pipeline = await api.pipelineStatus();
  const through = Number(pipeline.resolved) + Number(pipeline.quarantined) + Number(pipeline.duplicates);
  if (through < callsTotal) return `${through} of ${callsTotal} calls went through the pipeline`;
  const waiting = pipeline.partitions.some((p) => Number(p.resolved_position) < Number(p.accepted_position));
  if (waiting) return 'batches wait to be resolved';
  const { partitions } = await api.indexStatus();
  const behind = partitions.some((p) => Number(p.position) < Number(p.log_position));
  return behind ? 'batches wait to be indexed' : undefined;
}

async function pipeline(api, differences) {
  const status = await api.pipelineStatus();
  differ(differences, 'calls resolved', Number(status.resolved), callsTotal);
  differ(differences, 'calls quarantined', Number(status.quarantined), 0);
  if (Number(status.quarantined) > 0) {
    for (const { event, reasons } of (await api.listQuarantined()).events) {
      const why = reasons.map((reason) => `${reason.field} ${reason.code}: ${reason.message}`).join('; ');
      differences.push(`quarantined ${event.kind} ${event.name}: ${why}`);
    }
  }
}

async function counts(api, differences) {
  const answer = await api.queryEvents({ metrics: [total, persons], group_by: [step, { dimension: 'event' }] });
  const found = {};
  for (const group of answer.groups) {
    const [name, event] = group.values.map((value) => text(value.value));
    const [times, by] = group.totals.map(text);
    const key = name ?? `(${event} without step)`;
    if (found[key] !== undefined) differences.push(`step ${key} has several event names, one is ${event}`);
    found[key] = Number(times);
    differ(differences, `persons of ${key}`, by, '1');
    if (expectedNames[key] !== undefined) differ(differences, `name of ${key}`, event, expectedNames[key]);
  }
  differ(differences, 'calls per step', Object.entries(found).sort(), Object.entries(expectedCounts).sort());
}

async function oneUser(api, differences) {
  const user = await api.queryEvents({ metrics: [total, persons], filter: stepIn(...stepsOfUser) });
  differ(differences, "the user's events and persons", user.total?.totals.map(text), [String(stepsOfUser.length), '1']);
  const all = await api.queryEvents({ metrics: [persons] });
  differ(differences, 'persons altogether', all.total?.totals.map(text), ['2']);
}

async function revenue(api, differences) {
  const answer = await api.queryEvents({ metrics: [{ name: 'revenue', aggregation: 'AGGREGATION_REVENUE' }] });
  differ(differences, 'Σ price × quantity', answer.total?.totals.map(text), [expectedRevenue]);
  differ(differences, 'items without price or quantity', Number(answer.skipped_items ?? 0) <= 1, true);
}

async function values(api, differences, client) {
  const check = async (name, field, expected) => {
    const answer = await api.queryEvents({ metrics: [total], group_by: [field], filter: stepIn(name) });
    const found = answer.groups.map((group) => text(group.values[0]?.value));
    differ(differences, `${JSON.stringify(field)} of ${name}`, found, [expected]);
  };
  for (const [name, properties] of Object.entries(expectedProperties)) {
    for (const [property, expected] of Object.entries(properties)) await check(name, { property }, expected);
  }
  if (client.browser) {
    await check('page', { dimension: 'utm_source' }, 'letter');
    await check('page', { dimension: 'page_path' }, '/shop');
  }
}

async function people(api, differences, names) {
  const user = await api.findPerson('user_id', names.user);
  if (user === undefined) {
    differences.push(`nobody has the user id ${names.user}`);
    return;
  }
  for (const who of ['main', 'laptop']) {
    const person = await api.findPerson('anonymous_id', names[who]);
    differ(differences, `person of the anonymous id of ${who}`, person?.number, user.number);
  }
  const visitor = await api.findPerson('anonymous_id', names.visitor);
  if (visitor === undefined || visitor.number === user.number) differences.push('the visitor is not a person of their own');
  const traits = Object.fromEntries(user.traits.map((trait) => [trait.name, text(trait.value)]));
  for (const [name, expected] of Object.entries(fill(expectedTraits, names))) {
    differ(differences, `trait ${name}`, traits[name], expected);
  }
  // Traits of the account are not the person's.
  differ(differences, 'trait employees', traits.employees, undefined);
  const status = await api.identityStatus();
  differ(differences, 'persons known to identity', Number(status.persons), 2);
}

/** Everything that differs for one client; empty when all is right. */
export async function differences(api, client, names) {
  const found = [];
  await pipeline(api, found);
  await counts(api, found);
  await oneUser(api, found);
  await revenue(api, found);
  await values(api, found, client);
  await people(api, found, names);
  return found;
}
