// Runs scripts in a page of Firefox, by WebDriver BiDi.
// usage: node firefox.mjs PAGE_URL < steps.json     steps: [{"function": "async (...args) => ...", "args": [...]}]
// Prints {"browser": version, "results": [...], "errors": [...]}: each step's value, and what the page reported.
import { readFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [url, executablePath = "/usr/bin/firefox-esr"] = process.argv.slice(2);
const steps = JSON.parse(readFileSync(0, "utf8"));
const browser = await puppeteer.launch({
  browser: "firefox", protocol: "webDriverBiDi", executablePath, headless: true, protocolTimeout: 600_000,
});
try {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  const results = [];
  for (const step of steps) {
    const call = `(${step.function})(...${JSON.stringify(step.args ?? [])})`;
    results.push(await page.evaluate(`(async () => JSON.stringify(await ${call}) ?? "null")()`).then(JSON.parse));
  }
  console.log(JSON.stringify({ browser: await browser.version(), results, errors }));
} finally {
  await browser.close();
}
