#!/usr/bin/env node
// Opens the panel's page of servers in a headless Chromium as an administrator, looks whether its charts are drawn and told in words,
// and keeps pictures of it.
import { parseArgs } from "node:util";
import { launch } from "./chromium.mjs";

const usage = `usage: servers.mjs --panel URL --email ADDRESS --password WORDS --out FOLDER [--chromium PROGRAM]
Ends with 0 when each chart has a line that can be seen, a name and words, and the page fits a desk and a phone, light and dark.
`;
const text = { type: "string" };
let options;
try {
  options = parseArgs({
    options: { panel: text, email: text, password: text, out: text, chromium: { type: "string", default: "chromium" } },
  }).values;
  for (const name of ["panel", "email", "password", "out"]) if (!options[name]) throw new Error(`--${name} is missing`);
} catch (error) {
  process.stderr.write(`${error.message}\n${usage}`);
  process.exit(64);
}
// What a chart must have; the first thing that one has not.
const seen = `(() => {
  const charts = [...document.querySelectorAll("svg.chart")];
  if (charts.length < 3) return charts.length + " charts";
  for (const chart of charts) {
    const named = chart.getAttribute("aria-labelledby").split(" ").map((id) => document.getElementById(id)?.textContent);
    if (chart.getAttribute("role") !== "img" || named.some((words) => !words)) return "a chart without a name or words";
    const line = chart.querySelector("path.line");
    if (line.parentNode !== chart || getComputedStyle(line).stroke === "none" || line.getTotalLength() < 200) return named[0] + " is not drawn";
    if (chart.getBoundingClientRect().width < 200) return named[0] + " is too small";
  }
  return "fine";
})()`;
let page;
try {
  page = await launch({ program: options.chromium, seconds: 60 });
  await page.look(1280, 800, false);
  await page.open(`${options.panel}/login?next=%2Fservers`);
  await page.until("!!document.querySelector('input[name=password]')", "no sign-in page is shown");
  for (const name of ["email", "password"]) {
    await page.ask(`document.querySelector('input[name=${name}]').value = ${JSON.stringify(options[name])}, true`);
  }
  await page.ask("document.querySelector('form.card button').click(), true");
  await page.until("!!document.querySelector('svg.chart')", "no chart is shown");
  for (const [at, width, height] of [["desk", 1280, 800], ["phone", 390, 844]]) {
    for (const dark of [false, true]) {
      await page.look(width, height, dark);
      if (await page.ask("document.documentElement.scrollWidth > innerWidth")) throw new Error(`the page is wider than the ${at}`);
      const found = await page.ask(seen);
      if (found !== "fine") throw new Error(`${at}: ${found}`);
      await page.picture(`${options.out}/servers-${at}-${dark ? "dark" : "light"}.png`);
    }
  }
  const refused = page.troubles.find((words) => words.includes("Content Security Policy"));
  if (refused) throw new Error(refused);
  console.log("charts are drawn, and told in words");
  process.exit(0);
} catch (error) {
  if (page) await page.tell(error);
  else process.stderr.write(`error: ${error.message}\n`);
  process.exit(1);
}
