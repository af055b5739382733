import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** A Chromium that can be run: its program, and the environment that it needs. */
export interface Chromium {
  readonly executablePath: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The Chromium of `@sparticuz/chromium`, unpacked once into `node_modules/.cache`, with the shared libraries
 * and fonts of the same package: a machine with nothing but npm packages can run it. `TEST_CHROMIUM` names
 * another one, for machines that this one is not built for.
 */
export async function findChromium(): Promise<Chromium> {
  const own = process.env.TEST_CHROMIUM;
  if (own !== undefined) return { executablePath: own, env: {} };
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(
      `There is no Chromium for ${process.platform} ${process.arch} among the npm packages: ` +
        'set TEST_CHROMIUM to the path of a Chrome or Chromium of this machine.',
    );
  }
  const folder = await unpacked();
  return {
    executablePath: join(folder, 'chromium'),
    env: { LD_LIBRARY_PATH: join(folder, 'al2023', 'lib'), FONTCONFIG_FILE: join(folder, 'fonts.conf') },
  };
}

/** The folder with the unpacked Chromium. It appears whole or not at all: several workers may need it at once. */
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
    // Another worker was faster.
    if (!existsSync(folder)) throw cause;
  }
  return folder;
}

/** The package unpacks to TMPDIR, and its shared libraries only where it believes to be in a Lambda: a process of its own believes so. */
async function unpackInto(folder: string): Promise<void> {
  const script = `import chromium from '@sparticuz/chromium'; await chromium.executablePath();`;
  await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: ROOT,
    env: { ...process.env, TMPDIR: folder, AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs20.x' },
  });
}

/** The fonts of the package beside those of the machine, which may have none. */
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
