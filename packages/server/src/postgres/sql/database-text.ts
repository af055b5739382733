import { isStorableText } from '../../lib/storable-text.js';

/** The texts that a database can hold, which depends on its encoding. */
export interface DatabaseText {
  /** Whether PostgreSQL can convert the text to the encoding of the database. */
  canStore(text: string): boolean;
  /** Whether JSON may escape characters above ASCII as `\u`: not in SQL_ASCII, which converts nothing. */
  readonly takesEscapes: boolean;
}

/** A database in UTF8. */
export const UTF8_TEXT: DatabaseText = { canStore: isStorableText, takesEscapes: true };
