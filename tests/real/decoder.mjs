// slim's decoder = llama.cpp on one GGUF file, greedy texts too.
//   node decoder.mjs LOGITS MODEL.gguf     LOGITS: the built example `logits`
// MODEL's weights must be f32: with other types llama.cpp rounds the activations too.
import { basename } from "node:path";
import { compare } from "./compare.mjs";

const [logits, model] = process.argv.slice(2);
// llama.cpp is within 3e-4 of transformers.
const { worst, positions, texts } = await compare(logits, model, { tolerance: 1e-3, greedy: true });
for (const { prompt, text } of texts) console.log(`  ${JSON.stringify(prompt.slice(0, 30))}… → ${JSON.stringify(text)}`);
const written = texts.map(({ tokens }) => tokens);
if (written.filter((tokens) => tokens >= 24).length < 3) throw new Error(`too little text: ${written} tokens`);
console.log(`decoder = llama.cpp on ${basename(model)}: ${texts.length} prompts, ${positions} positions, `
    + `top 50 log-probabilities within ${worst.toExponential(1)}; greedy texts of ${written} tokens equal`);
