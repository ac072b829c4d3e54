// What the binding in Node makes of every file of the corpus.
// usage: node attacks/node.mjs FOLDER, which `python -m attacks.corpus FOLDER` has filled
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Engine } from "../web/engine.js";
import { examineAll } from "./examine.js";

const folder = process.argv[2];
const engine = await Engine.load(readFileSync(new URL("../web/ruvq.wasm", import.meta.url)));
const all = JSON.parse(readFileSync(join(folder, "index.json"), "utf8"));
const index = all.filter(({ hosts }) => hosts.includes("Node"));
console.log(JSON.stringify(await examineAll(engine, index, (file) => readFileSync(join(folder, file)))));
