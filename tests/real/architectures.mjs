// Every architecture that llama.cpp can run loses layers that add nothing, and llama.cpp must
// compute the same bits from the rest: slim knows what each architecture tells from a layer's
// index and from the number of layers. Layers that may not go must be refused.
//   node architectures.mjs SLIM [NAME…]
// The models are tiny and random, made from fixtures/gguf/manifests.json.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { differing, withModel } from "./llama_cpp.mjs";
import { VOCABULARY, layersIn, makeGguf, manifests } from "./make_gguf.mjs";

const [slim, ...wanted] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "slim-architectures-"));
const at = (name) => join(folder, name);
const tokens = Array.from({ length: 24 }, (_, i) => (i * i * 7 + i * 31 + 5) % VOCABULARY);

// What a layer adds to the residual stream goes through one of these. Norms after them keep zeros.
const OUTPUTS = /^(attn_output|attn_output_b|attn_out|ffn_down|ffn_down_(exps|shexp|chexps)|ssm_out|shortconv\.out_proj|time_mix_output|channel_mix_value|vis_attn_output|vis_down|ffn_latent_up|ffn_routed_up)\.(weight|bias|lora_b)$/;

// `set` gives other tensors of these layers the value with which the layer passes its input on.
const passing = (layers, set = {}) => (name, array) => {
    const [, layer, tensor] = name.match(/^blk\.(\d+)\.(.*)$/) ?? [];
    if (!layers.includes(Number(layer))) return;
    if (OUTPUTS.test(tensor)) array.fill(0);
    const [, values] = Object.entries(set).find(([start]) => tensor.startsWith(start)) ?? [];
    values?.forEach((value, i) => { for (let j = i; j < array.length; j += values.length) array[j] = value; });
};

const distributions = (path) => withModel(path, async (read) => (await read(tokens)).probabilities);
const prune = (layers, from, to) => spawnSync(slim, ["prune", "--drop-layers", layers, from, to], { encoding: "utf8" });

async function check(name, { drop, refused = [], set, ...manifest }) {
    const [whole, zeroed, pruned] = ["whole", "zeroed", "pruned"].map((part) => at(`${part}.gguf`));
    writeFileSync(whole, makeGguf(manifest));
    for (const layers of refused) {
        if (prune(layers, whole, pruned).status === 0) throw new Error(`slim dropped layers ${layers}`);
    }
    if (!drop) return `refuses to drop ${refused.join(" or ")}`;
    writeFileSync(zeroed, makeGguf(manifest, passing(layersIn(drop), set)));
    const { status, stderr } = prune(drop, zeroed, pruned);
    if (status !== 0) throw new Error(`slim did not drop layers ${drop}: ${stderr}`);
    const [before, after] = [await distributions(zeroed), await distributions(pruned)];
    if (differing(await distributions(whole), before) === 0) throw new Error("zeroing changed nothing: the test tests nothing");
    const wrong = differing(before, after);
    if (wrong > 0) throw new Error(`removing no-op layers ${drop} changed ${wrong} of ${before.length} distributions`);
    return `same bits without layers ${drop}` + refused.map((layers) => `, refuses ${layers}`).join("");
}

const failed = [];
const known = manifests();
const names = wanted.length > 0 ? wanted : Object.keys(known);
try {
    for (const name of names) {
        try {
            console.log(`${name}: ${await check(name, known[name])}`);
        } catch (error) {
            console.log(`${name}: FAILED: ${error.message}`);
            failed.push(name);
        }
    }
} finally {
    rmSync(folder, { recursive: true });
}
if (failed.length > 0) throw new Error(`${failed.length} of ${names.length} failed: ${failed.join(", ")}`);
console.log(`${names.length} models pass`);
