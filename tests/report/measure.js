// Run beside frames of the page, each as wide as a screen: what a reader would see there.
const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);

// [r, g, b, alpha] in 0..1, of the two ways in which browsers write computed colours.
function parse(colour) {
  const numbers = colour.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
  const scale = colour.startsWith("rgb") ? 255 : 1;
  const [r, g, b, alpha = 1] = numbers;
  return [r / scale, g / scale, b / scale, alpha];
}

function background(element, view) {
  for (let one = element; one; one = one.parentElement) {
    const colour = parse(view.getComputedStyle(one).backgroundColor);
    if (colour[3] === 1) return colour;
    if (colour[3] > 0) throw new Error("half a background: " + one.outerHTML.slice(0, 80));
  }
  return [1, 1, 1, 1];
}

function leastContrast(doc, view) {
  let least = { ratio: 99, text: "" };
  const walker = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length || element.closest("script, title")) continue;
    const style = view.getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    const pair = [luminance(ink), luminance(background(element, view))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < least.ratio) least = { ratio, text: text.slice(0, 40) };
  }
  return least;
}

// Elements that stick out at a side and are not in a box of their own that scrolls.
function sticking(doc, view) {
  const width = doc.documentElement.clientWidth;
  return [...doc.body.querySelectorAll("*")]
    .filter((one) => !one.closest(".wide") && !one.matches(".skip, title"))
    .filter((one) => {
      const box = one.getBoundingClientRect();
      return box.width > 0 && (box.right > width + 1 || box.left < -1);
    })
    .map((one) => one.outerHTML.slice(0, 120));
}

function smallestLetters(doc, view) {
  const sizes = [...doc.querySelectorAll("svg text, td, th, p, pre, dd, .name, .value")]
    .filter((one) => one.getClientRects().length)
    .map((one) => parseFloat(view.getComputedStyle(one).fontSize));
  return Math.min(...sizes);
}

// The first column stays where it is when a table is scrolled.
function firstColumnStays(doc) {
  const boxes = [...doc.querySelectorAll(".wide")].filter((b) => b.scrollWidth > b.clientWidth + 50);
  return boxes.every((box) => {
    const head = box.querySelector("tbody th");
    const before = head.getBoundingClientRect().left;
    box.scrollLeft = 60;
    const stays = Math.abs(head.getBoundingClientRect().left - before) < 2;
    box.scrollLeft = 0;
    return stays;
  });
}

function filtered(doc, kind) {
  const box = doc.querySelector(".examples");
  const button = box.querySelector(`input[value="${kind}"]`);
  button.click();
  const cards = [...box.querySelectorAll("details")];
  const shown = cards.filter((one) => one.getClientRects().length);
  const right = shown.every((one) => one.dataset.kinds.split(" ").includes(kind));
  box.querySelector('input[value=""]').click();
  return { shown: shown.length, all: cards.length, right };
}

async function follow(doc) {
  const link = doc.querySelector(".ids a");
  const target = doc.getElementById(link.getAttribute("href").slice(1));
  target.open = false;
  link.click();
  for (let n = 0; n < 50 && !target.open; n++) await new Promise((done) => setTimeout(done, 20));
  return target.open;
}

async function measure(frame) {
  const doc = frame.contentDocument, view = frame.contentWindow;
  doc.documentElement.style.scrollbarWidth = "none"; // as on a phone, where bars take no room
  for (const one of doc.querySelectorAll("details")) one.open = true;
  const found = {
    width: view.innerWidth,
    scrollWidth: doc.documentElement.scrollWidth,
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    sticking: sticking(doc, view),
    contrast: leastContrast(doc, view),
    letters: smallestLetters(doc, view),
    scrolling: [...doc.querySelectorAll(".wide")].filter((b) => b.scrollWidth > b.clientWidth).length,
    stays: firstColumnStays(doc),
    columns: view.getComputedStyle(doc.querySelector(".said")).gridTemplateColumns.split(" ").length,
    filter: filtered(doc, "only-fused"),
  };
  found.follows = await follow(doc);
  return found;
}

addEventListener("load", async () => {
  const found = [];
  try {
    for (const frame of document.querySelectorAll("iframe")) found.push(await measure(frame));
    document.getElementById("found").textContent = JSON.stringify(found);
  } catch (error) {
    document.getElementById("found").textContent = JSON.stringify({ error: String(error.stack) });
  }
});
