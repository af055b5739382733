/** A user account of the system. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}
