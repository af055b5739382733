import { bodyText } from '../json-body.js';
import { signalOf } from '../pending-requests.js';
import { type App, route } from '../route.js';
import { ExplainRequestBody, ExplanationBody } from '../row-change-schemas.js';
import { type ChangeRouteParts, requireRowChanges } from './row-change-parts.js';

/** Explains why a user receives a row, or does not. */
export function explainRoute(app: App, { channels, rowChanges }: ChangeRouteParts): void {
  const facts = {
    access: 'server-admin',
    tag: 'Row changes',
    summary: 'Explain why a user receives a row, or does not',
    needsPostgres: true,
    description:
      'Takes a subscription, or a table and a condition; the claims of the user; and a row: `key` for a row in the table, `row` for any row, or `at` for a change of the resume window (the cursor of its message). Uses the present privileges and policies.',
  } as const;
  app.post(
    '/realtime/explain',
    route(facts, { body: ExplainRequestBody }, { 200: ExplanationBody }),
    async (request) => {
      const changes = requireRowChanges(rowChanges);
      const { subscription_id: id, key: _key, row: _row, ...asked } = request.body;
      const [key, row] = [bodyText(request, 'key'), bodyText(request, 'row')];
      const report = id === undefined ? undefined : changes.reports.report(id);
      const question = {
        schema: 'public',
        ...asked,
        ...(key === undefined ? {} : { key }),
        ...(row === undefined ? {} : { row }),
        ...report?.subscription.filter,
      };
      const explanation = await changes.explain(question, signalOf(request));
      if (report === undefined) return explanation;
      const { subscription, owner } = report;
      const userId = explanation.user_id;
      const listening =
        owner === undefined
          ? (channels.find(subscription.channelName)?.audience.connectionsOf(userId) ?? 0)
          : Number(owner.userId === userId);
      return { ...explanation, listening };
    },
  );
}
