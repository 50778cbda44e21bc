"""The command line: each verb lives in its own file and is imported only when it is called.

`fathom --help` must answer in a fifth of a second, so the one-line descriptions stand here and no verb's module,
nor any room behind it, is loaded to print them.
"""

from __future__ import annotations

import errno
import importlib
import sys

import click

from fathom import __version__
from fathom.errors import FathomError, MissingExtra

# verb -> (module in this package, one-line help)
VERBS = {
    "demo": ("demo", "Train a DeepSeek-style model and its LLaMA-style twin here, compare them, talk to the first."),
    "train": ("train", "Turn your text and a budget into a model."),
    "chat": ("chat", "Talk to a model: one of your runs, a folder, a GGUF file, or a published one."),
    "runs": ("runs", "List every run of this workspace, failed ones too, and what each took."),
    "receipt": ("receipt", "Print a run's bill: data, FLOPs, seconds, joules, dollars."),
    "eval": ("eval", "Measure a model on held-out text and held-out problems."),
    "export": ("export", "Write a model as transformers loads it."),
    "import": ("import_", "Bring a published checkpoint into the workspace."),
    "data": ("data", "Gather, clean, tokenize, inspect and describe training data."),
    "plan": ("plan", "What would this training run or service take? FLOPs, memory, hours, energy, dollars."),
    "claim": ("claim", "Put a published cost claim on trial."),
}


class LazyGroup(click.Group):
    """Subcommands found by name in `VERBS` and imported on use (the pattern of Click's documentation)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"fathom.cli.{VERBS[cmd_name][0]}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; the verbs are {', '.join(VERBS)}"
            raise click.UsageError(f"no verb '{args[0]}'{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fathom")
def cli() -> None:
    """Fathom trains DeepSeek-style language models and says what they cost."""


def main() -> None:
    """Run the command line; turn what a user can mend into one sentence and an exit code."""
    try:
        cli(prog_name="fathom", standalone_mode=False)
    except FathomError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "fathom"):
            raise
        _fail(str(MissingExtra(package)), MissingExtra.exit_code)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"the disk is full: could not write {error.filename or 'a file'}; what was already saved is kept", 1)
        if error.filename is None:  # no file that a user named: a fault of ours, to be seen whole
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)
    sys.exit(0)


def _fail(message: str, code: int) -> None:
    click.echo(f"fathom: {message}", err=True)
    sys.exit(code)
