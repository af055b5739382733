import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { StartupError } from '../lib/startup-error.js';
import { settingsOfArguments } from './settings-of-arguments.js';

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
    const { loaded } = settingsOfArguments(args);
    expect([loaded.settings.maxChannels, loaded.origins.maxChannels]).toEqual([7, 'flag']);
  });

  test('win over the environment', () => {
    vi.stubEnv('REALTIME_MAX_CHANNELS', '6');
    expect(settingsOfArguments([]).loaded.settings.maxChannels).toBe(6);
    expect(settingsOfArguments(['--max-channels', '7']).loaded.settings.maxChannels).toBe(7);
  });

  test('of the command itself are its own, beside those of settings', () => {
    const { own, loaded } = settingsOfArguments(
      ['--user', 'ada', '--port', '9', '--role='],
      ['user', 'role'],
    );
    expect(own).toEqual({ user: 'ada', role: '' });
    expect(loaded.settings.port).toBe(9);
  });

  test.each<[args: string[], message: string]>([
    [['--max-chanels', '7'], 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [['--max-chanels=7'], 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [['--max-chanels'], 'Unknown flag --max-chanels. Did you mean --max-channels?'],
    [['-p', '9'], 'Unknown flag --p.'],
    [['--user', 'ada'], 'Unknown flag --user.'],
    [['--port'], '--port needs a value: --port <value>.'],
    [['--port', '--host', 'x'], '--port needs a value: --port <value>.'],
    [['--port', '9', 'extra'], 'Unexpected argument "extra".'],
    [['--', '--port'], 'Unexpected argument "--port".'],
    [['--port', ''], '--port (REALTIME_PORT) must be'],
  ])('%j are refused', (args, message) => {
    const refused = () => settingsOfArguments(args);
    expect(refused).toThrow(StartupError);
    expect(refused).toThrow(message);
  });
});
