import { describeFaults } from './scenarios.js';

describeFaults('logical');
