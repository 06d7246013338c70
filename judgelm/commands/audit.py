"""What `judgelm audit` does: flags and files -> rounds of judging in subfolders -> audit.json and a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.errors import InputError
from judgelm.files import write_text
from judgelm.flags import add_file_arguments, add_judging_arguments, add_model_arguments
from judgelm.jsonl import Line, Record, dump_json, index_by_id, read_lines
from judgelm.judgement import Judgement, Outcome
from judgelm.report.terminal import checks_table, findings_table
from judgelm.sample import Sample
from judgelm.samples import read_samples

if TYPE_CHECKING:
    from judgelm.audit.audit import Asked, Round
    from judgelm.audit.effects import Source
    from judgelm.evaluation.results import JudgedSample, Truth
    from judgelm.judge.choice import JudgeChoice

HELP = "measure a judge's biases"
DESCRIPTION = (
    "Measure what moves a judge that should not: position, length, format, references, self-"
    "preference, injected instructions, chance. Each check has an effect, its 95 % interval over "
    "questions and a verdict against a threshold. Writes audit.json; after any interruption the same "
    "command goes on where it stopped."
)


AUDIT_FILE = "audit.json"


class _List(argparse.Action):
    """Prints the checks and ends, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(checks_table())
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm audit`."""
    parser.add_argument("--list", action=_List, nargs=0, help="print the checks and what they change, and end")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="+", metavar="NAME", help="run these checks alone (default: all)")
    chosen.add_argument("--skip", nargs="+", metavar="NAME", help="leave these checks out")
    add_model_arguments(parser)
    add_file_arguments(parser, "right answers, for the checks of references (default: reference in the rows)")
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="a truth: teacher judgements (question_id, text) or labels (question_id, label) (default: text or label"
        " in the rows)",
    )
    parser.add_argument(
        "--self-id",
        metavar="TEXT",
        help="answers whose answer1_model_id or answer2_model_id holds this text are the judge's own (default:"
        " --model-id, or the model's name)",
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help=f"gets {AUDIT_FILE}, and a folder for each round of judging"
    )
    add_judging_arguments(
        parser, None, " (default: expected, the cheapest and the finest; with --engine openai greedy)"
    )


def run(args: argparse.Namespace) -> None:
    """`judgelm audit`."""
    from judgelm.audit.audit import choose_checks
    from judgelm.commands.choose import choose_judge
    from judgelm.judge.choice import prepare

    names = choose_checks(args.only, args.skip)
    args.scoring = args.scoring or ("greedy" if args.engine == "openai" else "expected")
    if args.scoring == "expected" and args.engine == "openai":
        raise InputError("--scoring expected needs --engine hf or vllm")
    run_audit(args, prepare(choose_judge(args)), names)


def run_audit(args: argparse.Namespace, chosen: JudgeChoice, names: Sequence[str]) -> None:
    """Audit a judge, write what was found and print it."""
    from judgelm.audit.audit import audit

    samples = list(read_samples(args.question_file, reference_file=args.reference_file)[: args.limit])
    name = args.model_id or chosen.model_id
    args.self_id = args.self_id or name
    sources = read_sources(samples, args.question_file, args.teacher, args.self_id)
    folder = Path(args.output_dir).expanduser()
    findings = audit(sources, _asked(args, chosen, name, folder), names)
    document = {
        "judge": name,
        "settings": _settings(args, chosen, len(samples)),
        "checks": [finding.to_record() for finding in findings],
    }
    write_text(folder / AUDIT_FILE, dump_json(document, indent=2) + "\n")
    print(findings_table(findings))
    print(f"written to {folder / AUDIT_FILE}")
    if chosen.note:
        print(f"note: {chosen.note}")


def read_sources(samples: Sequence[Sample], question_file: str, teacher: str | None, self_id: str) -> list[Source]:
    """The rows with what is known of each: truth, reference, the place of the judge's own answer.

    Raises InputError for a label, a judgement or a reference of the wrong kind, or a row that the teacher lacks.
    """
    from judgelm.audit.effects import Source
    from judgelm.evaluation.results import find_line, read_truth

    lines = index_by_id(read_lines(question_file))
    teacher_lines = index_by_id(read_lines(teacher)) if teacher is not None else None
    sources = []
    for sample in samples:
        line = lines[sample.key]
        given = line
        if teacher_lines is not None:
            given = find_line(teacher_lines, sample.key, teacher, line, "teacher judgement")
        truth = read_truth(given, needed=teacher is not None)
        if sample.reference is None and (reference := _reference(line)) is not None:
            sample = sample.with_reference(reference)
        sources.append(Source(sample, truth, _truth_with_reference(given) or truth, _own_place(sample, self_id)))
    return sources


def _reference(line: Line) -> str | None:
    """A training row's own."""
    found = line.record.get("reference")
    if found is None:
        return None
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise InputError(f'{line.where}: expected reference {{"text": ".."}}, found {found!r}')
    return text


def _truth_with_reference(line: Line) -> Truth | None:
    """What the teacher said when it saw the reference, in training rows."""
    from judgelm.evaluation.results import Truth

    text = line.record.get("text_w_reference")
    scores: Any = Judgement.parse(text).scores if isinstance(text, str) else None
    return None if scores is None else Truth(Outcome.from_scores(*scores), scores)


def _own_place(sample: Sample, self_id: str) -> int | None:
    from judgelm.evaluation.results import model_name

    names = {place: model_name(sample.record.get(f"answer{place}_model_id")) or "" for place in (1, 2)}
    held = [place for place, name in names.items() if self_id.casefold() in name.casefold()]
    return held[0] if len(held) == 1 else None


def _asked(args: argparse.Namespace, chosen: JudgeChoice, name: str, folder: Path) -> Asked:
    """The judging function of an audit: each round is a run in a folder of its own, the model is loaded once."""
    from judgelm.audit import perturbations
    from judgelm.evaluation.results import read_folder
    from judgelm.files import hash_file
    from judgelm.judge.run import RunFiles, run_judge
    from judgelm.judge.settings import JudgeSettings

    described = {
        **chosen.described,
        **{f"{which}_sha256": hash_file(path) if path else None for which, path in _files(args).items()},
        "perturbations_sha256": hash_file(perturbations.__file__),
    }

    def ask(samples: Sequence[Sample], in_round: Round) -> Mapping[str, JudgedSample]:
        settings = JudgeSettings(
            scores_only=True,
            temperature=args.temperature if in_round.temperature is None else in_round.temperature,
            max_new_tokens=args.max_new_token,
            seed=args.seed + in_round.seed,
            constrained=chosen.constrained,
            scoring=args.scoring if in_round.temperature is None else "sample",
        )
        files = RunFiles.in_folder(folder / in_round.name, in_round.orders)
        found = run_judge(chosen.load, samples, settings, files, described, name)
        if cut := sum(each.counts["shortened"] for each in found.values()):
            print(
                f"judgelm: warning: {in_round.name}: in {cut} judgements the answers did not fit and lost their ends,"
                " and with them what a check may have added there",
                file=sys.stderr,
            )
        keys = {sample.key for sample in samples}
        return {judged.key: judged for judged in read_folder(folder / in_round.name, only=keys)}

    return ask


def _files(args: argparse.Namespace) -> dict[str, str | None]:
    """Those that judgements depend on."""
    return {"question_file": args.question_file, "reference_file": args.reference_file}


def _settings(args: argparse.Namespace, chosen: JudgeChoice, num_samples: int) -> Record:
    from judgelm.files import hash_file
    from judgelm.judge.run import versions

    return {
        **chosen.described,
        **_files(args),
        "question_file_sha256": hash_file(args.question_file),
        "teacher": args.teacher,
        "self_id": args.self_id,
        "samples": num_samples,
        "scoring": args.scoring,
        "temperature": args.temperature,
        "seed": args.seed,
        "constrained": chosen.constrained,
        "versions": versions(),
    }
