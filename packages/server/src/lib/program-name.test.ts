import { expect, test } from 'vitest';
import { programName } from './program-name.js';

const PROJECT = '/home/ada/app';

function nameFor(path: string | undefined, cwd = PROJECT): string {
  return programName({ argv: ['/usr/bin/node', ...(path === undefined ? [] : [path])], cwd: () => cwd });
}

test.each([
  ['a link on the PATH', '/usr/local/bin/goforward-realtime'],
  ['the link of a version manager', '/home/ada/.nvm/versions/node/v22.1.0/bin/goforward-realtime'],
  [
    'a global package whose file is started directly',
    '/opt/npm/node_modules/@goforward/realtime/bin/goforward-realtime.mjs',
  ],
])('%s is named as itself', (_what, path) => {
  expect(nameFor(path)).toBe('goforward-realtime');
});

test.each([
  ['npx or an npm script', `${PROJECT}/node_modules/.bin/goforward-realtime`],
  ['npx without an installation', '/home/ada/.npm/_npx/5f3a/node_modules/.bin/goforward-realtime'],
  [
    "a project's package whose file is started directly",
    `${PROJECT}/node_modules/@goforward/realtime/bin/goforward-realtime.mjs`,
  ],
  ['the file of a clone', `${PROJECT}/packages/server/bin/goforward-realtime.mjs`],
  ['npm start in a clone', `${PROJECT}/packages/server/dist/cli/main.js`],
  ['a program that embeds the server', `${PROJECT}/index.js`],
  ['an interactive session', undefined],
])('%s is named with npx', (_what, path) => {
  expect(nameFor(path)).toBe('npx goforward-realtime');
});

test("a project's package is found from a folder inside the project", () => {
  const path = `${PROJECT}/node_modules/@goforward/realtime/bin/goforward-realtime.mjs`;
  expect(nameFor(path, `${PROJECT}/src/deep`)).toBe('npx goforward-realtime');
});
