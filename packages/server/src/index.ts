export type { Sign } from './auth/token-key.js';
export { type LoadedSettings, loadSettings, type SettingSources } from './config/load-settings.js';
export type { Settings } from './config/settings-table.js';
export { createLog, type Log, silentLog } from './lib/log.js';
export { StartupError } from './lib/startup-error.js';
export { RealtimeServer, type ServerOptions } from './server.js';
