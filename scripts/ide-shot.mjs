#!/usr/bin/env node
// Opens an editor's page in a headless Chromium, waits until the editor is drawn, and keeps a picture of it.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

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
const deadline = began + Number(options.seconds) * 1000;
const home = mkdtempSync(join(tmpdir(), "ide-shot-"));
let browser;

// Nothing of the browser outlives this program, however it ends.
function clean() {
  try {
    if (browser?.pid) process.kill(-browser.pid, "SIGKILL");
  } catch {
    // It has ended.
  }
  rmSync(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
}
process.on("exit", clean);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

async function start() {
  const flags = [
    "--headless=new", "--remote-debugging-port=0", `--user-data-dir=${home}/profile`, `--window-size=${width},${height}`,
    "--no-first-run", "--no-default-browser-check", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    // Proxies of the environment are not for what is tested.
    "--no-proxy-server",
  ];
  if (process.getuid?.() === 0) flags.push("--no-sandbox");
  if (options.resolve) flags.push(`--host-resolver-rules=${options.resolve}`);
  if (options.insecure) flags.push("--ignore-certificate-errors");
  // A group of its own, so that all of it can be ended; a home of its own, since it writes there too.
  browser = spawn(options.chromium, [...flags, "about:blank"], {
    detached: true, stdio: "ignore", env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home },
  });
  let ended = null;
  browser.on("error", (error) => (ended = error.message));
  browser.on("exit", (code, signal) => (ended ??= `it ended with ${code ?? signal}`));
  const file = join(home, "profile", "DevToolsActivePort");
  while (!existsSync(file) || readFileSync(file, "utf8").split("\n").length < 2) {
    if (ended) throw new Error(`${options.chromium} does not start: ${ended}`);
    if (Date.now() > deadline) throw new Error(`${options.chromium} does not start in time`);
    await sleep(50);
  }
  return readFileSync(file, "utf8").split("\n")[0];
}

// What a page says and takes, by Chromium's own protocol.
async function connect(port) {
  const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  const socket = new WebSocket(pages.find((page) => page.type === "page").webSocketDebuggerUrl);
  const waiting = new Map();
  const listeners = [];
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (!message.id) return listeners.forEach((listener) => listener(message));
    const { resolve, reject } = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error) reject(new Error(message.error.message));
    else resolve(message.result);
  };
  socket.onclose = () => waiting.forEach(({ reject }) => reject(new Error("the browser has ended")));
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("the browser takes no commands"));
  });
  let last = 0;
  const send = (method, params = {}) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      socket.send(JSON.stringify({ id: last, method, params }));
    });
  return { send, listen: (listener) => listeners.push(listener) };
}

let connected = false;
const port = await start().catch(fail);
const { send, listen } = await connect(port).catch(fail);
connected = true;
// What went wrong on the way, for whoever has to find out.
const troubles = [];
const trouble = (words) => troubles.length < 20 && !troubles.includes(words) && troubles.push(words);
listen(({ method, params }) => {
  if (method === "Network.responseReceived" && params.response.status >= 400) trouble(`${params.response.status} ${params.response.url}`);
  if (method === "Network.loadingFailed" && !params.canceled) trouble(`${params.type}: ${params.errorText}`);
  if (method === "Network.webSocketFrameError") trouble(`WebSocket: ${params.errorMessage}`);
  if (method === "Runtime.exceptionThrown") trouble(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
});

// An expression's value in the page; while a page is being left there is none.
async function ask(expression) {
  const answer = await send("Runtime.evaluate", { expression, returnByValue: true }).catch((error) => {
    if (error.message === "the browser has ended") throw error;
  });
  return answer?.result?.value;
}

async function until(expression, what) {
  while (!(await ask(expression))) {
    if (Date.now() > deadline) throw new Error(`${what} after ${options.seconds} s`);
    await sleep(200);
  }
}

async function picture() {
  const { data } = await send("Page.captureScreenshot", { format: "png" });
  writeFileSync(options.out, Buffer.from(data, "base64"));
}

async function fail(error) {
  process.stderr.write(`error: ${error.message}\n`);
  if (connected) {
    const seen = await ask("`${location.href}: ${JSON.stringify(document.title)}, ${JSON.stringify(document.body?.innerText.slice(0, 300))}`").catch(() => null);
    if (seen) process.stderr.write(`the page is ${seen}\n`);
    for (const words of troubles) process.stderr.write(`  ${words}\n`);
    await picture().catch(() => {});
  }
  process.exit(1);
}

try {
  for (const domain of ["Page", "Runtime", "Network"]) await send(`${domain}.enable`);
  await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  const colours = options.dark ? "dark" : "light";
  await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: colours }] });
  for (const cookie of options.cookie) {
    const [name, value] = cookie.split(/=(.*)/s);
    await send("Network.setCookie", { name, value, url: options.url });
  }
  const { errorText } = await send("Page.navigate", { url: options.url });
  if (errorText) throw new Error(`${options.url} does not open: ${errorText}`);

  await until("!!document.querySelector('.monaco-workbench')", "no workbench is drawn");
  const row = `[...document.querySelectorAll('.explorer-folders-view .monaco-list-row')].find((row) => row.innerText.trim() === ${JSON.stringify(options.file)})`;
  await until(`!!(${row})`, `the explorer does not show ${options.file}`);
  if (options.open) {
    const at = JSON.parse(await ask(`JSON.stringify((({ x, y, width, height }) => ({ x: x + width / 2, y: y + height / 2 }))((${row}).getBoundingClientRect()))`));
    for (const [type, clickCount] of [["mousePressed", 1], ["mouseReleased", 1], ["mousePressed", 2], ["mouseReleased", 2]]) {
      await send("Input.dispatchMouseEvent", { type, ...at, button: "left", clickCount });
    }
    await until("!!document.querySelector('.editor-instance .view-line')?.innerText.trim()", `the text of ${options.file} is not drawn`);
  }
  await until("!!document.querySelector('.part.statusbar .statusbar-item')", "the status bar is not drawn");
  // Icons and colours come a moment after the words.
  await sleep(1000);
  await picture();
  console.log(`${options.out}: drawn after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  process.exit(0);
} catch (error) {
  await fail(error);
}
