import { isIP } from 'node:net';
import { type IpRange, parseIpRange } from '../lib/ip-range.js';
import { parseUrl } from '../lib/url.js';
import { listType, type SettingType, settingType } from './setting-type.js';

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*\.?$/i;

/** A host name or IP address to listen on. Brackets of an IPv6 address are removed. */
export function host(): SettingType<string> {
  return settingType({
    expects: 'a host name or an IP address without a port',
    placeholder: 'host',
    read: (text) => {
      const bare = /^\[(.+)\]$/.exec(text)?.[1];
      if (bare !== undefined) return isIP(bare) === 6 ? bare : undefined;
      return isIP(text) !== 0 || HOST_NAME.test(text) ? text : undefined;
    },
  });
}

/** Origins as browsers send them, or `*` for any. */
export function origins(): SettingType<readonly string[]> {
  return listType({
    expects: 'origins such as https://app.example.com, or *',
    placeholder: 'list',
    read: (text) => (text === '*' ? text : readOrigin(text)),
  });
}

/** IP addresses, networks, and the word `loopback`. */
export function ipRanges(): SettingType<readonly IpRange[]> {
  return listType({
    expects: 'IP addresses, networks such as 10.0.0.0/8, or loopback',
    placeholder: 'list',
    read: parseIpRange,
    show: (range) => range.text,
  });
}

/** An http or https URL. One with a user or password is rejected, because fetch rejects it. */
export function webUrl(): SettingType<string> {
  return settingType({
    expects: 'an http:// or https:// URL without a user',
    placeholder: 'url',
    read: (text) => {
      const url = parseUrl(text);
      const fits =
        url !== undefined && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
      return fits ? text : undefined;
    },
  });
}

/**
 * Returns an origin in its normal form. Mobile shells send their own schemes (`capacitor://localhost`), so
 * every scheme is accepted that can occur in an Origin header. A `*` within a host is rejected: it would
 * match nothing.
 */
function readOrigin(text: string): string | undefined {
  const url = parseUrl(text);
  if (url === undefined || url.host === '' || url.host.includes('*') || /^(wss?|file):$/.test(url.protocol)) {
    return undefined;
  }
  const origin = `${url.protocol}//${url.host}`;
  return url.href === origin || url.href === `${origin}/` ? origin : undefined;
}
