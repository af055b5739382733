#!/usr/bin/env node
// Writes docs/reference from the tables in code; with --check only compares and fails on a difference.
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
    process.stderr.write(`docs/reference/${name} is not what the code says. Run: npm run docs\n`);
    process.exitCode = 1;
  }
}

function errorsReference() {
  const rows = Object.entries(ERRORS).map(
    ([code, { http, close, retry, text, doc }]) =>
      `| \`${code}\` | ${http ?? ''} | ${close ?? ''} | ${retry.replace('-', ' ')} | ${text} | ${doc} |`,
  );
  return `# Errors

Every error is \`{"error": text, "code": CODE, "details"?: text, ...fields}\`: as the body of an HTTP answer, as the
payload of \`system\`/\`error\` on a socket, or of \`reply\`/\`error\` where the message had a \`ref\`.

A socket that is closed for an error gets the error first and then the close code. Codes from 4000 to 4499 allow
a client to come back (after \`retry_after\` seconds where the error has it; after 4401 with a new token), codes
from 4500 forbid it. Besides these there are the codes of RFC 6455: ${CLOSE.SERVICE_RESTART} when the server goes away for a restart,
${CLOSE.TOO_LARGE} for a message over the transport's limit, ${CLOSE.PROTOCOL_ERROR} and ${CLOSE.INVALID_UTF8} for broken frames and text.

| Code | HTTP | Close | Retry | Text | When |
|---|---|---|---|---|---|
${rows.join('\n')}
`;
}

function read(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
