// given-files.js: a model's files as a person gives them: chosen or dropped, one by one or as a folder.
import { UsageError } from "../errors.js";

const MOST_FILES = 1000; // of a folder: a model's has a few dozen

/** @typedef {{folder: string, files: File[]}} Given `folder`: its name, "model" where there was none */

/** @param {Iterable<File>} list of an input: files, or those of a folder and all below it @returns {Given} */
export function chosenFiles(list) {
  const all = [...list];
  const [folder] = (all[0]?.webkitRelativePath || "model/").split("/");
  const direct = ({ webkitRelativePath: path }) => path.split("/").length <= 2; // "folder/file", or ""
  return { folder, files: visible(all.filter(direct)) };
}

/**
 * @param {DataTransfer} transfer of a drop: read before the event ends, so don't await anything before
 * @returns {Promise<Given>} @throws {UsageError} several folders, or one with too many files
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const folders = entries.filter(({ isDirectory }) => isDirectory);
  const { files } = transfer;
  if (folders.length === 0) return chosenFiles(files);
  if (entries.length > 1) {
    throw new UsageError("more than one folder was dropped", {
      expected: "one folder, or files", actual: `${entries.length} things`,
    });
  }
  return { folder: folders[0].name, files: visible(await filesIn(folders[0])) };
}

/** The files of a folder, not of those below it. */
async function filesIn(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (some.length === 0) break; // they come a hundred at a time
    entries.push(...some);
    if (entries.length > MOST_FILES) {
      throw new UsageError("this folder holds too much to be a model", {
        subject: folder.name, expected: `at most ${MOST_FILES} files`, actual: "more",
      });
    }
  }
  const files = entries.filter(({ isFile }) => isFile);
  return Promise.all(files.map((entry) => new Promise((resolve, reject) => { entry.file(resolve, reject); })));
}

const visible = (files) => files.filter(({ name }) => !name.startsWith("."));
