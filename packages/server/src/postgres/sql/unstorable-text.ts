/**
 * Whether a statement failed because a text in it has a character that the database cannot hold: NUL, or one
 * that its encoding does not have.
 */
export function isUnstorableText(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === '22021' || error.code === '22P05');
}
