// Half layers: the deci file that slim writes of a golden case loads in stock llama.cpp, which computes
// what slim's decoder does, and what it computes of the whole model when the projections of the missing
// halves are zero there. Architectures that do not fit are refused. Then deci models of other makers,
// whose layers differ in more ways: slim's decoder = llama.cpp.
//   node halves.mjs SLIM LOGITS [CASE…]     LOGITS: the built example `logits`
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare } from "./compare.mjs";
import { differing, withModel } from "./llama_cpp.mjs";
import { VOCABULARY, makeGguf, manifests } from "./make_gguf.mjs";
import { tensorNames, zero } from "./zero.mjs";

const [slim, logits, ...wanted] = process.argv.slice(2);
const home = new URL("../../fixtures/golden/", import.meta.url).pathname;
const { prompts } = JSON.parse(readFileSync(new URL("prompts.json", import.meta.url)));

// The cases of 4 layers that fit, and whether llama.cpp computes the same bits. The rows of Qwen2's
// heads stand in another order, so its sums have another.
const SAME_BITS = { llama: true, llama_bias: true, llama_linear: true, mistral: true, qwen2: false };
const DROPPED = ["1:attention,2:mlp", "0:mlp,2,3:attention", "1-2:attention,3:mlp"];

// What adds nothing where its output is zero.
const PROJECTIONS = { attention: ["attn_output"], mlp: ["ffn_down"], undefined: ["attn_output", "ffn_down"] };
const zeroedNames = (dropped) => dropped.split(",").flatMap((part) => {
    const [range, half] = part.split(":");
    const [first, last = first] = range.split("-").map(Number);
    const layers = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    return layers.flatMap((layer) => PROJECTIONS[half].flatMap((name) =>
        ["weight", "bias"].map((kind) => `blk.${layer}.${name}.${kind}`)));
});

const folder = mkdtempSync(join(tmpdir(), "slim-halves-"));
const [zeroed, halved] = ["zeroed.gguf", "halved.gguf"].map((name) => join(folder, name));
const prune = (dropped, type, from, to) =>
    spawnSync(slim, ["prune", "--drop-layers", dropped, "--outtype", type, from, to], { encoding: "utf8" });
const written = (...args) => {
    const { status, stderr } = prune(...args);
    if (status !== 0) throw new Error(stderr);
};

const distributions = (path) => withModel(path, async (read) => {
    const all = [];
    for (const prompt of prompts) all.push(...(await read(prompt, { last: 8 })).probabilities);
    return all;
});

// The largest difference of a probability.
const apart = (a, b) => Math.max(...a.map((position, i) =>
    Math.max(...[...position].map(([id, p]) => Math.abs(p - b[i].get(id))))));

async function check(name, dropped, type) {
    const source = join(home, name);
    written("none", type, source, zeroed);
    const whole = await distributions(zeroed);
    const there = await tensorNames(zeroed);
    await zero(zeroed, zeroedNames(dropped).filter((tensor) => there.includes(tensor)));
    written(dropped, type, source, halved);
    const [before, after] = [await distributions(zeroed), await distributions(halved)];
    if (differing(whole, before) === 0) throw new Error("zeroing changed nothing: the test tests nothing");
    const [wrong, distance] = [differing(before, after), apart(before, after)];
    // Activations are rounded to 8 bits where weights are: last bits become steps.
    const allowed = SAME_BITS[name] ? 0 : type === "f32" ? 1e-5 : 1e-2;
    if (!(distance <= allowed) || (SAME_BITS[name] && wrong > 0)) {
        throw new Error(`${wrong} of ${before.length} distributions differ from the zeroed model's, by ${distance}`);
    }
    const same = wrong === 0 ? "same bits as" : `within ${distance.toExponential(1)} of`;
    return `${name} without ${dropped}, ${type}: ${same} the zeroed model's ${before.length} distributions`;
}

async function decoder(model, options = {}) {
    const { worst, positions } = await compare(logits, model, { tolerance: 1e-3, relative: true, greedy: false, ...options });
    return `  decoder = llama.cpp, ${positions} positions within ${worst.toExponential(1)} relative`;
}

const cases = readdirSync(home).filter((name) => existsSync(join(home, name, "converted.json")));
try {
    for (const name of wanted.length > 0 ? wanted : cases) {
        if (!(name in SAME_BITS)) {
            const { status, stderr } = prune("1:mlp", "f32", join(home, name), halved);
            if (status !== 2) throw new Error(`slim wrote half a layer of ${name}`);
            console.log(`${name}: refused: ${stderr.trim()}`);
            continue;
        }
        for (const dropped of DROPPED) {
            console.log(await check(name, dropped, "q8_0"));
            console.log(await check(name, dropped, "f32"));
            console.log(await decoder(halved));
        }
    }
    if (wanted.length === 0) {
        const tokens = Array.from({ length: 24 }, (_, i) => (i * i * 7 + i * 31 + 5) % VOCABULARY);
        const asked = join(folder, "tokens.json");
        writeFileSync(asked, JSON.stringify({ new_tokens: 0, prompts: [tokens] }));
        for (const [name, manifest] of Object.entries(manifests()).filter(([name]) => name.startsWith("deci"))) {
            writeFileSync(zeroed, makeGguf(manifest));
            console.log(`${name}:\n${await decoder(zeroed, { asked })}`);
        }
    }
} finally {
    rmSync(folder, { recursive: true });
}
