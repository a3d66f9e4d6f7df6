// Holds slim's decoder against stock llama.cpp on one GGUF file: the same token ids, the same
// distribution of the next token at every position, the same greedy text.
//   node decoder.mjs LOGITS MODEL.gguf     LOGITS: the built example `logits`
// MODEL's weights must be f32: with other types llama.cpp rounds the activations too.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { deepStrictEqual } from "node:assert";
import { withModel } from "./llama_cpp.mjs";

const TOLERANCE = 1e-3; // llama.cpp is within 3e-4 of transformers
const [logits, model] = process.argv.slice(2);
const file = new URL("prompts.json", import.meta.url).pathname;
const { prompts, new_tokens } = JSON.parse(readFileSync(file));

const ours = JSON.parse(execFileSync(logits, [model, file], { maxBuffer: 1 << 30 }));
let [worst, positions] = [0, 0];
const written = [];
await withModel(model, async (read) => {
    for (const [i, prompt] of prompts.entries()) {
        const theirs = await read(prompt, { newTokens: new_tokens });
        deepStrictEqual(ours[i].tokens, theirs.tokens, `token ids of ${JSON.stringify(prompt)}`);
        for (const [position, probabilities] of theirs.probabilities.entries()) {
            for (const [id, logprob] of ours[i].top[position]) {
                const difference = Math.abs(logprob - Math.log(probabilities.get(id)));
                // Not a number is a mismatch too.
                if (!(difference <= TOLERANCE)) {
                    throw new Error(`log-probability of token ${id} after position ${position} of `
                        + `${JSON.stringify(prompt)} differs by ${difference} (at most ${TOLERANCE})`);
                }
                worst = Math.max(worst, difference);
            }
            positions += 1;
        }
        deepStrictEqual(ours[i].greedy, theirs.greedy, `greedy text: ${ours[i].text} | ${theirs.text}`);
        written.push(theirs.greedy.length);
        console.log(`  ${JSON.stringify(prompt.slice(0, 30))}… → ${JSON.stringify(theirs.text)}`);
    }
});
if (written.filter((tokens) => tokens >= 24).length < 3) throw new Error(`too little text: ${written} tokens`);
console.log(`decoder = llama.cpp on ${basename(model)}: ${prompts.length} prompts, ${positions} positions, `
    + `top 50 log-probabilities within ${worst.toExponential(1)}; greedy texts of ${written} tokens equal`);
