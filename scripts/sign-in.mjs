#!/usr/bin/env node
// Opens a private workspace in a headless Chromium, signs in at the panel it is led to, and comes back to the workspace; then looks
// whether the workspace's page can reach the panel's cookies. Keeps pictures of the panel's pages.
import { parseArgs } from "node:util";
import { launch } from "./chromium.mjs";

const usage = `usage: sign-in.mjs --url URL --panel URL --email ADDRESS --password WORDS --text WORDS --out FOLDER [--chromium PROGRAM]
Ends with 0 when the workspace's page, which holds WORDS, was reached, and could neither read nor plant a cookie of the panel.
`;
const text = { type: "string" };
let options;
try {
  options = parseArgs({
    options: { url: text, panel: text, email: text, password: text, text, out: text, chromium: { type: "string", default: "chromium" } },
  }).values;
  for (const name of ["url", "panel", "email", "password", "text", "out"]) if (!options[name]) throw new Error(`--${name} is missing`);
} catch (error) {
  process.stderr.write(`${error.message}\n${usage}`);
  process.exit(64);
}
const looks = [["desk", 1000, 700], ["phone", 390, 760]];
let page;

// The page that is open, at both widths, light and dark.
async function pictures(name) {
  for (const [at, width, height] of looks) {
    for (const dark of [false, true]) {
      await page.look(width, height, dark);
      const wide = await page.ask("document.documentElement.scrollWidth > innerWidth");
      if (wide) throw new Error(`${name} is wider than the ${at}`);
      await page.picture(`${options.out}/${name}-${at}-${dark ? "dark" : "light"}.png`);
    }
  }
  await page.look(1000, 700, false);
}

const fill = (name, value) => page.ask(`document.querySelector('input[name=${name}]').value = ${JSON.stringify(value)}, true`);
const submit = () => page.ask("document.querySelector('form.card button').click(), true");
const same = (what, found, wanted) => {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(`${what} is ${JSON.stringify(found)}, and not ${JSON.stringify(wanted)}`);
};

try {
  page = await launch({ program: options.chromium, seconds: 60 });
  await page.look(1000, 700, false);
  await page.open(options.url);
  await page.until("!!document.querySelector('input[name=password]')", "no sign-in page is shown");
  same("the panel", await page.ask("location.origin"), options.panel);
  await pictures("sign-in");
  await fill("email", options.email);
  await fill("password", "not the password");
  await submit();
  await page.until("!!document.querySelector('[role=alert]')", "a wrong password is not told of");
  await fill("password", options.password);
  await submit();
  await page.until(`document.body?.innerText.includes(${JSON.stringify(options.text)})`, "the workspace is not shown");
  same("the address", await page.ask("location.href"), options.url);

  // A workspace's own script, for all that it can do.
  same("what its script reads", await page.ask("document.cookie"), "");
  for (const cookie of ["__Host-ds_session=planted; path=/; secure", "__Host-ds_session=planted; path=/; secure; domain=localhost", "ds=planted; domain=localhost; path=/"]) {
    await page.ask(`document.cookie = ${JSON.stringify(cookie)}, true`);
  }
  const read = `fetch(${JSON.stringify(options.panel)}, { credentials: "include" }).then((r) => r.text(), (e) => "refused")`;
  same("what it reads of the panel", await page.ask(read), "refused");
  const post = `fetch(${JSON.stringify(options.panel + "/logout")}, { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({ x: "1" }) }).then(() => true, () => true)`;
  await page.ask(post);

  await page.open(`${options.panel}/`);
  await page.until("document.body?.innerText.includes('Your workspaces')", "they are not signed in at the panel any more");
  await pictures("home");
  await page.open(`${options.panel}/account`);
  await page.until("document.body?.innerText.includes('Where you are signed in')", "their account is not shown");
  await pictures("account");
  console.log("signed in, let in, and nothing taken or planted");
  process.exit(0);
} catch (error) {
  if (page) await page.tell(error);
  else process.stderr.write(`error: ${error.message}\n`);
  process.exit(1);
}
