import { isStorableText } from '../../lib/storable-text.js';
import { type DatabaseText, UTF8_TEXT } from './database-text.js';
import type { Sql } from './sql.js';

/** SQL_ASCII stores bytes as they are. */
const SQL_ASCII_TEXT: DatabaseText = { canStore: isStorableText, takesEscapes: false };

/**
 * Finds the ranges of UTF-16 code units that PostgreSQL can convert to the encoding of the database, by converting
 * each. Characters of two units, which are in no encoding but UTF8 and EUC_JIS_2004, count as ones that it cannot.
 */
const FIND_RANGES = `
  DO $do$
  DECLARE
    ranges text := '';
    first int;
    is_storable bool;
  BEGIN
    FOR unit IN 1..65536 LOOP
      is_storable := unit NOT BETWEEN 55296 AND 57343 AND unit < 65536;
      IF is_storable THEN
        BEGIN
          PERFORM ('"\\u' || lpad(to_hex(unit), 4, '0') || '"')::jsonb;
        EXCEPTION WHEN OTHERS THEN
          is_storable := false;
        END;
      END IF;
      IF is_storable THEN
        first := coalesce(first, unit);
      ELSIF first IS NOT NULL THEN
        ranges := ranges || '\\u' || lpad(to_hex(first), 4, '0') || '-\\u' || lpad(to_hex(unit - 1), 4, '0');
        first := NULL;
      END IF;
    END LOOP;
    PERFORM set_config('realtime.storable', ranges, true);
  END $do$`;

/** Reads which texts the database can hold. Returns the same object for the same encoding. */
export class DatabaseTextReader {
  readonly #known = new Map<string, DatabaseText>([
    ['UTF8', UTF8_TEXT],
    ['SQL_ASCII', SQL_ASCII_TEXT],
  ]);

  /** Takes about a second for the first time with another encoding than UTF8. */
  async read(database: {
    transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
  }): Promise<DatabaseText> {
    return database.transaction(async (sql) => {
      const [encoding] = await sql.query<{ name: string }>(
        `SELECT current_setting('server_encoding') AS name`,
      );
      const name = encoding?.name ?? '';
      const known = this.#known.get(name);
      if (known !== undefined) return known;
      await sql.query(FIND_RANGES);
      const [found] = await sql.query<{ ranges: string }>(
        `SELECT current_setting('realtime.storable') AS ranges`,
      );
      const storable = new RegExp(`^[${found?.ranges ?? ''}]*$`);
      const text: DatabaseText = { canStore: (value) => storable.test(value), takesEscapes: true };
      this.#known.set(name, text);
      return text;
    });
  }
}
