// Two answers judged through OpenAI's client in JavaScript, whole and as a stream.
//
//   judgelm serve --model tiny &
//   npm install openai
//   node examples/integrations/openai_judge.cjs
const OpenAI = require("openai");

const url = process.env.JUDGELM_URL ?? "http://127.0.0.1:21003";
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.JUDGELM_API_KEY ?? "none" });
const model = process.env.JUDGELM_MODEL ?? "tiny";
const score = { type: "integer", minimum: 1, maximum: 10 };
const schema = {
  type: "object",
  properties: { score1: score, score2: score, winner: { enum: ["A", "B", "tie"] } },
  required: ["score1", "score2", "winner"],
  additionalProperties: false,
};
const asked = JSON.stringify({ question: "What is the capital of Norway?", answers: ["Oslo.", "It is Bergen."] });

async function main() {
  const body = {
    model,
    messages: [{ role: "user", content: asked }],
    response_format: { type: "json_schema", json_schema: { name: "verdict", schema, strict: true } },
    temperature: 0,
  };
  const chat = await client.chat.completions.create(body);
  console.log("chat", chat.choices[0].message.content);
  let text = "";
  for await (const part of await client.chat.completions.create({ ...body, stream: true })) {
    text += part.choices[0]?.delta?.content ?? "";
  }
  console.log("stream", text);
  const format = { type: "json_schema", name: "verdict", schema, strict: true };
  const response = await client.responses.create({ model, input: asked, text: { format }, temperature: 0 });
  console.log("response", response.output_text);
}

main();
