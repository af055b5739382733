import { channelStoreContract } from './channel-store.contract.js';
import { MemoryChannelStore } from './memory-channel-store.js';

channelStoreContract(() => new MemoryChannelStore());
