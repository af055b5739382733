import { MemorySubscriptionStore } from './memory-subscription-store.js';
import { subscriptionStoreContract } from './subscription-store.contract.js';

subscriptionStoreContract(async () => new MemorySubscriptionStore());
