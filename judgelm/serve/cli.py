"""A chat with a judge in the terminal: a question and its answers, the judgement as it is written, then questions.

python -m judgelm.serve.cli --model-path tiny
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from judgelm.console import Parser, run_main
from judgelm.criteria import Aspect, read_criteria
from judgelm.dialogue import LeftOut
from judgelm.encoding import PromptTooLong
from judgelm.engine.interface import Generation, Request, Sampling
from judgelm.errors import InputError
from judgelm.flags import add_criteria_argument, add_loading_arguments, loading
from judgelm.jsonl import id_key
from judgelm.judge.expected import read_likelihoods
from judgelm.judge.judge import Judge
from judgelm.judge.judged import Judged, Likelihood
from judgelm.judge.requests import make_request
from judgelm.judge.settings import SCORINGS, JudgeSettings, Order, check_orders
from judgelm.judgement import Judgement, Outcome
from judgelm.models.folder import find_model
from judgelm.models.prompt_format import form_for
from judgelm.prompt import TASKS
from judgelm.prompt_flags import add_reasoning_arguments, add_template_arguments, choose_form
from judgelm.sample import Sample, refuse_images
from judgelm.samples import find_task, read_samples
from judgelm.verdict import BothOrders, Verdict

_HELP = "Ask the judge about its judgement; /new judges something else, /quit ends."


def build_parser() -> Parser:
    """The chat's flags."""
    parser = Parser(
        prog="python -m judgelm.serve.cli",
        description="Judge in the terminal, without a server: a sample from a file or from a form, then questions to"
        " the judge about its judgement.",
    )
    parser.add_argument("--model-path", required=True, metavar="M", help="hub id, local folder, PEFT adapter, or tiny")
    add_loading_arguments(parser)
    parser.add_argument("--task", default="pair", help=f"one of {', '.join(TASKS)}")
    parser.add_argument(
        "--question-file", metavar="FILE", help="JSON Lines to take a sample from (default: a form asks for it)"
    )
    parser.add_argument("--question-id", metavar="ID", help="the sample's question_id (default: the file's first)")
    parser.add_argument("--reference-file", metavar="FILE", help="JSON Lines of references, by question_id")
    add_criteria_argument(parser)
    add_template_arguments(parser)
    add_reasoning_arguments(parser)
    parser.add_argument(
        "--scoring", choices=tuple(SCORINGS), default="sample", help="expected: read probabilities, write nothing"
    )
    parser.add_argument("--both", action="store_true", help="judge a second time with answers 1 and 2 exchanged")
    parser.add_argument("--temperature", type=float, default=0.2, help="0 is greedy")
    parser.add_argument("--max-new-tokens", type=int, default=1024, metavar="N", help="most tokens of a text")
    return parser


def choose_sample(args: argparse.Namespace) -> Sample:
    """The sample that the flags name. Raises InputError."""
    samples = read_samples(args.question_file, args.task, reference_file=args.reference_file, keep_thinking=True)
    for sample in samples:
        if args.question_id is None or sample.key == id_key(args.question_id):
            refuse_images(sample)
            return sample
    raise InputError(f"{args.question_file} has no question_id {args.question_id}")


def ask_for_sample(task: str) -> Sample:
    """A form. Raises EOFError at the end of the input."""
    spec = TASKS[task]
    while True:
        question = _ask("Question")
        reference = _ask("Reference (empty: none)") if task != "single" else ""
        labels = ("Reference answer (worth 10)", "Answer") if spec.prefill else ("Answer 1", "Answer 2")
        answers = [_ask(label) for label in (labels if spec.max_answers > 1 else ("Answer",))]
        while task == "multi" and len(answers) < spec.max_answers:
            more = _ask(f"Answer {len(answers) + 1} (empty: no more)")
            if not more:
                break
            answers.append(more)
        try:
            sample = Sample("form", question, tuple(answers), reference or None)
        except ValueError as error:
            print(f"{error}; once more")
            continue
        if question and all(answers) and (reference or not spec.needs_reference):
            return sample
        print("question, answers" + (" and reference" if spec.needs_reference else "") + " are needed; once more")


def _ask(label: str) -> str:
    """Lines up to an empty one."""
    print(f"{label}, ended by an empty line:")
    lines: list[str] = []
    while line := input("  ").rstrip("\r"):
        lines.append(line)
    return "\n".join(lines)


def _write(judge: Judge, request: Request, sampling: Sampling) -> Generation:
    """What is generated, printed as it grows."""
    shown = 0

    def show(_key: str, text: str) -> None:
        nonlocal shown
        print(_printable(text[shown:]), end="", flush=True)
        shown = max(shown, len(text))

    (generation,) = judge.engine.generate([request], sampling, on_text=show)
    show("", generation.text)
    return generation


def _printable(text: str) -> str:
    """A model's text cannot move the cursor or colour the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _judge(judge: Judge, sample: Sample, order: Order, settings: JudgeSettings) -> Judged:
    """In one order, by each aspect where there are any."""
    shown = sample.shown(order)
    parts = [_judge_by(aspect, judge, shown, order, settings) for aspect in settings.aspects]
    return parts[0] if settings.criteria is None else Judged.by_criteria(settings.criteria, parts)


def _judge_by(aspect: Aspect | None, judge: Judge, shown: Sample, order: Order, settings: JudgeSettings) -> Judged:
    count = len(shown.answers)
    sampling, task = settings.sampling(count), TASKS[settings.task]
    request, cut = make_request(judge.engine, shown.key, shown, settings, sampling, aspect)
    if isinstance(cut, LeftOut):
        print(f"(too long: {', '.join(map(str, cut.tokens))} tokens of the oldest turns were left out)")
    elif cut:
        print(f"(too long: the answers were shortened by {', '.join(map(str, cut))} tokens)")
    said = ["answers 1 and 2 exchanged"] if order == "reversed" else []
    said += [] if aspect is None else [_printable(aspect.name)]
    print("\nJudge" + (f" ({', '.join(said)})" if said else "") + f": {task.prefill}", end="")
    likelihood: Likelihood | None = None
    if settings.scoring == "expected":
        ((made, likelihood),) = read_likelihoods(judge.engine, [request], settings.scale)
        print(made.text)
    else:
        made = _write(judge, request, sampling)
        print()
    if made.reasoning:
        print(f"(it thought before: {_printable(made.reasoning)})")
    judgement = settings.read(task.prefill + made.text, count)
    return Judged(shown, order, task.name, judgement, made, cut, likelihood)


def _follow(judge: Judge, sample: Sample, settings: JudgeSettings, judgement: Judgement) -> bool:
    """Questions until /new (True) or the end (False)."""
    print(f"\n{_HELP}")
    written = judgement.text.removeprefix(TASKS[settings.task].prefill)
    turns: list[tuple[str, str]] = []
    sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
    while True:
        try:
            question = input("\nYou: ").strip()
        except EOFError:
            return False
        if question in ("/new", "/quit"):
            return question == "/new"
        if not question:
            continue
        if settings.criteria is not None:
            print("(the judge was asked for each aspect by itself: there is no one judgement to talk about)")
            continue
        try:
            most = settings.max_new_tokens
            prompt = judge.engine.fit_followup(
                sample, settings.task, written, turns, question, most, form=settings.form
            )
        except PromptTooLong as error:
            print(f"({error}; /new begins again)")
            continue
        print("Judge: ", end="")
        asked = Request(sample.key, prompt.text, prompt.input_ids, "", len(sample.answers))
        reply = _write(judge, asked, sampling).text
        print("" if reply.strip() else "(wrote nothing)")
        turns.append((question, reply))


def choose_settings(args: argparse.Namespace) -> JudgeSettings:
    """How samples are judged. Raises InputError."""
    if args.max_new_tokens < 1 or not 0 <= args.temperature <= 10:
        raise InputError("expected --max-new-tokens of 1 or more and --temperature from 0 to 10")
    return JudgeSettings.of_form(
        choose_form(args),
        args.task,
        temperature=args.temperature,
        max_new_tokens=args.max_new_tokens,
        scoring=args.scoring,
        criteria=None if args.criteria is None else read_criteria(args.criteria),
    )


def chat(args: argparse.Namespace) -> None:
    """Judge and talk until the user has enough."""
    find_task(args.task)
    orders = check_orders("both" if args.both else "forward", args.task)
    settings = choose_settings(args)
    sample = choose_sample(args) if args.question_file else None
    if sample is not None:
        settings.check_samples([sample])
    folder = find_model(args.model_path)
    form_for(folder, args.prompt_format, settings.form)
    judge = Judge.load(folder, **loading(args))
    settings = settings.settled(judge.constrained, judge.prompt_format)
    while True:
        if sample is None:
            try:
                sample = ask_for_sample(args.task)
            except EOFError:
                return
        try:
            settings.check_samples([sample])
            found = {order: _judge(judge, sample, order, settings) for order in orders}
        except (InputError, PromptTooLong) as error:
            print(f"{error}")
            sample = None
            continue
        read = {order: judged.reading for order, judged in found.items()}
        verdict = Verdict(read.get("forward"), read.get("reversed"), sample)
        for name, each in verdict.aspects.items():
            print(f"\n{_printable(name)}: {_scores(each)}", end="")
        agree = {True: "; both orders agree", False: "; the orders contradict", None: ""}[verdict.consistent]
        print(f"\nScores: {_scores(verdict)}{agree}")
        if (likely := verdict.probabilities) is not None:
            said = (f"answer 1 is better {likely[Outcome.WIN]:.0%}", f"equal {likely[Outcome.TIE]:.0%}")
            print(f"Probabilities: {', '.join(said)}, answer 2 is better {likely[Outcome.LOSE]:.0%}")
        if not _follow(judge, sample, settings, found["forward"].judgement):
            return
        sample = None


def _scores(said: BothOrders) -> str:
    return " ".join(f"{round(score, 3):g}" for score in said.scores) if said.scores else "none could be read"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    run_main(lambda: chat(build_parser().parse_args(argv)), kept="the chat has ended", argv=argv)


if __name__ == "__main__":
    main()
