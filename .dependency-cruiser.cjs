/**
 * The floors of the house (ARCHITECTURE.md), as a rule. A folder may import only folders that stand
 * before it in this list; folders of one row are siblings and do not see each other.
 */
const FLOORS = [
  ['lib'],
  ['config', 'metrics'],
  ['auth'],
  ['postgres'],
  ['channels'],
  ['presence', 'changes'],
  ['connections'],
  ['handlers'],
  ['http'],
];

const src = '^packages/server/src/';
const TEST = '\\.(test|contract)\\.ts$';

const upward = FLOORS.flatMap((row, floor) =>
  row.map((folder) => ({
    name: `floor-${folder}`,
    comment: `${folder}/ may import only floors below it`,
    severity: 'error',
    from: { path: `${src}${folder}/`, pathNot: TEST },
    to: {
      path: [
        ...FLOORS.slice(floor)
          .flat()
          .filter((other) => other !== folder)
          .map((other) => `${src}${other}/`),
        `${src}(server|index)\\.ts$`,
        `${src}services/`,
        `${src}cli/`,
      ],
    },
  })),
);

/** The rooms within a large folder, lowest first; the same rule. */
const ROOMS = {
  changes: [
    ['model'],
    ['values', 'expressions', 'tables', 'log'],
    ['visibility'],
    ['subscriptions'],
    ['routing'],
    ['delivery'],
    ['stream', 'explaining'],
  ],
  postgres: [
    ['sql', 'embedded'],
    ['migrations'],
    ['connection'],
    ['source'],
    ['preflight'],
    ['replication', 'triggers'],
    ['choice'],
  ],
  'changes/visibility': [['compiling'], ['evaluating']],
};

const upwardInside = Object.entries(ROOMS).flatMap(([folder, rows]) =>
  rows.flatMap((row, floor) =>
    row.flatMap((room) => {
      const others = rows
        .slice(floor)
        .flat()
        .filter((other) => other !== room);
      if (others.length === 0) return [];
      return {
        name: `room-${folder.replace('/', '-')}-${room}`,
        comment: `${folder}/${room}/ may import only rooms below it`,
        severity: 'error',
        from: { path: `${src}${folder}/${room}/`, pathNot: TEST },
        to: { path: others.map((other) => `${src}${folder}/${other}/`) },
      };
    }),
  ),
);

/** Each third-party client is known by one folder. */
const OWNERS = {
  jose: 'auth',
  pg: 'postgres',
  ws: 'connections',
  'prom-client': 'metrics',
  'fastify|@fastify/.*': 'http',
  'pino|pino-pretty': 'lib',
  'ipaddr\\.js': 'lib',
  'libpg-query': 'changes',
};

const owned = Object.entries(OWNERS).map(([library, folder]) => ({
  name: `only-${folder}-imports-${library.replace(/\W+/g, '-')}`,
  severity: 'error',
  from: { path: src, pathNot: [`${src}${folder}/`, TEST] },
  to: { path: `node_modules/(${library})/` },
}));

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-orphans',
      severity: 'error',
      from: { orphan: true, pathNot: ['\\.d\\.ts$', '^bench/', '\\.(mjs|js)$'] },
      to: {},
    },
    ...upward,
    ...upwardInside,
    ...owned,
    {
      name: 'protocol-is-the-ground',
      comment: 'The wire knows neither Node nor the server',
      severity: 'error',
      from: { path: '^packages/protocol/src/', pathNot: TEST },
      to: { pathNot: ['^packages/protocol/src/', 'node_modules/typebox/'] },
    },
    {
      name: 'no-test-code-in-the-product',
      severity: 'error',
      from: { path: '^packages/[^/]+/src/', pathNot: TEST },
      to: { path: ['^tests/', '^bench/', TEST] },
    },
    {
      name: 'nothing-imports-the-server',
      severity: 'error',
      from: { path: '^packages/(?!server/)' },
      to: { path: '^packages/server/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.tests.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['source', 'import', 'node', 'default'],
    },
  },
};
