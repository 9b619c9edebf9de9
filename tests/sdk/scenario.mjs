// What every client sends, and what must be known afterwards. One story for all of them: somebody looks around without
// a name, gives it, buys, and turns out to be the visitor of another device too; somebody else never gives a name.
//
// To send one more call: add it to `steps` and, when it counts in reports, to `expectedCounts`; the clients in
// clients/ replay the list in their own idiom.

// Properties carry `step`, so that each call can be found again whatever its name becomes.
const steps = [
  // A second visitor, who stays anonymous: proof that not everybody is taken for one person.
  { who: 'visitor', type: 'track', event: 'Brochure Opened', properties: { step: 'visitor' } },
  // The same person as `main`, on another device, before anybody can know that.
  { who: 'laptop', type: 'track', event: 'Cart Left', properties: { step: 'laptop', pieces: 2 } },
  { who: 'main', type: 'page', name: 'Start', properties: { step: 'page', section: 'start' } },
  {
    who: 'main', type: 'track', event: 'Product Viewed',
    properties: { step: 'viewed', product_id: 'p-1', name: 'Lamp', category: 'Home', price: 12.5 },
  },
  // The first login: what `main` did so far becomes this user's.
  { who: 'main', type: 'identify', login: true, traits: { email: '{user}@example.com', plan: 'gold', age: 41 } },
  {
    who: 'main', type: 'track', event: 'Order Completed',
    properties: {
      step: 'order', order_id: 'o-{client}', currency: 'EUR', total: 30.5,
      products: [
        { product_id: 'p-1', name: 'Lamp', category: 'Home', price: 12.5, quantity: 2 },
        { product_id: 'p-2', name: 'Bulb', category: 'Home', price: 5.5, quantity: 1 },
      ],
    },
  },
  { who: 'main', type: 'group', groupId: '{account}', traits: { name: 'Acme', employees: 12 } },
  // Joins what the laptop did.
  { who: 'main', type: 'alias', previous: 'laptop' },
  {
    who: 'main', type: 'track', event: 'Survey Answered',
    properties: { step: 'survey', score: 7, ratio: 0.25, happy: true, comment: '정말 좋아요 ✓' },
  },
];

// How often each step counts as something that happened. Identify, group and alias do not: they are seen by what they
// do to persons, and in the number of events that went through the pipeline.
export const expectedCounts = { visitor: 1, laptop: 1, page: 1, viewed: 1, order: 1, survey: 1 };

// Steps of the one person who gave a name.
export const stepsOfUser = ['laptop', 'order', 'page', 'survey', 'viewed'];

export const callsTotal = steps.length;

// The name that reports know each call by: standard names become the catalogue's.
export const expectedNames = {
  visitor: 'Brochure Opened',
  laptop: 'Cart Left',
  page: 'df_view_home',
  viewed: 'df_view_product_details',
  order: 'df_purchase',
  survey: 'Survey Answered',
};

// Values of properties, as text, by step. Whole numbers stay whole, letters outside ASCII survive.
export const expectedProperties = {
  laptop: { pieces: '2' },
  page: { section: 'start' },
  survey: { score: '7', ratio: '0.25', happy: 'true', comment: '정말 좋아요 ✓' },
};

// Σ price × quantity of the order.
export const expectedRevenue = '30.5';

export const expectedTraits = { email: '{user}@example.com', plan: 'gold', age: '41' };

/** Puts the names of one run into the placeholders of a text or a structure. */
export function fill(value, names) {
  const text = JSON.stringify(value).replace(/\{(\w+)\}/g, (whole, key) => names[key] ?? whole);
  return JSON.parse(text);
}

/** The calls of one client. Server-side clients choose the anonymous ids in `names`, browsers make up their own. */
export function scenario(client) {
  const names = {
    client,
    user: `${client}-user`,
    account: `${client}-account`,
    main: `${client}-main-anonymous`,
    laptop: `${client}-laptop-anonymous`,
    visitor: `${client}-visitor-anonymous`,
  };
  return { names, steps: fill(steps, names) };
}
