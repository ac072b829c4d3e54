// Bundles a project as its users would. usage: node bundle.mjs vite|webpack FOLDER, which has index.html, main.js and
// node_modules/ruvq; the result is in FOLDER/dist.
import { copyFileSync } from "node:fs";
import { join } from "node:path";

const [bundler, folder] = process.argv.slice(2);

async function withVite() {
  const { build } = await import("vite");
  await build({ root: folder, configFile: false, logLevel: "warn", worker: { format: "es" } });
}

async function withWebpack() {
  const { default: webpack } = await import("webpack");
  const config = {
    mode: "production", context: folder, entry: "./main.js", target: "web",
    output: { path: join(folder, "dist"), filename: "main.js" }, performance: { hints: false },
  };
  const stats = await new Promise((resolve, reject) => {
    webpack(config, (error, done) => (error ? reject(error) : resolve(done)));
  });
  if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString({ colors: false }));
  copyFileSync(join(folder, "index.html"), join(folder, "dist", "index.html"));
}

await { vite: withVite, webpack: withWebpack }[bundler]();
