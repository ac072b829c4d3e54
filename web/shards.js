// shards.js: models in several files, by llama.cpp's names: name-00001-of-00003.gguf and so on.
import { FileFormatError } from "./errors.js";

const NAME = /-(\d{5})-of-(\d{5})(?=\.gguf$)/;
const DIGITS = 5;

/** In how many files a model lies, as the address of the first tells; 1 for other names. @param {string} url */
export function shardCount(url) {
  const [, number, count] = NAME.exec(new URL(url).pathname) ?? [];
  return Number(number) === 1 ? Math.max(1, Number(count)) : 1;
}

/**
 * The addresses of all shards.
 * @param {string} url of the first @param {number} count as its metadata says
 * @throws {FileFormatError} the name tells something else
 */
export function shardURLs(url, count) {
  if (shardCount(url) !== count) {
    throw new FileFormatError("this file is one shard of a model, and its name doesn't tell where the others are", {
      subject: url, expected: `the address of NAME-00001-of-${String(count).padStart(DIGITS, "0")}.gguf`,
      actual: new URL(url).pathname.split("/").pop(), code: "RQ_E_SHARD",
      hint: "give the first shard under the name it was made with, or a list of all addresses in order",
    });
  }
  if (count === 1) return [url];
  const address = new URL(url);
  const path = address.pathname;
  return Array.from({ length: count }, (_, i) => {
    address.pathname = path.replace(NAME, `-${String(i + 1).padStart(DIGITS, "0")}-of-$2`);
    return address.href;
  });
}

/** Bytes of all files together, null where a server doesn't say. @param {string[]} urls @param {AbortSignal} signal */
export async function totalBytes(urls, signal) {
  const sizes = await Promise.all(urls.map(async (url) => {
    try {
      const { ok, headers } = await fetch(url, { method: "HEAD", signal });
      const plain = (headers.get("content-encoding") ?? "identity") === "identity";
      const length = headers.get("content-length");
      return ok && plain && /^\d+$/.test(length ?? "") ? Number(length) : NaN;
    } catch {
      return NaN; // the download itself will say what is wrong
    }
  }));
  const total = sizes.reduce((sum, bytes) => sum + bytes, 0);
  return Number.isNaN(total) ? null : total;
}
