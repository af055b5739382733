import { readFileSync } from 'node:fs';

/** A fenced code block of the document. */
export interface SpecBlock {
  /** The title of its section. */
  readonly heading: string;
  readonly language: string;
  readonly text: string;
}

/** An HTTP request of the document. */
export interface SpecRequest {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

const PATH = process.env.SPEC_DOCUMENT;

/** Whether `SPEC_DOCUMENT` names the specification. */
export const hasSpecDocument = PATH !== undefined && PATH !== '';

/**
 * Returns the title of a group of tests that need the document. When they are skipped, title and output say
 * why.
 */
export function specTitle(title: string): string {
  if (hasSpecDocument) return title;
  const why = 'skipped: SPEC_DOCUMENT does not name the document';
  console.info(`${title}: ${why}`);
  return `${title} (${why})`;
}

/**
 * The specification's Markdown file. Finds examples by section and content; a missing example is an error.
 */
export class SpecDocument {
  readonly blocks: readonly SpecBlock[];

  static read(): SpecDocument {
    if (!hasSpecDocument || PATH === undefined) throw new Error('SPEC_DOCUMENT does not name the document');
    return new SpecDocument(readFileSync(PATH, 'utf8'));
  }

  private constructor(markdown: string) {
    this.blocks = blocksOf(markdown);
  }

  /** Returns the only block of this section and language that contains the text. */
  block(heading: string, language: string, containing = ''): string {
    const found = this.blocks.filter(
      (block) => block.heading === heading && block.language === language && block.text.includes(containing),
    );
    const [block] = found;
    if (block === undefined || found.length > 1) {
      const what = containing === '' ? '' : ` with "${containing}"`;
      throw new Error(
        `${PATH} has ${found.length} ${language} blocks${what} under "${heading}" instead of one`,
      );
    }
    return block.text;
  }

  /** Returns the HTTP request of a section. */
  request(heading: string): SpecRequest {
    const [head = '', ...rest] = this.block(heading, 'http').split('\n\n');
    const [method = '', path = ''] = (head.split('\n')[0] ?? '').split(' ');
    const body = rest.join('\n\n').trim();
    return { method, path, body: body === '' ? undefined : JSON.parse(body) };
  }

  /** Returns the JSON answer of a section. */
  answer(heading: string): Readonly<Record<string, unknown>> {
    return JSON.parse(this.block(heading, 'json')) as Record<string, unknown>;
  }
}

/** Replaces the document's placeholders for port and token. */
export function filledIn(text: string, port: number, token: string): string {
  return text
    .replaceAll('localhost:8080', `localhost:${port}`)
    .replaceAll(
      /your_jwt_token|YOUR_JWT_TOKEN|<token>|<access_token>|test-token|eyJhbGciOi[\w.]*\.\.\./g,
      token,
    );
}

function blocksOf(markdown: string): SpecBlock[] {
  const blocks: SpecBlock[] = [];
  let heading = '';
  let language = '';
  let lines: string[] | undefined;
  for (const line of markdown.split(/\r?\n/)) {
    if (lines !== undefined) {
      if (line.startsWith('```')) {
        blocks.push({ heading, language, text: lines.join('\n') });
        lines = undefined;
      } else lines.push(line);
    } else if (line.startsWith('```')) {
      language = line.slice(3).trim();
      lines = [];
    } else if (line.startsWith('#')) heading = line.replace(/^#+\s*/, '');
  }
  return blocks;
}
