"""The pages and the command line agree: commands, options, examples, completion."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from jobs.bench.command import BENCHMARKS
from jobs.cli import app
from jobs.examples import EXAMPLES

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("jobs", "pipeline", "operators", "infra")
PAGES = [ROOT / "README.md", *sorted(path for room in ROOMS for path in (ROOT / room).rglob("README.md"))]
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
EVERYWHERE = {"--help", "-h"}


def options_of(command: str) -> set[str]:
    return EVERYWHERE | {name for parameter in COMMANDS[command].params for name in parameter.opts}


def calls(text: str) -> list[tuple[str, set[str]]]:
    """Commands that a page shows, with the options given to each."""
    found = []
    for line in re.findall(r"reelweave ((?:[a-z][a-z-]*)(?: [^`\n|#]*)?)", text):
        command, *rest = line.split()
        if command in COMMANDS:
            found.append((command, {word.split("=")[0] for word in rest if re.match(r"--[a-z]", word)}))
    return found


def test_the_table_of_commands_lists_each_command_once_and_nothing_else() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.split("| command | does |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `reelweave ([a-z-]+)", table, re.MULTILINE)
    assert sorted(rows) == sorted(COMMANDS)
    for command, said in re.findall(r"^\| `reelweave ([a-z-]+)([^`]*)`", table, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", said)) <= options_of(command), command


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_option_that_a_page_gives_to_a_command_exists(page: Path) -> None:
    for command, options in calls(page.read_text()):
        assert options <= options_of(command), (command, options - options_of(command))


def test_the_pages_are_read_at_all() -> None:
    seen = [call for page in PAGES for call in calls(page.read_text())]
    assert ("run", {"--only"}) in seen
    assert len(seen) > 30


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_shows_examples_that_are_correct_calls(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    for example in EXAMPLES[command]:
        assert example in shown.stdout
        program, name, *arguments = shlex.split(example.split(" > ")[0])
        assert (program, name) == ("reelweave", command)
        COMMANDS[command].make_context(command, list(arguments))
        assert command != "bench" or arguments[0] in BENCHMARKS


def test_no_example_is_of_a_command_that_is_gone() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_benchmarks_in_every_shell(shell: str) -> None:
    def completed(line: str) -> str:
        words = line.split(" ")
        environment = {
            "_REELWEAVE_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": line,
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        return CliRunner().invoke(app, [], env=environment, prog_name="reelweave").stdout

    assert "status" in completed("reelweave st")
    assert "plan" not in completed("reelweave st")
    assert "--endpoint-url" in completed("reelweave status --end")
    assert all(name in completed("reelweave bench ") for name in BENCHMARKS)


def test_each_shell_gets_a_script_that_asks_the_program() -> None:
    for shell in ("bash", "zsh", "fish"):
        environment = {"_REELWEAVE_COMPLETE": f"source_{shell}"}
        script = CliRunner().invoke(app, [], env=environment, prog_name="reelweave").stdout
        assert f"_REELWEAVE_COMPLETE=complete_{shell}" in script
