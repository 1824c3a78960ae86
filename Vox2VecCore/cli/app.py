"""The commands of ``vox2vec``; a new group is one more line here."""

from collections.abc import Sequence
from typing import Annotated, cast

import typer

from Vox2VecCore.cli import cache, doctor, embed, evaluate, head, manifest, match, models, pretrain, similarity, view
from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.versions import installed_version

# Typer exports only the most specific of its exceptions; what all mistakes in arguments share is its base.
USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
USAGE = 2

app = typer.Typer(
    name="vox2vec",
    help="A vector for every voxel of a CT: similarity maps and matching points across scans.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
embed.add_to(app)
similarity.add_to(app)
match.add_to(app)
head.add_to(app)
manifest.add_to(app)
pretrain.add_to(app)
evaluate.add_to(app)
models.add_to(app)
cache.add_to(app)
doctor.add_to(app)
view.add_to(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vox2vec {installed_version(doctor.DISTRIBUTION) or 'not installed by pip'}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run a command line.

    :return: exit code 0, or 2 after showing help that was not asked for.
    :raises Vox2VecError: for anything that the user can put right, mistakes in the arguments included.
    """
    try:
        result = typer.main.get_command(app).main(list(arguments), prog_name="vox2vec", standalone_mode=False)
    except USAGE_ERROR as error:
        message = str(getattr(error, "format_message", lambda: "")())
        if not message:  # no arguments: the help has been shown
            return USAGE
        context = getattr(error, "ctx", None)
        hint = f" See '{context.command_path} --help'." if context is not None else ""
        raise Vox2VecError(message.rstrip(".") + "." + hint) from error
    return result if isinstance(result, int) else 0
