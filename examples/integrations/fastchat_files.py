"""FastChat's judgements as a judged folder, and a judged folder as a file that FastChat's show_result reads.

python examples/integrations/fastchat_files.py model_judgment/gpt-4_pair.jsonl gpt-4
python -m fastchat.llm_judge.show_result --mode pairwise-all --input-file gpt-4/again.jsonl
"""

from __future__ import annotations

import argparse
from pathlib import Path

from judgelm.fastchat import export_judgements, import_judgements
from judgelm.ranking import rank


def main() -> None:
    """Read, rank, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", help="a file of model_judgment/")
    parser.add_argument("folder", help="gets the judgements as judgelm has them, and again.jsonl as FastChat has them")
    args = parser.parse_args()
    found = import_judgements(args.source, args.folder)
    print(f"{found.judge}: {found.counts}, left out {found.again + len(found.unread)} rows")
    for model in rank(args.folder).models:
        rate = model.win_rate
        print(f"{model.name} {rate.value:.3f} ({rate.low} to {rate.high})")
    print(export_judgements(args.folder, Path(args.folder) / "again.jsonl").path)


if __name__ == "__main__":
    main()
