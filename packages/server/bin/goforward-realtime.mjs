#!/usr/bin/env node
// Stands under version control, so that an installation can link to it before anything is built.
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) await import(main.href);
else {
  process.stderr.write('The server is not built yet. Run: npm run build\n');
  process.exitCode = 1;
}
