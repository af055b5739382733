import { describe, expect, it } from 'vitest';
import { describeSettings, settingFlags, settingsHelp, settingsReference } from './describe-settings.js';
import { loadSettings } from './load-settings.js';
import { SETTING_GROUPS } from './setting.js';
import { SETTING_ROWS } from './settings-table.js';

function describeWith(env: Record<string, string>): string {
  return describeSettings(
    loadSettings({ flags: { port: '9000' }, env, envFile: { REALTIME_CHANNEL_TTL: '90m' } }),
  );
}

describe('the effective settings', () => {
  it('are aligned lines with value and origin', () => {
    const lines = describeWith({ REALTIME_TRUSTED_PROXIES: 'loopback,10.0.0.0/8' }).split('\n');
    expect(lines.map((line) => line.split(' ')[0])).toEqual(SETTING_ROWS.map((row) => row.env));
    const lineOf = (env: string) =>
      lines.find((line) => line.startsWith(`${env} `))?.replace(/ {2,}/g, ' | ');
    expect(lineOf('REALTIME_PORT')).toBe('REALTIME_PORT | 9000 | flag');
    expect(lineOf('REALTIME_CHANNEL_TTL')).toBe('REALTIME_CHANNEL_TTL | 1h30m | .env');
    expect(lineOf('REALTIME_TRUSTED_PROXIES')).toBe(
      'REALTIME_TRUSTED_PROXIES | loopback, 10.0.0.0/8 | environment',
    );
    expect(lineOf('REALTIME_MESSAGE_RATE')).toBe('REALTIME_MESSAGE_RATE | 200/s, burst 400 | default');
    expect(lineOf('REALTIME_CONNECTION_TIMEOUT')).toBe('REALTIME_CONNECTION_TIMEOUT | 60s | default');
    expect(lineOf('REALTIME_ALLOWED_ORIGINS')).toBe('REALTIME_ALLOWED_ORIGINS | (empty) | default');
    expect(lineOf('DATABASE_URL')).toBe('DATABASE_URL | (not set) | default');
    expect(new Set(lines.map((line) => line.search(/(flag|environment|\.env|default)$/))).size).toBe(1);
  });

  it('do not show secrets or the password of a URL', () => {
    const text = describeWith({
      REALTIME_JWT_SECRET: 'hunter2-hunter2-hunter2',
      DATABASE_URL: 'postgres://app:hunter2@db:5432/app',
    });
    expect(text).not.toContain('hunter2');
    expect(text).toMatch(/^REALTIME_JWT_SECRET +\*{8} +environment$/m);
    expect(text).toMatch(/^DATABASE_URL +postgres:\/\/app:\*{8}@db:5432\/app +environment$/m);
  });
});

describe('the reference', () => {
  it('has a row for every setting in its group, with flag, default and meaning', () => {
    const sections = settingsReference().split('\n## ');
    for (const row of SETTING_ROWS) {
      const section = sections.find((text) => text.startsWith(`${row.group}\n`)) ?? '';
      const line = section.split('\n').find((text) => text.startsWith(`| \`${row.env}\` |`)) ?? '';
      expect(line.split(/(?<!\\)\|/), row.key).toHaveLength(6);
      expect(line).toContain(`\`--${row.flag}\``);
      if (row.default) expect(line).toContain(`\`${row.default}\``);
      const { file } = row;
      if (file !== undefined)
        expect(section).toContain(`| \`${file.env}\` | \`--${file.flag}\` | none | Path of a file`);
    }
    expect(sections).toHaveLength(SETTING_GROUPS.length + 1);
  });
});

describe('the help', () => {
  it('has every flag and default within 100 columns', () => {
    const help = settingsHelp();
    for (const { flag } of SETTING_ROWS)
      expect(help).toMatch(new RegExp(`^ {2}--${flag} <[a-z|]+>( |$)`, 'm'));
    expect(help).toMatch(/^ {2}--jwt-secret-file <path> +Path of a file with the value of --jwt-secret\.$/m);
    expect(help).toContain('(default 127.0.0.1)');
    for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('the flags of the parser are those of the table', () => {
    expect(settingFlags).toContain('max-connections-per-ip');
    expect(settingFlags).toContain('database-url');
    expect(settingFlags).toContain('database-url-file');
    const secrets = SETTING_ROWS.filter(({ type }) => type.secret);
    expect(new Set(settingFlags).size).toBe(SETTING_ROWS.length + secrets.length);
  });
});
