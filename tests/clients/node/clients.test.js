// openai, ollama and Vercel's ai, from node: chat, responses, stream helpers, tools, structured output, embeddings, errors.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { BadRequestError, NotFoundError, toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, Output, streamText, tool } from "ai";
import { Ollama } from "ollama";
import { Agent, setGlobalDispatcher } from "undici";
import { z } from "zod";

const timeout = Number(process.env.LLMOS_CLIENTS_TIMEOUT_MS); // no test counts on speed, and node's fetch has limits of its own
setGlobalDispatcher(new Agent({ headersTimeout: timeout, bodyTimeout: timeout }));
const v1 = `${process.env.LLMOS_CLIENTS_URL}/v1`;
const client = new OpenAI({ baseURL: v1, apiKey: "none", maxRetries: 0, timeout });
const provider = createOpenAICompatible({ name: "llmos", baseURL: v1, includeUsage: true, supportsStructuredOutputs: true });
const messages = [{ role: "user", content: "What is the weather in Oslo?" }];
const city = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"] };
const weather = { type: "function", function: { name: "weather", description: "The weather now", parameters: city } };
const Pet = z.object({ name: z.string().max(20), age: z.number().int() });
const tom = "A cat called Tom, 3 years old.";
const calm = { model: "smollm2", temperature: 0, max_tokens: 80 };

test("openai: the stream helper ends with the same answer as a plain call", async () => {
  const plain = await client.chat.completions.create({ ...calm, messages });
  const stream = client.chat.completions.stream({ ...calm, messages });
  let text = "";
  stream.on("content", (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(text, plain.choices[0].message.content);
  assert.equal(final.choices[0].message.content, text);
  assert.equal(final.choices[0].finish_reason, plain.choices[0].finish_reason);
});

test("openai: a streamed tool call comes whole", async () => {
  const stream = client.chat.completions.stream({ ...calm, messages, tools: [weather], tool_choice: "required" });
  const done = [];
  stream.on("tool_calls.function.arguments.done", (event) => done.push(event.name));
  const final = await stream.finalChatCompletion();
  assert.deepEqual(done, ["weather"]);
  assert.equal(final.choices[0].finish_reason, "tool_calls");
  assert.ok("city" in JSON.parse(final.choices[0].message.tool_calls[0].function.arguments));
});

test("openai: a tool is run and its result goes back", async () => {
  const asked = [];
  const runner = client.chat.completions.runTools(
    {
      ...calm,
      messages,
      tool_choice: { type: "function", function: { name: "weather" } },
      tools: [{ type: "function", function: { ...weather.function, parse: JSON.parse, function: ({ city }) => (asked.push(city), "fine") } }],
    },
    { maxChatCompletions: 2 },
  );
  await runner.done().catch(() => {});
  assert.ok(asked.length >= 1);
});

test("openai: parse gives the class asked for", async () => {
  const made = await client.chat.completions.parse({
    ...calm,
    messages: [{ role: "user", content: tom }],
    response_format: zodResponseFormat(Pet, "pet"),
  });
  Pet.parse(made.choices[0].message.parsed);
});

test("openai: embeddings come in both encodings", async () => {
  const input = ["a parcel", "an invoice"];
  const packed = await client.embeddings.create({ model: "minilm", input });
  const plain = await client.embeddings.create({ model: "minilm", input, encoding_format: "float" });
  packed.data.forEach((one, i) => {
    assert.equal(one.embedding.length, 384);
    assert.ok(one.embedding.every((x, j) => Math.abs(x - plain.data[i].embedding[j]) < 1e-6));
  });
});

test("openai: errors are of its own classes", async () => {
  await assert.rejects(client.chat.completions.create({ ...calm, model: "org/nothing", messages }), NotFoundError);
  const long = [{ role: "user", content: "word ".repeat(12_000) }];
  await assert.rejects(client.chat.completions.create({ ...calm, messages: long }), (error) => {
    assert.ok(error instanceof BadRequestError);
    assert.equal(error.code, "context_length_exceeded");
    return true;
  });
});

const chat = (more) => ({ model: provider("smollm2"), temperature: 0, maxOutputTokens: 80, maxRetries: 0, ...more });

test("ai: a chat answers and streams the same", async () => {
  const plain = await generateText(chat({ prompt: "Say hello." }));
  const stream = streamText(chat({ prompt: "Say hello." }));
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.ok(text);
  assert.equal(text, plain.text);
  assert.equal(await stream.finishReason, plain.finishReason);
  assert.equal((await stream.usage).outputTokens, plain.usage.outputTokens);
});

test("ai: a tool is called and its result goes back", async () => {
  const asked = [];
  const execute = async ({ city }) => (asked.push(city), "fine");
  const tools = { weather: tool({ description: "The weather now", inputSchema: z.object({ city: z.string().max(20) }), execute }) };
  for (const stream of [false, true]) {
    const said = chat({ prompt: messages[0].content, tools, toolChoice: "required" });
    const made = stream ? streamText(said) : await generateText(said);
    assert.deepEqual((await made.toolCalls).map((one) => one.toolName), ["weather"]);
    assert.equal(await made.finishReason, "tool-calls");
  }
  assert.equal(asked.length, 2);
});

test("ai: structured output fits the schema", async () => {
  const made = await generateText(chat({ prompt: tom, output: Output.object({ schema: Pet }) }));
  Pet.parse(made.output);
});

test("ai: embeddings come", async () => {
  const made = await embedMany({ model: provider.embeddingModel("minilm"), values: ["a parcel", "an invoice"] });
  assert.deepEqual(made.embeddings.map((one) => one.length), [384, 384]);
});

test("ai: an unknown model is an error that says so", async () => {
  await assert.rejects(generateText(chat({ model: provider("nothing"), prompt: "hi" })), (error) => {
    assert.equal(error.statusCode, 404);
    return true;
  });
});

const ollama = new Ollama({ host: process.env.LLMOS_CLIENTS_URL });
const hello = [{ role: "user", content: "Say hello." }];
const options = { temperature: 0, num_predict: 30 };
test("ollama: chat and stream", async () => {
  const plain = await ollama.chat({ model: "smollm2", messages: hello, options });
  let text = "";
  for await (const part of await ollama.chat({ model: "smollm2", messages: hello, options, stream: true })) text += part.message.content;
  assert.equal(text, plain.message.content);
});
test("ollama: embed, list, show", async () => {
  assert.equal((await ollama.embed({ model: "minilm", input: ["a"] })).embeddings[0].length, 384);
  assert.ok((await ollama.list()).models.length >= 2);
  assert.ok((await ollama.show({ model: "smollm2" })).capabilities.includes("completion"));
  await assert.rejects(ollama.chat({ model: "nothing", messages: hello }));
});
const byDefault = createOpenAI({ baseURL: v1, apiKey: "none" });
test("ai with its openai provider: text and stream", async () => {
  const said = { model: byDefault("smollm2"), prompt: "Say hello.", temperature: 0, maxOutputTokens: 40, maxRetries: 0 };
  const plain = await generateText(said);
  let text = "";
  for await (const piece of streamText(said).textStream) text += piece;
  assert.ok(text);
  assert.equal(text, plain.text);
});
test("ai with its openai provider: tool", async () => {
  const tools = { weather: tool({ description: "The weather now", inputSchema: z.object({ city: z.string().max(20) }), execute: async () => "fine" }) };
  const made = await generateText({ model: byDefault("smollm2"), prompt: "What is the weather in Oslo?", tools, toolChoice: "required", temperature: 0, maxOutputTokens: 80, maxRetries: 0 });
  assert.deepEqual(made.toolCalls.map((one) => one.toolName), ["weather"]);
});
test("openai: a response answers and streams the same", async () => {
  const said = { model: "smollm2", input: "Say hello.", max_output_tokens: 40, temperature: 0 };
  const plain = await client.responses.create(said);
  let text = "";
  for await (const one of client.responses.stream(said)) if (one.type === "response.output_text.delta") text += one.delta;
  assert.equal(text, plain.output_text);
});
const boxes = Array.from({ length: 20 }, (_, i) => ({
  messages: [
    { role: "user", content: `What is the colour of box ${i}?` },
    { role: "assistant", content: `Box ${i} is ${["red", "blue"][i % 2]}.` },
  ],
}));
const jsonl = (rows) => Buffer.from(rows.map((one) => `${JSON.stringify(one)}\n`).join(""));
const ended = async (read, states) => {
  for (;;) {
    const one = await read();
    if (states.includes(one.status)) return one;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
};
test("openai: a script goes from rows to a model that answers", { timeout }, async () => {
  const sent = await client.files.create({ file: await toFile(jsonl(boxes), "boxes.jsonl"), purpose: "fine-tune" });
  assert.equal((await client.files.content(sent.id).then((one) => one.text())).split("\n").length, 21);
  const method = { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 4 } } };
  const job = await client.fineTuning.jobs.create({ model: "smollm2", training_file: sent.id, suffix: "node", seed: 1, method });
  const done = await ended(() => client.fineTuning.jobs.retrieve(job.id), ["succeeded", "failed", "cancelled"]);
  assert.equal(done.status, "succeeded", JSON.stringify(done.error));
  const events = [];
  for await (const one of client.fineTuning.jobs.listEvents(job.id)) events.push(one.type);
  assert.ok(events.includes("metrics"));
  const made = await client.chat.completions.create({ ...calm, model: done.fine_tuned_model, messages: boxes[3].messages.slice(0, 1), max_tokens: 12 });
  assert.equal(made.model, done.fine_tuned_model);
  assert.ok(made.choices[0].message.content);
  assert.equal((await client.files.delete(sent.id)).deleted, true);
});
test("openai: a batch answers every line", { timeout }, async () => {
  const rows = Array.from({ length: 5 }, (_, i) => ({ custom_id: `t${i}`, method: "POST", url: "/v1/embeddings", body: { model: "minilm", input: `text ${i}` } }));
  const sent = await client.files.create({ file: await toFile(jsonl(rows), "in.jsonl"), purpose: "batch" });
  const batch = await client.batches.create({ input_file_id: sent.id, endpoint: "/v1/embeddings", completion_window: "24h" });
  const done = await ended(() => client.batches.retrieve(batch.id), ["completed", "failed", "expired"]);
  const lines = (await client.files.content(done.output_file_id).then((one) => one.text())).trim().split("\n").map(JSON.parse);
  assert.deepEqual(lines.map((one) => one.custom_id), rows.map((one) => one.custom_id));
});
