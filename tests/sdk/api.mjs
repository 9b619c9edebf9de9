// Segue's public API for one tenant, over gRPC, from the contracts in proto/.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const require = createRequire(`${process.env.SEGUE_SDK_MODULES}/`);
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const protoFolder = fileURLToPath(new URL('../../proto', import.meta.url));
const callMsMax = 15_000;

const definition = loader.loadSync(
  ['segue/analytics/v1/analytics.proto', 'segue/identity/v1/identity.proto', 'segue/ingest/v1/ingest.proto',
    'segue/ingest/v1/quarantine.proto'],
  { includeDirs: [protoFolder], keepCase: true, longs: String, enums: String, oneofs: true, defaults: true },
);
const { segue } = grpc.loadPackageDefinition(definition);

export class Api {
  constructor(address, secret) {
    this.metadata = new grpc.Metadata();
    this.metadata.set('authorization', `Bearer ${secret}`);
    const credentials = grpc.credentials.createInsecure();
    this.analytics = new segue.analytics.v1.AnalyticsService(address, credentials);
    this.identity = new segue.identity.v1.IdentityService(address, credentials);
    this.ingest = new segue.ingest.v1.IngestService(address, credentials);
    this.quarantine = new segue.ingest.v1.QuarantineService(address, credentials);
  }

  #call(client, method, request) {
    const options = { deadline: Date.now() + callMsMax };
    return new Promise((resolve, reject) => {
      client[method](request, this.metadata, options, (error, answer) => {
        if (error) reject(Object.assign(new Error(`${method}: ${error.message}`), { code: error.code }));
        else resolve(answer);
      });
    });
  }

  pipelineStatus() { return this.#call(this.ingest, 'GetPipelineStatus', {}); }
  indexStatus() { return this.#call(this.analytics, 'GetIndexStatus', {}); }
  identityStatus() { return this.#call(this.identity, 'GetIdentityStatus', {}); }
  listQuarantined() { return this.#call(this.quarantine, 'ListQuarantined', { page_size: 20 }); }

  /** The person with an identifier, or undefined. */
  async findPerson(kind, value) {
    try {
      return await this.#call(this.identity, 'GetPerson', { identifier: { kind, value } });
    } catch (error) {
      if (error.code === grpc.status.NOT_FOUND) return undefined;
      throw error;
    }
  }

  /** The event report over the hour before and the hour after now, as one number per metric and group. */
  queryEvents(request) {
    const now = Math.floor(Date.now() / 1000);
    const range = { start: { seconds: now - 3600 }, end: { seconds: now + 3600 } };
    return this.#call(this.analytics, 'QueryEvents', { range, ...request });
  }

  close() {
    for (const client of [this.analytics, this.identity, this.ingest, this.quarantine]) client.close();
  }
}

/** A `Value` or a `Number` of the API as text; undefined when it is not there. Decimals lose trailing zeros. */
export function text(value) {
  if (value === undefined || value === null) return undefined;
  if (value.decimal_e4_value !== undefined) return trimmed((Number(value.decimal_e4_value) / 10_000).toFixed(4));
  if (value.decimal !== undefined) return trimmed(value.decimal);
  const names = ['string_value', 'int_value', 'double_value', 'bool_value', 'json_value', 'count', 'int', 'double'];
  const name = names.find((candidate) => value[candidate] !== undefined);
  return name === undefined ? undefined : String(value[name]);
}

const trimmed = (decimal) => (decimal.includes('.') ? decimal.replace(/\.?0+$/, '') : decimal);
