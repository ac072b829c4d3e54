// The matrix functions of ruvq.js in Node, on numbers from a file of float32 (rows of 96).
// usage: node node_quant.mjs NUMBERS GGUF
import { readFileSync } from "node:fs";
import { PiQuantWasm, QuantBenchWasm, RuvqError, Tokenizer, compare, dequantize, init, matvec, quantize,
} from "../../web/ruvq.js";

const [numbers, model] = process.argv.slice(2);
const bytes = readFileSync(numbers);
const weights = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const width = 96;
const out = {};

function refused(work) {
  try {
    return { value: work() };
  } catch (error) {
    return { name: error.name, subject: error.subject, typed: error instanceof RuvqError };
  }
}

out.early = refused(() => quantize(weights, "pi-t3"));
await init({ wasm: readFileSync(new URL("../../web/ruvq.wasm", import.meta.url)) });
const x = weights.subarray(0, width);
out.formats = {};
for (const format of ["pi-t3", "pi-t2", "pi-q3", "pi-q2", "ternary", "q8_0", "f16"]) {
  const tensor = quantize(weights, format, { width });
  out.formats[format] = {
    data: Buffer.from(tensor.data).toString("hex"), bitsPerWeight: tensor.bitsPerWeight, shape: tensor.shape,
    weights: [...dequantize(tensor)], product: [...matvec(tensor, x)],
    comparison: compare(weights, dequantize(tensor), { width }),
  };
}
const pi = new PiQuantWasm(3, 5);
const again = PiQuantWasm.fromJson(pi.toJson());
out.pi = {
  bitsPerWeight: pi.bitsPerWeight, stepSize: pi.stepSize, json: pi.toJson(), again: [again.bits, again.k],
  data: Buffer.from(pi.quantize(weights, { width }).data).toString("hex"), mse: pi.computeMse(weights, { width }),
  spectral: pi.spectralDistortion(weights, { width }), two: new PiQuantWasm(2).bitsPerWeight,
};
out.refused = [
  refused(() => new PiQuantWasm(4, 4)), refused(() => new PiQuantWasm(3, 6)), refused(() => PiQuantWasm.fromJson("x")),
  refused(() => quantize(weights, "pi-t9")), refused(() => quantize(weights, "pi-t3", { width: 95 })),
  refused(() => quantize([1, NaN], "pi-t3")), refused(() => quantize("text", "pi-t3")),
  refused(() => matvec(quantize(weights, "pi-t3", { width }), x.subarray(1))),
  refused(() => dequantize({ format: "pi-t3", shape: [1, 96], data: new Uint8Array(3) })),
];
const bench = new QuantBenchWasm({ rows: 8, width: 256, milliseconds: 1 });
out.bench = bench.compareFormats(["pi-t2", "q8_0", "pi-t3"]);
out.all = bench.compareFormats().map((result) => result.format);
const tokenizer = await Tokenizer.fromGguf(readFileSync(model));
out.ids = tokenizer.encode("Once upon a time");
out.text = tokenizer.decode(out.ids);
tokenizer.dispose();
console.log(JSON.stringify(out));
