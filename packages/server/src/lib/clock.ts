/** Returns milliseconds since 1970. Code whose behaviour depends on time takes it as an argument. */
export type Clock = () => number;
