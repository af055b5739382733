import { basename, dirname, extname, isAbsolute, relative, sep } from 'node:path';

const COMMAND = 'goforward-realtime';
const PACKAGES = `${sep}node_modules${sep}`;

/** The parts of a process that show how it was started. */
interface Started {
  readonly argv: readonly string[];
  cwd(): string;
}

/**
 * Returns the command line that runs this program again where its user is: the bare command when it is installed
 * globally, else `npx goforward-realtime`, which works in a clone and in a project that depends on the package.
 */
export function programName(started: Started = process): string {
  return isGlobalCommand(started) ? COMMAND : `npx ${COMMAND}`;
}

function isGlobalCommand(started: Started): boolean {
  const path = started.argv[1] ?? '';
  const extension = extname(path);
  // `npm start` and a program that embeds the server run another file.
  if (basename(path, extension) !== COMMAND) return false;
  const at = path.lastIndexOf(PACKAGES);
  // A link on the PATH has no extension; a clone's own file has one.
  if (at === -1) return extension === '';
  if (dirname(path).endsWith(`${PACKAGES}.bin`)) return false;
  // Windows starts the package's file itself: it belongs to the project around the current folder, or to none.
  const fromProject = relative(path.slice(0, at), started.cwd());
  return fromProject === '..' || fromProject.startsWith(`..${sep}`) || isAbsolute(fromProject);
}
