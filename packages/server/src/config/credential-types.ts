import { parseUrl } from '../lib/url.js';
import { listType, type SettingType, settingType } from './setting-type.js';

/** Replaces secrets wherever settings are shown. */
const MASK = '********';

const PEM = /^-----BEGIN ((?:RSA )?PUBLIC KEY|CERTIFICATE)-----\n[A-Za-z0-9+/=\s]+\n-----END \1-----$/;
const ALGORITHM = /^(?:(?:HS|RS|PS|ES)(?:256|384|512)|EdDSA|Ed25519)$/;

/** A shared secret of at least `minBytes` bytes. Blanks around it belong to it. */
export function sharedSecret(minBytes: number): SettingType<string> {
  return settingType({
    expects: `a secret of at least ${minBytes} bytes`,
    placeholder: 'secret',
    secret: true,
    read: (text) => (Buffer.byteLength(text) >= minBytes ? text : undefined),
    show: () => MASK,
  });
}

/**
 * A public key in PEM; `\n` can replace a line break. A private key is rejected and never repeated in a
 * message.
 */
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

/** Signature algorithms by their JWA names, without `none`. */
export function algorithms(): SettingType<readonly string[]> {
  return listType({
    expects: 'signature algorithms such as RS256, ES256 or EdDSA',
    placeholder: 'list',
    read: (name) => (ALGORITHM.test(name) ? name : undefined),
  });
}

/** The URL of PostgreSQL. Its password is masked when shown. */
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
 * Rejects an `@` after the host: a `/`, `?` or `#` of the password was not escaped. The URL parser took the
 * start of the password for a port, and messages would show the rest.
 */
function isPostgresUrl(url: URL): boolean {
  const isPostgres = url.protocol === 'postgres:' || url.protocol === 'postgresql:';
  return isPostgres && url.hash === '' && !`${url.pathname}${url.search}`.includes('@');
}

/** Returns a database URL with masked passwords. */
export function describeDatabaseUrl(text: string): string {
  const url = new URL(text);
  if (url.password !== '') url.password = MASK;
  for (const name of new Set(url.searchParams.keys())) {
    if (/password/i.test(name)) url.searchParams.set(name, MASK);
  }
  return url.href;
}
