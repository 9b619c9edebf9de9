// Runs `segue` for the check: one process, a temporary data folder, a free port of the loopback.
import { spawn, execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

const startMsMax = 60_000;
const stopMsMax = 20_000;

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

// The caller's own settings must not leak into the server under test.
function cleanEnvironment() {
  const ours = (name) => name.startsWith('SEGUE__') || name === 'SEGUE_SERVER' || name === 'SEGUE_KEY';
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours(name)));
}

export class Server {
  static async start(binary) {
    const folder = mkdtempSync(path.join(tmpdir(), 'segue-sdk-'));
    const dataDir = path.join(folder, 'data');
    const listen = `127.0.0.1:${await freePort()}`;
    const log = path.join(folder, 'log');
    const output = openSync(log, 'a');
    const child = spawn(binary, ['run', '--data-dir', dataDir, '--listen', listen], {
      stdio: ['ignore', output, output],
      env: cleanEnvironment(),
    });
    const server = new Server(binary, child, folder, dataDir, listen, log);
    await server.#untilReady();
    return server;
  }

  constructor(binary, child, folder, dataDir, listen, log) {
    Object.assign(this, { binary, child, folder, dataDir, listen, log });
    this.url = `http://${listen}`;
    this.exited = new Promise((resolve) => child.once('exit', resolve));
  }

  async #untilReady() {
    const end = Date.now() + startMsMax;
    for (;;) {
      const answer = await fetch(`${this.url}/readyz`).catch(() => undefined);
      if (answer?.ok) return;
      if (this.child.exitCode !== null || Date.now() > end) {
        const tail = this.logTail();
        await this.stop();
        throw new Error(`segue run did not get ready:\n${tail}`);
      }
      await pause(50);
    }
  }

  logTail() {
    return readFileSync(this.log, 'utf8').split('\n').slice(-30).join('\n');
  }

  /** Runs an operator's command against this server and gives its JSON. */
  command(...words) {
    const options = ['--data-dir', this.dataDir, '--server', this.url, '--output', 'json'];
    const printed = execFileSync(this.binary, [...words, ...options], { encoding: 'utf8', env: cleanEnvironment() });
    return JSON.parse(printed);
  }

  async stop() {
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), stopMsMax);
    if (this.child.exitCode === null && this.child.signalCode === null) await this.exited;
    clearTimeout(timer);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
