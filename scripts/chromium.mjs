// A headless Chromium, spoken to by its own protocol. Needs Node.js 22, and nothing besides.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

// Starts one that ends with this program, however that ends. `seconds` is how long everything may take.
export async function launch({ program, resolve, insecure, seconds }) {
  const deadline = Date.now() + seconds * 1000;
  const home = mkdtempSync(join(tmpdir(), "chromium-"));
  let browser;
  process.on("exit", () => {
    try {
      if (browser?.pid) process.kill(-browser.pid, "SIGKILL");
    } catch {
      // It has ended.
    }
    rmSync(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

  const flags = [
    "--headless=new", "--remote-debugging-port=0", `--user-data-dir=${home}/profile`, "--no-first-run",
    "--no-default-browser-check", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    // Proxies of the environment are not for what is tested.
    "--no-proxy-server",
  ];
  if (process.getuid?.() === 0) flags.push("--no-sandbox");
  if (resolve) flags.push(`--host-resolver-rules=${resolve}`);
  if (insecure) flags.push("--ignore-certificate-errors");
  // A group of its own, so that all of it can be ended; a home of its own, since it writes there too.
  browser = spawn(program, [...flags, "about:blank"], {
    detached: true, stdio: "ignore", env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home },
  });
  let ended = null;
  browser.on("error", (error) => (ended = error.message));
  browser.on("exit", (code, signal) => (ended ??= `it ended with ${code ?? signal}`));
  const file = join(home, "profile", "DevToolsActivePort");
  while (!existsSync(file) || readFileSync(file, "utf8").split("\n").length < 2) {
    if (ended) throw new Error(`${program} does not start: ${ended}`);
    if (Date.now() > deadline) throw new Error(`${program} does not start in time`);
    await sleep(50);
  }
  return page(readFileSync(file, "utf8").split("\n")[0], deadline);
}

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

// One page: what it says and takes.
async function page(port, deadline) {
  const { send, listen } = await connect(port);
  // What went wrong on the way, for whoever has to find out.
  const troubles = [];
  const trouble = (words) => troubles.length < 20 && !troubles.includes(words) && troubles.push(words);
  listen(({ method, params }) => {
    if (method === "Network.responseReceived" && params.response.status >= 400) trouble(`${params.response.status} ${params.response.url}`);
    if (method === "Network.loadingFailed" && !params.canceled) trouble(`${params.type}: ${params.errorText}`);
    if (method === "Network.webSocketFrameError") trouble(`WebSocket: ${params.errorMessage}`);
    if (method === "Runtime.exceptionThrown") trouble(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Log.entryAdded" && params.entry.level === "error") trouble(params.entry.text);
  });
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await send(`${domain}.enable`);

  // An expression's value in the page; while a page is being left there is none.
  async function ask(expression) {
    const answer = await send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true }).catch((error) => {
      if (error.message === "the browser has ended") throw error;
    });
    return answer?.result?.value;
  }

  return {
    send, ask, troubles,
    async look(width, height, dark) {
      await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
      const value = dark ? "dark" : "light";
      await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
    },
    async open(url) {
      const { errorText } = await send("Page.navigate", { url });
      if (errorText) throw new Error(`${url} does not open: ${errorText}`);
    },
    async until(expression, what) {
      while (!(await ask(expression))) {
        if (Date.now() > deadline) throw new Error(`${what} in time`);
        await sleep(100);
      }
    },
    async picture(file) {
      const { data } = await send("Page.captureScreenshot", { format: "png" });
      writeFileSync(file, Buffer.from(data, "base64"));
    },
    // Says where the page is and what went wrong.
    async tell(error) {
      process.stderr.write(`error: ${error.message}\n`);
      const seen = await ask("`${location.href}: ${JSON.stringify(document.title)}, ${JSON.stringify(document.body?.innerText.slice(0, 300))}`").catch(() => null);
      if (seen) process.stderr.write(`the page is ${seen}\n`);
      for (const words of troubles) process.stderr.write(`  ${words}\n`);
    },
  };
}
