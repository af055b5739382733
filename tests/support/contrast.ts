/**
 * Returns the texts of a page with less contrast than WCAG 2.2 AA requires (4.5 to 1), with their ratio. It
 * runs in the browser, so it contains all its helpers. Disabled controls are exempt.
 */
export function lowContrasts(): string[] {
  type Colour = readonly [red: number, green: number, blue: number, alpha: number];
  const parse = (text: string): Colour => {
    const [red = 0, green = 0, blue = 0, alpha = 1] = (text.match(/[\d.]+/g) ?? []).map(Number);
    return [red, green, blue, alpha];
  };
  const over = (top: Colour, below: Colour): Colour => {
    const mix = (a: number, b: number) => a * top[3] + b * (1 - top[3]);
    return [mix(top[0], below[0]), mix(top[1], below[1]), mix(top[2], below[2]), 1];
  };
  const background = (element: Element | null): Colour => {
    if (element === null) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, background(element.parentElement));
  };
  const luminance = (colour: Colour): number => {
    const [red, green, blue] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * (red ?? 0) + 0.7152 * (green ?? 0) + 0.0722 * (blue ?? 0);
  };
  const ratio = (a: Colour, b: Colour): number => {
    const [high = 0, low = 0] = [luminance(a), luminance(b)].sort((one, two) => two - one);
    return (high + 0.05) / (low + 0.05);
  };

  const found: string[] = [];
  const check = (element: Element, text: string, pseudo?: string) => {
    const below = background(element);
    const contrast = ratio(over(parse(getComputedStyle(element, pseudo).color), below), below);
    if (contrast < 4.5)
      found.push(`${contrast.toFixed(2)} ${element.id || element.className}: ${text.slice(0, 40)}`);
  };
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility() || element.closest(':disabled, .visually-hidden') !== null) continue;
    if (element.matches('input, textarea')) check(element, 'placeholder', '::placeholder');
    const texts = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = texts.map((node) => node.textContent?.trim() ?? '').join('');
    if (text !== '' || element.matches('input, textarea, select')) check(element, text);
  }
  return found;
}
