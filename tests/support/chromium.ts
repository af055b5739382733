import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A Chromium executable and the environment variables that it needs. */
export interface Chromium {
  readonly executablePath: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Returns the Chromium of `@sparticuz/chromium`, unpacked once into `node_modules/.cache`. The package
 * includes the shared libraries and fonts, so it runs on a machine with only npm packages. `TEST_CHROMIUM`
 * names another Chromium, for platforms that the package does not support.
 */
export async function findChromium(): Promise<Chromium> {
  const own = process.env.TEST_CHROMIUM;
  if (own !== undefined) return { executablePath: own, env: {} };
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(
      `The npm packages contain no Chromium for ${process.platform} ${process.arch}. ` +
        'Set TEST_CHROMIUM to the path of an installed Chrome or Chromium.',
    );
  }
  const folder = await unpacked();
  return {
    executablePath: join(folder, 'chromium'),
    env: { LD_LIBRARY_PATH: join(folder, 'al2023', 'lib'), FONTCONFIG_FILE: join(folder, 'fonts.conf') },
  };
}

/**
 * Returns the folder with the unpacked Chromium. It is created atomically, because several workers may need
 * it at once.
 */
async function unpacked(): Promise<string> {
  const { version } = createRequire(import.meta.url)(
    join(dirname(fileURLToPath(import.meta.resolve('@sparticuz/chromium'))), '../../package.json'),
  ) as { version: string };
  const cache = join(ROOT, 'node_modules', '.cache');
  const folder = join(cache, `chromium-${version}`);
  if (existsSync(folder)) return folder;
  await mkdir(cache, { recursive: true });
  const draft = await mkdtemp(join(cache, 'chromium-draft-'));
  try {
    await unpackInto(draft);
    await writeFile(join(draft, 'fonts.conf'), fontsConfiguration(folder));
    await rename(draft, folder);
  } catch (cause) {
    await rm(draft, { recursive: true, force: true });
    // Ignore the error if another worker has created the folder meanwhile.
    if (!existsSync(folder)) throw cause;
  }
  return folder;
}

/**
 * Unpacks the package, which writes to TMPDIR. It unpacks its shared libraries only on AWS Lambda, so it runs
 * in a child process with the variables of a Lambda.
 */
async function unpackInto(folder: string): Promise<void> {
  const script = `import chromium from '@sparticuz/chromium'; await chromium.executablePath();`;
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: ROOT,
    env: { ...process.env, TMPDIR: folder, AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs20.x' },
  });
}

/** Returns a fontconfig file with the package's fonts in addition to the system's, which may have none. */
function fontsConfiguration(folder: string): string {
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>${folder}/fonts</dir>
  <cachedir>${folder}/fonts-cache</cachedir>
</fontconfig>
`;
}
