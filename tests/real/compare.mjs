// Holds slim's decoder against stock llama.cpp on one GGUF file: the same token ids, the same
// distribution of the next token at every position and, if asked for, the same greedy text.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { deepStrictEqual } from "node:assert";
import { withModel } from "./llama_cpp.mjs";

const PROMPTS = new URL("prompts.json", import.meta.url).pathname;

// LOGITS: the built example `logits`. `asked`: a file of prompts, texts or token ids. `relative` divides differences by the largest log-probability
// of the position: random models are sharper than any trained one. Positions from `upTo` on are not
// compared. Gives the largest difference of a log-probability, the number
// of positions and the texts that llama.cpp wrote.
export async function compare(logits, model, { tolerance, greedy, relative = false, upTo = Infinity, asked = PROMPTS }) {
    const { prompts, new_tokens } = JSON.parse(readFileSync(asked));
    const ours = JSON.parse(execFileSync(logits, [model, asked], { maxBuffer: 1 << 30 }));
    let [worst, positions] = [0, 0];
    const texts = [];
    await withModel(model, async (read) => {
        for (const [i, prompt] of prompts.entries()) {
            const theirs = await read(prompt, { newTokens: greedy ? new_tokens : 0 });
            deepStrictEqual(ours[i].tokens, theirs.tokens, `token ids of ${JSON.stringify(prompt)}`);
            for (const [position, probabilities] of theirs.probabilities.slice(0, upTo).entries()) {
                const logs = [...probabilities.values()].map(Math.log).filter(Number.isFinite);
                const unit = relative ? Math.max(...logs.map(Math.abs)) : 1;
                for (const [id, logprob] of ours[i].top[position]) {
                    const difference = Math.abs(logprob - Math.log(probabilities.get(id))) / unit;
                    // Not a number is a mismatch too.
                    if (!(difference <= tolerance)) {
                        throw new Error(`log-probability of token ${id} after position ${position} of `
                            + `${JSON.stringify(prompt)} differs by ${difference} (at most ${tolerance})`);
                    }
                    worst = Math.max(worst, difference);
                }
                positions += 1;
            }
            if (greedy) {
                deepStrictEqual(ours[i].greedy, theirs.greedy, `greedy text: ${ours[i].text} | ${theirs.text}`);
                texts.push({ prompt, text: theirs.text, tokens: theirs.greedy.length });
            }
        }
    });
    return { worst, positions, texts };
}
