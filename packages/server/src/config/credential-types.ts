import { listType, type SettingType, settingType } from './setting-type.js';
import { parseUrl } from './url.js';

/** What stands in the place of a secret wherever settings are shown. */
const MASK = '********';

const PEM = /^-----BEGIN ((?:RSA )?PUBLIC KEY|CERTIFICATE)-----\n[A-Za-z0-9+/=\s]+\n-----END \1-----$/;
const ALGORITHM = /^(?:(?:HS|RS|PS|ES)(?:256|384|512)|EdDSA|Ed25519)$/;

/** A shared secret of at least `minBytes` bytes, taken byte for byte. */
export function sharedSecret(minBytes: number): SettingType<string> {
  return settingType({
    expects: `a secret of at least ${minBytes} bytes`,
    placeholder: 'secret',
    secret: true,
    read: (text) => (Buffer.byteLength(text) >= minBytes ? text : undefined),
    show: () => MASK,
  });
}

/** A public key in PEM, where `\n` may stand for a line break. A private key is refused, and never repeated in a message. */
export function publicKey(): SettingType<string> {
  return settingType({
    expects: 'a public key in PEM, from its BEGIN line to its END line (a private key does not belong here)',
    placeholder: 'pem',
    secret: true,
    read: (text) => {
      const pem = text.replaceAll('\\n', '\n').replaceAll('\r', '').trim();
      return PEM.test(pem) ? pem : undefined;
    },
    show: (pem) => `${pem.slice(0, pem.indexOf('\n'))} (${pem.length} characters)`,
  });
}

/** Signature algorithms by their JWA names; `none` is not one. */
export function algorithms(): SettingType<readonly string[]> {
  return listType({
    expects: 'signature algorithms such as RS256, ES256 or EdDSA',
    placeholder: 'list',
    read: (name) => (ALGORITHM.test(name) ? name : undefined),
  });
}

/** Where PostgreSQL is, as a URL; its password is hidden when shown. */
export function postgresUrl(): SettingType<string> {
  return settingType({
    expects:
      'a postgres:// or postgresql:// URL (special characters in its user and password written as %40 for @, and so on)',
    placeholder: 'url',
    secret: true,
    read: (text) => {
      const url = parseUrl(text.trim());
      return url !== undefined && isPostgresUrl(url) ? text.trim() : undefined;
    },
    show: describeDatabaseUrl,
  });
}

/**
 * An `@` behind the host means that a `/`, `?` or `#` of the password was not escaped: the parser took the
 * password's start for a port, and its rest would be shown.
 */
function isPostgresUrl(url: URL): boolean {
  const isPostgres = url.protocol === 'postgres:' || url.protocol === 'postgresql:';
  return isPostgres && url.hash === '' && !`${url.pathname}${url.search}`.includes('@');
}

/** A database URL whose passwords are masked. */
export function describeDatabaseUrl(text: string): string {
  const url = new URL(text);
  if (url.password !== '') url.password = MASK;
  for (const name of new Set(url.searchParams.keys())) {
    if (/password/i.test(name)) url.searchParams.set(name, MASK);
  }
  return url.href;
}
