import { describe, expect, test } from 'vitest';
import { hasSpecDocument, SpecDocument, specTitle } from '../support/spec-document.js';

/** Sections whose examples the other tests of this folder run. */
const RUN = [
  'Create Channel',
  'Get Channel Information',
  'List All Channels',
  'Delete Channel',
  'Connect to Channel',
  'WebSocket Message Format',
  'Broadcast Message to Channel',
  'Get Channel Presence',
  'Update User Presence',
  'Get Channel Statistics',
  'Get System Statistics',
  'JavaScript Client',
  'React Hook Example',
  'Environment Variables',
  '🔐 Authentication & Authorization',
  'WebSocket Connection Errors',
  'Channel Errors',
  'Permission Errors',
  'Rate Limit Errors',
  'Client Error Handling',
  'System Metrics',
  'Connection Metrics',
  'WebSocket Connection Testing',
  'Load Testing',
  // Except the line that subscribes a channel to a table: row-changes.e2e.test.ts does this with other
  // tables.
  'Integration Testing',
  'Subscribe to Database Changes',
  'Database Change Event Format',
  'Setup Table Trigger',
  'Remove Table Trigger',
  'Get Database Subscriptions',
  'Setting Up Database Triggers',
  'Database Change Filtering',
  '🛡️ Row Level Security (RLS)',
  'Database Performance',
  'Database Errors',
];

/** Sections with Go code and commands of a different implementation. */
const NOT_OURS = ['Service Configuration', 'Connection Management', 'Channel Optimization', 'Unit Testing'];

describe.skipIf(!hasSpecDocument)(specTitle('Coverage of the spec'), () => {
  test('every section with an example is either run or listed as not applicable', () => {
    const sections = [...new Set(SpecDocument.read().blocks.map(({ heading }) => heading))];
    expect(sections.toSorted()).toEqual([...RUN, ...NOT_OURS].toSorted());
  });
});
