import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { StartupError } from '../lib/startup-error.js';
import { parseArguments } from './parse-arguments.js';

beforeEach(() => {
  for (const name of Object.keys(process.env)) {
    if (/^(REALTIME_|DATABASE_URL$)/.test(name)) vi.stubEnv(name, undefined);
  }
});
afterEach(() => vi.unstubAllEnvs());

describe('arguments', () => {
  test.each([
    [['--max-channels', '7']],
    [['--max-channels=7']],
    [['--max-channels', '5', '--max-channels', '7']],
  ])('%j set a setting', (args) => {
    const { loaded } = parseArguments(args);
    expect([loaded.settings.maxChannels, loaded.origins.maxChannels]).toEqual([7, 'flag']);
  });

  test('win over the environment', () => {
    vi.stubEnv('REALTIME_MAX_CHANNELS', '6');
    expect(parseArguments([]).loaded.settings.maxChannels).toBe(6);
    expect(parseArguments(['--max-channels', '7']).loaded.settings.maxChannels).toBe(7);
  });

  test('of the command are kept apart from settings', () => {
    const { options, loaded } = parseArguments(['--user', 'ada', '--port', '9', '--role='], ['user', 'role']);
    expect(options).toEqual({ user: 'ada', role: '' });
    expect(loaded.settings.port).toBe(9);
  });

  test.each<[args: string[], message: string]>([
    [['--max-chanels', '7'], 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [['--max-chanels=7'], 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [['--max-chanels'], 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [['-p', '9'], 'Unknown flag -p.'],
    [['--usr', 'ada'], 'Unknown flag --usr. --help lists the flags.'],
    [['--user', 'ada'], 'Unknown flag --user.'],
    [['--port'], '--port needs a value: --port <value>.'],
    [['--port', '--host', 'x'], '--port needs a value: --port <value>.'],
    [['--port', '9', 'extra'], 'Unexpected argument "extra".'],
    [['--', '--port'], 'Unexpected argument "--port".'],
    [['--port', ''], '--port (REALTIME_PORT) must be'],
  ])('%j are refused', (args, message) => {
    const refused = () => parseArguments(args);
    expect(refused).toThrow(StartupError);
    expect(refused).toThrow(message);
  });
});
