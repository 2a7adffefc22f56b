#!/usr/bin/env node
// Opens an editor's page in a headless Chromium, waits until the editor is drawn, and keeps a picture of it.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { launch } from "./chromium.mjs";

const usage = `usage: ide-shot.mjs --url URL --file NAME --out PICTURE.png [option…]
Opens URL in a headless Chromium and waits until VS Code's workbench is drawn and its explorer shows the file NAME; then
writes a picture of the page. Needs Node.js 22, and nothing besides. Ends with 0, or with 1 and what it saw instead
(a picture of that is written too), or with 64 for arguments that make no sense.
  --url URL             the editor's page
  --file NAME           name of a file that the explorer must show
  --out PICTURE.png     where the picture goes
  --open                open that file, and wait until its text is drawn
  --resolve RULES       Chromium's --host-resolver-rules, such as 'MAP *.dev.example 127.0.0.1:8443'
  --insecure            accept any certificate
  --cookie NAME=VALUE   set for URL's host; may be given several times
  --size WIDTHxHEIGHT   of the page [1280x800]
  --dark                ask for the dark colours; the editor follows where its window.autoDetectColorScheme is set
  --seconds N           how long it may take in all [90]
  --chromium PROGRAM    [chromium]
`;

let options;
try {
  const text = { type: "string" };
  const flag = { type: "boolean", default: false };
  options = parseArgs({
    options: {
      url: text, file: text, out: text, resolve: text, help: flag, open: flag, insecure: flag, dark: flag,
      cookie: { type: "string", multiple: true, default: [] },
      size: { type: "string", default: "1280x800" },
      seconds: { type: "string", default: "90" },
      chromium: { type: "string", default: "chromium" },
    },
  }).values;
  if (options.help) {
    process.stdout.write(usage);
    process.exit(0);
  }
  for (const name of ["url", "file", "out"]) if (!options[name]) throw new Error(`--${name} is missing`);
  new URL(options.url);
  if (!/^\d+x\d+$/.test(options.size)) throw new Error("--size is WIDTHxHEIGHT");
  if (!(Number(options.seconds) > 0)) throw new Error("--seconds is a number");
  if (typeof WebSocket === "undefined") throw new Error(`Node.js ${process.version} is too old`);
} catch (error) {
  process.stderr.write(`${error.message}\n${usage}`);
  process.exit(64);
}
const [width, height] = options.size.split("x").map(Number);
const began = Date.now();
let page;

try {
  page = await launch({ ...options, program: options.chromium, seconds: Number(options.seconds) });
  await page.look(width, height, options.dark);
  for (const cookie of options.cookie) {
    const [name, value] = cookie.split(/=(.*)/s);
    await page.send("Network.setCookie", { name, value, url: options.url });
  }
  await page.open(options.url);

  await page.until("!!document.querySelector('.monaco-workbench')", "no workbench is drawn");
  const row = `[...document.querySelectorAll('.explorer-folders-view .monaco-list-row')].find((row) => row.innerText.trim() === ${JSON.stringify(options.file)})`;
  await page.until(`!!(${row})`, `the explorer does not show ${options.file}`);
  if (options.open) {
    const at = JSON.parse(await page.ask(`JSON.stringify((({ x, y, width, height }) => ({ x: x + width / 2, y: y + height / 2 }))((${row}).getBoundingClientRect()))`));
    for (const [type, clickCount] of [["mousePressed", 1], ["mouseReleased", 1], ["mousePressed", 2], ["mouseReleased", 2]]) {
      await page.send("Input.dispatchMouseEvent", { type, ...at, button: "left", clickCount });
    }
    await page.until("!!document.querySelector('.editor-instance .view-line')?.innerText.trim()", `the text of ${options.file} is not drawn`);
  }
  await page.until("!!document.querySelector('.part.statusbar .statusbar-item')", "the status bar is not drawn");
  // Icons and colours come a moment after the words.
  await sleep(1000);
  await page.picture(options.out);
  console.log(`${options.out}: drawn after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  process.exit(0);
} catch (error) {
  if (page) await page.tell(error);
  else process.stderr.write(`error: ${error.message}\n`);
  await page?.picture(options.out).catch(() => {});
  process.exit(1);
}
