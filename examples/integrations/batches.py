"""Have a judge that is served compare pairs in one batch, through OpenAI's own client.

judgelm serve --model tiny --batch-dir batches &
pip install openai
python examples/integrations/batches.py http://127.0.0.1:21003/v1 examples/pairs.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from openai import OpenAI

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("url", help="of the API, up to /v1")
parser.add_argument("pairs", help="a file as judgelm judge takes it")
args = parser.parse_args()
client = OpenAI(base_url=args.url, api_key=os.environ.get("JUDGELM_API_KEY", "none"))

requests = []
for line in Path(args.pairs).read_text(encoding="utf-8").splitlines():
    row = json.loads(line)
    sample = {
        "question_id": row["question_id"],
        "question": row["question_body"],
        "answers": [row["answer1_body"], row["answer2_body"]],
    }
    body = {"samples": [sample], "scores_only": True}
    requests.append({"custom_id": str(row["question_id"]), "method": "POST", "url": "/v1/judgements", "body": body})

content = "".join(json.dumps(request) + "\n" for request in requests).encode()
file = client.files.create(file=("pairs.jsonl", content), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/judgements", completion_window="24h")
# it goes on without this script: client.batches.retrieve(ID) finds it again
print(batch.id, file=sys.stderr)
while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)

print(batch.status, batch.request_counts)
for written in (batch.output_file_id, batch.error_file_id):
    for line in client.files.content(written).text.splitlines() if written else []:
        answer = json.loads(line)
        body = (answer["response"] or {}).get("body", {})
        outcome = body["data"][0]["outcome"] if "data" in body else body or answer["error"]
        print(answer["custom_id"], outcome)
