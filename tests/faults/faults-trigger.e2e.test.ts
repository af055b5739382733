import { describeFaults } from './scenarios.js';

describeFaults('trigger');
