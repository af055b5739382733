/** Milliseconds since the epoch. An argument wherever behaviour depends on time. */
export type Clock = () => number;
