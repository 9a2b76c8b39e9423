// aws-sdk-js v3 as a server of itself: one JSON request a line in, one answer a line out.
import { createRequire } from "node:module";
import https from "node:https";
import readline from "node:readline";
import tls from "node:tls";
import { readFileSync, createReadStream } from "node:fs";

const given = JSON.parse(process.env.CLIENT);
const require = createRequire(given.modules);
const s3 = require("@aws-sdk/client-s3");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");
const { createPresignedPost } = require("@aws-sdk/s3-presigned-post");
const { NodeHttpHandler } = require("@smithy/node-http-handler");

// Every name leads to one port, as a studio's DNS would have it.
const ca = readFileSync(given.ca);
const agent = new https.Agent({ keepAlive: true });
agent.createConnection = (options) =>
  tls.connect({ host: "127.0.0.1", port: given.port, servername: options.host, ca, ALPNProtocols: ["http/1.1"] });

const client = (more = {}) =>
  new s3.S3Client({
    endpoint: given.endpoint,
    region: given.region,
    forcePathStyle: given.path,
    credentials: { accessKeyId: given.id, secretAccessKey: given.secret },
    requestHandler: new NodeHttpHandler({ httpsAgent: agent }),
    maxAttempts: 1,
    ...more,
  });
const usual = client();
const plain = client({ requestChecksumCalculation: "WHEN_REQUIRED", responseChecksumValidation: "WHEN_REQUIRED" });

const special = {
  put: ({ Key, Body }) => usual.send(new s3.PutObjectCommand({ Bucket: given.bucket, Key, Body: Buffer.from(Body) })),
  putPlain: ({ Key, Body }) =>
    plain.send(new s3.PutObjectCommand({ Bucket: given.bucket, Key, Body: Buffer.from(Body) })),
  putStream: ({ Key, file, ContentLength, ChecksumAlgorithm }) =>
    usual.send(
      new s3.PutObjectCommand({
        Bucket: given.bucket, Key, Body: createReadStream(file), ContentLength, ChecksumAlgorithm,
      }),
    ),
  part: ({ file, ...rest }) =>
    usual.send(new s3.UploadPartCommand({ Bucket: given.bucket, ...rest, Body: readFileSync(file) })),
  get: async (rest) => {
    const got = await usual.send(new s3.GetObjectCommand({ Bucket: given.bucket, ...rest }));
    const body = await got.Body.transformToByteArray();
    return { body: Buffer.from(body).toString("base64"), range: got.ContentRange };
  },
  presign: ({ command, ...rest }) =>
    getSignedUrl(plain, new s3[command]({ Bucket: given.bucket, ...rest }), { expiresIn: 300 }),
  post: (rest) => createPresignedPost(plain, { Bucket: given.bucket, ...rest }),
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { call, ...rest } = JSON.parse(line);
  let answer;
  try {
    const value = special[call]
      ? await special[call](rest)
      : await usual.send(new s3[`${call}Command`]({ Bucket: given.bucket, ...rest }));
    answer = { value };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}`, status: error.$metadata?.httpStatusCode };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
