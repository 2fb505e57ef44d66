"""Task files of EAP-IG (Hanna et al. 2024): CSV with a clean and a corrupted prompt, and what to compare.

The answer columns differ by task:

- `correct_idx` and `incorrect_idx` (ioi), `clean_answer_idx` and `corrupted_answer_idx` (gender bias),
`country_idx` and `corrupted_country_idx` (fact retrieval), `answers_idx` and `corrupted_answers_idx`
(hypernymy, lists): token ids of the model that the file was made for, so that model's tokenizer is needed to
read them; - `correct` and `incorrect`: the answers themselves; - `correct_idx` or `label` alone
(greater-than): no token id but the last two digits of the start year. Answers are the two-digit years above
it, distractors the others.

`plural` alone (subject-verb agreement) asks for lists of verbs that are not in the file, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from circuitkd.tasks.base import Example, Imported, Label, Task
from circuitkd.tasks.prompt_pairs import with_names
from circuitkd.tasks.rows import BadLines, csv_rows
from circuitkd.tasks.tokenization import SPACE_MARKS

TOKEN_COLUMNS = (
    ("correct_idx", "incorrect_idx"),
    ("clean_answer_idx", "corrupted_answer_idx"),
    ("country_idx", "corrupted_country_idx"),
    ("answers_idx", "corrupted_answers_idx"),
)
WORD_COLUMNS = ("correct", "incorrect")
YEAR_COLUMNS = ("correct_idx", "label")
Words = tuple[str, ...]
Answers = tuple[Words, Words, dict[str, Label]]
Reader = Callable[[dict[str, str]], Answers]


def import_eap_ig_csv(
    path: str | Path, tokenizer: Any = None, *, corruption: str = "corrupted", name: str | None = None
) -> Imported:
    """The task of an EAP-IG CSV file.

    `tokenizer` turns token ids into words: a tokenizer, a model that has one, or the name of one.
    `corruption` is the column of the corrupted prompts ("corrupted_hard" in the ioi files). Indirect-object
    prompts get the labels IO, S1, S1+1, S2, greater-than prompts start_year, and all of them end. Raises
    ValueError naming every bad line, or the columns when they are not known.
    """
    bad, examples = BadLines(path), []
    reader: Reader | None = None
    for index, (line, row) in enumerate(csv_rows(path, ("clean", "corrupted", corruption), bad=bad)):
        reader = reader or _reader(row, tokenizer, path)
        try:
            answers, distractors, labels = reader(row)
            labels["end"] = len(row["clean"].split()) - 1
            example = Example(
                id=row.get("") or str(index),
                clean=row["clean"],
                corrupted=row[corruption],
                answer=_one(answers),
                distractor=_one(distractors),
                labels=labels,
                line=line,
            )
            examples.append(with_names(example) if "corrupted_hard" in row else example)
        except ValueError as error:
            bad.add(line, str(error))
    bad.check()
    if not examples:
        raise ValueError(f"{path} has no rows: it should have one prompt pair a row")
    return Imported(Task(name or Path(path).stem, tuple(examples)))


def _reader(row: dict[str, str], tokenizer: Any, path: str | Path) -> Reader:
    """How the answers of this file's rows are read, from its columns."""
    for right, wrong in TOKEN_COLUMNS:
        if row.keys() >= {right, wrong}:
            return _token_reader(right, wrong, _tokenizer(tokenizer, f"{path}: {right} and {wrong}"))
    right, wrong = WORD_COLUMNS
    if row.keys() >= {right, wrong}:
        return lambda row: ((row[right],), (row[wrong],), {})
    for column in YEAR_COLUMNS:
        if column in row:
            return lambda row: _years(row[column], row["clean"])
    known = "; ".join(" and ".join(columns) for columns in (*TOKEN_COLUMNS, WORD_COLUMNS))
    raise ValueError(
        f"{path} has the columns {', '.join(f'{name:.60}' for name in row)}, and none that give answers: known are {known}; "
        "correct_idx or label alone for years"
    )


def _token_reader(right: str, wrong: str, tokenizer: Any) -> Reader:
    return lambda row: (_words(row[right], tokenizer), _words(row[wrong], tokenizer), {})


def _tokenizer(tokenizer: Any, what: str) -> Any:
    if tokenizer is None:
        raise ValueError(f"{what} are token ids: give the tokenizer of the model that the file was made for")
    if isinstance(tokenizer, str):
        try:
            return AutoTokenizer.from_pretrained(tokenizer)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot load the tokenizer {tokenizer!r}: {error}") from error
    return getattr(tokenizer, "tokenizer", tokenizer)


def _words(cell: str, tokenizer: Any) -> Words:
    """The words of a token id, or of a list of them, as a cell of the file spells it."""
    if not re.fullmatch(r"\d+|\[\d+(, *\d+)*\]", cell):
        raise ValueError(f"{cell!r} is no token id and no list of token ids")
    return tuple(_word(int(token), tokenizer) for token in re.findall(r"\d+", cell))


def _word(token: int, tokenizer: Any) -> str:
    if token >= len(tokenizer):
        raise ValueError(f"token {token} is beyond the tokenizer's {len(tokenizer)}: it is another model's")
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    spelled = str(tokenizer.convert_ids_to_tokens(token))
    # A tokenizer that ignores spaces has only one reading of a word; prompts go on with a space.
    ignores_spaces = tokenizer.tokenize(" a") == tokenizer.tokenize("a")
    spaced = ignores_spaces or text.startswith(" ") or spelled.startswith(SPACE_MARKS)
    return f" {text.strip()}" if spaced else text


def _years(cell: str, clean: str) -> Answers:
    """Answers of a greater-than prompt: the two-digit years above its start year; distractors: the rest."""
    digits = cell.zfill(2)
    places = [i for i, w in enumerate(clean.split()) if re.fullmatch(r"[0-9]{4}\D*", w) and w[2:4] == digits]
    if not places:
        raise ValueError(f"{cell!r} is not the last two digits of a year in the prompt, as in greater-than files")
    year = int(cell)
    if year == 99:
        raise ValueError("no two-digit year is above 99: leave the row out")
    above, rest = range(year + 1, 100), range(year + 1)
    return tuple(f"{y:02d}" for y in above), tuple(f"{y:02d}" for y in rest), {"start_year": places[-1]}


def _one(words: Words) -> str | Words:
    return words[0] if len(words) == 1 else words
