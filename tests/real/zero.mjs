// Sets tensors of a GGUF file to zero, in place.
import { closeSync, openSync, writeSync } from "node:fs";
import { readGgufFileInfo } from "./llama_cpp.mjs";

// Zero bytes are zeros in every type that llama.cpp has: a block's scale and minimum are zero too.
export async function zero(path, names) {
    const { fullTensorInfo } = await readGgufFileInfo(path);
    const starts = fullTensorInfo.map((tensor) => Number(tensor.fileOffset)).sort((a, b) => a - b);
    const file = openSync(path, "r+");
    for (const name of names) {
        const tensor = fullTensorInfo.find((tensor) => tensor.name === name);
        if (!tensor) throw new Error(`${path} has no ${name}`);
        const start = Number(tensor.fileOffset);
        const end = starts.find((other) => other > start);
        if (end === undefined) throw new Error(`${name} is the last tensor: where it ends is unknown`);
        writeSync(file, Buffer.alloc(end - start), 0, end - start, start);
    }
    closeSync(file);
}

// The names of all tensors.
export const tensorNames = async (path) =>
    (await readGgufFileInfo(path)).fullTensorInfo.map((tensor) => tensor.name);
