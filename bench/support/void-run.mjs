/**
 * Thrown when a run's numbers are meaningless: a message was missing, doubled or out of order, or a process
 * failed.
 */
export class VoidRun extends Error {}
