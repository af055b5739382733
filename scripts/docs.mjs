#!/usr/bin/env node
// Writes docs/reference from the tables in code. With --check, compares only, and fails on a difference.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { CLOSE, ERRORS } from '../packages/protocol/dist/index.js';
import { settingsReference } from '../packages/server/dist/config/describe-settings.js';
import { metricsReference } from '../packages/server/dist/metrics/metrics-table.js';

const FOLDER = new URL('../docs/reference/', import.meta.url);
const PAGES = {
  'config.md': settingsReference(),
  'errors.md': errorsReference(),
  'metrics.md': metricsReference(),
};

const isCheck = process.argv.includes('--check');
mkdirSync(FOLDER, { recursive: true });
for (const [name, text] of Object.entries(PAGES)) {
  const file = new URL(name, FOLDER);
  if (!isCheck) writeFileSync(file, text);
  else if (read(file) !== text) {
    process.stderr.write(`docs/reference/${name} is out of date. Run: npm run docs\n`);
    process.exitCode = 1;
  }
}

function errorsReference() {
  const rows = Object.entries(ERRORS).map(
    ([code, { http, close, retry, text, doc }]) =>
      `| [\`${code}\`](#${code.toLowerCase()}) | ${http ?? ''} | ${close ?? ''} | ${retry.replace('-', ' ')} | ${text} | ${doc} |`,
  );
  const sections = Object.entries(ERRORS).map(
    ([code, { cause, fix }]) => `### ${code}\n\n**Cause:** ${cause}\n\n**Fix:** ${fix}\n`,
  );
  return `# Errors

Every error is an object \`{"error": text, "code": CODE, "details"?: text, ...fields}\`: the body of an HTTP answer, the
payload of \`system\`/\`error\` on a socket, or the payload of \`reply\`/\`error\` if the message had a \`ref\`.

When an error closes a socket, the server sends the error first and then the close code. After codes 4000 to 4499 a
client may reconnect (after \`retry_after\` seconds if the error has it; after 4401 with a new token). After codes from
4500 it must not. The server also uses these codes of RFC 6455: ${CLOSE.SERVICE_RESTART} for a restart, ${CLOSE.TOO_LARGE} for a message over
\`REALTIME_MAX_MESSAGE_SIZE\`, ${CLOSE.PROTOCOL_ERROR} for invalid frames and ${CLOSE.INVALID_UTF8} for invalid UTF-8.

**Retry** says what a client does: \`never\` give up, \`later\` try again, \`new token\` get a new token first,
\`change request\` correct the request.

| Code | HTTP | Close | Retry | Text | When |
|---|---|---|---|---|---|
${rows.join('\n')}

## Causes and fixes

${sections.join('\n')}`;
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
