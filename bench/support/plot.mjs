/**
 * Returns an SVG plot with two logarithmic axes.
 * @param {{ title: string, x: string, y: string, lines: readonly { name: string, points: readonly (readonly [number, number])[] }[] }} plot
 */
export function logPlot({ title, x, y, lines }) {
  const all = lines.flatMap(({ points }) => points);
  const across = scale(
    all.map(([value]) => value),
    LEFT,
    WIDTH - RIGHT,
  );
  const up = scale(
    all.map(([, value]) => value),
    HEIGHT - BOTTOM,
    TOP,
  );
  const parts = [
    ...across.powers.flatMap((power) => [
      line(across.at(power), TOP, across.at(power), HEIGHT - BOTTOM, '#ddd'),
      text(across.at(power), HEIGHT - BOTTOM + 18, short(power), 'middle'),
    ]),
    ...up.powers.flatMap((power) => [
      line(LEFT, up.at(power), WIDTH - RIGHT, up.at(power), '#ddd'),
      text(LEFT - 8, up.at(power) + 4, short(power), 'end'),
    ]),
    ...lines.flatMap(({ name, points }, n) => {
      const color = COLORS[n % COLORS.length];
      const path = points.map(([a, b]) => `${across.at(a).toFixed(1)},${up.at(b).toFixed(1)}`).join(' ');
      return [
        `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>`,
        ...points.map(
          ([a, b]) =>
            `<circle cx="${across.at(a).toFixed(1)}" cy="${up.at(b).toFixed(1)}" r="3" fill="${color}"/>`,
        ),
        text(WIDTH - RIGHT + 10, TOP + 14 + 18 * n, name, 'start', color),
      ];
    }),
    text(LEFT, 20, title, 'start'),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x, 'middle'),
    text(LEFT, TOP - 10, y, 'start'),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<title>${title}</title>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${parts.join('\n')}
</svg>
`;
}

const [WIDTH, HEIGHT] = [760, 420];
const [LEFT, RIGHT, TOP, BOTTOM] = [70, 190, 60, 50];
const COLORS = ['#0b6e4f', '#2a6fdb', '#c8553d', '#7d5ba6', '#8a8a8a'];

function scale(values, from, to) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const powers = Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n));
  const at = (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  return { powers, at };
}

function line(x1, y1, x2, y2, color) {
  return `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${color}"/>`;
}

function text(x, y, content, anchor, color = '#222') {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" fill="${color}">${content}</text>`;
}

function short(power) {
  return power >= 1 ? power.toLocaleString('en') : String(Number(power.toPrecision(1)));
}
