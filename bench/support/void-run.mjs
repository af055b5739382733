/** A run whose numbers mean nothing: something was missing, doubled, out of order, or a process failed. */
export class VoidRun extends Error {}
