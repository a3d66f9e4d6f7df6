// Layers whose output projections are zero add nothing. Removing them must change nothing: not a
// pattern of attention, not a scale that depends on the depth, not a bit of llama.cpp's output.
//   node no_op_layer.mjs SLIM MODEL.gguf LAYERS    LAYERS: 12 or 4,5,6,7
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { differing, withModel } from "./llama_cpp.mjs";
import { zero } from "./zero.mjs";

const [slim, model, layers] = process.argv.slice(2);
const { prompts } = JSON.parse(readFileSync(new URL("prompts.json", import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), "slim-no-op-"));
const [zeroed, pruned] = ["zeroed.gguf", "pruned.gguf"].map((name) => join(folder, name));

const distributions = (path) => withModel(path, async (read) => {
    const all = [];
    for (const prompt of prompts) all.push(...(await read(prompt, { last: 4 })).probabilities);
    return all;
});

try {
    copyFileSync(model, zeroed);
    const projections = ["attn_output", "ffn_down"];
    await zero(zeroed, layers.split(",").flatMap((n) => projections.map((p) => `blk.${n}.${p}.weight`)));
    execFileSync(slim, ["prune", "--drop-layers", layers, zeroed, pruned], { stdio: "inherit" });
    const [whole, before, after] = [await distributions(model), await distributions(zeroed), await distributions(pruned)];
    if (differing(whole, before) === 0) throw new Error("zeroing changed nothing: the test tests nothing");
    const wrong = differing(before, after);
    if (wrong > 0) throw new Error(`removing no-op layers ${layers} changed ${wrong} of ${before.length} distributions`);
    console.log(`no-op layers ${layers} of ${basename(dirname(model))}/${basename(model)}: removing them leaves `
        + `all ${before.length} distributions bit-identical`);
} finally {
    rmSync(folder, { recursive: true });
}
