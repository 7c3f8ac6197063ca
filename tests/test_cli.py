"""Every command explains itself, with examples that the command line takes."""

import re
import shlex

import pytest

from lorafuse_jax import cli


def help_of(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.parse([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def examples(text: str, start: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_explains_and_its_examples_are_taken(name, capsys):
    text = help_of([name], capsys)
    shown = examples(text, f"lorafuse {name}")
    assert shown, text
    for line in shown:
        assert isinstance(cli.parse(shlex.split(line)[1:]), cli.COMMANDS[name]), line


OPTION = re.compile(r"(?:^|\s)--([a-z-]+) (.*?)\((?:default:|required\))")
"""Its name, and what stands between that and the default: values that it takes, and words."""


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"doctor", "report"}))
def test_every_option_says_what_it_is(name, capsys):
    options = re.split(r"\n\W*options\W*\n", help_of([name], capsys))[1]
    found = OPTION.findall(" ".join(options.replace("│", " ").split()))
    assert found
    for option, said in found:
        words = re.findall(r"\b[a-z]{2,}\b", re.sub(r"[\[{].*?[\]}]", "", said))
        assert len(words) >= 2, f"lorafuse {name} --{option}: {said}"


def test_the_list_of_commands_has_a_line_for_each_and_a_first_session(capsys):
    text = help_of([], capsys)
    assert len(text.splitlines()) < 60
    for name, kind in cli.COMMANDS.items():
        first = (kind.__doc__ or "").partition("\n")[0]
        assert f"• {name} " in text and first.split()[0] in text
    shown = examples(text, "lorafuse ")
    assert len(shown) >= 5
    for line in shown:
        if "COMMAND" not in line:
            cli.parse(shlex.split(line)[1:])


@pytest.mark.parametrize(
    "line", ["fuse runs/my", "fuse runs/my --operator mean --sett x=1", "nonsense", ""]
)
def test_a_command_that_lacks_something_or_has_too_much_is_refused(line, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse(shlex.split(line))
    assert ended.value.code == 2
