// Receives one request and verifies it with the published library: `receiver.mjs SECRET`. Prints its URL, then waits.
//
// Ends with 0 only if the request is accepted, and the same request with another body is not.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.SEGUE_SDK_MODULES}/`);
const { Webhook } = require('standardwebhooks');
const webhook = new Webhook(process.argv[2]);

function accepts(body, headers) {
  try {
    webhook.verify(body, headers);
    return true;
  } catch (error) {
    console.error(error.message);
    return false;
  }
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString('utf8');
    const right = accepts(body, request.headers) && !accepts(`${body} `, request.headers);
    response.writeHead(right ? 204 : 400, { connection: 'close' }).end(() => process.exit(right ? 0 : 1));
  });
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/hook`));
