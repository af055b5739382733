import { readFileSync } from 'node:fs';

/** One fenced block of the document. */
export interface SpecBlock {
  /** The title of the section that it stands in. */
  readonly heading: string;
  readonly language: string;
  readonly text: string;
}

/** A request as the document writes it. */
export interface SpecRequest {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

const PATH = process.env.SPEC_DOCUMENT;

/** Whether there is a document to cut examples out of; `SPEC_DOCUMENT` names it. */
export const hasSpecDocument = PATH !== undefined && PATH !== '';

/** The name of a group of tests that need the document. Where they are skipped, it and a line of the report say why. */
export function specTitle(title: string): string {
  if (hasSpecDocument) return title;
  const why = 'skipped: SPEC_DOCUMENT does not name the document';
  console.info(`${title}: ${why}`);
  return `${title} (${why})`;
}

/** The specification as its readers have it. Examples are cut out by section and content, and a missing one is an error. */
export class SpecDocument {
  readonly blocks: readonly SpecBlock[];

  static read(): SpecDocument {
    if (!hasSpecDocument || PATH === undefined) throw new Error('SPEC_DOCUMENT does not name the document');
    return new SpecDocument(readFileSync(PATH, 'utf8'));
  }

  private constructor(markdown: string) {
    this.blocks = blocksOf(markdown);
  }

  /** The one block of this section and language that contains the text. */
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

  /** The request of a section. */
  request(heading: string): SpecRequest {
    const [head = '', ...rest] = this.block(heading, 'http').split('\n\n');
    const [method = '', path = ''] = (head.split('\n')[0] ?? '').split(' ');
    const body = rest.join('\n\n').trim();
    return { method, path, body: body === '' ? undefined : JSON.parse(body) };
  }

  /** The answer that a section shows. */
  answer(heading: string): Readonly<Record<string, unknown>> {
    return JSON.parse(this.block(heading, 'json')) as Record<string, unknown>;
  }
}

/** The places where a text of the document expects a host, a port and a token filled in. */
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
