#!/usr/bin/env node
// Opens deep links of workspaces that are stopped in a headless Chromium, as somebody who is signed in: presses what the pages offer,
// and waits until each leads where it was opened. Keeps pictures of the pages.
import { parseArgs } from "node:util";
import { launch } from "./chromium.mjs";

const usage = `usage: wake.mjs --panel URL --email ADDRESS --password WORDS --private URL --public URL --by-itself URL --text WORDS --out FOLDER
Ends with 0 when each workspace was woken and its page, which holds WORDS, was reached at the address first opened.
`;
const text = { type: "string" };
const names = ["panel", "email", "password", "private", "public", "by-itself", "text", "out"];
let options;
try {
  options = parseArgs({ options: { ...Object.fromEntries(names.map((name) => [name, text])), chromium: { type: "string", default: "chromium" } } }).values;
  for (const name of names) if (!options[name]) throw new Error(`--${name} is missing`);
} catch (error) {
  process.stderr.write(`${error.message}\n${usage}`);
  process.exit(64);
}
let page;

async function pictures(name) {
  for (const [at, width, height] of [["desk", 1000, 700], ["phone", 390, 760]]) {
    for (const dark of [false, true]) {
      await page.look(width, height, dark);
      if (await page.ask("document.documentElement.scrollWidth > innerWidth")) throw new Error(`${name} is wider than the ${at}`);
      await page.picture(`${options.out}/${name}-${at}-${dark ? "dark" : "light"}.png`);
    }
  }
  await page.look(1000, 700, false);
}

const says = (words) => `document.body?.innerText.includes(${JSON.stringify(words)})`;
const press = (what) => page.ask(`document.querySelector(${JSON.stringify(what)}).click(), true`);
const fill = (name, value) => page.ask(`document.querySelector('input[name=${name}]').value = ${JSON.stringify(value)}, true`);

async function lands(url, begun) {
  // Our own pages have a main part, the workspace's has none.
  await page.until(`location.href === ${JSON.stringify(url)} && !document.querySelector("main") && ${says(options.text)}`, `${url} was not reached`);
  console.log(`${url} was reached after ${Date.now() - begun} ms`);
}

try {
  page = await launch({ program: options.chromium, seconds: 90 });
  await page.look(1000, 700, false);
  await page.open(`${options.panel}/login`);
  await page.until("!!document.querySelector('input[name=password]')", "no sign-in page is shown");
  await fill("email", options.email);
  await fill("password", options.password);
  await press("form.card button");
  await page.until(says("Your workspaces"), "they are not signed in");

  // A private one says nothing to whoever is not known at its host: they are led to the panel, and back.
  await page.open(options.private);
  await page.until(`${says("There is nothing here")} && !!document.querySelector('main a')`, "its page is not shown");
  await press("main a");
  await page.until("!!document.querySelector('form button')", "no button is shown");
  await pictures("stopped");
  let begun = Date.now();
  await press("form button");
  await lands(options.private, begun);

  // A public one is started at the panel.
  await page.open(options.public);
  await page.until(says("Sign in to start it"), "no way to the panel is shown");
  await press("main a");
  await page.until(`location.origin === ${JSON.stringify(options.panel)} && !!document.querySelector('form.card button')`, "the panel shows no button");
  await pictures("start");
  begun = Date.now();
  await press("form.card button");
  await lands(options.public, begun);

  begun = Date.now();
  await page.open(options["by-itself"]);
  await lands(options["by-itself"], begun);
  process.exit(0);
} catch (error) {
  if (page) await page.tell(error);
  else process.stderr.write(`error: ${error.message}\n`);
  process.exit(1);
}
