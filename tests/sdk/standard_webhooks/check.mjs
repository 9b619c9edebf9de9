// Holds our signatures against published libraries of Standard Webhooks: a receiver of a library gets a request of ours.
//
// To add a library: a receiver in this folder, and its line in `receivers` of ../check.mjs.
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const msMax = 30_000;
const run = promisify(execFile);

/** What is wrong; nothing if the library accepts the request. `command`: a program and the file of the receiver. */
export async function checkReceiver(binary, [program, file]) {
  const sender = path.join(path.dirname(binary), 'examples', 'signed_request');
  const secret = (await run(sender, ['secret'])).stdout.trim();
  const script = fileURLToPath(new URL(file, import.meta.url));
  const receiver = spawn(program, [script, secret], { timeout: msMax });
  let complaints = '';
  receiver.stderr.on('data', (chunk) => (complaints += chunk));
  const ended = new Promise((resolve, reject) => receiver.on('error', reject).on('close', resolve));
  const url = await Promise.race([
    new Promise((resolve) => createInterface(receiver.stdout).once('line', resolve)),
    ended.then((code) => Promise.reject(new Error(`the receiver ended with ${code}: ${complaints.trim()}`))),
  ]);
  const refused = await run(sender, ['send', url, secret], { timeout: msMax }).then(() => [], (error) => [error.message]);
  const code = await ended;
  return code === 0 ? refused : [`the receiver ended with ${code}: ${complaints.trim()}`, ...refused];
}
