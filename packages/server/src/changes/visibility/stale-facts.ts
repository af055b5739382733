/** The catalog has changed: the caller reads facts and privileges again, and repeats the evaluation. */
export class StaleFacts extends Error {
  constructor() {
    super('the catalog has changed');
    this.name = 'StaleFacts';
  }
}
