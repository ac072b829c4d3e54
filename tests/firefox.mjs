// firefox.mjs: a page of Firefox, by WebDriver BiDi, for the tests in Python (firefox.py).
// usage: node firefox.mjs [PATH_OF_FIREFOX]. Standard input: one command a line, {"name", "args"}; standard output:
// one answer a line, {"value"} or {"error"}. Commands are the functions of COMMANDS; the input's end ends it.
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [executablePath = "/usr/bin/firefox-esr"] = process.argv.slice(2);
const browser = await puppeteer.launch({
  browser: "firefox", protocol: "webDriverBiDi", executablePath, headless: true, protocolTimeout: 600_000,
  defaultViewport: { width: 1280, height: 800 },
});
const page = await browser.newPage();
page.setDefaultTimeout(60_000);
const problems = [];
const requests = [];
page.on("pageerror", (error) => problems.push(String(error)));
page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
page.on("request", (request) => requests.push(request.url()));

const COMMANDS = {
  version: () => browser.version(),
  goto: async (url) => { await page.goto(url); },
  reload: async () => { await page.reload(); },
  /** An expression's value, or a function's, called with `arg`; promises are awaited. */
  async evaluate(source, arg) {
    const called = `(async (it) => JSON.stringify(await (typeof it === "function" ? it(${JSON.stringify(arg)}) : it))
      ?? "null")(${source})`;
    return JSON.parse(await page.evaluate(called));
  },
  click: async (selector) => { await page.locator(selector).click(); },
  fill: async (selector, text) => { await page.locator(selector).fill(text); },
  async press(key) {
    const keys = key.split("+");
    for (const held of keys.slice(0, -1)) await page.keyboard.down(held);
    await page.keyboard.press(keys.at(-1));
    for (const held of keys.slice(0, -1).reverse()) await page.keyboard.up(held);
  },
  type: async (text) => { await page.keyboard.type(text); },
  async upload(selector, paths) {
    const input = await page.$(selector);
    await input.uploadFile(...paths);
  },
  /** What the page reported, and every address that it asked for. */
  report: () => ({ problems, requests }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { name, args } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await COMMANDS[name](...args)) ?? null };
  } catch (error) {
    answer = { error: String(error?.stack ?? error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
