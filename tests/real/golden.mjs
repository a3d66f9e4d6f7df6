// Every architecture that slim converts and runs: the GGUF file that slim writes of a golden case
// loads in stock llama.cpp, which computes what slim's decoder does.
//   node golden.mjs SLIM LOGITS [CASE…]     LOGITS: the built example `logits`
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare } from "./compare.mjs";

const [slim, logits, ...wanted] = process.argv.slice(2);
const home = new URL("../../fixtures/golden/", import.meta.url).pathname;

// Not compared, and why. transformers is the witness for these (tests/decoder.rs).
const APART = {
    qwen2_sliding: "slim refuses it: GGUF has no word for its windows",
    phi4_longrope: "llama.cpp chooses the factors by the size of its context, not by the length of the text",
};
// The tanh of Gemma's GELU goes through a table of f16 in llama.cpp: with the same rounding in slim's
// decoder its differences were a tenth. Held against transformers it is within 1e-4.
const tolerance = (name) => name.startsWith("gemma") ? 5e-3 : 1e-3;

// llama.cpp switches Phi-3's sliding window off: texts longer than it are not the model's.
const upTo = (name) => name === "phi3" ? 64 : Infinity;

const folder = mkdtempSync(join(tmpdir(), "slim-golden-"));
const model = join(folder, "model.gguf");
const cases = readdirSync(home).filter((name) => existsSync(join(home, name, "converted.json")));
try {
    for (const name of wanted.length > 0 ? wanted : cases) {
        if (APART[name]) {
            console.log(`${name}: apart: ${APART[name]}`);
            continue;
        }
        const convert = ["prune", "--drop-layers", "none", "--outtype", "f32", join(home, name), model];
        execFileSync(slim, convert, { stdio: ["ignore", "ignore", "ignore"] });
        const { worst, positions } = await compare(logits, model, { tolerance: tolerance(name), relative: true, greedy: false, upTo: upTo(name) });
        console.log(`${name}: decoder = llama.cpp, ${positions} positions within ${worst.toExponential(1)} relative`);
    }
} finally {
    rmSync(folder, { recursive: true });
}
