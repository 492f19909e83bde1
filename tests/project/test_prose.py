"""Prose of the repository: short sentences, none of the old idiom, one word for one thing.

Prose is Markdown, docstrings, comments, messages, the report's templates and the notebook's text.
The rules are in prose.toml.
"""

import ast
import io
import json
import re
import subprocess
import tokenize
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.lint

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((Path(__file__).parent / "prose.toml").read_text("utf-8"))

READ = ("*.py", "*.md", "*.ipynb", "*.html", "*.toml", "*.yml")
MESSAGE = 6
"""Words from which on a string of the code is a message."""
NO_MESSAGE = re.compile(r"\n|\\[bdsw]|\.\*|\(\?|</|\{%|;(?! [\w`'\"])|[={}]")
"""Signs of a pattern, code, markup or a style sheet, which a message does not have."""
SILENCED = re.compile(r"(noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?|type: ignore(\[[\w,-]+\])?)\s*")
"""Comments for tools."""
BULLET = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
SECTION = re.compile(r"^\s*(?:Args|Attributes|Returns|Raises|Yields):$")
"""The first line of a section of a docstring, such as its arguments."""
ENTRY = re.compile(r"^\s+\*{0,2}\w+: ")
"""The first line of an argument, or of an error, in such a section."""
HEADING = re.compile(r"^#+ (?:What|Whether|Why|Which|How (?!to\b)).*", re.MULTILINE)
"""A heading that is no noun phrase and no "How to …"."""
FENCED = re.compile(r"<!--.*?-->|^(```|~~~|:::).*?^\1.*?$", re.DOTALL | re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """Return paragraphs and list items of a Markdown text.

    Code, tables, comments and addresses are left out.
    """
    text = FENCED.sub("", text)
    text = re.sub(r"`+[^`]*`+", "`code`", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+|<[^>\n]{1,200}>", "", text)
    found, lines = [], []
    in_section = False
    for line in [*text.splitlines(), ""]:
        if SECTION.match(line):
            in_section = True
        elif not line.strip():
            in_section = False
        ends = (
            not line.strip()
            or (in_section and ENTRY.match(line))
            or line.lstrip().startswith(("|", "#", ">>>", "..."))
            or BULLET.match(line)
        )
        if ends and lines:
            found.append(" ".join(lines))
            lines = []
        if not line.lstrip().startswith(("|", ">>>", "...")) and line.strip():
            lines.append(BULLET.sub("", line).strip().lstrip("# "))
    return found


def prose_of_python(text: str, *, messages: bool) -> tuple[list[str], list[str]]:
    """Return the docstrings of a module, and its comments and, where asked for, its messages."""
    tree = ast.parse(text)
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    docstrings = [node.value for node in strings]
    return docstrings, [
        *comments_of(text),
        *(messages_of(tree, set(map(id, strings))) if messages else ()),
    ]


def comments_of(text: str) -> list[str]:
    """Return comments, those of adjacent lines as one."""
    found, last = [], -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            said = re.sub(SILENCED, "", token.string.lstrip("#! "))
            if token.start[0] == last + 1 and found and not token.line[: token.start[1]].strip():
                found[-1] += f" {said}"
            else:
                found.append(said)
            last = token.start[0]
    return found


def messages_of(tree: ast.AST, apart: set[int]) -> list[str]:
    """Return the strings that read like a message: words on one line, no pattern and no code."""
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            said = "".join(
                part.value if isinstance(part, ast.Constant) else "x" for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in apart | inside
        ):
            said = node.value
        else:
            continue
        if len(said.split()) >= MESSAGE and not re.search(NO_MESSAGE, said):
            found.append(said)
    return found


def sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?])[\"')]*\s+(?=[\"'(`]*[A-Z0-9`])", paragraph)


def words(sentence: str) -> int:
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def findings_in(said: list[str], *, docstrings: list[str] = ()) -> list[str]:
    """Return what breaks a rule: a sentence, phrase or term, and what to write in its place."""
    found = [
        f"a docstring begins with {text.split()[0]}"
        for text in docstrings
        if text.split()[:1] and text.split()[0] in RULES["openings"]
    ]
    for paragraph in (part for text in (*said, *docstrings) for part in paragraphs(text)):
        for sentence in sentences(paragraph):
            if (count := words(sentence)) > RULES["longest"]:
                found.append(f"{count} words: {sentence}")
            if sentence.count(";") > 1:
                found.append(f"a chain of semicolons, write sentences: {sentence}")
            found += [
                f"'{match[0]}', write {instead}: {sentence}"
                for pattern, instead in RULES["fronted"].items()
                if (match := re.match(pattern, sentence)) and not sentence.endswith("?")
            ]
        for pattern, instead in (
            *RULES["phrases"].items(),
            *RULES["terms"].items(),
            *RULES["spelling"].items(),
        ):
            matches = re.finditer(pattern, paragraph, re.IGNORECASE)
            found += [f"'{match[0]}', write {instead}: {paragraph}" for match in matches]
    return found


def text_of_template(text: str) -> list[str]:
    """Return the texts of a template's elements, a value as one word."""
    text = re.sub(r"\{#.*?#\}|<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"\{\{.*?\}\}", "x", text, flags=re.DOTALL)
    parts = re.split(
        r"\{%.*?%\}|</?(?:p|h\d|li|ul|ol|td|th|tr|table|div|section|summary|figure|button)\b[^>]*>",
        text,
    )
    return [" ".join(re.sub(r"<[^>]*>", "", part).split()) for part in parts]


def comments_of_settings(text: str) -> list[str]:
    """Return the comments of a TOML or YAML file, those of adjacent lines as one."""
    lines = [re.match(r"\s*#+ ?(.*)", line) for line in text.splitlines()]
    return "\n".join(line[1] if line else "" for line in lines).split("\n\n")


def findings(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        headings = HEADING.findall(FENCED.sub("", text))
        return [
            *(f"a heading is a noun phrase or 'How to …': {one}" for one in headings),
            *findings_in([text]),
        ]
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return findings_in(
            ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        )
    if path.suffix == ".html":
        return findings_in(text_of_template(text))
    if path.suffix in {".toml", ".yml"}:
        return findings_in(comments_of_settings(text))
    tests = path.relative_to(ROOT).parts[0] == "tests"
    docstrings, others = prose_of_python(text, messages=not tests)
    return findings_in(others, docstrings=docstrings)


def files() -> list[Path]:
    """Return the files with prose that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *READ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        ROOT / name for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file()
    ]


def test_no_prose_breaks_a_rule():
    found = {path.relative_to(ROOT).as_posix(): findings(path) for path in files()}
    said = [f"{name}\n  " + "\n  ".join(each) for name, each in found.items() if each]
    assert not said, "\n".join(said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two three. " * 20, 0),
        ("word " * 34, 1),
        ("- " + "word " * 20 + "\n- " + "word " * 20, 0),
        ("Args:\n    a: " + "word " * 20 + "\n    b: " + "word " * 20, 0),
        ("Args:\n    a: " + "word " * 34, 1),
        ("```\n" + "word " * 40 + "\n```\n| " + "word " * 40 + "|\n", 0),
        ("It comes to an end, and it comes to nothing.", 1),
        ("Twenty retrains set the floors.", 2),
        ("Read `the gates file` of https://example.org/retrains.", 0),
        ("It ends with 2. Then it waits.", 0),
        ("One; two; three.", 1),
        ("What is late is repeated. What is it?", 1),
        ("Of 20 claims, 9 hold.", 1),
        ("The colours of a model's behaviour.", 2),
    ],
    ids=[
        "short",
        "long",
        "items",
        "arguments",
        "long-argument",
        "code",
        "phrase",
        "terms",
        "quoted",
        "number",
        "chain",
        "what",
        "of",
        "spelling",
    ],
)
def test_a_text_has_the_findings_that_a_reader_has(text, expected):
    assert len(findings_in([text])) == expected


CODE = r'''
"""How it was before."""
# A retrain
# is told.
fault = f"{1}: the gates file of two words is wrong"
cure = "the file is cut; copy it again"
pattern = r"the gates file of (\d+) retrains is wrong"
run()  # noqa: S603  Our own.
'''


def test_docstrings_comments_and_messages_are_prose_and_code_is_not():
    docstrings, others = prose_of_python(CODE, messages=True)
    assert docstrings == ["How it was before."]
    assert others == [
        "A retrain is told.",
        "Our own.",
        "x: the gates file of two words is wrong",
        "the file is cut; copy it again",
    ]
    assert len(findings_in(others, docstrings=docstrings)) == 5


TEMPLATE = """{# the gates file #}<h2>Checks of {{ name }}</h2>{% if more %}<p>What <b>every</b>
check
has.</p>{% endif %}<style>p { color: red; margin: 0; }</style>"""


def test_templates_and_comments_of_settings_are_prose():
    assert [text for text in text_of_template(TEMPLATE) if text] == [
        "Checks of x",
        "What every check has.",
    ]
    assert comments_of_settings("# One\n# line.\nkey = 1\n\n# Two.\n") == ["One\nline.", "\nTwo."]
